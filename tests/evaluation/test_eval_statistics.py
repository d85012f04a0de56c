"""Intervals and tests against what can be worked out by hand or by trying everything (issue 5)."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from atommem_gym.evaluation.statistics import Interval, bootstrap, percentile, permutation_test, sign_test


def every_resample(values: list[list[float]]) -> np.ndarray:
    """The means of all ways to draw as many clusters as there are, with replacement."""
    draws = itertools.product(values, repeat=len(values))
    return np.array([np.mean([value for cluster in draw for value in cluster]) for draw in draws])


def test_the_interval_is_that_of_all_resamples() -> None:
    values = [0.0, 0.2, 0.9, 1.0, 0.4]
    found = bootstrap(values, range(5), resamples=40_000)
    low, high = np.percentile(every_resample([[value] for value in values]), [2.5, 97.5])
    assert found.mean == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_clusters_of_several_episodes_are_drawn_whole() -> None:
    clusters = [[1.0, 1.0, 0.9], [0.0, 0.1, 0.0], [0.5], [0.2, 0.3]]
    values = [value for cluster in clusters for value in cluster]
    of = [place for place, cluster in enumerate(clusters) for _ in cluster]
    found = bootstrap(values, of, resamples=40_000)
    low, high = np.percentile(every_resample(clusters), [2.5, 97.5])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
    alone = bootstrap(values, range(len(values)))
    assert alone.high - alone.low < found.high - found.low


def test_repeating_episodes_of_the_same_items_does_not_make_the_interval_narrower() -> None:
    values, items = [1.0, 0.0, 1.0, 1.0, 0.0, 1.0], list(range(6))
    assert bootstrap(values * 5, items * 5) == bootstrap(values, items)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(300):
        found = bootstrap((rng.random(60) < 0.3).astype(float).tolist(), range(60), (trial,), resamples=1000)
        hits += found.low <= 0.3 <= found.high
    assert 0.89 <= hits / 300 <= 0.99


def test_the_same_key_gives_the_same_interval_and_another_one_another() -> None:
    values = np.random.default_rng(1).random(30).tolist()
    assert bootstrap(values, range(30), ("em", "a")) == bootstrap(values, range(30), ("em", "a"))
    assert bootstrap(values, range(30), ("em", "a")) != bootstrap(values, range(30), ("em", "b"))


def test_many_clusters_are_resampled_in_blocks_of_bounded_size() -> None:
    found = bootstrap([0.0, 1.0] * 2500, range(5000))
    assert found.mean == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / math.sqrt(5000), rel=0.1)


def test_one_cluster_has_no_interval_and_no_values_are_an_error() -> None:
    single = bootstrap([0.0, 1.0], ["a", "a"])
    assert (single.mean, single.known, single.text()) == (0.5, False, "0.50")
    for values, clusters in (([], []), ([1.0], [])):
        with pytest.raises(ValueError, match="one cluster for each value"):
            bootstrap(values, clusters)


def test_intervals_below_zero_are_readable() -> None:
    assert Interval(-0.1, -0.25, 0.05).text() == "-0.10 (-0.25 to 0.05)"


@pytest.mark.parametrize(
    ("differences", "p"),
    [
        ([1] * 8 + [-1] * 2, 2 * (1 + 10 + 45) / 1024),
        ([0, 0, 0], 1.0),
        ([0.5, -0.5], 1.0),
        ([1] * 5, 2 / 32),
        ([], 1.0),
    ],
)
def test_sign_test_by_hand(differences: list[float], p: float) -> None:
    assert sign_test(differences) == pytest.approx(p)


def test_sign_test_of_thousands_of_items() -> None:
    assert sign_test([1.0] * 3000 + [-1.0] * 2000) < 1e-40
    assert sign_test([1.0, -1.0] * 3000) == 1.0


def test_permutation_test_tries_every_flip_of_few_differences() -> None:
    differences = [0.5, 0.25, -0.125, 1.0, 0.0]
    means = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in itertools.product((1, -1), repeat=5)
    ]
    assert permutation_test(differences) == pytest.approx(np.mean(np.array(means) >= sum(differences) - 1e-12))


def test_permutation_test_of_many_differences_is_close_to_the_exact_one() -> None:
    # The sign-flip distribution of n equal differences is binomial, so the sign test is the exact answer.
    differences = [1.0] * 19 + [-1.0] * 9
    assert permutation_test(differences) == pytest.approx(sign_test(differences), abs=0.01)
    assert permutation_test([1.0] * 200) == pytest.approx(1 / 10_001)


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0], 50) == 2.0
    assert math.isnan(percentile([], 95))
