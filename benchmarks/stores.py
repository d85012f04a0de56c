"""How fast stores are, ours and other people's, one beside the other: workload W (many episodes, small memories).

    python benchmarks/stores.py                     # all that is installed: about a quarter of an hour
    python benchmarks/stores.py --quick             # a minute; prints the table and writes nothing
    python benchmarks/stores.py --stores floor numpy milvus faiss
    python benchmarks/stores.py --stores numpy milvus server real-search real-write real --name stores_servers

A step is one create (200 characters), 0.3 updates, 0.1 deletes and one read (the best 6 of that episode) in each of N
episodes of 40 steps. Vectors of 384 numbers are given, so no embedding is measured. Every store plays in a process of
its own, one at a time and round after round, so that all meet the machine in the same moods; every answer is compared
with brute force. A store that is not installed is listed as not run. Peers come from their own packages:
``pip install faiss-cpu hnswlib usearch qdrant-client chromadb lancedb langgraph langmem mem0ai``. The real Milvus is
the one that ``ATOMMEM_MILVUS`` names; ``make milvus-environment`` installs one, and ``.milvus/bin/python
tests/support/stores/real_milvus.py COMMAND`` runs a command beside it. ``--name`` keeps such a run apart.
"""

from __future__ import annotations

import dataclasses
import datetime
import importlib.metadata
import importlib.util
import json
import multiprocessing
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np
import tyro
from contestants import databases, indices, memories, ours
from reports.machine import cpu_name
from reports.stores import Cell, LongRun, markdown, plot
from rich.console import Console
from rich.markdown import Markdown
from workloads.stores import Truth, workload

from atommem_gym.errors import ConfigError
from atommem_gym.stores.loading import open_store

ROOT = Path(__file__).resolve().parent.parent
RESULTS_VERSION = 1
STEPS = 40
READY_WITHIN_S = 120.0
REAL_MILVUS = ours.REAL_MILVUS

Save: TypeAlias = Callable[[list["Cell"], list["LongRun"], dict[str, str]], None]


@dataclass(frozen=True, slots=True)
class Entrant:
    """A store that may be played."""

    label: str
    open: Callable[[int], ours.Contestant]
    package: str = ""
    """Distribution that it comes from; empty for ours."""
    module: str = ""
    variable: str = ""
    """Environment variable that must say where it is."""
    kept: bool = False
    long: bool = False
    """Whether it also plays a thousand episodes one after the other."""


ENTRANTS = {
    "floor": Entrant("floor: one numpy block, nothing checked", ours.Floor),
    "engine": Entrant("Milvus Lite's engine alone, a collection an episode", ours.Engine),
    "numpy": Entrant("**numpy**", lambda dim: ours.Ours(open_store("numpy", dim)), long=True),
    "milvus": Entrant("**Milvus Lite, mirror reads**", lambda dim: ours.Ours(open_store("milvus", dim)), long=True),
    "milvus-kept": Entrant("**… kept on disk**", lambda dim: ours.Kept(dim, "mirror"), kept=True, long=True),
    "milvus-reads": Entrant(
        "**Milvus Lite answering**",
        lambda dim: ours.Ours(open_store("milvus", dim, store_reads="milvus")),
        long=True,
    ),
    "milvus-reads-kept": Entrant("**… kept on disk**", lambda dim: ours.Kept(dim, "milvus"), kept=True),
    "server": Entrant("**milvus-lite server, through a port**", ours.Served, kept=True),
    "real-search": Entrant("one strong search of a real Milvus, nothing else", ours.StrongSearch, variable=REAL_MILVUS),
    "real-write": Entrant(
        "one row written and a strong search of it, nothing else", ours.WrittenAndSearched, variable=REAL_MILVUS
    ),
    "real": Entrant("**a real Milvus, standalone**", ours.RealMilvus, variable=REAL_MILVUS, kept=True),
    "faiss": Entrant("faiss, flat index an episode", indices.Faiss, "faiss-cpu", "faiss"),
    "hnswlib": Entrant("hnswlib, index an episode", indices.Hnswlib, "hnswlib", "hnswlib"),
    "usearch": Entrant("usearch, index an episode", indices.Usearch, "usearch", "usearch"),
    "qdrant": Entrant(
        "qdrant-client local, memory", lambda dim: databases.Qdrant(dim, False), "qdrant-client", "qdrant_client"
    ),
    "qdrant-disk": Entrant(
        "… disk", lambda dim: databases.Qdrant(dim, True), "qdrant-client", "qdrant_client", kept=True
    ),
    "chroma": Entrant("Chroma, memory", lambda dim: databases.Chroma(dim, False), "chromadb", "chromadb"),
    "chroma-disk": Entrant("… disk", lambda dim: databases.Chroma(dim, True), "chromadb", "chromadb", kept=True),
    "lancedb": Entrant("LanceDB, memory", lambda dim: databases.LanceDB(dim, False), "lancedb", "lancedb"),
    "lancedb-disk": Entrant("… disk", lambda dim: databases.LanceDB(dim, True), "lancedb", "lancedb", kept=True),
    "langgraph": Entrant("langgraph InMemoryStore", memories.LangGraph, "langgraph", "langgraph"),
    "langmem": Entrant("langmem tools", memories.LangMem, "langmem", "langmem"),
    "mem0": Entrant("mem0, infer=False, local qdrant", memories.Mem0, "mem0ai", "mem0", kept=True),
    "released": Entrant(
        "AtomMem's released scheme, fetch_k 16,000", lambda dim: indices.SharedIndex(dim, 16_000), "faiss-cpu", "faiss"
    ),
    "released-40k": Entrant("… fetch_k 40,000", lambda dim: indices.SharedIndex(dim, 40_000), "faiss-cpu", "faiss"),
}


@dataclass
class Options:
    """Play workload W on every store that is installed; write table, plots and numbers."""

    stores: tuple[str, ...] = tuple(ENTRANTS)
    """Which stores."""
    envs: tuple[int, ...] = (1, 64, 256)
    """Numbers of episodes side by side."""
    entries: tuple[int, ...] = (40, 160, 640)
    """Entries an episode begins with, where the cost against entries is measured (8 episodes, 10 steps)."""
    rounds: int = 2
    """Rounds of 40 steps of each size; four times as many of a single episode."""
    seconds: float = 4.0
    """After so long a store is stopped within a round; what it has not played counts as not played."""
    episodes: int = 1_000
    """Episodes one after the other, 8 side by side, for what must stay flat; 0 leaves that out."""
    dim: int = 384
    """Numbers in a vector."""
    quick: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """1 and 64 episodes, one short round each; nothing is written."""
    name: str = "stores"
    """First part of the names of the files that are written: NAME.md, .json, _envs.png and _entries.png."""
    out: Path = ROOT / "benchmarks" / "results"
    """Their folder."""


@dataclass(frozen=True, slots=True)
class Played:
    """What a child says of a round; one number a vector step, in ms per episode step."""

    wall: list[float]
    cpu: list[float]
    steps: int
    right: float
    """Share of reads that found what brute force finds."""
    rss_mb: float
    files: int
    threads: int


def main(options: Options) -> int:
    """Play everything, write everything, and return the exit status."""
    console = Console(stderr=True, highlight=False)
    unknown = [name for name in options.stores if name not in ENTRANTS]
    if unknown:
        raise ConfigError(f"--stores {' '.join(unknown)}: unknown; valid names: {', '.join(ENTRANTS)}")
    if options.quick:
        options = dataclasses.replace(options, envs=(1, 64), entries=(), rounds=1, seconds=1.0, episodes=0)
    absent = {name: why for name in options.stores if (why := why_absent(ENTRANTS[name]))}
    present = [name for name in options.stores if name not in absent]
    for name, why in absent.items():
        console.print(f"{name} is not run: {why}", style="yellow")
    made = _made(present)
    labels = {name: entrant.label for name, entrant in ENTRANTS.items()}

    def save(cells: list[Cell], longs: list[LongRun], failed: dict[str, str]) -> None:
        text = markdown(cells, longs, labels, absent, failed, made, options.name)
        if options.quick:
            if {cell.num_envs for cell in cells} == set(options.envs):
                Console().print(Markdown(text))
            return
        options.out.mkdir(parents=True, exist_ok=True)
        results = {
            "version": RESULTS_VERSION,
            "made": made,
            "cells": [dataclasses.asdict(cell) for cell in cells],
            "long": [dataclasses.asdict(run) for run in longs],
            "not_run": absent,
            "failed": failed,
        }
        (options.out / f"{options.name}.json").write_text(json.dumps(results, indent=1) + "\n")
        (options.out / f"{options.name}.md").write_text(text)
        plot(cells, options.out, options.name)

    play_all(options, present, console, save)
    return 0


def why_absent(entrant: Entrant) -> str:
    """Why a store cannot be played here; empty if it can."""
    if entrant.module and not _installed(entrant.module):
        return f"`{entrant.package}` is not installed"
    if entrant.variable and not os.environ.get(entrant.variable):
        return f"`{entrant.variable}` names no server; the head of `benchmarks/stores.py` says how to start one"
    return ""


def play_all(options: Options, present: list[str], console: Console, save: Save) -> None:
    """All cells, one child a store; a store that fails is out, and named with its error.

    Args:
        options: What to play.
        present: Stores that are installed.
        console: For progress.
        save: Called with all that is known whenever more is.
    """
    cells: list[Cell] = []
    longs: list[LongRun] = []
    failed: dict[str, str] = {}
    context = multiprocessing.get_context("spawn")
    children: dict[str, tuple[Any, Connection]] = {}
    for name in present:
        pipe, theirs = context.Pipe()
        process = context.Process(target=child, args=(name, options.dim, theirs), daemon=True)
        process.start()
        theirs.close()
        children[name] = (process, pipe)
        # One after the other, so that a heavy import does not slow the next one down.
        try:
            said = pipe.recv() if pipe.poll(READY_WITHIN_S) else f"did not start within {READY_WITHIN_S:.0f} s"
        except EOFError:
            said = "its process died"
        if said != "ready":
            failed[name] = str(said)
    try:
        for num_envs, entries, steps, rounds in sizes(options):
            played: dict[str, list[Played]] = {name: [] for name in present if name not in failed}
            for seed in range(rounds):
                for name in list(played):
                    said = ask(children[name][1], num_envs, entries, steps, seed, options.seconds)
                    if isinstance(said, Played):
                        played[name].append(said)
                    else:
                        failed[name] = said
                        del played[name]
            for name, found in played.items():
                if any(of_round.steps for of_round in found):
                    cells.append(cell_of(name, num_envs, entries, steps, found))
            console.print(f"{num_envs} episodes, {entries} entries first: done")
            save(cells, longs, failed)
        for name in present:
            if ENTRANTS[name].long and name not in failed and options.episodes:
                longs.append(long_run(name, children[name][1], options))
                save(cells, longs, failed)
    finally:
        for process, pipe in children.values():
            pipe.close()
            process.join(10.0)
            if process.is_alive():
                process.kill()


def sizes(options: Options) -> Iterator[tuple[int, int, int, int]]:
    """Episodes, entries to begin with, steps, rounds."""
    for num_envs in options.envs:
        yield num_envs, 0, STEPS, options.rounds * (4 if num_envs == 1 else 1)
    for entries in options.entries:
        yield 8, entries, 10, 1


def ask(pipe: Connection, num_envs: int, entries: int, steps: int, seed: int, seconds: float) -> Played | str:
    """Let a child play a round; its error if it fails."""
    try:
        pipe.send((num_envs, entries, steps, seed, seconds))
        said: Played | str = pipe.recv()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return "its process died"
    return said


def cell_of(name: str, num_envs: int, entries: int, steps: int, played: list[Played]) -> Cell:
    """The summary of all rounds of one size."""
    wall = np.concatenate([found.wall for found in played])
    cpu = np.concatenate([found.cpu for found in played])
    first = np.concatenate([found.wall[:10] for found in played])
    last = np.concatenate([found.wall[steps - 10 : steps] for found in played])
    return Cell(
        store=name,
        num_envs=num_envs,
        entries=entries,
        median_ms=float(np.median(wall)),
        cpu_ms=float(np.median(cpu)),
        p99_ms=float(np.quantile(wall, 0.99)),
        first_ms=float(np.median(first)),
        last_ms=float(np.median(last)) if len(last) else None,
        right=float(np.mean([found.right for found in played])),
        steps=sum(found.steps for found in played),
        complete=all(found.steps == steps for found in played),
        kept=ENTRANTS[name].kept,
    )


def long_run(name: str, pipe: Connection, options: Options) -> LongRun:
    """Episodes one after the other: does the thousandth cost what the first did?"""
    rounds = [ask(pipe, 8, 0, STEPS, seed, 60.0) for seed in range(max(4, options.episodes // 8))]
    played = [found for found in rounds if isinstance(found, Played)]
    tenth = max(1, len(played) // 10)
    early, late = played[:tenth], played[-tenth:]
    return LongRun(
        store=name,
        episodes=8 * len(played),
        early_ms=float(np.median(np.concatenate([found.cpu for found in early]))),
        late_ms=float(np.median(np.concatenate([found.cpu for found in late]))),
        early_mb=early[-1].rss_mb,
        late_mb=late[-1].rss_mb,
        early_open=(early[-1].files, early[-1].threads),
        late_open=(late[-1].files, late[-1].threads),
    )


def child(name: str, dim: int, pipe: Connection) -> None:
    """Play what the parent asks for until it hangs up."""
    try:
        contestant = ENTRANTS[name].open(dim)
        pipe.send("ready")
        while True:
            try:
                num_envs, entries, steps, seed, seconds = pipe.recv()
            except EOFError:
                break
            pipe.send(play(contestant, num_envs, entries, steps, seed, seconds, dim))
        contestant.close()
    except Exception as error:
        # A peer may raise anything; the table names it.
        pipe.send(f"{type(error).__name__}: {str(error)[:300]}")


def play(
    contestant: ours.Contestant, num_envs: int, entries: int, steps: int, seed: int, seconds: float, dim: int
) -> Played:
    """One round, timed and checked."""
    plan = workload(num_envs, steps, dim, seed, entries=entries)
    truth = Truth()
    wanted = [[truth.apply(move) for move in moves] for moves in plan]
    wall, cpu, right = [], [], []
    contestant.begin(num_envs)
    end = time.perf_counter() + 2 * seconds
    before = len(plan) - steps
    for moves in plan[:before]:
        contestant.step(moves)
        if time.perf_counter() > end:
            # Too slow to get to the beginning.
            contestant.end()
            return Played([], [], 0, 0.0, 0.0, 0, 0)
    end = time.perf_counter() + seconds
    for moves, expected in zip(plan[before:], wanted[before:], strict=True):
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        found = contestant.step(moves)
        cpu.append(1000 * (time.process_time() - cpu_start) / num_envs)
        wall.append(1000 * (time.perf_counter() - wall_start) / num_envs)
        right.append(sum(a == b for a, b in zip(found, expected, strict=True)) / num_envs)
        if time.perf_counter() > end:
            break
    open_now = (_resident_mb(), _open_files(), _threads())
    contestant.end()
    return Played(wall, cpu, len(wall), float(np.mean(right)), *open_now)


def _resident_mb() -> float:
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _threads() -> int:
    return len(os.listdir("/proc/self/task"))


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _made(present: list[str]) -> dict[str, str]:
    packages = ["milvus-lite", "pymilvus", "numpy", *(ENTRANTS[name].package for name in present)]
    versions = {package: importlib.metadata.version(package) for package in packages if package}
    return {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{os.cpu_count()} cores ({_processor()}), load {os.getloadavg()[0]:.1f}",
        "python": platform.python_version(),
        "versions": ", ".join(f"{package} {found}" for package, found in versions.items()),
        "command": " ".join(["python", "benchmarks/stores.py", *sys.argv[1:]]),
    }


def _processor() -> str:
    name = cpu_name()
    return "AMD EPYC" if "EPYC" in name else name


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
