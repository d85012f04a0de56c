"""The protocol of frozen readers: questions with memories in, answers and costs out (SPEC E13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from atommem_gym.records.record import Record

POLICY = "policy"
"""The value of ``reader=`` for which the policy answers by itself."""

Seen: TypeAlias = tuple[int, str, float]
"""Id, text and score of an entry as a read shows it."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A question that the policy closed with an empty answer, and the memories and scratchpad in sight then."""

    question: Record
    """The record of the question. PRIVILEGED: readers other than the oracle look only at its ``question``."""
    memories: tuple[Seen, ...] = ()
    """The entries of the last read, best first."""
    scratchpad: str = ""
    """The scratchpad."""


@dataclass(frozen=True, slots=True)
class ReaderCall:
    """The cost of one call of a reader."""

    prompt_tokens: int | None
    """Tokens of the prompt; ``None`` if unknown."""
    completion_tokens: int | None
    """Tokens of the reply; ``None`` if unknown."""
    seconds: float
    """Seconds of the call, failed tries included."""
    finish_reason: str | None
    """How the reply ended; ``None`` for a function."""
    reasoning: str = ""
    """Reasoning that a server returned apart from the text."""
    tries: int = 1
    """Requests that the reply took, failed ones included."""


@dataclass(frozen=True, slots=True)
class Reading:
    """A reader's answer to one request."""

    request: ReadRequest
    """The request."""
    answer: str
    """The answer; an empty one is scored as an answer without text."""
    calls: tuple[ReaderCall, ...] = ()
    """The calls that it took; empty for the oracle."""


@runtime_checkable
class FrozenReader(Protocol):
    """Answers questions from memories and scratchpad, each question by itself, and learns nothing."""

    name: str
    """For messages and traces."""

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        """One reading for each request, in order.

        Raises:
            ReaderError: the reader failed; the same call may be repeated.
        """
        ...


@dataclass(slots=True)
class ReaderCosts:
    """The costs of an episode's frozen reader so far, apart from those of the policy."""

    answered: list[int] = field(default_factory=list)
    """The questions that it answered, by their index in the item."""
    calls: int = 0
    """Calls of the reader."""
    prompt_tokens: int | None = 0
    """Tokens of all prompts; ``None`` if those of a call are unknown."""
    completion_tokens: int | None = 0
    """Tokens of all replies; ``None`` if those of a call are unknown."""
    cut_short: int = 0
    """Replies that ended at their token limit."""
    seconds: float = 0.0
    """Seconds of all calls, added up."""

    def add(self, question: int, readings: Sequence[Reading]) -> None:
        """Add the readings of a step for a question; a step that the policy answers or leaves open has none."""
        self.answered += [question] * len(readings)
        for call in (call for reading in readings for call in reading.calls):
            self.calls += 1
            self.prompt_tokens = _plus(self.prompt_tokens, call.prompt_tokens)
            self.completion_tokens = _plus(self.completion_tokens, call.completion_tokens)
            self.cut_short += call.finish_reason == "length"
            self.seconds += call.seconds

    def copy(self) -> ReaderCosts:
        """An independent copy."""
        return ReaderCosts(
            self.answered.copy(),
            self.calls,
            self.prompt_tokens,
            self.completion_tokens,
            self.cut_short,
            self.seconds,
        )

    def counted(self) -> dict[str, Any]:
        """The costs for the metrics of an episode: all but the seconds, which differ from run to run."""
        return {
            "questions": len(self.answered),
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cut_short": self.cut_short,
        }


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
