"""Draws the depth x length heat map of scripted agents: ``python benchmarks/needle.py``.

Agents have a budget of entries, so that not everything can be kept: what the map shows is which needles are still in
memory, and found, when the question comes. Answers are the oracle reader's. Questions are hidden while reading, else
storing what resembles the question would do.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean

import gymnasium as gym
import tyro
from reports.machine import provenance
from rich.console import Console

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play
from atommem_gym.evaluation.grids import heat_maps
from atommem_gym.evaluation.statistics import bootstrap

ENV_ID = "AtomMem-Needle-v0"


@dataclass(frozen=True, slots=True)
class Options:
    """Play needles at every depth in every length."""

    agents: tuple[str, ...] = ("keep_all", "tidy", "oracle")
    lengths: tuple[int, ...] = (4_000, 16_000, 64_000)
    depths: tuple[float, ...] = (0.0, 0.25, 0.5, 0.75, 1.0)
    episodes: int = 5
    """Items a cell."""
    max_entries: int = 64
    haystack: str = "noise"
    question_visible: str = "end"
    out: Path = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Cell:
    """What became of one agent at one depth of one length."""

    agent: str
    length: int
    depth: float
    em: list[float]
    """One an episode."""
    seconds: float


def play_cell(agent: str, length: int, depth: float, options: Options) -> Cell:
    """All episodes of a cell."""
    started = time.process_time()
    env = gym.make(
        ENV_ID,
        store="numpy",
        length=length,
        depth=depth,
        haystack=options.haystack,
        max_entries=options.max_entries,
        question_visible=options.question_visible,
    )
    records = play(env, make_agent(agent), options.episodes)
    env.close()
    return Cell(agent, length, depth, [record.em for record in records], time.process_time() - started)


def markdown(cells: Sequence[Cell], options: Options, made: dict[str, str]) -> str:
    """The page: an agent's table, and the whole at a glance."""
    lines = [
        "# Needles: depth x length",
        "",
        f"`{ENV_ID}`, one needle in {options.haystack}, `question_visible={options.question_visible!r}`, at most "
        f"{options.max_entries} entries; {options.episodes} items a cell, the same for all; embedder `hashing`, store "
        "`numpy`. Answers are an *oracle reader*'s, so this is memory and retrieval, not language: the gold answer if "
        "and only if the needle is seen word for word in the last read or the scratchpad.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "![Exact match by depth and length](needle.png)",
    ]
    for agent in options.agents:
        lines += ["", f"## `{agent}`", "", f"| depth | {' | '.join(f'{n:,} tokens' for n in options.lengths)} |"]
        lines.append(f"|--:|{'--:|' * len(options.lengths)}")
        for depth in options.depths:
            row = [cell for cell in cells if (cell.agent, cell.depth) == (agent, depth)]
            lines.append(f"| {depth:g} | {' | '.join(f'{fmean(cell.em):.2f}' for cell in row)} |")
        whole = [em for cell in cells if cell.agent == agent for em in cell.em]
        overall = bootstrap(whole, range(len(whole)), ("needle", agent))
        lines += ["", f"All cells: {overall.text()} (95 % bootstrap interval over episodes)."]
    return "\n".join(lines) + "\n"


def main(options: Options) -> None:
    """Play all cells; write table, numbers and heat maps."""
    console = Console()
    cells = []
    for agent in options.agents:
        for depth in options.depths:
            cells += [play_cell(agent, length, depth, options) for length in options.lengths]
            console.print(agent, depth, *(f"{fmean(cell.em):.2f}" for cell in cells[-len(options.lengths) :]))
    how = provenance("python benchmarks/needle.py", ("atommem-gym", "gymnasium", "numpy"))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "needle.md").write_text(markdown(cells, options, how), encoding="utf-8")
    values = {"made": how, "cells": [asdict(cell) for cell in cells]}
    (options.out / "needle.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    draw(cells, options)


def draw(cells: Sequence[Cell], options: Options) -> None:
    """A heat map for each agent."""
    ems = {
        (cell.agent, cell.depth, cell.length): bootstrap(
            cell.em, range(len(cell.em)), ("needle", cell.agent, cell.depth, cell.length)
        )
        for cell in cells
    }
    maps = [[[ems[agent, depth, n] for n in options.lengths] for depth in options.depths] for agent in options.agents]
    note = f"n {options.episodes} episodes a cell"
    figure = heat_maps(options.agents, maps, "length (tokens)", "depth", options.lengths, options.depths, note=note)
    figure.savefig(options.out / "needle.png", dpi=150, metadata={"Software": None})


if __name__ == "__main__":
    main(tyro.cli(Options))
