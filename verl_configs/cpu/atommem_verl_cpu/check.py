"""Whether a smoke run did what it should, from what it wrote down, and a table of it.

python -m atommem_verl_cpu.check FOLDER --steps 2 --sessions-a-step 16 [--config cpu_smoke]

With --config what the run logged is compared with what ``launch/training_numbers.py`` says of such a run beforehand.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from atommem_gym.agents.learn.training_numbers import SessionSteps, TrainingNumbers, training_numbers
from atommem_gym.records.verl_rows import ItemReference
from atommem_gym.registration import task_of

CONFIGS = Path(__file__).resolve().parents[2]


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a JSONL file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def latest(sessions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The training sessions that count: of a step that was played again only those of the last start."""
    last = {one["global_step"]: one.get("run", "") for one in sessions if one["part"] == "train"}
    return [one for one in sessions if one["part"] == "train" and one.get("run", "") == last[one["global_step"]]]


def problems(sessions: list[dict[str, Any]], metrics: list[dict[str, Any]], steps: int, each: int) -> list[str]:
    """What is wrong with a run; nothing if the list is empty.

    Args:
        sessions: The lines of the agent loop.
        metrics: The lines of veRL's file logger, ``{"step", "data"}``.
        steps: Training steps that were to be made.
        each: Sessions a step.
    """
    found = []
    training = latest(sessions)
    if len(training) != steps * each:
        found.append(f"{len(training)} training sessions, not {steps} x {each}")
    layouts = defaultdict(set)
    for one in training:
        layouts[one["uid"]].add((one["item"], one["shuffle_seed"]))
    if any(len(group) != 1 for group in layouts.values()):
        found.append("members of a group met different episodes")
    losses = [line["data"].get("actor/pg_loss") for line in metrics if "actor/pg_loss" in line["data"]]
    if len(losses) != steps or not all(math.isfinite(loss) for loss in losses):
        found.append(f"losses {losses}, not {steps} finite ones")
    for line in metrics:
        seen = [one["reward"] for one in training if one["global_step"] == line["step"]]
        said = line["data"].get("critic/score/mean")
        if said is not None and seen and not min(seen) - 1e-5 <= said <= max(seen) + 1e-5:
            found.append(f"step {line['step']}: veRL's mean score {said} lies outside the sessions' rewards")
    return found


def number_problems(
    sessions: Sequence[Mapping[str, Any]], metrics: list[dict[str, Any]], told: Callable[[list[str]], TrainingNumbers]
) -> list[str]:
    """Where rows, optimizer updates and tokens of a run are not what was told before it; nothing if the list is empty.

    Args:
        sessions: The training sessions that count (:func:`latest`).
        metrics: The lines of veRL's file logger.
        told: The numbers of a training step in which these items were played, one for each session.
    """
    found = []
    for line in metrics:
        data, step = line["data"], line["step"]
        if "training/rows" not in data:
            continue
        played = [one for one in sessions if one["global_step"] == step]
        numbers = told([one["item"] for one in played])
        if data["training/rows"] != (steps := sum(one["steps"] for one in played)):
            found.append(f"step {step}: {data['training/rows']} rows, but sessions with {steps:.0f} steps in all")
        for name, least, most in (
            ("training/rows", numbers.rows_least, numbers.rows_most),
            ("training/updates", numbers.updates_least, numbers.updates_most),
            ("perf/total_num_tokens", 1, numbers.tokens_most),
        ):
            if not least <= data[name] <= most:
                found.append(f"step {step}: {name} is {data[name]}, told were {least} to {most}")
    return found


def told_by(config: str, data: Path) -> Callable[[list[str]], TrainingNumbers]:
    """What ``launch/training_numbers.py`` computes, for exactly the items of a training step.

    Args:
        config: Name of veRL's configuration.
        data: Folder of ``atommem data verl``.
    """
    # The launch scripts need veRL, which the rest of this module does without.
    sys.path.insert(0, str(CONFIGS / "launch"))
    import pyarrow.parquet as pq
    from training_numbers import composed, shape_of

    rows = pq.read_table(data / "train.parquet", columns=["extra_info"]).column("extra_info").to_pylist()
    references = {one.item: one for one in map(ItemReference.from_extra_info, rows)}
    first = next(iter(references.values()))
    task = task_of(first.env_id)
    assert task is not None, first.env_id
    environment = task.config(first.env_keywords)
    items, verl = task.load_items(environment), composed(config)
    model = shape_of(verl["actor_rollout_ref"]["model"]["path"])

    def told(played: list[str]) -> TrainingNumbers:
        steps = SessionSteps.of(items, environment, [references[item].index for item in played])
        return training_numbers(steps, model, verl)

    return told


def sft_problems(metrics: list[dict[str, Any]]) -> list[str]:
    """What is wrong with supervised fine-tuning; nothing if the list is empty.

    Args:
        metrics: The lines of veRL's file logger.
    """
    losses = [line["data"]["train/loss"] for line in metrics if "train/loss" in line["data"]]
    if len(losses) < 2 or not all(math.isfinite(loss) for loss in losses) or losses[-1] >= losses[0]:
        return [f"losses of SFT {losses}, not finite ones that fall"]
    return []


def table(sessions: list[dict[str, Any]]) -> str:
    """Markdown, a row a training step."""
    steps: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for one in latest(sessions):
        steps[one["global_step"]].append(one)
    lines = ["| step | reward | EM | operations | rejected | groups without variance |", "|---|---|---|---|---|---|"]
    for step, group in sorted(steps.items()):
        rewards = defaultdict(list)
        for one in group:
            rewards[one["uid"]].append(one["reward"])
        flat = fmean(pstdev(values) == 0 for values in rewards.values())
        operations = fmean(sum(value for name, value in one.items() if name.startswith("op_")) for one in group)
        columns = [fmean(one[name] for one in group) for name in ("reward", "em", "rejected")]
        lines.append(
            f"| {step} | {columns[0]:.3f} | {columns[1]:.3f} | {operations:.2f} | {columns[2]:.2f} | {flat:.2f} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Check and print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--sessions-a-step", type=int, required=True)
    parser.add_argument("--config", help="compare rows, updates and tokens with what is told of this configuration")
    parser.add_argument("--sft", action="store_true", help="sft.jsonl, too")
    given = parser.parse_args()
    sessions = read(given.folder / "sessions.jsonl")
    print(table(sessions))
    metrics = read(given.folder / "grpo.jsonl")
    found = problems(sessions, metrics, given.steps, given.sessions_a_step)
    if given.config:
        counted = [line for line in metrics if "training/rows" in line["data"]]
        if len(counted) != given.steps:
            found.append(f"{len(counted)} of {given.steps} steps say how many rows they had")
        told = told_by(given.config, Path(os.environ["ATOMMEM_DATA"]))
        found += number_problems(latest(sessions), metrics, told)
    found += sft_problems(read(given.folder / "sft.jsonl")) if given.sft else []
    for one in found:
        print(f"FAILED: {one}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
