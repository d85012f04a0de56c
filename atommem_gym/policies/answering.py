"""The reading policy of storing agents: read, note what was found, read again with names from it, answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from atommem_gym.actions import Answer, Operation, Read, Scratchpad
from atommem_gym.config import EnvConfig
from atommem_gym.policies.documents import harmless
from atommem_gym.policies.words import content_words, names
from atommem_gym.policies.writing import answer
from atommem_gym.step import Observation
from atommem_gym.tokenizers import Tokenizer

MAX_READS = 3
"""Reads per question, at most; the environment may allow fewer."""


class Reader(Protocol):
    """Makes an answer of an observation of the answering phase."""

    def answer(self, observation: Observation) -> str:
        """The answer to the open question."""
        ...


class ReadingPolicy:
    """A fixed rule for the answering phase; its reads depend on the observations alone.

    The query of the first read is the question. Each further query is the question and the names (capitalised words and
    numbers) in the best hit that no query has used yet, because the next hop is often named there. (With all words of
    the hit, reads find as much on real records and less on synthetic ones.) The scratchpad holds what was found, best
    first.

    It reads ``MAX_READS`` times, as far as the environment allows and an unused hit is left. It does not stop when the
    evidence is complete, because it cannot know that. The reader gives the answer; in an environment with a frozen
    reader, that one does (SPEC E13).

    Args:
        config: The environment's keyword arguments.
        tokenizer: The environment's tokenizer.
        reader: Gives the answers.
    """

    def __init__(self, config: EnvConfig, tokenizer: Tokenizer, reader: Reader) -> None:
        self._config = config
        self._tokenizer = tokenizer
        self._reader = reader
        self._questions_left = 1
        self._start_question()

    def expect(self, questions: int) -> None:
        """Set the number of questions to come, so that a step is kept for each."""
        self._questions_left = max(1, questions)

    def operations(self, observation: Observation, notes: str = "") -> list[Operation]:
        """The operations for an observation of the answering phase: a read, or the answer.

        Args:
            observation: The observation.
            notes: The agent's own text in the scratchpad, which stays at the beginning.
        """
        if self._reads:
            self._collect(observation)
        if self._may_read(observation):
            return self._read_on(observation, notes)
        self._start_question()
        self._questions_left = max(1, self._questions_left - 1)
        return [
            answer(self._reader.answer(observation), self._config.dialect)
            if self._config.policy_answers
            else Answer("")
        ]

    def _start_question(self) -> None:
        self._reads = 0
        self._found: list[str] = []
        self._new: list[str] = []
        """Hits whose names no query has used yet, best first."""

    def _collect(self, observation: Observation) -> None:
        texts = [harmless(memory["text"]) for memory in observation["memories"]]
        new = [text for text in dict.fromkeys(texts) if text and text not in self._found]
        self._found += new
        # Hits of the latest read come first, because they are one hop nearer to the answer.
        self._new = new + self._new

    def _may_read(self, observation: Observation) -> bool:
        spare = observation["steps_left"] - self._questions_left
        wanted = self._reads < MAX_READS and (self._reads == 0 or bool(self._new)) and observation["question"].strip()
        return bool(wanted) and spare > 0 and observation["reads_left"] > 0 and "read" in self._config.kinds

    def _read_on(self, observation: Observation, notes: str) -> list[Operation]:
        question = harmless(observation["question"])
        query = question
        if self._reads:
            hit = self._new.pop(0)
            asked = set(content_words(question))
            query = " ".join([question, *(name for name in names(hit) if name.casefold() not in asked)])
        self._reads += 1
        carried = self._carried(notes)
        return [*([Scratchpad(carried)] if carried and self._found else []), Read(query)]

    def _carried(self, notes: str) -> str:
        """The notes, then what was found, best first, as much as the scratchpad may hold."""
        return fill([notes, *self._found], self._tokenizer, self._config.max_scratchpad_tokens)


def fill(texts: Sequence[str], tokenizer: Tokenizer, limit: int) -> str:
    """The first text, then those of the others, in order, that fit into ``limit`` tokens with it; one per line."""
    kept = [text for text in texts[:1] if text]
    room = limit - sum(map(tokenizer.count, kept))
    for text in texts[1:]:
        tokens = tokenizer.count(text)
        if tokens <= room:
            kept.append(text)
            room -= tokens
    return "\n".join(kept)
