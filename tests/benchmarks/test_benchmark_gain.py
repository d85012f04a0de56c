"""The benchmark of gain says in a line what it does not know."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_a_set_that_does_not_exist_is_refused_in_a_line_that_names_all(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "gain.py",
        "--sets",
        "Needle",
        "Nedle",
        "--folder",
        str(tmp_path),
        "--out",
        str(tmp_path),
    ]
    refused = subprocess.run(command, cwd=BENCHMARKS, capture_output=True, text=True, check=False)
    assert refused.returncode == 1
    assert refused.stderr == "error: --sets Nedle is unknown; known are Needle, Synthetic, HotpotQA\n"
    assert not list(tmp_path.iterdir())
