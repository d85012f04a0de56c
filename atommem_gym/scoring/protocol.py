"""What a scorer is asked and what it gives back: the form that every scorer has, whatever it scores with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class ScoreRequest:
    """One given answer, with the question it was given to and the answers that are right."""

    question: str
    prediction: str
    answers: tuple[str, ...]
    """Empty for a question without an answer."""
    answerable: bool | None = None
    """Whether the question has an answer, where a task has questions without (SPEC R5); ``None``: all have one. No
    scorer is asked about those that have none."""


@runtime_checkable
class Scorer(Protocol):
    """Scores answers, each by itself: an answer counts for the question it was given to, once, and for no other."""

    name: str

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """One score in [0, 1] for each request, in the order asked; the requests stay as they are.

        Raises:
            JudgeError: the judge gave no usable verdict; asking again is possible, nothing was scored.
        """
        ...
