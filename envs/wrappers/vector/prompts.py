"""Observations of vector environments as prompts (SPEC E10).

``gymnasium.make_vec`` refuses ``wrappers=`` for environments with their own vector class, so the wrappers of this
package wrap what it returns. They give, to the bit, the results of Gymnasium's ``SyncVectorEnv`` over plain
environments with the plain wrappers, in all three autoreset modes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector.utils import batch_space

from atommem_gym.envs.vector_env import Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers.base import VectorEnvs, check_observations, vector_base
from atommem_gym.envs.wrappers.prompts import ChatSpace, Messages, prompt_space
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation


class _Rendered(TextVectorWrapper):
    """Renders each observation by a prompt template, also those in ``final_obs``."""

    def __init__(self, env: VectorEnvs, template: str | Path | None) -> None:
        base = vector_base(self, env)
        check_observations(self, env, base)
        super().__init__(env)
        self.template = PromptTemplate(base.config, template)

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
        """The observation of one environment as a prompt."""
        raise NotImplementedError

    def _rendered(self, observations: Observation) -> tuple[Any, ...]:
        """The batched observations, rendered one by one."""
        columns = [values.tolist() if isinstance(values, np.ndarray) else values for values in observations.values()]
        rows = zip(*columns, strict=True)
        return tuple(self.observation(dict(zip(observations, row, strict=True))) for row in rows)


class PromptObservation(_Rendered):
    """Observations as a tuple of texts, rendered by the dialect's template or the user's.

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

    def __init__(self, env: VectorEnvs, template: str | Path | None = None) -> None:
        super().__init__(env, template)
        self.single_observation_space = prompt_space()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observation(self, observation: Observation) -> str:
        """System and user part in one text."""
        return self.template.text(observation)


class ChatObservation(_Rendered):
    """Observations as a tuple of chat messages: a system and a user message each, without history.

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

    def __init__(self, env: VectorEnvs, template: str | Path | None = None) -> None:
        super().__init__(env, template)
        self.single_observation_space = ChatSpace()
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def observation(self, observation: Observation) -> Messages:
        """System and user message."""
        return tuple(self.template.messages(observation))
