"""The types of an episode: phases, state, a step that is decided but not applied, and the result of a step."""

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
    """An entry in the result of a read."""

    id: int
    text: str
    score: float
    """Cosine similarity to the query."""


@dataclass(frozen=True, slots=True)
class OperationReport:
    """A rejected or cut operation (SPEC M11)."""

    operation: str
    """The kind of the operation, or ``action``."""
    position: int
    """Place in the action, counted from 1; 0 means the action as a whole."""
    reason: str
    """A stable code, one of ``REASONS``."""
    detail: str
    """The reason in words."""
    written: str = ""
    """The dialect's name of the operation, if it differs from ``operation``."""

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
"""The reasons with which the operation was still executed, with a shortened text."""
WHOLE_ACTION = "action"
"""The kind in a report about the whole action."""
Became = Literal["applied", "cut", "rejected"]


class OperationOutcome(NamedTuple):
    """The result of one operation of an action, from which all reports, traces and credits are made."""

    position: int
    """Place in the action, counted from 1; 0 means the action as a whole."""
    operation: Operation | Invalid | None
    """The operation as written; ``None`` if this is about the action as a whole."""
    applied: bool
    """Whether it was executed, perhaps with a shortened text."""
    entry_id: int | None = None
    """The entry that was created, updated or deleted."""
    reports: tuple[OperationReport, ...] = ()
    """Why it was rejected, or what was cut; empty if it was executed as written."""
    stored: str | None = None
    """The text of the entry after the operation, cut to its limit; ``None`` if the entry does not exist."""
    replaced: int | None = None
    """The entry that this one replaces (``preset="released"``)."""

    @property
    def kind(self) -> str:
        """The kind of the operation; without an operation, that of its report."""
        return self.reports[0].operation if self.operation is None else self.operation.kind

    @property
    def became(self) -> Became:
        """``applied``, ``cut`` or ``rejected``."""
        return ("cut" if self.reports else "applied") if self.applied else "rejected"


@dataclass(frozen=True, slots=True)
class Closing:
    """How a question was closed."""

    how: str
    """``answered``, ``read_limit``, ``unanswered`` (the episode ended first), ``not_erased`` (answered while memory
    kept an erased code, SPEC D9), or ``unscored`` (``preset="released"``: one of several answers in an action; in the
    dialect ``released`` also an answer without a box to a question without an answer)."""
    answer: str = ""
    """The answer; empty if there was none."""
    score: float = 0.0
    """The score, in [0, 1]."""


class Past(Protocol):
    """What a recorder or a ledger knows about a running episode; forks and snapshots take it along (SPEC M14)."""

    def branch(self) -> Past:
        """The picklable past of a fork that is made now."""
        ...


class Intervention(Protocol):
    """Changes the operations of actions in a fork, for counterfactuals."""

    def operations(self, said: list[Operation | Invalid]) -> list[Operation | Invalid]:
        """The operations to execute instead of those of an action."""
        ...

    def addressed(self, step: Step, position: int, operation: Update | Delete) -> int | None:
        """The id of the entry that an operation refers to, live or not; ``None`` if there never was such an entry."""
        ...


@dataclass(slots=True)
class EpisodeState:
    """Everything that changes during an episode; picklable (SPEC M14)."""

    memory: Memory
    """The memory."""
    chunk: int = 0
    """Chunks that are done; while reading, the index of the current chunk."""
    steps: int = 0
    """Steps taken."""
    reads: int = 0
    """Reads executed for the open question (``preset="released"``: consecutive reads)."""
    query: str = ""
    """The query whose result the current observation shows."""
    shown: tuple[Shown, ...] = ()
    """The result of the last read, best first."""
    addressable: tuple[int, ...] = ()
    """Ids that the read found, best first; those in ``shown`` and, under ``preset="released"``, also cut ones."""
    feedback: tuple[str, ...] = ()
    """The lines of feedback in the current observation."""
    closings: list[Closing] = field(default_factory=list)
    """How each closed question was closed, in order."""
    applied: Counter[str] = field(default_factory=Counter)
    """Executed operations by kind."""
    rejected: int = 0
    """Number of reports: rejected and cut operations."""
    peak_entries: int = 0
    """Most live entries at any time."""
    found: set[tuple[int, int]] = field(default_factory=set)
    """(question, evidence) pairs seen while answering, exactly or by the lenient heuristic."""
    found_exactly: set[tuple[int, int]] = field(default_factory=set)
    """(question, evidence) pairs seen exactly."""
    recall_gained: float = 0.0
    """The increase of the evidence recall in the last step."""
    over: bool = False
    """Whether the episode has ended."""
    reader: ReaderCosts = field(default_factory=ReaderCosts)
    """The costs of the frozen reader, if there is one (SPEC E13)."""

    def copy(self) -> EpisodeState:
        """A copy that can be changed independently; immutable parts are shared."""
        # By hand, since forks need it: ``dataclasses.replace`` and ``Counter.copy`` cost more than all the rest.
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
    """What an action will do when its texts are embedded and its entries stored."""

    draft: Draft
    """The changes of the memory."""
    query: str = ""
    """The query to search after the writes; empty if there is none."""
    requests: list[ScoreRequest] = field(default_factory=list)
    """The answers to score, in the order of the ``closings`` that are ``answered``."""
    closings: list[Closing] = field(default_factory=list)
    """How the step closes questions, in order."""
    unread: dict[int, ReadRequest] = field(default_factory=dict)
    """What a frozen reader must answer before the answers are scored, by index in ``requests`` (SPEC E13)."""
    readings: tuple[Reading, ...] = ()
    """The reader's answers, in the order of ``unread``."""
    operations: list[Operation | Invalid] = field(default_factory=list)
    """The operations of the action, as parsed."""
    outcomes: list[OperationOutcome] = field(default_factory=list)
    """The result of each operation, in the order in which they are written."""
    applied: dict[str, int] = field(default_factory=dict)
    """Executed operations by kind; :meth:`note` keeps these counts, the reports and the feedback."""
    reports: list[OperationReport] = field(default_factory=list)
    """Reports of rejected and cut operations."""
    feedback: list[str] = field(default_factory=list)
    """Lines of feedback for the next observation."""
    reads: int = 0
    """Executed reads of the question that is open after the step."""
    wrote: bool = False
    """Whether the action has a create or a well-formed update, which ``advance="on_write"`` requires."""
    names: Mapping[str, str] = field(default_factory=dict)
    """The dialect's names of operations, where they differ."""
    opening: bool = False
    """Whether this is the step before the first observation."""

    def note(self, position: int, operation: Operation | Invalid | None, outcome: Outcome) -> None:
        """Record the outcome of an operation, or of the action as a whole (``None``, position 0).

        All counts, reports and feedback are made here: an executed create is confirmed with its id, and everything that
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
        """Use the frozen reader's answers, one for each of ``unread``, as the predictions of their requests."""
        self.readings = tuple(readings)
        for place, reading in zip(self.unread, self.readings, strict=True):
            self.requests[place] = replace(self.requests[place], prediction=reading.answer)

    def reject(self, position: int, operation: Operation | Invalid, reason: str, detail: str) -> None:
        """Record that an operation is rejected."""
        self.note(position, operation, Outcome(False, reason=reason, detail=detail))

    def report_part(self, entry_id: int | None, detail: str) -> None:
        """Report that the text of an entry, or the query (``None``), was embedded in part (SPEC M18).

        An entry that no operation of this step wrote is not reported. A query that is older than this step
        has the position 0.
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
        """Whether an operation wrote the text of this entry, or (``None``) set the query that is searched."""
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
    """The result of Gymnasium's ``step``."""

    observation: Observation
    """The next observation (SPEC E10)."""
    reward: float
    """The reward."""
    terminated: bool
    """Whether all questions are closed (SPEC E6)."""
    truncated: bool
    """Whether the step limit ended the episode (SPEC E6)."""
    info: dict[str, Any]
    """See SPEC E11."""
