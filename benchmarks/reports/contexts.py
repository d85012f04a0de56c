"""Makes the numbers of ``contexts.py`` readable: shares with intervals, a Markdown table, a plot."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import numpy.typing as npt

from atommem_gym.records.layout import stable_rng
from reports.leaderboard import COLOURS, NO_RETRIEVAL, RESAMPLES

MEASURES = ("EM, answerable", "abstention precision", "abstention recall")
_ODD_MARKERS = ("o", "s", "^", "D")


@dataclass(frozen=True, slots=True)
class ContextCell:
    """Episodes of one agent on one set of contexts with one embedder; no text of any record."""

    task: str
    embedder: str
    agent: str
    answers: list[list[list[int]]]
    """For each episode and question: exact match, whether there is an answer, whether the agent abstained; 0 or 1."""
    recall: list[float | None]
    """Evidence recall of each episode; ``None`` where its questions name no evidence."""
    contexts: int
    """Different contexts among the episodes."""
    documents: float
    """Means an episode, as all that follow; milliseconds are a step's."""
    peak_entries: float
    steps: float
    env_ms: float
    seconds: float
    """Of the whole cell."""

    @property
    def questions(self) -> int:
        """How many questions were asked in all."""
        return sum(map(len, self.answers))

    @property
    def evidence_recall(self) -> float | None:
        """Mean over the episodes that have one."""
        known = [one for one in self.recall if one is not None]
        return fmean(known) if known else None


def measured(cell: ContextCell) -> list[tuple[float, float, float] | None]:
    """Each of ``MEASURES`` over all questions, with its 95 % bootstrap interval; ``None`` where nothing is counted.

    Episodes are resampled, not questions, since those of one episode share a stream and a memory.

    >>> cell = ContextCell("T", "hashing", "a", [[[1, 1, 0], [0, 1, 1]], [[1, 0, 1]]], [None, None], 1, 1, 1, 1, 1, 1)
    >>> [None if one is None else round(one[0], 2) for one in measured(cell)]
    [0.5, 0.5, 1.0]
    """
    counts = np.array([_counts(episode) for episode in cell.answers], np.float64)
    rng = stable_rng("bootstrap", cell.task, cell.embedder, cell.agent)
    resampled = counts[rng.integers(len(counts), size=(RESAMPLES, len(counts)))].sum(axis=1)
    found: list[tuple[float, float, float] | None] = []
    for part, whole in ((0, 1), (2, 3), (2, 4)):
        if not counts[:, whole].sum():
            found.append(None)
            continue
        some = resampled[:, whole] > 0
        low, high = np.percentile(resampled[some, part] / resampled[some, whole], [2.5, 97.5])
        found.append((float(counts[:, part].sum() / counts[:, whole].sum()), float(low), float(high)))
    # Of a set whose questions all have answers, every abstention is wrong by construction.
    return found if counts[:, 4].sum() else [found[0], None, None]


def _counts(episode: Sequence[Sequence[int]]) -> list[int]:
    """EM and number of answerable questions; right abstentions, abstentions, and unanswerable questions."""
    answerable = [em for em, has_answer, _ in episode if has_answer]
    abstained = [has_answer for _, has_answer, abstains in episode if abstains]
    return [sum(answerable), len(answerable), abstained.count(0), len(abstained), len(episode) - len(answerable)]


def markdown(cells: Sequence[ContextCell], made: dict[str, str]) -> str:
    """The leaderboard of contexts as a page; ``made`` says when, on what, with what and by which command."""
    parts = [
        "# Leaderboard of contexts",
        "",
        "One stream, many questions: dialogues and facts that are revised. **What is measured:** memory and retrieval, "
        "not language. Answers are an *oracle reader*'s: the gold answer if and only if its evidence (where a set "
        "names none, the answer itself) stands word for word in the last read or the scratchpad, else `unknown`, which "
        "is an abstention (`random` and `silent` answer by themselves). So an agent abstains where its retrieval "
        "fails: its recall of abstention is high by construction, and its precision tells how often it abstained for "
        "nothing.",
        "",
        "Exact match over the questions that have an answer, and precision and recall of abstention, stand apart, with "
        "95 % bootstrap intervals over episodes (of a share of exactly 0 or 1 they have no width). Episodes over one "
        "context share its stream, so that true intervals are wider where contexts are few. Embedder `random` is the "
        "ablation of retrieval: a read shows entries at random.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match and abstention by agent](contexts.png)",
    ]
    for task in dict.fromkeys(cell.task for cell in cells):
        parts += ["", f"## {task}", "", *_table([cell for cell in cells if cell.task == task])]
    return "\n".join(parts) + "\n"


def _table(cells: Sequence[ContextCell]) -> list[str]:
    first = cells[0]
    heads = ["agent", "embedder", *MEASURES, "evidence recall", "entries", "ms a step"]
    lines = [
        f"{len(first.answers)} episodes a row, the same for all agents, with {first.questions} questions about "
        f"{first.contexts} contexts of {first.documents:.0f} documents on average.",
        "",
        f"| {' | '.join(heads)} |",
        f"|---|---|{'--:|' * (len(heads) - 2)}",
    ]
    for cell in cells:
        label = "–" if cell.agent in NO_RETRIEVAL else cell.embedder
        recall = "–" if cell.evidence_recall is None else f"{cell.evidence_recall:.2f}"
        row = [f"`{cell.agent}`", label, *map(_share, measured(cell)), recall]
        lines.append(f"| {' | '.join([*row, f'{cell.peak_entries:.0f}', f'{cell.env_ms:.1f}'])} |")
    return lines


def _share(found: tuple[float, float, float] | None) -> str:
    return "–" if found is None else "{:.2f} ({:.2f}–{:.2f})".format(*found)


def plot(cells: Sequence[ContextCell], path: Path) -> None:
    """A row a set, a column a measure, a point an agent and embedder.

    Raises:
        ModuleNotFoundError: matplotlib is not installed.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    tasks = list(dict.fromkeys(cell.task for cell in cells))
    size = (3.4 * len(MEASURES) + 1.2, 2.4 * len(tasks) + 0.6)
    figure, grid = pyplot.subplots(
        len(tasks), len(MEASURES), figsize=size, sharex=True, sharey=True, squeeze=False, layout="constrained"
    )
    for row, task in zip(grid, tasks, strict=True):
        for number, axes in enumerate(row):
            _panel(axes, [cell for cell in cells if cell.task == task], number)
            axes.set_title(f"{task} · {MEASURES[number]}", fontsize=9)
    handles: dict[str, Any] = {}
    for axes in grid.flat:
        handles |= {label: handle for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=len(handles), frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _panel(axes: Any, cells: Sequence[ContextCell], number: int) -> None:
    present = {cell.agent for cell in cells}
    agents = [agent for agent in COLOURS if agent in present]
    embedders = list(dict.fromkeys(cell.embedder for cell in cells))
    for cell in cells:
        found = measured(cell)[number]
        if found is None:
            continue
        place = embedders.index(cell.embedder)
        value, low, high = found
        errors: npt.NDArray[np.float64] = np.clip([[value - low], [high - value]], 0, None)
        look: dict[str, Any] = {"color": COLOURS[cell.agent], "marker": _ODD_MARKERS[place % len(_ODD_MARKERS)]}
        look["fillstyle"] = "none" if place else "full"
        x = agents.index(cell.agent) + 0.22 * (place - (len(embedders) - 1) / 2)
        axes.errorbar([x], [value], errors, linestyle="", capsize=2, elinewidth=0.8, **look)
    if not any(measured(cell)[number] for cell in cells):
        axes.text(0.5, 0.5, "every question has an answer", transform=axes.transAxes, ha="center", fontsize=8)
    for place, embedder in enumerate(embedders):
        look = {"marker": _ODD_MARKERS[place % len(_ODD_MARKERS)], "fillstyle": "none" if place else "full"}
        axes.plot([], [], linestyle="", color="#666666", label=f"embedder {embedder}", **look)
    axes.set_xticks(range(len(agents)), agents, rotation=30, ha="right", fontsize=8)
    axes.set_ylim(-0.05, 1.08)
    axes.grid(True, axis="y", color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
