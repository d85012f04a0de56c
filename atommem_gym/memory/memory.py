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

_LARGEST_ID = 2**63 - 1
"""Stores keep ids as 64-bit integers."""


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
    """Most tokens of an entry; a longer text is cut."""
    scratchpad_tokens: int
    """Most tokens of the scratchpad; a longer text is cut."""
    entries: int | None
    """Most live entries; a create beyond them is rejected. ``None``: no limit."""
    watched: tuple[str, ...] = ()
    """Codes as :func:`squeezed` writes them; every entry remembers which of them it ever held (SPEC D9)."""

    def codes_in(self, text: str) -> tuple[str, ...]:
        """The watched codes that occur in ``text``, in the order of ``watched``."""
        if not self.watched:
            return ()
        within = squeezed(text)
        return tuple(code for code in self.watched if code in within)


class Outcome(NamedTuple):
    """The result of one operation on a :class:`Draft`."""

    applied: bool
    """Whether the draft holds the change; a rejected operation changes nothing."""
    id: int | None = None
    """The entry that was created, updated or deleted; ``None`` if there is none."""
    reason: str | None = None
    """A stable code: why the operation was rejected, or ``"cut"`` if it was applied with a shortened text."""
    detail: str = ""
    replaced: int | None = None
    """The entry that the new entry ``id`` takes the place of (``preset="released"``)."""


@dataclass(slots=True)
class Memory:
    """Long-term entries by id, the next id, and the scratchpad."""

    entries: dict[int, Entry] = field(default_factory=dict)
    """Live entries by id."""
    next_id: int = 1
    """The id of the next entry that is created (SPEC M1)."""
    scratchpad: str = ""
    """The text of the scratchpad."""

    def copy(self) -> Memory:
        """A copy that can be changed without changing this memory."""
        return Memory(self.entries.copy(), self.next_id, self.scratchpad)

    def kept_state(self, embedder: str) -> str:
        """JSON of what a kept database needs besides the entries to go on: next id, scratchpad, embedder (SPEC M13)."""
        return json.dumps({"next_id": self.next_id, "scratchpad": self.scratchpad, "embedder": embedder})

    @classmethod
    def from_kept(
        cls, key: str, ids: Sequence[int], texts: Sequence[str], state: str | None, embedder: str, tokenizer: Tokenizer
    ) -> Memory:
        """The memory that a database kept under ``key``.

        Args:
            key: The key of the memory, for messages.
            ids: The ids of its entries, ``[n]``.
            texts: Their texts, ``[n]``.
            state: What :meth:`kept_state` gave when the memory was last written.
            embedder: The name of the embedder in use.
            tokenizer: Counts the tokens of the entries.

        Raises:
            StoreError: it was written with another embedder, or its state is unreadable or contradicts the entries.
        """
        next_id, scratchpad, written_with = read_state(key, ids, state)
        if written_with != embedder:
            raise StoreError(
                f"the memory {key!r} was written with embedder {written_with!r}, this environment uses {embedder!r}: "
                f"their vectors cannot be compared; make the environment with embedder {written_with!r} (the part "
                "after a colon is its embedder_options)"
            )
        counts = tokenizer.counts(list(texts))
        entries = {i: Entry(text, n) for i, text, n in sorted(zip(ids, texts, counts, strict=True))}
        return cls(entries, next_id, scratchpad)


def read_state(key: str, ids: Sequence[int], state: str | None) -> tuple[int, str, str]:
    """Read next id, scratchpad and embedder name from what :meth:`Memory.kept_state` wrote (SPEC M17).

    Args:
        key: The key of the memory, for messages.
        ids: The ids of its entries.
        state: The JSON text; ``None`` if the database has none.

    Raises:
        StoreError: it is unreadable, or its next id is not above every id, so that a create would overwrite an entry.
    """
    try:
        kept: dict[str, Any] = json.loads(state or "")
        next_id, scratchpad, embedder = kept["next_id"], kept["scratchpad"], kept["embedder"]
        if type(next_id) is not int or not isinstance(scratchpad, str) or not isinstance(embedder, str):
            raise TypeError(f"next_id {next_id!r:.40}, scratchpad and embedder must be an integer and two texts")
        if next_id > _LARGEST_ID:
            raise ValueError(f"next_id {next_id!r:.40} is larger than a store can hold")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(
            f"the memory {key!r} has no readable state ({error!r:.200}); it was not written by a kept store, or is "
            "damaged; nothing was written, and `atommem memory export` saves its entries"
        ) from error
    if next_id <= max(ids, default=0):
        raise StoreError(
            f"the memory {key!r} has an inconsistent state: its next id is {next_id}, but it has an entry {max(ids)}, "
            "which a create would overwrite; nothing was written, and `atommem memory export` saves its entries"
        )
    return next_id, scratchpad, embedder


class Draft:
    """The operations of one action on a memory: decided, not yet applied.

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
        """How many entries are live after the commit."""
        new = sum(1 for i in self._written if i not in self._memory.entries)
        return len(self._memory.entries) + new - len(self._deleted)

    def entry(self, entry_id: int) -> Entry | None:
        """The entry with this id as it is after the commit; ``None`` if there is none."""
        if entry_id in self._deleted:
            return None
        return self._written.get(entry_id) or self._memory.entries.get(entry_id)

    def find(self, text: str) -> int | None:
        """The lowest id of an entry with exactly this text after the commit; ``None`` if there is none."""
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
        """The scratchpad after the commit."""
        return self._scratchpad

    @property
    def changes_kept_state(self) -> bool:
        """Whether :meth:`Memory.kept_state` will differ after the commit."""
        return self._next_id != self._memory.next_id or self._scratchpad != self._memory.scratchpad

    def create(self, text: str, before: Entry | None = None) -> Outcome:
        """Add an entry under the next id (SPEC M1, M3).

        Args:
            text: The text of the entry.
            before: The entry that it takes the place of; it inherits that one's ``held`` codes.
        """
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
        """The memory after the commit, without its entries (for :meth:`Memory.kept_state`)."""
        return Memory({}, self._next_id, self._scratchpad)

    def commit(self) -> None:
        """Apply the draft to the memory."""
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
        """The text within its limit, and reason and detail if it was cut."""
        kept = self._tokenizer.cut(text, limit).rstrip()
        rule = f"a text may have {limit} tokens"
        if 4 * len(kept) > MAX_TEXT_BYTES and len(kept.encode()) > MAX_TEXT_BYTES:
            kept = kept.encode()[:MAX_TEXT_BYTES].decode(errors="ignore").rstrip()
            rule = f"a text may have {MAX_TEXT_BYTES} bytes"
        if kept == text:
            return text, ()
        return kept, ("cut", f"{rule}; the last {len(text) - len(kept)} of its {len(text)} characters are gone")


def squeezed(text: str) -> str:
    """The form in which a text is searched for codes: normalised like an answer, letters and digits only (SPEC D9).

    >>> squeezed("The code is  7QK2 – m4xp!")
    'codeis7qk2m4xp'
    """
    # NFKC, so that full-width letters and combining marks do not hide a code.
    return "".join(filter(str.isalnum, normalize(unicodedata.normalize("NFKC", text))))


def _unknown(entry_id: int) -> Outcome:
    return Outcome(False, reason="unknown_id", detail=f"there is no entry {entry_id}")
