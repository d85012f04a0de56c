"""Whether a model that is shown the decision not to store makes it: demonstrations with and without silent steps.

    python benchmarks/silence.py                     # an hour on two cores; needs torch and transformers
    python benchmarks/silence.py --seeds 0 --steps 20 --episodes 200 --items 32 --folder elsewhere --out elsewhere

The task and the model are those of verl_learn.py, without veRL: streams of two chunks of which one holds nothing of
use, a Qwen3 of 128,000 parameters, supervised fine-tuning alone. The oracle plays, `atommem export` writes the chats,
plain torch trains on all of them or on those with operations only, and `atommem eval` plays held-out items greedily.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import tyro
from reports.machine import provenance

ROOT = Path(__file__).resolve().parent.parent
CONFIGS = ROOT / "verl_configs" / "cpu"
PACKAGES = ("atommem-gym", "torch", "transformers", "tokenizers")
ARMS = {"with": "with silent steps", "without": "without silent steps"}


@dataclass
class Options:
    """Train and play what is missing, and write down what the models do at chunks that hold nothing of use."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Of the weights and of the order of the rows."""
    steps: int = 1200
    """Optimizer steps of 128 rows."""
    episodes: int = 2000
    """Demonstrations."""
    items: int = 256
    """Held-out items that each model plays."""
    folder: Path = ROOT / "build" / "silence"
    """Folder of the runs."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of the results."""
    note: str = ""
    """A sentence for the end of the page, on what else went on while this ran."""


@dataclass(frozen=True, slots=True)
class Played:
    """What one model did on the held-out items."""

    arm: str
    seed: int
    loss: float
    em: float
    answered: float
    """Share of the questions that were answered."""
    creates_empty: float
    """Executed creates a chunk that holds nothing of use."""
    creates_useful: float
    """Executed creates a chunk that holds what is asked for."""
    stored: float
    """Share of the items whose fact was stored word for word."""


def main(options: Options) -> int:
    """Train, play and report; the exit status."""
    rows = demonstrations(options)
    played = [play(options, arm, seed, rows) for seed in options.seeds for arm in ARMS]
    about = provenance(f"python benchmarks/silence.py{given(options)}", PACKAGES)
    counts = {arm: len(of_arm(rows, arm)) for arm in ARMS}
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "silence.md").write_text(page(played, counts, about, options), encoding="utf-8")
    return 0


def demonstrations(options: Options) -> list[dict[str, Any]]:
    """The exported chats of the oracle's episodes."""
    if not (options.folder / "sft" / "export.json").is_file():
        folder = options.folder
        folder.mkdir(parents=True, exist_ok=True)
        ledger = ["-m", "atommem_verl_cpu.ledger", str(folder / "ledger"), "--documents", "6"]
        run([sys.executable, *ledger, "--train", str(options.episodes)])
        evaluate(folder / "oracle", folder / "ledger" / "train.json", ["--agent", "oracle"], options.episodes)
        form = ["--format", "messages", "--dev", "0", "--template", str(CONFIGS / "ledger.j2")]
        run([*atommem(), "export", str(folder / "oracle" / "traces.jsonl"), "-o", str(folder / "sft"), *form])
    return [json.loads(line) for line in (options.folder / "sft" / "train.jsonl").read_text("utf-8").splitlines()]


def of_arm(rows: Sequence[dict[str, Any]], arm: str) -> list[dict[str, Any]]:
    """The rows that an arm trains on."""
    return [row for row in rows if arm == "with" or "<" in row["messages"][-1]["content"]]


def play(options: Options, arm: str, seed: int, rows: Sequence[dict[str, Any]]) -> Played:
    """Train the model of an arm and a seed and play the held-out items with it, unless that was done before."""
    from workloads.sft import train

    folder = options.folder / f"{arm}_{seed}"
    done = folder / "loss.json"
    if not done.is_file():
        start = initial(options, seed, rows)
        loss = train(start, of_arm(rows, arm), folder / "model", steps=options.steps, batch=128, seed=seed)
        player = ["--agent", "crud", "--model", str(folder / "model"), "--option", "max_tokens=16", "temperature=0"]
        evaluate(folder / "eval", options.folder / "ledger" / "validation.json", player, options.items, "validation")
        done.write_text(json.dumps(loss), encoding="utf-8")
    return counted(folder / "eval" / "traces.jsonl", arm, seed, json.loads(done.read_text("utf-8")))


def initial(options: Options, seed: int, rows: Sequence[dict[str, Any]]) -> Path:
    """An untrained model of a seed; both arms start from it, and its tokenizer knows the words of both."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder, texts = options.folder / f"start_{seed}", options.folder / "texts.parquet"
    if not folder.is_dir():
        pq.write_table(pa.table({"messages": [row["messages"] for row in rows]}), texts)
        sizes = ["--words", "--hidden", "64", "--context", "256", "--seed", str(seed)]
        run([sys.executable, "-m", "atommem_verl_cpu.tiny_model", str(folder), *sizes, "--texts", str(texts)])
    return folder


def evaluate(out: Path, source: Path, player: Sequence[str], episodes: int, split: str = "train") -> None:
    """Play items of a file with ``atommem eval``: six documents in two chunks."""
    task = [f"split={split}", "chunk_tokens=18", "store=numpy", "scratchpad=false", "max_reads_per_question=1"]
    task.append(f"template={CONFIGS / 'ledger.j2'}")
    sources = ["--source", f"HotpotQA={source}", "--docs", "6", "--episodes", str(episodes)]
    run([*atommem(), "eval", "HotpotQA", *sources, *player, "--set", *task, "-o", str(out)])


def counted(traces: Path, arm: str, seed: int, loss: float) -> Played:
    """What the records of an evaluation say."""
    from atommem_gym.traces import read_traces

    episodes = list(read_traces(traces))
    empty: list[int] = []
    useful: list[int] = []
    stored = []
    for trace in episodes:
        [question] = trace.questions
        [evidence] = question.evidence
        texts = []
        for step in trace.steps:
            if step.observation["phase"] == 0:
                creates = [one for one in step.operations if one.kind == "create" and one.outcome != "rejected"]
                (useful if f"\n{evidence.title}\n" in step.observation["chunk"] else empty).append(len(creates))
                texts += [one.text or "" for one in creates]
        fact = f"{evidence.title} {evidence.text}"
        stored.append(any(" ".join(text.split()).replace(" .", ".") == fact for text in texts))
    answers = [answer for trace in episodes for answer in trace.metrics["answers"]]
    return Played(
        arm=arm,
        seed=seed,
        loss=loss,
        em=fmean(answer["em"] for answer in answers),
        answered=fmean(answer["closed"] == "answered" for answer in answers),
        creates_empty=fmean(empty),
        creates_useful=fmean(useful),
        stored=fmean(stored),
    )


def page(played: Sequence[Played], counts: dict[str, int], about: dict[str, str], options: Options) -> str:
    """The Markdown page."""
    names = ("creates_empty", "creates_useful", "stored", "answered", "em")
    lines = [
        "# Demonstrations with and without the decision not to store",
        "",
        "The task and the model of [verl_learn](verl_learn.md), supervised fine-tuning alone and without veRL: streams "
        "of **two** chunks of three documents, of which one chunk holds nothing of use, and a Qwen3 of 128,000 "
        f"parameters with random weights. The oracle plays {options.episodes:,} episodes; `atommem export` writes its "
        "steps, those without operations as `Nothing to store.`. Both arms start from the same weights and take "
        f"as many optimizer steps ({options.steps} of 128 rows; AdamW, learning rate 3e-3, plain torch: "
        f"`benchmarks/workloads/sft.py`); one trains on all {counts['with']:,} rows, the other on the "
        f"{counts['without']:,} with operations, which is what an export that drops empty responses leaves. Then each "
        f"plays the same {options.items} held-out items (no document states a fact that a training document states) "
        "greedily through transformers.",
        "",
        f"{about['date']} · {about['cpu']} · Python {about['python']} · {about['versions']} · `{about['command']}`",
        "",
        "| demonstrations | seed | creates a chunk of no use | creates a chunk of use | fact stored word for word "
        "| answered | EM |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for arm, name in reversed(ARMS.items()):
        own = [one for one in played if one.arm == arm]
        lines += [f"| {name} | {one.seed} | {_cells(getattr(one, field) for field in names)} |" for one in own]
        if len(own) > 1:
            means = [fmean(getattr(one, field) for one in own) for field in names]
            lines.append(f"| **{name}** | mean | {_cells(means)} |")
    losses = ", ".join(f"{one.loss:.3f} ({ARMS[one.arm]}, seed {one.seed})" for one in played)
    lines += [
        "",
        "*Creates a chunk* are executed ones; the oracle has one at a chunk of use and none at the other. A share of "
        f"{options.items} items has a standard error of at most {math.sqrt(0.25 / options.items):.3f}. The mean loss "
        f"of the last tenth of the steps was {losses}. {options.note}".rstrip(),
        "",
    ]
    return "\n".join(lines)


def _cells(values: Iterable[float]) -> str:
    return " | ".join(f"{value:.2f}" for value in values)


def given(options: Options) -> str:
    """The options that are not the defaults, as they were typed."""
    return "".join(
        f" --{name} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in (("seeds", options.seeds), ("steps", options.steps), ("episodes", options.episodes),
                            ("items", options.items))
        if value != getattr(Options(), name)
    )  # fmt: skip


def atommem() -> list[str]:
    """The command, in this Python."""
    return [sys.executable, "-m", "atommem_gym.cli"]


def run(command: Sequence[str]) -> None:
    """Run a command, quietly, with the tiny model's package at hand.

    Raises:
        RuntimeError: it failed.
    """
    path = os.pathsep.join([str(CONFIGS), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed ({done.returncode}): {(done.stdout + done.stderr)[-2000:]}")


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options, description=__doc__)))
