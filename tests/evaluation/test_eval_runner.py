"""Playing a plan: the episodes of a plain environment, failures that cost no others, models shared (issue 5)."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from support.evaluations import Quiet, play, small_plan, timeless

import atommem_gym.evaluation.runner as runner
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import draw_items, play_episode
from atommem_gym.agents.players.language_model import Completion, Sampling
from atommem_gym.agents.players.player import Turn, make_player
from atommem_gym.agents.rollout import rollout
from atommem_gym.config import EnvConfig
from atommem_gym.envs.pool.pool import AtomMemPool
from atommem_gym.errors import ConfigError, DatasetUnavailableError, LanguageModelError, ModelUnavailableError
from atommem_gym.evaluation.folder import EvaluationError, read_run
from atommem_gym.traces import EpisodeTrace, read_traces
from atommem_gym.traces.training.sft import Selection, Tally, examples


class FakeModel:
    """Answers everything alike; fails where it is told to."""

    name = "fake"

    def __init__(self, failing: Sequence[str] = (), error: type[Exception] = ModelUnavailableError) -> None:
        self.failing, self.error = list(failing), error
        self.calls: Counter[str] = Counter()
        self.under_way = self.most = self.closed = 0
        self.company = 1
        """No answer before so many have asked at a time, or five seconds are over."""

    async def complete(
        self, messages: Sequence[Mapping[str, str]], sampling: Sampling, *, tools: Sequence[Mapping[str, Any]] = ()
    ) -> Completion:
        prompt = messages[-1]["content"]
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        for _ in range(5000):
            if self.most >= self.company:
                break
            await asyncio.sleep(0.001)
        self.under_way -= 1
        self.calls["all"] += 1
        for text in self.failing:
            if text in prompt:
                raise self.error(f"the server is gone; restart it\n{text}")
        text = "<create>something</create><answer>no idea</answer>"
        ended = "length" if sampling.max_tokens == 5 else "stop"
        return Completion(text, len(prompt), 7, 0.5, ended, tries=3)

    async def aclose(self) -> None:
        self.closed += 1


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeModel:
    model = FakeModel()
    monkeypatch.setattr(runner, "open_model", lambda plan: model)
    return model


def test_a_rollout_is_what_a_plain_environment_plays() -> None:
    keywords: dict[str, Any] = {"num_docs": 20, "store": "numpy", "chunk_tokens": 300}
    env = gym.make("AtomMem-Synthetic-v0", **keywords)
    plain = play_episode(env, make_agent("tidy"), 7, shuffle_seed=2, seed=5)
    env.close()
    seen: list[tuple[Turn | None, int]] = []

    async def once() -> Any:
        async with AtomMemPool("AtomMem-Synthetic-v0", 1, **keywords) as pool, pool.env() as one:
            player = make_player("tidy")()
            listen = lambda turn, observation, info: seen.append((turn, observation["phase"]))  # noqa: E731
            return await rollout(one, player, 7, shuffle_seed=2, seed=5, on_step=listen)

    trace = asyncio.run(once())
    assert (trace.metrics["em"], trace.metrics["operations"], trace.metrics["steps"], trace.reward) == (
        plain.em,
        plain.operations,
        plain.steps,
        plain.reward,
    )
    assert (trace.index, trace.shuffle_seed, trace.seed, trace.item) == (7, 2, 5, plain.item)
    assert len(seen) == len(trace.steps) + 1
    assert seen[0] == (None, 0)
    assert [turn.action for turn, _ in seen[1:] if turn] == [step.action for step in trace.steps]
    assert trace.env.keywords == {"source": "synthetic", **keywords}


def test_a_rollout_keeps_what_was_asked_for_against_the_preset() -> None:
    keywords = {"preset": "released", "max_steps": None, "chunk_overlap": 0, "questions_per_episode": 1, "top_k": 2}

    async def once() -> tuple[EnvConfig, EpisodeTrace]:
        pool = AtomMemPool("AtomMem-Synthetic-v0", 1, num_docs=12, store="numpy", **keywords)
        async with pool, pool.env() as one:
            return one.config, await rollout(one, make_player("silent")(), 0)

    config, trace = asyncio.run(once())
    assert trace.env.keywords.items() >= keywords.items()
    assert EnvConfig.from_keywords(trace.env.keywords) == config


def test_a_rollout_of_a_task_with_keywords_of_its_own_can_be_trained_on() -> None:
    async def once() -> EpisodeTrace:
        async with AtomMemPool("AtomMem-Drift-v0", 1, num_docs=20, store="numpy") as pool, pool.env() as one:
            return await rollout(one, make_player("oracle")(), 0)

    trace = asyncio.run(once())
    assert list(examples(trace, Selection(threshold=0), Tally()))


def test_cells_are_played_as_plain_environments_play_them(tmp_path: Path) -> None:
    run, _ = play(tmp_path / "run", small_plan(agents=["tidy", "random"], docs=20, episodes=4))
    env = gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy")
    drawn = draw_items(env.unwrapped.num_items, 4, 0)  # type: ignore[attr-defined]
    assert {(r.index, r.shuffle_seed) for r in run.results} == set(drawn)
    for result in run.results:
        plain = play_episode(
            env, make_agent(result.agent), result.index, shuffle_seed=result.shuffle_seed, seed=result.seed
        )
        assert (result.em, result.f1, result.reward, dict(result.operations), result.steps, result.item) == (
            plain.em,
            plain.f1,
            plain.reward,
            plain.operations,
            plain.steps,
            plain.item,
        )
        assert sum(result.rejected.values()) == plain.rejected
        assert len(result.env_ms) == len(result.agent_ms) == plain.steps
    env.close()


def test_concurrency_changes_nothing_but_times(tmp_path: Path) -> None:
    one, _ = play(tmp_path / "one", small_plan(concurrency=1))
    many, _ = play(tmp_path / "many", small_plan(concurrency=16))
    assert timeless(one) == timeless(many)


def test_rows_are_what_the_traces_say_and_name_the_labels(tmp_path: Path) -> None:
    plan = small_plan(
        envs=[{"id": "Synthetic", "label": "made up"}], agents=[{"name": "tidy", "label": "neat"}], docs=10, seeds=4
    )
    run, _ = play(tmp_path / "run", plan)
    traces = {trace.index: trace for trace in read_traces(tmp_path / "run" / "traces.jsonl")}
    assert len(traces) == 3
    for result in run.results:
        trace = traces[result.index]
        assert (result.env, result.docs, result.agent, result.seed) == ("made up", 10, "neat", 4)
        assert (trace.env.id, trace.env.keywords) == ("AtomMem-Synthetic-v0", {"store": "numpy", "num_docs": 10})
        assert (trace.agent.name, trace.agent.settings["player"]) == ("neat", "tidy")
        assert type(result).from_trace(trace, result.key.cell) == result
        assert [question.cause for question in result.questions] == list(trace.causes)


def test_one_model_serves_all_agents_that_name_it_and_is_closed(fake: FakeModel, tmp_path: Path) -> None:
    plan = small_plan(
        agents=["crud", {"name": "add_only", "options": {"max_tokens": 5}}, "silent"],
        model={"name": "m"},
        docs=10,
        seeds=0,
        concurrency=5,
    )
    fake.company = 2
    run, _ = play(tmp_path / "run", plan)
    assert fake.closed == 1
    assert fake.most > 1, "several episodes ask at a time"
    rows = {result.agent: result for result in run.results}
    assert rows["silent"].calls == 0
    for name in ("crud", "add_only"):
        assert rows[name].calls == rows[name].steps
        assert rows[name].completion_tokens == 7 * rows[name].calls
        assert (rows[name].prompt_tokens or 0) > 100
        assert rows[name].retries == 2 * rows[name].calls
    assert (rows["crud"].cut_short, rows["add_only"].cut_short) == (0, rows["add_only"].calls)
    assert "update" in rows["crud"].operations
    assert "update" not in rows["add_only"].operations, "the agent's environment has no updates"


def questions_of(run: Any) -> dict[int, str]:
    return {trace.index: trace.questions[0].question for trace in read_traces(run.path / "traces.jsonl")}


def test_an_episode_that_fails_costs_no_other_is_not_scored_and_is_played_at_the_resume(
    fake: FakeModel, tmp_path: Path
) -> None:
    plan = small_plan(agents=["crud", "tidy"], model={"name": "m"}, docs=10, seeds=0, episodes=6)
    whole, _ = play(tmp_path / "whole", plan)
    bad = list(questions_of(whole).items())[2]
    fake.failing = [bad[1]]
    run, quiet = play(tmp_path / "run", plan)
    assert [(failure.agent, failure.index, failure.error) for failure in quiet.failures] == [
        ("crud", bad[0], "ModelUnavailableError")
    ]
    assert len(run.results) == 11
    assert [failure.message for failure in run.failures] == [f"the server is gone; restart it\n{bad[1]}"]
    assert run.failures[0].steps == 0

    again, quiet = play(tmp_path / "run", plan, resume=True)
    assert (quiet.earlier, len(quiet.results), len(quiet.failures), len(again.failures)) == (11, 0, 1, 1)

    fake.failing = []
    healed, quiet = play(tmp_path / "run", plan, resume=True)
    assert (quiet.earlier, len(quiet.results), healed.failures) == (11, 1, ())
    assert timeless(healed) == timeless(whole)


def test_a_server_that_is_gone_stops_the_evaluation_and_keeps_what_is_done(fake: FakeModel, tmp_path: Path) -> None:
    plan = small_plan(
        agents=["crud"], model={"name": "m"}, docs=10, seeds=0, episodes=12, give_up_after=4, concurrency=2
    )
    fake.failing = [""]
    with pytest.raises(EvaluationError, match="4 episodes failed one after the other") as raised:
        play(tmp_path / "run", plan)
    assert "atommem eval --resume -o" in str(raised.value)
    run = read_run(tmp_path / "run")
    assert 4 <= len(run.failures) <= 5, "those in flight may fail as well"
    assert fake.closed == 1
    fake.failing = []
    run, _ = play(tmp_path / "run", plan, resume=True)
    assert (len(run.results), run.failures) == (12, ())


def test_failures_with_successes_in_between_do_not_stop_it(fake: FakeModel, tmp_path: Path) -> None:
    plan = small_plan(
        agents=["crud", "silent"], model={"name": "m"}, docs=10, seeds=0, episodes=6, give_up_after=2, concurrency=1
    )
    fake.failing, fake.error = [""], LanguageModelError
    run, _ = play(tmp_path / "run", plan)
    assert (len(run.results), len(run.failures)) == (6, 6)


class _Bug(Exception):
    pass


def test_a_bug_is_a_failed_episode_and_told_apart(fake: FakeModel, tmp_path: Path) -> None:
    fake.failing, fake.error = [""], _Bug
    run, _ = play(tmp_path / "run", small_plan(agents=["silent", "crud"], model={"name": "m"}, docs=10))
    assert {result.key.agent for result in run.results} == {"silent"}
    assert {(failure.agent, failure.error, failure.bug) for failure in run.failures} == {("crud", "_Bug", True)}


def test_nothing_is_left_running(tmp_path: Path) -> None:
    before = threading.active_count()
    play(tmp_path / "run", small_plan(settings={"store": "milvus"}, docs=10, seeds=0))
    assert threading.active_count() <= before


def test_settings_that_do_not_fit_the_records_stop_it_at_once(tmp_path: Path) -> None:
    plan = small_plan(envs=[{"id": "HotpotQA", "settings": {"source": "synthetic"}}], docs=[5, 1])
    with pytest.raises(ConfigError, match="num_docs=1"):
        play(tmp_path / "run", plan)
    assert not (tmp_path / "run").exists()


def test_records_that_cannot_be_read_stop_it_before_anything_is_played(tmp_path: Path) -> None:
    missing = {"id": "MuSiQue", "settings": {"source": str(tmp_path / "nothing.jsonl")}}
    with pytest.raises(DatasetUnavailableError):
        play(tmp_path / "run", small_plan(envs=["Synthetic", missing]))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["hotpotqa", "musique"])
def test_real_records(name: str, shared_data: Path, tmp_path: Path) -> None:
    env = {"hotpotqa": "HotpotQA", "musique": "MuSiQue"}[name]
    settings = {"source": str(shared_data / f"{name}.jsonl"), "split": "validation"}
    plan = small_plan(
        envs=[{"id": env, "settings": settings}],
        agents=["silent", "keep_all", "oracle"],
        docs=[30],
        seeds=0,
        episodes=6,
    )
    run, quiet = play(tmp_path / "run", plan)
    by_agent = {agent: [r for r in run.results if r.agent == agent] for agent in ("silent", "keep_all", "oracle")}
    assert all(result.em == 1 for result in by_agent["oracle"])
    assert sum(r.em for r in by_agent["silent"]) <= sum(r.em for r in by_agent["keep_all"])
    for result in run.results:
        assert all((question.cause is None) == (question.em == 1) for question in result.questions)
    assert isinstance(quiet, Quiet)
