"""Random vectors, equal for equal seeds, the cosine of two, and texts that every embedder must take."""

from __future__ import annotations

import numpy as np

from atommem_gym.memory.protocols import Vectors

AWKWARD = ["", " ", "?!", "the", "The Who", "\0", "\ud800", "🎉", "東京", "a" * 10_000, "word " * 5_000, "É", "e\u0301"]


def gaussian(seed: int, *shape: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def cosine(one: Vectors, other: Vectors) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))
