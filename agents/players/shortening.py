"""Shortens an observation to a model's context by one rule, and reports what it dropped."""

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
"""How often a prompt is shortened before the error is passed on."""
_MARGIN = 0.97
"""Characters are not tokens: a text cut to the share that should fit is cut a little more."""
_STEP = 0.05
"""The first try drops at least this share; each further try drops twice as much."""
_GAP = "\n[…]\n"

Cut = Callable[[str, int], str]
"""A text without so many of its characters."""


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
    """An observation with less in it, and a smaller ``max_tokens``."""

    observation: Observation
    max_tokens: int
    dropped: tuple[Dropped, ...]


class Shortener:
    """Makes a prompt smaller, try by try, until it fits or nothing is left to drop.

    If the prompt fits and only ``max_tokens`` is too large, that is lowered; also, to ``MIN_COMPLETION_TOKENS``, where
    the model does not say how long the prompt is. Else characters are dropped from the
    chunk (from its end; ``long_context`` cuts the documents in their middle); when it is used up, whole entries of
    the last search, the worst first; then from the end of the scratchpad; then from the feedback. The question stays.
    """

    def __init__(self, observation: Observation, max_tokens: int, cut: Cut = cut_end, chunk: str = "chunk") -> None:
        """Begin with an observation.

        Args:
            observation: What should have been shown.
            max_tokens: What should have been asked for.
            cut: How characters are taken from the chunk.
            chunk: What the chunk is called in a report.
        """
        self._observation = observation
        self._asked = self._max_tokens = max_tokens
        self._cut = cut
        self._chunk = chunk
        self._excess = 0
        self._tries = 0
        self._used_up = False

    def next(self, error: ContextLengthError, characters: int) -> Shortening:
        """What to try after a prompt of so many characters, as the last one was, did not fit.

        Raises:
            ContextLengthError: the one given, if there is nothing left to drop.
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
            # The number of tokens may be unknown or vague, so every further try drops more by itself.
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
