"""Shares of prompts that are counted by hand."""

from __future__ import annotations

import pytest

from atommem_gym.agents.learn.prefix_sharing import BLOCK, cache_hits, common, sharing

A, B, C = "a" * BLOCK, "b" * BLOCK, "c" * BLOCK


@pytest.mark.parametrize(
    ("one", "other", "shared"), [("", "", 0), ("abc", "", 0), ("abc", "abc", 3), ("abc", "abcd", 3), ("xbc", "abc", 0)]
)
def test_common_counts_from_the_beginning(one: str, other: str, shared: int) -> None:
    assert common(one, other) == common(other, one) == shared


def test_members_are_compared_at_the_same_step_and_sessions_with_their_last() -> None:
    found = sharing([[["aaaa", "aabb"], ["aacc"], ["xxxx", "xxxy", "xxxz"]]])
    assert found.with_member == pytest.approx((2 + 0) / 8)  # the longer session's further steps have nobody beside
    assert found.with_last_step == pytest.approx((2 + 3 + 3) / 12)
    assert sharing([]) == sharing([[["a"]]]) == type(found)(0.0, 0.0)


def test_a_cache_finds_whole_blocks_in_their_place() -> None:
    assert cache_hits([[[A + B], [A + B]]]) == 0.5
    assert cache_hits([[[A + B], [A + C]]]) == 0.25
    assert cache_hits([[[A + B], [B + A]]]) == 0.0  # the same blocks after others
    assert cache_hits([[[A + B], [C + B]]]) == 0.0
    assert cache_hits([[[A[:-1]], [A[:-1]]]]) == 0.0  # no whole block
    assert cache_hits([[[A + B, C + B], [A + C, C + B]]]) == pytest.approx((1 + 2) / 8)
    assert cache_hits([[[A]], [[A]]]) == 0.0  # another group, another replica
    assert cache_hits([]) == cache_hits([[]]) == 0.0


def test_spreading_over_replicas_finds_less() -> None:
    group = [[A + B + C] for _ in range(16)]
    assert cache_hits([group]) == pytest.approx(15 / 16)
    assert 0.3 < cache_hits([group], replicas=8) < 0.7
