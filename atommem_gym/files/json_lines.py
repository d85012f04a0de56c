"""Files of JSON lines: appended to, each line whole or not at all, by one writer or by many; read without a torn end.

Whoever is killed while it writes leaves a torn last line. Readers skip it, the next writer cuts it away, and both say
so in the log. A last line that lacks nothing but its line end is whole, since no beginning of a JSON object is JSON.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import logging
import os
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping
from io import FileIO
from pathlib import Path
from typing import Any, BinaryIO

from atommem_gym.errors import AtomMemError, reason_of

logger = logging.getLogger(__name__)

_BLOCK = 1 << 20
_HEAD = 1 << 12
_MEMBER = 16 + zlib.MAX_WBITS
"""What makes zlib read gzip members."""
_POLL = 0.005
"""Seconds between two looks whether another process has written its line."""
_LOCK_BESIDE = sys.platform == "win32"
"""Whether a file of its own is locked, ``.NAME.lock``: Windows lets nobody else read what is locked. It is removed at
the end, there."""
_HELD = "it is being written by another process or writer"


class JsonLines:
    """Appends JSON lines to a file, each whole or not at all.

    A line has left the process when :meth:`append` returns: it survives a kill, not a power cut, since nothing is
    synced. What an earlier writer left torn is cut away first.

    Args:
        path: The file; it is made if it is not there, its folder is not.
        error: What to raise.
        remedy: What the user may do after making room or waiting, for the messages.
        gzipped: Each line is a gzip member of its own, so that what stands before it never changes.
        shared: Many processes write the file, each of which has it for one line at a time and waits for its turn.
            Otherwise this one has it until it is closed.
        check: Is given the beginning of the file, and raises if it is no file to append to.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "rows.jsonl"
        >>> with contextlib.closing(JsonLines(path, AtomMemError, "name another file")) as lines:
        ...     lines.append({"row": 1})
        >>> [(number, json.loads(line)) for number, line in read_lines(path)]
        [(1, {'row': 1})]

    Raises:
        AtomMemError: of type ``error``: the file cannot be written, or somebody else has it.
    """

    def __init__(
        self,
        path: Path,
        error: type[AtomMemError],
        remedy: str,
        *,
        gzipped: bool = False,
        shared: bool = False,
        check: Callable[[bytes], None] | None = None,
    ) -> None:
        self.path = path
        self.torn_bytes = 0
        """How much of torn lines it has cut away."""
        self._error = error
        self._remedy = remedy
        self._gzipped = gzipped
        self._check = check
        self._shared = shared
        self._file: FileIO | None = None
        self._held = contextlib.ExitStack()
        if not shared:
            with self._translated(), contextlib.ExitStack() as stack:
                self._file = self._open(stack)
                self._held = stack.pop_all()

    def append(self, line: str | Mapping[str, Any]) -> None:
        """Append a line, whole or not at all.

        Args:
            line: ASCII without a line end, or the values of a JSON object.

        Raises:
            AtomMemError: of type ``error``: it holds something that JSON has not, the file is closed, or it cannot be
                written (disk full); the file is as it was.
        """
        data = f"{line if isinstance(line, str) else self._dumped(line)}\n".encode("ascii")
        if self._gzipped:
            data = gzip.compress(data, 6, mtime=0)
        with self._translated(), contextlib.ExitStack() as stack:
            file = self._open(stack) if self._shared else self._file
            if file is None:
                raise self._error(f"{self.path} is closed; open it again to append to it")
            _append(file, data)

    def close(self) -> None:
        """Let others have the file; closing twice is not an error."""
        self._file = None
        with self._translated():
            self._held.close()

    def _open(self, stack: contextlib.ExitStack) -> FileIO:
        """The file, for this writer alone until the stack is left, and without a torn line."""
        file = stack.enter_context(open(self.path, "a+b", buffering=0))  # noqa: SIM115  (a false alarm)
        stack.enter_context(locked(file, self.path, wait=self._shared))
        self.torn_bytes += self._repair_members(file) if self._gzipped else self._repair_lines(file)
        return file

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise self._error(unwritable(self.path, error, self._remedy)) from error

    def _dumped(self, values: Mapping[str, Any]) -> str:
        try:
            return json.dumps(values, ensure_ascii=True, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise self._error(f"a line of {self.path} would hold something that JSON has not: {error}") from error

    def _repair_lines(self, file: FileIO) -> int:
        size = file.seek(0, os.SEEK_END)
        if self._check is not None:
            file.seek(0)
            self._check(file.read(_HEAD))
        end, tail = size, b""
        while end and b"\n" not in tail:
            # The last byte tells it of all files but a torn one.
            start = max(0, end - (_BLOCK if tail else 1))
            file.seek(start)
            tail, end = file.read(end - start) + tail, start
        torn = tail[tail.rfind(b"\n") + 1 :]
        if not torn:
            return 0
        if _whole(torn):
            _append(file, b"\n")
            return 0
        file.truncate(size - len(torn))
        return _cut(self.path, len(torn))

    def _repair_members(self, file: FileIO) -> int:
        """Cut a gzip file after its last whole member."""
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        whole, head = 0, b""
        for data, end in _members(file, self.path, self._error):
            head = head if len(head) >= _HEAD else head + data[:_HEAD]
            whole = end or whole
        if self._check is not None:
            self._check(head)
        if whole == size:
            return 0
        # Whole lines of the torn member are whole: where only its checksum is missing, or somebody else packed many
        # lines into one member.
        file.seek(whole)
        unpacked = b"".join(data for data, _ in _members(file, self.path, self._error))
        saved = unpacked[: unpacked.rfind(b"\n") + 1]
        if _whole(unpacked[len(saved) :]):
            unpacked = saved = unpacked + b"\n"
        file.truncate(whole)
        if saved:
            _append(file, gzip.compress(saved, 6, mtime=0))
            return _cut(self.path, len(unpacked) - len(saved)) if len(saved) < len(unpacked) else 0
        return _cut(self.path, len(unpacked) or size - whole)


def read_lines(
    path: Path, *, gzipped: bool = False, error: type[AtomMemError] = AtomMemError
) -> Iterator[tuple[int, bytes]]:
    """The lines of a file with something in them, each with its number, from 1.

    A torn last one is left out, and the log says so.

    Raises:
        OSError: the file cannot be read.
        AtomMemError: of type ``error``: the file is not a gzip file, or damaged before its end.
    """
    with open(path, "rb") as file:
        first, rest = 1, b""
        for block in (data for data, _ in _members(file, path, error)) if gzipped else _blocks(file):
            *lines, rest = (rest + block).split(b"\n") if b"\n" in block else (rest + block,)
            for number, line in enumerate(lines, first):
                if line.strip():
                    yield number, line
            first += len(lines)
        if rest.strip():
            if _whole(rest):
                yield first, rest
            else:
                logger.warning(
                    "%s ends in a torn record of %d bytes: whoever wrote it was stopped; it is skipped", path, len(rest)
                )


@contextlib.contextmanager
def locked(file: BinaryIO | FileIO, path: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep a file from all other processes and writers that ask for it in this way; it dies with the process.

    Args:
        file: Open for writing.
        path: Where it goes, or will go.
        wait: Until it is free.

    Raises:
        BlockingIOError: somebody else has it.
        OSError: its file system has no locks.
    """
    # Readers do not need it, and it takes longer to load than all the rest.
    from filelock import FileLock, Timeout, lock_descriptor, unlock_descriptor

    if _LOCK_BESIDE:
        beside = FileLock(path.with_name(f".{path.name}.lock"), thread_local=False, poll_interval=_POLL)
        try:
            beside.acquire(blocking=wait)
        except Timeout:
            raise BlockingIOError(errno.EWOULDBLOCK, _HELD) from None
        try:
            yield
        finally:
            beside.release()
        return
    owner = os.getpid()
    if not lock_descriptor(file.fileno(), blocking=wait, poll_interval=_POLL):
        raise BlockingIOError(errno.EWOULDBLOCK, _HELD)
    try:
        yield
    finally:
        # Closing alone would leave the lock to a fork, which has the descriptor, too, but not what is locked.
        if os.getpid() == owner:
            unlock_descriptor(file.fileno())


def unwritable(path: Path, error: OSError, remedy: str) -> str:
    """The message of a file that cannot be written, or that somebody else has."""
    if isinstance(error, BlockingIOError):
        first = "wait for it"
    elif error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        first = "what is in it is whole: make room"
    else:
        first = "check that its folder is there and can be written"
    return f"{path} cannot be written ({reason_of(error)}); {first} and {remedy}"


def _append(file: FileIO, data: bytes) -> None:
    end = file.seek(0, os.SEEK_END)
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) or 0 :]
    except BaseException:
        file.truncate(end)
        raise


def _cut(path: Path, size: int) -> int:
    logger.warning("%s ended in a torn record of %d bytes: whoever wrote it was stopped; it is cut away", path, size)
    return size


def _whole(line: bytes) -> bool:
    """Whether the last line lacks nothing but its line end."""
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True


def _blocks(file: BinaryIO | FileIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _members(file: BinaryIO | FileIO, path: Path, error: type[AtomMemError]) -> Iterator[tuple[bytes, int]]:
    """The content of a gzip file piece by piece, each with the offset at which its member ended, or 0 if it goes on."""
    inflater = zlib.decompressobj(_MEMBER)
    offset = 0
    for block in _blocks(file):
        pending, more = block, True
        offset += len(block)
        while more:
            try:
                data = inflater.decompress(pending, _BLOCK)
            except zlib.error as cause:
                raise error(f"{path} is no gzip file, or damaged before byte {offset} ({cause})") from cause
            pending = inflater.unused_data or inflater.unconsumed_tail
            yield data, offset - len(pending) if inflater.eof else 0
            # Without input left, an inflater that filled its block may still hold output.
            more = bool(pending) or (not inflater.eof and len(data) == _BLOCK)
            if inflater.eof:
                inflater = zlib.decompressobj(_MEMBER)
