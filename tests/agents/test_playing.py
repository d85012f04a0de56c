"""One episode while it is played: seeds, time, rewards and the record are the same, whichever loop plays it."""

from __future__ import annotations

import asyncio
from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium as gym
import pytest

from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.agents.players.player import make_player
from atommem_gym.agents.playing import EpisodeRecord, Playing
from atommem_gym.agents.rollout import rollout
from atommem_gym.envs import AtomMemPool
from atommem_gym.evaluation.plan import Cell
from atommem_gym.evaluation.results import EpisodeResult
from atommem_gym.traces import StepSeconds

METRICS = {
    "operations": {"create": 2},
    "em": 1.0,
    "f1": 1.0,
    "rejected": 0,
    "peak_entries": 2,
    "final_entries": 1,
    "evidence_recall": 0.5,
    "evidence_recall_exact": 0.25,
}
SMALL: dict[str, Any] = {"num_docs": 20, "chunk_tokens": 400, "store": "numpy", "questions_per_episode": 3}


def timeless(record: EpisodeRecord) -> EpisodeRecord:
    return replace(record, env_ms=0.0, agent_ms=0.0)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds that have passed; a test lets them pass."""
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    return now


def test_rewards_are_added_exactly() -> None:
    playing = Playing[str, str]("nobody", 3)
    for _ in range(10):
        playing.step("", "", 0.1, False, False, {})
    assert playing.reward == 1.0, "from left to right they make 0.9999999999999999"


def test_seeds_depend_on_who_plays_what() -> None:
    playing = Playing[str, str]("tidy", 7, 2, 5)
    # Traces and tables of before were made with these.
    assert (playing.agent_seed(), playing.agent_seed("reader_0")) == (1368158344, 507294012)
    others = [
        Playing[str, str](*one) for one in (("oracle", 7, 2, 5), ("tidy", 8, 2, 5), ("tidy", 7, 0, 5), ("tidy", 7))
    ]
    assert len({playing.agent_seed(), *(one.agent_seed() for one in others)}) == 5


def test_agent_and_environment_are_timed_apart_and_the_listener_not_at_all(clock: list[float]) -> None:
    heard: list[tuple[str, str]] = []

    def listen(act: str, observation: str, info: dict[str, Any]) -> None:
        heard.append((act, observation))
        clock[0] += 1000

    playing = Playing[str, str]("nobody", 3, 1, 2, listen)
    assert playing.options == {"index": 3, "shuffle_seed": 1}
    playing.show("nothing", "first", {})
    for agent, env, over in ((0.5, 2.0, False), (1.5, 4.0, True)):
        with playing.timed("agent"):
            clock[0] += agent
        clock[0] += 50  # neither's
        with playing.timed("env"):
            clock[0] += env
        assert playing.seconds == StepSeconds(agent=agent, env=env)
        playing.step("act", f"after {agent}", 0.25, False, over, {"item": "x", "episode_metrics": METRICS})
    assert playing.over
    assert heard == [("nothing", "first"), ("act", "after 0.5"), ("act", "after 1.5")]
    record = playing.record()
    assert (record.agent_ms, record.env_ms) == (1000.0, 3000.0)
    assert (record.steps, record.reward, record.truncated) == (2, 0.5, True)
    assert (record.agent, record.item, record.index, record.shuffle_seed, record.seed) == ("nobody", "x", 3, 1, 2)
    assert (record.peak_entries, record.final_entries, record.evidence_recall_exact) == (2, 1, 0.25)


def test_a_step_that_failed_may_be_repeated() -> None:
    playing = Playing[str, str]("nobody", 3)
    playing.show("", "first", {})
    with pytest.raises(RuntimeError), playing.timed("env"):
        raise RuntimeError
    assert (playing.steps, playing.over, playing.observation, playing.seconds) == (0, False, "first", StepSeconds())


@pytest.mark.parametrize("name", ["tidy", "random", "oracle"])
def test_a_plain_environment_a_pool_and_a_row_have_one_record(name: str) -> None:
    async def play() -> Any:
        async with AtomMemPool("AtomMem-Synthetic-v0", 1, **SMALL) as pool, pool.env() as env:
            return await rollout(env, make_player(name)(), 4, shuffle_seed=1, seed=6)

    with closing(gym.make("AtomMem-Synthetic-v0", **SMALL)) as env:
        plain = play_episode(env, make_agent(name), 4, shuffle_seed=1, seed=6)
    trace = asyncio.run(play())
    record = EpisodeRecord.from_trace(trace)
    assert timeless(record) == timeless(plain)
    assert record.env_ms > 0
    assert record.agent_ms > 0
    row = EpisodeResult.from_trace(trace, Cell("Synthetic", 20, name))
    assert {field: getattr(row, field) for field in ("reward", "em", "f1", "steps", "truncated", "operations")} == {
        field: getattr(plain, field) for field in ("reward", "em", "f1", "steps", "truncated", "operations")
    }
    assert sum(row.rejected.values()) == plain.rejected
