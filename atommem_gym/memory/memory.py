"""Entries and scratchpad of one episode: a pure state machine, changed only through drafts (SPEC M1–M3, M8–M10, D9)."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES
from atommem_gym.scoring import normalize
from atommem_gym.tokenizers import Tokenizer


class Entry(NamedTuple):
    """The text of one entry, and its length in tokens."""

    text: str
    tokens: int
    held: tuple[str, ...] = ()
    """The watched codes that it holds or ever held: an update does not take them away (SPEC D9)."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What memory may hold (SPEC M10)."""

    entry_tokens: int
    scratchpad_tokens: int
    entries: int | None
    watched: tuple[str, ...] = ()
    """Codes, :func:`squeezed`, of which every entry remembers whether it ever held them (SPEC D9)."""

    def codes_in(self, text: str) -> tuple[str, ...]:
        """The watched codes that a text holds."""
        if not self.watched:
            return ()
        within = squeezed(text)
        return tuple(code for code in self.watched if code in within)


class Outcome(NamedTuple):
    """What became of one operation."""

    applied: bool
    id: int | None = None
    reason: str | None = None
    """Why it was rejected or, if ``applied``, what was cut; a stable code."""
    detail: str = ""
    replaced: int | None = None
    """The entry whose place the one with this id has taken (``preset="released"``)."""


@dataclass(slots=True)
class Memory:
    """Long-term entries by id, the next id, and the scratchpad."""

    entries: dict[int, Entry] = field(default_factory=dict)
    next_id: int = 1
    scratchpad: str = ""

    def copy(self) -> Memory:
        """The same memory, which can be changed on its own."""
        return Memory(self.entries.copy(), self.next_id, self.scratchpad)

    def kept_state(self, embedder: str) -> str:
        """What a kept database needs, besides the entries, to go on with this memory (SPEC M13)."""
        return json.dumps({"next_id": self.next_id, "scratchpad": self.scratchpad, "embedder": embedder})

    @classmethod
    def from_kept(
        cls, key: str, ids: Sequence[int], texts: Sequence[str], state: str | None, embedder: str, tokenizer: Tokenizer
    ) -> Memory:
        """The memory that a database kept under ``key``.

        Raises:
            StoreError: it was written with another embedder, or its state is unreadable or contradicts the entries.
        """
        next_id, scratchpad, written_with = read_state(key, ids, state)
        if written_with != embedder:
            raise StoreError(
                f"the memory {key!r} was written with embedder {written_with!r}, this environment uses {embedder!r}: "
                f"their vectors cannot be compared; make the environment with embedder {written_with!r}, in "
                "which what stands after a colon is its embedder_options"
            )
        counts = tokenizer.counts(list(texts))
        entries = {i: Entry(text, n) for i, text, n in sorted(zip(ids, texts, counts, strict=True))}
        return cls(entries, next_id, scratchpad)


def read_state(key: str, ids: Sequence[int], state: str | None) -> tuple[int, str, str]:
    """Next id, scratchpad and name of the embedder in what :meth:`Memory.kept_state` wrote (SPEC M17).

    Args:
        key: Of the memory, for messages.
        ids: Of its entries.
        state: As it was kept.

    Raises:
        StoreError: it is unreadable, or its next id is not above every id, so that a create would overwrite an entry.
    """
    try:
        kept: dict[str, Any] = json.loads(state or "")
        next_id, scratchpad, embedder = kept["next_id"], kept["scratchpad"], kept["embedder"]
        if type(next_id) is not int or not isinstance(scratchpad, str) or not isinstance(embedder, str):
            raise TypeError(f"next_id {next_id!r}, scratchpad and embedder must be an integer and two texts")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"the memory {key!r} has no readable state ({error!r}); it was not written by a kept store, or is damaged; "
            "nothing was written, and `atommem memory export` saves its entries"
        ) from error
    if next_id <= max(ids, default=0):
        raise StoreError(
            f"the memory {key!r} has an inconsistent state: its next id is {next_id}, but it has an entry {max(ids)}, "
            "which a create would overwrite; nothing was written, and `atommem memory export` saves its entries"
        )
    return next_id, scratchpad, embedder


class Draft:
    """The operations of one action on a memory, decided but not yet done.

    Nothing reaches the memory before :meth:`commit`, so a step whose embedding or store fails has changed nothing.
    """

    def __init__(self, memory: Memory, limits: Limits, tokenizer: Tokenizer) -> None:
        self._memory = memory
        self._limits = limits
        self._tokenizer = tokenizer
        self._next_id = memory.next_id
        self._scratchpad = memory.scratchpad
        self._written: dict[int, Entry] = {}
        self._deleted: set[int] = set()

    def __len__(self) -> int:
        """Live entries if the draft were committed."""
        new = sum(1 for i in self._written if i not in self._memory.entries)
        return len(self._memory.entries) + new - len(self._deleted)

    def entry(self, entry_id: int) -> Entry | None:
        """The live entry with this id, as the draft has it."""
        if entry_id in self._deleted:
            return None
        return self._written.get(entry_id) or self._memory.entries.get(entry_id)

    def find(self, text: str) -> int | None:
        """The lowest id of a live entry with exactly this text."""
        ids = sorted(self._memory.entries.keys() | self._written.keys())
        return next((i for i in ids if (entry := self.entry(i)) is not None and entry.text == text), None)

    @property
    def writes(self) -> dict[int, Entry]:
        """Entries to insert or replace in the store."""
        return self._written

    @property
    def deletes(self) -> list[int]:
        """Ids to delete from the store, ascending; an entry created and deleted in one action never gets there."""
        return sorted(self._deleted)

    @property
    def scratchpad(self) -> str:
        """The scratchpad as the draft has it."""
        return self._scratchpad

    @property
    def changes_kept_state(self) -> bool:
        """Whether :meth:`Memory.kept_state` will differ after the commit."""
        return self._next_id != self._memory.next_id or self._scratchpad != self._memory.scratchpad

    def create(self, text: str, before: Entry | None = None) -> Outcome:
        """Add an entry under the next id (SPEC M1, M3); ``before`` is the entry whose place and history it takes."""
        if self._limits.entries is not None and len(self) >= self._limits.entries:
            return Outcome(
                False, reason="memory_full", detail=f"memory holds its limit of {self._limits.entries} entries"
            )
        entry, cut = self._entry(text, before)
        entry_id = self._next_id
        self._next_id += 1
        self._written[entry_id] = entry
        return Outcome(True, entry_id, *cut)

    def update(self, entry_id: int, text: str) -> Outcome:
        """Replace the text of a live entry, which keeps its id and its history (SPEC M8, D9)."""
        before = self.entry(entry_id)
        if before is None:
            return _unknown(entry_id)
        self._written[entry_id], cut = self._entry(text, before)
        return Outcome(True, entry_id, *cut)

    def delete(self, entry_id: int) -> Outcome:
        """Remove a live entry for good (SPEC M8)."""
        if self.entry(entry_id) is None:
            return _unknown(entry_id)
        self._written.pop(entry_id, None)
        if entry_id in self._memory.entries:
            self._deleted.add(entry_id)
        return Outcome(True, entry_id)

    def write_scratchpad(self, text: str) -> Outcome:
        """Replace the scratchpad whole (SPEC M9)."""
        self._scratchpad, cut = self._cut(text, self._limits.scratchpad_tokens)
        return Outcome(True, None, *cut)

    def committed(self) -> Memory:
        """The memory as it will be after the commit, the entries left out (for :meth:`Memory.kept_state`)."""
        return Memory({}, self._next_id, self._scratchpad)

    def commit(self) -> None:
        """Do what was decided."""
        for entry_id in self._deleted:
            del self._memory.entries[entry_id]
        self._memory.entries.update(self._written)
        self._memory.next_id = self._next_id
        self._memory.scratchpad = self._scratchpad

    def _entry(self, text: str, before: Entry | None) -> tuple[Entry, tuple[str, str] | tuple[()]]:
        text, cut = self._cut(text, self._limits.entry_tokens)
        held = self._limits.codes_in(text)
        if before is not None:
            # An entry of a kept memory brings its text along, but no history.
            held = tuple(dict.fromkeys((*before.held, *self._limits.codes_in(before.text), *held)))
        return Entry(text, self._tokenizer.count(text), held), cut

    def _cut(self, text: str, limit: int) -> tuple[str, tuple[str, str] | tuple[()]]:
        """The text within its limit, and reason and detail if something had to go."""
        kept = self._tokenizer.cut(text, limit).rstrip()
        rule = f"a text may have {limit} tokens"
        if 4 * len(kept) > MAX_TEXT_BYTES and len(kept.encode()) > MAX_TEXT_BYTES:
            kept = kept.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").rstrip()
            rule = f"a text may have {MAX_TEXT_BYTES} bytes"
        if kept == text:
            return text, ()
        return kept, ("cut", f"{rule}; the last {len(text) - len(kept)} of its {len(text)} characters are gone")


def squeezed(text: str) -> str:
    """A text as codes are looked for in it: normalised as answers are, without spaces and punctuation (SPEC D9).

    >>> squeezed("The code is  7QK2 – m4xp!")
    'codeis7qk2m4xp'
    """
    # Full-width letters and combining marks say the same.
    return "".join(filter(str.isalnum, normalize(unicodedata.normalize("NFKC", text))))


def _unknown(entry_id: int) -> Outcome:
    return Outcome(False, reason="unknown_id", detail=f"there is no entry {entry_id}")
