"""What ``atommem counterfactual --json`` writes, and the strict reader of it: a file may come from anywhere."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from atommem_gym.errors import counted, reason_of
from atommem_gym.files.strict_json import strict_json
from atommem_gym.traces.codec import MOST_SHOWN, plain, to_json
from atommem_gym.traces.counterfactual import Counterfactual, Ending
from atommem_gym.traces.record import EpisodeTrace, Json, TraceError, TracePart

VERSION = 1
"""Of the files; any change of a field or of its meaning raises it."""
MOST_BYTES = 8 << 20
"""The size of the largest file that is read: some 8,000 operations. Its JSON takes some thirty times as much memory."""
RECORDED = "recorded"
"""The continuation of the recorded actions."""
_MOST_EPISODE = 10**9
_AGAIN = "write it with: atommem counterfactual TRACES --episode N --json"


class AnswerPart(TracePart, frozen=True):
    """What a question got."""

    id: str
    answer: str
    score: float


class EndingPart(TracePart, frozen=True):
    """How a branch ended, see :class:`~atommem_gym.traces.counterfactual.Ending`."""

    reward: float | None
    steps: int
    answers: tuple[AnswerPart, ...]
    unknown: str


class OperationPart(TracePart, frozen=True):
    """One operation, see :class:`~atommem_gym.traces.counterfactual.Counterfactual`."""

    step: int
    operation: int
    kind: str
    text: str | None
    id: int | None
    entry_id: int | None
    outcome: str
    change: dict[str, str | int] | None
    kept: EndingPart
    other: EndingPart
    difference: float | None


class CounterfactualFile(TracePart, frozen=True):
    """The operations of one episode, and what each was worth."""

    version: int
    trace: str
    """Identifies the episode, see :func:`fingerprint`."""
    episode: int
    """Its number in the file of traces, from 0."""
    item: str
    env: str
    agent: str
    reward: float
    continuation: str
    """Who went on in the branches: ``RECORDED``, or a scripted agent."""
    operations: tuple[OperationPart, ...]


def fingerprint(trace: EpisodeTrace) -> str:
    """What tells an episode from others: who played what where, each action, and what it earned.

    It stays the same where the record is written in another format, scored again, or shown in another file.

    >>> from atommem_gym.traces.examples import example_trace
    >>> fingerprint(example_trace())[:7], len(fingerprint(example_trace()))
    ('sha256:', 71)
    """
    values = [
        to_json(trace.env),
        trace.agent.name,
        [trace.item, trace.index, trace.shuffle_seed, trace.seed],
        [[plain(step.action), float(step.reward)] for step in trace.steps],
    ]
    text = json.dumps(values, ensure_ascii=True, sort_keys=True, separators=(",", ":"))
    return f"sha256:{hashlib.sha256(text.encode('ascii')).hexdigest()}"


def counterfactual_json(
    trace: EpisodeTrace, number: int, continuation: str, found: Iterable[Counterfactual]
) -> dict[str, Json]:
    """What a file holds, as JSON values.

    Args:
        trace: The episode.
        number: Its number in its file.
        continuation: Who went on in the branches.
        found: What the operations were worth.
    """
    operations = tuple(
        OperationPart(
            *(one.step, one.operation, one.kind, one.text, one.id, one.entry_id, one.outcome),
            None if one.change is None else dict(one.change),
            *(_ending(one.kept), _ending(one.other), one.difference),
        )
        for one in found
    )
    played = (number, trace.item, trace.env.id, trace.agent.name, trace.reward)
    values: dict[str, Json] = to_json(
        CounterfactualFile(VERSION, fingerprint(trace), *played, continuation, operations)
    )
    return values


def _ending(ending: Ending) -> EndingPart:
    answers = tuple(AnswerPart(*one) for one in ending.answers)
    return EndingPart(ending.reward, ending.steps, answers, ending.unknown)


def read_counterfactuals(path: Path) -> CounterfactualFile:
    """The file at a path, checked as far as it can be without its episode, see :func:`check_episode`.

    Raises:
        TraceError: it cannot be read, or is not what ``atommem counterfactual --json`` writes.
    """
    value = _json(path)
    if not isinstance(value, dict) or "version" not in value or "operations" not in value:
        raise TraceError(f"{path} holds no counterfactual values (it has no version and operations); {_AGAIN}")
    if type(value["version"]) is not int or value["version"] != VERSION:
        raise TraceError(
            f"{path} has version {repr(value['version'])[:20]}, this package reads {VERSION}; install the release of "
            f"atommem-gym that wrote it, or {_AGAIN}"
        )
    try:
        found = msgspec.convert(value, CounterfactualFile)
    except (msgspec.ValidationError, OverflowError, RecursionError, UnicodeEncodeError) as error:
        raise TraceError(
            f"{path} does not hold counterfactual values of version {VERSION}: {str(error)[:MOST_SHOWN]}; {_AGAIN}"
        ) from None
    _check_values(found, path)
    return found


def _json(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise TraceError(f"{path} cannot be read ({reason_of(error)}); {_AGAIN}") from None
    if len(data) > MOST_BYTES:
        raise TraceError(f"{path} has more than {MOST_BYTES >> 20} MiB; ask about fewer operations with --step N")
    try:
        return strict_json(data)
    except ValueError as error:
        raise TraceError(f"{path} is not JSON ({str(error)[:MOST_SHOWN]}); {_AGAIN}") from None


def _check_values(found: CounterfactualFile, path: Path) -> None:
    """Refuse numbers that no file of ours holds."""

    def refuse(what: str) -> NoReturn:
        raise TraceError(f"{path} is damaged: {what[:MOST_SHOWN]}; {_AGAIN}")

    if not 0 <= found.episode <= _MOST_EPISODE:
        refuse(f"episode {found.episode} is not the number of an episode")
    named = set()
    for one in found.operations:
        place = f"step {one.step}, operation {one.operation}"
        key = (one.step, one.operation)
        if key in named:
            refuse(f"{place} occurs twice")
        named.add(key)
        for name, ending in (("kept", one.kept), ("other", one.other)):
            if ending.steps < one.step:
                refuse(f"{place}: {name} ends after {counted(ending.steps, 'step')}, before the operation")
            if (ending.reward is None) != bool(ending.unknown):
                refuse(f"{place}: {name} must have either a reward or a reason why there is none")
        kept, other = one.kept.reward, one.other.reward
        difference = None if kept is None or other is None else kept - other
        if difference is not None and math.isinf(difference):
            refuse(f"{place}: kept minus other is not finite")
        if one.difference != difference:
            refuse(f"{place}: difference {one.difference} is not kept minus other, {difference}")


def check_episode(found: CounterfactualFile, trace: EpisodeTrace, path: Path) -> None:
    """Check that a file is about this episode: its fingerprint is the same, and it names operations that are there.

    Raises:
        TraceError: it is about another one, or was changed.
    """

    def refuse(what: str) -> NoReturn:
        raise TraceError(f"{path} does not fit its episode: {what[:MOST_SHOWN]}; {_AGAIN}")

    if found.trace != fingerprint(trace):
        refuse(f"it is about another episode than item {trace.item!r} of {trace.agent.name}")
    for name, told, recorded in (
        ("item", found.item, trace.item),
        ("env", found.env, trace.env.id),
        ("agent", found.agent, trace.agent.name),
        ("reward", found.reward, trace.reward),
    ):
        if told != recorded:
            refuse(f"{name} is {told!r}, in the record it is {recorded!r}")
    recorded_operations = {
        (number, one.position): one
        for number, step in enumerate(trace.steps, 1)
        for one in step.operations
        if one.position
    }
    questions = [question.id for question in trace.questions]
    for one in found.operations:
        place = f"step {one.step}, operation {one.operation}"
        held = recorded_operations.get((one.step, one.operation))
        if held is None:
            refuse(f"the episode has no {place}")
        said = held.query if held.text is None else held.text
        if (one.kind, one.text, one.id, one.entry_id, one.outcome) != (
            *(held.kind, said, held.id, held.entry_id, held.outcome),
        ):
            refuse(f"{place} is another operation in the record: {held.kind}, {held.outcome}")
        if found.continuation == RECORDED and one.kept.reward != trace.reward:
            refuse(f"{place}: kept has reward {one.kept.reward}, in the record it is {trace.reward}")
        for ending in (one.kept, one.other):
            if ending.answers and [answer.id for answer in ending.answers] != questions:
                refuse(f"{place} answers other questions than the episode")
