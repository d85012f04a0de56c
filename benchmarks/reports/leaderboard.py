"""Makes the leaderboard's numbers readable: intervals, a Markdown table, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from atommem_gym.records.layout import stable_rng
from atommem_gym.registration import TASKS

RESAMPLES = 10_000
NO_RETRIEVAL = ("random", "silent", "overwrite")
"""Agents that answer without a read; the embedder makes no difference to them."""
# Okabe and Ito's palette, which colour-blind readers can tell apart.
COLOURS = {
    "random": "#999999",
    "silent": "#000000",
    "keep_all": "#0072b2",
    "overwrite": "#e69f00",
    "tidy": "#009e73",
    "oracle": "#d55e00",
}
MARKERS = {"random": "x", "silent": "+", "keep_all": "o", "overwrite": "s", "tidy": "^", "oracle": "D"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Episodes of one agent, on one data set, at one length, with one embedder; no text of any record."""

    dataset: str
    embedder: str
    documents: int
    agent: str
    em: list[float]
    """One an episode, as the three that follow."""
    f1: list[float]
    recall: list[float]
    recall_exact: list[float]
    guess_rate: float
    """Mean of 1 / options over the questions played, 0 where a question offers none."""
    operations: dict[str, float]
    """Means an episode, as all that follow; milliseconds are a step's."""
    rejected: float
    peak_entries: float
    steps: float
    env_ms: float
    seconds: float
    """Of the whole cell."""
    embedded_in_part: float | None = None
    """Texts an episode of which the embedder did not read all; ``None`` in cells of before these were counted."""

    @property
    def uncounted(self) -> bool:
        """Whether texts may have been embedded in part without a count, so that the cell is to be played again."""
        return self.embedded_in_part is None and self.embedder not in ("hashing", "random")

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % bootstrap interval of the mean EM: percentiles of the means of resampled episodes."""
        rng = stable_rng("bootstrap", self.dataset, self.embedder, self.documents, self.agent)
        em = np.array(self.em)
        means = em[rng.integers(len(em), size=(RESAMPLES, len(em)))].mean(axis=1)
        low, high = np.percentile(means, [2.5, 97.5])
        return float(low), float(high)


def markdown(cells: Sequence[Cell], made: dict[str, str], episodes: int, failed: Sequence[str]) -> str:
    """The leaderboard as a page.

    Args:
        cells: What was played.
        made: Date, processor, versions, command.
        episodes: Episodes a cell.
        failed: What is not as it should be.
    """
    parts = [
        "# Leaderboard of the scripted agents",
        "",
        "**What is measured:** memory and retrieval, not language. Answers are an *oracle reader*'s: the gold answer "
        "if and only if the gold evidence stands word for word in the last read or the scratchpad, else `unknown` "
        "(`random` and `silent` answer by themselves). Exact match, mean over episodes of one question each, with "
        "95 % bootstrap intervals over episodes (of a mean of exactly 0 or 1 it has no width).",
        "",
        f"{episodes} episodes a cell, the same for all agents; default limits (chunks of 4,000 tokens, top 6, "
        "scratchpad of 2,048 tokens), store Milvus Lite. Records: samples of HotpotQA (distractor), 2WikiMultiHopQA "
        "(official records only) and MuSiQue-Ans; distractors beyond a question's own come from the other records.",
        "",
        f"Cells are played once and kept; the last ones on {made['date']} · {made['cpu']} · "
        f"Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match against documents](leaderboard.png)",
    ]
    documents = sorted({cell.documents for cell in cells})
    for task in TASKS.values():
        of_task = [cell for cell in cells if cell.dataset == task.dataset]
        if of_task:
            parts += ["", f"## {task.name}", "", *_table(of_task, documents)]
    if any(cell.uncounted for cell in cells):
        parts += [
            "",
            "† Played before texts that the embedder does not read whole were counted and reported (reason "
            "`embedded_in_part`).",
        ]
    shares = _shares(cells)
    if shares:
        parts += ["", "## Embedded in part", "", *shares]
    if failed:
        parts += ["", "## Not as it should be", "", *(f"- {line}" for line in failed)]
    return "\n".join(parts) + "\n"


def _table(cells: Sequence[Cell], documents: Sequence[int]) -> list[str]:
    last = documents[-1]
    heads = ["agent", "embedder", *(f"EM at {n}" for n in documents), *(f"recall at {n}" for n in documents)]
    heads += [f"entries at {last}", f"ms a step at {last}"]
    lines = [f"| {' | '.join(heads)} |", f"|---|---|{'--:|' * (len(heads) - 2)}"]
    for agent, embedder in dict.fromkeys((cell.agent, cell.embedder) for cell in cells):
        row = {cell.documents: cell for cell in cells if (cell.agent, cell.embedder) == (agent, embedder)}
        ems = [_em(row[n]) if n in row else "" for n in documents]
        recalls = [f"{fmean(row[n].recall):.2f}" if n in row else "" for n in documents]
        ends = [f"{row[last].peak_entries:.0f}", f"{row[last].env_ms:.1f}"] if last in row else ["", ""]
        label = "–" if agent in NO_RETRIEVAL else embedder
        lines.append(f"| {' | '.join([f'`{agent}`', label, *ems, *recalls, *ends])} |")
    rates = [fmean(cell.guess_rate for cell in cells if cell.documents == n) for n in documents]
    lines.append(f"| *guess rate* | – | {' | '.join(f'{rate:.2f}' for rate in rates)} |{' |' * (len(documents) + 2)}")
    return lines


def _em(cell: Cell) -> str:
    low, high = cell.interval
    return f"{fmean(cell.em):.2f} ({low:.2f}–{high:.2f}){' †' if cell.uncounted else ''}"


def _shares(cells: Sequence[Cell]) -> list[str]:
    """How many texts `keep_all`, one entry a document, has embedded in part."""
    lines = []
    for cell in cells:
        if cell.agent == "keep_all" and cell.embedded_in_part:
            name = next(task.name for task in TASKS.values() if task.dataset == cell.dataset)
            written = cell.operations["create"] + cell.operations["update"]
            lines.append(
                f"- {name}, {cell.documents} documents, `{cell.embedder}`: {cell.embedded_in_part:.1f} of "
                f"{written:.0f} entries an episode ({cell.embedded_in_part / written:.1%}) are longer than the "
                "embedder reads; they are found by their beginning alone."
            )
    return lines


def plot(cells: Sequence[Cell], path: Path) -> None:
    """EM against documents: a column a data set, a row an embedder, a line an agent.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = [task for task in TASKS.values() if any(cell.dataset == task.dataset for cell in cells)]
    embedders = list(dict.fromkeys(cell.embedder for cell in cells))
    figure, grid = pyplot.subplots(
        len(embedders),
        len(tasks),
        figsize=(3.6 * len(tasks) + 1.6, 3.0 * len(embedders) + 0.4),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for row, embedder in zip(grid, embedders, strict=True):
        for axes, task in zip(row, tasks, strict=True):
            shown = [
                cell
                for cell in cells
                if cell.dataset == task.dataset and (cell.embedder == embedder or cell.agent in NO_RETRIEVAL)
            ]
            _panel(axes, shown)
            axes.set_title(f"{task.name} · {embedder}", fontsize=10)
        row[0].set_ylabel("exact match (oracle reader)")
    for axes in grid[-1]:
        axes.set_xlabel("documents in the stream")
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    # Matplotlib lists plain lines before those with error bars.
    handles["guess rate"] = handles.pop("guess rate")
    figure.legend(handles.values(), handles.keys(), loc="outside right upper", frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panel(axes: Any, cells: Sequence[Cell]) -> None:
    documents = sorted({cell.documents for cell in cells})
    present = {cell.agent for cell in cells}
    agents = [agent for agent in COLOURS if agent in present]
    for place, agent in enumerate(agents):
        line = sorted((cell for cell in cells if cell.agent == agent), key=lambda cell: cell.documents)
        # Side by side, or the intervals of agents that score alike would hide each other.
        xs = [cell.documents * 2 ** (0.03 * (place - (len(agents) - 1) / 2)) for cell in line]
        ys = np.array([fmean(cell.em) for cell in line])
        bounds = np.array([cell.interval for cell in line]).T
        errors = np.clip(np.stack([ys - bounds[0], bounds[1] - ys]), 0, None)
        look: dict[str, Any] = {"color": COLOURS[agent], "marker": MARKERS[agent], "markersize": 5}
        axes.errorbar(xs, ys, errors, linewidth=1.5, elinewidth=0.8, capsize=2, label=agent, **look)
    rates = [fmean(cell.guess_rate for cell in cells if cell.documents == n) for n in documents]
    axes.plot(documents, rates, color="#666666", linestyle=":", linewidth=1.2, label="guess rate")
    axes.set_xscale("log", base=2)
    axes.set_xticks(documents, [str(n) for n in documents])
    axes.minorticks_off()
    axes.set_ylim(-0.03, 1.05)
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
