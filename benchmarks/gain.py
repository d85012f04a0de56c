"""What memory is worth to a real small model: SmolLM2-135M-Instruct reads what scripted agents kept.

    python benchmarks/smollm2.py smollm2                            # the model, see there
    ATOMMEM_READER_MODEL=smollm2 python benchmarks/gain.py          # half an hour on two cores
    ATOMMEM_READER_MODEL=smollm2 python benchmarks/gain.py --sets Needle --episodes 4 --folder elsewhere --out elsewhere

Each set is one ``atommem eval``, so a second start goes on where the first stopped. HotpotQA's records are read from
the folder ``ATOMMEM_DATA`` (or ``../shared/data``) and left out where there are none. Needs the extra ``llm``.
"""

from __future__ import annotations

import csv
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import tyro
from reports.machine import provenance
from workloads.small_reader import VARIABLE

from atommem_gym.errors import AtomMemError, ConfigError

ROOT = Path(__file__).resolve().parent.parent
SETS: Mapping[str, tuple[str, ...]] = {
    "Needle": (),
    "Synthetic": (),
    "HotpotQA": ("source={data}/hotpotqa.jsonl",),
}
"""Environments, and what else is set."""
AGENTS = ("keep_all", "tidy", "oracle")
PACKAGES = ("atommem-gym", "gymnasium", "numpy", "torch", "transformers")


@dataclass
class Options:
    """Play scripted agents whose questions a small model answers; write a table."""

    sets: tuple[str, ...] = tuple(SETS)
    """Environments."""
    episodes: int = 40
    """Episodes a row, of one question each; all agents meet the same ones."""
    documents: int = 20
    """Documents an episode."""
    folder: Path = ROOT / "build" / "gain"
    """Where the evaluations are kept."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of gain.md."""


def main(options: Options) -> int:
    """Evaluate and report; the exit status."""
    unknown = [name for name in options.sets if name not in SETS]
    if unknown:
        raise ConfigError(f"--sets {unknown[0]} is unknown; known are {', '.join(SETS)}")
    if not os.environ.get(VARIABLE):
        print(f"{VARIABLE} must name the folder of the model: python benchmarks/smollm2.py FOLDER", file=sys.stderr)
        return 1
    data = Path(os.environ.get("ATOMMEM_DATA") or ROOT.parent / "shared" / "data")
    rows: list[dict[str, str]] = []
    for name in options.sets:
        if name == "HotpotQA" and not (data / "hotpotqa.jsonl").is_file():
            print(f"HotpotQA is left out: there is no hotpotqa.jsonl in {data} (ATOMMEM_DATA)", file=sys.stderr)
            continue
        folder = options.folder / name
        evaluate(name, folder, data, options)
        with (folder / "cells.csv").open(newline="", encoding="utf-8") as lines:
            rows += list(csv.DictReader(lines))
    options.out.mkdir(parents=True, exist_ok=True)
    text = page(rows, options)
    (options.out / "gain.md").write_text(text, encoding="utf-8")
    print(text)
    return 0


def evaluate(name: str, folder: Path, data: Path, options: Options) -> None:
    """One evaluation, or the rest of it."""
    settings = [value.format(data=data) for value in SETS[name]]
    split = ["split=validation"] if settings else []
    subprocess.run(
        [
            sys.executable, "-m", "atommem_gym", "--import", "workloads.small_reader", "eval", name,
            "--docs", str(options.documents), "--agent", *AGENTS, "--episodes", str(options.episodes),
            "--set", "reader=workloads.small_reader:answer", "store=numpy", *split, *settings, "-o", str(folder),
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")])},
        check=True,
    )  # fmt: skip


def page(rows: list[dict[str, str]], options: Options) -> str:
    """The page of results."""
    made = provenance(command(options), PACKAGES)

    def interval(row: Mapping[str, str], name: str) -> str:
        return f"{float(row[name]):.2f} ({float(row[f'{name}_low']):.2f} to {float(row[f'{name}_high']):.2f})"

    lines = [
        "# What memory is worth to a small model",
        "",
        "Scripted agents keep and search; **SmolLM2-135M-Instruct**, frozen and greedy, answers from what their memory "
        "shows (`benchmarks/workloads/small_reader.py`; three invented examples in the prompt, 24 tokens at most). "
        "**Memory gain** is EM minus the EM of the same model on the same questions with nothing shown. "
        f"{options.documents} documents an episode, {options.episodes} episodes a row, one question each; in brackets "
        "95 % bootstrap intervals over items.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "| environment | agent | EM | memory gain | closed-book EM | evidence recall |",
        "|---|---|--:|--:|--:|--:|",
        *(
            f"| {row['env']} | `{row['agent']}` | {interval(row, 'em')} | {interval(row, 'gain')} | "
            f"{float(row['closed_book']):.2f} | {float(row['evidence_recall']):.2f} |"
            for row in rows
        ),
        "",
        'With `reader="oracle"` EM is what the memory holds; what is less here, so small a model cannot read.',
    ]
    return "\n".join(lines) + "\n"


def command(options: Options) -> str:
    """The command that makes these results, paths left out."""
    default, parts = Options(), ["python benchmarks/gain.py"]
    if options.sets != default.sets:
        parts.append(f"--sets {' '.join(options.sets)}")
    for name in ("episodes", "documents"):
        if getattr(options, name) != getattr(default, name):
            parts.append(f"--{name} {getattr(options, name)}")
    return " ".join(parts)


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
