"""Means with intervals, and tests of paired differences: how much of a result is chance."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atommem_gym.records.layout import stable_rng

RESAMPLES = 10_000
LEVEL = 0.95
_EXACT = 12
"""Up to this many differences all sign flips are tried; beyond it they are drawn."""
_BLOCK = 2_000_000
"""Numbers drawn at a time, so that memory stays bounded however many clusters there are."""
_ROUNDING = 1e-12

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval; ``low`` and ``high`` are NaN where there was nothing to resample."""

    mean: float
    low: float
    high: float

    @property
    def known(self) -> bool:
        """Whether there is an interval at all."""
        return not math.isnan(self.low)

    def text(self, digits: int = 2) -> str:
        """As tables show it.

        >>> Interval(0.5, 0.4, 0.6).text()
        '0.50 (0.40–0.60)'
        """
        mean = f"{self.mean:.{digits}f}"
        # A dash between negative numbers would read as a minus.
        between = "–" if not self.known or self.low >= 0 else " to "
        return f"{mean} ({self.low:.{digits}f}{between}{self.high:.{digits}f})" if self.known else mean


def bootstrap(
    values: Sequence[float],
    clusters: Sequence[Hashable],
    key: Sequence[object] = (),
    resamples: int = RESAMPLES,
    level: float = LEVEL,
) -> Interval:
    """The mean of ``values`` with its percentile bootstrap interval (Efron & Tibshirani 1993, chapter 13).

    Whole clusters are drawn with replacement, since the values of one cluster (an item that was played with several
    seeds) are not independent: drawing them one by one would make the interval too narrow. Where every cluster has one
    value this is the ordinary bootstrap. The interval of values that are all equal has no width, and one cluster has
    no interval.

    Args:
        values: One an episode.
        clusters: What each value belongs to, of the same length.
        key: Seeds the resampling, together with nothing else: the same key and values give the same interval.
        resamples: How many means are drawn.
        level: Share of the drawn means inside the interval.

    Raises:
        ValueError: there are no values, or not as many clusters as values.

    >>> bootstrap([1, 0, 1, 1], ["a", "b", "c", "d"]).text()
    '0.75 (0.25–1.00)'
    >>> bootstrap([1, 1, 0, 0], ["a", "a", "b", "b"]).text()  # two items, two seeds each
    '0.50 (0.00–1.00)'
    """
    if not len(values) or len(values) != len(clusters):
        raise ValueError(f"{len(values)} values and {len(clusters)} clusters; there must be one cluster for each value")
    numbers = {cluster: place for place, cluster in enumerate(dict.fromkeys(clusters))}
    of = np.array([numbers[cluster] for cluster in clusters])
    sums = np.bincount(of, weights=np.asarray(values, np.float64))
    counts = np.bincount(of).astype(np.float64)
    mean = float(sums.sum() / counts.sum())
    size = len(numbers)
    if size == 1:
        return Interval(mean, math.nan, math.nan)
    rng = stable_rng("bootstrap", *key)
    means: list[Floats] = []
    for start in range(0, resamples, max(1, _BLOCK // size)):
        drawn = rng.integers(size, size=(min(max(1, _BLOCK // size), resamples - start), size))
        means.append(sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1))
    tail = 50 * (1 - level)
    low, high = np.percentile(np.concatenate(means), [tail, 100 - tail])
    return Interval(mean, float(low), float(high))


def sign_test(differences: Sequence[float]) -> float:
    """Two-sided p-value of the exact sign test: are positive and negative differences equally likely? Ties drop out.

    >>> sign_test([1, 1, 1, 1, 1, 0])
    0.0625
    """
    wins = sum(difference > _ROUNDING for difference in differences)
    losses = sum(difference < -_ROUNDING for difference in differences)
    decided = wins + losses
    ways = math.comb(decided, max(wins, losses))
    tail = 0
    for k in range(max(wins, losses), decided + 1):
        tail += ways
        ways = ways * (decided - k) // (k + 1)
    # Integers, because 2.0 ** decided overflows where thousands of items are compared.
    return min(1.0, 2 * tail / 2**decided) if decided else 1.0


def permutation_test(differences: Sequence[float], key: Sequence[object] = (), resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of the paired permutation test: how often is the mean as far from 0 under random signs?

    All sign flips are tried for up to twelve differences that are not 0, else ``resamples`` are drawn, and the observed
    one counts among them, so that p is never 0 (Phipson & Smyth 2010).

    Args:
        differences: One an independent unit (an item).
        key: Seeds the draws.
        resamples: How many are drawn.

    >>> permutation_test([1, 1, 1, 1, 1, 0])
    0.0625
    """
    moving = np.array([difference for difference in differences if abs(difference) > _ROUNDING], np.float64)
    size = len(moving)
    if not size:
        return 1.0
    observed = abs(float(moving.sum())) - _ROUNDING * size
    if size <= _EXACT:
        flips = (np.arange(2**size)[:, None] >> np.arange(size)) & 1
        return float(np.mean(np.abs((1 - 2 * flips) @ moving) >= observed))
    rng = stable_rng("permutation", *key)
    extreme, block = 0, max(1, _BLOCK // size)
    for start in range(0, resamples, block):
        signs = 1 - 2 * rng.integers(2, size=(min(block, resamples - start), size))
        extreme += int(np.count_nonzero(np.abs(signs @ moving) >= observed))
    return (extreme + 1) / (resamples + 1)


def percentile(values: Sequence[float], share: float) -> float:
    """A percentile of values, NaN if there are none.

    >>> percentile([1, 2, 3, 4, 100], 50)
    3.0
    """
    return float(np.percentile(values, share)) if len(values) else math.nan


def p_text(p: float) -> str:
    """A p-value as tables show it.

    >>> p_text(0.0312), p_text(0.00001)
    ('0.0312', '< 0.0001')
    """
    return f"{p:.4f}" if p >= 0.0001 else "< 0.0001"
