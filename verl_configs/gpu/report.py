"""What a run of GRPO took and did, from what it wrote down, as far as it came: report.py FOLDER [--held-out].

FOLDER holds metrics.jsonl (veRL's), sessions.jsonl (the agent loop's) and grpo.log.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import math
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean, pstdev
from typing import Any

from held_out_twice import PART

PACKAGES = ("atommem-gym", "verl", "vllm", "torch", "transformers", "ray")
MEASURED = {
    "seconds": "timing_s/step",
    "… generation and environments": "timing_s/gen",
    "… log-probabilities": "timing_s/old_log_prob",
    "… update": "timing_s/update_actor",
    "… weights to vLLM": "timing_s/update_weights",
    "tokens, prompts included": "perf/total_num_tokens",
    "GPU memory allocated at most, GB": "actor/perf/max_memory_allocated_gb",
    "GPU memory reserved at most, GB": "actor/perf/max_memory_reserved_gb",
    "memory of the machine, GB": "actor/perf/cpu_memory_used_gb",
    "rollout against actor, mean difference of probabilities": "training/rollout_probs_diff_mean",
    "rollout against actor, largest difference": "training/rollout_probs_diff_max",
    "rollout against actor, correlation": "training/rollout_actor_probs_pearson_corr",
    "share of the card's arithmetic, update": "perf/mfu/actor",
    "loss": "actor/pg_loss",
    "norm of the gradient": "actor/grad_norm",
}
"""What veRL logs for a training step."""
OPERATIONS = ("create", "update", "delete", "read", "answer")


def lines(path: Path) -> list[dict[str, Any]]:
    """Of a JSONL file; none if there is none, and without a last one that is torn."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            break
    return found


def measured(metrics: Sequence[Mapping[str, Any]]) -> list[str]:
    """A row a figure, a column a training step (the first two and the last three)."""
    steps = [one for one in metrics if "timing_s/step" in one["data"]]
    if not steps:
        return ["No training step was finished; see grpo.log."]
    shown = steps if len(steps) <= 5 else [*steps[:2], *steps[-3:]]
    rows = [f"| training step | {' | '.join(str(one['step']) for one in shown)} |", "|---|" + "--:|" * len(shown)]
    for name, key in MEASURED.items():
        values = [one["data"].get(key) for one in shown]
        if any(value is not None for value in values):
            rows.append(f"| {name} | {' | '.join('–' if value is None else f'{value:,.4g}' for value in values)} |")
    sampled, trained = [], []
    for one in shown:
        data = one["data"]
        share = data["response_length/mean"] / (data["response_length/mean"] + data["prompt_length/mean"])
        sampled.append(data["perf/total_num_tokens"] * share / data["timing_s/gen"])
        trained.append(data["perf/total_num_tokens"] / data["timing_s/update_actor"])
    rows.append(f"| tokens sampled a second of generation | {' | '.join(f'{one:,.0f}' for one in sampled)} |")
    rows.append(f"| tokens trained on a second of the update | {' | '.join(f'{one:,.0f}' for one in trained)} |")
    return rows


def cache_hits(log: str) -> str:
    """The share of prompt tokens that vLLM found in its prefix cache, as it said last."""
    said = re.findall(r"Prefix cache hit rate: ([\d.]+)%", log)
    return f"{said[-1]} % of the prompts' tokens came from the prefix cache" if said else "vLLM did not tell cache hits"


def interval(share: float, count: int) -> str:
    """A share with its 95 % Wilson interval."""
    z = 1.96
    middle = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z * math.sqrt(share * (1 - share) / count + z * z / (4 * count * count)) / (1 + z * z / count)
    return f"{share:.2f} ({max(0.0, middle - half):.2f} to {min(1.0, middle + half):.2f})"


def operations(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Executed operations a session, as cells."""
    return " | ".join(f"{fmean(one.get(f'op_{kind}', 0) for one in sessions):.2f}" for kind in OPERATIONS)


def held_out(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Exact match on held-out items by training step, with Update and without."""
    rows = [
        f"| training step | held-out items | EM with Update | EM without | {' | '.join(OPERATIONS)} |",
        "|---|--:|--:|--:|" + "--:|" * len(OPERATIONS),
    ]
    parts: dict[int, dict[str, list[Mapping[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for one in sessions:
        parts[one["global_step"]][one["part"]].append(one)
    complete = max((len(part["validation"]) for part in parts.values()), default=0)
    for step, part in sorted(parts.items()):
        arms = part["validation"], part[PART]
        # One that was broken off is left out.
        if complete and all(len(arm) == complete for arm in arms):
            shares = " | ".join(interval(fmean(one["em"] for one in arm), len(arm)) for arm in arms)
            rows.append(f"| {step} | {complete} | {shares} | {operations(arms[0])} |")
    return rows if len(rows) > 2 else ["No validation was finished."]


def training(sessions: Sequence[Mapping[str, Any]]) -> list[str]:
    """Rewards and operations by training step."""
    rows = [
        f"| training step | sessions | reward | {' | '.join(OPERATIONS)} | rejected | groups without variance |",
        "|---|--:|--:|" + "--:|" * (len(OPERATIONS) + 2),
    ]
    steps: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for one in sessions:
        if one["part"] == "train":
            steps[one["global_step"]].append(one)
    for step, group in sorted(steps.items()):
        rewards = defaultdict(list)
        for one in group:
            rewards[one["uid"]].append(one["reward"])
        flat = fmean(pstdev(values) == 0 for values in rewards.values())
        reward, rejected = (fmean(one[name] for one in group) for name in ("reward", "rejected"))
        rows.append(f"| {step} | {len(group)} | {reward:.3f} | {operations(group)} | {rejected:.2f} | {flat:.2f} |")
    return rows


def card() -> str:
    """The GPU, as its driver names it."""
    try:
        asked = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader"]
        return subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "no GPU"


def version(package: str) -> str:
    """Of an installed package."""
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return f"{package} not installed"


def main() -> int:
    """Print; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--held-out", action="store_true", help="the validations, too")
    given = parser.parse_args()
    log = given.folder / "grpo.log"
    sessions = lines(given.folder / "sessions.jsonl")
    date = datetime.datetime.now(datetime.timezone.utc).date().isoformat()
    page = [f"{date} · {card()} · {', '.join(map(version, PACKAGES))}", ""]
    if given.held_out:
        page += [*held_out(sessions), ""]
    page += [*training(sessions), "", *measured(lines(given.folder / "metrics.jsonl")), ""]
    page.append(cache_hits(log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""))
    print("\n".join(page))
    return 0


if __name__ == "__main__":
    sys.exit(main())
