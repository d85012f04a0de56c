"""Which files of a database folder still hold some bytes."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq


def on_disk(path: Path, needle: bytes) -> list[str]:
    """Names of the files that hold these bytes, as they are or inside a Parquet or Arrow file."""
    found = []
    for file in sorted(path.rglob("*")):
        if file.is_file():
            data = [file.read_bytes()]
            if file.suffix == ".parquet":
                data += [b for column in pq.read_table(file).columns for b in buffers(column)]
            elif file.suffix == ".arrow":
                with pa.OSFile(str(file)) as source:
                    data += [
                        b for batch in pa.ipc.open_stream(source) for column in batch.columns for b in buffers(column)
                    ]
            if any(needle in one for one in data):
                found.append(str(file.relative_to(path)))
    return found


def buffers(column: pa.Array | pa.ChunkedArray) -> list[bytes]:
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return [b.to_pybytes() for chunk in chunks for b in chunk.buffers() if b is not None]
