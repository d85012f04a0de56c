"""Limits that end an evaluation before all episodes are played: tokens and time."""

from __future__ import annotations

from dataclasses import dataclass

from atommem_gym.errors import AtomMemError


class LimitReachedError(AtomMemError):
    """A limit ended the run; finished episodes are in the folder, and a resume plays the rest."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one start of an evaluation; ``None``: no limit."""

    tokens: int | None = None
    """Tokens of prompts and replies of all language models, frozen readers and failed episodes included. They are
    counted when an episode ends, so the tokens of episodes under way may exceed the limit."""
    seconds: float | None = None
    """Seconds since the start. Work that cannot be cancelled (loading a local model, a batch of questions to a frozen
    reader) is finished first."""

    def check_tokens(self, used: int) -> None:
        """Check the number of tokens used so far.

        Raises:
            LimitReachedError: ``used`` reaches the limit.
        """
        if self.tokens is not None and used >= self.tokens:
            raise LimitReachedError(f"the token limit of {self.tokens:,} is reached with {used:,} tokens")
