"""The ADD-only baseline: stores every document and leaves all selection to retrieval."""

from __future__ import annotations

from collections.abc import Sequence

from atommem_gym.actions import Create, Operation
from atommem_gym.agents.scripted.storing import StoringAgent
from atommem_gym.policies.documents import entries
from atommem_gym.records.record import Document
from atommem_gym.step import Observation


class KeepAllAgent(StoringAgent):
    """Stores each document as one entry, or as several if it is too long for one. Never updates or deletes."""

    name = "keep_all"

    def remember(self, documents: Sequence[Document], observation: Observation) -> Sequence[Operation]:
        """A create for each new document, or for each piece of a long one."""
        limit = self.config.max_entry_tokens
        return [Create(text) for document in documents for text in entries(document, self.tokenizer, limit)]
