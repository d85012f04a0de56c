"""What a frozen reader is asked, what it gives back, and what that cost: the form that every reader has (SPEC E13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeAlias, runtime_checkable

from atommem_gym.records.record import Record

POLICY = "policy"
"""The value of ``reader=`` with which the policy answers by itself."""

Seen: TypeAlias = tuple[int, str, float]
"""Id, text and score of an entry as a read shows it."""


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """A question that the policy closed with an empty answer, and what it had in sight then."""

    question: Record
    """Privileged: readers but the oracle look at its ``question`` alone."""
    memories: tuple[Seen, ...] = ()
    """Best first."""
    scratchpad: str = ""


@dataclass(frozen=True, slots=True)
class ReaderCall:
    """What one call of a reader cost."""

    prompt_tokens: int | None
    """``None`` where nobody counts; so is the completion's."""
    completion_tokens: int | None
    seconds: float
    finish_reason: str | None
    """How the reply ended; ``None`` for a function."""
    reasoning: str = ""
    """What a server returned apart from the text."""
    tries: int = 1


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader answered to one request."""

    request: ReadRequest
    answer: str
    """May be empty; that is scored as an answer without text."""
    calls: tuple[ReaderCall, ...] = ()
    """None for the oracle."""


@runtime_checkable
class FrozenReader(Protocol):
    """Answers questions from what is in sight, each by itself, and learns nothing."""

    name: str

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        """One reading for each request, in the order asked.

        Raises:
            ReaderError: it failed; asking again is possible.
        """
        ...


@dataclass(slots=True)
class ReaderCosts:
    """What an episode's reader has done so far, apart from all that the policy costs."""

    answered: list[int] = field(default_factory=list)
    """The questions that it answered, by their place in the item."""
    calls: int = 0
    prompt_tokens: int | None = 0
    """``None`` as soon as one call was not counted; so is the completion's."""
    completion_tokens: int | None = 0
    cut_short: int = 0
    """Replies that ended at their token limit."""
    seconds: float = 0.0
    """Wall time of the calls, each by itself."""

    def add(self, question: int, readings: Sequence[Reading]) -> None:
        """Count what a step was read for a question; nothing, if the policy answered or none was closed."""
        self.answered += [question] * len(readings)
        for call in (call for reading in readings for call in reading.calls):
            self.calls += 1
            self.prompt_tokens = _plus(self.prompt_tokens, call.prompt_tokens)
            self.completion_tokens = _plus(self.completion_tokens, call.completion_tokens)
            self.cut_short += call.finish_reason == "length"
            self.seconds += call.seconds

    def copy(self) -> ReaderCosts:
        """The same costs, to which more can be added on their own."""
        return ReaderCosts(
            self.answered.copy(),
            self.calls,
            self.prompt_tokens,
            self.completion_tokens,
            self.cut_short,
            self.seconds,
        )

    def counted(self) -> dict[str, Any]:
        """All but the seconds, which no two runs have alike: what the metrics of an episode say."""
        return {
            "questions": len(self.answered),
            "calls": self.calls,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cut_short": self.cut_short,
        }


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more
