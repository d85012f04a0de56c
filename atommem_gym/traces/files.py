"""Files of episodes: appended whole, one flush an episode, read one at a time, and safe against being killed."""

from __future__ import annotations

import gzip
import os
from collections.abc import Iterable, Iterator
from io import FileIO
from pathlib import Path
from types import TracebackType

from atommem_gym.traces.codec import dumps, loads
from atommem_gym.traces.lines import append, open_for_appending, read_lines
from atommem_gym.traces.parquet import ParquetTraces, count_parquet, read_parquet
from atommem_gym.traces.record import EpisodeTrace, TraceError

SUFFIXES = (".jsonl.gz", ".jsonl", ".parquet")


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
        self.torn_bytes = 0
        """How much of a torn record it has cut away."""
        self._file: FileIO | None = None
        self._table: ParquetTraces | None = None
        self._gzipped = suffix(self.path) == ".jsonl.gz"
        try:
            if suffix(self.path) == ".parquet":
                self._table = ParquetTraces(self.path)
            else:
                self._file, self.torn_bytes = open_for_appending(self.path, gzipped=self._gzipped)
        except OSError as error:
            raise _unwritable(self.path, error) from error

    def write(self, trace: EpisodeTrace) -> None:
        """Append an episode, whole or not at all.

        Raises:
            TraceError: the record holds something that JSON has not, or the file cannot be written.
        """
        line = dumps(trace)
        try:
            if self._table is not None:
                self._table.append(trace, line)
            elif self._file is not None:
                data = f"{line}\n".encode("ascii")
                # A member of its own for every episode: what stands before it never changes.
                append(self._file, gzip.compress(data, 6, mtime=0) if self._gzipped else data)
            else:
                raise TraceError(f"{self.path} is closed; open another TraceWriter")
        except OSError as error:
            raise _unwritable(self.path, error) from error
        self.written += 1

    def close(self) -> None:
        """Finish the file; closing twice is not an error."""
        file, table, self._file, self._table = self._file, self._table, None, None
        try:
            if file is not None:
                file.close()
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

    Raises:
        TraceError: the file cannot be read, or a line is not a record of this package's version; the message names it.
    """
    path = _existing(path)
    try:
        if suffix(path) == ".parquet":
            for number, record in enumerate(read_parquet(path), 1):
                yield loads(record, f"{path}, row {number}")
        else:
            for number, line in enumerate(read_lines(path, gzipped=suffix(path) == ".jsonl.gz"), 1):
                yield loads(line, f"{path}, record {number}")
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror or error})") from error


def count_traces(path: str | Path) -> int:
    """How many episodes a file holds, without decoding them.

    Raises:
        TraceError: the file cannot be read.
    """
    path = _existing(path)
    try:
        if suffix(path) == ".parquet":
            return count_parquet(path)
        return sum(1 for _ in read_lines(path, gzipped=suffix(path) == ".jsonl.gz"))
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({error.strerror or error})") from error


def write_traces(path: str | Path, traces: Iterable[EpisodeTrace]) -> int:
    """Write a file of just these episodes; returns how many.

    It takes the place of an old one when it is complete, so ``traces`` may be read from that old one.

    Raises:
        TraceError: see :class:`TraceWriter`.
    """
    path = Path(path)
    suffix(path)
    partial = path.with_name(f".new-{path.name}")
    try:
        partial.unlink(missing_ok=True)
        with TraceWriter(partial) as writer:
            for trace in traces:
                writer.write(trace)
        os.replace(partial, path)
    except OSError as error:
        raise _unwritable(path, error) from error
    finally:
        partial.unlink(missing_ok=True)
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


def _existing(path: str | Path) -> Path:
    path = Path(path)
    suffix(path)
    if not path.is_file():
        raise TraceError(f"there is no file {path}; TraceWriter, RecordTraces and `atommem eval` write such files")
    return path


def _unwritable(path: Path, error: OSError) -> TraceError:
    return TraceError(
        f"{path} cannot be written ({error.strerror or error}); the episodes in it are whole: make room or name "
        "another file"
    )
