"""Random vectors for the tests of ranking and of stores: equal for equal seeds."""

from __future__ import annotations

import numpy as np

from atommem_gym.memory.protocols import Vectors


def gaussian(seed: int, *shape: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)
