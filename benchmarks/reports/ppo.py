"""Makes the numbers of ``ppo.py`` readable: paired differences with intervals, a Markdown table, learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from workloads.ppo import Played, mean

from atommem_gym.records.layout import stable_rng

RESAMPLES = 10_000
COMPARED = ("keep_all", "tidy", "packing rule", "greedy rule")
"""Baselines that learners are compared with, item by item."""
COLOURS = {
    "keep_all": "#0072b2",
    "tidy": "#009e73",
    "oracle": "#d55e00",
    "packing rule": "#56b4e9",
    "greedy rule": "#e69f00",
}
LEARNERS = ("#cc79a7", "#000000")
"""Colours of the learners' curves; all of Okabe and Ito's palette, which colour-blind readers can tell apart."""


@dataclass(frozen=True, slots=True)
class Point:
    """One evaluation of a learning curve."""

    steps: int
    em: float
    recall: float


@dataclass(frozen=True, slots=True)
class Row:
    """One player of the table; means over seeds and episodes."""

    name: str
    em: tuple[float, float, float]
    """Mean, and the ends of its 95 % interval."""
    seeds: tuple[float, ...]
    """Exact match of each seed."""
    recall: float
    gold_kept: float
    """Share of the gold documents that stand whole in memory at the end."""
    precision: float
    """Share of the documents in memory that are gold."""
    kept: float
    operations: dict[str, float]
    """Executed an episode, by kind."""
    over: dict[str, tuple[float, float, float]]
    """Paired difference to each baseline, with its 95 % interval."""


def interval(values: Sequence[Sequence[float]]) -> tuple[float, float, float]:
    """Mean and 95 % interval by a bootstrap over both seeds and items.

    Args:
        values: ``[seeds][items]``: of one player, or differences of two, item by item.
    """
    block: npt.NDArray[np.float64] = np.asarray(values, np.float64)
    seeds, items = block.shape
    rng = stable_rng("ppo bootstrap")
    # Means of resampled seeds and items, as products of how often each was drawn.
    drawn_seeds = rng.multinomial(seeds, np.full(seeds, 1 / seeds), RESAMPLES) / seeds
    drawn_items = rng.multinomial(items, np.full(items, 1 / items), RESAMPLES) / items
    means = np.einsum("rs,si,ri->r", drawn_seeds, block, drawn_items, optimize=True)
    low, high = np.percentile(means, [2.5, 97.5])
    return float(block.mean()), float(low), float(high)


def row_of(name: str, seeds: Sequence[Sequence[Played]], baselines: Mapping[str, Sequence[Played]]) -> Row:
    """The row of a player, from its test episodes ``[seeds][items]`` and those of the baselines."""
    everything = [played for one in seeds for played in one]
    kept = sum(played.kept for played in everything)
    return Row(
        name=name,
        em=interval([[played.em for played in one] for one in seeds]),
        seeds=tuple(mean(played.em for played in one) for one in seeds),
        recall=mean(played.recall for played in everything),
        gold_kept=sum(p.gold_kept for p in everything) / sum(p.gold for p in everything),
        precision=sum(p.gold_kept for p in everything) / kept if kept else float("nan"),
        kept=mean(played.kept for played in everything),
        operations={kind: mean(p.operations[kind] for p in everything) for kind in everything[0].operations},
        over={
            other: interval([[a.em - b.em for a, b in zip(one, baselines[other], strict=True)] for one in seeds])
            for other in COMPARED
            if other in baselines
        },
    )


def markdown(
    rows: Sequence[Row],
    settings: Mapping[str, Any],
    made: Mapping[str, str],
    costs: Mapping[str, Sequence[tuple[float, float]]],
) -> str:
    """The results as a page.

    Args:
        rows: Learners first.
        settings: Of the benchmark.
        made: Date, processor, versions, command.
        costs: Wall-clock and processor seconds of each seed, by learner.
    """
    task = settings["task"]
    parts = [
        "# PPO learns what to remember",
        "",
        f"`AtomMem-Synthetic-v0` with {task['num_docs']} documents in chunks of {task['chunk_tokens']} tokens and a "
        f"budget of {task['max_entries']} entries of at most {task['max_entry_tokens']} tokens, the same for all. "
        "Answers are the oracle reader's, so this measures **memory, not language**; all may read three times before "
        f"they answer. Learners see `EmbeddingObservation` without embeddings, choose `MacroActions` with "
        f"{settings['slots']} documents at a time, and train on the split `train` for {settings['steps']:,} steps on "
        f"exact match plus `EvidenceReward(weight={settings['shaping']})`. The table is exact match alone, on the "
        f"split `test`: {settings['episodes']} items, the same for all, and the last weights of each seed, whose "
        "likeliest choices are played.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match on held-out items against training steps](ppo.png)",
        "",
        "| player | EM (95 % interval) | by seed | recall | gold kept | documents kept | of these gold "
        "| creates | updates | deletes | reads |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
        *(_line(row) for row in rows),
        "",
        "Paired differences in exact match, item by item (95 % intervals by a bootstrap over seeds and items):",
        "",
        "| learner | " + " | ".join(f"less `{other}`" for other in COMPARED) + " |",
        "|---|" + "--:|" * len(COMPARED),
        *(
            f"| {row.name} | " + " | ".join(_signed(row.over[other]) for other in COMPARED) + " |"
            for row in rows
            if row.over
        ),
        "",
        "`random choices`, `packing rule` and `greedy rule` use the same observations and macro-actions as the "
        "learners and learn nothing: the packing rule stores whatever comes, two or three documents an entry while "
        "they go in, and so shows what merging alone gains; the greedy rule keeps the most relevant documents that "
        "fit. `keep_all` and `tidy` have one document an entry: both may merge, but `keep_all` never does and `tidy` "
        "only what has the same title. *Gold kept* and *documents kept* count documents that stand whole in memory at "
        "the end; `oracle` stores sentences, not documents. Operations are those executed, an episode; learners may "
        "also read while documents come, which the others do not and which shows no evidence that counts, and with "
        f"{task['max_entries']} entries and `top_k` {task['top_k']} one read shows all of memory. In the plot the "
        "curves are on `validation`, the lines of the others on `test`. The setting was chosen on `validation`, for "
        "the room that it leaves between `tidy`, the greedy rule and `oracle`.",
        "",
        *(_cost(name, seeds) for name, seeds in costs.items()),
    ]
    return "\n".join(parts) + "\n"


def plot(
    curves: Mapping[str, Sequence[Sequence[Point]]], levels: Mapping[str, float], path: Path, budget: str = ""
) -> None:
    """Learning curves, mean and range over seeds, with the baselines as lines.

    Args:
        curves: ``[seeds][points]`` by learner.
        levels: Exact match of the baselines on the test items.
        path: Of the picture.
        budget: For the title.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.2), layout="constrained")
    for (name, seeds), colour in zip(curves.items(), LEARNERS, strict=False):
        points = min(map(len, seeds))
        steps = [point.steps for point in seeds[0][:points]]
        em = np.array([[point.em for point in seed[:points]] for seed in seeds])
        axes.plot(steps, em.mean(0), color=colour, label=f"{name.replace('`', '')}, {len(seeds)} seeds")
        axes.fill_between(steps, em.min(0), em.max(0), color=colour, alpha=0.2, linewidth=0)
    for name, colour in COLOURS.items():
        if name in levels:
            axes.axhline(levels[name], color=colour, linestyle="--", linewidth=1, label=name)
    axes.set(xlabel="environment steps", ylabel="exact match, held-out items", ylim=(-0.02, 1.02), title=budget)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    axes.grid(alpha=0.3)
    figure.savefig(path, dpi=150, metadata={"Software": None})
    pyplot.close(figure)


def _line(row: Row) -> str:
    em = f"{row.em[0]:.2f} ({row.em[1]:.2f}–{row.em[2]:.2f})"
    seeds = " ".join(f"{value:.2f}" for value in row.seeds) if len(row.seeds) > 1 else ""
    share = "–" if np.isnan(row.precision) else f"{row.precision:.2f}"
    name = row.name if row.name.startswith("PPO") else f"`{row.name}`"
    cells = [name, em, seeds, f"{row.recall:.2f}", f"{row.gold_kept:.2f}", f"{row.kept:.1f}", share]
    cells += [f"{row.operations[kind]:.1f}" for kind in ("create", "update", "delete", "read")]
    return f"| {' | '.join(cells)} |"


def _signed(difference: tuple[float, float, float]) -> str:
    return f"{difference[0]:+.2f} ({difference[1]:+.2f} to {difference[2]:+.2f})"


def _cost(name: str, seeds: Sequence[tuple[float, float]]) -> str:
    wall, cpu = (sum(column) / 60 for column in zip(*seeds, strict=True))
    return (
        f"{name}: {cpu:.1f} processor minutes for {len(seeds)} seeds with all evaluations, so {cpu / 2:.1f} minutes "
        f"on two free cores; the trainings' wall-clock times add up to {wall:.1f} minutes (one or two at a time, on a "
        "machine that others use too)."
    )
