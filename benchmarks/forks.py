"""Measures what a fork costs beside a step and beside an insert of the same rows: ``python benchmarks/forks.py``.

The memory holds 40 entries of 1,024 dimensions. All times are of the processor, the contestants take turns, and each
figure is the least of its rounds: the machine may be shared, so read the ratios.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import gymnasium as gym
import tyro
from reports.machine import provenance

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv
from atommem_gym.envs.generators import twin_of
from atommem_gym.memory.protocols import Write

ENTRIES = 40
PACKAGES = ("atommem-gym", "gymnasium", "numpy", "milvus-lite")


@dataclass
class Options:
    """Measure forks."""

    rounds: int = 15
    """How often the contestants take turns."""
    calls: int = 60
    """Calls of each in a turn."""
    stores: tuple[str, ...] = ("numpy", "milvus")
    """Where the entries lie."""
    out: Path = Path(__file__).resolve().parent / "results"
    """Folder of forks.md."""


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


def page(figures: dict[str, dict[str, float]], about: dict[str, str]) -> str:
    """The Markdown page."""
    lines = [
        "# What a fork costs",
        "",
        f"{ENTRIES} entries of 1,024 dimensions. *Episode's fork*: state, rows and generator; *fork(1)*: a whole "
        "environment that can be stepped. Microseconds of processor time, the least of all rounds, beside a step that "
        "creates and reads, and an insert of the same rows: the ratios count.",
        "",
        f"{about['date']} · {about['cpu']} · Python {about['python']} · {about['versions']} · `{about['command']}`",
        "",
        "| store | | µs | steps | inserts |",
        "|---|---|--:|--:|--:|",
    ]
    for store, measured_there in figures.items():
        for name, value in measured_there.items():
            shares = (value / measured_there[of] for of in ("step", "insert of the same rows"))
            lines.append(f"| {store} | {name} | {value:,.0f} | {' | '.join(f'{share:.2f}' for share in shares)} |")
    return "\n".join([*lines, ""])


def main(options: Options) -> None:
    """Measure each store, and write the table."""
    figures = {store: measured(store, options) for store in options.stores}
    text = page(figures, provenance("python benchmarks/forks.py", PACKAGES))
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "forks.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main(tyro.cli(Options, description=__doc__))
