"""Turns the hits of a Milvus engine, which rounds in its own way, into candidates that are sure to hold the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import numpy as np

from atommem_gym.memory.protocols import Rows, Vectors
from atommem_gym.memory.ranking import margin

Hit: TypeAlias = tuple[int, float, Sequence[float]]
"""Entry id, cosine as the engine computed it, vector (empty if it was not requested)."""

MAX_LIMIT = 16_384
"""The most rows that Milvus returns for one search."""
_EXTRA = 10
_FACTOR = 4


def widen(
    search: Callable[[int], Sequence[Hit]],
    everything: Callable[[], Rows],
    k: int,
    dim: int,
    *,
    extra: int = _EXTRA,
    pick: Callable[[list[int]], Rows] | None = None,
) -> Rows:
    """The rows that :func:`sufficient` finds, or all rows of the episode if too many tie.

    Args:
        search: returns the ``limit`` nearest rows of the episode, nearest first.
        everything: returns all its rows, for the case that more than ``MAX_LIMIT`` tie.
        k: how many entries the read shows.
        dim: numbers in a vector.
        extra: how many rows beyond ``k`` the first search asks for.
        pick: returns the rows with these ids, where their vectors are known without the engine.
    """
    hits = sufficient(search, k, dim, extra=extra)
    if hits is None:
        return everything()
    ids = [hit[0] for hit in hits]
    return rows_of(ids, [hit[2] for hit in hits], dim) if pick is None else pick(ids)


def sufficient(
    search: Callable[[int], Sequence[Hit]], k: int, dim: int, *, extra: int = _EXTRA
) -> Sequence[Hit] | None:
    """Ask for more and more of the nearest rows until no row that could be among the best ``k`` is missing.

    That holds if fewer rows came than were asked for, or if the last one is more than twice the rounding error below
    the k-th (``ranking.margin``). ``None`` if more than ``MAX_LIMIT`` tie, so that no search can tell. The arguments
    are those of ``widen``.
    """
    if k <= 0:
        return []
    limit = k + extra
    while limit <= MAX_LIMIT:
        hits = search(limit)
        if len(hits) < limit or hits[-1][1] < hits[k - 1][1] - 2.0 * margin(dim):
            return hits
        limit = limit * _FACTOR if limit * _FACTOR <= MAX_LIMIT or limit == MAX_LIMIT else MAX_LIMIT
    return None


def rows_of(ids: Sequence[int], vectors: Sequence[Sequence[float]], dim: int) -> Rows:
    """Rows from what an engine returns: float32 numbers as Python floats, so that nothing is rounded."""
    found: Vectors = np.asarray(vectors, np.float32).reshape(len(ids), dim)
    return Rows(np.asarray(ids, np.int64), found)


def unit(query: Vectors) -> list[float]:
    """The query scaled to length 1, so that an engine's float32 squares neither overflow nor vanish; NaN stays NaN."""
    wide = query.astype(np.float64)
    norm = float(np.sqrt(wide @ wide))
    scaled: list[float] = (wide / norm if norm else wide).astype(np.float32).tolist()
    return scaled
