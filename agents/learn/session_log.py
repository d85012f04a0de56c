"""Summarises the sessions of each training step from a log, that of the veRL loop or of ``grpo.py``.

    python -m atommem_gym.agents.learn.session_log runs/grpo/sessions.jsonl

The figures are those that veRL's own metrics lack. Tokens per second and the time of each stage stand in veRL's
metrics: ``verl_configs/launch/throughput.py``.
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
"""Names of the files of a training: the figures of each step, and the sessions."""
_COSTS = ("env_s", "session_s", "cached_tokens", "prompt_tokens", "response_tokens")
_MOST = 1e300
"""So many that a log has room for still have a sum; NaN is not below it."""
ABSENT = "–"
"""Stands in the table for a number that the log does not have."""


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a log, each a session; an incomplete last line is left out.

    Raises:
        AtomMemError: the file cannot be read, or is not a log of sessions.
    """
    try:
        lines: list[dict[str, Any]] = [json.loads(line) for _, line in read_lines(path)]
    except (OSError, ValueError, RecursionError) as error:
        raise AtomMemError(f"{path} cannot be read as a log of sessions: {error}; name a sessions.jsonl") from error
    for number, line in enumerate(lines, 1):
        if not isinstance(line, dict) or not {"part", "global_step", "uid", "reward"} <= line.keys():
            raise AtomMemError(f"line {number} of {path} is not a session of a training: name its log, sessions.jsonl")
    return lines


def _check_numbers(lines: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Raise ``AtomMemError`` unless the figures of all sessions of the training are numbers to calculate with."""
    for number, line in enumerate(lines, 1):
        if line["part"] != "train":
            continue
        told: dict[str, Any] = {name: line.get(name) for name in ("global_step", "reward", "em", "rejected")}
        told |= {name: value for name, value in line.items() if name.startswith("op_")}
        # What a server does not count is null, or NaN in logs of earlier versions.
        told |= {name: line[name] for name in _COSTS if line.get(name) is not None and line[name] == line[name]}
        for name, value in told.items():
            kinds: tuple[type, ...] = (int,) if name == "global_step" else (int, float)
            if type(value) not in kinds or not abs(value) <= _MOST:
                raise AtomMemError(
                    f"session {number} of {path} has {name}={value!r:.40}, which is no number; remove it"
                )


def figures(sessions: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """How much the sessions of one training step teach, and their cost, as shares from 0 to 1.

    - ``groups_without_variance``: groups whose sessions all have the same reward, which teach nothing;
    - ``environment_share``: the environment's part of the sessions' time;
    - ``prefix_cache_hits``: prompt tokens that the server found in its prefix cache.

    The last two are left out if a session lacks the numbers.

    Args:
        sessions: Each with its group as ``uid``, its ``reward`` and its totals (``session.TOTALS``).

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
    """The share of groups whose sessions all have the same reward."""
    rewards: dict[str, set[float]] = defaultdict(set)
    for one in sessions:
        rewards[str(one["uid"])].add(float(one["reward"]))
    return fmean(len(values) == 1 for values in rewards.values())


def _sum(sessions: Sequence[Mapping[str, Any]], name: str) -> float:
    """The sum over all sessions; NaN if one lacks the number, as in logs of earlier versions and of ``grpo.py``."""
    values = [one.get(name) for one in sessions]
    return math.nan if None in values else math.fsum(values)  # type: ignore[arg-type]


def training_steps(sessions: Sequence[Mapping[str, Any]]) -> dict[int, list[Mapping[str, Any]]]:
    """The training sessions by step. Of a step that was played again after a resume, only those of the last start."""
    training = [one for one in sessions if one["part"] == "train"]
    last = {one["global_step"]: one.get("run", "") for one in training}
    steps: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for one in training:
        if one.get("run", "") == last[one["global_step"]]:
            steps[one["global_step"]].append(one)
    return dict(sorted(steps.items()))


def table(sessions: Sequence[Mapping[str, Any]]) -> str:
    """A Markdown table with one row per training step; operations are the mean number executed in a session."""
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
    """Run the command line; returns the exit status, 1 if the log cannot be read."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log", type=Path)
    given = parser.parse_args()
    try:
        sessions = read(given.log)
        _check_numbers(sessions, given.log)
        print(table(sessions))
    except AtomMemError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
