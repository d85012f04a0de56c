"""Documents are reported as they were played, and pictures of many environments fit a page."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path

import pytest
from support.evaluations import row, small_plan

from atommem_gym.evaluation.folder import Run, read_run
from atommem_gym.evaluation.paired import compare
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evaluation.plots import DPI, em_figure, operations_figure
from atommem_gym.evaluation.progress import Board
from atommem_gym.evaluation.report import make_report
from atommem_gym.evaluation.runner import evaluate
from atommem_gym.evaluation.tables import markdown, terminal_tables, to_csv
from atommem_gym.traces import read_traces


def test_finding_6_6_documents_that_a_length_sets_are_reported_as_played(tmp_path: Path) -> None:
    plan = Plan.from_values(
        {
            "envs": [{"id": "Needle", "settings": {"length": 800}}, {"id": "Synthetic"}],
            "agents": ["silent"],
            "docs": 20,
            "episodes": 2,
            "settings": {"store": "numpy"},
        }
    )
    report = make_report(evaluate(plan, tmp_path / "run"))
    played = [
        len(trace.documents) for trace in read_traces(tmp_path / "run" / "traces.jsonl") if "Needle" in trace.env.id
    ]
    assert len(played) == 2
    mean = f"{sum(played) / 2:.0f}"
    assert mean != "20"
    assert [cell.size for cell in report.cells] == [mean, "20"]
    assert f"| Needle | {mean} | `silent` |" in markdown(report)
    assert "at 20 documents" not in em_figure(report).get_supxlabel()
    shown = [row[1].plain for row in next(terminal_tables(report, 200)).rows if row]
    assert shown == [mean, "20"]
    run = read_run(tmp_path / "run")
    board = Board()
    board.begin(plan, replace(run, results=()))
    assert [one.size for one in board.rows.values()] == ["20", "20"]
    for result in run.results:
        board.finished(result)
    assert [one.size for one in board.rows.values()] == [mean, "20"]
    compared = compare(run, run, "em", ("silent", "silent"))
    assert [(one.env, one.docs, one.size) for one in compared.rows] == [
        ("Needle", "20", mean),
        ("Synthetic", "20", "20"),
        ("all", "all", "all"),
    ]
    rows = list(csv.DictReader(io.StringIO(to_csv(report))))
    assert [one["documents_played"] for one in rows] == [str(sum(played) / 2), ""]


@pytest.mark.parametrize("count", [1, 3, 4, 20])
def test_finding_6_6_many_panels_wrap_into_rows(count: int) -> None:
    names = [f"Needle {i}" for i in range(count)]
    envs = [{"id": "Needle", "label": name, "settings": {"depth": 0.5}} for name in names]
    plan = small_plan(envs=envs, agents=["tidy"], docs=200, seeds=0, episodes=1)
    report = make_report(Run(Path("r"), plan, tuple(row(env=name) for name in names), (), ()))
    for figure in (em_figure(report), operations_figure(report)):
        width, height = figure.get_size_inches() * DPI
        assert width <= 2000
        assert height <= 3000
        titled = [axes.get_title() for axes in figure.axes if axes.axison]
        assert titled == names
