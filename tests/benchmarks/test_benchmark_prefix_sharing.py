"""The committed page on shared prefixes is what the program measures."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("tyro")
sys.path.insert(0, str(ROOT / "benchmarks"))

import prefix_sharing as program  # noqa: E402

COMMITTED: dict[str, Any] = json.loads((ROOT / "benchmarks/results/prefix_sharing.json").read_text("utf-8"))


def test_finding_5_8_the_committed_shares_are_what_the_program_measures() -> None:
    measured = program.measure(program.Options(**COMMITTED["options"]))
    for one, committed in zip(measured, COMMITTED["templates"], strict=True):
        assert asdict(one) == pytest.approx(committed), "run `python benchmarks/prefix_sharing.py` and commit its pages"
    page = (ROOT / "benchmarks/results/prefix_sharing.md").read_text("utf-8")
    assert all(line in page for line in program.table(measured))
    ours, shared = measured
    assert shared.prompt_tokens == pytest.approx(ours.prompt_tokens, rel=0.01)
    assert shared.with_member > 0.97
    assert ours.with_member < 0.3
    assert shared.cache_hits > 0.85 > ours.cache_hits
    assert shared.cache_hits_spread < 0.5


def test_the_documentation_quotes_the_measured_shares() -> None:
    page = (ROOT / "docs" / "train_your_own.md").read_text("utf-8")
    for line in program.table([program.Measured(**one) for one in COMMITTED["templates"]])[2:]:
        name, *cells = (cell.strip() for cell in line.strip("| ").split("|"))
        assert f"| `{name}` | {' | '.join(cells[1:])} |" in page or f"| {name} | {' | '.join(cells[1:])} |" in page
