"""The row that an episode leaves: small, complete for every table and plot, and a pure function of its trace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from atommem_gym.agents.playing import EpisodeRecord
from atommem_gym.errors import AtomMemError
from atommem_gym.evaluation.plan import Cell
from atommem_gym.scoring import is_abstention
from atommem_gym.traces.record import EpisodeTrace

VERSION = 1
"""Of the rows; any change of a field or of its meaning raises it."""


@dataclass(frozen=True, slots=True, order=True)
class EpisodeKey:
    """What tells the episodes of a plan apart."""

    env: str
    docs: int
    agent: str
    seed: int
    index: int
    shuffle_seed: int

    @property
    def cell(self) -> Cell:
        """The row of a table that it belongs to."""
        return Cell(self.env, self.docs, self.agent)


@dataclass(frozen=True, slots=True)
class QuestionResult:
    """What became of a question."""

    id: str
    type: str
    em: float
    f1: float
    closed: str
    """``answered``, ``read_limit``, ``unanswered``, ``not_erased`` or ``unscored``."""
    cause: str | None
    """Why it failed, ``None`` if it did not (``atommem_gym.traces.failure_causes``)."""
    answerable: bool = True
    """Whether it has an answer (SPEC R5)."""
    abstained: bool = False
    """Whether the answer was an abstention; counted where questions may have no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EpisodeResult:
    """One finished episode."""

    env: str
    """Label of the environment, as in the plan; so is the agent's."""
    docs: int
    agent: str
    seed: int
    index: int
    shuffle_seed: int
    item: str
    reward: float
    em: float | None
    """Mean over the episode's questions, ``None`` where none counts (SPEC R5); so is ``f1``."""
    f1: float | None
    questions: tuple[QuestionResult, ...]
    operations: Mapping[str, int]
    """Executed operations by kind."""
    rejected: Mapping[str, int]
    """Rejected and cut operations by reason."""
    peak_entries: int
    final_entries: int
    evidence_recall: float | None
    """By the lenient heuristic (SPEC E12); ``None`` where no question names evidence, so is the exact one."""
    evidence_recall_exact: float | None
    steps: int
    truncated: bool
    calls: int
    """Calls of a language model."""
    prompt_tokens: int | None
    """``None`` if the model did not report them; so are the completion's."""
    completion_tokens: int | None
    cut_short: int
    """Completions that ended at their token limit."""
    only_reasoning: int
    """Steps in which the model wrote no text, and its server put everything into the reasoning."""
    cut_prompts: int
    """Steps in which the model was not shown everything, since its context was too small."""
    retries: int
    """Calls of the model that failed and were repeated."""
    agent_ms: tuple[float, ...]
    """Milliseconds of each step until the agent had decided."""
    env_ms: tuple[float, ...]
    """Milliseconds of each step until the environment had answered, waiting for its turn included."""
    seconds: float
    """From the reset's return to the end."""
    sessions: int = 0
    """Documents of the episode, where they are not those that the plan counts."""
    reader_calls: int = 0
    """Of a frozen reader (SPEC E13), apart from those of the agent."""
    reader_prompt_tokens: int | None = 0
    """``None`` if the reader did not report them; so are the completion's."""
    reader_completion_tokens: int | None = 0
    reader_ms: float = 0.0
    """Milliseconds of all its calls; they are in those of the environment, too."""
    reader_cut_short: int = 0
    """Its answers that ended at their token limit."""

    @property
    def key(self) -> EpisodeKey:
        """What tells it apart from the plan's other episodes."""
        return EpisodeKey(self.env, self.docs, self.agent, self.seed, self.index, self.shuffle_seed)

    @classmethod
    def from_trace(cls, trace: EpisodeTrace, cell: Cell) -> EpisodeResult:
        """The row of a trace.

        Args:
            trace: A finished episode.
            cell: The row of a table that it belongs to.
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
        """JSON values, from which :meth:`from_values` makes an equal row."""
        values = {"version": VERSION, **asdict(self)}
        if not self.only_reasoning:
            # As rows were before it was counted.
            del values["only_reasoning"]
        if not self.sessions:
            del values["sessions"]
        if not self.reader_calls:
            for name in _OF_READER:
                del values[name]
        for question in values["questions"]:
            if question["answerable"] and not question["abstained"]:
                # As rows were before there were questions without an answer.
                del question["answerable"], question["abstained"]
        return values

    @classmethod
    def from_values(cls, values: Mapping[str, Any], where: str = "the row") -> EpisodeResult:
        """The row of what :meth:`to_values` gave.

        Raises:
            AtomMemError: it is of another version, or damaged.
        """
        parts = dict(values)
        version = parts.pop("version", None)
        if version != VERSION:
            raise AtomMemError(
                f"{where} is of version {version!r} and this package reads {VERSION}; play it again, or use the "
                "package that wrote it"
            )
        parts.setdefault("only_reasoning", 0)
        parts.setdefault("sessions", 0)
        if not parts.keys() & _OF_READER:
            parts |= dict.fromkeys(_OF_READER, 0)
        names = {field.name for field in fields(cls)}
        if parts.keys() != names:
            raise AtomMemError(f"{where} is damaged: its fields {sorted(parts.keys() ^ names)} are missing or unknown")
        for name in ("agent_ms", "env_ms"):
            parts[name] = tuple(parts[name])
        parts["questions"] = tuple(QuestionResult(**question) for question in parts["questions"])
        return cls(**parts)


@dataclass(frozen=True, slots=True)
class FailedEpisode:
    """One episode that could not be played to its end; it has no score, and `--resume` plays it again."""

    env: str
    docs: int
    agent: str
    seed: int
    index: int
    shuffle_seed: int
    steps: int
    """Steps before it failed."""
    error: str
    """The exception's class."""
    message: str
    at: str
    """ISO 8601, UTC."""
    traceback: str = ""
    """Where it was raised, for whoever mends it."""
    bug: bool = False
    """Whether it is none of this package's own errors, and so a programming error."""

    @property
    def key(self) -> EpisodeKey:
        """What tells it apart from the plan's other episodes."""
        return EpisodeKey(self.env, self.docs, self.agent, self.seed, self.index, self.shuffle_seed)


_OF_READER = frozenset(field.name for field in fields(EpisodeResult) if field.name.startswith("reader_"))
"""Left out of the row where no reader was called, as rows were before there were any."""
_OF_RECORD = tuple(
    field.name
    for field in fields(EpisodeRecord)
    # Rows have the agent's label, rejections by reason, the time of every step, and questions of their own.
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
    """The sum, ``None`` if one of the numbers is not known."""
    values = list(numbers)
    return None if any(value is None for value in values) else sum(values)
