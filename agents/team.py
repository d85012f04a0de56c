"""Scripted teams: readers that store their own part of the stream, and an answerer that only reads memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from atommem_gym.actions import Operation
from atommem_gym.agents.agent import Agent
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.agents.scripted.oracle import OracleAgent
from atommem_gym.agents.scripted.storing import StoringAgent
from atommem_gym.agents.scripted.tidy import TidyAgent
from atommem_gym.envs.team.episode import ANSWERER, reader_names
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.records.record import Document
from atommem_gym.step import Observation, Phase

Team: TypeAlias = Mapping[str, Agent]
"""The agent of each part, by the name that the environment gives the part."""


class StoringReader(StoringAgent):
    """Base of the readers: stores while its part of the stream lasts, then writes only what is still waiting."""

    def act(self, observation: Observation) -> str:
        """Act as the storing agent while the reader's part lasts; afterwards write what is still waiting."""
        read, chunks = observation["progress"]
        if read >= chunks:
            observation = {**observation, "phase": int(Phase.ANSWERING)}
        return super().act(observation)

    def answer(self, observation: Observation) -> Sequence[Operation]:
        """No operation: the answerer answers."""
        return ()


class KeepAllReader(StoringReader, KeepAllAgent):
    """Stores every document of its part."""


class OracleTeamReader(StoringReader, OracleAgent):
    """Stores only the gold evidence in its part. PRIVILEGED: it looks at the item's evidence."""


class TidyReader(StoringReader, TidyAgent):
    """Keeps the documents of its part that share most words with the questions, under its share of the budget."""

    def __init__(self, readers: int) -> None:
        self._readers = readers

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget all entries; the budget is divided by the number of readers, so a larger team keeps no more in all."""
        super().reset(episode, seed)
        self._budget = max(1, self._budget // self._readers)


class ScriptedAnswerer(StoringAgent):
    """Waits until all is read, then reads memory and answers by the fixed policy of the storing agents.

    Its answers come from the :class:`~atommem_gym.policies.oracle_reader.OracleReader`, so its score measures memory
    and retrieval.
    """

    name = "answerer"

    def act(self, observation: Observation) -> str:
        """Do nothing while the readers read; then read memory and answer."""
        if observation["phase"] == Phase.READING:
            self._policy.expect(observation["question"].count("\n") + 1)
            return ""
        return super().act(observation)

    def remember(self, documents: Sequence[Document], observation: Observation) -> Sequence[Operation]:
        """No operation: the answerer sees no document."""
        return ()


_READERS: dict[str, Callable[[int], Agent]] = {
    "keep_all": lambda readers: KeepAllReader(),
    "tidy": TidyReader,
    "oracle": lambda readers: OracleTeamReader(),
}
TEAMS = tuple(_READERS)
"""The names of the scripted teams; each is the name of the agent that its readers are."""


def make_team(name: str, readers: int) -> Team:
    """The scripted team of this name: its readers, and the answerer, which is the same in every team.

    >>> list(make_team("keep_all", readers=2))
    ['reader_0', 'reader_1', 'answerer_0']

    Args:
        name: One of ``TEAMS``.
        readers: Number of readers, as in the environment.

    Raises:
        ConfigError: no team has this name.
    """
    if name not in _READERS:
        raise ConfigError(f"unknown team {name!r}; {suggestion(name, TEAMS)}")
    team: dict[str, Agent] = {reader: _READERS[name](readers) for reader in reader_names(readers)}
    return {**team, ANSWERER: ScriptedAnswerer()}
