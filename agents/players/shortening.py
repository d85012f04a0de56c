"""Shortens an observation until its prompt fits a model's context, and reports what was dropped."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from atommem_gym.agents.players.player import Dropped
from atommem_gym.errors import ContextLengthError
from atommem_gym.step import Observation

MIN_COMPLETION_TOKENS = 256
"""A prompt leaves at least this many tokens for the reply, or ``max_tokens`` if that is less."""
MAX_TRIES = 8
"""How often a prompt is shortened before the error is raised."""
_MARGIN = 0.97
"""Texts are cut by characters, limits are in tokens: a text is cut to this share of what should fit."""
_STEP = 0.05
"""The first try drops at least this share of the characters; each further try drops twice as much."""
_GAP = "\n[…]\n"

Cut = Callable[[str, int], str]
"""From a text and a number of characters to the text without so many of them."""


def cut_end(text: str, characters: int) -> str:
    """The text without its last characters.

    >>> cut_end("abcdef", 2)
    'abcd'
    """
    return text[: max(0, len(text) - characters)]


def cut_middle(text: str, characters: int) -> str:
    r"""The text without the characters in its middle, and a mark in their place.

    >>> cut_middle("abcdef", 2)
    'ab\n[…]\nef'
    """
    kept = max(0, len(text) - characters)
    head = (kept + 1) // 2
    return f"{text[:head]}{_GAP}{text[len(text) - (kept - head) :]}" if 0 < kept < len(text) else text[:kept]


@dataclass(frozen=True, slots=True)
class Shortening:
    """A shortened observation, and the ``max_tokens`` to ask for."""

    observation: Observation
    """The observation to render."""
    max_tokens: int
    """Tokens of the reply, at most."""
    dropped: tuple[Dropped, ...]
    """Everything that was dropped so far."""


class Shortener:
    """Makes a prompt smaller, try by try, until it fits or nothing is left to drop.

    If the prompt fits and only ``max_tokens`` is too large, ``max_tokens`` is lowered; if the server does not say how
    long the prompt is, it is lowered to ``MIN_COMPLETION_TOKENS`` first. Otherwise text is dropped, in this order: the
    end of the chunk (``long_context``: the middle of the documents), whole entries of the last search, the worst first,
    the end of the scratchpad, the end of the feedback. The question always stays.
    """

    def __init__(self, observation: Observation, max_tokens: int, cut: Cut = cut_end, chunk: str = "chunk") -> None:
        """Begin with an observation.

        Args:
            observation: The whole observation.
            max_tokens: Tokens of the reply that the player wants.
            cut: Takes characters from the chunk.
            chunk: Name of the chunk in a report.
        """
        self._observation = observation
        self._asked = self._max_tokens = max_tokens
        self._cut = cut
        self._chunk = chunk
        self._excess = 0
        self._tries = 0
        self._used_up = False

    def next(self, error: ContextLengthError, characters: int) -> Shortening:
        """The next shortening to try.

        Args:
            error: The error of the last try, with the tokens of its prompt and the limit, if the server says them.
            characters: Characters of the last prompt.

        Raises:
            ContextLengthError: the given error, if nothing is left to drop or after ``MAX_TRIES`` tries.
        """
        self._tries += 1
        needed = min(self._asked, MIN_COMPLETION_TOKENS)
        prompt, limit = error.prompt_tokens, error.limit
        room = None if prompt is None or limit is None else limit - prompt
        if self._tries > MAX_TRIES:
            raise error
        if room is not None and needed <= room < self._max_tokens:
            self._max_tokens = room
        elif prompt is None and self._max_tokens > needed:
            self._max_tokens = needed
        elif self._used_up:
            raise error
        else:
            # The number of tokens may be unknown or inexact, so every further try drops more in any case.
            kept = max(0.0, 1 - _STEP * 2 ** (self._tries - 1))
            if prompt and limit is not None:
                kept = min(kept, _MARGIN * max(0, limit - needed) / prompt)
            self._excess += math.ceil(characters * (1 - kept))
        observation, dropped = self._without_excess()
        if self._max_tokens < self._asked:
            dropped.append(Dropped("max_tokens", self._asked - self._max_tokens, self._asked, "tokens"))
        return Shortening(observation, self._max_tokens, tuple(dropped))

    def _without_excess(self) -> tuple[Observation, list[Dropped]]:
        observation, excess = dict(self._observation), self._excess
        dropped: list[Dropped] = []
        for field, name, cut in (
            ("chunk", self._chunk, self._cut),
            ("memories", "memories", None),
            ("scratchpad", "scratchpad", cut_end),
            ("feedback", "feedback", cut_end),
        ):
            value = observation[field]
            if excess <= 0 or not value:
                continue
            if cut is None:
                kept = len(value)
                while kept and excess > 0:
                    kept -= 1
                    excess -= len(value[kept]["text"])
                observation[field] = value[:kept]
                dropped.append(Dropped(name, len(value) - kept, len(value), "entries"))
            else:
                gone = min(excess, len(value))
                excess -= gone
                observation[field] = cut(value, gone)
                dropped.append(Dropped(name, gone, len(value), "characters"))
        self._used_up = excess > 0
        return observation, dropped
