"""The scripts for one GPU, without veRL: the data they are given, and the tables that they print."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CONFIGS = Path(__file__).resolve().parents[3] / "verl_configs"


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(CONFIGS / "gpu"))
    import report

    assert Path(str(report.__file__)).parent == CONFIGS / "gpu"
    return report


def session(part: str, step: int, em: float, **changes: Any) -> dict[str, Any]:
    one = {"part": part, "global_step": step, "uid": f"{step}", "em": em, "reward": em, "rejected": 0.0}
    return {**one, "op_create": 2.0, "op_update": 1.0, **changes}


def test_held_out_items_are_told_with_intervals_and_broken_validations_left_out(report: ModuleType) -> None:
    other = report.PART
    sessions = [session(part, 0, em) for part in ("validation", other) for em in (0.0, 0.0, 1.0, 0.0)]
    sessions += [session("validation", 5, 1.0) for _ in range(4)] + [session(other, 5, 0.0) for _ in range(4)]
    sessions += [session("validation", 10, 1.0) for _ in range(3)]
    rows = report.held_out(sessions)
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| 0", "| 5"]
    assert "| 0.25 (0.05 to 0.70) | 0.25 (0.05 to 0.70) | 2.00 | 1.00 |" in rows[2]
    assert "| 1.00 (0.51 to 1.00) | 0.00 (0.00 to 0.49) |" in rows[3]
    assert report.held_out([session("train", 1, 0.0)]) == ["No validation was finished."]


def test_a_training_step_has_rates_and_what_verl_measured(report: ModuleType) -> None:
    data = {
        "timing_s/step": 10.0,
        "timing_s/gen": 4.0,
        "timing_s/update_actor": 2.0,
        "perf/total_num_tokens": 4000,
        "response_length/mean": 100.0,
        "prompt_length/mean": 300.0,
        "training/rollout_probs_diff_max": 0.001,
        "actor/perf/max_memory_allocated_gb": 12.5,
    }
    rows = report.measured([{"step": 0, "data": {"val-core/acc": 0.5}}, {"step": 1, "data": data}])
    assert "| tokens sampled a second of generation | 250 |" in rows
    assert "| tokens trained on a second of the update | 2,000 |" in rows
    assert "| rollout against actor, largest difference | 0.001 |" in rows
    assert "| GPU memory allocated at most, GB | 12.5 |" in rows
    assert not any("loss" in row for row in rows)
    assert report.measured([]) == ["No training step was finished; see grpo.log."]
    table = report.training([session("train", 1, 0.0), session("train", 1, 1.0, uid="other")])
    assert table[2] == "| 1 | 2 | 0.500 | 2.00 | 1.00 | 0.00 | 0.00 | 0.00 | 0.00 | 1.00 |"


def test_cache_hits_are_what_vllm_said_last(report: ModuleType) -> None:
    log = "Prefix cache hit rate: 12.0%, …\nEngine 000: … Prefix cache hit rate: 84.5%\n"
    assert report.cache_hits(log).startswith("84.5 %")
    assert "did not tell" in report.cache_hits("")


def test_a_run_that_was_killed_while_it_wrote_is_reported(report: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "sessions.jsonl").write_text(json.dumps(session("train", 1, 0.0)) + '\n{"part": "tr')
    assert len(report.lines(tmp_path / "sessions.jsonl")) == 1
    done = subprocess.run(
        [sys.executable, str(CONFIGS / "gpu" / "report.py"), str(tmp_path), "--held-out"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "No validation was finished." in done.stdout
    assert "No training step was finished" in done.stdout


SFT = """#!/bin/bash
mkdir -p "$ATOMMEM_OUT/sft_checkpoints/global_step_60/huggingface"
echo "$@" >"$ATOMMEM_OUT/asked"
"""
GRPO = """#!/bin/bash
cp "$SESSIONS" "$ATOMMEM_OUT/sessions.jsonl"
echo "$ATOMMEM_MODEL" "$@" >>"$ATOMMEM_OUT/asked"
[ "$MODE" != fails ] || exit 3
sleep 60
"""


def ran(tmp_path: Path, script: str, mode: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """A script of this folder with stand-ins for SFT and GRPO, which takes a minute unless it is ended."""
    for name in (script, "report.py", "held_out_twice.py"):
        copy = tmp_path / "gpu" / name
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes((CONFIGS / "gpu" / name).read_bytes())
    for name, text in (("sft.sh", SFT), ("grpo.sh", GRPO)):
        started = tmp_path / "launch" / name
        started.parent.mkdir(exist_ok=True)
        started.write_text(text)
        started.chmod(0o755)
    parts = ("validation", "validation without Update")
    lines = [session(part, step, 1.0) for step in (0, 5) for part in parts] + [session("train", 1, 0.0)]
    (tmp_path / "sessions.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MODE": mode,
        "SESSIONS": str(tmp_path / "sessions.jsonl"),
        **{f"ATOMMEM_{name}": "somewhere" for name in ("DATA", "SFT", "MODEL")},
        **settings,
    }
    command = ["bash", str(tmp_path / "gpu" / script), str(tmp_path / "out"), "more=1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100, check=False)


@pytest.mark.parametrize(("mode", "status"), [("goes on", 0), ("fails", 3)])
def test_learning_ends_by_the_clock_with_what_was_validated_last(tmp_path: Path, mode: str, status: int) -> None:
    done, out = ran(tmp_path, "learn.sh", mode, ATOMMEM_SECONDS="19"), tmp_path / "out"
    assert done.returncode == status, done.stderr
    table = (out / "table.md").read_text()
    assert "| 5 | 1 | 1.00" in table
    assert table in done.stdout
    sft, grpo = (out / "asked").read_text().splitlines()
    assert sft.startswith("sft_qwen3_8b")
    assert grpo == f"{out}/sft_checkpoints/global_step_60/huggingface grpo_smollm2_1gpu more=1"


@pytest.mark.parametrize(("mode", "status"), [("goes on", 124), ("fails", 3)])
def test_the_first_steps_that_fail_or_take_too_long_leave_a_table(tmp_path: Path, mode: str, status: int) -> None:
    done, out = ran(tmp_path, "first_steps.sh", mode, ATOMMEM_PATIENCE="3"), tmp_path / "out"
    assert done.returncode == status, done.stderr
    assert "| 1 | 1 | 0.000 |" in (out / "table.md").read_text()
    assert (out / "asked").read_text() == "somewhere grpo_smollm2_1gpu more=1\n"


def test_held_out_items_are_played_twice_under_two_names(tmp_path: Path, report: ModuleType) -> None:
    import pyarrow.parquet as pq

    from atommem_gym.cli import main

    task = ["num_docs=12", "entities=1", "attributes=1", "changes_per_fact=2", "chunk_tokens=50", "store=numpy"]
    for folder, more, items in (
        ("data", [], "3"),
        ("other", ['operations=["create","read","delete"]'], "3"),
        ("fewer", [], "2"),
    ):
        sizes = ["--train", "1", "--validation", items]
        assert main(["data", "verl", "Drift", "-o", str(tmp_path / folder), *sizes, "--set", *task, *more]) == 0

    def twice(other: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, str(CONFIGS / "gpu" / "held_out_twice.py"), str(tmp_path / "data")]
        return subprocess.run(
            [*command, str(tmp_path / other)], capture_output=True, text=True, timeout=60, check=False
        )

    failed = twice("fewer")
    assert failed.returncode == 1
    assert "different items" in failed.stderr
    assert twice("other").returncode == 0
    rows = pq.read_table(tmp_path / "data" / "validation.parquet").to_pylist()
    assert [row["data_source"] for row in rows] == ["Drift"] * 3 + ["Drift without Update"] * 3
    told = [(row["extra_info"]["part"], row["extra_info"]["item"]) for row in rows]
    assert told[3:] == [(report.PART, item) for _, item in told[:3]]
    keywords = [json.loads(row["extra_info"]["env_keywords"]).get("operations") for row in rows]
    assert keywords == [None] * 3 + [["create", "read", "delete"]] * 3
