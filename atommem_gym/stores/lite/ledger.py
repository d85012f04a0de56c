"""Records what a kept database acknowledged, so that a loss or a change is noticed (SPEC M17).

The engine checks little of what it reads: a flipped bit in a Parquet file gives another text, a damaged manifest the
memory of an earlier session. So the folder has an additional file with a checksum of each row that a write
acknowledged. Lines are appended, a write costs two small system calls, and each line carries its own
checksum. A line is appended before the engine writes, marked as under way, and is marked as acknowledged when the
engine is done: after a crash a memory may be in the state before or after the last line under way, and in no other.

A closed database is sealed: the last line has the size and checksum of every file, so that the next opening need
not read the rows to know that they match.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atommem_gym.errors import StoreError, is_integer
from atommem_gym.memory.protocols import StoredEpisode, Write
from atommem_gym.stores.milvus_rows import FORMAT

LEDGER = "acknowledged.log"
LOCK = "LOCK"
"""The engine's file whose lock says that a process has the folder open."""
COLLECTIONS = "collections"
"""The engine's folder of collections."""
_NOT_SEALED = {LEDGER, LEDGER + ".new", LOCK}
_DONE, _UNDER_WAY = b"+", b"~"
_UNREADABLE = (ValueError, KeyError, TypeError, IndexError, AttributeError, OverflowError, RecursionError)
"""What a line may raise that is JSON of another form, or none."""


@dataclass(slots=True)
class Contents:
    """Checksums of all that is kept of one memory."""

    entries: dict[int, int] = field(default_factory=dict)
    """Checksum of each row, by entry id."""
    state: int | None = None
    """Checksum of the state; ``None`` if there is none."""

    @classmethod
    def of(cls, key: str, stored: StoredEpisode | None) -> Contents:
        """The checksums of a memory as it was read from a store."""
        if stored is None:
            return cls()
        sums = (
            checksum(key, entry, text, vector)
            for entry, text, vector in zip(stored.ids.tolist(), stored.texts, stored.vectors, strict=True)
        )
        return cls(dict(zip(stored.ids.tolist(), sums, strict=True)), _checksum_of_state(stored.state))

    def apply(self, ids: Sequence[int], sums: Sequence[int], deletes: Sequence[int], state: int | None) -> None:
        """Apply one write: checksums of the entries ``ids``, deleted ids, and the state's checksum if it changed."""
        self.entries.update(zip(ids, sums, strict=True))
        for entry in deletes:
            self.entries.pop(entry, None)
        if state is not None:
            self.state = state

    def copy(self) -> Contents:
        """A copy that can be changed independently."""
        return Contents(dict(self.entries), self.state)

    def differences(self, found: Contents) -> str:
        """How ``found`` differs from these contents, in words; empty if it does not."""
        missing = sorted(self.entries.keys() - found.entries.keys())
        extra = sorted(found.entries.keys() - self.entries.keys())
        changed = sorted(i for i in self.entries.keys() & found.entries.keys() if self.entries[i] != found.entries[i])
        said = []
        if missing:
            said.append(f"{len(missing)} of {len(self.entries)} acknowledged entries are missing ({_some(missing)})")
        if changed:
            said.append(f"{len(changed)} entries do not match their checksum ({_some(changed)})")
        if extra:
            said.append(f"{len(extra)} entries were never acknowledged or were deleted ({_some(extra)})")
        if self.state != found.state:
            said.append("its state (next id, scratchpad) is not the one that was acknowledged")
        return "; ".join(said)


def checksum(key: str, entry: int, text: str, vector: Any) -> int:
    """The checksum of a row: over episode key, entry id, text and the bytes of the float32 vector."""
    head = f"{key}:{entry:d}\n{text}".encode("utf-8", "surrogatepass")
    return zlib.crc32(np.ascontiguousarray(vector, np.float32).tobytes(), zlib.crc32(head))


def checksum_of_text(text: str) -> int:
    """The checksum of a text alone."""
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def how_to_save(path: str) -> str:
    """The remedy for a damaged database, for messages."""
    return (
        f"nothing was written; save what is intact with `atommem memory export {path}`, or put the folder back from a "
        "copy"
    )


class Ledger:
    """The ledger of one database folder; made by :meth:`read` or :meth:`create`."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self.meta: int | None = None
        """Checksum of the row that describes the database; ``None`` if not known, which is not checked."""
        self.memories: dict[str, list[Contents]] = {}
        """The contents of each memory by key; several possible ones where a write was cut off."""
        self.sealed: dict[str, list[int]] | None = None
        """Size and checksum of every file by path; ``None`` once anything was written."""
        self._path = os.path.join(folder, LEDGER)
        self._end = 0
        self._handle: io.FileIO | None = None

    @classmethod
    def read(cls, folder: str, where: str | None = None) -> Ledger | None:
        """Read the ledger in a folder; ``None`` if there is none.

        Args:
            folder: The database folder, or a copy of it.
            where: The database in messages; by default ``folder``.

        Raises:
            StoreError: it is damaged, cannot be read, or has a newer format.
        """
        ledger = cls(folder)
        where = where or folder
        try:
            with open(ledger._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(f"the database {where!r} cannot be read ({error}); check its rights") from error
        # An incomplete last line was being written when its process died.
        ledger._end = data.rfind(b"\n") + 1
        for number, line in enumerate(data[: ledger._end].splitlines(), 1):
            try:
                ledger._replay(line)
                found = ledger._format(line) if number == 1 else 0
            except _UNREADABLE as error:
                raise StoreError(
                    f"the database {where!r} is damaged: line {number} of its {LEDGER} cannot be read "
                    f"({str(error)[:200]}); " + how_to_save(where)
                ) from error
            if number == 1 and found > FORMAT:
                raise StoreError(
                    f"the database {where!r} has format {found}, and this version of atommem-gym knows "
                    f"formats up to {FORMAT}; nothing was written: use a newer version"
                )
        for key, possible in ledger.memories.items():
            if not isinstance(key, str) or not all(is_integer(entry) for one in possible for entry in one.entries):
                raise StoreError(
                    f"the database {where!r} is damaged: its {LEDGER} names a memory or an entry by {key!r:.40}, which "
                    "is no key or has no ids; " + how_to_save(where)
                )
        if not ledger._end:
            raise StoreError(f"the database {where!r} is damaged: its {LEDGER} is empty; " + how_to_save(where))
        return ledger

    @classmethod
    def create(cls, folder: str, found: dict[str, Contents]) -> Ledger:
        """Write a new ledger into a folder that has none, with the memories that were found there.

        Raises:
            OSError: the disk refused.
        """
        ledger = cls(folder)
        ledger.memories = {key: [contents] for key, contents in found.items()}
        ledger._rewrite()
        return ledger

    def is_whole(self) -> bool:
        """Whether the file still ends where reading ended: nothing was written since, and no line was cut off."""
        with contextlib.suppress(OSError):
            return os.path.getsize(self._path) == self._end
        return False

    def files(self) -> dict[str, list[int]]:
        """Size and checksum of every file of the database, by path."""
        found = {}
        for root, _, names in os.walk(self.folder):
            for name in names:
                path = os.path.join(root, name)
                relative = os.path.relpath(path, self.folder).replace(os.sep, "/")
                if relative not in _NOT_SEALED:
                    found[relative] = _size_and_checksum(path)
        return found

    def settle(self, found: dict[str, Contents]) -> str:
        """Compare each memory with its possible contents, and keep the one that was found.

        Returns:
            What is wrong, in words; empty if nothing is.
        """
        said = []
        for key in sorted(self.memories.keys() | found.keys()):
            possible, there = self.memories.get(key, [Contents()]), found.get(key, Contents())
            if there in possible:
                self.memories[key] = [there]
            else:
                said.append(f"memory {key!r}: {possible[0].differences(there)}")
        return "; ".join(said[:5]) + (f"; and {len(said) - 5} memories more" if len(said) > 5 else "")

    @contextlib.contextmanager
    def writing(self, writes: Sequence[Write]) -> Iterator[None]:
        """Record these writes; the block carries them out."""
        lines = []
        for write in writes:
            ids = [int(entry) for entry in write.ids]
            sums = [
                checksum(write.episode, entry, text, vector)
                for entry, text, vector in zip(ids, write.texts, write.vectors, strict=True)
            ]
            deletes = [int(entry) for entry in write.deletes]
            lines.append([write.episode, ids, sums, deletes, _checksum_of_state(write.state)])
        with self._noting(["writes", lines]):
            yield

    @contextlib.contextmanager
    def dropping(self, keys: Sequence[str]) -> Iterator[None]:
        """Record that these memories are deleted; the block deletes them."""
        with self._noting(["drops", [key for key in keys if key in self.memories]]):
            yield

    @contextlib.contextmanager
    def describing(self, text: str) -> Iterator[None]:
        """Record the text that describes the database; the block writes it."""
        with self._noting(["meta", checksum_of_text(text)]):
            yield

    def seal(self) -> None:
        """Rewrite the ledger with the present contents and the checksums of all files, which must not change again."""
        self.close()
        self.sealed = self.files()
        self._rewrite()

    def close(self) -> None:
        """Close the file."""
        handle, self._handle = self._handle, None
        if handle is not None:
            handle.close()

    @contextlib.contextmanager
    def _noting(self, said: list[Any]) -> Iterator[None]:
        start = self._end
        try:
            self._append(said)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.truncate(self._path, start)
            raise StoreError(
                f"the database {self.folder!r} could not be written: {error}; free space or fix the disk, then repeat "
                "the same call"
            ) from error
        try:
            yield
        except BaseException:
            self._possible(said)
            raise
        self._put(start, _DONE)
        self._done(said)

    def _append(self, said: list[Any]) -> None:
        line = _line(_UNDER_WAY, said)
        self._put(self._end, line)
        self._end += len(line)
        self.sealed = None

    def _put(self, at: int, data: bytes) -> None:
        if self._handle is None:
            # Unbuffered: what is written is with the operating system, which outlives the process.
            self._handle = io.FileIO(self._path, "r+")
        self._handle.seek(at)
        while data:
            data = data[self._handle.write(data) :]

    def _replay(self, line: bytes) -> None:
        mark, said = line[:1], json.loads(line[10:])
        if mark not in (_DONE, _UNDER_WAY) or int(line[1:9], 16) != zlib.crc32(line[10:]):
            raise ValueError("its checksum is wrong")
        self.sealed = None
        if said[0] == "sealed":
            self.sealed = said[1]
        elif said[0] != "format":
            (self._done if mark == _DONE else self._possible)(said)

    def _format(self, line: bytes) -> int:
        said = json.loads(line[10:])
        return int(said[1]) if said[0] == "format" else 0

    def _done(self, said: list[Any]) -> None:
        """Apply changes that were made."""
        kind, what = said[0], said[1]
        if kind == "writes":
            for key, *changes in what:
                possible = self.memories.setdefault(key, [Contents()])
                for contents in possible:
                    contents.apply(*changes)
                if len(possible) > 1:
                    self.memories[key] = _different(possible)
        elif kind == "drops":
            for key in what:
                self.memories.pop(key, None)
        elif kind == "meta":
            self.meta = what
        elif kind == "holds":
            self.memories[what] = [Contents({int(i): n for i, n in said[2].items()}, said[3])]
        else:
            raise ValueError(f"unknown kind {kind!r}")

    def _possible(self, said: list[Any]) -> None:
        """Note changes that may have been made: both states are possible from now on."""
        before = {key: [contents.copy() for contents in self.memories.get(key, [Contents()])] for key in _keys(said)}
        meta = self.meta
        self._done(said)
        # The row that describes the database is written again if its checksum is not known.
        self.meta = meta
        for key, contents in before.items():
            self.memories[key] = _different([*contents, *self.memories.get(key, [Contents()])])

    def _rewrite(self) -> None:
        out = [_line(_DONE, ["format", FORMAT])]
        if self.meta is not None:
            out.append(_line(_DONE, ["meta", self.meta]))
        for key, possible in sorted(self.memories.items()):
            # Several possible contents stay possible: the first as it is, each other one as a write that was cut off.
            out.append(_line(_DONE, ["holds", key, possible[0].entries, possible[0].state]))
            for other in possible[1:]:
                gone = sorted(possible[0].entries.keys() - other.entries.keys())
                change = [key, list(other.entries), list(other.entries.values()), gone, other.state]
                out.append(_line(_UNDER_WAY, ["writes", [change]]))
        if self.sealed is not None:
            out.append(_line(_DONE, ["sealed", self.sealed]))
        data = b"".join(out)
        with open(self._path + ".new", "wb") as file:
            file.write(data)
        os.replace(self._path + ".new", self._path)
        self._end = len(data)


def _line(mark: bytes, said: list[Any]) -> bytes:
    body = json.dumps(said, separators=(",", ":")).encode()
    return b"%b%08x %b\n" % (mark, zlib.crc32(body), body)


def _keys(said: list[Any]) -> list[str]:
    if said[0] == "writes":
        return [change[0] for change in said[1]]
    return list(said[1]) if said[0] == "drops" else []


def _different(possible: list[Contents]) -> list[Contents]:
    found: list[Contents] = []
    for contents in possible:
        if contents not in found:
            found.append(contents)
    return found


def _checksum_of_state(state: str | None) -> int | None:
    return None if state is None else checksum_of_text(state)


def _size_and_checksum(path: str) -> list[int]:
    size, found = 0, 0
    with open(path, "rb") as file:
        while part := file.read(2**20):
            size += len(part)
            found = zlib.crc32(part, found)
    return [size, found]


def _some(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:6])) + (" …" if len(ids) > 6 else "")
