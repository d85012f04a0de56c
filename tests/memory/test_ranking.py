"""SPEC M6: what a read shows is ranked exactly, whatever proposes the candidates and however they are arranged."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.messages import says
from support.stores.vectors import gaussian

from atommem_gym.errors import EmbedderError
from atommem_gym.memory.protocols import Rows, Search, Vectors, Write
from atommem_gym.memory.ranking import margin, rank, rank_all, squared_lengths
from atommem_gym.stores.milvus_search import MAX_LIMIT, Hit, rows_of, widen
from atommem_gym.stores.mirror import Allocator, EpisodeMatrix, Mirror, choose
from atommem_gym.stores.write_checks import check_vectors


def rows(vectors: Vectors, ids: list[int] | None = None) -> Rows:
    return Rows(np.asarray(ids or range(1, len(vectors) + 1), np.int64), np.asarray(vectors, np.float32))


def exact_cosine(a: Vectors, b: Vectors) -> float:
    """Cosine from exact rational sums, rounded at the very end only."""
    dot, aa, bb = (
        sum((Fraction(float(x)) * Fraction(float(y)) for x, y in zip(u, v, strict=True)), Fraction())
        for u, v in ((a, b), (a, a), (b, b))
    )
    return float(dot) / math.sqrt(float(aa * bb)) if aa and bb else 0.0


def test_M6_best_first_and_only_k() -> None:
    ids, scores = rank(np.array([1, 0], np.float32), rows([[0, 1], [1, 0], [1, 1], [-1, 0]]), 3)
    assert ids == [2, 3, 1]
    assert scores == [1.0, 1 / math.sqrt(2), 0.0]


def test_M6_ties_go_to_the_lower_id() -> None:
    vectors = np.tile(gaussian(0, 1, 7), (5, 1))
    ids, scores = rank(gaussian(1, 7), rows(vectors, [9, 3, 7, 1, 5]), 4)
    assert ids == [1, 3, 5, 7]
    assert len(set(scores)) == 1


def test_M6_all_entries_if_fewer_exist_and_none_of_none() -> None:
    assert rank(gaussian(0, 3), rows(gaussian(1, 2, 3)), 6)[0].__len__() == 2
    assert rank(gaussian(0, 3), rows(np.empty((0, 3), np.float32), []), 6) == ([], [])
    assert rank(gaussian(0, 3), rows(gaussian(1, 2, 3)), 0) == ([], [])


def test_M6_zero_vectors_score_zero_and_never_minus_zero() -> None:
    ids, scores = rank(np.zeros(3, np.float32), rows(gaussian(0, 2, 3)), 2)
    assert (ids, [str(score) for score in scores]) == ([1, 2], ["0.0", "0.0"])
    _, scores = rank(np.array([-1.0, 0.0], np.float32), rows([[0.0, 1.0], [0.0, 0.0]]), 2)
    assert [str(score) for score in scores] == ["0.0", "0.0"]


def test_M6_scores_stay_within_one_and_integers_with_themselves_give_exactly_one() -> None:
    for seed in range(50):
        vector = np.random.default_rng(seed).integers(-9, 10, 100).astype(np.float32)
        assert rank(vector, rows(vector[None]), 1)[1] == [1.0]
        assert rank(vector, rows(-3 * vector[None]), 1)[1] == [-1.0]
        noisy = gaussian(seed, 33)
        assert abs(rank(noisy, rows(noisy[None]), 1)[1][0]) <= 1.0


@pytest.mark.parametrize("dim", [1, 2, 3, 7, 8, 9, 31, 127, 128, 129, 384, 1000, 1024])
def test_M6_a_score_depends_neither_on_the_row_position_nor_on_the_number_of_rows(dim: int) -> None:
    query, vector = gaussian(1, dim), gaussian(2, dim)
    alone = rank(query, rows(vector[None]), 1)[1][0]
    for n in (2, 3, 5, 8, 40, 257):
        others = gaussian(n, n, dim)
        for at in {0, 1, n // 2, n - 1}:
            mixed = others.copy()
            mixed[at] = vector
            ids, scores = rank(query, rows(mixed), n)
            assert scores[ids.index(at + 1)] == alone


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1e-12, 1e-3, 1.0, 1e9]))
@settings(max_examples=60, deadline=None)
def test_M6_scores_are_the_true_cosines(seed: int, dim: int, scale: float) -> None:
    query, vector = gaussian(seed, dim) * np.float32(scale), gaussian(seed + 1, dim)
    assert rank(query, rows(vector[None]), 1)[1][0] == pytest.approx(exact_cosine(query, vector), abs=1e-14)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_query_that_is_not_finite_is_refused(bad: float) -> None:
    query = np.array([1.0, bad], np.float32)
    with pytest.raises(EmbedderError, match="NaN or infinity"):
        rank(query, rows(gaussian(0, 2, 2)), 1)


@pytest.mark.parametrize("dim", [1, 8, 384, 4096])
def test_the_margin_bounds_what_float32_cosines_err_by_in_any_order(dim: int) -> None:
    rng = np.random.default_rng(dim)
    # All of one sign and rising in size: the worst that a running float32 sum can meet.
    a = np.sort(rng.random(dim)).astype(np.float32)
    for b in (a, rng.random(dim).astype(np.float32), gaussian(dim, dim)):
        truth = rank(a, rows(b[None]), 1)[1][0]
        for order in (slice(None), slice(None, None, -1)):
            x, y = a[order], b[order]
            naive = np.cumsum(x * y, dtype=np.float32)[-1] / np.sqrt(
                np.cumsum(x * x, dtype=np.float32)[-1] * np.cumsum(y * y, dtype=np.float32)[-1]
            )
            assert abs(float(naive) - truth) <= margin(dim)


def near_ties(seed: int, n: int, dim: int) -> tuple[Vectors, Vectors]:
    """A query and rows many of which lie within a rounding of each other."""
    rng = np.random.default_rng(seed)
    query, base = gaussian(seed, dim), gaussian(seed + 1, dim)
    vectors = np.tile(base, (n, 1))
    for i in range(n):
        j = rng.integers(dim)
        vectors[i, j] = np.nextafter(vectors[i, j], np.float32(rng.choice([-9.0, 9.0])))
    vectors[rng.random(n) < 0.3] = base
    far = rng.random(n) < 0.3
    vectors[far] = rng.normal(size=(int(far.sum()), dim))
    vectors *= rng.choice(np.array([1.0, 2.0, 0.5, 3.0], np.float32), (n, 1))
    return query, vectors


@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(1, 9), st.sampled_from([2, 16, 384]))
@settings(max_examples=10, deadline=None)
def test_M6_many_searches_at_once_find_what_each_finds_alone_to_the_bit(seed: int, n: int, k: int, dim: int) -> None:
    """In matrices of many sizes, with queries of zero and with rows whose squared lengths are known and not."""
    rng, allocator = np.random.default_rng(seed), Allocator(dim)
    searches, matrices, everything = [], [], []
    for number in range(30):
        query, vectors = near_ties(seed + number, max(1, n - int(rng.integers(0, 9))), dim)
        # Half of them look away from the query.
        vectors *= np.float32(rng.choice([-1.0, 1.0]))
        matrix = EpisodeMatrix(allocator)
        matrix.put(range(1, len(vectors) + 1), vectors, check_vectors(vectors, len(vectors), dim))
        searches.append(Search("e", query * np.float32(number % 7 > 0), 0 if number == 5 else k))
        matrices.append(matrix)
        everything.append(rows(vectors))
    alone = [rank(search.vector, found, search.k) for search, found in zip(searches, everything, strict=True)]
    proposed = choose(matrices, [search.vector for search in searches], [search.k for search in searches])
    for found in (everything, proposed, [Rows(each.ids, each.vectors) for each in proposed]):
        assert repr(rank_all(searches, found)) == repr(alone)
        assert repr([rank(s.vector, each, s.k) for s, each in zip(searches, found, strict=True)]) == repr(alone)
    assert rank_all([], []) == []


@pytest.mark.parametrize("count", [1, 9])
def test_M6_zero_vectors_score_zero_also_among_many_searches(count: int) -> None:
    # Of one number, since a sum of several zeros is never -0.0.
    searches = [Search("e", np.full(1, -1.0, np.float32), 2)] * count
    assert repr(rank_all(searches, [rows([[0.0], [0.0]])] * count)) == repr([([1, 2], [0.0, 0.0])] * count)


@pytest.mark.parametrize("count", [1, 3, 9])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_one_query_of_many_that_is_not_finite_is_refused(count: int, bad: float) -> None:
    allocator, matrices = Allocator(3), []
    for seed in range(count):
        matrices.append(EpisodeMatrix(allocator))
        matrices[-1].put(range(1, 31), gaussian(seed, 30, 3), check_vectors(gaussian(seed, 30, 3), 30, 3))
    searches = [Search("e", gaussian(seed, 3), 2) for seed in range(count)]
    searches[-1] = Search("e", np.array([1.0, bad, 0.0], np.float32), 2)
    found = choose(matrices, [search.vector for search in searches], [2] * count)
    assert len(found[-1].ids) == 30
    with pytest.raises(EmbedderError, match="NaN or infinity"):
        rank_all(searches, found)


@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(1, 9), st.sampled_from([2, 16, 384]))
@settings(max_examples=80, deadline=None)
def test_M6_the_mirror_proposes_every_row_that_ranking_could_choose(seed: int, n: int, k: int, dim: int) -> None:
    query, vectors = near_ties(seed, n, dim)
    matrix = EpisodeMatrix(Allocator(dim))
    matrix.put(range(1, n + 1), vectors, check_vectors(vectors, n, dim))
    assert rank(query, matrix.candidates(query, k), k) == rank(query, rows(vectors), k)


@pytest.mark.parametrize("others", [0, 9])
def test_M6_many_searches_of_one_episode_propose_what_each_alone_does(others: int) -> None:
    allocator, vectors, queries = Allocator(16), gaussian(1, 30, 16), gaussian(2, 20 + others, 16)
    matrices = [EpisodeMatrix(allocator) for _ in range(1 + others)]
    for matrix in matrices:
        matrix.put(range(1, 31), vectors, check_vectors(vectors, 30, 16))
    asked = [matrices[0]] * 20 + matrices[1:]
    found = choose(asked, list(queries), [3] * len(asked))
    for query, proposed in zip(queries, found, strict=True):
        assert rank(query, proposed, 3) == rank(query, rows(vectors), 3)


@given(st.integers(0, 10**6), st.integers(8, 90), st.integers(1, 14), st.sampled_from([2, 16]))
@settings(max_examples=60, deadline=None)
def test_M6_many_searches_at_once_propose_what_each_alone_does(seed: int, count: int, k: int, dim: int) -> None:
    rng = np.random.default_rng(seed)
    allocator, live = Allocator(dim), dict[EpisodeMatrix, Rows]()
    queries = []
    for number in range(count + 8):
        if number % 5 == 4:
            # Its slot goes to another episode, with all that stands there.
            ended = list(live)[int(rng.integers(len(live)))]
            ended.free()
            del live[ended]
        query, vectors = near_ties(seed + number, int(rng.integers(1, 40)), dim)
        n = len(vectors)
        matrix = EpisodeMatrix(allocator)
        matrix.put(range(1, n + 1), vectors, check_vectors(vectors, n, dim))
        gone = rng.choice(n, int(rng.integers(n)), replace=False)
        matrix.remove((gone + 1).tolist())
        kept = np.setdiff1d(np.arange(n), gone)
        live[matrix] = rows(vectors[kept], (kept + 1).tolist())
        queries.append(query)
    asked = rng.permutation(len(live))[: 1 + int(rng.integers(len(live)))].tolist()
    matrices = [list(live)[i] for i in asked]
    found = choose(matrices, [queries[i] for i in asked], [k] * len(asked))
    for i, matrix, proposed in zip(asked, matrices, found, strict=True):
        assert rank(queries[i], proposed, k) == rank(queries[i], live[matrix], k)


def test_an_allocator_keeps_no_slab_that_only_large_episodes_had() -> None:
    allocator, vectors = Allocator(4), gaussian(0, 100, 4)
    squares = check_vectors(vectors, 100, 4)
    for _ in range(3):
        matrices = [EpisodeMatrix(allocator) for _ in range(70)]
        for matrix in matrices:
            matrix.put(range(1, 101), vectors, squares)
        assert {capacity: len(slabs) for capacity, slabs in allocator._slabs.items() if slabs} == {16: 1, 128: 2}
        for matrix in matrices:
            matrix.free()
        assert {capacity: len(slabs) for capacity, slabs in allocator._slabs.items() if slabs} == {16: 1}


@given(st.integers(0, 10**6), st.integers(1, 120), st.integers(1, 9))
@settings(max_examples=80, deadline=None)
def test_M6_widening_proposes_every_row_that_ranking_could_choose(seed: int, n: int, k: int) -> None:
    query, vectors = near_ties(seed, n, 16)
    noise = np.random.default_rng(seed).uniform(-1, 1, n) * margin(16)
    exact = dict(zip(*rank(query, rows(vectors), n), strict=True))
    hits: list[Hit] = sorted(
        ((i + 1, exact[i + 1] + noise[i], vectors[i].tolist()) for i in range(n)), key=lambda hit: -hit[1]
    )

    def everything() -> Rows:
        raise AssertionError("fewer rows than the limit of a search need no other way")

    found = widen(lambda limit: hits[:limit], everything, k, 16)
    assert rank(query, found, k) == rank(query, rows(vectors), k)


def test_M6_more_ties_than_a_search_may_return_are_all_fetched() -> None:
    asked: list[int] = []

    def search(limit: int) -> list[Hit]:
        asked.append(limit)
        return [(i, 1.0, [1.0]) for i in range(limit, 0, -1)]

    def everything() -> Rows:
        return rows_of(list(range(1, 20_001)), [[1.0]] * 20_000, 1)

    found = widen(search, everything, 6, 1)
    assert asked[-1] == MAX_LIMIT
    assert rank(np.ones(1, np.float32), found, 6)[0] == [1, 2, 3, 4, 5, 6]


def test_swap_delete_keeps_ids_and_vectors_together() -> None:
    vectors = gaussian(0, 50, 4)
    matrix = EpisodeMatrix(Allocator(4))
    matrix.put(range(1, 51), vectors, check_vectors(vectors, 50, 4))
    matrix.remove([1, 50, 25, 99, 25])
    matrix.put([7, 60], vectors[:2], check_vectors(vectors[:2], 2, 4))
    expected = {i: vectors[i - 1] for i in range(1, 51) if i not in (1, 25, 50)} | {7: vectors[0], 60: vectors[1]}
    found = matrix.sorted_rows()
    assert found.ids.tolist() == sorted(expected)
    assert np.array_equal(found.vectors, np.array([expected[i] for i in sorted(expected)]))


def test_the_squared_lengths_that_candidates_come_with_are_their_own() -> None:
    vectors = gaussian(0, 50, 4)
    matrix = EpisodeMatrix(Allocator(4))
    matrix.put(range(1, 51), vectors, check_vectors(vectors, 50, 4))
    matrix.remove([1, 25])
    matrix.put([7], vectors[:1], check_vectors(vectors[:1], 1, 4))
    for found in (matrix.candidates(vectors[0], 9), matrix.all_rows(), matrix.sorted_rows(), matrix.pick([50, 49, 7])):
        assert found.squares is not None
        assert found.squares.tolist() == squared_lengths(found.vectors).tolist()


def test_candidates_hold_while_other_episodes_are_written_and_forgotten() -> None:
    vectors = gaussian(0, 30, 4)
    squares = check_vectors(vectors, 30, 4)
    for n in (5, 30):
        mirror = Mirror(4)
        write = Write("a", list(range(1, n + 1)), ["x"] * n, vectors[:n])
        mirror.apply([write], [squares[:n]])
        (found,) = mirror.candidates([Search("a", vectors[0], 3)])
        before = rank(vectors[0], found, 3)
        mirror.apply([Write("b", list(range(1, n + 1)), ["x"] * n, -vectors[:n])], [squares[:n]])
        mirror.forget("b")
        assert rank(vectors[0], found, 3) == before


def test_M6_the_margin_grows_with_the_roundings_of_a_product() -> None:
    assert margin(0) == 32 * 2.0**-24
    assert margin(1024) == (2 * 1024 + 32) * 2.0**-24


def test_M6_all_entries_are_ranked_in_float64() -> None:
    tiny = np.float32(1e-30)
    vectors = np.array([[tiny, 0], [0, tiny], [tiny, tiny]], np.float32)
    ids, scores = rank(np.array([tiny, 0], np.float32), Rows(np.array([1, 2, 3]), vectors), 3)
    assert ids == [1, 3, 2]
    assert scores == [1.0, pytest.approx(1 / math.sqrt(2), abs=1e-15), 0.0]


def test_M6_a_score_never_exceeds_one_however_its_sums_round() -> None:
    for x, y, factor in [(1, 8, 7), (2, 17, 5), (46, 7, 11)]:
        short = np.array([x, y], np.float32) * np.float32(0.1)
        long = np.array([x * factor, y * factor], np.float32) * np.float32(0.1)
        found = Rows(np.array([1, 2]), np.stack([long, -long]))
        assert rank(short, found, 2) == ([1, 2], [1.0, -1.0])


def test_M6_nothing_is_ranked_for_no_or_fewer_places() -> None:
    found = Rows(np.array([1]), np.ones((1, 2), np.float32))
    for k in (0, -1):
        assert rank(np.ones(2, np.float32), found, k) == ([], [])
    assert rank(np.full(2, np.nan, np.float32), found, 0) == ([], [])


def test_a_query_that_is_not_finite_is_refused_with_a_remedy() -> None:
    with pytest.raises(EmbedderError) as caught:
        rank(np.array([math.nan, 1], np.float32), Rows(np.array([1]), np.ones((1, 2), np.float32)), 1)
    says(caught.value, "query", "NaN or infinity", "finite", "check the embedder")
