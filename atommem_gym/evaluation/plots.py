"""Reports as pictures: EM against documents, operation mix, failure causes, and what an exact match costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from atommem_gym.errors import AtomMemError
from atommem_gym.evaluation.grids import Grid, find_grids, heat_maps
from atommem_gym.evaluation.panels import (
    DPI,
    GRID,
    INTERVALS,
    amount_axis,
    counted_cells,
    document_axis,
    grouped,
    label,
    legend,
    lines_of,
    panels,
    percent_axis,
    place_of,
    row_axis,
    unit_axis,
)
from atommem_gym.evaluation.report import Report, counts
from atommem_gym.evaluation.statistics import Interval
from atommem_gym.evaluation.summary import CellSummary
from atommem_gym.evaluation.tables import ABSTENTION_HEADERS
from atommem_gym.traces.record import CAUSES

# Okabe and Ito's palette, which colour-blind readers can tell apart; markers tell more than eight agents apart.
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#000000", "#999999")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
KIND_COLOURS = {
    "create": "#009e73",
    "read": "#0072b2",
    "update": "#e69f00",
    "delete": "#d55e00",
    "scratchpad": "#cc79a7",
    "answer": "#999999",
}
CORRECT = "answered right"
CAUSE_COLOURS = {
    CORRECT: "#e3e3e3",
    "not erased": "#009e73",
    "never stored": "#d55e00",
    "stored then lost": "#e69f00",
    "stored but not retrieved": "#0072b2",
    "not shown": "#56b4e9",
    "retrieved but answered wrong": "#cc79a7",
    "not answered": "#4d4d4d",
}


class PlotsUnavailableError(AtomMemError, RuntimeError):
    """Matplotlib is not installed."""


def write_plots(report: Report, folder: Path) -> list[tuple[str, str]]:
    """Draw all pictures of a report into a folder; returns their titles and file names.

    Raises:
        PlotsUnavailableError: matplotlib is not installed.
    """
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise PlotsUnavailableError("no plots: pip install 'atommem-gym[plots]'") from error
    if not report.cells:
        return []
    grids = find_grids(report.plan.envs)
    mapped = {env for grid in grids for env in grid.labels.values()}
    # Of a grid the heat map says what dozens of small panels would.
    others = replace(report, cells=tuple(cell for cell in report.cells if cell.cell.env not in mapped))
    drawn: list[tuple[str, str, Any]] = []
    if others.cells:
        drawn.append(("Exact match against documents", "em.png", em_figure(others)))
    drawn += [
        ("Operations an episode", "operations.png", operations_figure(report)),
        ("What became of the questions", "causes.png", causes_figure(report)),
    ]
    if others.cells:
        drawn.append(("Exact match against cost", "cost.png", cost_figure(others)))
    if any(cell.gain for cell in report.cells):
        drawn.append(("What memory is worth", "gain.png", gain_figure(report)))
    if any(cell.abstention for cell in report.cells):
        drawn.append(("Questions with and without an answer", "abstention.png", abstention_figure(report)))
    for grid in grids:
        name = f"grid-{grid.env_id}.png"
        drawn.append((f"Exact match by {grid.y} and {grid.x}, {grid.env_id}", name, grid_figure(report, grid)))
    for old in _own_pictures(folder):
        old.unlink()  # an older release may have drawn others
    for _, name, figure in drawn:
        figure.savefig(folder / name, dpi=DPI)
    return [(title, name) for title, name, _ in drawn]


def _own_pictures(folder: Path) -> list[Path]:
    """The pictures in a folder that have a name of ours."""
    names = ("em", "operations", "causes", "cost", "gain", "abstention", "grid-*")
    return [path for name in names for path in folder.glob(f"{name}.png") if path.is_file() and not path.is_symlink()]


def grid_figure(report: Report, grid: Grid) -> Any:
    """EM by the two settings of a grid, an agent (and document count, if there are several) a heat map."""
    found = {(one.cell.agent, one.cell.docs, one.cell.env): one for one in report.cells}
    maps = [(agent.label, docs) for docs in _all_docs(report) for agent in report.plan.agents]
    tables = [[[found.get((*one, grid.labels[x, y])) for x in grid.xs] for y in grid.ys] for one in maps]
    several = len(_all_docs(report)) > 1
    titles = [f"{agent}, {docs} documents" if several and docs else agent for agent, docs in maps]
    ems = [[[None if one is None else one.metrics["em"] for one in row] for row in table] for table in tables]
    played = [one.episodes for table in tables for row in table for one in row if one is not None]
    note = counted_cells(played, "episodes", "cell") if played else ""
    return heat_maps(titles, ems, grid.x, grid.y, grid.xs, grid.ys, note=note)


def em_figure(report: Report) -> Any:
    """EM with intervals against document counts, an environment a panel; with one count, a dot an agent."""
    looks = _looks(report)

    def curves(axes: Any, cells: Sequence[CellSummary]) -> None:
        lines, docs = grouped(cells), sorted({cell.cell.docs for cell in cells})
        # A little apart, or agents that score alike would hide each other.
        nearest = min((math.log2(b / place_of(a)) for a, b in pairwise(docs)), default=1.0)
        spread = min(0.5 * nearest, 0.045 * (len(lines) - 1))
        for place, (agent, line) in enumerate(lines.items()):
            aside = 2 ** (spread * (place / max(len(lines) - 1, 1) - 0.5))
            xs = [place_of(cell.cell.docs) * aside for cell in line]
            _intervals(axes, xs, line, looks[agent]["color"])
            axes.plot(xs, [cell.metrics["em"].mean for cell in line], label=agent, **looks[agent])
        document_axis(axes, docs, spread)
        unit_axis(axes, "y")

    def dots(axes: Any, cells: Sequence[CellSummary]) -> None:
        for place, cell in enumerate(cells):
            em, look = cell.metrics["em"], looks[cell.cell.agent]
            if em.known:
                axes.plot([em.low, em.high], [place, place], color=look["color"], linewidth=1.8, solid_capstyle="round")
            axes.plot([em.mean], [place], linestyle="", **{**look, "markersize": 7})
        row_axis(axes, [cell.cell.agent for cell in cells])
        unit_axis(axes, "x")

    docs = _all_docs(report)
    if len(docs) > 1:
        figure = panels(report.cells, curves, lambda cells: 3.3)
        label(figure, f"documents in the stream; {_of_episodes(report.cells)}", "exact match")
        legend(figure)
    else:
        figure = panels(
            report.cells, dots, lambda cells: 0.9 + 0.34 * len(cells), row_names=lambda cell: cell.cell.agent
        )
        sizes = {cell.size for cell in report.cells}
        what = f"exact match at {docs[0]} documents" if sizes == {str(docs[0])} else "exact match"
        label(figure, f"{what}; {_of_episodes(report.cells, 'dot')}")
    return figure


def _intervals(axes: Any, xs: Sequence[float], cells: Sequence[CellSummary], colour: str) -> None:
    """Those of the exact match, as upright lines."""
    known = [(x, em) for x, cell in zip(xs, cells, strict=True) if (em := cell.metrics["em"]).known]
    axes.vlines(
        [x for x, _ in known],
        [em.low for _, em in known],
        [em.high for _, em in known],
        colors=colour,
        linewidth=1.1,
        alpha=0.6,
    )


def _of_episodes(cells: Sequence[CellSummary], where: str = "point") -> str:
    """How many episodes a mark stands for, and what the lines through it are."""
    played = counted_cells([cell.episodes for cell in cells], "episodes", where)
    lines = INTERVALS if where == "dot" else f"upright {INTERVALS}"
    return f"{played}, {lines}" if any(cell.metrics["em"].known for cell in cells) else played


def _played(report: Report) -> str:
    """How many episodes were played for a row, some of which may not count for each of its dots."""
    return f"{counted_cells([cell.episodes for cell in report.cells], 'episodes', 'row')} at most, {INTERVALS}"


def abstention_figure(report: Report) -> Any:
    """Per agent EM on the questions that have an answer, and precision and recall of abstention, with intervals."""
    shown = {header: name for header, name, _ in ABSTENTION_HEADERS}
    figure = _dots_figure(report, {header: _of_abstention(name) for header, name in shown.items()})
    label(figure, f"share of the questions that each is about; {_played(report)}")
    return figure


def gain_figure(report: Report) -> Any:
    """Per agent EM, memory gain, and the EM of the reader with nothing shown, with intervals."""
    found: dict[str, Callable[[CellSummary], Interval | None]] = {
        "EM": lambda cell: cell.metrics["em"],
        "memory gain": lambda cell: cell.gain.get("gain"),
        "closed-book EM": lambda cell: cell.gain.get("closed_book"),
    }
    figure = _dots_figure(report, found, unit=False)
    label(figure, f"exact match, and what of it memory is worth; {_played(report)}")
    return figure


def _of_abstention(name: str) -> Callable[[CellSummary], Interval | None]:
    return lambda cell: cell.abstention.get(name)


def _dots_figure(
    report: Report, shown: Mapping[str, Callable[[CellSummary], Interval | None]], *, unit: bool = True
) -> Any:
    """A row a cell with a dot and its interval for each of what is shown; ``unit``: the axis is from 0 to 1."""
    looks = {
        header: {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 7, "markeredgecolor": "white"}
        for place, header in enumerate(shown)
    }

    def dots(axes: Any, cells: Sequence[CellSummary]) -> None:
        for row, cell in enumerate(cells):
            for place, (header, of) in enumerate(shown.items()):
                found, y = of(cell), row + 0.22 * (place - 1)
                if found is None or math.isnan(found.mean):
                    continue
                if found.known:
                    axes.plot([found.low, found.high], [y, y], color=looks[header]["color"], linewidth=1.4)
                axes.plot([found.mean], [y], linestyle="", label=header, **looks[header])
        row_axis(axes, [name(cell) for cell in cells])
        if unit:
            unit_axis(axes, "x")
        else:
            axes.axvline(0, color="#999999", linewidth=0.8)

    name = _row_name(report)
    figure = panels(report.cells, dots, lambda cells: 0.9 + 0.5 * len(cells), row_names=name)
    legend(figure)
    return figure


def operations_figure(report: Report) -> Any:
    """Which operations an agent executes, as shares; how many in all is written beside."""
    kinds = [kind for kind in KIND_COLOURS if any(cell.operations.get(kind) for cell in report.cells)]

    def bars(axes: Any, cells: Sequence[CellSummary]) -> None:
        totals = [_operations(cell) for cell in cells]
        parts = {
            kind: [cell.operations.get(kind, 0.0) / (total or 1) for cell, total in zip(cells, totals, strict=True)]
            for kind in kinds
        }
        places = _stack(axes, cells, parts, KIND_COLOURS, _row_name(report))
        for place, total in zip(places, totals, strict=True):
            axes.text(1.02, place, f"{total:,.0f}", va="center", fontsize=7.5, color="#444444")
        percent_axis(axes)

    played = counted_cells([cell.episodes for cell in report.cells], "episodes", "bar")
    figure = panels(report.cells, bars, _rows_height(report), row_names=_row_name(report))
    label(figure, f"share of the operations (%), on the right operations an episode; {played}")
    legend(figure)
    return figure


def causes_figure(report: Report) -> Any:
    """Shares of the questions that were answered right, and of the causes why the others were not."""
    causes = [cause for cause in (*CAUSES, *counts(report.cells)) if any(cause in cell.causes for cell in report.cells)]
    causes = list(dict.fromkeys(causes))
    colours = {**dict.fromkeys(causes, "#f0e442"), **CAUSE_COLOURS}

    def bars(axes: Any, cells: Sequence[CellSummary]) -> None:
        shares = {CORRECT: [1 - cell.wrong / cell.questions for cell in cells]}
        shares |= {cause: [cell.causes.get(cause, 0) / cell.questions for cell in cells] for cause in causes}
        _stack(axes, cells, shares, colours, _row_name(report))
        percent_axis(axes)

    asked = counted_cells([cell.questions for cell in report.cells], "questions", "bar")
    figure = panels(report.cells, bars, _rows_height(report), row_names=_row_name(report))
    label(figure, f"share of the questions (%); {asked}")
    legend(figure)
    return figure


def cost_figure(report: Report) -> Any:
    """EM against tokens per episode, or against operations where no language model played; a line an agent."""
    looks = _looks(report)
    cost: Callable[[CellSummary], float | None] = _tokens if report.uses_models else _operations
    docs = sorted(_all_docs(report))
    what = "tokens an episode (prompt and completion)" if report.uses_models else "operations an episode"

    def points(axes: Any, cells: Sequence[CellSummary]) -> None:
        for agent, line in grouped(cells).items():
            known = [(value, cell) for cell in line if (value := cost(cell)) is not None]
            xs, ys = [value for value, _ in known], [cell.metrics["em"].mean for _, cell in known]
            _intervals(axes, xs, [cell for _, cell in known], looks[agent]["color"])
            look = {**looks[agent], "linewidth": 1.0, "markersize": _size(docs, docs[-1])}
            # The legend shows this line with its mark; the points have marks of their own sizes.
            axes.plot(xs, ys, label=agent, **{**look, "markevery": []})
            for x, y, (_, cell) in zip(xs, ys, known, strict=True):
                axes.plot([x], [y], **{**look, "markersize": _size(docs, cell.cell.docs)})
        # What agents do differs by orders of magnitude; some do nothing at all.
        amount_axis(axes, [value for cell in cells if (value := cost(cell)) is not None])
        unit_axis(axes, "y")

    figure = panels(report.cells, points, lambda cells: 3.3)
    if len(docs) > 1:
        what += f"; marks grow with the documents ({', '.join(str(count) for count in docs if count)})"
    drawn = [cell for cell in report.cells if cost(cell) is not None]
    label(figure, f"{what}; {_of_episodes(drawn)}" if drawn else what, "exact match")
    legend(figure)
    return figure


def _size(docs: Sequence[int], count: int) -> float:
    """Of a mark in points, growing with the documents."""
    return 4.0 + 5.0 * (docs.index(count) + 1) / len(docs)


def _operations(cell: CellSummary) -> float:
    return sum(cell.operations.values())


def _tokens(cell: CellSummary) -> float | None:
    return cell.tokens


def _all_docs(report: Report) -> list[int]:
    """The document counts of all environments; 0 for contexts, which come whole."""
    return list(dict.fromkeys(docs for env in report.plan.envs for docs in report.plan.docs_of(env)))


def _looks(report: Report) -> dict[str, dict[str, Any]]:
    """Colour and marker of every agent, the same in all pictures."""
    return {
        agent.label: {
            "color": COLOURS[place % len(COLOURS)],
            "marker": MARKERS[(place + place // len(COLOURS)) % len(MARKERS)],
            "markersize": 6,
            "markeredgecolor": "white",
            "markeredgewidth": 0.5,
            "linewidth": 1.6,
        }
        for place, agent in enumerate(report.plan.agents)
    }


def _row_name(report: Report) -> Callable[[CellSummary], str]:
    """What a cell's row is called: its agent, with the document count where there are several."""
    several = len(_all_docs(report)) > 1
    return lambda cell: f"{cell.cell.agent} · {cell.size}" if several else cell.cell.agent


def _stack(
    axes: Any,
    cells: Sequence[CellSummary],
    parts: Mapping[str, Sequence[float]],
    colours: Mapping[str, str],
    name: Callable[[CellSummary], str],
) -> list[float]:
    """Stacked horizontal bars, an agent a bar, a gap between document counts; returns where they are."""
    docs = list(dict.fromkeys(cell.cell.docs for cell in cells))
    places = [place + 0.6 * docs.index(cell.cell.docs) for place, cell in enumerate(cells)]
    left = np.zeros(len(cells))
    for part, values in parts.items():
        axes.barh(places, values, left=left, height=0.78, label=part, color=colours[part], linewidth=0)
        left += np.asarray(values)
    row_axis(axes, [name(cell) for cell in cells], places)
    axes.grid(True, axis="x", **GRID)
    axes.set_axisbelow(True)
    return places


def _rows_height(report: Report) -> Callable[[Sequence[CellSummary]], float]:
    """Of a panel of bars, in inches."""
    row = 0.10 + 0.11 * lines_of(map(_row_name(report), report.cells))

    def height(cells: Sequence[CellSummary]) -> float:
        return 0.6 + row * (len(cells) + 0.6 * len({cell.cell.docs for cell in cells}))

    return height
