"""Makes the numbers of ``benchmarks/stores.py`` readable: Markdown tables and two log-log plots."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TARGETS = {
    "milvus": {1: 0.35, 64: 0.15, 256: 0.15},
    "milvus-kept": {1: 0.35, 64: 0.15, 256: 0.15},
    "milvus-reads": {1: 0.9, 64: 1.0, 256: 0.9},
    "numpy": {1: 0.03, 64: 0.02, 256: 0.025},
}
"""What was aimed at, ms per episode step by number of episodes."""
REAL_STEP = 1.2
"""How many strong searches a step over a real Milvus may cost."""
REAL_MANY, REAL_MANY_MS = 64, 5.0
"""How many ms an episode step may cost there where so many episodes run."""
# Okabe and Ito's palette for ours, which colour-blind readers can tell apart; the others stay in the background.
COLOURS = {
    "floor": "#000000",
    "engine": "#666666",
    "numpy": "#0072b2",
    "milvus": "#d55e00",
    "milvus-kept": "#e69f00",
    "milvus-reads": "#009e73",
    "milvus-reads-kept": "#56b4e9",
    "server": "#cc79a7",
}
MARKERS = "osv^D<>Pp*hXd"


@dataclass(frozen=True, slots=True)
class Cell:
    """What one store took for one size; times in ms per episode step."""

    store: str
    num_envs: int
    entries: int
    """That every episode began with."""
    median_ms: float
    """Of wall time, as the percentile and the medians of the first and last ten steps of a round."""
    cpu_ms: float
    """Median of the time on the processor, of the process and its threads; that of a server is not in it."""
    p99_ms: float
    first_ms: float
    last_ms: float | None
    right: float
    """Share of reads that found what brute force finds, in its order."""
    steps: int
    complete: bool
    """Whether no round was stopped early; else the cheap early steps weigh too much."""
    kept: bool


@dataclass(frozen=True, slots=True)
class LongRun:
    """A store that played many episodes: the first tenth of them and the last."""

    store: str
    episodes: int
    early_ms: float
    """Median CPU time per episode step."""
    late_ms: float
    early_mb: float
    """Resident memory of the process."""
    late_mb: float
    early_open: tuple[int, int]
    """Open files and threads while 8 episodes run."""
    late_open: tuple[int, int]


def markdown(
    cells: Sequence[Cell],
    longs: Sequence[LongRun],
    labels: Mapping[str, str],
    absent: Mapping[str, str],
    failed: Mapping[str, str],
    made: Mapping[str, str],
    file: str = "stores",
) -> str:
    """The whole report.

    Args:
        cells: What was measured.
        longs: Runs of many episodes.
        labels: What the stores are called, by their names, in the order of the tables.
        absent: Stores that cannot be played here, and why.
        failed: Stores that failed, and their errors.
        made: Date, processor, versions, command.
        file: First part of the names of the plots.
    """
    by_size = {(cell.store, cell.num_envs): cell for cell in cells if not cell.entries}
    by_entries = {(cell.store, cell.entries): cell for cell in cells if cell.entries}
    names = [name for name in labels if any(cell.store == name for cell in cells)]
    sizes = sorted({cell.num_envs for cell in cells if not cell.entries})
    parts = [
        "# Stores side by side",
        "",
        "**Workload W:** N episodes side by side, 40 steps each; a step is one create (200 characters), 0.3 updates, "
        "0.1 deletes and one read (the best 6 of that episode) in every episode. Vectors of 384 numbers are given: "
        "nothing is embedded. Every store in a process of its own, one at a time, round after round; every answer "
        "compared with brute force. Median ms per **episode step**, lower is better.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · `{made['command']}`",
        "",
        f"{made['versions']}.",
        "",
        "The machine was shared, so wall times hold what others did meanwhile; the time on the processor (in brackets) "
        "nearly does not. `*`: stopped early, so cheap steps only. *Right*: reads that found exactly what brute force "
        "finds.",
        "",
        f"![Cost against the number of episodes]({file}_envs.png)",
        "",
        *_table(
            ["store", *(f"N={n}" for n in sizes), "right", "on disk"],
            (
                [
                    labels[name],
                    *(_cost(by_size.get((name, n))) for n in sizes),
                    _right([by_size[name, n] for n in sizes if (name, n) in by_size]),
                    "yes" if any(cell.kept for cell in cells if cell.store == name) else "no",
                ]
                for name in names
            ),
        ),
    ]
    parts += _targets(by_size, labels)
    parts += _real(by_size, sizes)
    parts += _steadiness(by_size, names, sizes, labels)
    starts = sorted({cell.entries for cell in cells if cell.entries})
    if starts:
        parts += [
            "",
            "## Cost against entries",
            "",
            "8 episodes side by side, 10 steps after so many entries in each.",
            "",
            f"![Cost against the entries of an episode]({file}_entries.png)",
            "",
            *_table(
                ["store", *(f"{n} entries" for n in starts)],
                ([labels[name], *(_cost(by_entries.get((name, n))) for n in starts)] for name in names),
            ),
        ]
    if longs:
        parts += [
            "",
            "## From the first episodes to the last",
            "",
            "8 episodes side by side, of 40 steps, batch after batch; the first tenth of the batches against the last. "
            "CPU time per episode step; memory of the whole process; open files and threads while episodes run.",
            "",
            *_table(
                ["store", "episodes", "ms first → last", "MB first → last", "files", "threads"],
                (
                    [
                        labels[run.store],
                        str(run.episodes),
                        f"{run.early_ms:.3f} → {run.late_ms:.3f}",
                        f"{run.early_mb:.0f} → {run.late_mb:.0f}",
                        f"{run.early_open[0]} → {run.late_open[0]}",
                        f"{run.early_open[1]} → {run.late_open[1]}",
                    ]
                    for run in longs
                ),
            ),
        ]
    if absent or failed:
        parts += ["", "## Not run", ""]
        parts += [f"- {labels[name]}: {why}" for name, why in absent.items()]
        parts += [f"- {labels[name]}: {error}" for name, error in failed.items()]
    return "\n".join(parts) + "\n"


def _targets(by_size: Mapping[tuple[str, int], Cell], labels: Mapping[str, str]) -> list[str]:
    rows = []
    for name, targets in TARGETS.items():
        for n, target in targets.items():
            cell, floor = by_size.get((name, n)), by_size.get(("floor", n))
            if name.startswith("milvus-reads"):
                floor = by_size.get(("engine", n), floor)
            if cell is not None and floor is not None:
                met = "yes" if cell.median_ms <= target else "on the processor" if cell.cpu_ms <= target else "no"
                if not cell.complete and met != "no":
                    met = f"{met}, but cut short"
                rows.append([labels[name], str(n), f"{target:g}", _cost(cell), _cost(floor), met])
    if not rows:
        return []
    note = "The floor under reads that Milvus Lite answers is its engine alone, within the noise of both."
    return ["", "## Targets", "", *_table(["store", "N", "target", "measured", "floor", "met"], rows), "", note]


def _real(by_size: Mapping[tuple[str, int], Cell], sizes: Sequence[int]) -> list[str]:
    rows = []
    for n in sizes:
        cell, search = by_size.get(("real", n)), by_size.get(("real-search", n))
        if cell is None or search is None:
            continue
        step, alone = n * cell.median_ms, n * search.median_ms
        write = by_size.get(("real-write", n))
        after = "–" if write is None else f"{n * write.median_ms:.0f}"
        target, met = "", ""
        if n == 1:
            target, met = f"{REAL_STEP:g} searches", "yes" if step <= REAL_STEP * alone else "no"
        elif n == REAL_MANY:
            target, met = f"{REAL_MANY_MS:g} ms an episode step", "yes" if cell.median_ms <= REAL_MANY_MS else "no"
        ratio, each = f"{step / alone:.2f}", _ms(cell.median_ms)
        rows.append([str(n), f"{step:.0f}", f"{alone:.0f}", after, ratio, each, target, met])
    if not rows:
        return []
    heads = ["N", "ms a vector step", "ms one strong search", "ms one row written and a strong search"]
    heads += ["step / search", "ms an episode step", "target", "met"]
    note = (
        "A read sees the writes before it, so a step waits for the server's next time tick (200 ms unless configured "
        "otherwise): once, and all episodes of a vector step together. With many episodes "
        "the searches themselves take longer than a tick."
    )
    return ["", "## A real Milvus", "", *_table(heads, rows), "", note]


def _steadiness(
    by_size: Mapping[tuple[str, int], Cell], names: Sequence[str], sizes: Sequence[int], labels: Mapping[str, str]
) -> list[str]:
    largest = [n for n in sizes if n > 1] or list(sizes)
    heads = [f"{what}, N={n}" for n in largest for what in ("p99 / median", "last ten / first ten")]
    rows = []
    for name in names:
        row = [labels[name]]
        for n in largest:
            cell = by_size.get((name, n))
            row.append("" if cell is None else f"{cell.p99_ms / cell.median_ms:.1f}")
            grown = None if cell is None or cell.last_ms is None else cell.last_ms / cell.first_ms
            row.append("–" if grown is None else f"{grown:.2f}")
        rows.append(row)
    return ["", "## Steadiness", "", *_table(["store", *heads], rows)]


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(heads)} |", f"|---|{'--:|' * (len(heads) - 1)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _cost(cell: Cell | None) -> str:
    if cell is None:
        return ""
    cpu = "–" if cell.store in ("server", "real", "real-search", "real-write") else _ms(cell.cpu_ms)
    return f"{_ms(cell.median_ms)}{'' if cell.complete else '*'} ({cpu})"


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}" if value < 10 else f"{value:.0f}"


def _right(cells: Sequence[Cell]) -> str:
    share = min((cell.right for cell in cells), default=0.0)
    return "100 %" if share == 1.0 else f"{100 * share:.1f} %"


def plot(cells: Sequence[Cell], folder: Path, name: str = "stores") -> None:
    """Write ``NAME_envs.png`` and, if it was measured, ``NAME_entries.png``.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    plots = (
        ("envs", [cell for cell in cells if not cell.entries], "episodes side by side"),
        ("entries", [cell for cell in cells if cell.entries], "entries an episode begins with"),
    )
    for kind, shown, across in plots:
        if not shown:
            continue
        figure, axes = pyplot.subplots(figsize=(9.6, 5.6), layout="constrained")
        _lines(axes, shown, "num_envs" if kind == "envs" else "entries")
        axes.set(xscale="log", yscale="log", xlabel=across, ylabel="ms per episode step (median)")
        ticks = sorted({cell.num_envs if kind == "envs" else cell.entries for cell in shown})
        axes.set_xticks(ticks, [str(tick) for tick in ticks])
        axes.minorticks_off()
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside right upper", frameon=False, fontsize=9)
        figure.savefig(folder / f"{name}_{kind}.png", dpi=150)
        pyplot.close(figure)


def _lines(axes: Any, cells: Sequence[Cell], across: str) -> None:
    others = 0
    for name in dict.fromkeys(cell.store for cell in cells):
        line = sorted((cell for cell in cells if cell.store == name), key=lambda cell: float(getattr(cell, across)))
        look: dict[str, Any] = {"color": COLOURS.get(name, "#999999"), "linewidth": 2.2 if name in COLOURS else 1.0}
        if name not in COLOURS:
            look |= {"marker": MARKERS[others % len(MARKERS)], "markersize": 5}
            others += 1
        axes.plot(
            [getattr(cell, across) for cell in line],
            [cell.median_ms for cell in line],
            linestyle="--" if name in ("floor", "engine") else "-",
            label=name,
            **look,
        )
