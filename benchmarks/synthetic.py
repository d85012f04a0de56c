"""Measures how fast synthetic items are generated (SPEC D6): ``python benchmarks/synthetic.py``.

Times are of the process, not of the wall, so that what else runs on the machine counts little.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import tyro
from reports.machine import provenance

from atommem_gym.errors import counted
from atommem_gym.records.record import Items
from atommem_gym.tokenizers import load_tokenizer
from atommem_gym.worlds.drift import DriftItems
from atommem_gym.worlds.needle import NeedleItems
from atommem_gym.worlds.synthetic import SHAPES, SyntheticItems

SIZES = ((200, 1), (200, 10), (400, 1), (800, 1))
"""Documents and questions of an item."""


@dataclass
class Arguments:
    """Measure the generation of synthetic items."""

    items: int = 100
    """How many items of each shape and size to generate."""
    out: Path = Path(__file__).resolve().parent / "results"
    """Folder of synthetic.md."""


def make_items(shape: str, num_docs: int, questions: int, num_items: int) -> Items:
    """Items of a shape of the synthetic world, of the drift family, or of needles."""
    if shape == "drift":
        return DriftItems(num_docs=num_docs, questions_per_episode=questions, num_items=num_items)
    if shape == "needle":
        words = load_tokenizer("words")
        return NeedleItems(words, num_docs=num_docs, questions_per_episode=questions, num_items=num_items)
    return SyntheticItems(shape=shape, num_docs=num_docs, questions_per_episode=questions, num_items=num_items)


def milliseconds(shape: str, num_docs: int, questions: int, count: int) -> list[float]:
    """Process time of each of ``count`` items, with all of its documents."""
    items = make_items(shape, num_docs, questions, count + 1)
    items.item(count)
    times = []
    for index in range(count):
        start = time.process_time()
        for _ in items.item(index).documents:
            pass
        times.append(1000 * (time.process_time() - start))
    return times


def profile(count: int, rows: int = 8) -> list[str]:
    """Where an item of the default world spends its time, module by module: own time, built-in functions aside."""
    items = SyntheticItems(num_items=count + 1)
    items.item(count)
    profiler = cProfile.Profile()
    profiler.enable()
    for index in range(count):
        for _ in items.item(index).documents:
            pass
    profiler.disable()
    own: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for (file, _, _), (_, number, time_in_it, _, _) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        name = "built-in functions" if file == "~" else "/".join(Path(file).parts[-2:])
        own[name] += time_in_it
        calls[name] += number
    total = sum(own.values())
    return [f"| `{name}` | {spent / total:.0%} | {calls[name] / count:,.0f} |" for name, spent in own.most_common(rows)]


def main(arguments: Arguments) -> None:
    """Measure every shape and size, and write one page."""
    made = provenance("python benchmarks/synthetic.py", ("atommem-gym", "numpy"))
    sizes = [f"{documents} documents, {counted(questions, 'question')}" for documents, questions in SIZES]
    lines = [
        "# What a generated item costs",
        "",
        f"Milliseconds of one processor for an item with all of its documents: median / 95 % of {arguments.items}.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        f"| items | {' | '.join(sizes)} |",
        f"|---|{'--:|' * len(sizes)}",
    ]
    for shape in (*SHAPES, "drift", "needle"):
        rows = [milliseconds(shape, *size, arguments.items) for size in SIZES]
        cells = (f"{median(row):.1f} / {np.quantile(row, 0.95):.1f}" for row in rows)
        lines.append(f"| {shape} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    lines += [
        "",
        "## Where the time goes",
        "",
        f"{arguments.items} default items of `AtomMem-Synthetic-v0` (200 documents) under cProfile, which adds to "
        "every call, so the shares are of the profiled time.",
        "",
        "| module | share of own time | calls an item |",
        "|---|--:|--:|",
        *profile(arguments.items),
    ]
    (arguments.out / "synthetic.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
