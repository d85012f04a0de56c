"""Scripted teams on real HotpotQA: exact match and rounds for 1, 2, 4 and 8 readers of one stream.

    python benchmarks/team.py                 # about five minutes
    python benchmarks/team.py --episodes 10 --documents 200

Reads ``hotpotqa.jsonl`` from the folder ``ATOMMEM_DATA`` (or ``../shared/data``), or the file ``--source``. Needs the
extras ``team`` and ``plots``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import tyro
from reports.machine import provenance
from rich.console import Console

from atommem_gym.agents.play import draw_items
from atommem_gym.agents.team import TEAMS, make_team
from atommem_gym.agents.team_play import play_team
from atommem_gym.envs.team.team import parallel_env
from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.evaluation.statistics import Interval, bootstrap

ROOT = Path(__file__).resolve().parent.parent
SPLIT = "validation"
# Okabe and Ito's palette, which colour-blind readers can tell apart.
LOOKS = {"keep_all": ("#0072b2", "o"), "tidy": ("#009e73", "^"), "oracle": ("#d55e00", "D")}


@dataclass
class Options:
    """Play scripted teams of several sizes on real records and write table, plot and numbers."""

    source: Path | None = None
    """HotpotQA records; by default those of the data folder."""
    documents: int = 800
    """Documents an episode."""
    readers: tuple[int, ...] = (1, 2, 4, 8)
    """Sizes of the teams; the answerer is not counted."""
    teams: tuple[str, ...] = TEAMS
    """Teams, by what their readers do."""
    embedder: str = "hashing"
    """Embedder."""
    episodes: int = 100
    """Episodes a cell; all teams meet the same ones."""
    seed: int = 0
    """Draws the episodes."""
    store: str = "milvus"
    """Where entries are kept."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of team.md, .json and .png."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Episodes of one team of one size; no text of any record."""

    team: str
    readers: int
    items: list[str]
    em: list[float]
    """One an episode, as the two that follow."""
    rounds: list[int]
    recall_exact: list[float]
    entries: float
    """Mean of the most that an episode held at a time."""
    rejected: float
    """Mean an episode."""

    def em_interval(self) -> Interval:
        """The mean exact match."""
        return bootstrap(self.em, self.items, key=("team",))

    def rounds_interval(self) -> Interval:
        """The mean number of rounds."""
        return bootstrap(self.rounds, self.items, key=("team",))

    def gain(self, one: Cell) -> Interval:
        """The mean difference in exact match to another cell, over the same episodes."""
        differences = [ours - theirs for ours, theirs in zip(self.em, one.em, strict=True)]
        return bootstrap(differences, self.items, key=("team",))


def main(options: Options) -> int:
    """Play all cells, write everything, and return the exit status."""
    console = Console(stderr=True, highlight=False)
    folder = Path(os.environ.get("ATOMMEM_DATA") or ROOT.parent / "shared" / "data")
    source = options.source or folder / "hotpotqa.jsonl"
    if not source.is_file():
        raise ConfigError(f"there is no {source.name} in {source.parent}; set ATOMMEM_DATA, or give --source PATH")
    cells = []
    for team in options.teams:
        for readers in options.readers:
            started = time.perf_counter()
            cells.append(play_cell(team, readers, source, options))
            seconds = time.perf_counter() - started
            rounds = fmean(cells[-1].rounds)
            console.print(
                f"{team}, {readers} readers: EM {fmean(cells[-1].em):.2f}, {rounds:.1f} rounds, {seconds:.0f} s"
            )
    made = how_made(options)
    options.out.mkdir(parents=True, exist_ok=True)
    lines = ",\n".join(json.dumps(dataclasses.asdict(cell)) for cell in cells)
    text = f'{json.dumps({"made": made})[:-1]}, "cells": [\n{lines}\n]}}\n'
    (options.out / "team.json").write_text(text, encoding="utf-8")
    (options.out / "team.md").write_text(markdown(cells, made, options), encoding="utf-8")
    plot(cells, options.out / "team.png", options)
    console.print(f"written to {options.out}", markup=False)
    return 0


def play_cell(team: str, readers: int, source: Path, options: Options) -> Cell:
    """Play one team of one size."""
    keywords: dict[str, Any] = {"source": str(source), "split": SPLIT, "num_docs": options.documents}
    keywords |= {"embedder": options.embedder, "store": options.store}
    with closing(parallel_env("HotpotQA", readers=readers, **keywords)) as env:
        records = [
            play_team(env, make_team(team, readers), team, index, shuffle_seed=shuffle_seed, seed=options.seed)
            for index, shuffle_seed in draw_items(env.num_items, options.episodes, options.seed)
        ]
    return Cell(
        team,
        readers,
        items=[f"{record.index}/{record.shuffle_seed}" for record in records],
        em=[record.em for record in records],
        rounds=[record.steps for record in records],
        recall_exact=[round(record.evidence_recall_exact, 4) for record in records],
        entries=round(fmean(record.peak_entries for record in records), 1),
        rejected=round(fmean(record.rejected for record in records), 2),
    )


def how_made(options: Options) -> dict[str, str]:
    """When, on what and with what; paths, which differ from machine to machine, are left out."""
    packages = ("atommem-gym", "pettingzoo", "gymnasium", "numpy", "milvus-lite")
    parts = ["python benchmarks/team.py"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in ("source", "out") and value != field.default:
            parts.append(f"--{field.name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    return provenance(" ".join(parts), packages)


def markdown(cells: Sequence[Cell], made: dict[str, str], options: Options) -> str:
    """The results as a page."""
    lines = [
        "# Teams of readers on HotpotQA",
        "",
        f"Streams of {options.documents} documents, shared out in contiguous parts among the readers, who write into "
        "one memory. The answerer sees only what it reads from it and answers, by the scripted agents' fixed policy, "
        "as an *oracle reader* would: right if and only if the gold evidence stands word for word in its last read or "
        "its scratchpad. So this measures memory and retrieval, not language. `keep_all` readers store every document, "
        "`tidy` readers those that share most words with the question, under a budget of 64 entries for the whole "
        "team, `oracle` readers just the gold evidence.",
        "",
        f"{options.episodes} episodes a cell, the same for all; embedder `{options.embedder}`; means with 95 % "
        "bootstrap intervals over episodes. *Against one reader*: the mean difference in exact match over the same "
        "episodes. One reader and the answerer do what the single agent of that name does.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match and rounds against readers](team.png)",
        "",
        "| team | readers | EM | against one reader | rounds | entries |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for cell in cells:
        one = next((other for other in cells if (other.team, other.readers) == (cell.team, 1)), None)
        gain = "" if one is None or one is cell else cell.gain(one).text()
        row = [f"`{cell.team}`", str(cell.readers), cell.em_interval().text(), gain, cell.rounds_interval().text(1)]
        lines.append(f"| {' | '.join(row)} | {cell.entries:.0f} |")
    return "\n".join(lines) + "\n"


def plot(cells: Sequence[Cell], path: Path, options: Options) -> None:
    """Exact match and rounds against the number of readers, a line a team."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(8.6, 3.2), layout="constrained")
    for place, team in enumerate(options.teams):
        line = [cell for cell in cells if cell.team == team]
        # Side by side, or the intervals of teams that score alike would hide each other.
        xs = [cell.readers * 2 ** (0.05 * (place - (len(options.teams) - 1) / 2)) for cell in line]
        colour, marker = LOOKS.get(team, ("#000000", "x"))
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5, "linewidth": 1.5}
        for axes, found in (
            (left, [cell.em_interval() for cell in line]),
            (right, [cell.rounds_interval() for cell in line]),
        ):
            low = [max(0.0, interval.mean - interval.low) for interval in found]
            high = [max(0.0, interval.high - interval.mean) for interval in found]
            means = [interval.mean for interval in found]
            axes.errorbar(xs, means, [low, high], elinewidth=0.8, capsize=2, label=team, **look)
    left.set_ylim(-0.03, 1.05)
    left.set_ylabel("exact match (oracle reader)")
    right.set_ylim(bottom=0)
    right.set_ylabel("rounds an episode")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(options.readers, [str(readers) for readers in options.readers])
        axes.minorticks_off()
        axes.set_xlabel("readers")
        axes.grid(True, color="#dddddd", linewidth=0.6)
        axes.spines[["top", "right"]].set_visible(False)
    right.legend(frameon=False)
    figure.suptitle(f"HotpotQA, {options.documents} documents, embedder {options.embedder}", fontsize=10)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
