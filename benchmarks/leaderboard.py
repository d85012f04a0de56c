"""The first leaderboard: scripted agents on real HotpotQA, 2WikiMultiHopQA and MuSiQue streams of growing length.

    python benchmarks/leaderboard.py                      # all: about 10 minutes with hashing, an hour with MiniLM
    python benchmarks/leaderboard.py --embedders hashing --episodes 10
    python benchmarks/leaderboard.py --source hotpotqa=hotpot_dev_distractor_v1.json

Reads ``hotpotqa.jsonl``, ``2wikimultihopqa.jsonl`` and ``musique.jsonl`` from the folder ``ATOMMEM_DATA`` (or
``../shared/data``); a data set without a file is skipped. Results are written after every cell of the table, and a
second start goes on where the first one stopped. Needs the extras ``embed`` (for MiniLM) and ``plots``.
"""

from __future__ import annotations

import dataclasses
import datetime
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import gymnasium as gym
import tyro
from reports.leaderboard import Cell, markdown, plot
from reports.machine import provenance
from rich.console import Console
from rich.progress import Progress

import atommem_gym  # noqa: F401  (registers the environments)
from atommem_gym.agents import AGENTS, make_agent
from atommem_gym.agents.play import EpisodeRecord, atommem_env, draw_items, play_episode
from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.registration import TASKS
from atommem_gym.step import Observation

ROOT = Path(__file__).resolve().parent.parent
SPLIT = "validation"
RETRIEVING = ("keep_all", "tidy", "oracle")
"""Agents whose results depend on the embedder; the others are played once, with the first embedder."""
RESULTS_VERSION = 1
"""Raised when an agent or a measure changes. The version of the package says nothing here: environments play alike
under one id, whatever release they come with (docs/public_api.md)."""


@dataclass
class Options:
    """Play the scripted agents on real records and write table, plot and numbers."""

    source: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET=PATH…")] = ()
    """Record files to use instead of the data folder's: hotpotqa=PATH 2wikimultihopqa=PATH musique=PATH."""
    documents: tuple[int, ...] = (200, 400, 800)
    """Documents an episode."""
    embedders: tuple[str, ...] = ("hashing", "minilm")
    """Embedders; random is the ablation of retrieval."""
    agents: tuple[str, ...] = tuple(AGENTS)
    """Agents."""
    episodes: int = 50
    """Episodes a cell; all agents meet the same ones."""
    seed: int = 0
    """Draws the episodes."""
    store: str = "milvus"
    """Where entries are kept."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of leaderboard.md, .json and .png."""
    fresh: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Forget earlier results instead of going on with them."""


@dataclass(frozen=True, slots=True)
class Plan:
    """One cell to play."""

    dataset: str
    embedder: str
    documents: int
    agent: str


def main(options: Options) -> int:
    """Play what is missing, write everything, and return the exit status."""
    console = Console(stderr=True, highlight=False)
    with tempfile.TemporaryDirectory() as folder:
        sources = find_sources(options.source, Path(folder), console)
        if not sources:
            return 0
        file = options.out / "leaderboard.json"
        cells = [] if options.fresh else load_cells(file, options)
        played = {plan_of(cell) for cell in cells if not cell.uncounted}
        plans = [plan for plan in plan_cells(options, sources) if plan not in played]
        try:
            for cell in play_cells(plans, sources, options, console):
                cells = with_cell(cells, cell)
                write_results(file, cells, options)
        except KeyboardInterrupt:
            console.print("interrupted; start again to go on from here")
    if cells:
        report(cells, made_before(file), options, console)
    return 0


def find_sources(given: Sequence[str], folder: Path, console: Console) -> dict[str, Path]:
    """The record file of each data set that has one; of 2WikiMultiHopQA a copy with the official records only.

    Raises:
        ConfigError: a given source is no DATASET=PATH.
    """
    names = [task.dataset for task in TASKS.values() if task.dataset and not task.contexts]
    sources: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or name not in names:
            raise ConfigError(f"--source {text!r} must be DATASET=PATH with one of {', '.join(names)}")
        sources[name] = Path(path).expanduser()
    if sources:
        return sources
    data = Path(os.environ.get("ATOMMEM_DATA") or ROOT.parent / "shared" / "data")
    for name in names:
        file = data / f"{name}.jsonl"
        if file.is_file():
            sources[name] = official_records(file, folder)
        else:
            console.print(
                f"{name} skipped: there is no {name}.jsonl in {data}; set ATOMMEM_DATA to a folder that has it, or "
                f"give --source {name}=PATH",
                markup=False,
                style="yellow",
                soft_wrap=True,
            )
    return sources


def official_records(path: Path, folder: Path) -> Path:
    """The file itself, or for 2WikiMultiHopQA a copy without the lines that its ``.sources.tsv`` calls converted.

    Converted records have guessed sentence numbers, so their evidence is not official.
    """
    listing = path.with_suffix(".sources.tsv")
    if path.stem != "2wikimultihopqa" or not listing.is_file():
        return path
    rows = [row.split("\t") for row in listing.read_text(encoding="utf-8").splitlines()[1:]]
    official = {int(row[0]) for row in rows if row[3].startswith("official")}
    copy = folder / path.name
    with path.open("rb") as lines, copy.open("wb") as kept:
        kept.writelines(line for number, line in enumerate(lines, 1) if number in official)
    return copy


def plan_cells(options: Options, sources: dict[str, Path]) -> list[Plan]:
    """All cells, one data set of one embedder after the other, so that its embeddings are made once."""
    return [
        Plan(dataset, embedder, documents, agent)
        for embedder in options.embedders
        for dataset in sources
        for documents in options.documents
        for agent in options.agents
        if embedder == options.embedders[0] or agent in RETRIEVING
    ]


def plan_of(cell: Cell) -> Plan:
    """The plan that a cell was played by."""
    return Plan(cell.dataset, cell.embedder, cell.documents, cell.agent)


def play_cells(plans: Sequence[Plan], sources: dict[str, Path], options: Options, console: Console) -> Iterator[Cell]:
    """Play cell after cell, with progress."""
    with Progress(console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("", total=len(plans) * options.episodes)
        for number, plan in enumerate(plans, 1):
            name = f"{plan.dataset}, {plan.embedder}, {plan.documents} documents, {plan.agent}"
            progress.update(bar, description=name)
            cell = play_cell(plan, sources[plan.dataset], options, lambda: progress.advance(bar))
            console.print(f"{number}/{len(plans)}  {name}: EM {fmean(cell.em):.2f} in {cell.seconds:.0f} s")
            yield cell


def play_cell(plan: Plan, source: Path, options: Options, advance: Callable[[], None]) -> Cell:
    """Play one cell.

    Args:
        plan: What to play.
        source: The records.
        options: Episodes, seed and store.
        advance: Called after each episode.
    """
    task = next(task for task in TASKS.values() if task.dataset == plan.dataset)
    records: list[EpisodeRecord] = []
    chances: list[float] = []
    in_part = 0

    def count(_action: str, _observation: Observation, info: Mapping[str, Any]) -> None:
        nonlocal in_part
        in_part += sum(report["reason"] == "embedded_in_part" for report in info["rejected"])

    keywords: dict[str, Any] = {"source": str(source), "split": SPLIT, "num_docs": plan.documents}
    keywords |= {"embedder": plan.embedder, "store": options.store}
    started = datetime.datetime.now()
    with closing(gym.make(task.env_id, disable_env_checker=True, **keywords)) as env:
        agent = make_agent(plan.agent)
        for index, shuffle_seed in draw_items(atommem_env(env).num_items, options.episodes, options.seed):
            records.append(play_episode(env, agent, index, shuffle_seed=shuffle_seed, seed=options.seed, on_step=count))
            chances += [1 / len(q.options) if q.options else 0.0 for q in atommem_env(env).item.questions]
            advance()
    seconds = (datetime.datetime.now() - started).total_seconds()
    kinds = records[0].operations
    return Cell(
        **dataclasses.asdict(plan),
        em=[record.em for record in records],
        f1=[round(record.f1, 4) for record in records],
        recall=[round(record.evidence_recall, 4) for record in records],
        recall_exact=[round(record.evidence_recall_exact, 4) for record in records],
        guess_rate=round(fmean(chances), 4),
        operations={kind: round(fmean(record.operations[kind] for record in records), 2) for kind in kinds},
        rejected=round(fmean(record.rejected for record in records), 2),
        embedded_in_part=round(in_part / len(records), 2),
        peak_entries=round(fmean(record.peak_entries for record in records), 1),
        steps=round(fmean(record.steps for record in records), 2),
        env_ms=round(fmean(record.env_ms for record in records), 2),
        seconds=round(seconds, 1),
    )


def settings(options: Options) -> dict[str, Any]:
    """What must be equal for earlier cells to be gone on with."""
    return {
        "version": RESULTS_VERSION,
        "episodes": options.episodes,
        "seed": options.seed,
        "split": SPLIT,
        "store": options.store,
    }


def with_cell(cells: Sequence[Cell], new: Cell) -> list[Cell]:
    """The cells with a new one: in the place of the one that was played by its plan, else at the end."""
    plan = plan_of(new)
    if plan in map(plan_of, cells):
        return [new if plan_of(cell) == plan else cell for cell in cells]
    return [*cells, new]


def load_cells(file: Path, options: Options) -> list[Cell]:
    """The cells of an earlier start; none if it had other settings.

    Raises:
        ConfigError: they belong to other settings, and would be overwritten.
    """
    if not file.is_file():
        return []
    earlier = json.loads(file.read_text(encoding="utf-8"))
    if earlier["settings"] != settings(options):
        raise ConfigError(
            f"{file} has results of other settings ({earlier['settings']}); use --fresh to replace them, or --out "
            "to write elsewhere"
        )
    return [Cell(**cell) for cell in earlier["cells"]]


def write_results(file: Path, cells: Sequence[Cell], options: Options) -> None:
    """Write all cells; a reader never meets half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"settings": settings(options), "made": how_made(options)})
    # A cell a line, so that a change of one cell is a change of one line.
    lines = ",\n".join(json.dumps(dataclasses.asdict(cell)) for cell in cells)
    unfinished = file.with_suffix(".part")
    unfinished.write_text(f'{head[:-1]}, "cells": [\n{lines}\n]}}\n', encoding="utf-8")
    unfinished.replace(file)


def command(options: Options) -> str:
    """The command that makes these results; paths, which differ from machine to machine, are left out."""
    parts = ["python benchmarks/leaderboard.py"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name in ("documents", "embedders", "agents", "episodes", "seed", "store") and value != field.default:
            parts.append(f"--{field.name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    return " ".join(parts)


def how_made(options: Options) -> dict[str, str]:
    """When, on what and with what."""
    packages = ("atommem-gym", "gymnasium", "numpy", "milvus-lite", "sentence-transformers", "torch")
    return provenance(command(options), packages)


def made_before(file: Path) -> dict[str, str]:
    """When, on what and with what the last of the cells was played."""
    made: dict[str, str] = json.loads(file.read_text(encoding="utf-8"))["made"]
    return made


def report(cells: Sequence[Cell], made: dict[str, str], options: Options, console: Console) -> None:
    """Write the table and the plot, and say whether floor and ceiling are where they should be."""
    for line in checks(cells):
        console.print(line, markup=False, soft_wrap=True)
    text = markdown(cells, made, options.episodes, checks(cells))
    (options.out / "leaderboard.md").write_text(text, encoding="utf-8")
    try:
        plot(cells, options.out / "leaderboard.png")
    except ModuleNotFoundError:
        console.print("no plot: matplotlib is not installed (pip install 'atommem-gym[plots]')", markup=False)
    console.print(f"written to {options.out}", markup=False)


def checks(cells: Sequence[Cell]) -> list[str]:
    """Cells in which the oracle is below 0.95, or silent is above what guessing explains."""
    found = []
    for cell in cells:
        name = f"{cell.dataset}, {cell.embedder}, {cell.documents} documents"
        em = fmean(cell.em)
        if cell.agent == "oracle" and em < 0.95:
            found.append(f"oracle is below 0.95 ({em:.2f}): {name}")
        if cell.agent == "silent" and cell.interval[0] > cell.guess_rate:
            found.append(f"silent ({em:.2f}) is above the guess rate ({cell.guess_rate:.2f}): {name}")
    return found


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
