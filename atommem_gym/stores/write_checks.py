"""Checks that every store makes of a write before it changes anything."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np

from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, Vectors, Write
from atommem_gym.memory.ranking import squared_lengths
from atommem_gym.stores.milvus_rows import check_episode, to_varchar

_LARGEST_NORM, _SMALLEST_NORM = 1e15, 1e-15


def check_writes(writes: Sequence[Write], dim: int) -> list[list[float]]:
    """Check the writes of one call and return the squared lengths of the vectors of each, ``[len(ids)]``.

    Raises:
        ConfigError: a malformed episode key, an episode twice, ids that are not positive, repeated or also deleted,
            lengths that differ, a text over ``MAX_TEXT_BYTES``.
        EmbedderError: vectors of another dimension than ``dim`` or type than float32, not finite, or so long or short
            that float32 cannot hold their squares.
    """
    if len(writes) > 1 and len({write.episode for write in writes}) < len(writes):
        raise ConfigError("one call writes an episode twice; a step has one net effect: merge the writes of an episode")
    blocks = []
    for write in writes:
        _check_write(write)
        if len(write.ids):
            _check_shape(write.vectors, len(write.ids), dim)
            blocks.append(write.vectors)
    if not blocks:
        return [[] for _ in writes]
    squares = check_vectors(np.concatenate(blocks) if len(blocks) > 1 else blocks[0], sum(map(len, blocks)), dim)
    ends = itertools.accumulate(len(write.ids) for write in writes)
    return [squares[end - len(write.ids) : end] for write, end in zip(writes, ends, strict=True)]


def _check_write(write: Write) -> None:
    check_episode(write.episode)
    ids = write.ids
    n = len(ids)
    if write.deletes and min(write.deletes) < 1:
        # Ids below 1 belong to the rows of the head.
        raise ConfigError(
            f"episode {write.episode!r}: the deletes {list(write.deletes)} name an id below 1, which no entry has; "
            "give the net effect of the step"
        )
    if n == 0:
        if len(write.texts) or len(write.vectors):
            raise ConfigError(f"episode {write.episode!r}: texts or vectors without ids; give each entry an id")
        return
    if len(write.texts) != n:
        raise ConfigError(f"episode {write.episode!r}: {n} ids but {len(write.texts)} texts; give one text per id")
    if min(ids) < 1 or (n > 1 and len(set(ids)) < n) or (write.deletes and not set(ids).isdisjoint(write.deletes)):
        raise ConfigError(
            f"episode {write.episode!r}: ids {list(ids)} must be positive, different, and none of them in the deletes "
            f"{list(write.deletes)}; give the net effect of the step"
        )
    for entry, text in zip(ids, write.texts, strict=True):
        if len(text) * 4 > MAX_TEXT_BYTES and len(to_varchar(text).encode()) > MAX_TEXT_BYTES:
            raise ConfigError(
                f"episode {write.episode!r}, entry {entry}: a text of {len(text)} characters exceeds the "
                f"{MAX_TEXT_BYTES} bytes of UTF-8 that a row can hold; lower max_entry_tokens or cut the text"
            )


def check_vectors(vectors: Vectors, n: int, dim: int) -> list[float]:
    """Check that ``n`` vectors of ``dim`` float32 numbers can be compared, and return their squared lengths.

    Raises:
        EmbedderError: see ``check_writes``.
    """
    _check_shape(vectors, n, dim)
    squares: list[float] = squared_lengths(vectors).tolist()
    for square in squares:
        # Written as a positive test so that NaN fails it.
        if not (square == 0.0 or _SMALLEST_NORM**2 <= square <= _LARGEST_NORM**2):
            raise EmbedderError(
                f"a vector of length {math.sqrt(square)} cannot be compared in float32; lengths must be 0 or between "
                f"{_SMALLEST_NORM} and {_LARGEST_NORM}: normalise the embeddings"
            )
    return squares


def _check_shape(vectors: Vectors, n: int, dim: int) -> None:
    if vectors.shape != (n, dim) or vectors.dtype != np.float32:
        raise EmbedderError(
            f"vectors of shape {vectors.shape} and type {vectors.dtype}, expected {(n, dim)} float32; "
            "open the store with the embedder's own `dim`"
        )
