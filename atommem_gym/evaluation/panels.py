"""How the panels of a picture stand: bounded in width, with names that wrap and labels that say how many there were."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from atommem_gym.evaluation.statistics import LEVEL
from atommem_gym.evaluation.summary import CellSummary

DPI = 150
MOST_INCHES = 12.7
"""Of a picture's width: some 1,900 pixels."""
MOST_PANELS = 3
"""Side by side."""
GRID = {"color": "#dddddd", "linewidth": 0.6}
_PANEL_INCHES = 3.5
_LEGEND_INCHES = 2.2
_BARS_INCHES = 2.0
"""Of a panel of bars beside their names, at least."""
_NAME_CHARS, _LEGEND_CHARS = 36, 28
_CHAR_INCHES = 0.062
"""Of a letter of 8 points, about."""
_LINE_INCHES = 0.15

_PIECES = re.compile(r"[^ /\-]*[ /\-]*")

Draw = Callable[[Any, Sequence[CellSummary]], None]


def panels(
    cells: Sequence[CellSummary],
    draw: Draw,
    height: Callable[[Sequence[CellSummary]], float],
    *,
    row_names: Callable[[CellSummary], str] | None = None,
) -> Any:
    """A figure with a panel for each environment, side by side; many wrap into rows.

    Args:
        cells: What is shown.
        draw: Draws the cells of one environment.
        height: Of a panel in inches, by its cells.
        row_names: What stands at the left of each cell's row, where a panel has a row for each cell; otherwise the
            panels share an axis from 0 to 1.
    """
    from matplotlib.figure import Figure

    of_env: dict[str, list[CellSummary]] = {}
    for cell in cells:
        of_env.setdefault(cell.cell.env, []).append(cell)
    envs = list(of_env)
    names = {env: [] if row_names is None else [row_names(cell) for cell in of_env[env]] for env in envs}
    # Names that are the same in all panels need to be written once.
    repeated = len({tuple(own) for own in names.values()}) > 1
    beside = _CHAR_INCHES * max(
        (len(wrapped(name).split("\n")[0]) for own in names.values() for name in own), default=0
    )
    panel = max(_PANEL_INCHES, _BARS_INCHES + beside) if repeated else _PANEL_INCHES
    columns = max(1, min(len(envs), MOST_PANELS, int((MOST_INCHES - _LEGEND_INCHES) / panel)))
    rows = [envs[at : at + columns] for at in range(0, len(envs), columns)]
    heights = [max(height(of_env[env]) for env in row) for row in rows]
    size = min(MOST_INCHES, panel * columns + _LEGEND_INCHES), sum(heights) + 0.25 * len(rows) + 0.4
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(len(rows), columns, squeeze=False, sharey=row_names is None, height_ratios=heights)
    for row, line in zip(rows, grid, strict=True):
        for axes in line[len(row) :]:
            axes.set_axis_off()
        for place, (axes, env) in enumerate(zip(line, row, strict=False)):
            draw(axes, of_env[env])
            axes.set_title(wrapped(env, 40), fontsize=10)
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(labelsize=8)
            if place and row_names is not None and not repeated:
                axes.tick_params(labelleft=False)
        if row_names is not None:
            # Rows are equally high, however many a panel has.
            lowest = max(axes.get_ylim()[0] for axes in line[: len(row)])
            for axes in line[: len(row)]:
                axes.set_ylim(lowest, -0.7)
    return figure


def wrapped(name: str, width: int = _NAME_CHARS) -> str:
    """A name in lines that fit beside a panel; it breaks behind spaces, hyphens and strokes where it can.

    >>> wrapped("tidy")
    'tidy'
    >>> wrapped("crud · some-organisation/a-model", 20).splitlines()
    ['crud · some-', 'organisation/a-model']
    """
    lines = [""]
    for piece in _PIECES.findall(name):
        if len(lines[-1]) + len(piece.rstrip()) > width and lines[-1]:
            lines.append("")
        lines[-1] += piece
    return "\n".join(part for line in lines for part in textwrap.wrap(line, width, break_on_hyphens=False)) or name


def lines_of(names: Iterable[str]) -> int:
    """Of the highest of these names, once they are wrapped."""
    return max((wrapped(name).count("\n") + 1 for name in names), default=1)


def row_axis(axes: Any, names: Sequence[str], places: Sequence[float] | None = None) -> None:
    """Names from top to bottom."""
    at = list(range(len(names))) if places is None else list(places)
    axes.set_yticks(at, [wrapped(name) for name in names], fontsize=8)
    axes.set_ylim(at[-1] + 0.7, -0.7)
    axes.tick_params(axis="y", length=0)


def document_axis(axes: Any, docs: Sequence[int], spread: float) -> None:
    """Document counts on a logarithmic axis; contexts that come whole stand at its beginning.

    Args:
        axes: The panel.
        docs: Document counts, ascending.
        spread: How far the marks of one count lie apart, in powers of two.
    """
    places = [place_of(count) for count in docs]
    axes.set_xscale("log", base=2)
    axes.set_xticks(places, [str(count) if count else "all" for count in docs])
    axes.minorticks_off()
    pad = 2 ** (spread / 2 + 0.15)
    axes.set_xlim(places[0] / pad, places[-1] * pad)
    axes.grid(True, **GRID)


def place_of(docs: int) -> int:
    """Where a document count stands on a logarithmic axis."""
    return docs or 1


def unit_axis(axes: Any, which: str) -> None:
    """From 0 to 1, with room for what lies on the edge."""
    (axes.set_ylim if which == "y" else axes.set_xlim)(-0.03, 1.05)
    axes.grid(True, axis=which, **GRID)
    axes.set_axisbelow(True)


def percent_axis(axes: Any) -> None:
    """Shares from 0 to 100 %."""
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], ["0", "", "50", "", "100"])


def amount_axis(axes: Any, values: Sequence[float]) -> None:
    """Amounts that differ by orders of magnitude, in plain numbers; some may be 0."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter

    none = any(not value for value in values)
    axes.set_xscale("symlog" if none else "log")
    if values and not none:
        narrow = max(values) < 8 * min(values)
        wide = max(values) > 500 * min(values)
        axes.xaxis.set_major_locator(
            MaxNLocator(nbins=4, steps=[1, 2, 5, 10])
            if narrow
            else LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0))
        )
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 or not value else f"{value:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(True, **GRID)


def counted_cells(counts: Iterable[int], noun: str, where: str) -> str:
    """How many a mark stands for.

    >>> counted_cells([20, 20], "episodes", "point"), counted_cells([18, 20], "episodes", "point")
    ('n 20 episodes a point', 'n 18 to 20 episodes a point')
    """
    least, *_, most = sorted([*counts] * 2)
    return f"n {least:,} {noun} a {where}" if least == most else f"n {least:,} to {most:,} {noun} a {where}"


INTERVALS = f"lines: {LEVEL * 100:g}\u00a0% intervals"


def label(figure: Any, x: str, y: str = "") -> None:
    """Labels of the whole picture; a long one wraps."""
    figure.supxlabel("\n".join(textwrap.wrap(x, int(figure.get_figwidth() / _CHAR_INCHES / 1.15))), fontsize=9)
    if y:
        figure.supylabel(y, fontsize=9)


def legend(figure: Any) -> None:
    """One for all panels, beside them."""
    handles: dict[str, Any] = {}
    for axes in figure.axes:
        handles |= {text: handle for handle, text in zip(*axes.get_legend_handles_labels(), strict=True)}
    texts = [wrapped(text, _LEGEND_CHARS) for text in handles]
    needed = _LINE_INCHES * sum(1 + text.count("\n") for text in texts) + 0.3
    figure.set_figheight(max(figure.get_figheight(), needed))
    figure.legend(handles.values(), texts, loc="outside right upper", frameon=False, fontsize=8)


def grouped(cells: Sequence[CellSummary]) -> Mapping[str, list[CellSummary]]:
    """An agent's cells by ascending document count."""
    lines: dict[str, list[CellSummary]] = {}
    for cell in sorted(cells, key=lambda cell: cell.cell.docs):
        lines.setdefault(cell.cell.agent, []).append(cell)
    return lines
