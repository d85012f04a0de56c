"""Lines of a file that is only appended to: read without a torn end, which is cut away before going on."""

from __future__ import annotations

import gzip
import logging
import re
import sys
import zlib
from collections.abc import Iterator
from io import FileIO
from json import loads
from pathlib import Path
from typing import BinaryIO

from atommem_gym.traces.record import READ_VERSIONS, TRACE_VERSION, TraceError

if sys.platform != "win32":
    import fcntl

logger = logging.getLogger(__name__)
_BLOCK = 1 << 20
_HEAD = re.compile(rb'\s*\{\s*"version"\s*:\s*(\d+)')
_START = b'{"version":'
_MEMBER = 16 + zlib.MAX_WBITS
"""What makes zlib read gzip members."""


def read_lines(path: Path, *, gzipped: bool) -> Iterator[bytes]:
    """The lines of a file with something in them; a torn last one is left out, and the log says so.

    Raises:
        OSError: the file cannot be read.
        TraceError: the file is not a gzip file, or damaged before its end.
    """
    with open(path, "rb") as file:
        rest = b""
        for block in _inflated(file, path) if gzipped else _blocks(file):
            *lines, rest = (rest + block).split(b"\n") if b"\n" in block else (rest + block,)
            yield from filter(bytes.strip, lines)
        if rest.strip():
            if _whole(rest):
                yield rest
            else:
                logger.warning(
                    "%s ends in a torn record of %d bytes: whoever wrote it was stopped; it is skipped", path, len(rest)
                )


def open_for_appending(path: Path, *, gzipped: bool) -> tuple[FileIO, int]:
    """The file, locked, and how many bytes of a torn record were cut off its end.

    Raises:
        OSError: the file cannot be written.
        TraceError: another process writes it, it holds something else than records, or records of another version.
    """
    file = open(path, "a+b", buffering=0)  # noqa: SIM115  (the writer closes it)
    try:
        lock(file, path)
        return file, (_repair_members if gzipped else _repair_lines)(file, path)
    except BaseException:
        file.close()
        raise


def append(file: FileIO, data: bytes) -> None:
    """Write all of ``data`` at the end of the file, or nothing.

    Raises:
        OSError: the disk is full or gone; the file is as it was.
    """
    end = file.seek(0, 2)
    view = memoryview(data)
    try:
        while view:
            view = view[file.write(view) or 0 :]
    except BaseException:
        file.truncate(end)
        raise


def lock(file: BinaryIO | FileIO, path: Path) -> None:
    """Keep the file for this process until it is closed.

    Raises:
        TraceError: another one has it.
    """
    if sys.platform == "win32":
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise TraceError(f"{path} is being written by another process or writer; name another file") from error


def _repair_lines(file: FileIO, path: Path) -> int:
    size = file.seek(0, 2)
    file.seek(0)
    _check_head(file.read(_BLOCK), path)
    end, tail = size, b""
    while end and b"\n" not in tail:
        start = max(0, end - _BLOCK)
        file.seek(start)
        tail, end = file.read(end - start) + tail, start
    torn = tail[tail.rfind(b"\n") + 1 :]
    if not torn:
        return 0
    if _whole(torn):
        append(file, b"\n")
        return 0
    file.truncate(size - len(torn))
    _log_cut(path, len(torn))
    return len(torn)


def _repair_members(file: FileIO, path: Path) -> int:
    """Cut a gzip file after its last whole member."""
    size = file.seek(0, 2)
    file.seek(0)
    whole, lines, head = 0, 0, b""
    for data, end in _members(file, path):
        head = head if len(head) >= len(_START) + 8 else head + data[:64]
        lines += data.count(b"\n")
        if end:
            whole, lines = end, 0
    _check_head(head, path)
    if whole == size:
        return 0
    # Whole lines of the torn member are whole records: where only its checksum is missing, or somebody else packed
    # many records into one member.
    file.seek(whole)
    unpacked = b"".join(data for data, _ in _members(file, path)) if lines else b""
    saved = unpacked[: unpacked.rfind(b"\n") + 1]
    file.truncate(whole)
    if saved:
        append(file, gzip.compress(saved, 6, mtime=0))
    if not lines or len(saved) < len(unpacked):
        _log_cut(path, len(unpacked) - len(saved) or size - whole)
        return len(unpacked) - len(saved) or size - whole
    return 0


def _log_cut(path: Path, size: int) -> None:
    logger.warning("%s ended in a torn record of %d bytes: whoever wrote it was stopped; it is cut away", path, size)


def _check_head(head: bytes, path: Path) -> None:
    """Refuse a file that does not hold records, before anything is appended to it or cut."""
    found = _HEAD.match(head)
    if found is not None and int(found[1]) not in READ_VERSIONS:
        raise TraceError(
            f"{path} holds records of version {int(found[1])}, this package writes version "
            f"{TRACE_VERSION}; name another file"
        )
    if found is None and head.strip() and not _START.startswith(head[: len(_START)]):
        raise TraceError(f"{path} holds something else than records of episodes; name another file")


def _whole(record: bytes) -> bool:
    """Whether the last line lacks nothing but its line end: no beginning of a JSON object is itself JSON."""
    try:
        loads(record)
    except (ValueError, RecursionError):
        return False
    return True


def _blocks(file: BinaryIO | FileIO) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def _inflated(file: BinaryIO, path: Path) -> Iterator[bytes]:
    return (data for data, _ in _members(file, path))


def _members(file: BinaryIO | FileIO, path: Path) -> Iterator[tuple[bytes, int]]:
    """The content of a gzip file piece by piece, each with the offset at which its member ended, or 0 if it goes on."""
    inflater = zlib.decompressobj(_MEMBER)
    offset = 0
    for block in _blocks(file):
        pending, more = block, True
        offset += len(block)
        while more:
            try:
                data = inflater.decompress(pending, _BLOCK)
            except zlib.error as error:
                raise TraceError(f"{path} is no gzip file, or damaged before byte {offset} ({error})") from error
            pending = inflater.unused_data or inflater.unconsumed_tail
            yield data, offset - len(pending) if inflater.eof else 0
            # Without input left, an inflater that filled its block may still hold output.
            more = bool(pending) or (not inflater.eof and len(data) == _BLOCK)
            if inflater.eof:
                inflater = zlib.decompressobj(_MEMBER)
