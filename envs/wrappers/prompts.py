"""Wrappers that turn observations into prompts (SPEC E10).

For vector environments, wrappers with the same names are in :mod:`atommem_gym.envs.wrappers.vector.prompts`.
"""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import gymnasium as gym
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector.utils import create_shared_memory

from atommem_gym.actions import UnicodeText
from atommem_gym.actions.space import no_shared_memory
from atommem_gym.envs.wrappers.base import check_observations, plain_base
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation

Messages: TypeAlias = tuple[dict[str, str], ...]

_LONGEST = 2**31 - 1


def prompt_space() -> UnicodeText:
    """The space of prompts that are one text."""
    return UnicodeText(_LONGEST)


class ChatSpace(spaces.Sequence):
    """The space of prompts that are chat messages."""

    def __init__(self) -> None:
        text = UnicodeText(_LONGEST)
        super().__init__(spaces.Dict({"role": text, "content": text}))


# Gymnasium's own error for a sequence does not name a remedy.
create_shared_memory.register(ChatSpace, no_shared_memory)


class PromptObservation(gym.ObservationWrapper[str, str, Observation], RecordConstructorArgs):
    """The observation as one text, rendered by the dialect's template or the user's.

    Args:
        env: An AtomMem environment.
        template: A Jinja2 file that replaces the dialect's template, see :class:`atommem_gym.prompts.PromptTemplate`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = PromptObservation(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"))
        >>> prompt, info = env.reset(seed=1)
        >>> "<create>" in prompt and "Document 1:" in prompt
        True
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str], template: str | Path | None = None) -> None:
        RecordConstructorArgs.__init__(self, template=template)
        base = plain_base(self, env)
        check_observations(self, env, base)
        gym.ObservationWrapper.__init__(self, env)
        self.template = PromptTemplate(base.config, template)
        self.observation_space = prompt_space()

    def observation(self, observation: Observation) -> str:
        """System and user part in one text."""
        return self.template.text(observation)


class ChatObservation(gym.ObservationWrapper[Messages, str, Observation], RecordConstructorArgs):
    """The observation as chat messages: a system and a user message, without history.

    Args:
        env: An AtomMem environment.
        template: A Jinja2 file that replaces the dialect's template, see :class:`atommem_gym.prompts.PromptTemplate`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = ChatObservation(gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy"))
        >>> messages, info = env.reset(seed=1)
        >>> [message["role"] for message in messages]
        ['system', 'user']
        >>> env.close()
    """

    def __init__(self, env: gym.Env[Observation, str], template: str | Path | None = None) -> None:
        RecordConstructorArgs.__init__(self, template=template)
        base = plain_base(self, env)
        check_observations(self, env, base)
        gym.ObservationWrapper.__init__(self, env)
        self.template = PromptTemplate(base.config, template)
        self.observation_space = ChatSpace()

    def observation(self, observation: Observation) -> Messages:
        """System and user message."""
        return tuple(self.template.messages(observation))
