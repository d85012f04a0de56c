"""What operations were worth (``atommem counterfactual --json``), put to the episodes of a page that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

from atommem_gym.errors import ConfigError
from atommem_gym.traces import EpisodeTrace, TraceError, read_traces
from atommem_gym.traces.counterfactual_file import (
    CounterfactualFile,
    EndingPart,
    check_episode,
    fingerprint,
    read_counterfactuals,
)
from atommem_gym.viewer.page import PageRun
from atommem_gym.viewer.summary import Json

_RUNS_TOLD = 3


def with_counterfactuals(runs: Sequence[PageRun], files: Sequence[Path]) -> list[PageRun]:
    """The runs, with what the files say of their episodes.

    A file belongs to each episode that has its number and its fingerprint: the same record may be in two runs.

    Args:
        runs: Of a page.
        files: What ``atommem counterfactual --json`` printed, one episode each.

    Raises:
        ConfigError: a file is given twice.
        TraceError: a file is damaged, or belongs to no episode of the page.
    """
    found: list[dict[int, list[Json]]] = [{} for _ in runs]
    for place, path in enumerate(files):
        if any(path.resolve() == other.resolve() for other in files[:place]):
            raise ConfigError(f"--counterfactual {path} is given twice; name each file once")
        told = read_counterfactuals(path)
        for number in _owners(runs, told, path):
            found[number].setdefault(told.episode, []).append(_shown(told, path.name))
    return [replace(run, counterfactuals=of_run) for run, of_run in zip(runs, found, strict=True)]


def _owners(runs: Sequence[PageRun], told: CounterfactualFile, path: Path) -> list[int]:
    """The places of the runs that hold the episode of a file."""
    owners, others = [], []
    for number, run in enumerate(runs):
        trace = None if run.traces is None else _episode(run.traces, told.episode)
        if trace is None:
            others.append(f"{run.name or 'it'} holds no episode {told.episode}")
        elif fingerprint(trace) == told.trace:
            check_episode(told, trace, path)
            owners.append(number)
        else:
            others.append(f"episode {told.episode} of {run.name or 'it'} is item {trace.item} of {trace.agent.name}")
    if not owners:
        more = f"; and {len(others) - _RUNS_TOLD} more" if len(others) > _RUNS_TOLD else ""
        raise TraceError(
            f"--counterfactual {path} belongs to no episode of this page: it is about episode {told.episode}, item "
            f"{told.item} of {told.agent}, and {'; '.join(others[:_RUNS_TOLD])}{more} (or its actions or rewards "
            "differ); name the traces that `atommem counterfactual` read"
        )
    return owners


def _episode(traces: Path, number: int) -> EpisodeTrace | None:
    return next(islice(read_traces(traces), number, None), None) if number >= 0 else None


def _shown(told: CounterfactualFile, name: str) -> dict[str, Json]:
    """What the page holds of a file; what the operations say stands in the record."""
    return {
        "name": name,
        "continuation": told.continuation,
        "operations": [
            {
                **{field: getattr(one, field) for field in ("step", "operation", "change", "difference")},
                "kept": _shown_ending(one.kept),
                "other": _shown_ending(one.other),
            }
            for one in told.operations
        ],
    }


def _shown_ending(ending: EndingPart) -> dict[str, Json]:
    answers = [[answer.answer, answer.score] for answer in ending.answers]
    return {"reward": ending.reward, "steps": ending.steps, "answers": answers, "unknown": ending.unknown}
