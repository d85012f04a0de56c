"""Wrappers that write a trace of every finished episode, for plain and for vector environments."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper

from atommem_gym.config import EnvConfig
from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.shaping import Shaping, dump_shaping
from atommem_gym.envs.vector_env import AtomMemVectorEnv, Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers import plain as wrappers
from atommem_gym.envs.wrappers.vector import plain as vector_wrappers
from atommem_gym.errors import ConfigError
from atommem_gym.traces import AgentTrace, StepSeconds, TraceRecorder, TraceWriter
from atommem_gym.traces.env_keywords import CUSTOM_ID, config_keywords


class RecordTraces(gym.Wrapper[Any, str, Any, str], RecordConstructorArgs):
    """Writes a record of every episode that ends (``atommem_gym.traces``); what it wraps behaves as before.

    Its place among the wrappers decides what is recorded: the reward is the one that passes through it, and outside of
    ``ChatObservation`` or ``PromptObservation`` the prompts are kept, too. An episode that is left before its end, by
    ``reset`` or ``close``, is not written.

    Args:
        env: An AtomMem environment.
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file; episodes are appended.
        agent: Who plays, by name or with settings.
        seed: Of the agent.

    Example:
        >>> import gymnasium as gym, atommem_gym, tempfile
        >>> from atommem_gym.traces import read_traces
        >>> path = Path(tempfile.mkdtemp()) / "traces.jsonl"
        >>> env = RecordTraces(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"), path, agent="nobody")
        >>> observation, info = env.reset(seed=1)
        >>> while not env.step("<answer>I do not know</answer>")[2]:
        ...     pass
        >>> env.close()
        >>> [trace.causes for trace in read_traces(path)]
        [('never stored',)]

    Raises:
        TraceError: the file cannot be written, or a keyword argument of the environment has no JSON form.
        ConfigError: it is no AtomMem environment, or shaped by something that is not built in.
    """

    def __init__(
        self, env: gym.Env[Any, str], path: str | Path, agent: AgentTrace | str = "unknown", seed: int = 0
    ) -> None:
        RecordConstructorArgs.__init__(self, path=str(path), agent=agent, seed=seed)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, AtomMemEnv):
            raise ConfigError(f"{env} is no AtomMem environment; make one with gymnasium.make('AtomMem-…-v0')")
        self._base = env.unwrapped
        layers = _layers(env, gym.Wrapper, wrappers.ShapedReward)
        self._recorder = TraceRecorder(*_origin(self._base.spec, self._base.config), agent, seed, layers)
        self._writer = TraceWriter(path)
        self._returned = time.perf_counter()
        self._prompt: object = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and its record."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._recorder.reset(self._base.episode, self._base.episode.observation(), info)
        self._prompt, self._returned = observation, time.perf_counter()
        return observation, info

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, record, and write the record if the episode is over."""
        called = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        now = time.perf_counter()
        self._recorder.step(
            _Turn(action, _messages(self._prompt)),
            self._base.episode.observation(),
            float(reward),
            terminated,
            truncated,
            info,
            seconds=StepSeconds(agent=called - self._returned, env=now - called),
        )
        if self._recorder.over:
            self._writer.write(self._recorder.finish())
        self._prompt, self._returned = observation, time.perf_counter()
        return observation, float(reward), terminated, truncated, info

    def close(self) -> None:
        """Finish the file and close the environment."""
        self._writer.close()
        super().close()


class RecordVectorTraces(TextVectorWrapper):
    """:class:`RecordTraces` for ``gymnasium.make_vec``: one record for every episode that ends, in one file.

    ``seconds.env`` of a step is that of the whole vector step.

    Args:
        env: An AtomMem vector environment.
        path: See :class:`RecordTraces`.
        agent: The same.
        seed: The same.

    Example:
        >>> import gymnasium as gym, atommem_gym, tempfile
        >>> from atommem_gym.traces import read_traces
        >>> path = Path(tempfile.mkdtemp()) / "traces.jsonl"
        >>> envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy")
        >>> envs = RecordVectorTraces(envs, path, agent="nobody")
        >>> observations, infos = envs.reset(seed=1)
        >>> while not envs.step(["<answer>I do not know</answer>"] * 2)[2].all():
        ...     pass
        >>> envs.close()
        >>> [trace.causes for trace in read_traces(path)]
        [('never stored',), ('never stored',)]
    """

    def __init__(
        self,
        env: VectorEnv[Any, Sequence[str], Any],
        path: str | Path,
        agent: AgentTrace | str = "unknown",
        seed: int = 0,
    ) -> None:
        super().__init__(env)
        if not isinstance(env.unwrapped, AtomMemVectorEnv):
            raise ConfigError(f"{env} is no AtomMem vector environment; wrap the members of others with RecordTraces")
        self._base = env.unwrapped
        layers = _layers(env, VectorWrapper, vector_wrappers.ShapedReward)
        origin = _origin(self._base.spec, self._base.config)
        self._recorders = [TraceRecorder(*origin, agent, seed, layers) for _ in range(self.num_envs)]
        self._writer = TraceWriter(path)
        self._returned = time.perf_counter()
        self._prompts: list[object] = [None] * self.num_envs

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes and their records."""
        mask = (options or {}).get("reset_mask")
        # Gymnasium's wrappers are typed for one seed, its vector environments take one for each as well.
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        for i in range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist():
            self._begin(i, infos)
        self._see(observations)
        return observations, infos

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """Step, record, and write the records of episodes that are over."""
        called = time.perf_counter()
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        seconds = StepSeconds(agent=called - self._returned, env=time.perf_counter() - called)
        running = self._base.episodes
        for i, (recorder, stepped) in enumerate(zip(self._recorders, self._base.stepped, strict=True)):
            if stepped is None:
                self._begin(i, infos)
                continue
            recorder.step(
                _Turn(actions[i], _messages(self._prompts[i])),
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
        """Note the prompts, if a wrapper inside makes them."""
        if isinstance(observations, tuple) and len(observations) == self.num_envs:
            self._prompts = list(observations)
        self._returned = time.perf_counter()


class _Turn:
    """An action with the prompt it answers to."""

    def __init__(self, action: str, messages: list[dict[str, str]] | None) -> None:
        self.action = action
        self.response = action
        self.messages = messages
        self.completions = ()


def member_info(infos: Mapping[str, Any], i: int) -> dict[str, Any]:
    """The info of one sub-environment out of a vector environment's.

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


def _messages(prompt: object) -> list[dict[str, str]] | None:
    """The chat messages that a wrapper made of an observation; a prompt of one text is a user's message."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt] if isinstance(prompt, tuple) else None


def _origin(spec: Any, config: EnvConfig) -> tuple[str, dict[str, Any]]:
    """Id and keyword arguments that make the environment again."""
    if spec is not None and "items" not in spec.kwargs:
        ours = config.as_keywords()
        return spec.id, {name: value for name, value in spec.kwargs.items() if name in ours}
    return CUSTOM_ID, config_keywords(config)


def _layers(env: Any, wrapper: type[Any], shaped: type[Any]) -> dict[str, dict[str, Any]]:
    """The shaping inside, from the innermost wrapper outwards, in its JSON form."""
    layers: list[tuple[Shaping, ...]] = []
    while isinstance(env, wrapper):
        if isinstance(env, shaped):
            layers.insert(0, tuple(env.shaping))
        env = env.env
    return dump_shaping(chain.from_iterable(layers))
