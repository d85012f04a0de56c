"""Keeps memory in order by simple rules: the baseline that uses updates and deletes without learning."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from atommem_gym.actions import Create, Delete, Operation, Read, Update, tag_names
from atommem_gym.agents.scripted.storing import StoringAgent
from atommem_gym.episode import Episode
from atommem_gym.policies.documents import entries
from atommem_gym.policies.requests import asked_to_erase, names, without
from atommem_gym.policies.words import Rarity, content_words, question_words
from atommem_gym.records.record import Document
from atommem_gym.step import Observation

BUDGET = 64
"""Entries at most, unless ``max_entries`` allows fewer."""
_CREATED = re.compile(r"created (\d+)")


@dataclass(slots=True, eq=False)
class Kept:
    """The agent's own note of an entry."""

    title: str
    """Title of the document that it came from."""
    text: str
    """The entry's text."""
    words: frozenset[str]
    """The content words of title and text."""
    relevance: float = 0.0
    """Weight of the words that it shares with the questions."""
    written: int = 0
    """Number of the chunk, from 1, at which it was last written."""
    id: int | None = None
    """Its id in memory; ``None`` until the feedback confirms the create."""
    unwanted: list[str] = field(default_factory=list)
    """Names in its text that a speaker asked to be erased."""


class TidyAgent(StoringAgent):
    """Keeps the documents that share most words with the questions, under a budget of entries.

    - A document whose title is stored already is merged into that entry by an update, or skipped if it has no new
      words. An entry whose words another entry has as well is deleted.
    - When the budget is full, a more relevant document replaces the least relevant entry: by a delete and a create, or
      by an update where the environment has no delete.
    - While questions are hidden all documents are equally relevant, and new ones win: a full entry loses its first
      lines to new lines under its title, and a new title replaces the entry that has gone longest without a write.
    - What a speaker asks to be erased is erased at once: the entry that names it is deleted, and the rest of its text
      created anew; where the environment has no delete, the entry is updated.
    - Where only shown entries can be addressed (``addressing="visible"``, dialect ``released``), the agent reads the
      text of its least relevant entry at every chunk, so that it can replace that entry at the next chunk.
    """

    name = "tidy"

    def reset(self, episode: Episode, seed: int) -> None:
        """Forget all entries."""
        super().reset(episode, seed)
        most = self.config.max_entries
        self._budget = BUDGET if most is None else min(BUDGET, most)
        self._kept: list[Kept] = []
        self._unconfirmed: deque[Kept] = deque()
        self._rarity = Rarity()
        self._hidden = False
        self._chunks = 0
        create = tag_names(self.config.dialect).get("create", "create")
        self._rejected = re.compile(rf"operation \d+ \({create}\) rejected: ")

    def remember(self, documents: Sequence[Document], observation: Observation) -> Sequence[Operation]:
        """Deletes, updates and creates for the new documents, the most relevant first."""
        self._confirm(observation["feedback"])
        wanted = question_words(observation["question"])
        self._hidden = not wanted
        self._chunks += 1
        candidates = self._candidates(self._obeying(documents))
        for kept in (*self._kept, *candidates):
            kept.relevance = self._rarity.relevance(kept.words, wanted)
        self._addresses = self._addressable(observation)
        operations = [*self._erase(), *self._delete_duplicates()]
        for new in sorted(candidates, key=lambda candidate: -candidate.relevance):
            if new.relevance or not wanted:
                operations += self._store(new)
        return operations + self._look_at_least_relevant(observation)

    def _obeying(self, documents: Sequence[Document]) -> Sequence[Document]:
        """Mark the entries that name what is to be erased; return the documents without it and without the requests."""
        unwanted = asked_to_erase(documents)
        if not unwanted:
            return documents
        for kept in self._kept:
            kept.unwanted += [what for what in unwanted if names(kept.text, [what])]
        return [replace(document, text=without(document.text, unwanted)) for document in documents]

    def _erase(self) -> list[Operation]:
        """Erase what a speaker asked to be erased, in the entries that can be addressed now."""
        operations: list[Operation] = []
        for kept in [one for one in self._kept if one.unwanted and one in self._addresses]:
            text = without(kept.text, kept.unwanted)
            if "delete" in self.config.kinds:
                operations.append(Delete(self._forget(kept)))
                if text.removeprefix(kept.title).strip():
                    words = frozenset(content_words(text))
                    operations += self._create(Kept(kept.title, text, words, kept.relevance, kept.written))
            elif "update" in self.config.kinds:
                kept.text, kept.words, kept.unwanted = text or kept.title, frozenset(content_words(text)), []
                operations.append(Update(self._addresses.pop(kept), kept.text))
        return operations

    def _candidates(self, documents: Sequence[Document]) -> list[Kept]:
        candidates = []
        for document in _by_title(documents):
            for text in entries(document, self.tokenizer, self.config.max_entry_tokens):
                words = frozenset(content_words(f"{document.title} {text}"))
                self._rarity.note(words)
                candidates.append(Kept(document.title, text, words, written=self._chunks))
        return candidates

    def _confirm(self, feedback: str) -> None:
        """Note from the feedback, which keeps their order, the ids of the creates and which were rejected."""
        for line in feedback.split("\n"):
            created = _CREATED.fullmatch(line)
            if created and self._unconfirmed:
                self._unconfirmed.popleft().id = int(created.group(1))
            elif self._rejected.match(line) and self._unconfirmed:
                self._kept.remove(self._unconfirmed.popleft())

    def _addressable(self, observation: Observation) -> dict[Kept, int]:
        """The addresses of the entries that can be addressed now: ids, or positions in dialect ``released``."""
        if self.config.addressing == "id":
            return {kept: kept.id for kept in self._kept if kept.id is not None}
        shown = {
            memory["text"]: position if self.config.dialect == "released" else int(memory["id"])
            for position, memory in enumerate(observation["memories"], 1)
        }
        return {kept: shown[kept.text] for kept in self._kept if kept.text in shown}

    def _delete_duplicates(self) -> list[Operation]:
        operations: list[Operation] = []
        for kept in self._kept.copy():
            if "delete" in self.config.kinds and kept in self._addresses and self._says_it_all(kept):
                operations.append(Delete(self._forget(kept)))
        return operations

    def _says_it_all(self, kept: Kept) -> bool:
        return any(other is not kept and kept.words <= other.words for other in self._kept)

    def _store(self, new: Kept) -> list[Operation]:
        twin = next((kept for kept in self._kept if kept.title == new.title), None)
        if twin is not None and new.words <= twin.words:
            return []
        merged = self._merge(twin, new) if twin is not None else []
        if merged:
            return merged
        if len(self._kept) < self._budget:
            return self._create(new)
        if twin is not None and self._hidden:
            merged = self._merge(twin, new, forgetting=True)
        return merged or self._replace(new)

    def _merge(self, twin: Kept, new: Kept, forgetting: bool = False) -> list[Operation]:
        """Put both texts into ``twin``, if it can be addressed and they fit; ``forgetting`` drops first lines."""
        text = new.text
        if not twin.words <= new.words:
            text = f"{twin.text}\n{new.text.removeprefix(new.title).strip()}"
        if forgetting:
            text = self._without_first_lines(new.title, text)
        fits = self.tokenizer.count(text) <= self.config.max_entry_tokens
        if not fits or twin not in self._addresses or "update" not in self.config.kinds:
            return []
        # An entry is addressed once per action: with preset="released" an updated one changes its position.
        operation = Update(self._addresses.pop(twin), text)
        words = frozenset(content_words(text)) if forgetting else twin.words | new.words
        twin.text, twin.words, twin.relevance = text, words, max(twin.relevance, new.relevance)
        twin.written = self._chunks
        return [operation]

    def _without_first_lines(self, title: str, text: str) -> str:
        lines = text.removeprefix(title).strip().split("\n")
        while len(lines) > 1 and self.tokenizer.count("\n".join([title, *lines])) > self.config.max_entry_tokens:
            del lines[0]
        return "\n".join([title, *lines])

    def _create(self, new: Kept) -> list[Operation]:
        self._kept.append(new)
        self._unconfirmed.append(new)
        return [Create(new.text)]

    def _replace(self, new: Kept) -> list[Operation]:
        """Replace the least relevant addressable entry by a more relevant document; no operation if there is none."""
        victim = min(self._addresses, key=lambda kept: (kept.relevance, kept.written), default=None)
        if victim is None or (victim.relevance >= new.relevance and not self._hidden):
            return []
        if "delete" in self.config.kinds:
            return [Delete(self._forget(victim)), *self._create(new)]
        if "update" in self.config.kinds:
            new.id = victim.id
            self._kept.append(new)
            return [Update(self._forget(victim), new.text)]
        return []

    def _forget(self, kept: Kept) -> int:
        """Take an entry off the list and return its address."""
        self._kept.remove(kept)
        return self._addresses.pop(kept)

    def _look_at_least_relevant(self, observation: Observation) -> list[Operation]:
        unwanted = [kept for kept in self._kept if kept.unwanted]
        if self.config.addressing == "id" or (len(self._kept) < self._budget and not unwanted):
            return []
        # With preset="released" too many reads in a row give the question up, also while reading.
        if self.config.preset == "released" and observation["reads_left"] < 2:
            return []
        return [Read(min(unwanted or self._kept, key=lambda kept: kept.relevance).text)]


def _by_title(documents: Sequence[Document]) -> list[Document]:
    """Join the documents of each title, because an entry is written once per action."""
    texts: dict[str, list[str]] = {}
    for document in documents:
        texts.setdefault(document.title, []).append(document.text)
    return [Document(title, "\n".join(dict.fromkeys(of_title))) for title, of_title in texts.items()]
