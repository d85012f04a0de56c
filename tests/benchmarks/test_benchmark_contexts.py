"""The leaderboard of contexts: answerable EM and abstention apart, no text of records, one line for a set more."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from rich.console import Console
from support.benchmarks import scripts

from atommem_gym.errors import ConfigError


@pytest.fixture(scope="module")
def bench() -> Iterator[ModuleType]:
    """``benchmarks/contexts.py``, imported as it is when it is run."""
    with scripts.imported("contexts") as module:
        yield module


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder with a file in FactConsolidation's shape, and none of LoCoMo."""
    folder = tmp_path / "data"
    folder.mkdir()
    facts = "\n".join(f"{i}. The capital of Land{i % 30} is Town{i}." for i in range(40))
    asked = {f"What is the capital of Land{i}?": [f"Town{i + 30}" if i < 10 else f"Town{i}"] for i in range(12)}
    record = {"context": facts, "questions": list(asked), "answers": list(asked.values()), "metadata": {"source": "x"}}
    (folder / "factconsolidation4.json").write_text(json.dumps([record]), encoding="utf-8")
    monkeypatch.setenv("ATOMMEM_DATA", str(folder))
    return folder


def test_the_command_plays_what_is_there_and_writes_no_text_of_records(
    bench: ModuleType, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    monkeypatch.setattr(bench, "SETS", bench.SETS[:2])
    options = bench.Options(agents=("silent", "keep_all"), episodes=2, questions=4, out=out)
    assert bench.main(options) == 0
    text = (out / "contexts.json").read_text(encoding="utf-8")
    cells = [bench.ContextCell(**cell) for cell in json.loads(text)["cells"]]
    assert [(cell.agent, cell.embedder) for cell in cells] == [
        ("silent", "hashing"),
        ("keep_all", "hashing"),
        ("keep_all", "random"),
    ]
    assert all(len(cell.answers) == 2 and cell.questions == 8 for cell in cells)
    page = (out / "contexts.md").read_text(encoding="utf-8")
    assert "capital" not in text + page
    assert page.count("| `keep_all` |") == 2
    assert (out / "contexts.png").stat().st_size > 1000


def test_a_set_without_a_file_is_skipped_and_said_and_a_generated_one_needs_none(
    bench: ModuleType, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "SETS", (*bench.SETS[:2], bench.ContextSet("Generated", keywords={"sessions": 5})))
    said = io.StringIO()
    found = list(bench.playable((), Console(file=said, width=200)))
    assert [one.task for one, _ in found] == ["FactConsolidation", "Generated"]
    assert found[1][1] == {"sessions": 5}
    assert "LoCoMo skipped" in said.getvalue()


@pytest.mark.parametrize("source", ["LoCoMo", "Other=x.json", "=x.json"])
def test_a_source_that_names_no_set_is_an_error(bench: ModuleType, source: str) -> None:
    with pytest.raises(ConfigError, match="must be SET=PATH with one of LoCoMo, FactConsolidation"):
        list(bench.playable((source,), Console(file=io.StringIO())))


def cell(bench: ModuleType, answers: list[list[list[int]]]) -> Any:
    return bench.ContextCell("T", "hashing", "tidy", answers, [None] * len(answers), 1, 1.0, 1.0, 1.0, 1.0, 1.0)


def test_R5_answerable_em_and_precision_and_recall_of_abstention_stand_apart(bench: ModuleType) -> None:
    # Right, wrong, abstained for nothing; then a right abstention and an unanswerable question that was answered.
    episodes = [[[1, 1, 0], [0, 1, 0], [0, 1, 1]], [[1, 0, 1], [0, 0, 0]]]
    em, precision, recall = bench.measured(cell(bench, episodes))
    assert [em[0], precision[0], recall[0]] == [1 / 3, 1 / 2, 1 / 2]
    assert all(low <= value <= high for value, low, high in (em, precision, recall))


def test_R5_nothing_is_said_of_abstention_where_every_question_has_an_answer(bench: ModuleType) -> None:
    assert bench.measured(cell(bench, [[[1, 1, 0], [0, 1, 1]]]))[1:] == [None, None]
    em, precision, recall = bench.measured(cell(bench, [[[0, 0, 0]]]))
    assert em is None
    assert precision is None
    assert recall == (0.0, 0.0, 0.0)
