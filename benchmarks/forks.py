"""Measures what a fork costs beside a step and beside an insert of the same rows: ``python benchmarks/forks.py``.

The memory holds 40 entries of 1,024 dimensions. All times are of the processor, the contestants take turns, and each
figure is the least of its rounds: the machine may be shared, so read the ratios.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass

import gymnasium as gym
import tyro
from rich.console import Console
from rich.table import Table

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv
from atommem_gym.envs.branching import twin_of
from atommem_gym.memory.protocols import Write

ENTRIES = 40


@dataclass
class Options:
    """Measure forks."""

    rounds: int = 15
    """How often the contestants take turns."""
    calls: int = 60
    """Calls of each in a turn."""
    stores: tuple[str, ...] = ("numpy", "milvus")


def seconds(call: Callable[[], object], after: Callable[[], object], calls: int) -> float:
    """Processor seconds of one call, without what ``after`` takes to tidy up behind it."""
    total = 0.0
    for _ in range(calls):
        began = time.process_time()
        call()
        total += time.process_time() - began
        after()
    return total / calls


def measured(store: str, options: Options) -> dict[str, float]:
    """Processor microseconds of each contestant."""
    env = gym.make("AtomMem-Synthetic-v0", num_docs=400, chunk_tokens=100, store=store).unwrapped
    assert isinstance(env, AtomMemEnv)
    env.reset(seed=0)
    for number in range(ENTRIES):
        env.step(f"<create>fact {number}: the town of Bern lies on the river Aare</create>")
    saved, backend, running = env.snapshot(), env._backend, env._current.running
    stored, rows = backend.stored(running), backend.store
    assert stored is not None
    assert rows is not None
    assert stored.vectors.shape == (ENTRIES, 1024)
    made: list[AtomMemEnv] = []
    keys: list[str] = []

    def fork_episode() -> None:
        keys.extend(fork.key for fork in backend.fork(running, 1))

    def insert() -> None:
        keys.append(uuid.uuid4().hex)
        rows.write([Write(keys[-1], stored.ids.tolist(), stored.texts, stored.vectors)])

    def drop() -> None:
        rows.drop(keys)
        keys.clear()

    def close() -> None:
        while made:
            made.pop().close()

    def step(made_now: AtomMemEnv) -> Callable[[], object]:
        return lambda: made_now.step("<create>one more fact</create><read>river</read>")

    stepped = env.fork(1)[0]
    contestants: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
        "episode's fork": (lambda: (fork_episode(), twin_of(env.np_random)), drop),
        "insert of the same rows": (insert, drop),
        "fork(1) of the environment": (lambda: made.extend(env.fork(1)), close),
        "step": (step(stepped), lambda: stepped.restore(saved)),
        "restore": (lambda: stepped.restore(saved), lambda: None),
        "snapshot": (env.snapshot, lambda: None),
    }
    least = dict.fromkeys(contestants, float("inf"))
    for _ in range(options.rounds):
        for name, (call, after) in contestants.items():
            calls = options.calls if store == "numpy" else max(1, options.calls // 10)
            least[name] = min(least[name], seconds(call, after, calls))
    stepped.close()
    env.close()
    return {name: 1e6 * value for name, value in least.items()}


def main(options: Options) -> None:
    """Print a table for each store."""
    console = Console()
    for store in options.stores:
        figures = measured(store, options)
        table = Table("", "µs of processor time", "steps", "inserts", title=f"{ENTRIES} entries, store {store}")
        for name, value in figures.items():
            table.add_row(
                name,
                f"{value:.1f}",
                f"{value / figures['step']:.2f}",
                f"{value / figures['insert of the same rows']:.2f}",
            )
        console.print(table)


if __name__ == "__main__":
    main(tyro.cli(Options))
