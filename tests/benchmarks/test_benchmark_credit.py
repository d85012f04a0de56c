"""The benchmark of credit runs, on little, writes table and curves, and goes on where it stopped."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[rl]'")
pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'atommem-gym[plots]'")

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def run(folder: Path, *more: str) -> subprocess.CompletedProcess[str]:
    small = ["--steps", "24", "--points", "2", "--curve-episodes", "1", "--episodes", "2", "--out", str(folder)]
    return subprocess.run(
        [sys.executable, "credit.py", *small, *more], cwd=BENCHMARKS, capture_output=True, text=True, check=False
    )


@pytest.mark.slow
def test_every_seed_is_written_at_once_and_a_second_start_goes_on(tmp_path: Path) -> None:
    first = run(tmp_path, "--seeds", "0")
    assert first.returncode == 0, first.stderr
    assert len(first.stdout.splitlines()) == 6
    file = tmp_path / "credit.json"
    results = json.loads(file.read_text("utf-8"))
    results["trained"] = results["trained"][:-1]
    file.write_text(json.dumps(results), "utf-8")
    second = run(tmp_path, "--seeds", "0")
    assert second.returncode == 0, second.stderr
    assert second.stdout.startswith("1/1 AtomMem-Forget-v0 local groups seed 0: EM ")
    text = (tmp_path / "credit.md").read_text("utf-8")
    assert text.count("| local groups |") == 2
    assert (tmp_path / "credit.png").stat().st_size > 10_000


def test_results_of_other_settings_are_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "credit.json").write_text(json.dumps({"settings": {}, "trained": [], "random": {}}), "utf-8")
    refused = run(tmp_path)
    assert refused.returncode == 1
    assert "results of other settings" in refused.stderr


def test_a_curve_has_two_points_at_least(tmp_path: Path) -> None:
    refused = run(tmp_path, "--points", "1")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: points=1 must be an integer of at least 2")
    assert not list(tmp_path.iterdir())
