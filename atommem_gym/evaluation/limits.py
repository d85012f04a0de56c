"""What ends an evaluation before all is played: tokens and time."""

from __future__ import annotations

from dataclasses import dataclass

from atommem_gym.errors import AtomMemError


class LimitReachedError(AtomMemError):
    """A limit ended the run; what was finished is in the folder, and a resume goes on."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one start of an evaluation may take; ``None`` is no limit."""

    tokens: int | None = None
    """Of prompts and replies of all language models, frozen readers and failed episodes among them, counted when an
    episode ends: those of episodes under way may come on top."""
    seconds: float | None = None
    """From the start on; what cannot be cancelled (a local model that is loaded, a batch of questions to a frozen
    reader) is finished first."""

    def check_tokens(self, used: int) -> None:
        """Raise if so many tokens are too many.

        Raises:
            LimitReachedError: they are.
        """
        if self.tokens is not None and used >= self.tokens:
            raise LimitReachedError(f"the token limit of {self.tokens:,} is reached with {used:,} tokens")
