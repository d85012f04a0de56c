"""The result of an episode: a small row with all that tables and plots need, computed from its trace alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, TypeVar

import msgspec

from atommem_gym.agents.playing import EpisodeRecord
from atommem_gym.errors import AtomMemError
from atommem_gym.evaluation.plan import Cell
from atommem_gym.scoring import is_abstention
from atommem_gym.traces.record import EpisodeTrace

T = TypeVar("T")

VERSION = 1
"""Version of the rows; any change of a field or of its meaning raises it."""
_MOST_SAID = 300
"""Most characters of a fault in a message, since a row may hold anything."""


def of_values(cls: type[T], values: Mapping[str, Any], where: str, remedy: str) -> T:
    """Make a dataclass of JSON values, each of which must have the type of its field.

    Args:
        cls: The dataclass.
        values: Its fields.
        where: Names the row in messages.
        remedy: What the user may do, for messages.

    Raises:
        AtomMemError: a field is missing, unknown or of another type.
    """
    unknown = sorted(values.keys() - {one.name for one in fields(cls)})  # type: ignore[arg-type]  # a dataclass
    try:
        made = msgspec.convert(values, cls)
    except (msgspec.ValidationError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise AtomMemError(f"{where} is damaged: {str(error)[:_MOST_SAID]}; {remedy}") from error
    if unknown:
        raise AtomMemError(f"{where} is damaged: its field {unknown[0][:_MOST_SAID]!r} is unknown; {remedy}")
    return made


@dataclass(frozen=True, slots=True, order=True)
class EpisodeKey:
    """Identifies an episode in its plan."""

    env: str
    """Label of the environment."""
    docs: int
    """Document count of the plan."""
    agent: str
    """Label of the agent."""
    seed: int
    """Seeds the agent."""
    index: int
    """Index of the item."""
    shuffle_seed: int
    """Seed of the item's layout."""

    @property
    def cell(self) -> Cell:
        """The cell that the episode belongs to."""
        return Cell(self.env, self.docs, self.agent)


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """The score of one question."""

    id: str
    """Id of the question."""
    type: str
    """Type of the question, as its record names it."""
    em: float
    """Exact match, 0 or 1."""
    f1: float
    """Token F1."""
    closed: str
    """How the question ended: ``answered``, ``read_limit``, ``unanswered``, ``not_erased`` or ``unscored``."""
    cause: str | None
    """Why it failed, ``None`` if it did not (``atommem_gym.traces.failure_causes``)."""
    answerable: bool = True
    """Whether the question has an answer (SPEC R5)."""
    abstained: bool = False
    """Whether the answer was an abstention; only where questions may have no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """One finished episode."""

    env: str
    """Label of the environment in the plan."""
    docs: int
    """Document count of the plan."""
    agent: str
    """Label of the agent in the plan."""
    seed: int
    """Seeds the agent."""
    index: int
    """Index of the item."""
    shuffle_seed: int
    """Seed of the item's layout."""
    item: str
    """Id of the item."""
    reward: float
    """The sum of all steps' rewards."""
    em: float | None
    """Exact match, mean over the questions that count; ``None`` if none counts (SPEC R5)."""
    f1: float | None
    """Token F1, mean over the same questions; ``None`` as ``em``."""
    questions: tuple[QuestionResult, ...]
    """The score of each question."""
    operations: Mapping[str, int]
    """Executed operations by kind."""
    rejected: Mapping[str, int]
    """Rejected and cut operations by reason."""
    peak_entries: int
    """Entries in memory, at their most."""
    final_entries: int
    """Entries in memory at the end."""
    evidence_recall: float | None
    """By the lenient heuristic (SPEC E12); ``None`` if no question names evidence."""
    evidence_recall_exact: float | None
    """By exact containment; ``None`` as ``evidence_recall``."""
    steps: int
    """Environment steps."""
    truncated: bool
    """Whether the episode ended at its step limit."""
    calls: int
    """Completions of the agent's language model."""
    prompt_tokens: int | None
    """Tokens of their prompts; ``None`` if unknown."""
    completion_tokens: int | None
    """Tokens of the completions; ``None`` if unknown."""
    cut_short: int
    """Completions that ended at their token limit."""
    only_reasoning: int
    """Steps in which the model wrote reasoning and no text."""
    cut_prompts: int
    """Steps in which something was dropped from the prompt to fit the model's context."""
    retries: int
    """Calls of the model that failed and were repeated."""
    agent_ms: tuple[float, ...]
    """Milliseconds of each step in the agent."""
    env_ms: tuple[float, ...]
    """Milliseconds of each step in the environment, waits for its turn included."""
    seconds: float
    """Seconds from the end of the reset to the end of the episode."""
    sessions: int = 0
    """Documents of the episode, if their number is not ``docs``; else 0."""
    reader_calls: int = 0
    """Calls of a frozen reader (SPEC E13); they are not in ``calls``."""
    reader_prompt_tokens: int | None = 0
    """Tokens of the reader's prompts; ``None`` if unknown."""
    reader_completion_tokens: int | None = 0
    """Tokens of the reader's replies; ``None`` if unknown."""
    reader_ms: float = 0.0
    """Milliseconds of the reader's calls; ``env_ms`` includes them."""
    reader_cut_short: int = 0
    """The reader's replies that ended at their token limit."""

    @property
    def key(self) -> EpisodeKey:
        """Identifies the episode in its plan."""
        return EpisodeKey(self.env, self.docs, self.agent, self.seed, self.index, self.shuffle_seed)

    @classmethod
    def from_trace(cls, trace: EpisodeTrace, cell: Cell) -> EpisodeResult:
        """The result of a traced episode.

        Args:
            trace: A finished episode.
            cell: The cell that it belongs to.
        """
        record = EpisodeRecord.from_trace(trace)
        completions = [completion for step in trace.steps for completion in step.completions]
        readings = [call for step in trace.steps for reading in step.reader for call in reading.completions]
        reasons = Counter(report["reason"] for step in trace.steps for report in step.info["rejected"])
        return cls(
            env=cell.env,
            docs=cell.docs,
            agent=cell.agent,
            **{name: getattr(record, name) for name in _OF_RECORD},
            questions=tuple(
                _question(answer, cause, "abstention_recall" in trace.metrics)
                for answer, cause in zip(trace.metrics["answers"], trace.causes, strict=True)
            ),
            rejected=dict(sorted(reasons.items())),
            calls=len(completions),
            prompt_tokens=_sum(completion.prompt_tokens for completion in completions),
            completion_tokens=_sum(completion.completion_tokens for completion in completions),
            cut_short=sum(completion.finish_reason == "length" for completion in completions),
            only_reasoning=sum(
                any(completion.reasoning.strip() for completion in step.completions) and not step.response.strip()
                for step in trace.steps
            ),
            cut_prompts=sum(bool(step.dropped) for step in trace.steps),
            retries=sum(completion.tries - 1 for completion in completions),
            agent_ms=tuple(round(1000 * step.seconds.agent, 3) for step in trace.steps),
            env_ms=tuple(round(1000 * step.seconds.env, 3) for step in trace.steps),
            seconds=round(trace.seconds, 4),
            sessions=0 if cell.docs == len(trace.documents) else len(trace.documents),
            reader_calls=len(readings),
            reader_prompt_tokens=_sum(call.prompt_tokens for call in readings),
            reader_completion_tokens=_sum(call.completion_tokens for call in readings),
            reader_ms=round(1000 * sum(call.seconds for call in readings), 3),
            reader_cut_short=sum(call.finish_reason == "length" for call in readings),
        )

    def to_values(self) -> dict[str, Any]:
        """The result as JSON values; :meth:`from_values` is the inverse."""
        values = {"version": VERSION, **asdict(self)}
        if not self.only_reasoning:
            # As in rows from before it was counted.
            del values["only_reasoning"]
        if not self.sessions:
            del values["sessions"]
        if not self.reader_calls:
            for name in _OF_READER:
                del values[name]
        for question in values["questions"]:
            if question["answerable"] and not question["abstained"]:
                # As in rows from before there were questions without an answer.
                del question["answerable"], question["abstained"]
        return values

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "the row") -> EpisodeResult:
        """Make a result of JSON values.

        Args:
            values: As :meth:`to_values` returns them.
            where: Names the row in messages.

        Raises:
            AtomMemError: the values are of another version or damaged.
        """
        parts = dict(values)
        version = parts.pop("version", None)
        if type(version) is not int or version != VERSION:
            raise AtomMemError(
                f"{where} is of version {version!r:.40} and this package reads {VERSION}; play it again, or use the "
                "package that wrote it"
            )
        parts.setdefault("only_reasoning", 0)
        parts.setdefault("sessions", 0)
        if not parts.keys() & _OF_READER:
            parts |= dict.fromkeys(_OF_READER, 0)
        return of_values(cls, parts, where, "remove the line to play its episode again")


@dataclass(frozen=True, slots=True)
class FailedEpisode:
    """One episode that could not be played to its end; it has no score, and `--resume` plays it again."""

    env: str
    """Label of the environment in the plan."""
    docs: int
    """Document count of the plan."""
    agent: str
    """Label of the agent in the plan."""
    seed: int
    """Seeds the agent."""
    index: int
    """Index of the item."""
    shuffle_seed: int
    """Seed of the item's layout."""
    steps: int
    """Steps before the failure."""
    error: str
    """Class of the exception."""
    message: str
    """Message of the exception, with secrets masked."""
    at: str
    """Time of the failure, ISO 8601, UTC."""
    traceback: str = ""
    """Traceback of the exception, with secrets masked."""
    bug: bool = False
    """Whether the exception is not an ``AtomMemError``, and so probably a bug."""

    @property
    def key(self) -> EpisodeKey:
        """Identifies the episode in its plan."""
        return EpisodeKey(self.env, self.docs, self.agent, self.seed, self.index, self.shuffle_seed)


_OF_READER = frozenset(field.name for field in fields(EpisodeResult) if field.name.startswith("reader_"))
"""Fields that are left out of the JSON values if no reader was called, as in rows from before there were readers."""
_OF_RECORD = tuple(
    field.name
    for field in fields(EpisodeRecord)
    # Results have these in another form: the agent's label, rejections by reason, times per step, questions.
    if field.name not in ("agent", "rejected", "agent_ms", "env_ms", "answers")
)


def _question(answer: Mapping[str, Any], cause: str | None, may_abstain: bool) -> QuestionResult:
    abstained = may_abstain and answer["closed"] == "answered" and is_abstention(answer["answer"])
    return QuestionResult(
        answer["id"],
        answer["type"],
        answer["em"],
        answer["f1"],
        answer["closed"],
        cause,
        answer.get("answerable", True),
        abstained,
    )


def _sum(numbers: Any) -> int | None:
    """The sum; ``None`` if one of the numbers is unknown."""
    values = list(numbers)
    return None if any(value is None for value in values) else sum(values)
