"""Plays a scenario in its form and gives what is recorded: what every call returned, and the lines of the traces."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym import envs
from net import masks
from net.chooser import Chooser
from net.paths import public
from net.scenarios import Scenario

_MEMBERS = 3
_VECTOR_STEPS = 14
_INDEX = 5
_LAYOUT = 2
Recorded = dict[str, Any]


class _Seen(gym.Wrapper[Any, Any, Any, Any]):
    """Keeps the last observation, inside of wrappers that make a prompt of it."""

    last: Any = None

    def reset(self, **keywords: Any) -> Any:
        self.last, info = self.env.reset(**keywords)
        return self.last, info

    def step(self, action: Any) -> Any:
        self.last, *rest = self.env.step(action)
        return (self.last, *rest)


class _SeenByAll(gym.vector.VectorWrapper[Any, Any, Any, Any, Any]):
    """The same of a vector environment."""

    last: Any = None

    def reset(self, **keywords: Any) -> Any:
        self.last, infos = self.env.reset(**keywords)
        return self.last, infos

    def step(self, actions: Any) -> Any:
        self.last, *rest = self.env.step(actions)
        return (self.last, *rest)

    def member(self, i: int) -> dict[str, Any]:
        return {name: values[i] for name, values in self.last.items()}


def play(name: str, scenario: Scenario) -> Recorded:
    """One scenario, from making its environment to closing it."""
    forms: dict[str, Callable[[str, Scenario, Path], list[object]]] = {
        "single": _single,
        "vector": _vector,
        "pool": _pool,
        "team": _team,
        "aec": _team_in_turn,
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "traces.jsonl"
        returned = forms[scenario.form](name, scenario, file)
        lines = file.read_bytes().split(b"\n") if file.exists() else [b""]
    assert lines.pop() == b"", "a file of traces ends with a line end"
    made = {"id": scenario.env_id, "keywords": scenario.keywords, "wrappers": scenario.wrappers}
    return {
        "made": json.loads(json.dumps(made)),
        "returned": [json.dumps(typed(one)) for one in returned],
        "traces": [masks.trace_line(line) for line in lines],
    }


def typed(value: object) -> Any:
    """A value as JSON in which arrays, NumPy's scalars and tuples are still told from lists and plain numbers.

    >>> typed({"progress": np.array([1, 2]), "pair": ("a", 1.5)})
    {'progress': {'int64': [1, 2]}, 'pair': {'tuple': ['a', 1.5]}}
    """
    if isinstance(value, np.ndarray):
        return {str(value.dtype): typed(value.tolist())}
    if isinstance(value, np.generic):
        return {str(value.dtype): value.item()}
    if isinstance(value, tuple):
        return {"tuple": [typed(one) for one in value]}
    if isinstance(value, list):
        return [typed(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): typed(one) for key, one in value.items()}
    assert value is None or isinstance(value, (str, bool, int, float)), f"{value!r} has no place in a recording"
    return value


def _answers(scenario: Scenario, **reset: Any) -> dict[str, str]:
    """The right answers of an item, from the trace of somebody who says nothing."""
    keywords = {**scenario.keywords, "store": "numpy", "store_reads": "mirror", "preset": "paper", "max_steps": 2}
    for name in ("parts", "max_cycles"):
        keywords.pop(name, None)
    with tempfile.TemporaryDirectory() as folder:
        env = envs.RecordTraces(gym.make(scenario.env_id, **keywords), Path(folder) / "item.jsonl")
        env.reset(**reset)
        while not any(env.step("")[2:4]):
            pass
        env.close()
        trace = json.loads((Path(folder) / "item.jsonl").read_bytes())
    return {one["question"]: one["answer"] for one in trace["questions"]}


def _layout(i: int) -> dict[str, int]:
    return {"index": _INDEX + i, "shuffle_seed": _LAYOUT}


def _single(name: str, scenario: Scenario, file: Path) -> list[object]:
    env = seen = _Seen(gym.make(scenario.env_id, **scenario.keywords))
    for wrapper, arguments in scenario.wrappers:
        env = getattr(envs, wrapper)(env, **arguments)
    env = envs.RecordTraces(env, file, agent="chooser", seed=1)
    # By seed or by index, half of the scenarios each; a curriculum draws its difficulty from the seed.
    by_seed = int(name[:2]) % 2 == 1
    reset: dict[str, Any] = {"seed": int(name[:2])} if by_seed else {"options": _layout(0)}
    answers = {} if "Curriculum" in dict(scenario.wrappers) else _answers(scenario, **reset)
    chooser = Chooser(name, scenario.dialect, scenario.style, answers)
    returned: list[object] = [env.reset(**reset)]
    over = False
    while not over:
        action = chooser.act(seen.last)
        result = env.step(action)
        returned.append((action, *result))
        over = result[2] or result[3]
    env.close()
    return returned


def _vector(name: str, scenario: Scenario, file: Path) -> list[object]:
    made = gym.make_vec(scenario.env_id, _MEMBERS, autoreset_mode=scenario.autoreset, **scenario.keywords)
    env: Any = _SeenByAll(made)
    seen = env
    vector_wrappers = envs.wrappers.vector
    for wrapper, arguments in scenario.wrappers:
        env = getattr(vector_wrappers, wrapper)(env, **arguments)
    env = vector_wrappers.RecordTraces(env, file, agent="chooser", seed=1)
    options = {"index": [_layout(i // 2)["index"] for i in range(_MEMBERS)], "shuffle_seed": _LAYOUT}
    answers = [_answers(scenario, options=_layout(i // 2)) for i in range(_MEMBERS)]
    returned: list[object] = [env.reset(seed=3, options=options)]
    choosers = [Chooser(f"{name}/{i}", scenario.dialect, scenario.style, answers[i]) for i in range(_MEMBERS)]
    for step in range(_VECTOR_STEPS):
        actions = [chooser.act(seen.member(i)) for i, chooser in enumerate(choosers)]
        result = env.step(actions)
        returned.append((actions, *result))
        over = np.logical_or(result[2], result[3])
        if over.any():
            for i in np.flatnonzero(over).tolist():
                choosers[i] = Chooser(f"{name}/{i}/{step}", scenario.dialect, scenario.style, answers[i])
            if scenario.autoreset == "Disabled":
                returned.append(env.reset(options={**options, "reset_mask": over}))
    env.close()
    return returned


def _pool(name: str, scenario: Scenario, file: Path) -> list[object]:
    shaping = dict(scenario.wrappers)
    recorder_of, agent, writer_of = public("TraceRecorder"), public("AgentTrace"), public("TraceWriter")

    async def episode(pool: Any, i: int) -> tuple[list[object], Any]:
        chooser = Chooser(f"{name}/{i}", scenario.dialect, scenario.style, answers[i])
        recorder = recorder_of(scenario.env_id, scenario.keywords, agent("chooser", {"i": i}), 1, shaping)
        async with pool.env() as env:
            observation, info = await env.areset(options=_layout(i))
            returned: list[object] = [(observation, info)]
            recorder.reset(env.episode, observation, info)
            while not recorder.over:
                action = chooser.act(observation)
                result = await env.astep(action)
                observation = result[0]
                recorder.step(action, *result)
                returned.append((action, *result))
        return returned, recorder.finish()

    async def main() -> list[tuple[list[object], Any]]:
        async with envs.AtomMemPool(scenario.env_id, capacity=2, shaping=shaping, **scenario.keywords) as pool:
            return list(await asyncio.gather(*(episode(pool, i) for i in range(_MEMBERS))))

    answers = [_answers(scenario, options=_layout(i)) for i in range(_MEMBERS)]
    episodes = asyncio.run(main())
    with writer_of(file) as writer:
        for _, trace in episodes:
            writer.write(trace)
    return [one for returned, _ in episodes for one in returned]


def _team(name: str, scenario: Scenario, file: Path) -> list[object]:
    env = public("parallel_env")(scenario.env_id, readers=scenario.readers, **scenario.keywords)
    answers = _answers(scenario, options=_layout(0))
    observations, infos = env.reset(seed=3, options=_layout(0))
    returned: list[object] = [(env.agents, observations, infos)]
    choosers = {one: Chooser(f"{name}/{one}", scenario.dialect, scenario.style, answers) for one in env.agents}
    while env.agents:
        actions = {one: choosers[one].act(observations[one]) for one in env.agents}
        result = env.step(actions)
        observations = result[0]
        returned.append((actions, *result, env.state()))
    env.close()
    return returned


def _team_in_turn(name: str, scenario: Scenario, file: Path) -> list[object]:
    env = public("atommem_gym.envs.team.team:env")(scenario.env_id, readers=scenario.readers, **scenario.keywords)
    answers = _answers(scenario, options=_layout(0))
    env.reset(seed=3, options=_layout(0))
    returned: list[object] = []
    choosers = {one: Chooser(f"{name}/{one}", scenario.dialect, scenario.style, answers) for one in env.agents}
    for one in env.agent_iter():
        observation, reward, terminated, truncated, info = env.last()
        action = None if terminated or truncated else choosers[one].act(observation)
        returned.append((one, observation, reward, terminated, truncated, info, action))
        env.step(action)
    env.close()
    return returned
