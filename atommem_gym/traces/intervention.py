"""Plays recorded actions in a branch with one operation left out or changed; ids keep the entries they meant."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from atommem_gym.actions import KINDS, Delete, Invalid, Operation, Update
from atommem_gym.actions.operations import MAX_ID_DIGITS, operation
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, check_integer, suggestion
from atommem_gym.step import OperationOutcome, Step
from atommem_gym.traces.record import EpisodeTrace, Json, OperationTrace, TraceError

_FIELDS: Mapping[str, tuple[str, ...]] = {
    "create": ("text",),
    "read": ("query",),
    "update": ("id", "text"),
    "delete": ("id",),
    "scratchpad": ("text",),
    "answer": ("text",),
}
"""The fields of each kind of operation, with their names in traces."""


@dataclass(frozen=True, slots=True)
class Edit:
    """One operation of a trace, to be left out or changed."""

    step: int
    """The step, from 1."""
    operation: int
    """Its position in the action, from 1."""
    change: Mapping[str, Json] | None = None
    """New values of fields of the operation: ``kind``, ``text``, ``query``, ``id``; ``None`` leaves it out."""


@dataclass(frozen=True, slots=True)
class PlayedStep:
    """What the trace does not hold of a step, found when the step was replayed."""

    addressable: tuple[int, ...]
    """Ids that the observation showed, best first."""
    next_id: int
    """The next id of the memory before the step."""
    outcomes: Mapping[int, OperationOutcome]
    """The results of the operations, by position from 1."""


def recorded_operation(trace: EpisodeTrace, edit: Edit) -> OperationTrace:
    """The operation of a trace that an edit names.

    Raises:
        TraceError: there is no such operation.
    """
    steps = len(trace.steps)
    if not 1 <= edit.step <= steps:
        raise TraceError(f"the episode has no step {edit.step}; its steps are 1 to {steps}")
    named = {one.position: one for one in trace.steps[edit.step - 1].operations if one.position}
    if edit.operation not in named:
        some = [one.step for one in all_operations(trace)]
        held = f"its operations are 1 to {max(named)}" if named else "its action has none"
        others = f"; the steps with operations are {_listed(some)}" if some and not named else ""
        raise TraceError(f"step {edit.step} has no operation {edit.operation}: {held}{others}")
    return named[edit.operation]


def all_operations(trace: EpisodeTrace) -> list[Edit]:
    """An edit that leaves out each operation of a trace, one per operation."""
    return [
        Edit(number, one.position)
        for number, step in enumerate(trace.steps, 1)
        for one in step.operations
        if one.position
    ]


def changed(recorded: OperationTrace, change: Mapping[str, Json]) -> Operation:
    """A recorded operation with new values in some fields.

    >>> changed(OperationTrace("create", 1, "applied", text="a fact"), {"text": "another"})
    Create(text='another')
    >>> changed(OperationTrace("create", 1, "applied", text="a fact"), {"kind": "update", "id": 3})
    Update(id=3, text='a fact')

    Raises:
        ConfigError: a field or kind does not exist, or a value is invalid or missing.
    """
    kind = change.get("kind", recorded.kind)
    if kind not in KINDS:
        raise ConfigError(f"change: kind {kind!r} is none of {', '.join(KINDS)}; {suggestion(str(kind), KINDS)}")
    fields = _FIELDS[kind]
    for name in change:
        if name != "kind" and name not in fields:
            raise ConfigError(f"change: {kind} has no {name!r}; its fields are kind, {', '.join(fields)}")
    values = {name: change.get(name, getattr(recorded, name)) for name in fields}
    for name, value in values.items():
        if value is None and name not in change:
            raise ConfigError(f"change: {kind} needs {name!r}, which this {recorded.kind} has not; give it, too")
        if name == "id":
            check_integer(f"change: id of {kind}", value, 1 - 10**MAX_ID_DIGITS, 10**MAX_ID_DIGITS - 1)
        if name != "id" and not isinstance(value, str):
            raise ConfigError(f"change: {name} {value!r} of {kind} must be a text")
    made = operation(kind, values.get("query", values.get("text", "")), values.get("id"))
    if isinstance(made, Invalid):
        raise ConfigError(f"change: {made.detail}; leave the operation out instead")
    return made


class RecordedActions:
    """An intervention that plays recorded actions in a branch, with one operation left out or changed.

    An update or delete refers to the same entry as in the trace, whatever its id in the branch: if a create is left
    out, the next one gets its id. If that entry does not exist or is not visible, the operation is rejected as usual.

    Args:
        episode: The episode of the branch, at the step at which it begins.
        played: All steps of the trace.
        first: The number of that step.
        position: The position of the operation, from 1; ``None`` changes nothing.
        other: The operation to execute in its place; ``None`` leaves it out.
    """

    def __init__(
        self,
        episode: Episode,
        played: Sequence[PlayedStep],
        first: int,
        position: int | None = None,
        other: Operation | None = None,
    ) -> None:
        self._episode = episode
        self._played = played
        self._number = first
        self._position = position
        self._other = other
        self._shared = played[first - 1].next_id
        """Ids below this one belong to the shared past."""
        self._ids: dict[int, int | None] = {}
        """Ids of later entries in the trace to their ids in the branch; ``None`` if it did not create them."""
        self._new = 0

    def operations(self, said: list[Operation | Invalid]) -> list[Operation | Invalid]:
        """The operations to execute in place of those of the recorded action."""
        self._new = self._episode.state.memory.next_id
        if self._position is None:
            return said
        return [*said[: self._position - 1], *([self._other] if self._other else []), *said[self._position :]]

    def addressed(self, step: Step, position: int, operation: Update | Delete) -> int | None:
        """The id in the branch of the entry that the operation refers to in the trace."""
        self._note(step.outcomes)
        named: int | None = operation.id
        if self._episode.config.dialect == "released":
            shown = self._played[self._number - 1].addressable
            named = shown[operation.id - 1] if 1 <= operation.id <= len(shown) else None
        return named if named is None or named < self._shared else self._ids.get(named)

    def took(self, outcomes: Sequence[OperationOutcome]) -> None:
        """Continue with the next recorded step.

        Args:
            outcomes: The results of this step's operations in the branch.
        """
        if self._number <= len(self._played):
            self._note(outcomes)
        self._number += 1
        self._position = self._other = None

    def _note(self, outcomes: Sequence[OperationOutcome]) -> None:
        """Note which entries of the branch correspond to those that the recorded step created."""
        recorded = self._played[self._number - 1]
        for outcome in outcomes:
            then = recorded.outcomes.get(self._recorded_position(outcome.position))
            if then is None or not then.applied or then.entry_id is None or then.entry_id < recorded.next_id:
                continue
            # The first operation that has a new entry's id is the one that created it.
            if then.entry_id not in self._ids:
                made = outcome.applied and outcome.entry_id is not None and outcome.entry_id >= self._new
                self._ids[then.entry_id] = outcome.entry_id if made else None

    def _recorded_position(self, position: int) -> int:
        """The position in the recorded action of an operation of the branch."""
        return position + (self._position is not None and self._other is None and position >= self._position)


def _listed(numbers: Sequence[int], most: int = 12) -> str:
    """The first ``most`` different numbers, separated by commas.

    >>> _listed([1, 1, 2, 4], most=2)
    '1, 2, …'
    """
    different = list(dict.fromkeys(numbers))
    return ", ".join(map(str, different[:most])) + (", …" if len(different) > most else "")
