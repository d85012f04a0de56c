"""Applies another scorer to the answers in traces, without a model or an environment; recorded scores stay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np
from msgspec.structs import replace

from atommem_gym.readers.options import ORACLE
from atommem_gym.scoring import Scorer, ScoreRequest, score_all
from atommem_gym.traces.causes import failure_causes
from atommem_gym.traces.record import EpisodeTrace, Rescore, TraceError

BATCH = 64
"""Episodes whose answers are scored together."""


def rescore(traces: Iterable[EpisodeTrace], scorer: Scorer, name: str = "") -> Iterator[EpisodeTrace]:
    """Score the answers in traces again; each trace gets the new scores in ``rescores``.

    As in the environment, only questions closed by an answer are scored; the others get 0. Scores of a scorer with the
    same name are replaced; ``reward``, ``metrics`` and ``causes`` stay as they were recorded.

    >>> from atommem_gym.scoring import load_scorer
    >>> from atommem_gym.traces.examples import example_trace
    >>> [trace] = rescore([example_trace()], load_scorer("f1"))
    >>> trace.rescores[0].scorer, trace.rescores[0].reward, trace.reward
    ('f1', 0.0, 0.0)

    Args:
        traces: The records.
        scorer: See ``atommem_gym.scoring.load_scorer``.
        name: The name of the scorer in the traces; by default its own.

    Raises:
        TraceError: a score is not a number in [0, 1].
        JudgeError: the judge failed; earlier batches have been yielded.
    """
    remaining = iter(traces)
    while batch := list(islice(remaining, BATCH)):
        requests = [request for trace in batch for request, _ in recorded_requests(trace)]
        try:
            following = iter(score_all(scorer, requests))
        except ValueError as error:
            raise TraceError(str(error)) from error
        for trace in batch:
            own = [next(following) if answer["closed"] == "answered" else 0.0 for answer in trace.metrics["answers"]]
            yield _with(trace, name or scorer.name, own)


def recorded_scores(trace: EpisodeTrace, scorer: str | None = None) -> list[float]:
    """One score per question: those of the episode's own reward, or of a rescoring.

    Args:
        trace: The trace.
        scorer: The name of a rescoring; ``None`` for the episode's own scores.

    Raises:
        TraceError: the trace has no such rescoring.
    """
    if scorer is None:
        return [answer["score"] for answer in trace.metrics["answers"]]
    for one in trace.rescores:
        if one.scorer == scorer:
            return list(one.scores)
    known = ", ".join(repr(one.scorer) for one in trace.rescores) or "none"
    raise TraceError(
        f"the record of item {trace.item!r} was not rescored by {scorer!r} (it has {known}); "
        f"run atommem rescore FILE --reward {scorer} first"
    )


def recorded_requests(trace: EpisodeTrace) -> list[tuple[ScoreRequest, Mapping[str, Any]]]:
    """The score request for each answer of a trace that counts, with the answer's entry in the metrics."""
    may_abstain = "abstention_recall" in trace.metrics
    return [
        (
            ScoreRequest(
                question.question,
                answer["answer"],
                question.answers,
                answer.get("answerable", True) if may_abstain else None,
            ),
            answer,
        )
        for question, answer in zip(trace.questions, trace.metrics["answers"], strict=True)
        if answer["closed"] == "answered"
    ]


def _with(trace: EpisodeTrace, name: str, scores: list[float]) -> EpisodeTrace:
    answers = trace.metrics["answers"]
    # As in the environment (SPEC R5).
    oracle = trace.env.keywords.get("reader") == ORACLE
    counted = [s for s, one in zip(scores, answers, strict=True) if one.get("answerable", True) or not oracle]
    reward = float(np.mean(counted)) if counted else 0.0
    added = Rescore(name, reward, tuple(scores), failure_causes(trace, scores))
    others = tuple(one for one in trace.rescores if one.scorer != name)
    return replace(trace, rescores=(*others, added))
