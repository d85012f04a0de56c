"""Files of traces: appended atomically, one flush per episode, read one at a time, and safe against a kill."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType

from atommem_gym.errors import reason_of
from atommem_gym.files.json_lines import JsonLines, read_lines, unwritable
from atommem_gym.traces.codec import dumps, loads
from atommem_gym.traces.lines import check_head
from atommem_gym.traces.parquet import ParquetTraces, count_parquet, read_parquet
from atommem_gym.traces.record import EpisodeTrace, TraceError

SUFFIXES = (".jsonl.gz", ".jsonl", ".parquet")
_REMEDY = "try again, or name another file"


class TraceWriter:
    """Appends traces to a file, whose suffix decides the format: ``.jsonl``, ``.jsonl.gz`` or ``.parquet``.

    A trace has left the process when :meth:`write` returns (it survives a kill but not a power cut: nothing is synced).
    If the file ends in a torn record because an earlier writer was killed, it is cut away first, and the log says
    so. A file has one writer at a time. Parquet has its index at the end, so it is written to a temporary file and
    moved into place by :meth:`close`; traces that must survive a kill are written as JSONL.

    Args:
        path: The file. It is made if it does not exist; its folder must exist.

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
        """Number of episodes that this writer has appended."""
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
        """Bytes of a torn record that it has cut away."""
        return 0 if self._lines is None else self._lines.torn_bytes

    def write(self, trace: EpisodeTrace) -> None:
        """Append a trace, completely or not at all.

        Raises:
            TraceError: the trace holds a value without a JSON form, or the file cannot be written or is closed.
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
        """Finish the file. Closing twice does nothing.

        Raises:
            TraceError: the file cannot be written.
        """
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
    """Read the traces of a file one after another; memory holds one at a time (of Parquet one row group).

    A torn last record, left by a killed writer, is skipped, and the log says so.

    Args:
        path: A file that ends in ``.jsonl``, ``.jsonl.gz`` or ``.parquet``.

    Raises:
        TraceError: the file cannot be read, or a line is not a trace of a known version; the message names it.
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
        raise TraceError(f"{path} cannot be read ({reason_of(error)})") from error


def count_traces(path: str | Path) -> int:
    """The number of traces in the file ``path``, without decoding them.

    Raises:
        TraceError: the file cannot be read.
    """
    path = existing(path)
    try:
        if suffix(path) == ".parquet":
            return count_parquet(path)
        return sum(1 for _ in _lines(path))
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({reason_of(error)})") from error


def write_traces(path: str | Path, traces: Iterable[EpisodeTrace]) -> int:
    """Write a file with exactly these traces, and return their number.

    Args:
        path: The file; its suffix decides the format. An existing file is replaced when the new one is
            complete, so ``traces`` may be read from it.
        traces: The traces; one at a time is in memory.

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
    """The suffix of a file, one of ``SUFFIXES``.

    Raises:
        TraceError: it has another suffix.
    """
    for one in SUFFIXES:
        if path.name.endswith(one):
            return one
    raise TraceError(f"{path} has none of the suffixes {', '.join(SUFFIXES)}; the suffix says how episodes are written")


def existing(path: str | Path) -> Path:
    """Check that a path is an existing file of traces, and return it.

    Raises:
        TraceError: it is a folder, does not exist, or has the name of another file; the message says what to name.
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
        raise TraceError(
            f"there is no file {path}; `atommem eval -o FOLDER` writes FOLDER/traces.jsonl, and in Python RecordTraces "
            "and TraceWriter write such files"
        )
    return path


def is_traces(path: Path) -> bool:
    """Whether a file has one of ``SUFFIXES``."""
    return path.name.endswith(SUFFIXES)


_ROWS = ("results.jsonl", "failures.jsonl", "sessions.jsonl", "closed_book.jsonl")
"""Files that an evaluation writes beside its plan and its traces."""


def _lines(path: Path) -> Iterator[bytes]:
    return (line for _, line in read_lines(path, gzipped=suffix(path) == ".jsonl.gz", error=TraceError))


def _unwritable(path: Path, error: OSError) -> TraceError:
    return TraceError(unwritable(path, error, _REMEDY))
