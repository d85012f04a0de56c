"""What the documentation says of the size of training runs is what the program computes."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytest.importorskip("tyro")
sys.path.insert(0, str(ROOT / "benchmarks"))

import verl_numbers as program  # noqa: E402

COMMITTED: dict[str, Any] = json.loads((ROOT / "benchmarks/results/verl_numbers.json").read_text("utf-8"))


def test_finding_5_2_the_documented_rows_are_the_computed_ones() -> None:
    page = (ROOT / "docs" / "train_your_own.md").read_text("utf-8")
    documented = [line for line in page.splitlines() if line.startswith("| `grpo_") and " to " in line]
    computed = []
    for run in COMMITTED["runs"]:
        numbers, keywords = run["numbers"], run["keywords"]
        if run["overrides"] == ["adapter=lora"]:
            continue
        name = " ".join([f"`{run['config']}`", *(f"`{one}`" for one in run["overrides"])])
        played = str(keywords["num_docs"])
        if "chunk_tokens" in keywords:
            played += f", chunks of {keywords['chunk_tokens']:,}"
        rows = f"{numbers['rows_least']:,} to {numbers['rows_most']:,}"
        computed.append(f"| {name} | {played} | {rows} | {numbers['mini_batch_rows']:,} | {numbers['updates_most']} |")
    assert documented == computed


def test_the_committed_numbers_are_what_the_program_computes_today(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("verl", reason="needs veRL, which composes the configurations: make verl-environment")
    monkeypatch.setenv("ATOMMEM_DATA", str(shared_data))
    for name in ("AGENT_LOOP", "STORE", "EMBEDDER", "SESSIONS", "RUN", "TEMPLATE", "OUT"):
        monkeypatch.setenv(f"ATOMMEM_{name}", "unused")
    monkeypatch.setenv("VERL_FILE_LOGGER_PATH", "unused")
    monkeypatch.delenv("ATOMMEM_MODEL", raising=False)
    for (config, overrides, model, keywords), run in zip(program.RUNS, COMMITTED["runs"], strict=True):
        assert (config, list(overrides), keywords) == (run["config"], run["overrides"], run["keywords"])
        monkeypatch.setitem(os.environ, "ATOMMEM_MINI_BATCH", "1")
        steps, numbers = program.numbers_of(config, overrides, model, keywords, 64)
        assert steps.as_json() == run["steps"]
        assert {name: getattr(numbers, name) for name in run["numbers"]} == run["numbers"]
