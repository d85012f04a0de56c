"""What a log of training sessions says of each step: veRL's, whose own metrics do not have it, or that of ``grpo.py``.

    python -m atommem_gym.agents.learn.session_log runs/grpo/sessions.jsonl

Tokens a second and the time of each stage stand in veRL's metrics: ``verl_configs/launch/throughput.py``.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from atommem_gym.errors import AtomMemError
from atommem_gym.files.json_lines import read_lines

METRICS, SESSIONS = "metrics.jsonl", "sessions.jsonl"
"""The files of a training: figures of each step, and its sessions."""
ABSENT = "–"


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log; a torn last one is left out.

    Raises:
        AtomMemError: there is no such file, or it is no log of sessions.
    """
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for _, line in read_lines(path)]
    except (OSError, ValueError, RecursionError) as error:
        raise AtomMemError(f"{path} cannot be read as a log of sessions: {error}") from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not {"part", "global_step", "uid", "reward"} <= line.keys():
            raise AtomMemError(f"line {number} of {path} is no session of the agent loop: name its log, sessions.jsonl")
    return lines


def figures(sessions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """What the sessions of one training step are worth to it, and what they cost.

    - ``groups_without_variance``: the share of groups whose sessions all have one reward, which teach nothing;
    - ``environment_share``: of the sessions' time;
    - ``prefix_cache_hits``: the share of prompt tokens that the server had in its cache; left out if it does not tell.

    Args:
        sessions: Their group as ``uid``, their ``reward``, and their totals (``session.TOTALS``).

    >>> told = {"uid": "a", "reward": 1, "prompt_tokens": 100, "env_s": 1, "session_s": 50}
    >>> figures([{**told, "cached_tokens": 0}, {**told, "cached_tokens": 80}])
    {'groups_without_variance': 1.0, 'environment_share': 0.02, 'prefix_cache_hits': 0.4}
    """
    found = {"groups_without_variance": share_without_variance(sessions)}
    for name, part, whole in (
        ("environment_share", "env_s", "session_s"),
        ("prefix_cache_hits", "cached_tokens", "prompt_tokens"),
    ):
        share = _sum(sessions, part) / (_sum(sessions, whole) or math.nan)
        if not math.isnan(share):
            found[name] = share
    return found


def share_without_variance(sessions: Sequence[Mapping[str, Any]]) -> float:
    """The share of groups whose sessions all have one reward."""
    rewards: dict[str, set[float]] = defaultdict(set)
    for one in sessions:
        rewards[str(one["uid"])].add(float(one["reward"]))
    return fmean(len(values) == 1 for values in rewards.values())


def _sum(sessions: Sequence[Mapping[str, Any]], name: str) -> float:
    """NaN if a session does not have it: logs of earlier versions and of ``grpo.py``, servers that do not tell."""
    values = [one.get(name) for one in sessions]
    return math.nan if None in values else math.fsum(values)  # type: ignore[arg-type]


def training_steps(sessions: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """The training sessions by step; of a step that was played again after a resume only those of the last start."""
    training = [one for one in sessions if one["part"] == "train"]
    last = {one["global_step"]: one.get("run", "") for one in training}
    steps: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for one in training:
        if one.get("run", "") == last[one["global_step"]]:
            steps[one["global_step"]].append(one)
    return dict(sorted(steps.items()))


def table(sessions: Sequence[Mapping[str, Any]]) -> str:
    """Markdown, a row a training step; operations are those executed in a session. ``grpo.py`` tells no tokens."""
    lines = [
        "| step | sessions | reward | EM | operations | rejected | tokens sampled | groups without variance | "
        "environment | cache hits |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for step, group in training_steps(sessions).items():
        known = figures(group)
        operations = fmean(sum(value for name, value in one.items() if name.startswith("op_")) for one in group)
        means = [fmean(one[name] for one in group) for name in ("reward", "em")]
        sampled = _sum(group, "response_tokens")
        shares = [known.get(name) for name in ("groups_without_variance", "environment_share", "prefix_cache_hits")]
        cells = [
            f"{step}",
            f"{len(group)}",
            *(f"{mean:.3f}" for mean in means),
            f"{operations:.2f}",
            f"{fmean(one['rejected'] for one in group):.2f}",
            ABSENT if math.isnan(sampled) else f"{sampled:,.0f}",
            *(ABSENT if share is None else f"{share:.1%}" for share in shares),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> int:
    """The command line; the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    given = parser.parse_args()
    try:
        print(table(read(given.log)))
    except AtomMemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
