"""The leaderboard of contexts: scripted agents on dialogues and on facts that are revised.

    python benchmarks/contexts.py                      # some minutes
    python benchmarks/contexts.py --episodes 4 --agents keep_all oracle
    python benchmarks/contexts.py --source LoCoMo=locomo10.json

Reads the files of ``SETS`` from the folder ``ATOMMEM_DATA`` (or ``../shared/data``); a set without a file is skipped.
Results are written after every set; no text of any record is in them. Needs the extra ``plots``.
"""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any

import gymnasium as gym
import tyro
from leaderboard import RETRIEVING, ROOT, SPLIT
from reports.contexts import ContextCell, markdown, measured, plot
from reports.machine import provenance
from rich.console import Console

import atommem_gym  # noqa: F401  (registers the environments)
from atommem_gym.agents import AGENTS, make_agent
from atommem_gym.agents.play import EpisodeRecord, atommem_env, draw_items, play_episode
from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.registration import TASKS
from atommem_gym.scoring import is_abstention
from atommem_gym.step import Observation

_PACKAGES = ("atommem-gym", "gymnasium", "numpy", "milvus-lite")


@dataclass(frozen=True, slots=True)
class ContextSet:
    """A set of contexts to play."""

    task: str
    """Its name in the registry."""
    file: str | None = None
    """Its records in the data folder; ``None``: they are generated."""
    keywords: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    """Further keyword arguments of its environment."""


SETS = (
    ContextSet("LoCoMo", "locomo7.json"),
    ContextSet("FactConsolidation", "factconsolidation4.json"),
    ContextSet("Conversation"),
    ContextSet("Forget"),
)
"""What is played; a generated set is one more line, without a file."""


@dataclass
class Options:
    """Play the scripted agents on contexts and write table, plot and numbers."""

    source: Annotated[tuple[str, ...], tyro.conf.arg(metavar="SET=PATH…")] = ()
    """Record files to use instead of the data folder's, such as LoCoMo=PATH."""
    embedders: tuple[str, ...] = ("hashing", "random")
    """Embedders; random is the ablation of retrieval."""
    agents: tuple[str, ...] = tuple(AGENTS)
    """Agents; those that retrieve nothing are played with the first embedder only."""
    episodes: int = 14
    """Episodes a row; all agents meet the same ones."""
    questions: int = 10
    """Questions an episode."""
    seed: int = 0
    """Draws the episodes."""
    store: str = "numpy"
    """Where entries are kept."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of contexts.md, .json and .png."""


def main(options: Options) -> int:
    """Play every set, write everything, and return the exit status."""
    console = Console(stderr=True, highlight=False)
    cells: list[ContextCell] = []
    for one, keywords in playable(options.source, console):
        for cell in play_set(one, keywords, options):
            found = measured(cell)[0]
            shown = "–" if found is None else f"{found[0]:.2f}"
            console.print(f"{cell.task}, {cell.embedder}, {cell.agent}: EM {shown} in {cell.seconds:.0f} s")
            cells.append(cell)
        write(cells, options, console)
    return 0


def playable(given: Sequence[str], console: Console) -> Iterator[tuple[ContextSet, dict[str, Any]]]:
    """The sets whose records are there, with the keyword arguments of their environments.

    Raises:
        ConfigError: a given source is no SET=PATH.
    """
    names = [one.task for one in SETS if one.file is not None]
    paths = {}
    for text in given:
        name, equals, path = text.partition("=")
        if not equals or name not in names:
            raise ConfigError(f"--source {text!r} must be SET=PATH with one of {', '.join(names)}")
        paths[name] = Path(path).expanduser()
    data = Path(os.environ.get("ATOMMEM_DATA") or ROOT.parent / "shared" / "data")
    for one in SETS:
        if one.file is None:
            yield one, dict(one.keywords)
            continue
        path = paths.get(one.task, data / one.file)
        if path.is_file():
            yield one, {**one.keywords, "source": str(path)}
        else:
            console.print(
                f"{one.task} skipped: there is no {path}; set ATOMMEM_DATA to a folder that has {one.file}, or give "
                f"--source {one.task}=PATH",
                markup=False,
                style="yellow",
                soft_wrap=True,
            )


def play_set(one: ContextSet, keywords: Mapping[str, Any], options: Options) -> Iterator[ContextCell]:
    """Play a set with every agent and, if the agent retrieves, every embedder."""
    for number, embedder in enumerate(options.embedders):
        made = {**keywords, "embedder": embedder, "store": options.store, "split": SPLIT}
        made["questions_per_episode"] = options.questions
        with closing(gym.make(TASKS[one.task].env_id, disable_env_checker=True, **made)) as env:
            for agent in options.agents:
                if not number or agent in RETRIEVING:
                    yield play_cell(env, one.task, embedder, agent, options)


def play_cell(env: gym.Env[Observation, str], task: str, embedder: str, agent: str, options: Options) -> ContextCell:
    """Play one row of the table."""
    records: list[EpisodeRecord] = []
    answers: list[list[list[int]]] = []
    contexts, documents = set(), []

    def keep(_action: str, _observation: Observation, info: Mapping[str, Any]) -> None:
        for metrics in [info["episode_metrics"]] if "episode_metrics" in info else []:
            answers.append([_answer(said) for said in metrics["answers"]])

    player, started = make_agent(agent), time.monotonic()
    for index, shuffle_seed in draw_items(atommem_env(env).num_items, options.episodes, options.seed):
        records.append(play_episode(env, player, index, shuffle_seed=shuffle_seed, seed=options.seed, on_step=keep))
        item = atommem_env(env).item
        contexts.add(item.questions[0].context)
        documents.append(len(item.documents))
    return ContextCell(
        task=task,
        embedder=embedder,
        agent=agent,
        answers=answers,
        recall=[None if one.evidence_recall is None else round(one.evidence_recall, 4) for one in records],
        contexts=len(contexts),
        documents=round(fmean(documents), 1),
        peak_entries=round(fmean(one.peak_entries for one in records), 1),
        steps=round(fmean(one.steps for one in records), 1),
        env_ms=round(fmean(one.env_ms for one in records), 2),
        seconds=round(time.monotonic() - started, 1),
    )


def _answer(said: Mapping[str, Any]) -> list[int]:
    """Exact match, whether there is an answer, and whether the agent abstained, of one question."""
    abstained = said["closed"] == "answered" and is_abstention(said["answer"])
    return [int(said["em"]), int(said.get("answerable", True)), int(abstained)]


def command(options: Options) -> str:
    """The command that makes these results; paths, which differ from machine to machine, are left out."""
    parts = ["python benchmarks/contexts.py"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name not in ("source", "out") and value != field.default:
            parts.append(f"--{field.name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}")
    return " ".join(parts)


def write(cells: Sequence[ContextCell], options: Options, console: Console) -> None:
    """Write numbers, table and plot of what was played."""
    made = provenance(command(options), _PACKAGES)
    options.out.mkdir(parents=True, exist_ok=True)
    # A cell a line, so that a change of one cell is a change of one line.
    lines = ",\n".join(json.dumps(dataclasses.asdict(cell)) for cell in cells)
    text = f'{{"made": {json.dumps(made)}, "cells": [\n{lines}\n]}}\n'
    (options.out / "contexts.json").write_text(text, encoding="utf-8")
    (options.out / "contexts.md").write_text(markdown(cells, made), encoding="utf-8")
    try:
        plot(cells, options.out / "contexts.png")
    except ModuleNotFoundError:
        console.print("no plot: matplotlib is not installed (pip install 'atommem-gym[plots]')", markup=False)
    console.print(f"written to {options.out}", markup=False)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
