"""Summaries, tables and plots: every number against one worked out by hand (issue 5)."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from support.evaluations import row, small_plan

from atommem_gym.evaluation.folder import Run
from atommem_gym.evaluation.plan import Cell
from atommem_gym.evaluation.plots import CAUSE_COLOURS, CORRECT
from atommem_gym.evaluation.report import Report, make_report
from atommem_gym.evaluation.results import EpisodeResult, FailedEpisode, QuestionResult
from atommem_gym.evaluation.summary import summarize
from atommem_gym.evaluation.tables import markdown, notes, terminal_tables, to_csv
from atommem_gym.traces import CAUSES

CELL = Cell("HotpotQA", 200, "tidy")
PLAN = small_plan(
    envs=["HotpotQA", "MuSiQue"], docs=[200, 400], agents=["tidy", "crud"], seeds=[0], episodes=4, model="m"
)


def a_report(**changes: Any) -> Report:
    """Two agents in one environment at two counts; a failed episode, the other environment not played."""
    results = [row(agent="tidy", docs=docs, index=i, em=float(i < 3)) for docs in (200, 400) for i in range(4)]
    crud = {
        "agent": "crud",
        "calls": 2,
        "prompt_tokens": 1000,
        "completion_tokens": 50,
        "cut_short": 1,
        "cut_prompts": 2,
        "retries": 3,
    }
    results += [row(docs=docs, index=i, em=float(i < docs // 200), **crud) for docs in (200, 400) for i in range(3)]
    failed = FailedEpisode("HotpotQA", 200, "crud", 0, 3, 0, 1, "ModelUnavailableError", "gone", "2026-11-22")
    session = {"at": "2026-11-22T16:00:00+00:00", "cpu": "a cpu", "python": "3.11", "versions": "atommem-gym 0.1"}
    ended = {"seconds": 10.0, "played": {"episodes": 14, "steps": 40, "prompt_tokens": 900, "completion_tokens": 100}}
    ended["work"] = {"agents": 20.0, "environments": 3.0, "storing": 1.5, "recording": 0.25}
    run = Run(Path("run"), PLAN, tuple(results), (failed,), ({**session, **ended}, session))
    return make_report(replace(run, **changes), resamples=500)


def test_a_summary_by_hand() -> None:
    results = [
        row(index=0, em=1.0, f1=1.0, operations={"create": 4, "read": 2}, agent_ms=(1.0, 2.0), env_ms=(3.0, 4.0)),
        row(index=0, seed=1, em=0.0, f1=0.5, operations={"create": 8, "read": 2}, agent_ms=(10.0,), env_ms=(80.0,)),
        row(index=1, em=0.0, f1=0.3, rejected={"empty": 2, "bad_id": 1}, peak_entries=40, steps=5),
    ]
    cell = summarize(CELL, results, planned=6, failed=1)
    assert (cell.episodes, cell.planned, cell.failed, cell.missing, cell.items) == (3, 6, 1, 2, 2)
    assert cell.metrics["em"].mean == pytest.approx(1 / 3)
    assert cell.metrics["f1"].mean == pytest.approx(0.6)
    assert cell.operations == {
        "create": pytest.approx(22 / 3),
        "read": pytest.approx(7 / 3),
        "answer": pytest.approx(1 / 3),
    }
    assert (cell.rejected, cell.peak_entries, cell.steps) == (1.0, 20.0, 3.0)
    assert cell.agent_ms[0] == 2.0
    assert cell.env_ms[0] == 3.0
    assert cell.env_share == pytest.approx((7 + 80 + 4) / (7 + 80 + 4 + 3 + 10 + 4))
    assert (cell.questions, cell.wrong, cell.causes) == (3, 2, {"never stored": 2})
    assert (cell.prompt_tokens, cell.tokens) == (None, None), "no language model played"


def test_intervals_resample_items_where_seeds_repeat_them() -> None:
    once = [row(index=i, em=float(i % 2)) for i in range(10)]
    thrice = [row(index=i, seed=seed, em=float(i % 2)) for i in range(10) for seed in range(3)]
    assert summarize(CELL, once, planned=10).metrics["em"] == summarize(CELL, thrice, planned=30).metrics["em"]


def test_the_order_of_results_makes_no_difference() -> None:
    results = [row(index=i, em=float(i % 3 == 0), f1=i / 10) for i in range(10)]
    assert summarize(CELL, results, planned=10) == summarize(CELL, results[::-1], planned=10)


def test_agents_that_answered_alike_have_the_same_interval() -> None:
    results = [row(index=i, em=float(i % 3 == 0)) for i in range(12)]
    others = [replace(result, agent="other") for result in results]
    one = summarize(CELL, results, planned=12)
    other = summarize(Cell("HotpotQA", 200, "other"), others, planned=12)
    assert one.metrics == other.metrics


def test_tokens_that_one_episode_does_not_know_are_not_guessed() -> None:
    known = row(calls=2, prompt_tokens=10, completion_tokens=4)
    assert summarize(CELL, [known], planned=1).tokens == 14
    assert summarize(CELL, [known, row(index=1, calls=1, prompt_tokens=None)], planned=2).tokens is None
    with pytest.raises(ValueError, match="no finished episodes"):
        summarize(CELL, [], planned=1)


def test_causes_are_those_of_the_traces_and_later_ones_are_shown() -> None:
    assert set(CAUSE_COLOURS) == {*CAUSES, CORRECT}
    questions = tuple(
        QuestionResult(f"q{i}", "", 0.0, 0.0, "answered", cause) for i, cause in enumerate((*CAUSES, "new"))
    )
    report = make_report(
        Run(
            Path("run"),
            small_plan(envs=["HotpotQA"], agents=["tidy"], docs=200),
            (row(em=0.0, questions=questions),),
            (),
            (),
        )
    )
    assert dict(report.cells[0].causes) == dict.fromkeys((*CAUSES, "new"), 1)
    assert "| new |" in markdown(report)


def test_a_report_says_what_failed_and_what_is_missing() -> None:
    report = a_report()
    assert [summary.cell for summary in report.cells] == [
        Cell("HotpotQA", d, a) for d in (200, 400) for a in ("tidy", "crud")
    ]
    assert (report.episodes, report.failed, report.missing, len(report.empty)) == (14, 1, 17, 4)
    warnings = " ".join(report.warnings())
    assert "1 episode failed and counts in no mean (1 × ModelUnavailableError; the last: gone)" in warnings
    assert "17 of 32 episodes have not been played" in warnings
    assert "6 completions ended at their token limit" in warnings
    assert "in 12 steps the model was not shown everything" in warnings
    assert "18 calls of the model failed and were repeated" in warnings
    complete = Run(
        Path("r"), small_plan(envs=["HotpotQA"], agents=["tidy"], docs=200, seeds=0, episodes=1), (row(),), (), ()
    )
    assert make_report(complete).warnings() == []


def test_the_page_has_every_number_and_its_meaning() -> None:
    page = markdown(a_report(), [("Exact match", "em.png")])
    assert "| HotpotQA | 200 | `tidy` | 4 | 0.75 (" in page
    assert "| HotpotQA | 200 | `crud` | 3/4 +1 failed | 0.33 (" in page
    assert "1,000 | 50 |" in page
    assert "| HotpotQA | 400 | `crud` | 3 | 1 (33%) | 1 (100%) | – |" in page
    assert "![Exact match](em.png)" in page
    assert "| 2026-11-22 16:00 | 14 | 10.0 | 1.40 | 100 | 20.0 | 3.0 | 1.5 (storing 1.5) | 37.50 | 0.2 |" in page
    assert "| 2026-11-22 16:00 |  | killed |" in page
    assert "2026-11-22 · a cpu · Python 3.11 · atommem-gym 0.1" in page
    assert "percentile bootstrap intervals over episodes" in page


def test_that_items_and_not_episodes_are_resampled_is_said() -> None:
    results = (row(seed=0), row(seed=1), row(index=1), row(index=1, seed=1))
    plan = small_plan(envs=["HotpotQA"], agents=["tidy"], docs=200, seeds=[0, 1], episodes=2)
    text = " ".join(notes(make_report(Run(Path("r"), plan, results, (), ()))))
    assert "over items (whole items are drawn, since an item was played with several seeds)" in text


def test_hostile_names_do_not_break_the_page() -> None:
    plan = small_plan(
        envs=["HotpotQA"], docs=200, agents=[{"name": "tidy", "label": "a|b\n[red]c"}], seeds=0, episodes=1
    )
    report = make_report(Run(Path("r"), plan, (row(agent="a|b\n[red]c"),), (), ()))
    assert "`a\\|b [red]c`" in markdown(report)
    console = Console(width=200, record=True, file=io.StringIO())
    for table in terminal_tables(report, 200):
        console.print(table)
    assert "[red]c" in console.export_text()


@pytest.mark.parametrize("width", [80, 100, 160, 240])
def test_tables_fit_the_terminal(width: int) -> None:
    console = Console(width=width, record=True, file=io.StringIO())
    for table in terminal_tables(a_report(), width):
        console.print(table)
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    for part in ("0.75 (", "tidy", "crud", "1,000", "never"):
        assert part in text


def test_csv_is_one_row_a_cell_in_full_precision() -> None:
    rows = list(csv.DictReader(io.StringIO(to_csv(a_report()))))
    assert [(r["env"], r["docs"], r["agent"]) for r in rows][:2] == [
        ("HotpotQA", "200", "tidy"),
        ("HotpotQA", "200", "crud"),
    ]
    assert float(rows[1]["em"]) == 1 / 3
    assert (rows[0]["prompt_tokens"], rows[1]["prompt_tokens"]) == ("", "1000.0")
    assert (rows[0]["never_stored"], rows[0]["not_answered"]) == ("1", "0")
    alone = make_report(Run(Path("r"), small_plan(envs=["HotpotQA"], agents=["tidy"], docs=200), (row(),), (), ()))
    single = next(csv.DictReader(io.StringIO(to_csv(alone))))
    assert (single["em"], single["em_low"]) == ("1.0", ""), "one item has no interval"
    assert math.isnan(alone.cells[0].metrics["em"].low)


def bars(axes: Any) -> dict[str, float]:
    """Widths of the bars of a panel, added up over rows, by what they stand for."""
    return {container.get_label(): sum(patch.get_width() for patch in container) for container in axes.containers}


@pytest.fixture
def plots() -> Any:
    pytest.importorskip("matplotlib", reason="needs matplotlib: pip install 'atommem-gym[plots]'")
    import atommem_gym.evaluation.plots as module

    return module


def test_plots_show_the_numbers(plots: Any) -> None:
    report = a_report()
    axes = plots.em_figure(report).axes
    lines = {line.get_label(): list(line.get_ydata()) for line in axes[0].get_lines()}
    assert lines["tidy"] == [0.75, 0.75]
    assert lines["crud"] == pytest.approx([1 / 3, 2 / 3])
    assert len(axes) == 1, "an environment without episodes has no panel"
    operations = bars(plots.operations_figure(report).axes[0])
    assert operations == pytest.approx({"create": 40 / 14, "read": 12 / 14, "answer": 4 / 14})
    assert [text.get_text() for text in plots.operations_figure(report).axes[0].texts] == ["14"] * 4
    causes = bars(plots.causes_figure(report).axes[0])
    assert causes == pytest.approx({"answered right": 2.5, "never stored": 1.5})
    cost = {line.get_label(): list(line.get_xdata()) for line in plots.cost_figure(report).axes[0].get_lines()}
    assert cost["crud"] == [1050, 1050]
    assert cost["tidy"] == [], "an agent without a language model has no tokens"


def test_without_language_models_cost_is_operations_and_one_count_gives_dots(plots: Any) -> None:
    plan = small_plan(envs=["HotpotQA"], agents=["tidy", "silent"], docs=200, seeds=0, episodes=2)
    results: tuple[EpisodeResult, ...] = tuple(row(index=i, em=float(i)) for i in range(2))
    results += tuple(row(agent="silent", index=i, operations={}) for i in range(2))
    report = make_report(Run(Path("r"), plan, results, (), ()))
    cost = {line.get_label(): list(line.get_xdata()) for line in plots.cost_figure(report).axes[0].get_lines()}
    assert (cost["tidy"], cost["silent"]) == ([14], [0])
    axes = plots.em_figure(report).axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["tidy", "silent"]


def test_plots_are_files_and_nothing_is_drawn_of_nothing(plots: Any, tmp_path: Path) -> None:
    drawn = plots.write_plots(a_report(), tmp_path)
    assert [name for _, name in drawn] == ["em.png", "operations.png", "causes.png", "cost.png"]
    for _, name in drawn:
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    assert plots.write_plots(a_report(results=()), tmp_path) == []


def test_a_report_of_nothing(tmp_path: Path) -> None:
    report = a_report(results=(), failures=(), sessions=())
    assert "32 of 32 episodes have not been played" in markdown(report)
    assert to_csv(report) == ""
