"""Reads raw records from JSON, JSON Lines, Parquet and Arrow files, one at a time, with their place in the file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from json import JSONDecodeError
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet

from atommem_gym.errors import DatasetUnavailableError, RecordError
from atommem_gym.files.strict_json import unique_object
from atommem_gym.records.formats.fields import Raw, shown

SUFFIXES = (".json", ".jsonl", ".ndjson", ".parquet", ".arrow")
"""The file types that can be read."""

_CHUNK = 1 << 22
_LONGEST_RECORD = 1 << 26
_ROWS = 256
_MOST_SAID = 400
"""Most characters of another library's message in ours."""


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One entry of a file: a record, or the reason why it is none."""

    path: Path
    """The file."""
    place: str
    """``line 12`` or ``record 12``, counted from 1."""
    fields: Raw
    """The record as the file has it; empty if there is a problem."""
    problem: str = ""
    """Why the entry is not a record; empty if it is one."""

    def error(self, problem: str) -> RecordError:
        """A ``RecordError`` that names the file and place of this entry, and ``problem``."""
        return RecordError(f"{self.path}, {self.place}: {problem}")


def read(path: Path) -> Iterator[RawRecord]:
    """Read the entries of one file. A malformed entry has a ``problem``, and reading goes on.

    A ``.json`` file holds a list of records or, like ``.jsonl``, one record per line.

    Raises:
        DatasetUnavailableError: the file cannot be opened or has an unknown type.
        RecordError: a Parquet or Arrow file is damaged.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DatasetUnavailableError(f"{path} is of no known type: records come from {', '.join(SUFFIXES)} files")
    try:
        if suffix == ".parquet":
            yield from _table_rows(path, _parquet_batches(path))
        elif suffix == ".arrow":
            yield from _table_rows(path, _arrow_batches(path))
        elif _is_list(path):
            yield from _json_list(path)
        else:
            yield from _json_lines(path)
    except (pa.ArrowException, ValueError, OverflowError) as error:
        # A table may also hold texts that are no UTF-8, and dates that Python has not.
        raise RecordError(
            f"{path} is not a readable {suffix} file: {_fault(error)[:_MOST_SAID]}; download or convert it again"
        ) from error
    except OSError as error:
        raise DatasetUnavailableError(f"{path} cannot be read: {error}; check the path and its permissions") from error


def _entry(path: Path, place: str, value: object) -> RawRecord:
    if isinstance(value, dict):
        return RawRecord(path, place, value)
    return RawRecord(path, place, {}, f"a record must be an object with fields, it is {shown(value)}")


def _is_list(path: Path) -> bool:
    with path.open("rb") as file:
        while block := file.read(4096).removeprefix(b"\xef\xbb\xbf"):
            if block.strip():
                return block.lstrip().startswith(b"[")
    return False


def _fault(error: Exception) -> str:
    return "it is no UTF-8 text" if isinstance(error, UnicodeDecodeError) else str(error)


def _json_lines(path: Path) -> Iterator[RawRecord]:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if not line.strip():
                continue
            place = f"line {number}"
            try:
                value = json.loads(line, object_pairs_hook=unique_object)
            except (ValueError, RecursionError) as error:
                yield RawRecord(path, place, {}, f"not valid JSON ({_fault(error)})")
            else:
                yield _entry(path, place, value)


def _json_list(path: Path) -> Iterator[RawRecord]:
    """The elements of one JSON list, read in pieces: the official HotpotQA train file is a list of 566 MB."""
    with path.open(encoding="utf-8-sig") as file:
        window = _Window(file)
        window.take("[")
        number = 0
        while window.peek() != "]":
            number += 1
            place = f"record {number}"
            try:
                if number > 1:
                    window.take(",")
                value = window.value()
            except (ValueError, RecursionError) as error:
                # What follows a syntax error in a list cannot be told apart: this is the last entry.
                yield RawRecord(path, place, {}, f"not valid JSON ({_fault(error)})")
                return
            yield _entry(path, place, value)


class _Window:
    """A window on a text file that moves forward value by value."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._text = ""
        self._at = 0
        self._ended = False
        self._decoder = json.JSONDecoder(object_pairs_hook=unique_object)

    def peek(self) -> str:
        """The next character that is no white space; empty at the end of the file."""
        while True:
            while self._at < len(self._text) and self._text[self._at].isspace():
                self._at += 1
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, mark: str) -> None:
        if self.peek() != mark:
            raise JSONDecodeError(f"expected {mark!r} between records", self._text, self._at)
        self._at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except JSONDecodeError:
                if len(self._text) - self._at > _LONGEST_RECORD or not self._more():
                    raise
            else:
                self._at = end
                return value

    def _more(self) -> bool:
        """Read on; False at the end of the file. A value cut by the window's end is decoded again with more text."""
        if not self._ended:
            block = self._file.read(_CHUNK)
            self._ended = not block
            self._text, self._at = self._text[self._at :] + block, 0
        return not self._ended


def _parquet_batches(path: Path) -> Iterator[pa.RecordBatch]:
    with pa.parquet.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_ROWS)


def _arrow_batches(path: Path) -> Iterator[pa.RecordBatch]:
    """The batches of an Arrow file in the stream form (as ``datasets`` writes it) or in the file form."""
    with pa.memory_map(str(path)) as source:
        if source.read(6) == b"ARROW1":
            reader = pa.ipc.open_file(source)
            yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
        else:
            source.seek(0)
            yield from pa.ipc.open_stream(source)


def _table_rows(path: Path, batches: Iterable[pa.RecordBatch]) -> Iterator[RawRecord]:
    number = 0
    for batch in batches:
        for start in range(0, batch.num_rows, _ROWS):
            for row in batch.slice(start, _ROWS).to_pylist():
                number += 1
                yield _entry(path, f"record {number}", row)
