"""A training as the viewer shows it: figures of each step, and its sessions, from what the learners write.

``sessions.jsonl`` is the log of veRL's agent loop or of ``grpo.py``; ``metrics.jsonl`` what ``grpo.py`` yields or what
veRL's logger of that name writes. Either may be missing, may still grow, and may end in a torn line.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TypeGuard

from atommem_gym.actions import KINDS
from atommem_gym.agents.learn.session_log import METRICS, SESSIONS, read, share_without_variance, training_steps
from atommem_gym.errors import AtomMemError
from atommem_gym.files.json_lines import read_lines
from atommem_gym.viewer.summary import Json, is_number

Points = dict[int, float]
"""A figure of each training step that has it."""
_OURS = {"reward": "reward", "exact match": "exact_match", "groups without variance": "groups_without_variance"}
"""Figures of ``grpo.py`` that sessions tell, too."""
_SHARES = ("exact match", "groups without variance")
"""Charts whose axis ends at 1."""
_SPEED = {"sampled": "sampled_tokens_per_second", "trained": "trained_tokens_per_second"}


def training_fronts(folder: Path) -> dict[str, Json]:
    """What the page shows of a training: ``training`` (its charts), and ``sessions-N`` for each step N with sessions.

    Raises:
        AtomMemError: the folder holds no log of a training, or a log is damaged; the message says where.
    """
    metrics, sessions = folder / METRICS, folder / SESSIONS
    if not metrics.is_file() and not sessions.is_file():
        raise AtomMemError(
            f"{folder} holds no log of a training: there is neither {METRICS} nor {SESSIONS}; grpo.py writes both with "
            "--log FOLDER, veRL's agent loop the second"
        )
    told = _metrics(metrics) if metrics.is_file() else {}
    played = _sessions(sessions) if sessions.is_file() else {}
    charts = _charts(told, played)
    front = {
        "name": folder.name,
        "steps": sorted({*told, *played}),
        "with_sessions": list(played),
        "charts": [chart for chart in charts if any(series["points"] for series in chart["series"])],
    }
    return {"training": front, **{f"sessions-{step}": _step(group) for step, group in played.items()}}


def _charts(told: Mapping[int, Mapping[str, float]], played: Mapping[int, Sequence[Mapping[str, Json]]]) -> list[Json]:
    """One chart a question; sessions go before metrics, since they say of how many a figure is a mean."""
    shares = {step: share_without_variance(group) for step, group in played.items()}
    from_sessions: dict[str, Points] = {
        "reward": {step: fmean(one["reward"] for one in group) for step, group in played.items()},
        "exact match": {step: mean for step, group in played.items() if (mean := _mean(group, "em")) is not None},
        "groups without variance": shares,
    }
    sessions = {step: len(group) for step, group in played.items()}
    groups = {step: len({str(one["uid"]) for one in group}) for step, group in played.items()}

    def chart(title: str, unit: str, counted: Mapping[int, int], noun: str) -> Json:
        points = from_sessions[title] or _points(told, _OURS[title])
        return _chart(title, unit, {title: points}, counted if from_sessions[title] else {}, noun)

    operations = {
        kind: {step: mean for step, group in played.items() if (mean := _mean(group, f"op_{kind}")) is not None}
        for kind in KINDS
    }
    used: dict[str, Points] = {kind: points for kind, points in operations.items() if any(points.values())}
    speed = {name: _points(told, key) for name, key in _SPEED.items()}
    return [
        chart("reward", "mean of a session", sessions, "sessions"),
        chart("exact match", "mean of a session", sessions, "sessions"),
        _chart("operations", "executed in a session, mean", used, sessions, "sessions"),
        chart("groups without variance", "share of groups", groups, "groups"),
        _chart(
            "tokens a second",
            "tokens/s during that phase",
            {name: points for name, points in speed.items() if points},
            {},
            "",
        ),
    ]


def _chart(title: str, unit: str, series: Mapping[str, Points], counted: Mapping[int, int], noun: str) -> Json:
    return {
        "title": title,
        "unit": unit,
        "noun": noun,
        "most": 1 if title in _SHARES else None,
        "series": [
            {"name": name, "points": [[step, value, counted.get(step)] for step, value in sorted(points.items())]}
            for name, points in series.items()
        ],
    }


def _points(told: Mapping[int, Mapping[str, float]], name: str) -> Points:
    return {step: values[name] for step, values in told.items() if name in values}


def _mean(group: Sequence[Mapping[str, Json]], name: str) -> float | None:
    values = [float(one[name]) for one in group if is_number(one.get(name))]
    return fmean(values) if values else None


def _step(group: Sequence[Mapping[str, Json]]) -> list[Json]:
    """The sessions of a step, by group: what the page lists of each."""
    names = ("reward", "em", "steps", "rejected", "peak_entries", "response_tokens")
    groups: dict[str, list[Json]] = defaultdict(list)
    for one in group:
        operations = {kind: one[f"op_{kind}"] for kind in KINDS if is_number(one.get(f"op_{kind}"))}
        numbers = {name: one[name] if is_number(one.get(name)) else None for name in names}
        played = {"item": one.get("item"), "session": one.get("session")}
        groups[str(one["uid"])].append({**played, **numbers, "operations": operations})
    return [{"uid": uid, "sessions": sessions} for uid, sessions in groups.items()]


def _sessions(path: Path) -> dict[int, list[Mapping[str, Json]]]:
    lines = read(path)
    for number, line in enumerate(lines, 1):
        if not _is_step(line["global_step"]) or not is_number(line["reward"]):
            raise AtomMemError(
                f"session {number} of {path} has no whole number as global_step (0 to 2**53), or no reward; remove it"
            )
    return training_steps(lines)


def _metrics(path: Path) -> dict[int, dict[str, float]]:
    """The figures of each step, by the names of ``grpo.py``; of a step that was played again the last."""
    found: dict[int, dict[str, float]] = {}
    try:
        lines = [(number, json.loads(line)) for number, line in read_lines(path)]
    except (OSError, ValueError, RecursionError) as error:
        raise AtomMemError(f"{path} cannot be read as figures of a training: {error}") from error
    for number, line in lines:
        values = line.get("data", line) if isinstance(line, dict) else None
        step = line.get("iteration", line.get("step")) if isinstance(line, dict) else None
        if not isinstance(values, dict) or not _is_step(step):
            raise AtomMemError(
                f"line {number} of {path} has no figures of a training step (a whole number from 0 to 2**53); remove it"
            )
        numbers = {name: float(value) for name, value in values.items() if is_number(value)}
        numbers = numbers if "iteration" in line else _from_verl(numbers)
        if numbers:
            found[step] = numbers
    return dict(sorted(found.items()))


def _is_step(value: object) -> TypeGuard[int]:
    """A page of a browser counts no further."""
    return type(value) is int and 0 <= value <= 2**53


def _from_verl(values: Mapping[str, float]) -> dict[str, float]:
    """The same figures of a line of veRL's logger; a line of a validation has none."""
    found = {"reward": values["critic/score/mean"]} if "critic/score/mean" in values else {}
    every, prompt, response = (
        values.get(name, math.nan) for name in ("perf/total_num_tokens", "prompt_length/mean", "response_length/mean")
    )
    sampled = every * response / ((prompt + response) or math.nan)
    for name, tokens, stage in (
        ("sampled_tokens_per_second", sampled, "timing_s/gen"),
        ("trained_tokens_per_second", every, "timing_s/update_actor"),
    ):
        rate = tokens / (values.get(stage) or math.nan)
        if math.isfinite(rate):
            found[name] = rate
    return found
