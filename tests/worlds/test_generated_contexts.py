"""Every generated context (SPEC E14) in every form: plain, vector, pool, team, traces, evaluation, viewer, veRL."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.agents.team import make_team
from atommem_gym.agents.team_play import play_team
from atommem_gym.cli import main
from atommem_gym.envs import AtomMemPool
from atommem_gym.envs.team import parallel_env
from atommem_gym.registration import TASKS
from atommem_gym.testing import check_memory_env
from atommem_gym.traces import read_traces

GENERATED = sorted(name for name, task in TASKS.items() if task.contexts and task.dataset is None)


@pytest.fixture(params=GENERATED)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_check_env_is_silent_and_memory_rules_hold(name: str, recwarn: Any) -> None:
    env = gym.make(f"AtomMem-{name}-v0", store="numpy", questions_per_episode=2)
    check_env(env.unwrapped, skip_render_check=True)
    assert not [str(one.message) for one in recwarn]
    check_memory_env(env)
    env.close()


def test_vector_and_pool_are_as_the_plain_environment(name: str) -> None:
    keywords = {"store": "numpy", "questions_per_episode": 2}
    single = gym.make(f"AtomMem-{name}-v0", **keywords)
    actions = ["<create>a b c</create><read>a</read>", "", '<delete id="1"/>']

    def alone(index: int) -> list[str]:
        first, _ = single.reset(options={"index": index})
        return [repr(first), *(repr(single.step(action)[0]) for action in actions)]

    expected = [alone(0), alone(5)]
    single.close()

    async def play(index: int) -> list[str]:
        async with AtomMemPool(f"AtomMem-{name}-v0", capacity=2, **keywords) as pool, pool.env() as env:
            first, _ = await env.areset(options={"index": index})
            return [repr(first), *[repr((await env.astep(action))[0]) for action in actions]]

    assert [asyncio.run(play(0)), asyncio.run(play(5))] == expected
    envs: Any = gym.make_vec(f"AtomMem-{name}-v0", num_envs=2, **keywords)
    observations, _ = envs.reset(options={"index": [0, 5]})
    for number in range(2):
        assert repr(str(observations["chunk"][number])) in expected[number][0]
    envs.close()


def test_a_team_of_readers_plays(name: str) -> None:
    env = parallel_env(task=name, readers=2, store="numpy", questions_per_episode=2)
    record = play_team(env, make_team("keep_all", 2), "keep_all", index=1)
    assert len(record.answers) == 2
    env.close()


def test_evaluation_traces_replay_viewer(name: str, tmp_path: Path) -> None:
    out = tmp_path / "run"
    asked = ["--set", "store=numpy", "questions_per_episode=10", "--agent", "keep_all", "tidy", "--episodes", "2"]
    assert main(["eval", name, *asked, "-o", str(out)]) == 0
    report = (out / "report.md").read_text(encoding="utf-8")
    assert " sessions |" in report
    assert "bstention" in report
    traces = list(read_traces(out / "traces.jsonl"))
    assert len(traces) == 4
    assert all("abstention_recall" in trace.metrics for trace in traces)
    assert main(["replay", str(out / "traces.jsonl"), "--check"]) == 0
    assert main(["rescore", str(out / "traces.jsonl"), "--reward", "f1", "-o", str(tmp_path / "again.jsonl")]) == 0
    assert main(["view", str(out / "traces.jsonl"), "-o", str(tmp_path / "page.html")]) == 0


def test_verl_rows(name: str, tmp_path: Path) -> None:
    asked = ["data", "verl", name, "-o", str(tmp_path / "rows"), "--train", "4", "--validation", "2"]
    assert main([*asked, "--set", "store=numpy"]) == 0


@pytest.mark.parametrize("agent", ["keep_all", "tidy", "oracle", "overwrite", "silent", "random"])
def test_scripted_agents_play(name: str, agent: str) -> None:
    env: Any = gym.make(f"AtomMem-{name}-v0", store="numpy", questions_per_episode=4)
    record = play_episode(env, make_agent(agent), 3)
    assert len(record.answers) == 4
    env.close()


@pytest.mark.parametrize("keywords", [{"dialect": "tools"}, {"preset": "released"}, {"addressing": "visible"}])
def test_other_dialects_and_presets_play(name: str, keywords: dict[str, Any]) -> None:
    env = gym.make(f"AtomMem-{name}-v0", store="numpy", **keywords)
    play_episode(env, make_agent("tidy"), 2)
    env.close()
