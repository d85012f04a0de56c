"""Checks of a trace what every played episode has, also where its fields are free JSON: metrics and observations."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from atommem_gym.traces.record import EpisodeTrace


class _Answer(Struct):
    answer: str
    closed: str
    score: float
    em: float
    f1: float
    answerable: bool = True


class _Metrics(Struct):
    answers: tuple[_Answer, ...]
    em: float | None
    f1: float | None
    evidence_recall: float | None


class _Observation(Struct):
    phase: int
    chunk: str


def missing(trace: EpisodeTrace) -> str:
    """What a trace lacks that every played episode has, or has in another form; empty if it lacks nothing.

    >>> from msgspec.structs import replace
    >>> from atommem_gym.traces.examples import example_trace
    >>> trace = example_trace()
    >>> missing(trace), missing(replace(trace, metrics={}))
    ('', 'metrics: Object missing required field `answers`')
    """
    where = "metrics"
    try:
        answers = msgspec.convert(trace.metrics, _Metrics).answers
        for number, step in enumerate(trace.steps):
            where = f"steps[{number}].observation"
            msgspec.convert(step.observation, _Observation)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError) as error:
        return f"{where}: {error}"
    counts = {"questions": len(trace.questions), "metrics.answers": len(answers), "causes": len(trace.causes)}
    if len(set(counts.values())) > 1 or not answers:
        return ", ".join(f"{count} {name}" for name, count in counts.items())
    return ""
