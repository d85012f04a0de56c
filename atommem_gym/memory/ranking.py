"""Decides what a read shows: the exact, reproducible ranking of the candidates that a store proposes (SPEC M6)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from atommem_gym.errors import EmbedderError
from atommem_gym.memory.protocols import Rows, Search, Vectors

_FLOAT32_EPSILON = 2.0**-24
"""Unit roundoff of float32."""
_MANY = 4
"""From this many searches on, arrays over all of them cost less than one search after the other."""


def margin(dim: int) -> float:
    """Bound on the error of a float32 cosine of two vectors of ``dim`` numbers, in any implementation and order.

    With the unit roundoff u = 2^-24 and any order of summation (also pairwise, blocked or fused), a float32 dot product
    errs by at most ``d·u / (1 - d·u) · |x|·|y|`` (N. J. Higham, *Accuracy and Stability of Numerical Algorithms*,
    section 3.1). A norm computed in float32 errs relatively by half of that plus a rounding, and there are two norms:
    ``d·u`` again. Normalising both vectors, dividing, or turning the cosine to a distance and back are fewer than ten
    more roundings of numbers of at most 2. Together less than ``(2·d + 32)·u`` while ``d·u`` is small; the 32 also
    covers the error of the float64 ranking itself, about ``d·2^-53``.

    If k rows have computed scores of at least t, their true scores are at least ``t - margin``, so the true k-th best
    is too, so every row that reaches or ties with it has a computed score of at least ``t - 2·margin``: that is the cut
    with which stores propose candidates.
    """
    return (2 * dim + 32) * _FLOAT32_EPSILON


def rank(query: Vectors, rows: Rows, k: int) -> tuple[list[int], list[float]]:
    """Rank ``rows`` by cosine similarity to ``query`` and return the ids and scores of the best ``k``, best first.

    Scores are float64 in [-1, 1]; a zero vector scores 0.0 against everything; ties go to the lower id. Equal vectors
    score equally to the bit wherever they stand: every row of products is contiguous and added up by itself, in numpy's
    pairwise order over ``dim`` numbers, so neither a row's position nor how many rows there are matters. No BLAS
    product has that property.

    Args:
        query: ``[dim]``
        rows: the candidates in any order; ``vectors`` is ``[n, dim]``.
        k: most ids to return; fewer if ``rows`` has fewer.

    Returns:
        The ids and the scores, best first, each of length ``min(n, k)``.

    Raises:
        EmbedderError: the query holds NaN or infinity.

    >>> rows = Rows(np.array([1, 2, 3]), np.array([[0, 1], [1, 1], [2, 0]], np.float32))
    >>> rank(np.array([1, 0], np.float32), rows, 2)
    ([3, 2], [1.0, 0.7071067811865475])
    """
    n = len(rows.ids)
    if n == 0 or k <= 0:
        return [], []
    wanted = query.astype(np.float64)
    # One array for all products, so that one call computes every sum that is not known yet.
    known = rows.squares is not None
    products = np.empty((n + 1 if known else 2 * n + 1, len(wanted)))
    np.multiply(wanted, wanted, out=products[n])
    np.multiply(rows.vectors, wanted, out=products[:n])
    if not known:
        _square(rows.vectors, products[n + 1 :])
    sums: list[float] = np.add.reduce(products, axis=1).tolist()
    _check_query(sums[n])
    squares = sums[n + 1 :] if rows.squares is None else rows.squares.tolist()
    order = sorted(
        (-_cosine(dot, square * sums[n]), entry)
        for dot, square, entry in zip(sums[:n], squares, rows.ids.tolist(), strict=True)
    )[:k]
    # Subtracting from 0.0 never gives -0.0, so that equal scores also print equally.
    return [entry for _, entry in order], [0.0 - score for score, _ in order]


def rank_all(searches: Sequence[Search], rows: Sequence[Rows]) -> list[tuple[list[int], list[float]]]:
    """:func:`rank` of each search and its candidates, equal to the bit, in less time when there are many.

    Args:
        searches: searches of one or many episodes, whose vectors have the same length.
        rows: the candidates of each search, in the same order.

    Returns:
        The ids and scores of each search, best first.

    Raises:
        EmbedderError: a query that has candidates holds NaN or infinity.
    """
    asked = [i for i, search in enumerate(searches) if search.k > 0 and len(rows[i].ids)]
    if len(asked) < _MANY:
        return [rank(search.vector, found, search.k) for search, found in zip(searches, rows, strict=True)]
    queries = np.array([searches[i].vector for i in asked], np.float64)
    query_squares = squared_lengths(queries)
    for square in query_squares.tolist():
        _check_query(square)
    counts = [len(rows[i].ids) for i in asked]
    dots = np.empty(sum(counts))
    squares = np.empty(len(dots))
    products = np.empty((max(counts), queries.shape[1]))
    end = 0
    for i, query, count in zip(asked, queries, counts, strict=True):
        start, end = end, end + count
        found = rows[i]
        # Search by search, since the products of all searches would not fit into the processor's cache.
        part = np.multiply(found.vectors, query, out=products[:count])
        np.add.reduce(part, axis=1, out=dots[start:end])
        squares[start:end] = squared_lengths(found.vectors) if found.squares is None else found.squares
    searched = np.repeat(np.arange(len(asked)), counts)
    scores = _cosines(dots, squares * query_squares[searched])
    ids = np.concatenate([rows[i].ids for i in asked])
    order = np.lexsort((ids, -scores, searched))
    best_ids, best_scores = ids[order].tolist(), scores[order].tolist()
    ranked: list[tuple[list[int], list[float]]] = [([], []) for _ in searches]
    end = 0
    for i, count in zip(asked, counts, strict=True):
        start, end = end, end + count
        last = start + min(searches[i].k, count)
        ranked[i] = (best_ids[start:last], best_scores[start:last])
    return ranked


def squared_lengths(vectors: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.float64]:
    """The squared length of each row of ``[n, dim]``, in float64, the same to the bit wherever a row stands."""
    products = np.empty(vectors.shape)
    _square(vectors, products)
    squares: npt.NDArray[np.float64] = np.add.reduce(products, axis=1)
    return squares


def _square(vectors: npt.NDArray[np.floating[Any]], out: npt.NDArray[np.float64]) -> None:
    # As float64 before they are multiplied: a product of float32 numbers would be rounded to float32.
    out[...] = vectors
    np.multiply(out, out, out=out)


def _check_query(square: float) -> None:
    if not math.isfinite(square):
        raise EmbedderError(
            "the vector of a query holds NaN or infinity; similarity needs finite numbers: check the embedder's output"
        )


def _cosine(dot: float, squares: float) -> float:
    """Cosine from a dot product and the product of both squared lengths.

    One root of the product, not a product of roots: a vector of integers then has a cosine of exactly 1.0 with itself.
    Squares of float32 numbers, and products of two of those, stay far inside the range of float64.
    """
    if squares == 0.0:
        return 0.0
    return max(-1.0, min(1.0, dot / math.sqrt(squares)))


def _cosines(dots: npt.NDArray[np.float64], squares: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``_cosine`` of many: division and root are rounded correctly, in numpy as in Python."""
    roots = np.sqrt(squares)
    # Where a length is 0 so is the dot product.
    roots[roots == 0.0] = 1.0
    cosines: npt.NDArray[np.float64] = np.minimum(np.maximum(dots / roots, -1.0), 1.0)
    # Adding 0.0 turns -0.0 to 0.0.
    return np.add(cosines, 0.0, out=cosines)
