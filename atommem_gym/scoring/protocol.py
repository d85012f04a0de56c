"""The protocol of scorers: answers with their questions in, scores in [0, 1] out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One answer to score, with its question and the accepted answers."""

    question: str
    """The question that was asked."""
    prediction: str
    """The answer to score."""
    answers: tuple[str, ...]
    """The accepted answers; empty for a question without an answer."""
    answerable: bool | None = None
    """Whether the question has an answer, in a task where some have none (SPEC R5); ``None`` in other tasks. Scorers
    are never called with unanswerable questions."""


@runtime_checkable
class Scorer(Protocol):
    """Scores answers, each by itself: an answer counts once, for its own question."""

    name: str
    """For messages and traces."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """One score in [0, 1] for each request, in order.

        Args:
            requests: Answers to score; not to be changed.

        Raises:
            JudgeError: the judge gave no verdict. Nothing was scored, and the same call may be repeated.
        """
        ...
