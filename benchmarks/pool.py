"""Measures what the async pool costs beside the vector environment: ``python benchmarks/pool.py``.

Both play the same workload in turns, with one embedder and one store: each step creates an entry of about 200
characters that no step had before, and reads the top 6. The vector environment steps all episodes in lockstep; the pool
has one coroutine an episode. A second part lets every coroutine think for a random while before each step, as if it
asked a language model, and looks at how long a step then takes.
"""

from __future__ import annotations

import asyncio
import datetime
import itertools
import os
import platform
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import numpy as np
import tyro
from reports.machine import cpu_name, installed
from rich.console import Console

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemPool, PoolEnv
from atommem_gym.records.layout import stable_rng

ENV_ID = "AtomMem-Synthetic-v0"
WORDS = ("bees", "boats", "honey", "Varde", "Skive", "Tarn", "1815", "clock", "tower", "river", "bridge", "writer")
COLOURS = {"numpy": "#0072b2", "milvus": "#d55e00"}


@dataclass(frozen=True, slots=True)
class Options:
    """Measure the async pool."""

    numbers: tuple[int, ...] = (1, 4, 16, 64, 256, 1024)
    """Episodes at a time."""
    stores: tuple[str, ...] = ("numpy", "milvus")
    rounds: int = 3
    """Both forms play in turns this many times, and more while that is less than ``least`` steps; medians count."""
    least: int = 512
    length: int = 6
    """Steps of an episode in a round; episodes begin anew with each."""
    thinking_ms: float = 2000.0
    """Coroutines that think take between 0 and this long before a step."""
    out: Path = Path(__file__).parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One number of episodes on one store."""

    store: str
    number: int
    vector_us: float
    """Processor time of a step in microseconds, all threads together."""
    pool_us: float
    pool_wall_us: float
    """The same by the clock on the wall."""
    batch: float
    """Steps that shared a store call, mean."""
    thinking_us: float
    """What a step takes from call to result while most coroutines think, median."""
    thinking_p95_us: float
    thinking_batch: float

    @property
    def overhead_us(self) -> float:
        """What the pool adds to a step."""
        return self.pool_us - self.vector_us


def main(options: Options) -> None:
    """Measure, and write table and plot."""
    console = Console()
    rows = []
    for store, number in itertools.product(options.stores, options.numbers):
        rows.append(measure(store, number, options))
        row = rows[-1]
        console.print(
            f"{store} {number}: vector {row.vector_us:.0f} us, pool {row.pool_us:.0f} us, "
            f"thinking {row.thinking_us:.0f} us (p95 {row.thinking_p95_us:.0f})"
        )
    (options.out / "pool.md").write_text(markdown(rows, options), encoding="utf-8")
    plot(rows, options.out / "pool.png")
    console.print(f"written: {options.out / 'pool.md'} and pool.png")


def measure(store: str, number: int, options: Options) -> Row:
    """Let both forms play in turns."""
    length = options.length
    keywords = {"num_docs": 40, "store": store, "max_steps": 10**6, "max_reads_per_question": 10**6}
    envs = gym.make_vec(ENV_ID, num_envs=number, **keywords)
    vector: list[float] = []
    pooled: list[tuple[float, float]] = []

    async def in_a_pool() -> tuple[float, list[float], float]:
        async with AtomMemPool(ENV_ID, number, **keywords) as pool:
            leases = [pool.env() for _ in range(number)]
            members = [await lease.__aenter__() for lease in leases]
            for turn in range(1 + max(options.rounds, -(-options.least // (number * length)))):
                envs.reset(options={"index": 0})
                await asyncio.gather(*(member.areset(options={"index": 0}) for member in members))
                vector.append(lockstep(envs, actions("vector", turn, number, length)))
                pooled.append(await at_once(members, actions("pool", turn, number, length)))
            batch = pool.stats.storing.mean_batch
            before = pool.stats.storing
            latencies = await thinking(members, actions("thinking", 0, number, 2), options.thinking_ms / 1000)
            after = pool.stats.storing
            return batch, latencies, (after.items - before.items) / (after.batches - before.batches)

    batch, latencies, thinking_batch = asyncio.run(in_a_pool())
    envs.close()
    # The first turn of each warms up caches, threads and the allocator.
    per_step = 1e6 / (number * length)
    return Row(
        store=store,
        number=number,
        vector_us=median(vector[1:]) * per_step,
        pool_us=median(processor for processor, _ in pooled[1:]) * per_step,
        pool_wall_us=median(wall for _, wall in pooled[1:]) * per_step,
        batch=batch,
        thinking_us=1e6 * median(latencies),
        thinking_p95_us=1e6 * float(np.percentile(latencies, 95)),
        thinking_batch=thinking_batch,
    )


def actions(form: str, turn: int, number: int, length: int) -> list[list[str]]:
    """``length`` steps of an action for each episode; no text occurs twice, or the embedder would remember it."""
    rng = stable_rng("pool benchmark", form, turn, number)
    counter: Iterator[int] = itertools.count()

    def action() -> str:
        words = " ".join(rng.choice(WORDS, 34).tolist())
        query = " ".join(rng.choice(WORDS, 3).tolist())
        own = f"{form} {turn} {next(counter)}"
        return f"<create>{own} {words}</create><read>{own} {query}</read>"

    return [[action() for _ in range(number)] for _ in range(length)]


def lockstep(envs: Any, steps: Sequence[Sequence[str]]) -> float:
    """Seconds of the processor that the vector environment takes."""
    began = time.process_time()
    for step in steps:
        envs.step(step)
    return time.process_time() - began


async def at_once(members: Sequence[PoolEnv], steps: Sequence[Sequence[str]]) -> tuple[float, float]:
    """Seconds that the pool takes with one coroutine an episode, of the processor and on the wall."""

    async def episode(place: int) -> None:
        for step in steps:
            await members[place].astep(step[place])

    began, began_wall = time.process_time(), time.perf_counter()
    await asyncio.gather(*(episode(place) for place in range(len(members))))
    return time.process_time() - began, time.perf_counter() - began_wall


async def thinking(members: Sequence[PoolEnv], steps: Sequence[Sequence[str]], longest: float) -> list[float]:
    """Seconds of every step from call to result, while coroutines think between them."""
    latencies = []

    async def episode(place: int) -> None:
        rng = stable_rng("thinking", place)
        for step in steps:
            await asyncio.sleep(float(rng.uniform(0, longest)))
            began = time.perf_counter()
            await members[place].astep(step[place])
            latencies.append(time.perf_counter() - began)

    await asyncio.gather(*(episode(place) for place in range(len(members))))
    return latencies


def markdown(rows: Sequence[Row], options: Options) -> str:
    """The page of results."""
    packages = ("atommem-gym", "gymnasium", "numpy", "milvus-lite")
    versions = ", ".join(f"{package} {installed(package)}" for package in packages)
    parts = [
        "# The async pool beside the vector environment",
        "",
        "Each step creates an entry of about 200 new characters and reads the top 6; embedder `hashing`, "
        "nothing cached; processor time a step (all threads; what else the machine does counts little), "
        f"median of at least {options.rounds} rounds of {options.length} steps, in "
        "which both forms play in turns. *Overhead* is what the pool adds to the vector environment's step. "
        f"*Thinking*: every coroutine waits 0 to {options.thinking_ms:.0f} ms before each step, as if for a language "
        "model; time from call to result, up to 1 ms of it (`max_wait_ms`) waiting for others.",
        "",
        f"{datetime.date.today()} · {cpu_name()}, {os.cpu_count()} cores · Python {platform.python_version()} · "
        f"{versions} · load average {os.getloadavg()[0]:.1f} · `python benchmarks/pool.py`",
        "",
        "![Time a step against episodes at a time](pool.png)",
    ]
    heads = ["episodes", "vector: µs a step", "pool: µs a step", "overhead", "pool: steps/s (wall)", "mean batch"]
    heads += ["thinking: median ms", "p95 ms", "mean batch"]
    for store in dict.fromkeys(row.store for row in rows):
        parts += ["", f"## Store `{store}`", "", f"| {' | '.join(heads)} |", "|" + "--:|" * len(heads)]
        for row in rows:
            if row.store == store:
                parts.append(
                    f"| {row.number} | {row.vector_us:.0f} | {row.pool_us:.0f} | {row.overhead_us:+.0f} | "
                    f"{1e6 / row.pool_wall_us:,.0f} | {row.batch:.1f} | {row.thinking_us / 1000:.1f} | "
                    f"{row.thinking_p95_us / 1000:.1f} | {row.thinking_batch:.1f} |"
                )
    return "\n".join(parts) + "\n"


def plot(rows: Sequence[Row], path: Path) -> None:
    """Time a step against episodes at a time, both axes logarithmic."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6.4, 4.0), layout="constrained")
    for store in dict.fromkeys(row.store for row in rows):
        line = [row for row in rows if row.store == store]
        numbers, colour = [row.number for row in line], COLOURS.get(store, "#000000")
        axes.plot(numbers, [r.pool_us for r in line], color=colour, marker="o", label=f"pool, {store}")
        axes.plot(numbers, [r.vector_us for r in line], color=colour, marker="s", ls="--", label=f"vector, {store}")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks([row.number for row in rows], [str(row.number) for row in rows])
    axes.minorticks_off()
    axes.yaxis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("episodes at a time")
    axes.set_ylabel("processor time a step, µs")
    axes.grid(True, color="#dddddd", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


if __name__ == "__main__":
    main(tyro.cli(Options))
