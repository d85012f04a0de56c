"""Measures how fast synthetic items are generated (SPEC D6): ``python benchmarks/synthetic.py``.

Times are of the process, not of the wall, so that what else runs on the machine counts little.
"""

from __future__ import annotations

import platform
import time
from dataclasses import dataclass
from datetime import date
from statistics import median

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table

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


def main(arguments: Arguments) -> None:
    """Measure every shape and size, and print one table."""
    table = Table(
        title=f"Synthetic items, ms per item (median / 95 %), {arguments.items} items each",
        caption=f"{date.today()}, Python {platform.python_version()}, numpy {np.__version__}, one core",
    )
    table.add_column("shape")
    for num_docs, questions in SIZES:
        table.add_column(f"{num_docs} documents, {questions} question{'s' if questions > 1 else ''}", justify="right")
    for shape in (*SHAPES, "drift", "needle"):
        rows = [milliseconds(shape, *size, arguments.items) for size in SIZES]
        table.add_row(shape, *(f"{median(row):.1f} / {np.quantile(row, 0.95):.1f}" for row in rows))
    Console().print(table)


if __name__ == "__main__":
    main(tyro.cli(Arguments))
