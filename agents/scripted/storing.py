"""The base of the agents that store: they read documents, store some of them, and answer by one reading policy."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from atommem_gym.actions import Operation
from atommem_gym.config import EnvConfig
from atommem_gym.episode import Episode
from atommem_gym.policies.answering import Reader, ReadingPolicy
from atommem_gym.policies.documents import DocumentReader
from atommem_gym.policies.oracle_reader import OracleReader
from atommem_gym.policies.writing import ActionWriter
from atommem_gym.records.record import Document
from atommem_gym.step import Observation, Phase
from atommem_gym.tokenizers import Tokenizer, load_tokenizer


class StoringAgent(ABC):
    """Base of the storing agents; a subclass chooses what to store of the documents.

    Its answers come from the :class:`~atommem_gym.policies.oracle_reader.OracleReader`, so its score measures memory
    and retrieval, not reading.
    """

    name: str
    """For tables and traces."""
    config: EnvConfig
    """The environment's keyword arguments; set by ``reset``."""
    tokenizer: Tokenizer
    """The environment's tokenizer; set by ``reset``."""
    notes: str
    """The text that the agent has put into the scratchpad."""

    def reset(self, episode: Episode, seed: int) -> None:
        """Get ready for an episode; these agents draw nothing at random, so ``seed`` makes no difference."""
        self.config = episode.config
        self.tokenizer = load_tokenizer(self.config.tokenizer)
        self.notes = ""
        self._documents = DocumentReader(self.config)
        self._reader = self.make_reader(episode)
        self._policy = ReadingPolicy(self.config, self.tokenizer, self._reader)
        self._writer = ActionWriter(self.config)

    def make_reader(self, episode: Episode) -> Reader:
        """The reader that answers; a subclass replaces it where there are no gold answers."""
        return OracleReader(episode)

    def act(self, observation: Observation) -> str:
        """Act by :meth:`remember` while reading, then by the reading policy."""
        operations: Sequence[Operation]
        if observation["phase"] == Phase.READING:
            self._policy.expect(observation["question"].count("\n") + 1)
            operations = self.remember(self._documents.read(observation), observation)
        elif self._writer.waiting and observation["steps_left"] > 1:
            operations = ()
        else:
            operations = self.answer(observation)
        return self._writer.write(operations, observation)

    @abstractmethod
    def remember(self, documents: Sequence[Document], observation: Observation) -> Sequence[Operation]:
        """The operations for the documents that this chunk completes; called at each step of the reading phase."""

    def answer(self, observation: Observation) -> Sequence[Operation]:
        """The operations for the open question: a read or the answer."""
        return self._policy.operations(observation, self.notes)
