"""The ceiling: memory and retrieval when exactly the gold evidence is stored."""

from __future__ import annotations

from collections.abc import Sequence

from atommem_gym.actions import Create, Operation, Scratchpad
from atommem_gym.agents.scripted.storing import StoringAgent
from atommem_gym.episode import Episode
from atommem_gym.evidence import holds
from atommem_gym.policies.answering import fill
from atommem_gym.policies.documents import harmless, split
from atommem_gym.readers.oracle import says
from atommem_gym.records.record import Document, Evidence
from atommem_gym.step import Observation


class OracleAgent(StoringAgent):
    """Stores only the gold evidence of the questions, one entry for each document that holds some.

    PRIVILEGED: it looks at the item's evidence. Evidence longer than an entry is stored in pieces under consecutive
    ids. Where entries cannot be created or read, evidence goes into the scratchpad, as much as fits. For a question
    that names no evidence it stores the lines that contain an accepted answer.
    """

    name = "oracle"

    def reset(self, episode: Episode, seed: int) -> None:
        """Note the evidence to look for."""
        super().reset(episode, seed)
        needed = (piece for question in episode.item.questions for piece in question.evidence)
        self._needed: list[Evidence] = list(dict.fromkeys(needed))
        unnamed = (question for question in episode.item.questions if not question.evidence)
        self._answers = list(dict.fromkeys(answer for question in unnamed for answer in question.answers))
        """Accepted answers of the questions that name no evidence; a line that contains one is stored instead."""

    def remember(self, documents: Sequence[Document], observation: Observation) -> Sequence[Operation]:
        """Creates for the evidence in the new documents that is not stored yet, or the new scratchpad."""
        operations: list[Operation] = []
        for document in documents:
            body = f"{document.title}\n{document.text}"
            found = [piece for piece in self._needed if harmless(piece.title) == document.title and holds(piece, body)]
            lines = self._lines(document) if self._answers else []
            if not found and not lines:
                continue
            self._needed = [piece for piece in self._needed if piece not in found]
            pieces = dict.fromkeys((*(harmless(piece.text) for piece in found), *lines))
            text = "\n".join([document.title, *pieces]).strip()
            if {"create", "read"} <= set(self.config.kinds):
                operations += map(Create, split(text, self.tokenizer, self.config.max_entry_tokens))
            else:
                self.notes = fill([self.notes, text], self.tokenizer, self.config.max_scratchpad_tokens)
                operations = [Scratchpad(self.notes)]
        return operations

    def _lines(self, document: Document) -> list[str]:
        """The lines of a document that contain an answer of a question without evidence."""
        lines = document.text.split("\n")
        return [line for line in lines if any(says(answer, (line,)) for answer in self._answers)]
