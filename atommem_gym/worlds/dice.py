"""Random choices that are equal on every Python version: all derive from ``Random.random()``, which is stable."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import floor
from random import Random
from typing import TypeVar

from atommem_gym.records.layout import stable_rng

T = TypeVar("T")


class Dice:
    """A seeded source of random choices; ``parts`` (strings and integers) are hashed to the seed.

    An item needs some thousands of draws, so they use ``floor``, which takes half the time of ``int`` and equals it
    for numbers that are not negative. Innermost loops call ``floor(random() * n)`` themselves, which is ``below(n)``.
    """

    def __init__(self, *parts: object) -> None:
        # The raw output of a bit generator is stable across numpy versions, unlike the distributions drawn from it.
        self.random = Random(int(stable_rng(*parts).bit_generator.random_raw())).random

    def below(self, n: int) -> int:
        """An integer in ``[0, n)``."""
        return floor(self.random() * n)

    def between(self, low: int, high: int) -> int:
        """An integer in ``[low, high]``."""
        return low + floor(self.random() * (high - low + 1))

    def pick(self, options: Sequence[T]) -> T:
        """One of ``options``."""
        return options[floor(self.random() * len(options))]

    def chance(self, p: float) -> bool:
        """True with probability ``p``."""
        return self.random() < p

    def shuffled(self, things: Iterable[T]) -> list[T]:
        """``things`` in a uniformly random order (Fisher and Yates)."""
        out = list(things)
        random = self.random
        for i in range(len(out) - 1, 0, -1):
            j = floor(random() * (i + 1))
            out[i], out[j] = out[j], out[i]
        return out
