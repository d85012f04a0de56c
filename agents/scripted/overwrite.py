"""The scratchpad-only baseline, after MemAgent (arXiv 2507.02259): one short text, rewritten at every chunk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from atommem_gym.actions import Operation, Scratchpad
from atommem_gym.agents.scripted.storing import StoringAgent
from atommem_gym.episode import Episode
from atommem_gym.policies.documents import sentences
from atommem_gym.policies.words import Rarity, content_words, question_words
from atommem_gym.policies.writing import answer
from atommem_gym.records.record import Document
from atommem_gym.step import Observation


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with its place in the stream and its relevance to the questions."""

    document: int
    """Number of its document in the stream, from 0."""
    position: int
    """Number of the sentence in its document, from 0."""
    title: str
    """Title of its document."""
    text: str
    """The sentence."""
    relevance: float
    """Weight of the words that it shares with the questions; 0 if it shares none."""


class OverwriteAgent(StoringAgent):
    """Keeps in the scratchpad the sentences that share most words with the questions, as many as fit.

    At every chunk the kept sentences compete with the new ones. The winners are written in stream order, under their
    titles. While questions are hidden the newest sentences win. The agent uses no other operation, and answers at once
    from the scratchpad.
    """

    name = "overwrite"

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget all sentences."""
        super().reset(episode, seed)
        self._sentences: list[Sentence] = []
        self._documents_read = 0
        self._rarity = Rarity()

    def remember(self, documents: Sequence[Document], observation: Observation) -> Sequence[Operation]:
        """The whole new scratchpad, if it differs from the old one."""
        wanted = question_words(observation["question"])
        for document in documents:
            self._rarity.note(content_words(f"{document.title} {document.text}"))
        for document in documents:
            self._sentences += self._rated(document, wanted)
        self._sentences = self._best(hidden=not wanted)
        before, self.notes = self.notes, _text(self._sentences)
        return [Scratchpad(self.notes)] if self.notes and self.notes != before else []

    def answer(self, observation: Observation) -> Sequence[Operation]:
        """The answer, from the scratchpad alone."""
        return [answer(self._reader.answer(observation), self.config.dialect)]

    def _rated(self, document: Document, wanted: Sequence[str]) -> list[Sentence]:
        number, self._documents_read = self._documents_read, self._documents_read + 1
        return [
            Sentence(
                number,
                position,
                document.title,
                text,
                self._rarity.relevance(content_words(f"{document.title} {text}"), wanted),
            )
            for position, text in enumerate(sentences(document.text))
        ]

    def _best(self, hidden: bool) -> list[Sentence]:
        """The most relevant sentences (the newest if questions are hidden) that fit the scratchpad, in stream order."""
        room = self.config.max_scratchpad_tokens
        kept: list[Sentence] = []
        titled: set[int] = set()
        newest_first = sorted(self._sentences, key=lambda s: (-s.document, s.position))
        for sentence in newest_first if hidden else sorted(self._sentences, key=_by_relevance):
            if not sentence.relevance and kept and not hidden:
                break
            tokens = self.tokenizer.count(sentence.text)
            if sentence.document not in titled:
                tokens += self.tokenizer.count(sentence.title)
            if tokens <= room:
                kept.append(sentence)
                titled.add(sentence.document)
                room -= tokens
        return sorted(kept, key=lambda s: (s.document, s.position))


def _by_relevance(sentence: Sentence) -> tuple[float, int, int]:
    return (-sentence.relevance, sentence.document, sentence.position)


def _text(kept: Sequence[Sentence]) -> str:
    lines: list[str] = []
    document = -1
    for sentence in kept:
        if sentence.document == document:
            lines[-1] += f" {sentence.text}"
        else:
            lines += [sentence.title, sentence.text]
            document = sentence.document
    return "\n".join(lines).strip()
