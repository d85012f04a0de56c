"""Where the time of veRL's training steps goes, and tokens a second, from the file that its logger writes.

python throughput.py METRICS.jsonl [--skip 1]
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median

STAGES = ("gen", "old_log_prob", "ref", "adv", "update_actor", "update_weights")
"""Of ``timing_s/…``; whatever else a step takes is the rest."""


def table(steps: list[dict[str, float]]) -> str:
    """Markdown: a row a stage, medians over the steps.

    Args:
        steps: The metrics of training steps, with ``timing_s/step``.
    """
    whole = median(step["timing_s/step"] for step in steps)
    rows = [(stage, median(step.get(f"timing_s/{stage}", 0.0) for step in steps)) for stage in STAGES]
    rows = [(stage, seconds) for stage, seconds in rows if seconds]
    rows.append(("the rest", max(0.0, whole - sum(seconds for _, seconds in rows))))
    lines = [f"{len(steps)} steps of {whole:.1f} s (median)", "", "| stage | s | share |", "|---|--:|--:|"]
    lines += [f"| {stage} | {seconds:.2f} | {seconds / whole:.0%} |" for stage, seconds in rows]
    lines += ["", "| tokens a second | |", "|---|--:|"]
    for what, rate in rates(steps).items():
        lines.append(f"| {what} | {rate:,.0f} |")
    return "\n".join(lines)


def rates(steps: list[dict[str, float]]) -> dict[str, float]:
    """Tokens a second, medians over the steps: sampled while generating, and trained on (prompts included)."""
    found = {}
    for what, tokens, stage in (
        ("sampled, of the time for generation and environments", "sampled", "gen"),
        ("trained on, of the time for updates", "all", "update_actor"),
        ("trained on, of the whole step", "all", "step"),
    ):
        found[what] = median(_tokens(step, tokens) / step[f"timing_s/{stage}"] for step in steps)
    return found


def _tokens(step: dict[str, float], which: str) -> float:
    every = step["perf/total_num_tokens"]
    lengths = step["response_length/mean"], step["prompt_length/mean"]
    return every * lengths[0] / sum(lengths) if which == "sampled" else every


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("metrics", type=Path)
    parser.add_argument("--skip", type=int, default=1, help="first steps to leave out, in which workers start (1)")
    given = parser.parse_args()
    lines = [json.loads(line)["data"] for line in given.metrics.read_text(encoding="utf-8").splitlines()]
    steps = [line for line in lines if "timing_s/step" in line][given.skip :]
    if not steps:
        sys.exit(f"{given.metrics} has no training step after the first {given.skip}; train longer or lower --skip")
    print(table(steps))


if __name__ == "__main__":
    main()
