"""Random generators that begin in a given state: what forks and snapshots need of them (SPEC M14)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.random.bit_generator import BitGenerator, ISeedSequence


class _NoSeed(ISeedSequence):
    """In place of a seed where the state follows at once: hashing one costs ten times as much as all the rest."""

    def generate_state(self, n_words: int, dtype: Any = np.uint32) -> Any:
        return np.zeros(n_words, dtype)


_NO_SEED: Any = _NoSeed()
"""NumPy takes any ``ISeedSequence``; its types name ``SeedSequence`` alone."""


def unseeded(bits: BitGenerator) -> BitGenerator:
    """A bit generator of the same type, to be given a state; it cannot be spawned from."""
    return type(bits)(_NO_SEED)


def twin_of(generator: np.random.Generator) -> np.random.Generator:
    """A generator of its own that draws what this one will draw; a tenth of the cost of ``copy.deepcopy``.

    >>> generator = np.random.default_rng(3)
    >>> twin = twin_of(generator)
    >>> twin.integers(10, size=4).tolist() == generator.integers(10, size=4).tolist()
    True
    """
    bits = unseeded(generator.bit_generator)
    bits.state = generator.bit_generator.state
    return np.random.Generator(bits)
