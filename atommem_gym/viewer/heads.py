"""The few fields of a record that a row of the list needs: what lies between them is skipped, not decoded."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from atommem_gym.traces.codec import loads, to_json
from atommem_gym.traces.record import READ_VERSIONS, AgentTrace, BranchTrace, EnvTrace, Rescore
from atommem_gym.viewer.summary import Trace


class _Completion(Struct):
    prompt_tokens: int | None
    completion_tokens: int | None


class _Step(Struct):
    truncated: bool
    completions: tuple[_Completion, ...] = ()


class _Question(Struct):
    question: str
    answer: str
    aliases: tuple[str, ...]


class _Head(Struct):
    version: int
    env: EnvTrace
    agent: AgentTrace
    seed: int
    index: int
    shuffle_seed: int
    item: str
    documents: tuple[str, ...]
    seconds: float
    questions: tuple[_Question, ...]
    steps: tuple[_Step, ...]
    metrics: dict[str, Any]
    causes: tuple[str | None, ...]
    reward: float
    rescores: tuple[Rescore, ...] = ()
    id: str | None = None
    branch: BranchTrace | None = None


_DECODER = msgspec.json.Decoder(_Head)


def head(line: bytes, where: str) -> Trace:
    """Those fields of a record, as JSON values.

    A line that they cannot be had from so is read as a whole, which says what is wrong with it: half a surrogate pair
    in a text is not, an unknown version is.

    Args:
        line: The record.
        where: File and place, for messages.

    Raises:
        TraceError: it is no record.
    """
    try:
        found = _DECODER.decode(line)
    except (msgspec.MsgspecError, RecursionError):
        found = None
    values: Trace = to_json(loads(line, where) if found is None or found.version not in READ_VERSIONS else found)
    return values
