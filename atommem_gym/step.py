"""The words of an episode: its phases, its state, a step that is decided but not done, and what a step returns."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias

from atommem_gym.actions import Create, Delete, Invalid, Operation, Read, Update
from atommem_gym.memory.memory import Draft, Memory, Outcome
from atommem_gym.readers.protocol import ReaderCosts, Reading, ReadRequest
from atommem_gym.scoring import ScoreRequest

Observation: TypeAlias = dict[str, Any]


class Phase(IntEnum):
    """Reading while chunks remain, then answering, one question after the other."""

    READING = 0
    ANSWERING = 1


class Shown(NamedTuple):
    """An entry as a read shows it."""

    id: int
    text: str
    score: float
    """Cosine similarity to the query."""


@dataclass(frozen=True, slots=True)
class OperationReport:
    """A rejected or cut operation (SPEC M11)."""

    operation: str
    position: int
    """Place in the action, counted from 1; 0 means the action as a whole."""
    reason: str
    """A stable code, see ``REASONS``."""
    detail: str
    written: str = ""
    """What the dialect calls the operation, if not ``operation``."""

    @property
    def line(self) -> str:
        """The line of feedback."""
        what = "cut" if self.reason in CUTS else "rejected"
        where = f"operation {self.position} ({self.written or self.operation})" if self.position else self.operation
        return f"{where} {what}: {self.reason}: {self.detail}"


REASONS: dict[str, str] = {
    "too_long": "the action was longer than max_action_chars; it was cut there",
    "cut": "the text was longer than its limit; it was cut to it and the operation executed",
    "embedded_in_part": "the embedder reads less than the text, which is kept whole but found by its beginning alone",
    "empty": "the operation has no text (an answer may have none)",
    "unclosed": "the tag is never closed",
    "unknown_tag": "the tag is a misspelling of a known one, or the function is unknown",
    "bad_id": "the id is missing or no integer",
    "bad_json": "the tool call is no valid JSON call",
    "disabled": "the operation is switched off in this environment",
    "unknown_id": "no live entry has this id",
    "not_visible": "with addressing='visible', the entry is not shown in the current observation",
    "memory_full": "max_entries are stored",
    "not_yet": "an answer before the last chunk was read, with early_answer=False",
    "question_closed": "this action has closed a question already",
    "read_limit": "the read would exceed max_reads_per_question; it closed the question unanswered",
    "conflict": "in a team, another agent changed this entry in the same step and came first",
    "aborted": "preset='released': an earlier malformed operation ended the action",
}
"""Every reason code of ``info["rejected"]``, with its meaning."""
CUTS = ("too_long", "cut", "embedded_in_part")
"""The reasons that do not reject: the operation was executed."""
WHOLE_ACTION = "action"
"""The kind of a report that is about the action and not about one of its operations."""
Became = Literal["applied", "cut", "rejected"]


class OperationOutcome(NamedTuple):
    """What became of one operation of an action: decided by the episode, and read by everything that tells of it."""

    position: int
    """Place in the action, counted from 1; 0 means the action as a whole."""
    operation: Operation | Invalid | None
    """As it was written; ``None`` if this is about the action as a whole."""
    applied: bool
    """Whether it was executed, with its text cut or not."""
    entry_id: int | None = None
    """The entry that was created, updated or deleted."""
    reports: tuple[OperationReport, ...] = ()
    """Why it was rejected, or what was cut; empty if it was executed as it stands."""
    stored: str | None = None
    """The text of the entry after the operation, cut to its limit; ``None`` if there is no such entry any more."""
    replaced: int | None = None
    """The entry in whose place this one was written (``preset="released"``)."""

    @property
    def kind(self) -> str:
        """The operation's name; what a report is about, if it is none of the action's operations."""
        return self.reports[0].operation if self.operation is None else self.operation.kind

    @property
    def became(self) -> Became:
        """In a word."""
        return ("cut" if self.reports else "applied") if self.applied else "rejected"


@dataclass(frozen=True, slots=True)
class Closing:
    """How a question was closed."""

    how: str
    """``answered``, ``read_limit``, ``unanswered`` (the episode ended first), ``not_erased`` (answered while memory
    kept what was to be erased, SPEC D9), or ``unscored`` (``preset="released"``: one of several answers in an action,
    or in its dialect one without a box to a question that has no answer)."""
    answer: str = ""
    score: float = 0.0


class Past(Protocol):
    """What a recorder or a ledger has noted of a running episode; forks and snapshots take it along (SPEC M14)."""

    def branch(self) -> Past:
        """What a fork that is made now takes along; picklable."""
        ...


class Intervention(Protocol):
    """Changes what actions do in a fork that asks what would have come of something else."""

    def operations(self, said: list[Operation | Invalid]) -> list[Operation | Invalid]:
        """What is executed in place of the operations of an action."""
        ...

    def addressed(self, step: Step, position: int, operation: Update | Delete) -> int | None:
        """The id of the entry that an operation means, alive or not; ``None`` if there never was such an entry."""
        ...


@dataclass(slots=True)
class EpisodeState:
    """All that changes during an episode; picklable (SPEC M14)."""

    memory: Memory
    chunk: int = 0
    """Chunks acted upon; the current chunk's index while reading."""
    steps: int = 0
    reads: int = 0
    """Executed reads of the open question (``preset="released"``: consecutive reads)."""
    query: str = ""
    """The query whose result the current observation shows."""
    shown: tuple[Shown, ...] = ()
    addressable: tuple[int, ...] = ()
    """Ids that the read returned, best first; ``shown`` unless whole entries were cut away."""
    feedback: tuple[str, ...] = ()
    closings: list[Closing] = field(default_factory=list)
    applied: Counter[str] = field(default_factory=Counter)
    rejected: int = 0
    peak_entries: int = 0
    found: set[tuple[int, int]] = field(default_factory=set)
    """(question, evidence) seen while answering, exactly or by the lenient heuristic."""
    found_exactly: set[tuple[int, int]] = field(default_factory=set)
    recall_gained: float = 0.0
    """How much the last step added to the evidence recall."""
    over: bool = False
    reader: ReaderCosts = field(default_factory=ReaderCosts)
    """What the frozen reader has cost, where one answers (SPEC E13)."""

    def copy(self) -> EpisodeState:
        """The same state, which can be changed on its own; what cannot change is shared."""
        # By hand, since a fork does it: ``dataclasses.replace`` and ``Counter.copy`` cost more than all the rest.
        twin = object.__new__(EpisodeState)
        for name in _FIELDS:
            setattr(twin, name, getattr(self, name))
        twin.memory = self.memory.copy()
        twin.closings = self.closings.copy()
        twin.applied = Counter()
        dict.update(twin.applied, self.applied)
        twin.found = self.found.copy()
        twin.found_exactly = self.found_exactly.copy()
        twin.reader = self.reader.copy()
        return twin


_FIELDS = tuple(field.name for field in fields(EpisodeState))


@dataclass(slots=True)
class Step:
    """What an action will do once its texts are embedded and its entries stored."""

    draft: Draft
    query: str = ""
    """To be searched after the writes; empty for none."""
    requests: list[ScoreRequest] = field(default_factory=list)
    """Answers to score, in the order of ``closings`` that are ``answered``."""
    closings: list[Closing] = field(default_factory=list)
    unread: dict[int, ReadRequest] = field(default_factory=dict)
    """What a frozen reader must answer before the answers are scored, by place in ``requests`` (SPEC E13)."""
    readings: tuple[Reading, ...] = ()
    """What it answered, in that order."""
    operations: list[Operation | Invalid] = field(default_factory=list)
    outcomes: list[OperationOutcome] = field(default_factory=list)
    """What was decided, one for each operation, in the order in which they are written."""
    applied: dict[str, int] = field(default_factory=dict)
    """How many operations of each kind are executed; :meth:`note` keeps these counts, the reports and the feedback."""
    reports: list[OperationReport] = field(default_factory=list)
    feedback: list[str] = field(default_factory=list)
    reads: int = 0
    wrote: bool = False
    """Holds a create or a well-formed update (what ``advance="on_write"`` waits for)."""
    names: Mapping[str, str] = field(default_factory=dict)
    """What the dialect calls the operations, where that differs."""
    opening: bool = False
    """The step that leads to the first observation."""

    def note(self, position: int, operation: Operation | Invalid | None, outcome: Outcome) -> None:
        """Note what became of an operation, or of the action as a whole (``None``, position 0).

        Every count, report and line of feedback comes from here: an executed create is confirmed with its id, and what
        was rejected or cut is reported (SPEC M11).
        """
        applied, entry_id, reason, detail, replaced = outcome
        kind = WHOLE_ACTION if operation is None else operation.kind
        if applied and operation is not None:
            self.applied[kind] = self.applied.get(kind, 0) + 1
            if kind == "create":
                self.feedback.append(f"created {entry_id}")
        reports: tuple[OperationReport, ...] = ()
        if reason is not None:
            reports = (OperationReport(kind, position, reason, detail, self.names.get(kind, "")),)
            self.reports += reports
            self.feedback.append(reports[0].line)
        entry = None if entry_id is None else self.draft.entry(entry_id)
        stored = None if entry is None else entry.text
        self.outcomes.append(OperationOutcome(position, operation, applied, entry_id, reports, stored, replaced))

    def take(self, readings: Sequence[Reading]) -> None:
        """Put the frozen reader's answers, one for each of ``unread``, where the policy gave none."""
        self.readings = tuple(readings)
        for place, reading in zip(self.unread, self.readings, strict=True):
            self.requests[place] = replace(self.requests[place], prediction=reading.answer)

    def reject(self, position: int, operation: Operation | Invalid, reason: str, detail: str) -> None:
        """Note that an operation is not executed."""
        self.note(position, operation, Outcome(False, reason=reason, detail=detail))

    def report_part(self, entry_id: int | None, detail: str) -> None:
        """Note that the text of an entry, or the query (``None``), was embedded in part (SPEC M18).

        An entry that no operation of this step wrote is left out. A query that was not read in this step, but stood
        before it, has the position 0.
        """
        for place in reversed(range(len(self.outcomes))):
            outcome = self.outcomes[place]
            if outcome.applied and self._embeds(outcome, entry_id):
                report = self._note_part(outcome.kind, outcome.position, detail)
                self.outcomes[place] = outcome._replace(reports=(*outcome.reports, report))
                return
        if entry_id is None:
            self.outcomes.append(OperationOutcome(0, None, True, None, (self._note_part("read", 0, detail),)))

    def _embeds(self, outcome: OperationOutcome, entry_id: int | None) -> bool:
        """Whether an operation wrote this entry's text, or (``None``) asked for the query that is searched."""
        if entry_id is None:
            return isinstance(outcome.operation, Read) and outcome.operation.query == self.query
        return isinstance(outcome.operation, (Create, Update)) and outcome.entry_id == entry_id

    def _note_part(self, kind: str, position: int, detail: str) -> OperationReport:
        report = OperationReport(kind, position, "embedded_in_part", detail, self.names.get(kind, ""))
        self.reports.append(report)
        self.feedback.append(report.line)
        return report


@dataclass(frozen=True, slots=True)
class StepResult:
    """What Gymnasium's ``step`` returns."""

    observation: Observation
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Any]
