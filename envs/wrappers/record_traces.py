"""A wrapper that writes a trace of every finished episode.

For vector environments, a wrapper with the same name is in :mod:`atommem_gym.envs.wrappers.vector.record_traces`.
"""

from __future__ import annotations

import time
import warnings
from itertools import chain
from pathlib import Path
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorWrapper

from atommem_gym.config import EnvConfig
from atommem_gym.envs.shaping import Shaping, dump_shaping
from atommem_gym.envs.wrappers.base import plain_base
from atommem_gym.envs.wrappers.shaped_reward import ShapedReward
from atommem_gym.episode import Episode
from atommem_gym.traces import AgentTrace, StepSeconds, TraceError, TraceRecorder, TraceWriter
from atommem_gym.traces.env_keywords import CUSTOM_ID, config_keywords


class RecordTraces(gym.Wrapper[Any, str, Any, str], RecordConstructorArgs):
    """Writes a trace of every finished episode (``atommem_gym.traces``) and changes nothing else.

    Its place among the wrappers decides what is recorded: the reward is the one that it sees, and outside of
    ``ChatObservation`` or ``PromptObservation`` the prompts are recorded, too. An episode that is left before its end,
    by ``reset`` or ``close``, is not written.

    The trace of a fork (wrapped itself) or of a restored episode begins with the steps of its parent and names it and
    the step. If the parent was not recorded, the branch is not either, and a warning says so.

    Args:
        env: An AtomMem environment.
        path: A ``.jsonl``, ``.jsonl.gz`` or ``.parquet`` file; traces are appended.
        agent: The agent: its name, or name and settings.
        seed: The seed of the agent.

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
        ConfigError: it is not an AtomMem environment, or has shaping that is not built in.
    """

    def __init__(
        self, env: gym.Env[Any, str], path: str | Path, agent: AgentTrace | str = "unknown", seed: int = 0
    ) -> None:
        RecordConstructorArgs.__init__(self, path=str(path), agent=agent, seed=seed)
        self._base = plain_base(self, env)
        gym.Wrapper.__init__(self, env)
        origin = env_and_keywords(self._base.spec, self._base.config)
        self._recorder = TraceRecorder(*origin, agent, seed, shaping_below(env, ShapedReward))
        self._writer = TraceWriter(path)
        self._returned = time.perf_counter()
        self._prompt: object = None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode and its trace."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._recorder.reset(self._base.episode, self._base.episode.observation(), info)
        self._prompt, self._returned = observation, time.perf_counter()
        return observation, info

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, record the step, and write the trace if the episode is over."""
        self._follow()
        called = time.perf_counter()
        observation, reward, terminated, truncated, info = self.env.step(action)
        now = time.perf_counter()
        if not self._recorder.watches(self._base.episode):
            return observation, float(reward), terminated, truncated, info
        self._recorder.step(
            Turn(action, messages_of(self._prompt)),
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

    def _follow(self) -> None:
        """Continue the trace of an episode that did not begin with a reset here: a fork or a restored one."""
        episode = self._base.episode
        if not (self._recorder.watches(episode) or episode.state.over) and resumed(self._recorder, episode):
            self._prompt, self._returned = None, time.perf_counter()

    def close(self) -> None:
        """Finish the file and close the environment."""
        self._writer.close()
        super().close()


def resumed(recorder: TraceRecorder, episode: Episode) -> bool:
    """Continue the trace of a fork or a restored episode; if its past was not recorded, warn and return ``False``."""
    try:
        recorder.resume(episode)
    except TraceError as error:
        warnings.warn(f"the trace of an episode is not written: {error}", UserWarning, stacklevel=4)
        return False
    return True


class Turn:
    """An action and the prompt that it responds to."""

    def __init__(self, action: str, messages: list[dict[str, str]] | None) -> None:
        self.action = action
        self.response = action
        self.messages = messages
        self.completions = ()


def messages_of(prompt: object) -> list[dict[str, str]] | None:
    """The chat messages in an observation; a prompt of one text becomes a user message; ``None`` for anything else."""
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    return [dict(message) for message in prompt] if isinstance(prompt, tuple) else None


def env_and_keywords(spec: Any, config: EnvConfig) -> tuple[str, dict[str, Any]]:
    """The id and keyword arguments from which the environment can be made again."""
    if spec is not None and "items" not in spec.kwargs:
        ours = config.as_keywords()
        return spec.id, {name: value for name, value in spec.kwargs.items() if name in ours}
    return CUSTOM_ID, config_keywords(config)


def shaping_below(env: Any, shaped: type[Any]) -> dict[str, dict[str, Any]]:
    """The JSON form of the shaping of all wrappers of class ``shaped`` in ``env``, the innermost first.

    Raises:
        ConfigError: a term is not built in, or occurs twice.
    """
    layers: list[tuple[Shaping, ...]] = []
    while isinstance(env, (gym.Wrapper, VectorWrapper)):
        if isinstance(env, shaped):
            layers.insert(0, tuple(env.shaping))
        env = env.env
    return dump_shaping(chain.from_iterable(layers))
