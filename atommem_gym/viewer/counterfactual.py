"""What operations were worth (``atommem counterfactual --json``), put to the episodes of a page that they belong to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from os.path import realpath
from pathlib import Path

from atommem_gym.errors import ConfigError
from atommem_gym.terminal import on_one_line
from atommem_gym.traces import EpisodeTrace, TraceError, read_traces
from atommem_gym.traces.codec import MOST_SHOWN
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
    for place, path in enumerate(files):
        if realpath(path) in map(realpath, files[:place]):
            raise ConfigError(f"--counterfactual {path} is given twice; name each file once")
    told = [read_counterfactuals(path) for path in files]
    wanted = {one.episode for one in told}
    played = [_episodes(run.traces, wanted) for run in runs]
    found: list[dict[int, list[Json]]] = [{} for _ in runs]
    for one, path in zip(told, files, strict=True):
        for number in _owners(runs, played, one, path):
            found[number].setdefault(one.episode, []).append(_shown(one, path.name))
    return [replace(run, counterfactuals=of_run) for run, of_run in zip(runs, found, strict=True)]


def _owners(
    runs: Sequence[PageRun], played: Sequence[Mapping[int, EpisodeTrace]], told: CounterfactualFile, path: Path
) -> list[int]:
    """The places of the runs that hold the episode of a file."""
    owners, others = [], []
    for number, (run, episodes) in enumerate(zip(runs, played, strict=True)):
        trace = episodes.get(told.episode)
        if trace is None:
            others.append(f"{run.name or 'it'} holds no episode {told.episode}")
        elif fingerprint(trace) == told.trace:
            check_episode(told, trace, path)
            owners.append(number)
        else:
            others.append(f"episode {told.episode} of {run.name or 'it'} is {_named(trace.item, trace.agent.name)}")
    if not owners:
        more = f"; and {len(others) - _RUNS_TOLD} more" if len(others) > _RUNS_TOLD else ""
        raise TraceError(
            f"--counterfactual {path} belongs to no episode of this page: it is about episode {told.episode}, "
            f"{_named(told.item, told.agent)}, and {'; '.join(others[:_RUNS_TOLD])}{more}. Where these are the same, "
            "the actions or rewards differ; name the traces that `atommem counterfactual` read"
        )
    return owners


def _named(item: str, agent: str) -> str:
    return f"item {on_one_line(item, MOST_SHOWN)} of {on_one_line(agent, MOST_SHOWN)}"


def _episodes(traces: Path | None, wanted: Set[int]) -> dict[int, EpisodeTrace]:
    """The wanted episodes of a file by their numbers, in one pass that ends with the last of them."""
    if traces is None or not wanted:
        return {}
    numbered = zip(range(max(wanted) + 1), read_traces(traces), strict=False)
    return {number: trace for number, trace in numbered if number in wanted}


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
