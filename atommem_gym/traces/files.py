"""Files of episodes: appended whole, one flush an episode, read one at a time, and safe against being killed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType

from atommem_gym.files.json_lines import JsonLines, read_lines, unwritable
from atommem_gym.traces.codec import dumps, loads
from atommem_gym.traces.lines import check_head
from atommem_gym.traces.parquet import ParquetTraces, count_parquet, read_parquet
from atommem_gym.traces.record import EpisodeTrace, TraceError

SUFFIXES = (".jsonl.gz", ".jsonl", ".parquet")
_REMEDY = "try again, or name another file"


class TraceWriter:
    """Appends episodes to a file, whose suffix says how: ``.jsonl``, ``.jsonl.gz`` or ``.parquet``.

    An episode has left the process when :meth:`write` returns (it survives a kill, not a power cut: nothing is synced).
    If the file ends in a torn record, because an earlier writer was killed, that is cut away first, and the log says
    so. One writer has a file at a time. Parquet has its index at the end: such a file is written beside its place and
    moved there by :meth:`close`, so what must survive a kill is written as JSONL.

    Args:
        path: The file; it is made if it is not there, its folder is not.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "traces.jsonl"
        >>> with TraceWriter(path) as writer:
        ...     writer.written
        0
        >>> list(read_traces(path))
        []

    Raises:
        TraceError: the suffix is unknown, the file cannot be written or holds something else, or it has a writer.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.written = 0
        """Episodes that this writer has appended."""
        self._lines: JsonLines | None = None
        self._table: ParquetTraces | None = None
        if suffix(self.path) != ".parquet":
            gzipped = suffix(self.path) == ".jsonl.gz"
            self._lines = JsonLines(
                self.path, TraceError, _REMEDY, gzipped=gzipped, check=partial(check_head, self.path)
            )
            return
        try:
            self._table = ParquetTraces(self.path)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    @property
    def torn_bytes(self) -> int:
        """How much of a torn record it has cut away."""
        return 0 if self._lines is None else self._lines.torn_bytes

    def write(self, trace: EpisodeTrace) -> None:
        """Append an episode, whole or not at all.

        Raises:
            TraceError: the record holds something that JSON has not, or the file cannot be written.
        """
        line = dumps(trace)
        if self._lines is not None:
            self._lines.append(line)
        elif self._table is not None:
            try:
                self._table.append(trace, line)
            except OSError as error:
                raise _unwritable(self.path, error) from error
        else:
            raise TraceError(f"{self.path} is closed; open another TraceWriter")
        self.written += 1

    def close(self) -> None:
        """Finish the file; closing twice is not an error."""
        if self._lines is not None:
            self._lines.close()
        table, self._table = self._table, None
        try:
            if table is not None:
                table.close()
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def __enter__(self) -> TraceWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def read_traces(path: str | Path) -> Iterator[EpisodeTrace]:
    """The episodes of a file, one after the other; memory holds one at a time (of Parquet a row group).

    A last record without its end is what a killed writer left: it is skipped, and the log says so.

    Args:
        path: A file that ends in ``.jsonl``, ``.jsonl.gz`` or ``.parquet``.

    Raises:
        TraceError: the file cannot be read, or a line is not a record of this package's version; the message names it.
    """
    path = existing(path)
    try:
        if suffix(path) == ".parquet":
            for number, record in enumerate(read_parquet(path), 1):
                yield loads(record, f"{path}, row {number}")
        else:
            for number, line in enumerate(_lines(path), 1):
                yield loads(line, f"{path}, record {number}")
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror or error})") from error


def count_traces(path: str | Path) -> int:
    """How many episodes the file ``path`` holds, without decoding them.

    Raises:
        TraceError: the file cannot be read.
    """
    path = existing(path)
    try:
        if suffix(path) == ".parquet":
            return count_parquet(path)
        return sum(1 for _ in _lines(path))
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror or error})") from error


def write_traces(path: str | Path, traces: Iterable[EpisodeTrace]) -> int:
    """Write a file of just these episodes; returns how many.

    Args:
        path: The file; its ending says the form, as in :func:`read_traces`. An old one is replaced when the new one is
            complete, so ``traces`` may be read from it.
        traces: The episodes; one at a time is in memory.

    Raises:
        TraceError: see :class:`TraceWriter`.
    """
    path = Path(path)
    suffix(path)
    new = path.with_name(f".new-{path.name}")
    try:
        new.unlink(missing_ok=True)
        with TraceWriter(new) as writer:
            for trace in traces:
                writer.write(trace)
        os.replace(new, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        new.unlink(missing_ok=True)
    return writer.written


def suffix(path: Path) -> str:
    """Which of ``SUFFIXES`` a file has.

    Raises:
        TraceError: none.
    """
    for one in SUFFIXES:
        if path.name.endswith(one):
            return one
    raise TraceError(f"{path} has none of the suffixes {', '.join(SUFFIXES)}; the suffix says how episodes are written")


def existing(path: str | Path) -> Path:
    """A file of traces that is there.

    Raises:
        TraceError: it is a folder, is not there, or holds something else by its name; the message says what to name.
    """
    path = Path(path)
    if path.is_dir():
        inside = sorted(str(one) for one in path.iterdir() if one.name.startswith("traces.") and is_traces(one))
        remedy = f"name its traces: {' '.join(inside)}" if inside else "it holds no traces"
        raise TraceError(f"{path} is a folder, and a file of traces is wanted; {remedy}")
    if path.name in _ROWS and (path.parent / "plan.yaml").is_file():
        raise TraceError(
            f"{path} has rows of an evaluation; its episodes are in {path.parent / 'traces.jsonl'}: name that"
        )
    if path.exists():
        suffix(path)
    if not path.is_file():
        raise TraceError(f"there is no file {path}; TraceWriter, RecordTraces and `atommem eval` write such files")
    return path


def is_traces(path: Path) -> bool:
    """Whether a file's name says that it holds traces."""
    return path.name.endswith(SUFFIXES)


_ROWS = ("results.jsonl", "failures.jsonl", "sessions.jsonl", "closed_book.jsonl")
"""What an evaluation writes beside its plan and its traces."""


def _lines(path: Path) -> Iterator[bytes]:
    return (line for _, line in read_lines(path, gzipped=suffix(path) == ".jsonl.gz", error=TraceError))


def _unwritable(path: Path, error: OSError) -> TraceError:
    return TraceError(unwritable(path, error, _REMEDY))
