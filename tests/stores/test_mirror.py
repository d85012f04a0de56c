"""The mirror of a store: the matrix of each episode, and which rows it proposes for a read (SPEC M6, M8, M13)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from support.stores.vectors import gaussian

from atommem_gym.memory.protocols import Search, Vectors, Write
from atommem_gym.memory.ranking import margin, rank
from atommem_gym.stores.mirror import Allocator, EpisodeMatrix, Mirror
from atommem_gym.stores.write_checks import check_vectors


def matrix_of(vectors: Vectors, ids: Sequence[int] | None = None) -> EpisodeMatrix:
    matrix = EpisodeMatrix(Allocator(vectors.shape[1]))
    matrix.put(ids or range(1, len(vectors) + 1), vectors, check_vectors(vectors, *vectors.shape))
    return matrix


@pytest.mark.parametrize("n", [1, 15, 16, 17, 32, 33, 100])
def test_M6_a_matrix_keeps_every_row_while_it_grows(n: int) -> None:
    vectors = gaussian(n, n, 3)
    matrix = EpisodeMatrix(Allocator(3))
    for i in range(n):
        matrix.put([i + 5], vectors[i : i + 1], check_vectors(vectors[i : i + 1], 1, 3))
        assert len(matrix) == i + 1
    found = matrix.sorted_rows()
    assert found.ids.tolist() == list(range(5, n + 5))
    assert np.array_equal(found.vectors, vectors)
    assert [found.ids.dtype.name, found.vectors.dtype.name] == ["int64", "float32"]
    for query, own in zip(vectors, range(5, n + 5), strict=True):
        assert rank(query, matrix.candidates(query, 1), 1)[0] == [own]


@pytest.mark.parametrize("before", [0, 5, 16, 30])
@pytest.mark.parametrize("n", [3, 4, 16, 17, 100])
def test_M14_rows_written_at_once_are_those_written_one_by_one(before: int, n: int) -> None:
    vectors = gaussian(n, before + n, 3)
    vectors[-1] = 0.0
    squares = check_vectors(vectors, len(vectors), 3)
    one_by_one, at_once = EpisodeMatrix(Allocator(3)), EpisodeMatrix(Allocator(3))
    for i in range(before + n):
        one_by_one.put([i + 1], vectors[i : i + 1], squares[i : i + 1])
    if before:
        at_once.put(range(1, before + 1), vectors[:before], squares[:before])
    at_once.put(range(before + 1, before + n + 1), vectors[before:], squares[before:])
    for matrix in (one_by_one, at_once):
        matrix.remove([2])
        matrix.put([3, before + n + 1], vectors[:2], squares[:2])
    assert one_by_one._position == at_once._position
    assert one_by_one.slab.capacity == at_once.slab.capacity
    for name in ("_rows", "_inverse", "_squares", "_ids"):
        size = len(at_once)
        assert getattr(one_by_one, name)[:size].tobytes() == getattr(at_once, name)[:size].tobytes(), name


def test_M14_room_for_many_rows_is_taken_at_once() -> None:
    allocator = Allocator(2)
    matrix = EpisodeMatrix(allocator)
    taken: list[int] = []
    allocate = allocator.allocate
    allocator.allocate = lambda capacity: (taken.append(capacity), allocate(capacity))[1]  # type: ignore[method-assign]
    vectors = gaussian(100, 100, 2)
    matrix.put(range(1, 101), vectors, check_vectors(vectors, 100, 2))
    assert taken == [128]


def test_M6_of_many_rows_only_those_near_the_cut_are_proposed() -> None:
    vectors = np.eye(40, dtype=np.float32) + np.float32(0.01)
    matrix = matrix_of(vectors)
    assert matrix.candidates(vectors[7], 1).ids.tolist() == [8]
    assert matrix.candidates(vectors[7] * np.float32(1e-6), 1).ids.tolist() == [8]
    assert len(matrix.candidates(vectors[7], 2).ids) == 40


@pytest.mark.parametrize(("n", "k", "proposed"), [(12, 1, 12), (13, 1, 1), (20, 19, 19), (20, 20, 20), (20, 25, 20)])
def test_M6_all_rows_are_proposed_where_they_are_few_or_wanted(n: int, k: int, proposed: int) -> None:
    angles = np.linspace(0.0, 1.5, n)
    matrix = matrix_of(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    found = matrix.candidates(np.array([1, 0], np.float32), k)
    assert sorted(found.ids.tolist()) == list(range(1, proposed + 1))
    assert len(found.vectors) == proposed


def test_M6_a_row_within_rounding_of_the_cut_is_proposed_and_one_beyond_is_not() -> None:
    dim, n = 2, 20
    slack = 2 * margin(dim)
    below = np.array([0.0] * 2 + [0.8] + [1.2] * 17) * slack
    sines = np.sqrt(1 - (1 - below) ** 2)
    vectors = np.stack([np.sqrt(1 - sines**2), sines], axis=1).astype(np.float32)
    found = matrix_of(vectors).candidates(np.array([1, 0], np.float32), 2)
    assert len(vectors) == n
    assert sorted(found.ids.tolist()) == [1, 2, 3]


def test_M6_a_row_at_the_very_cut_is_proposed() -> None:
    lowest = 1 - 2 * margin(2)
    vectors = np.array([[1, 0]] * 2 + [[lowest, 0]] + [[lowest - 2.0**-24, 0]] * 17, np.float32)
    matrix = EpisodeMatrix(Allocator(2))
    matrix.put(range(1, 21), vectors, [1.0] * 20)
    assert sorted(matrix.candidates(np.array([1, 0], np.float32), 2).ids.tolist()) == [1, 2, 3]


def test_M6_long_and_short_vectors_of_one_direction_are_equally_near() -> None:
    lengths = np.array([1e-6, 1.0, 1e6] * 7, np.float32)
    vectors = np.stack([lengths, lengths], axis=1)
    vectors[::3, 1] *= -1
    found = matrix_of(vectors).candidates(np.array([5, 5], np.float32), 3)
    assert sorted(found.ids.tolist()) == [i for i in range(1, 22) if i % 3 != 1]


def test_M6_a_zero_vector_scores_zero_wherever_it_is() -> None:
    vectors = np.tile(np.array([[-1.0, 0.0]], np.float32), (20, 1))
    vectors[4] = 0.0
    matrix = matrix_of(vectors)
    assert matrix.candidates(np.array([1, 0], np.float32), 1).ids.tolist() == [5]
    with np.errstate(all="raise"):
        assert len(matrix.candidates(np.zeros(2, np.float32), 1).ids) == 20
    matrix.put([5], np.array([[1.0, 0.0]], np.float32), [1.0])
    matrix.put([6], np.zeros((1, 2), np.float32), [0.0])
    assert matrix.candidates(np.array([1, 0], np.float32), 1).ids.tolist() == [5]
    assert sorted(matrix.candidates(np.array([-1, 0], np.float32), 18).ids.tolist()) == [
        i for i in range(1, 21) if i not in (5, 6)
    ]


def test_M6_a_query_that_is_not_finite_proposes_every_row_so_that_ranking_complains() -> None:
    matrix = matrix_of(gaussian(0, 30, 2))
    assert len(matrix.candidates(np.array([math.nan, 1], np.float32), 1).ids) == 30


def test_M6_nothing_is_proposed_for_no_places_among_many() -> None:
    found = matrix_of(gaussian(0, 30, 2)).candidates(gaussian(1, 2), 0)
    assert found.ids.tolist() == []
    assert found.vectors.shape == (0, 2)


def test_M8_a_removed_row_takes_its_length_along() -> None:
    vectors = np.tile(np.array([[0.0, 1.0]], np.float32), (20, 1))
    vectors[0], vectors[19] = [0.0, 50.0], [3.0, 0.0]
    matrix = matrix_of(vectors)
    matrix.remove([1])
    assert sorted(matrix.ids) == list(range(2, 21))
    assert len(matrix) == 19
    found = matrix.candidates(np.array([1, 0], np.float32), 1)
    assert found.ids.tolist() == [20]
    assert found.vectors.tolist() == [[3.0, 0.0]]
    assert sorted(matrix.candidates(np.array([0, 1], np.float32), 18).ids.tolist()) == list(range(2, 20))
    matrix.remove([20, 20, 77, 2])
    assert len(matrix) == 17
    matrix.put([20], np.array([[0.0, -1.0]], np.float32), [1.0])
    assert matrix.sorted_rows().ids.tolist() == list(range(3, 21))


def test_M13_a_mirror_knows_its_episodes_and_nothing_of_others() -> None:
    mirror = Mirror(2)
    vectors = gaussian(0, 2, 2)
    mirror.apply(
        [Write("b", [4, 2], ["x", "y"], vectors), Write("a", deletes=[1]), Write("c")],
        [np.linalg.norm(vectors.astype(np.float64), axis=1), np.empty(0), np.empty(0)],
    )
    assert mirror.episodes() == ["b", "a", "c"]
    assert ("a" in mirror, "b" in mirror, "d" in mirror) == (True, True, False)
    assert (mirror.ids("b"), mirror.ids("a"), mirror.ids("d")) == ([4, 2], [], [])
    assert mirror.rows("b").ids.tolist() == [2, 4]
    assert np.array_equal(mirror.rows("b").vectors, vectors[::-1])
    for nothing in (mirror.rows("d"), mirror.rows("a"), *mirror.candidates([Search("d", vectors[0], 3)])):
        assert nothing.ids.shape == (0,)
        assert nothing.vectors.shape == (0, 2)
        assert [nothing.ids.dtype.name, nothing.vectors.dtype.name] == ["int64", "float32"]
    mirror.forget("b")
    mirror.forget("b")
    assert mirror.episodes() == ["a", "c"]


def test_M13_every_write_needs_its_lengths() -> None:
    with pytest.raises(ValueError, match="zip"):
        Mirror(2).apply([Write("a"), Write("b")], [[]])
