"""Adds the held-out items of a second folder to those of a first, under another name: held_out_twice.py DATA OTHER.

veRL then plays both whenever it validates, with the same weights, so that what Update is worth needs no further server.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from atommem_gym.records.verl_rows import SCHEMA

PART = "validation without Update"


def main() -> int:
    """Write DATA/validation.parquet anew; the exit status."""
    data, other = (Path(name) / "validation.parquet" for name in sys.argv[1:])
    rows, more = (pq.read_table(path).to_pylist() for path in (data, other))
    if [row["extra_info"]["item_hash"] for row in rows] != [row["extra_info"]["item_hash"] for row in more]:
        print(f"{data} and {other} hold different items; write both with the same seed and settings", file=sys.stderr)
        return 1
    for row in more:
        row["data_source"] += " without Update"
        row["extra_info"]["part"] = PART
    pq.write_table(pa.Table.from_pylist([*rows, *more], schema=SCHEMA), data)
    print(f"{data}: {len(rows)} held-out items, each with Update and without")
    return 0


if __name__ == "__main__":
    sys.exit(main())
