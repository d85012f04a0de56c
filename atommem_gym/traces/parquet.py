"""Traces as Parquet: the JSON of each, and columns to sort and filter by."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atommem_gym.files.json_lines import locked
from atommem_gym.traces.record import EpisodeTrace, TraceError

SCHEMA = pa.schema(
    {
        "env": pa.string(),
        "agent": pa.string(),
        "item": pa.string(),
        "index": pa.int64(),
        "shuffle_seed": pa.int64(),
        "seed": pa.int64(),
        "steps": pa.int64(),
        "reward": pa.float64(),
        "em": pa.float64(),
        "f1": pa.float64(),
        "evidence_recall": pa.float64(),
        "causes": pa.list_(pa.string()),
        "record": pa.large_string(),
    }
)
"""The columns; ``record`` is the line of a JSONL file, and the only column that is read."""
_GROUP_ROWS, _GROUP_BYTES = 64, 1 << 24
_MOST = 2**63 - 1


class ParquetTraces:
    """Writes a Parquet file to a temporary file, which is moved into place when it is closed.

    Raises:
        TraceError: the existing file does not hold traces, or another process writes it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._partial = path.with_name(f".partial-{path.name}")
        self._rows: list[dict[str, object]] = []
        self._bytes = 0
        with contextlib.ExitStack() as stack:
            file = stack.enter_context(open(self._partial, "ab"))
            stack.enter_context(locked(file, self._partial))
            file.truncate(0)
            self._writer = pq.ParquetWriter(file, SCHEMA, compression="zstd")
            try:
                if path.is_file():
                    for batch in _batches(path, SCHEMA.names):
                        self._writer.write_batch(batch)
            except BaseException:
                self._writer.close()
                stack.close()
                self._partial.unlink()
                raise
            self._held = stack.pop_all()

    def append(self, trace: EpisodeTrace, line: str) -> None:
        """Append a trace; ``line`` is its JSON.

        Raises:
            TraceError: a number in it is too large for its column.
        """
        for name in ("index", "shuffle_seed", "seed"):
            if abs(getattr(trace, name)) > _MOST:
                raise TraceError(f"{name} of the record is too large for a column of {self._path}; write .jsonl")
        self._rows.append(
            {
                "env": _encodable(trace.env.id),
                "agent": _encodable(trace.agent.name),
                "item": _encodable(trace.item),
                "index": trace.index,
                "shuffle_seed": trace.shuffle_seed,
                "seed": trace.seed,
                "steps": len(trace.steps),
                "reward": trace.reward,
                **{name: trace.metrics.get(name) for name in ("em", "f1", "evidence_recall")},
                "causes": list(trace.causes),
                "record": line,
            }
        )
        self._bytes += len(line)
        if len(self._rows) >= _GROUP_ROWS or self._bytes >= _GROUP_BYTES:
            self._flush()

    def close(self) -> None:
        """Write the index and move the file into place."""
        with self._held:
            self._flush()
            self._writer.close()
        os.replace(self._partial, self._path)

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(pa.Table.from_pylist(self._rows, SCHEMA))
        self._rows, self._bytes = [], 0


def read_parquet(path: Path) -> Iterator[str]:
    """The JSON of each trace, one row group in memory at a time.

    Raises:
        TraceError: the file is not a Parquet file with a column ``record``.
    """
    for batch in _batches(path, ["record"]):
        for record in batch.column("record"):
            yield record.as_py()


def count_parquet(path: Path) -> int:
    """The number of traces in a file.

    Raises:
        TraceError: the file is not a complete Parquet file.
    """
    with _opened(path) as file:
        return int(file.metadata.num_rows)


def _batches(path: Path, columns: list[str]) -> Iterator[pa.RecordBatch]:
    with _opened(path) as file:
        missing = set(columns) - set(file.schema_arrow.names)
        if missing:
            raise TraceError(f"{path} has no column {min(missing)!r}: it holds something else than records of episodes")
        yield from file.iter_batches(batch_size=_GROUP_ROWS, columns=columns)


def _opened(path: Path) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise TraceError(
            f"{path} is not a complete Parquet file ({error}); write what must survive a kill as .jsonl"
        ) from error


def _encodable(text: str) -> str:
    return text.encode(errors="replace").decode()
