"""What every store demands of a write, at each limit and just over it."""

from __future__ import annotations

import numpy as np
import pytest

from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, Write
from atommem_gym.stores.write_checks import check_vectors, check_writes


def write(ids: list[int], texts: list[str] | None = None, deletes: list[int] | None = None, key: str = "k") -> Write:
    texts = ["t"] * len(ids) if texts is None else texts
    return Write(key, ids, texts, np.ones((len(ids), 2), np.float32), deletes or [])


@pytest.mark.parametrize("length", [0.0, 1.001e-15, 1.0, 0.999e15])
def test_M17_vectors_within_the_limits_of_float32_are_taken(length: float) -> None:
    assert check_vectors(np.array([[length, 0]], np.float32), 1, 2) == pytest.approx([length**2], rel=1e-6)


@pytest.mark.parametrize("length", [0.999e-15, 1.001e15, 1e-18, 1e18, np.inf, np.nan])
def test_M17_vectors_just_over_the_limits_of_float32_are_refused(length: float) -> None:
    with pytest.raises(EmbedderError, match="cannot be compared in float32"):
        check_vectors(np.array([[length, 0]], np.float32), 1, 2)


@pytest.mark.parametrize("character", ["a", "é", "€", "🐝"])
def test_M17_a_text_may_have_just_the_bytes_that_a_row_can_hold(character: str) -> None:
    most = MAX_TEXT_BYTES // len(character.encode())
    text = character * most + "a" * (MAX_TEXT_BYTES - most * len(character.encode()))
    assert check_writes([write([1], [text])], 2) == [[2.0]]
    with pytest.raises(ConfigError, match=rf"'k', entry 7: a text of {len(text) + 1} characters exceeds"):
        check_writes([write([1, 7], ["t", text + "a"])], 2)


@pytest.mark.parametrize(
    ("ids", "deletes"), [([0], []), ([2, 0], []), ([1, 1], []), ([1, 2, 1], []), ([1], [1]), ([], [0]), ([1], [2, 0])]
)
def test_M17_ids_are_positive_different_and_not_deleted_too(ids: list[int], deletes: list[int]) -> None:
    with pytest.raises(ConfigError, match="give the net effect of the step"):
        check_writes([write(ids, deletes=deletes)], 2)


def test_M17_each_write_gets_the_squares_of_its_own_vectors() -> None:
    one, none, two = write([1]), write([], deletes=[1], key="l"), write([1, 2], deletes=[3], key="m")
    two.vectors[1] *= 2
    assert check_writes([one, none, two], 2) == [[2.0], [], [2.0, 8.0]]
    assert check_writes([none], 2) == [[]]
    assert check_writes([], 2) == []
    with pytest.raises(ConfigError, match="writes an episode twice"):
        check_writes([one, two, write([2])], 2)


def test_M17_ids_texts_and_vectors_are_as_many_and_of_the_dimension() -> None:
    with pytest.raises(ConfigError, match="2 ids but 1 texts"):
        check_writes([write([1, 2], ["t"])], 2)
    with pytest.raises(ConfigError, match="texts or vectors without ids"):
        check_writes([write([], ["t"])], 2)
    with pytest.raises(ConfigError, match="texts or vectors without ids"):
        check_writes([Write("k", [], [], np.ones((1, 2), np.float32))], 2)
    for vectors in (np.ones((1, 3), np.float32), np.ones((2, 2), np.float32), np.ones((1, 2), np.float64)):
        with pytest.raises(EmbedderError, match="expected"):
            check_writes([Write("k", [1], ["t"], vectors)], 2)
