"""Means with bootstrap intervals, and tests of paired differences."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from atommem_gym.records.layout import stable_rng

RESAMPLES = 10_000
"""Resamples of an interval or a permutation test."""
LEVEL = 0.95
"""Confidence level of intervals."""
_EXACT = 12
"""Up to this many differences the permutation test tries all sign flips; beyond it draws some."""
_BLOCK = 2_000_000
"""Numbers drawn at a time, so that memory is bounded for any number of clusters."""
_ROUNDING = 1e-12
"""Differences up to this count as 0."""

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its confidence interval."""

    mean: float
    """The mean."""
    low: float
    """Lower end of the interval; NaN if there was nothing to resample."""
    high: float
    """Upper end of the interval; NaN if there was nothing to resample."""

    @property
    def known(self) -> bool:
        """Whether ``low`` and ``high`` are numbers."""
        return not math.isnan(self.low)

    def text(self, digits: int = 2) -> str:
        """The mean and its interval as tables show them.

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

    Whole clusters are drawn with replacement, because the values of one cluster (an item that was played with several
    seeds) are not independent: drawing single values would make the interval too narrow. If every cluster has one
    value, this is the ordinary bootstrap. If all values are equal, the interval has no width. One cluster alone has no
    interval.

    Args:
        values: One number per episode.
        clusters: The cluster of each value, such as its item; as many as values.
        key: Seeds the resampling: the same key and values give the same interval.
        resamples: Number of resamples.
        level: Share of the resampled means inside the interval, between 0 and 1.

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
    """Two-sided p-value of the exact sign test: are positive and negative differences equally likely?

    Differences of 0 are left out; if all are 0, p is 1.

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
    # Integers, because 2.0 ** decided overflows with thousands of items.
    return min(1.0, 2 * tail / 2**decided) if decided else 1.0


def permutation_test(differences: Sequence[float], key: Sequence[object] = (), resamples: int = RESAMPLES) -> float:
    """Two-sided p-value of the paired permutation test: how often is the mean as far from 0 under random signs?

    For up to twelve differences that are not 0 all sign flips are tried. For more, ``resamples`` of them are drawn, and
    the observed one counts as one more, so that p is never 0 (Phipson & Smyth 2010).

    Args:
        differences: One number per independent unit (an item).
        key: Seeds the draws.
        resamples: Number of draws.

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
    """The percentile of values at ``share``, from 0 to 100; NaN if there are no values.

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
