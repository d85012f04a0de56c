"""The benchmark that trains through veRL: what it reads from a run's files, and its page."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("tyro")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import verl_learn
from reports.verl_learn import markdown


def line(part: str, step: int, uid: str, em: float, **changes: Any) -> dict[str, Any]:
    one = {"part": part, "global_step": step, "uid": uid, "item": uid, "reward": em, "em": em, "steps": 4.0}
    return {
        **one,
        "op_create": 2.0,
        "op_read": 1.0,
        "op_answer": 1.0,
        "rejected": 0.0,
        "final_entries": 2.0,
        "evidence_recall_exact": 0.5,
        **changes,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    sessions = [line("validation", 0, item, 0.0) for item in "abcd"]
    sessions += [line("train", 1, "u", em) for em in (0.0, 1.0)] + [line("train", 1, "v", 1.0)] * 2
    sessions += [line("train", 2, uid, 1.0, op_create=1.0) for uid in "uuvv"]
    # As sessions end, so not in the items' order.
    sessions += [line("validation", 2, item, float(item != "a")) for item in "dcba"]
    (tmp_path / "sessions.jsonl").write_text("".join(json.dumps(one) + "\n" for one in sessions))
    metrics = [{"step": 0, "data": {"val-core/acc": 0.0}}]
    metrics += [{"step": step, "data": {"timing_s/step": 4.0 + step}} for step in (1, 2)]
    (tmp_path / "grpo.jsonl").write_text("".join(json.dumps(one) + "\n" for one in metrics))
    (tmp_path / "finished.json").write_text('{"seconds": 90, "date": "2026-01-01"}')
    return tmp_path


def test_a_run_is_read_from_what_it_wrote_down(run: Path) -> None:
    seed = verl_learn.read_seed(7, run)
    assert (seed.seed, seed.seconds, seed.step_seconds) == (7, 90, 5.5)
    assert [(one.step, one.reward, one.flat, one.sessions) for one in seed.training] == [
        (1, 0.75, 0.5, 4),
        (2, 1.0, 1.0, 4),
    ]
    assert [one.operations["create"] for one in seed.training] == [2.0, 1.0]
    assert [(one.step, one.items, one.em) for one in seed.validation] == [
        (0, list("abcd"), [0.0] * 4),
        (2, list("abcd"), [0.0, 1.0, 1.0, 1.0]),
    ]


def test_the_page_tells_before_from_after(run: Path) -> None:
    seeds = [verl_learn.read_seed(seed, run) for seed in (0, 1)]
    made = {"date": "2026-01-01", "cpu": "one", "python": "3", "versions": "v", "command": "c"}
    page = markdown(seeds, {**made, "sft_steps": "9", "sft_seconds": "120", "note": "Alone."})
    assert "| 0 | 0.000 ± 0.000 | 0.000 ± 0.000 | 0.000 ± 0.000 |" in page
    # Of 0, 1, 1, 1 the standard deviation is a half, and so its standard error a quarter.
    assert "| 2 | 0.750 ± 0.250 | 0.750 ± 0.250 | 0.750 ± 0.250 |" in page
    assert "**+0.750 ± 0.250**" in page
    assert "| 1–2 | 0.88 | 0.75 | 1.50 | 1.00 | 1.00 | 0.00 | 2.00 | 0.50 |" in page
    assert page.endswith("others use too. Alone.\n")
