"""SPEC M14 in traces: the record of a branch begins with that of its parent and names it and the step."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from msgspec.structs import replace
from support.pools import make_plain, make_pool, run

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv, RecordTraces
from atommem_gym.envs.wrappers import vector
from atommem_gym.traces import EpisodeTrace, StepSeconds, TraceError, TraceRecorder, read_traces

KEYWORDS: dict[str, Any] = {"num_docs": 12, "chunk_tokens": 300, "store": "numpy"}
CREATE = "<create>Ada was born in Bern</create>"
ANSWER = "<answer>no idea</answer>"


def recorded(path: Path, env: Any = None) -> RecordTraces:
    return RecordTraces(env or gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **KEYWORDS), path)


def played(env: Any, *actions: str) -> None:
    """Play these actions, then answer to the end."""
    for action in actions:
        env.step(action)
    while not env.step(ANSWER)[2]:
        pass


def base(env: RecordTraces) -> AtomMemEnv:
    found = env.unwrapped
    assert isinstance(found, AtomMemEnv)
    return found


def timeless(trace: EpisodeTrace) -> EpisodeTrace:
    steps = tuple(replace(step, seconds=StepSeconds()) for step in trace.steps)
    return replace(trace, steps=steps, seconds=0.0, started="", id=None, branch=None)


def the_only(path: Path) -> EpisodeTrace:
    (trace,) = read_traces(path)
    return trace


def parted(parent: EpisodeTrace, branch: EpisodeTrace, step: int) -> bool:
    """Whether the branch names the parent, and they share these steps to the last byte and not the next one."""
    assert branch.branch is not None
    assert parent.id is not None
    named = (branch.branch.parent, branch.branch.step) == (parent.id, step)
    return named and parent.steps[:step] == branch.steps[:step] and parent.steps[step] != branch.steps[step]


def test_M14_the_trace_of_a_fork_names_its_parent_and_is_that_of_a_replay(tmp_path: Path) -> None:
    env = recorded(tmp_path / "parent.jsonl")
    env.reset(seed=3)
    env.step(CREATE)
    fork = recorded(tmp_path / "fork.jsonl", base(env).fork(1)[0])
    fork.step("<create>in the fork</create>")
    grandchild = recorded(tmp_path / "grandchild.jsonl", base(fork).fork(1)[0])
    # The parent ends first.
    played(env)
    played(fork, CREATE)
    played(grandchild, "<delete id='1'/>")
    for one in (env, fork, grandchild):
        one.close()
    parent, branch, last = (the_only(tmp_path / f"{name}.jsonl") for name in ("parent", "fork", "grandchild"))
    assert parted(parent, branch, 1)
    assert parted(branch, last, 2)
    assert parent.branch is None
    assert last.id is None
    assert parent.id != branch.id
    replay = recorded(tmp_path / "replay.jsonl")
    replay.reset(seed=3)
    played(replay, CREATE, "<create>in the fork</create>", CREATE)
    replay.close()
    alone = the_only(tmp_path / "replay.jsonl")
    assert alone.id is None
    assert timeless(alone) == timeless(branch)


def test_M14_the_trace_of_a_restored_episode_names_its_parent_also_from_a_pickle(tmp_path: Path) -> None:
    env, other = recorded(tmp_path / "one.jsonl"), recorded(tmp_path / "other.jsonl")
    env.reset(seed=3)
    env.step(CREATE)
    saved = base(env).snapshot()
    played(env)
    base(env).restore(saved)
    played(env, "<create>again</create>")
    base(other).restore(pickle.loads(pickle.dumps(saved)))
    played(other, "<create>elsewhere</create>")
    env.reset(seed=3)
    played(env)
    env.close()
    other.close()
    parent, again, unrelated = read_traces(tmp_path / "one.jsonl")
    assert parted(parent, again, 1)
    assert parted(parent, the_only(tmp_path / "other.jsonl"), 1)
    assert (again.id, unrelated.id, unrelated.branch) == (None, None, None)


def test_M14_a_branch_of_an_episode_that_was_not_recorded_is_not_written_and_a_warning_says_so(tmp_path: Path) -> None:
    plain = make_plain()
    plain.reset(seed=3)
    plain.step(CREATE)
    fork = recorded(tmp_path / "fork.jsonl", plain.fork(1)[0])
    with pytest.warns(UserWarning, match="the trace of an episode is not written: this episode did not begin"):
        played(fork)
    fork.reset(seed=3)
    played(fork)
    plain.close()
    # One that was stepped without its recorder has lost a step.
    fork.reset(seed=3)
    stray = base(fork).fork(1)[0]
    stray.step(CREATE)
    with pytest.raises(TraceError, match="brings no record"):
        TraceRecorder("AtomMem-Synthetic-v0", {}, "nobody").resume(stray.episode)
    stray.close()
    fork.close()
    assert the_only(tmp_path / "fork.jsonl").branch is None


@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
def test_M14_the_trace_of_a_restored_slot_names_its_parent(tmp_path: Path, mode: str) -> None:
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, autoreset_mode=mode, **KEYWORDS)
    traced = vector.RecordTraces(envs, tmp_path / "slots.jsonl")
    traced.reset(seed=3)
    traced.step([CREATE, CREATE])
    saved = envs.unwrapped.snapshot(0)  # type: ignore[attr-defined]
    traced.step([ANSWER, CREATE])
    envs.unwrapped.restore(1, saved)  # type: ignore[attr-defined]
    traced.step([ANSWER, "<create>the branch</create>"])
    for _ in range(12):
        traced.step([ANSWER, ANSWER])
    traced.close()
    traces = list(read_traces(tmp_path / "slots.jsonl"))
    (branch,) = [trace for trace in traces if trace.branch]
    (parent,) = [trace for trace in traces if trace.id]
    assert parted(parent, branch, 1)
    assert len(traces) > 3


def test_M14_a_recorder_of_a_pool_goes_on_with_the_record_of_a_fork() -> None:
    async def main() -> tuple[EpisodeTrace, EpisodeTrace]:
        async with make_pool(2) as pool, pool.env() as env:
            made: Callable[[], TraceRecorder] = lambda: TraceRecorder("AtomMem-Synthetic-v0", {}, "nobody")  # noqa: E731
            recorders = [made(), made()]
            first = await env.areset(seed=3)
            recorders[0].reset(env.episode, *first)
            recorders[0].step(CREATE, *await env.astep(CREATE))
            async with await pool.fork(env, 1) as (fork,):
                recorders[1].resume(fork.episode)
                recorders[1].step("<create>b</create>", *await fork.astep("<create>b</create>"))
                for recorder, one in zip(recorders, (env, fork), strict=True):
                    while not recorder.over:
                        recorder.step(ANSWER, *await one.astep(ANSWER))
            return recorders[0].finish(), recorders[1].finish()

    assert parted(*run(main()), 1)
