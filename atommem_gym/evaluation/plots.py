"""Reports as pictures: EM against documents, operation mix, failure causes, and what an exact match costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atommem_gym.errors import AtomMemError
from atommem_gym.evaluation.grids import Grid, find_grids, heat_maps
from atommem_gym.evaluation.report import Report, counts
from atommem_gym.evaluation.statistics import Interval
from atommem_gym.evaluation.summary import CellSummary
from atommem_gym.evaluation.tables import ABSTENTION_HEADERS
from atommem_gym.traces.record import CAUSES

DPI = 150
MOST_PANELS = 3
"""Panels side by side: some 1,900 pixels."""
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
_GRID = {"color": "#dddddd", "linewidth": 0.6}

Panel = Callable[[Any, Sequence[CellSummary]], None]


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
    drawn = [
        ("Exact match against documents", "em.png", em_figure(report)),
        ("Operations an episode", "operations.png", operations_figure(report)),
        ("What became of the questions", "causes.png", causes_figure(report)),
        ("Exact match against cost", "cost.png", cost_figure(report)),
    ]
    if any(cell.gain for cell in report.cells):
        drawn.append(("What memory is worth", "gain.png", gain_figure(report)))
    if any(cell.abstention for cell in report.cells):
        drawn.append(("Questions with and without an answer", "abstention.png", abstention_figure(report)))
    for grid in find_grids(report.plan.envs):
        name = f"grid-{grid.env_id}.png"
        drawn.append((f"Exact match by {grid.y} and {grid.x}, {grid.env_id}", name, grid_figure(report, grid)))
    for _, name, figure in drawn:
        figure.savefig(folder / name, dpi=DPI)
    return [(title, name) for title, name, _ in drawn]


def grid_figure(report: Report, grid: Grid) -> Any:
    """EM by the two settings of a grid, an agent (and document count, if there are several) a heat map."""
    found = {(one.cell.agent, one.cell.docs, one.cell.env): one.metrics["em"].mean for one in report.cells}
    maps = [(agent.label, docs) for docs in _all_docs(report) for agent in report.plan.agents]
    tables = [[[found.get((*one, grid.labels[x, y]), float("nan")) for x in grid.xs] for y in grid.ys] for one in maps]
    several = len(_all_docs(report)) > 1
    titles = [f"{agent}, {docs} documents" if several and docs else agent for agent, docs in maps]
    return heat_maps(titles, tables, grid.x, grid.y, grid.xs, grid.ys)


def em_figure(report: Report) -> Any:
    """EM with bands against document counts, an environment a panel; with one count, a dot an agent."""
    looks = _looks(report)

    def curves(axes: Any, cells: Sequence[CellSummary]) -> None:
        lines = _by_agent(cells)
        for place, (agent, line) in enumerate(lines.items()):
            # A little apart, or agents that score alike would hide each other.
            docs = [_place(cell.cell.docs) * 2 ** (0.02 * (place - (len(lines) - 1) / 2)) for cell in line]
            ems, colour = [cell.metrics["em"] for cell in line], looks[agent]["color"]
            low, high = [em.low for em in ems], [em.high for em in ems]
            axes.fill_between(docs, low, high, color=colour, alpha=0.10, linewidth=0)
            for edge in (low, high):
                axes.plot(docs, edge, color=colour, linewidth=0.5, alpha=0.45)
            axes.plot(docs, [em.mean for em in ems], label=agent, **looks[agent])
        _document_axis(axes, cells)
        _unit_axis(axes, "y")

    def dots(axes: Any, cells: Sequence[CellSummary]) -> None:
        for place, cell in enumerate(cells):
            em, look = cell.metrics["em"], looks[cell.cell.agent]
            if em.known:
                axes.plot([em.low, em.high], [place, place], color=look["color"], linewidth=1.8, solid_capstyle="round")
            axes.plot([em.mean], [place], linestyle="", **{**look, "markersize": 7})
        _row_axis(axes, [cell.cell.agent for cell in cells])
        _unit_axis(axes, "x")

    docs = _all_docs(report)
    if len(docs) > 1:
        figure = _panels(report, curves, height=3.3, sharey=True)
        _label(figure, "documents in the stream", "exact match")
        _legend(figure)
    else:
        figure = _panels(report, dots, height=0.9 + 0.34 * len(report.plan.agents), sharey=True)
        sizes = {cell.size for cell in report.cells}
        _label(figure, f"exact match at {docs[0]} documents" if sizes == {str(docs[0])} else "exact match", "")
    return figure


def abstention_figure(report: Report) -> Any:
    """Per agent EM on the questions that have an answer, and precision and recall of abstention, with intervals."""
    shown = {header: name for header, name, _ in ABSTENTION_HEADERS}
    figure = _dots_figure(report, {header: _of_abstention(name) for header, name in shown.items()})
    _label(figure, "share of the questions that each is about", "")
    return figure


def gain_figure(report: Report) -> Any:
    """Per agent EM, memory gain, and the EM of the reader with nothing shown, with intervals."""
    found: dict[str, Callable[[CellSummary], Interval | None]] = {
        "EM": lambda cell: cell.metrics["em"],
        "memory gain": lambda cell: cell.gain.get("gain"),
        "closed-book EM": lambda cell: cell.gain.get("closed_book"),
    }
    figure = _dots_figure(report, found, unit=False)
    _label(figure, "exact match, and what of it memory is worth", "")
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
        several = len({cell.cell.docs for cell in cells}) > 1
        for row, cell in enumerate(cells):
            for place, (header, of) in enumerate(shown.items()):
                found, y = of(cell), row + 0.22 * (place - 1)
                if found is None or math.isnan(found.mean):
                    continue
                if found.known:
                    axes.plot([found.low, found.high], [y, y], color=looks[header]["color"], linewidth=1.4)
                axes.plot([found.mean], [y], linestyle="", label=header, **looks[header])
        names = [f"{cell.cell.agent}, {cell.cell.docs}" if several else cell.cell.agent for cell in cells]
        _row_axis(axes, names)
        if unit:
            _unit_axis(axes, "x")
        else:
            axes.axvline(0, color="#999999", linewidth=0.8)

    figure = _panels(report, dots, height=0.9 + 0.5 * len(report.plan.agents) * len(_all_docs(report)), sharey=False)
    _legend(figure)
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
        places = _stack(axes, cells, parts, KIND_COLOURS)
        for place, total in zip(places, totals, strict=True):
            axes.text(1.02, place, f"{total:,.0f}", va="center", fontsize=7.5, color="#444444")
        _percent_axis(axes)

    figure = _panels(report, bars, height=_rows_height(report), sharey=False)
    _label(figure, "share of the operations (%); on the right, operations an episode", "")
    _legend(figure)
    return figure


def causes_figure(report: Report) -> Any:
    """Shares of the questions that were answered right, and of the causes why the others were not."""
    causes = [cause for cause in (*CAUSES, *counts(report.cells)) if any(cause in cell.causes for cell in report.cells)]
    causes = list(dict.fromkeys(causes))
    colours = {**dict.fromkeys(causes, "#f0e442"), **CAUSE_COLOURS}

    def bars(axes: Any, cells: Sequence[CellSummary]) -> None:
        shares = {CORRECT: [1 - cell.wrong / cell.questions for cell in cells]}
        shares |= {cause: [cell.causes.get(cause, 0) / cell.questions for cell in cells] for cause in causes}
        _stack(axes, cells, shares, colours)
        _percent_axis(axes)

    figure = _panels(report, bars, height=_rows_height(report), sharey=False)
    _label(figure, "share of the questions (%)", "")
    _legend(figure)
    return figure


def cost_figure(report: Report) -> Any:
    """EM against tokens per episode, or against operations where no language model played; a line an agent."""
    looks = _looks(report)
    cost: Callable[[CellSummary], float | None] = _tokens if report.uses_models else _operations
    docs = sorted(_all_docs(report))
    what = "tokens an episode (prompt and completion)" if report.uses_models else "operations an episode"

    def points(axes: Any, cells: Sequence[CellSummary]) -> None:
        for agent, line in _by_agent(cells).items():
            known = [(value, cell) for cell in line if (value := cost(cell)) is not None]
            xs, ys = [value for value, _ in known], [cell.metrics["em"].mean for _, cell in known]
            look = {**looks[agent], "linewidth": 1.0, "markersize": _size(docs, docs[-1])}
            axes.plot(xs, ys, label=agent, **{**look, "markevery": [len(xs) - 1] if xs else None})
            for x, y, (_, cell) in zip(xs[:-1], ys[:-1], known[:-1], strict=True):
                axes.plot([x], [y], **{**look, "markersize": _size(docs, cell.cell.docs)})
        # What agents do differs by orders of magnitude; some do nothing at all.
        axes.set_xscale("symlog" if any(not cost(cell) for cell in cells) else "log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.grid(True, **_GRID)
        _unit_axis(axes, "y")

    figure = _panels(report, points, height=3.3, sharey=True)
    if len(docs) > 1:
        what += f"; marks grow with the documents ({', '.join(str(count) for count in docs if count)})"
    _label(figure, what, "exact match")
    _legend(figure)
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


def _place(docs: int) -> int:
    """Where a document count stands on a logarithmic axis; contexts that come whole at its beginning."""
    return docs or 1


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


def _panels(report: Report, draw: Panel, *, height: float, sharey: bool) -> Any:
    """A figure with a panel for each environment that has finished episodes, side by side; many wrap into rows."""
    from matplotlib.figure import Figure

    envs = list(dict.fromkeys(cell.cell.env for cell in report.cells))
    columns = min(len(envs), MOST_PANELS)
    rows = -(-len(envs) // columns)
    figure = Figure(figsize=(3.5 * columns + 2.2, (height + 0.25) * rows + 0.25), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)
    for axes in grid[len(envs) :]:
        axes.set_axis_off()
    for place, (axes, env) in enumerate(zip(grid, envs, strict=False)):
        draw(axes, [cell for cell in report.cells if cell.cell.env == env])
        axes.set_title(env, fontsize=10)
        axes.spines[["top", "right"]].set_visible(False)
        axes.tick_params(labelsize=8)
        if place % columns and not sharey and _same_rows(report, envs):
            axes.tick_params(labelleft=False)
    return figure


def _same_rows(report: Report, envs: Iterable[str]) -> bool:
    """Whether all panels have the same bars, so that their names need to be written once."""
    rows = {env: [(c.cell.docs, c.cell.agent) for c in report.cells if c.cell.env == env] for env in envs}
    return len({tuple(names) for names in rows.values()}) == 1


def _by_agent(cells: Sequence[CellSummary]) -> dict[str, list[CellSummary]]:
    lines: dict[str, list[CellSummary]] = {}
    for cell in sorted(cells, key=lambda cell: cell.cell.docs):
        lines.setdefault(cell.cell.agent, []).append(cell)
    return lines


def _stack(
    axes: Any, cells: Sequence[CellSummary], parts: Mapping[str, Sequence[float]], colours: Mapping[str, str]
) -> list[float]:
    """Stacked horizontal bars, an agent a bar, a gap between document counts; returns where they are."""
    docs = list(dict.fromkeys(cell.cell.docs for cell in cells))
    places = [place + 0.6 * docs.index(cell.cell.docs) for place, cell in enumerate(cells)]
    left = np.zeros(len(cells))
    for name, values in parts.items():
        axes.barh(places, values, left=left, height=0.78, label=name, color=colours[name], linewidth=0)
        left += np.asarray(values)
    many = len(docs) > 1
    _row_axis(axes, [f"{cell.cell.agent} · {cell.cell.docs}" if many else cell.cell.agent for cell in cells], places)
    axes.grid(True, axis="x", **_GRID)
    axes.set_axisbelow(True)
    return places


def _percent_axis(axes: Any) -> None:
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "50", "", "100"])


def _row_axis(axes: Any, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Names from top to bottom."""
    at = list(range(len(names))) if places is None else list(places)
    axes.set_yticks(at, names, fontsize=8)
    axes.set_ylim(at[-1] + 0.7, -0.7)
    axes.tick_params(axis="y", length=0)


def _document_axis(axes: Any, cells: Sequence[CellSummary]) -> None:
    docs = sorted({cell.cell.docs for cell in cells})
    axes.set_xscale("log", base=2)
    axes.set_xticks([_place(n) for n in docs], [str(n) if n else "all" for n in docs])
    axes.minorticks_off()
    axes.grid(True, **_GRID)


def _unit_axis(axes: Any, which: str) -> None:
    """From 0 to 1, with room for what lies on the edge."""
    (axes.set_ylim if which == "y" else axes.set_xlim)(-0.03, 1.05)
    axes.grid(True, axis=which, **_GRID)
    axes.set_axisbelow(True)


def _rows_height(report: Report) -> float:
    counts = max(len(report.plan.docs_of(env)) for env in report.plan.envs)
    return 1.0 + 0.21 * len(report.plan.agents) * counts + 0.13 * counts


def _label(figure: Any, x: str, y: str) -> None:
    figure.supxlabel(x, fontsize=9)
    if y:
        figure.supylabel(y, fontsize=9)


def _legend(figure: Any) -> None:
    """One for all panels, outside of them."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False, fontsize=8)
