"""A wrapper of vector environments that writes a trace of every finished episode."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atommem_gym.envs.vector_env import Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers.base import VectorEnvs, vector_base
from atommem_gym.envs.wrappers.record_traces import Turn, env_and_keywords, messages_of, resumed, shaping_below
from atommem_gym.envs.wrappers.vector.shaped_reward import ShapedReward
from atommem_gym.traces import AgentTrace, StepSeconds, TraceRecorder, TraceWriter


class RecordTraces(TextVectorWrapper):
    """Writes a trace of every finished episode, all of them to one file.

    See :class:`atommem_gym.envs.wrappers.RecordTraces`.

    ``seconds.env`` of a step is the time of the whole vector step.

    Args:
        env: An AtomMem vector environment.
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file; traces are appended.
        agent: The agent: its name, or name and settings.
        seed: The seed of the agent.

    Example:
        >>> import gymnasium as gym, atommem_gym, tempfile
        >>> from atommem_gym.traces import read_traces
        >>> path = Path(tempfile.mkdtemp()) / "traces.jsonl"
        >>> envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy")
        >>> envs = RecordTraces(envs, path, agent="nobody")
        >>> observations, infos = envs.reset(seed=1)
        >>> while not envs.step(["<answer>I do not know</answer>"] * 2)[2].all():
        ...     pass
        >>> envs.close()
        >>> [trace.causes for trace in read_traces(path)]
        [('never stored',), ('never stored',)]
    """

    def __init__(
        self,
        env: VectorEnvs,
        path: str | Path,
        agent: AgentTrace | str = "unknown",
        seed: int = 0,
    ) -> None:
        self._base = vector_base(self, env)
        super().__init__(env)
        layers = shaping_below(env, ShapedReward)
        origin = env_and_keywords(self._base.spec, self._base.config)
        self._recorders = [TraceRecorder(*origin, agent, seed, layers) for _ in range(self.num_envs)]
        self._writer = TraceWriter(path)
        self._returned = time.perf_counter()
        self._prompts: list[object] = [None] * self.num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes and their traces."""
        mask = (options or {}).get("reset_mask")
        # Gymnasium's wrappers are typed for one seed, its vector environments take one for each as well.
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        for i in range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist():
            self._begin(i, infos)
        self._see(observations)
        return observations, infos

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """Step, record the steps, and write the traces of finished episodes."""
        for i, (recorder, episode) in enumerate(zip(self._recorders, self._base.episodes, strict=True)):
            if not (recorder.watches(episode) or episode.state.over) and resumed(recorder, episode):
                self._prompts[i] = None
        called = time.perf_counter()
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        seconds = StepSeconds(agent=called - self._returned, env=time.perf_counter() - called)
        running = self._base.episodes
        for i, (recorder, stepped) in enumerate(zip(self._recorders, self._base.stepped, strict=True)):
            if stepped is None:
                self._begin(i, infos)
                continue
            if not recorder.watches(stepped.episode):
                if running[i] is not stepped.episode:
                    self._begin(i, infos)
                continue
            recorder.step(
                Turn(actions[i], messages_of(self._prompts[i])),
                stepped.episode.observation(),
                float(rewards[i]),
                bool(terminations[i]),
                bool(truncations[i]),
                stepped.info,
                seconds=seconds,
            )
            if recorder.over:
                self._writer.write(recorder.finish())
            if running[i] is not stepped.episode:
                self._begin(i, infos)
        self._see(observations)
        return observations, rewards, terminations, truncations, infos

    def close(self, **kwargs: Any) -> None:
        """Finish the file and close the environments."""
        # Gymnasium 1.1 closes even a wrapper that could not be made.
        if hasattr(self, "_writer"):
            self._writer.close()
        super().close(**kwargs)

    def _begin(self, i: int, infos: Mapping[str, Any]) -> None:
        episode = self._base.episodes[i]
        info = {name: value for name, value in member_info(infos, i).items() if not name.startswith("final_")}
        self._recorders[i].reset(episode, episode.observation(), info)

    def _see(self, observations: object) -> None:
        """Keep the prompts, if a wrapper below makes them."""
        if isinstance(observations, tuple) and len(observations) == self.num_envs:
            self._prompts = list(observations)
        self._returned = time.perf_counter()


def member_info(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The info of sub-environment ``i`` in the infos of a vector environment.

    >>> member_info({"entries": np.array([3, 0]), "_entries": np.array([True, False])}, 0)
    {'entries': 3}
    """
    info: dict[str, Any] = {}
    for name, values in infos.items():
        if f"_{name}" not in infos or not infos[f"_{name}"][i]:
            continue
        value = member_info(values, i) if isinstance(values, Mapping) else values[i]
        info[name] = value.item() if isinstance(value, np.generic) else value
    return info
