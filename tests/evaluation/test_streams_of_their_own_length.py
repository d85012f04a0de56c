"""Documents are reported as they were played, and pictures of many environments fit a page."""

from __future__ import annotations

import csv
import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.evaluations import row, small_plan

from atommem_gym.commands.traces.runs import page_runs
from atommem_gym.evaluation.folder import Run, read_run
from atommem_gym.evaluation.grids import expand, find_grids
from atommem_gym.evaluation.paired import compare
from atommem_gym.evaluation.panels import DPI, MOST_INCHES
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evaluation.plots import cost_figure, em_figure, grid_figure, operations_figure, write_plots
from atommem_gym.evaluation.progress import Board
from atommem_gym.evaluation.report import Report, make_report
from atommem_gym.evaluation.runner import evaluate
from atommem_gym.evaluation.tables import markdown, terminal_tables, to_csv
from atommem_gym.traces import read_traces
from atommem_gym.traces.codec import to_json


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
    assert [one.text for one in board.rows.values()] == [
        f"Needle, {mean} documents, silent",
        "Synthetic, 20 documents, silent",
    ]
    (page_run,) = page_runs([tmp_path / "run"])
    rows = [page_run.row(to_json(trace), 0, place) for place, trace in enumerate(read_traces(page_run.traces))]
    assert sorted(one["documents"] for one in rows) == sorted([*played, 20, 20])
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


def made_report(envs: list[Any], agents: list[Any], docs: list[int], episodes: int = 2) -> Report:
    """A report of made-up rows, of which every other one is right."""
    plan = small_plan(envs=envs, agents=agents, docs=docs, seeds=0, episodes=episodes)
    rows = [
        row(env=env.label, docs=count, agent=agent.label, index=i, em=float(i % 2))
        for env in plan.envs
        for count in plan.docs_of(env)
        for agent in plan.agents
        for i in range(episodes)
    ]
    return make_report(Run(Path("r"), plan, tuple(rows), (), ()))


def grid_report(agents: list[Any], lengths: int = 8) -> Report:
    grid = {"depth": [0, 0.5, 1], "length": [1000 * (i + 1) for i in range(lengths)]}
    return made_report(expand([{"id": "Needle"}], grid), agents, [20])


def test_finding_6_6_heat_maps_of_many_agents_wrap_into_rows() -> None:
    agents = ["tidy", "keep_all", "silent", "random", "oracle", "overwrite"]
    for report in (grid_report(agents), grid_report(agents[:1], lengths=30)):
        (grid,) = find_grids(report.plan.envs)
        figure = grid_figure(report, grid)
        assert figure.get_figwidth() <= MOST_INCHES
        maps = [axes for axes in figure.axes if axes.images]
        assert [axes.get_title() for axes in maps] == [agent.label for agent in report.plan.agents]
        # The mean and its interval in every cell, and of how many episodes.
        texts = [text.get_text() for text in maps[0].texts]
        assert len(texts) == 2 * len(grid.labels)
        assert set(texts) == {"0.50", "0.00–1.00"}
        assert "n 2 episodes a cell, below 95\u00a0% intervals" in " ".join(figure.get_supxlabel().split("\n"))


def test_finding_6_6_a_grid_is_drawn_as_a_heat_map_and_not_as_dozens_of_panels(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda *arguments, **keywords: None)
    for name in ("em.png", "grid-AtomMem-Drift-v0.png", "mine.png"):
        (tmp_path / name).touch()
    report = grid_report(["tidy"], lengths=2)
    drawn = [name for _, name in write_plots(report, tmp_path)]
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"], "those of an older release are gone"
    assert drawn == ["operations.png", "causes.png", "grid-AtomMem-Needle-v0.png"]
    both = made_report([*expand([{"id": "Needle"}], {"depth": [0, 1], "length": [1, 2]}), "Drift"], ["tidy"], [20])
    assert {name for _, name in write_plots(both, tmp_path)} >= {"em.png", "cost.png", "grid-AtomMem-Needle-v0.png"}


def test_finding_6_6_long_names_leave_room_for_bars_and_stand_in_full() -> None:
    names = [f"crud · some-organisation/a-model-of-{i}b-instruct-2507" for i in range(4)]
    agents = [{"name": "tidy", "label": name} for name in names]
    report = made_report(["HotpotQA", "Forget", "Drift"], agents, [50, 200])
    for figure in (operations_figure(report), em_figure(report)):
        assert figure.get_figwidth() <= MOST_INCHES
        figure.draw_without_rendering()
        assert min(axes.get_position().width for axes in figure.axes if axes.axison) * MOST_INCHES > 1.5
    bars = operations_figure(report).axes
    shown = ["".join(label.get_text().split("\n")) for label in bars[0].get_yticklabels()]
    assert [text.replace(" ", "") for text in shown[:4]] == [f"{name} · 50".replace(" ", "") for name in names]
    # A row is as high in both panels side by side, though the second has half as many.
    assert len(bars[1].get_yticklabels()) == 4
    assert bars[0].get_ylim() == bars[1].get_ylim()


def test_finding_6_6_labels_name_n_and_costs_are_plain_numbers() -> None:
    report = made_report(["HotpotQA"], ["tidy", "keep_all"], [50, 200], episodes=4)
    for figure in (em_figure(report), cost_figure(report)):
        assert "n 4 episodes a point, upright lines: 95\u00a0% intervals" in figure.get_supxlabel().replace("\n", " ")
        (axes,) = figure.axes
        (low, high), *_ = [segment[:, 1] for lines in axes.collections for segment in lines.get_segments()]
        assert (low, high) == (report.cells[0].metrics["em"].low, report.cells[0].metrics["em"].high)
    axes = cost_figure(report).axes[0]
    cost_figure(report).draw_without_rendering()
    ticks = [label.get_text() for label in axes.get_xticklabels()] + [
        label.get_text() for label in axes.get_xticklabels(minor=True)
    ]
    assert all(text.replace(",", "").replace(".", "").isdigit() for text in ticks if text)
    assert any(ticks)
