"""The protocol of agents: a name and two methods, and what an agent may look at."""

from __future__ import annotations

from typing import Protocol

from atommem_gym.episode import Episode
from atommem_gym.step import Observation


class Agent(Protocol):
    """Turns observations into action texts, one episode after the other.

    ``reset`` hands over the whole running episode, because scripted agents need its config (dialect, limits, which
    operations exist). Its item holds the answers: only ``OracleReader`` and ``OracleAgent`` look at it.
    """

    name: str
    """For tables and traces."""

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget everything and get ready for an episode; called after the environment's reset, before the first act.

        Args:
            episode: The running episode.
            seed: Seed for this episode. The same seed, item and observations give the same actions.
        """
        ...

    def act(self, observation: Observation) -> str:
        """The action for an observation (SPEC E10), as text in the environment's dialect."""
        ...
