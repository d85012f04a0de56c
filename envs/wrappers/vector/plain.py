"""The wrappers of vector environments, under the names of the plain ones (SPEC E10, R4).

``gymnasium.make_vec`` refuses ``wrappers=`` for environments with a vector form of their own, so these go around what
it returns. They give, to the bit, what Gymnasium's ``SyncVectorEnv`` over plain environments with the plain wrappers
gives, in all three autoreset modes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from gymnasium import spaces
from gymnasium.vector import VectorEnv
from gymnasium.vector.utils import batch_space

from atommem_gym.actions import UnicodeText
from atommem_gym.envs import shaping
from atommem_gym.envs.shaping import Shaping, ShapingSpec, load_shaping, shaped
from atommem_gym.envs.vector_env import AtomMemVectorEnv, Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers.plain import Messages
from atommem_gym.errors import ConfigError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation

Envs: TypeAlias = VectorEnv[Any, Sequence[str], Any]

_LONGEST = 2**31 - 1


def _base(env: Envs) -> AtomMemVectorEnv:
    if not isinstance(env.unwrapped, AtomMemVectorEnv):
        raise ConfigError(
            f"{env} is no AtomMem vector environment; make one with gymnasium.make_vec('AtomMem-…-v0', num_envs=…), "
            "or put the plain wrappers into the environments of a SyncVectorEnv or AsyncVectorEnv"
        )
    return env.unwrapped


class _Rendered(TextVectorWrapper):
    """Observations one by one through a prompt template, also those in ``final_obs``."""

    def __init__(self, env: Envs, template: str | Path | None) -> None:
        super().__init__(env)
        self.template = PromptTemplate(_base(env).config, template)

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """See ``AtomMemVectorEnv.reset``."""
        # Gymnasium's wrappers are typed for one seed, its vector environments take one for each as well.
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return self._rendered(observations), infos

    def step(self, actions: Sequence[str]) -> tuple[tuple[Any, ...], Rewards, Flags, Flags, dict[str, Any]]:
        """See ``AtomMemVectorEnv.step``."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        if "final_obs" in infos:
            finals = infos["final_obs"].copy()
            for i in np.flatnonzero(infos["_final_obs"]).tolist():
                finals[i] = self.observation(finals[i])
            infos = {**infos, "final_obs": finals}
        return self._rendered(observations), rewards, terminations, truncations, infos

    def observation(self, observation: Observation) -> Any:
        """One environment's observation as a prompt."""
        raise NotImplementedError

    def _rendered(self, observations: Observation) -> tuple[Any, ...]:
        """The batched observations taken apart and rendered one by one."""
        columns = [values.tolist() if isinstance(values, np.ndarray) else values for values in observations.values()]
        rows = zip(*columns, strict=True)
        return tuple(self.observation(dict(zip(observations, row, strict=True))) for row in rows)


class PromptObservation(_Rendered):
    """Observations as a tuple of texts, by the dialect's template or the user's.

    Args:
        env: An AtomMem vector environment.
        template: A Jinja2 file that replaces the dialect's template, see :class:`atommem_gym.prompts.PromptTemplate`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = PromptObservation(gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy"))
        >>> prompts, infos = envs.reset(seed=1)
        >>> ["Document 1:" in prompt for prompt in prompts]
        [True, True]
        >>> envs.close()
    """

    def __init__(self, env: Envs, template: str | Path | None = None) -> None:
        super().__init__(env, template)
        self.single_observation_space = UnicodeText(_LONGEST)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observation(self, observation: Observation) -> str:
        """System and user part in one text."""
        return self.template.text(observation)


class ChatObservation(_Rendered):
    """Observations as a tuple of chat messages: a system and a user message each, a fresh context at every step.

    Args:
        env: An AtomMem vector environment.
        template: A Jinja2 file that replaces the dialect's template, see :class:`atommem_gym.prompts.PromptTemplate`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = ChatObservation(gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy"))
        >>> chats, infos = envs.reset(seed=1)
        >>> [message["role"] for message in chats[1]]
        ['system', 'user']
        >>> envs.close()
    """

    def __init__(self, env: Envs, template: str | Path | None = None) -> None:
        super().__init__(env, template)
        text = UnicodeText(_LONGEST)
        self.single_observation_space = spaces.Sequence(spaces.Dict({"role": text, "content": text}))
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observation(self, observation: Observation) -> Messages:
        """System and user message."""
        return tuple(self.template.messages(observation))


class ShapedReward(TextVectorWrapper):
    """Adds shaping to the rewards of every step, in the order given; a step that only resets is not shaped.

    Args:
        env: An AtomMem vector environment.
        shaping: Its JSON form, or objects, see :func:`atommem_gym.envs.shaping.load_shaping`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=20, store="numpy")
        >>> envs = ShapedReward(envs, {"MemoryCost": {"per_entry": 0.01}, "FormatPenalty": {}})
        >>> _ = envs.reset(seed=1)
        >>> envs.step(["<create>a fact</create>", "<create>never closed"])[1].tolist()
        [-0.01, -0.1]
        >>> envs.close()
    """

    def __init__(self, env: Envs, shaping: ShapingSpec | Iterable[Shaping]) -> None:
        super().__init__(env)
        self._base = _base(env)
        self.shaping = load_shaping(shaping)

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """See ``AtomMemVectorEnv.step``; what ended an episode is shaped by that episode, whatever the autoreset."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        rewards = np.array(
            [
                reward if stepped is None else shaped(reward, self.shaping, stepped.info, stepped.episode)
                for reward, stepped in zip(rewards.tolist(), self._base.stepped, strict=True)
            ]
        )
        return observations, rewards, terminations, truncations, infos


class MemoryCost(ShapedReward):
    """Memory costs: a rent for every live entry at every step, and a price for every executed operation.

    Args:
        env: An AtomMem vector environment.
        per_entry: Taken off the reward for each entry alive after the step.
        per_operation: Taken off for each executed create, read, update, delete and scratchpad (answers are free).
    """

    def __init__(self, env: Envs, per_entry: float = 0.0, per_operation: float = 0.0) -> None:
        super().__init__(env, [shaping.MemoryCost(per_entry, per_operation)])


class EvidenceReward(ShapedReward):
    """Pays for evidence: ``weight`` times the share of gold evidence that newly came into sight (SPEC E12, lenient).

    Args:
        env: An AtomMem vector environment.
        weight: What complete evidence is worth.
    """

    def __init__(self, env: Envs, weight: float = 0.5) -> None:
        super().__init__(env, [shaping.EvidenceReward(weight)])


class FormatPenalty(ShapedReward):
    """Takes ``penalty`` off for every operation that was rejected because of how it was written.

    Args:
        env: An AtomMem vector environment.
        penalty: Taken off for each.
        reasons: Which reason codes count, by default those of malformed text.
    """

    def __init__(self, env: Envs, penalty: float = 0.1, reasons: tuple[str, ...] = shaping.FORMAT_REASONS) -> None:
        super().__init__(env, [shaping.FormatPenalty(penalty, reasons)])
