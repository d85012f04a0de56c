"""Measures how 90,000 records of HotpotQA's shape load (SPEC D6): ``python benchmarks/records.py``.

The records are generated, with about as many paragraphs and letters as the official train file (566 MB) has, and with
paragraphs that occur in several records. Every start runs in a process of its own, so that its memory is its own.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import tyro
from reports.machine import memory
from rich.console import Console
from rich.table import Table

from atommem_gym.files.cache import ENVIRONMENT_VARIABLE
from atommem_gym.records.items import RecordItems
from atommem_gym.records.layout import stable_rng
from atommem_gym.records.sources import load_split

SENTENCES = 4
WORDS = 21
"""Words in a sentence, of six letters and a space."""
DISTRACTORS = 8
DISTRACTOR_POOL = 4
"""Distractors of all records are drawn from this many times as many paragraphs as there are records."""

ROWS = (
    ("whole process, imports included", "process_s", "s", 2),
    ("load_split", "load_s", "s", 2),
    ("RecordItems (num_docs=200)", "items_s", "s", 3),
    ("peak resident memory of loading", "peak_load_mb", "MB", 0),
    ("peak resident memory in all", "peak_mb", "MB", 0),
    ("of it not mapped from the cache", "anonymous_mb", "MB", 0),
    ("distinct documents", "documents", "", 0),
    ("item of 200 documents, median", "item_200_ms", "ms", 2),
    ("item of 800 documents, median", "item_800_ms", "ms", 2),
)


@dataclass
class Arguments:
    """Measure the loading of generated HotpotQA records."""

    records: int = 90_000
    """How many records to generate."""
    items: int = 200
    """How many items of each size to draw."""
    load: str = ""
    """Load this file once and print the figures as JSON (how the program calls itself)."""


def main(arguments: Arguments) -> None:
    """Generate the records, start twice, and print the table."""
    with tempfile.TemporaryDirectory(prefix="atommem-records-") as name:
        source, cache = Path(name) / "hotpot_train.json", Path(name) / "cache"
        write_records(source, arguments.records)
        starts = [start(source, cache, arguments.items) for _ in range(2)]
        sizes = [source.stat().st_size, sum(file.stat().st_size for file in cache.rglob("*.arrow"))]
    versions = f"Python {platform.python_version()}, pyarrow {pyarrow.__version__}, numpy {np.__version__}"
    table = Table(title=f"{arguments.records:,} records of HotpotQA's shape, {date.today()}, {versions}")
    table.add_column("")
    table.add_column("first start (converts)", justify="right")
    table.add_column("second start", justify="right")
    for label, key, unit, digits in ROWS:
        table.add_row(label, *(f"{figures[key]:,.{digits}f} {unit}".strip() for figures in starts))
    table.add_row("source file / cache", *(f"{size / 1e6:,.0f} MB" for size in sizes))
    Console().print(table)


def write_records(path: Path, count: int) -> None:
    """Write ``count`` records as one JSON list, as the official train file is."""
    rng = stable_rng("benchmark records", count)
    vocabulary = ["".join(letters) for letters in rng.choice(list("abcdefghijklmnopqrstuvwxyz"), size=(20_000, 6))]

    def paragraph(kind: str, number: int) -> list[Any]:
        own = stable_rng(kind, number).integers(len(vocabulary), size=(SENTENCES, WORDS))
        sentences = [" ".join(vocabulary[word] for word in words).capitalize() + "." for words in own.tolist()]
        return [f"{kind} {number}", [sentences[0], *(f" {sentence}" for sentence in sentences[1:])]]

    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            drawn = rng.integers(DISTRACTOR_POOL * count, size=DISTRACTORS).tolist()
            context = [paragraph(kind, number) for kind in ("Person", "Place")]
            context += [paragraph("Other", other) for other in drawn]
            record = {
                "_id": f"{number:024x}",
                "question": f"In which region was Person {number} born?",
                "answer": f"Region {number}",
                "type": "bridge",
                "level": "medium",
                "supporting_facts": [[f"Person {number}", 1], [f"Place {number}", 0]],
                "context": [context[i] for i in rng.permutation(len(context)).tolist()],
            }
            file.write("[" if not number else ", ")
            json.dump(record, file)
        file.write("]")


def start(source: Path, cache: Path, items: int) -> dict[str, float]:
    """The figures of one start in a process of its own."""
    command = [sys.executable, __file__, "--load", str(source), "--items", str(items)]
    environment = os.environ | {ENVIRONMENT_VARIABLE: str(cache)}
    began = time.perf_counter()
    result = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    figures: dict[str, float] = json.loads(result.stdout)
    # Drawing items is no part of a start.
    return figures | {"process_s": time.perf_counter() - began - figures["drawing_s"]}


def load(source: str, items: int) -> dict[str, float]:
    """Load the file as a training process would, draw items, and return times (s, ms) and memory (MB)."""
    began = time.perf_counter()
    split = load_split("hotpotqa", source, "train")
    figures = {"load_s": time.perf_counter() - began}
    began = time.perf_counter()
    RecordItems(split, num_docs=200, questions_per_episode=1, order="shuffled").item(0)
    figures |= {"items_s": time.perf_counter() - began, "peak_load_mb": memory("VmHWM")}
    began = time.perf_counter()
    for num_docs in (200, 800):
        made = RecordItems(split, num_docs=num_docs, questions_per_episode=1, order="shuffled")
        figures[f"item_{num_docs}_ms"] = 1000 * float(np.median([seconds(made, index) for index in range(items)]))
    figures["drawing_s"] = time.perf_counter() - began
    figures |= {"peak_mb": memory("VmHWM"), "anonymous_mb": memory("RssAnon"), "documents": len(split.pool)}
    return figures


def seconds(made: RecordItems, index: int) -> float:
    """How long one item takes."""
    began = time.perf_counter()
    made.item(index)
    return time.perf_counter() - began


if __name__ == "__main__":
    given = tyro.cli(Arguments)
    if given.load:
        print(json.dumps(load(given.load, given.items)))
    else:
        main(given)
