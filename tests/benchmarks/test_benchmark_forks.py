"""The benchmark of forks runs, on little, and writes its table."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_command_writes_a_table_of_ratios(tmp_path: Path) -> None:
    small = ["--rounds", "1", "--calls", "1", "--stores", "numpy", "--out", str(tmp_path)]
    subprocess.run([sys.executable, "forks.py", *small], cwd=BENCHMARKS, check=True, capture_output=True)
    rows = [line.split(" | ") for line in (tmp_path / "forks.md").read_text("utf-8").splitlines() if "numpy |" in line]
    assert [row[1] for row in rows][:3] == ["episode's fork", "insert of the same rows", "fork(1) of the environment"]
    assert rows[1][4] == "1.00 |"
