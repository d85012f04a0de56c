"""Measures vector steps with resets with and without ``items_ahead``: ``python benchmarks/items_ahead.py``.

Both play the same episodes in turns, in one run: what else the machine does meets both. Wall time counts, since the
items are made by another process; compare the ratio, not the numbers, with those of other machines.
"""

from __future__ import annotations

import dataclasses
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import gymnasium as gym
import tyro
from reports.machine import provenance
from workloads.vector import actions

import atommem_gym  # noqa: F401  (registers the environments)

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Options:
    """Step synthetic episodes of 200 documents (numpy, hashing), with autoresets."""

    num_envs: int = 256
    """Sub-environments."""
    steps: int = 10
    """Vector steps of a round, about an episode."""
    rounds: int = 5
    """Rounds of each, in turns."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of items_ahead.md."""


def main(options: Options) -> int:
    """Measure and write the page."""
    batches = actions(options.num_envs, options.steps)
    forms: dict[bool, Any] = {}
    for ahead in (False, True):
        envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=options.num_envs, store="numpy", items_ahead=ahead)
        envs.reset(seed=0)
        forms[ahead] = envs
    rates: dict[bool, list[float]] = {False: [], True: []}
    cpu: dict[bool, list[float]] = {False: [], True: []}
    resets = 0
    for number in range(options.rounds + 1):
        for ahead, envs in forms.items():
            began, worked = time.perf_counter(), time.process_time()
            for batch in batches:
                *_, terminated, truncated, _ = envs.step(batch)
                resets += int((terminated | truncated).sum())
            # The first round fills caches.
            if number:
                rates[ahead].append(options.num_envs * options.steps / (time.perf_counter() - began))
                cpu[ahead].append(1000 * (time.process_time() - worked) / (options.num_envs * options.steps))
    for envs in forms.values():
        envs.close()
    ratio = median(with_it / without for with_it, without in zip(rates[True], rates[False], strict=True))
    share = resets / (2 * (options.rounds + 1) * options.num_envs * options.steps)
    made = provenance(command(options), ("atommem-gym", "gymnasium", "numpy"))
    lines = [
        "# Items made ahead",
        "",
        f"Vector steps of N = {options.num_envs} synthetic episodes of 200 documents, numpy, hashing; {share:.0%} of "
        f"the steps end an episode, whose place then begins another one. Both in turns, {options.rounds} rounds of "
        f"{options.steps} vector steps each; medians. The ratio is the median of the rounds' own.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
        "",
        "| | steps a second | best round | ms a step of the environment's process |",
        "|---|--:|--:|--:|",
        *(
            f"| {name} | {median(rates[ahead]):,.0f} | {max(rates[ahead]):,.0f} | {median(cpu[ahead]):.2f} |"
            for ahead, name in ((False, "without"), (True, "`items_ahead=True`"))
        ),
        f"| **ratio** | **{ratio:.2f}** | | |",
    ]
    (options.out / "items_ahead.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))
    return 0


def command(options: Options) -> str:
    """The command that makes these results."""
    parts = ["python benchmarks/items_ahead.py"]
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.name != "out" and value != field.default:
            parts.append(f"--{field.name.replace('_', '-')} {value}")
    return " ".join(parts)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
