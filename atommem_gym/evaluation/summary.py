"""Summarises the episodes of a cell: means with intervals, costs, times, and why questions failed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from atommem_gym.actions import KINDS
from atommem_gym.evaluation.closed_book import ClosedBook, QuestionKey, closed_book_em, gain, unknown_questions
from atommem_gym.evaluation.plan import Cell
from atommem_gym.evaluation.results import EpisodeResult
from atommem_gym.evaluation.statistics import RESAMPLES, Interval, bootstrap, percentile
from atommem_gym.traces.record import CAUSES, NOT_ERASED

ABSTENTION = ("em_answerable", "abstention_precision", "abstention_recall")
"""Metrics of a cell that has questions without an answer; each is over questions (SPEC R5)."""
GAIN = ("gain", "closed_book", "em_unknown")
"""Memory gain, closed-book EM of the reader, and EM of the questions that it does not know by itself (SPEC E13)."""
METRICS = ("em", "f1", "reward", "evidence_recall", "evidence_recall_exact")
"""Fields of a result whose mean has an interval."""


@dataclass(frozen=True, slots=True)
class CellSummary:
    """The summary of a cell's finished episodes: one row of a table."""

    cell: Cell
    """Environment, document count and agent."""
    episodes: int
    """Number of finished episodes."""
    planned: int
    """Number of episodes that the plan asks for."""
    failed: int
    """Episodes that could not be played to their end and have not been since."""
    items: int
    """Distinct items; intervals resample these."""
    metrics: Mapping[str, Interval]
    """Mean and interval of each of ``METRICS``; NaN if it is unknown."""
    operations: Mapping[str, float]
    """Executed operations per episode, by kind."""
    rejected: float
    """Rejected and cut operations per episode."""
    peak_entries: float
    """Entries in memory at their most, mean over episodes."""
    steps: float
    """Environment steps per episode."""
    calls: float
    """Completions of the agent's language model per episode."""
    prompt_tokens: float | None
    """Prompt tokens per episode; ``None`` if no language model played or they are unknown."""
    completion_tokens: float | None
    """Completion tokens per episode; ``None`` if no language model played or they are unknown."""
    cut_short: int
    """Completions that ended at their token limit, over all episodes."""
    only_reasoning: int
    """Steps in which the model wrote reasoning and no text, over all episodes."""
    cut_prompts: int
    """Steps in which something was dropped from the prompt to fit the model's context, over all episodes."""
    retries: int
    """Calls of the model that failed and were repeated, over all episodes."""
    agent_ms: tuple[float, float]
    """Median and 95th percentile of a step's milliseconds in the agent."""
    env_ms: tuple[float, float]
    """Median and 95th percentile of a step's milliseconds in the environment, waits for its turn included."""
    env_share: float
    """The environment's share of the time of all steps; NaN if there was no time."""
    questions: int
    """Number of questions, over all episodes."""
    causes: Mapping[str, int] = field(default_factory=dict)
    """Number of failed questions by cause, in the order of ``CAUSES``."""
    abstention: Mapping[str, Interval] = field(default_factory=dict)
    """The ``ABSTENTION`` metrics; empty if every question has an answer."""
    gain: Mapping[str, Interval] = field(default_factory=dict)
    """The ``GAIN`` metrics; empty if the policy answers by itself."""
    reader_tokens: float | None = None
    """Tokens of the frozen reader per episode; ``None`` if there is no reader or they are unknown."""
    reader_cut_short: int = 0
    """The reader's replies that ended at their token limit, over all episodes."""
    sessions: float = 0.0
    """Documents per episode, if their number is not that of the plan; else 0. It differs for contexts, which come
    whole, and for tasks that set the length of their streams themselves (Needle's ``length``)."""

    @property
    def size(self) -> str:
        """Documents per episode, as tables show them."""
        return size_text(self.cell.docs, self.sessions)

    @property
    def wrong(self) -> int:
        """Number of failed questions."""
        return sum(self.causes.values())

    @property
    def missing(self) -> int:
        """Number of planned episodes that neither finished nor failed."""
        return self.planned - self.episodes - self.failed

    @property
    def tokens(self) -> float | None:
        """Tokens per episode, prompts and completions; ``None`` if unknown."""
        if self.prompt_tokens is None or self.completion_tokens is None:
            return None
        return self.prompt_tokens + self.completion_tokens

    def to_values(self) -> dict[str, Any]:
        """One flat row of numbers, for a CSV file."""
        row: dict[str, Any] = {"env": self.cell.env, "docs": self.cell.docs, "agent": self.cell.agent}
        row |= {"documents_played" if self.cell.docs else "sessions": self.sessions} if self.sessions else {}
        row |= {"episodes": self.episodes, "planned": self.planned, "failed": self.failed, "items": self.items}
        for name, interval in (*self.metrics.items(), *self.gain.items(), *self.abstention.items()):
            row |= {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
        row |= {kind: self.operations.get(kind, 0.0) for kind in KINDS}
        row |= {"rejected": self.rejected, "peak_entries": self.peak_entries, "steps": self.steps}
        row |= {"calls": self.calls, "prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        row |= {"reader_tokens": self.reader_tokens} if self.gain else {}
        row |= {"cut_short": self.cut_short, "cut_prompts": self.cut_prompts, "retries": self.retries}
        row |= {"agent_ms_median": self.agent_ms[0], "agent_ms_p95": self.agent_ms[1]}
        row |= {"env_ms_median": self.env_ms[0], "env_ms_p95": self.env_ms[1], "env_share": self.env_share}
        causes = [cause for cause in CAUSES if cause != NOT_ERASED or cause in self.causes]
        row |= {"questions": self.questions, **{cause.replace(" ", "_"): self.causes.get(cause, 0) for cause in causes}}
        # Spreadsheets and data frames read an empty field as a missing value.
        return {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in row.items()}


def mean_played(docs: int, sessions: Sequence[int]) -> float:
    """Mean number of documents per episode, if it differs from the plan's ``docs`` in some; else 0.

    Args:
        docs: Document count of the plan.
        sessions: Documents of each episode, 0 if as many as planned.
    """
    return fmean(played or docs for played in sessions) if any(sessions) else 0.0


def size_text(docs: int, played: float) -> str:
    """Documents per episode, as tables show them: the mean number ``played``, or the plan's ``docs`` if that is 0.

    >>> size_text(200, 0.0), size_text(200, 26.6), size_text(0, 19.0)
    ('200', '27', '19 sessions')
    """
    if not played:
        return str(docs)
    return f"{played:.0f}" if docs else f"{played:.0f} sessions"


def summarize(
    cell: Cell,
    results: Sequence[EpisodeResult],
    *,
    planned: int,
    failed: int = 0,
    resamples: int = RESAMPLES,
    closed_book: Mapping[QuestionKey, ClosedBook] | None = None,
) -> CellSummary:
    """Summarise the finished episodes of a cell.

    Args:
        cell: Environment, document count and agent.
        results: The finished episodes, at least one; their order does not matter.
        planned: Episodes that the plan asks for.
        failed: Episodes that failed and have not been finished since.
        resamples: Resamples of each bootstrap interval.
        closed_book: The frozen reader's closed-book answers; ``None`` if the policy answers.

    Raises:
        ValueError: there are no results.
    """
    if not results:
        raise ValueError(f"{cell.text}: there are no finished episodes to sum up")
    results = sorted(results, key=lambda result: result.key)
    waits = sum(map(sum, (result.env_ms for result in results)))
    acts = sum(map(sum, (result.agent_ms for result in results)))
    kinds = [kind for kind in KINDS if any(kind in result.operations for result in results)]
    return CellSummary(
        cell=cell,
        episodes=len(results),
        planned=planned,
        failed=failed,
        items=len({result.index for result in results}),
        metrics={name: interval(name, cell, results, resamples) for name in METRICS},
        operations={kind: fmean(result.operations.get(kind, 0) for result in results) for kind in kinds},
        rejected=fmean(sum(result.rejected.values()) for result in results),
        peak_entries=fmean(result.peak_entries for result in results),
        steps=fmean(result.steps for result in results),
        calls=fmean(result.calls for result in results),
        prompt_tokens=_tokens(results, [result.prompt_tokens for result in results]),
        completion_tokens=_tokens(results, [result.completion_tokens for result in results]),
        cut_short=sum(result.cut_short for result in results),
        only_reasoning=sum(result.only_reasoning for result in results),
        cut_prompts=sum(result.cut_prompts for result in results),
        retries=sum(result.retries for result in results),
        agent_ms=_quantiles(ms for result in results for ms in result.agent_ms),
        env_ms=_quantiles(ms for result in results for ms in result.env_ms),
        env_share=waits / (waits + acts) if waits + acts else math.nan,
        questions=sum(len(result.questions) for result in results),
        causes=_causes(results),
        abstention=_abstention(cell, results, resamples),
        gain=_gain(cell, results, resamples, closed_book or {}),
        reader_tokens=_reader_tokens(results),
        reader_cut_short=sum(result.reader_cut_short for result in results),
        sessions=mean_played(cell.docs, [result.sessions for result in results]),
    )


def interval(metric: str, cell: Cell, results: Sequence[EpisodeResult], resamples: int = RESAMPLES) -> Interval:
    """The mean of a metric over a cell's episodes, with its interval, clustered by item.

    The resampling is seeded by metric, environment and document count, not by the agent, so that agents that played the
    same items are resampled alike.
    """
    known = [result for result in sorted(results, key=lambda one: one.key) if getattr(result, metric) is not None]
    values = [float(getattr(result, metric)) for result in known]
    return _interval(metric, cell, values, [result.index for result in known], resamples)


def _interval(metric: str, cell: Cell, values: Sequence[float], clusters: Sequence[int], resamples: int) -> Interval:
    if not values:
        return Interval(math.nan, math.nan, math.nan)
    return bootstrap(values, clusters, (metric, cell.env, cell.docs), resamples)


def _abstention(cell: Cell, results: Sequence[EpisodeResult], resamples: int) -> dict[str, Interval]:
    """The ``ABSTENTION`` metrics, each over the questions that it concerns, clustered by item."""
    asked = [(result.index, question) for result in results for question in result.questions]
    if all(question.answerable for _, question in asked):
        return {}
    counted = {
        "em_answerable": [(index, one.em) for index, one in asked if one.answerable],
        "abstention_precision": [(index, float(not one.answerable)) for index, one in asked if one.abstained],
        "abstention_recall": [(index, float(one.abstained)) for index, one in asked if not one.answerable],
    }
    return {
        name: _interval(name, cell, [value for _, value in pairs], [index for index, _ in pairs], resamples)
        for name, pairs in counted.items()
    }


def _gain(
    cell: Cell, results: Sequence[EpisodeResult], resamples: int, asked: Mapping[QuestionKey, ClosedBook]
) -> dict[str, Interval]:
    """The ``GAIN`` metrics: means over episodes, except ``em_unknown``, which is a mean over questions."""
    if not any((cell.env, cell.docs, question.id) in asked for result in results for question in result.questions):
        return {}
    found: dict[str, list[tuple[int, float | None]]] = {
        "gain": [(result.index, gain(result, asked)) for result in results],
        "closed_book": [(result.index, closed_book_em(result, asked)) for result in results],
        "em_unknown": [(one.index, left.em) for one in results for left in unknown_questions(one, asked)],
    }
    known = {name: [(index, value) for index, value in pairs if value is not None] for name, pairs in found.items()}
    return {
        name: _interval(name, cell, [value for _, value in pairs], [index for index, _ in pairs], resamples)
        for name, pairs in known.items()
    }


def _reader_tokens(results: Sequence[EpisodeResult]) -> float | None:
    if not any(result.reader_calls for result in results):
        return None
    counted = [(result.reader_prompt_tokens, result.reader_completion_tokens) for result in results]
    tokens = [None if prompt is None or said is None else prompt + said for prompt, said in counted]
    return None if any(number is None for number in tokens) else fmean(number or 0 for number in tokens)


def _tokens(results: Sequence[EpisodeResult], tokens: Sequence[int | None]) -> float | None:
    if not any(result.calls for result in results) or any(number is None for number in tokens):
        return None
    return fmean(number or 0 for number in tokens)


def _quantiles(values: Iterable[float]) -> tuple[float, float]:
    known = list(values)
    return percentile(known, 50), percentile(known, 95)


def _causes(results: Sequence[EpisodeResult]) -> dict[str, int]:
    counts = Counter(question.cause for result in results for question in result.questions if question.cause)
    ordered = {cause: counts.pop(cause) for cause in CAUSES if cause in counts}
    # Causes of later versions of the traces are kept, after the known ones.
    return ordered | {str(cause): count for cause, count in sorted(counts.items())}
