"""The exact in-memory copy of the live entries, from which the numpy store and the embedded store answer."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from atommem_gym.memory.protocols import Ids, Rows, Search, Vectors, Write
from atommem_gym.memory.ranking import margin

_FEW = 12
"""Up to this many entries it is cheaper to rank all than to choose among them."""
_FIRST_ROWS = 16
_BLOCK = 4
"""From this many new entries on it is cheaper to write them at once."""
_MANY = 8
"""From this many searches on, arrays over all of them cost less than one search after the other."""
_SLOTS = 64
_SLAB_BYTES = 2**25


class Slab:
    """Memory for the matrices of several episodes, so that one product searches all of them."""

    def __init__(self, capacity: int, dim: int) -> None:
        slots = max(1, min(_SLOTS, _SLAB_BYTES // (4 * capacity * dim)))
        self.capacity = capacity
        # Zeros take no memory until they are overwritten.
        self.rows: Vectors = np.zeros((slots, capacity, dim), np.float32)
        self.inverse: Vectors = np.zeros((slots, capacity), np.float32)
        """The inverse of each row's length; 0 for rows of zeros."""
        self.squares: npt.NDArray[np.float64] = np.zeros((slots, capacity))
        self.ids: Ids = np.zeros((slots, capacity), np.int64)
        self.free = list(range(slots))[::-1]
        """Slots that no episode uses, the lowest last."""


class Allocator:
    """Hands out slots of slabs; safe to use from several threads."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._slabs: dict[int, list[Slab]] = {}
        self._lock = threading.Lock()

    def allocate(self, capacity: int) -> tuple[Slab, int]:
        """A slab with ``capacity`` rows per episode, and a free slot of it."""
        with self._lock:
            slabs = self._slabs.setdefault(capacity, [])
            slab = next((slab for slab in slabs if slab.free), None)
            if slab is None:
                slab = Slab(capacity, self.dim)
                slabs.append(slab)
            return slab, slab.free.pop()

    def free(self, slab: Slab, slot: int) -> None:
        """Take a slot back and drop a slab without episodes, except the last one in which an episode can begin."""
        with self._lock:
            slab.free.append(slot)
            slabs = self._slabs[slab.capacity]
            needed = slab.capacity == _FIRST_ROWS and len(slabs) == 1
            if len(slab.free) == len(slab.rows) and not needed:
                slabs.remove(slab)


class EpisodeMatrix:
    """The entries of one episode as a growing matrix: amortised O(dim) to put or remove one, one product to search.

    Args:
        allocator: holds the rows; several matrices of one allocator can be searched at once (:func:`choose`).
    """

    __slots__ = ("_allocator", "_ids", "_inverse", "_position", "_rows", "_size", "_squares", "slab", "slot")

    def __init__(self, allocator: Allocator) -> None:
        self._allocator = allocator
        self._position: dict[int, int] = {}
        self._size = 0
        self._settle(*allocator.allocate(_FIRST_ROWS))

    def __len__(self) -> int:
        return self._size

    @property
    def ids(self) -> list[int]:
        """The ids of the entries, in no particular order."""
        return list(self._position)

    def put(self, ids: Sequence[int], vectors: Vectors, squares: Sequence[float]) -> None:
        """Insert or replace entries with ``vectors`` ``[len(ids), dim]`` and their squared lengths ``[len(ids)]``."""
        if len(ids) >= _BLOCK and self._position.keys().isdisjoint(ids):
            self._append(ids, vectors, squares)
            return
        for i, entry in enumerate(ids):
            at = self._position.get(entry)
            if at is None:
                at = self._size
                self._reserve(at + 1)
                self._position[entry] = at
                self._ids[at] = entry
                self._size += 1
            self._rows[at] = vectors[i]
            square = squares[i]
            self._squares[at] = square
            self._inverse[at] = 1.0 / math.sqrt(square) if square else 0.0

    def _append(self, ids: Sequence[int], vectors: Vectors, squares: Sequence[float]) -> None:
        """Insert many entries, all of them new."""
        start, end = self._size, self._size + len(ids)
        self._reserve(end)
        self._position.update(zip(ids, range(start, end), strict=True))
        self._ids[start:end] = ids
        self._rows[start:end] = vectors
        self._squares[start:end] = squares
        self._inverse[start:end] = [1.0 / math.sqrt(square) if square else 0.0 for square in squares]
        self._size = end

    def remove(self, ids: Sequence[int]) -> None:
        """Remove entries by moving the last row into each gap; an unknown id is ignored."""
        for entry in ids:
            at = self._position.pop(entry, None)
            if at is None:
                continue
            last = self._size = self._size - 1
            if at != last:
                moved = int(self._ids[last])
                self._ids[at] = moved
                self._rows[at] = self._rows[last]
                self._inverse[at] = self._inverse[last]
                self._squares[at] = self._squares[last]
                self._position[moved] = at

    def cosines(self, unit: Vectors, out: Vectors) -> None:
        """Cosines to a query of length 1 or 0, in float32, into the first places of ``out``."""
        n = self._size
        scores = out[:n]
        np.dot(self._rows[:n], unit, out=scores)
        np.multiply(scores, self._inverse[:n], out=scores)

    def pick(self, ids: Sequence[int]) -> Rows:
        """Copies of these entries.

        Raises:
            KeyError: one of them is not here.
        """
        return self.at(np.array([self._position[entry] for entry in ids], np.intp))

    def all_rows(self) -> Rows:
        """All entries, in no particular order. Views, not copies: they are valid until the next change."""
        n = self._size
        return Rows(self._ids[:n], self._rows[:n], self._squares[:n])

    def at(self, places: npt.NDArray[np.intp]) -> Rows:
        """Copies of the entries in these places."""
        return Rows(self._ids.take(places), self._rows.take(places, axis=0), self._squares.take(places))

    def candidates(self, query: Vectors, k: int) -> Rows:
        """All entries that can be among the best ``k`` (see ``ranking.margin``), or simply all when there are few.

        They are valid until the next change.
        """
        n = self._size
        if k <= 0:
            return self.at(np.empty(0, np.intp))
        if n <= max(k, _FEW):
            return self.all_rows()
        wide = query.astype(np.float64)
        length = math.sqrt(wide @ wide)
        if not math.isfinite(length):
            # Ranking raises the error.
            return self.all_rows()
        scores = np.empty(n, np.float32)
        self.cosines((wide / length if length else wide).astype(np.float32), scores)
        ordered = scores.copy()
        ordered.partition(n - k)
        return self.at((scores >= ordered[n - k] - 2.0 * margin(len(wide))).nonzero()[0])

    def sorted_rows(self) -> Rows:
        """Copies of all entries by ascending id."""
        return self.at(np.argsort(self._ids[: self._size]))

    def copy(self) -> EpisodeMatrix:
        """The same entries in a slot of their own."""
        twin = object.__new__(EpisodeMatrix)
        n = twin._size = self._size
        twin._allocator = self._allocator
        twin._position = self._position.copy()
        twin._settle(*self._allocator.allocate(self.slab.capacity))
        twin._rows[:n] = self._rows[:n]
        twin._inverse[:n] = self._inverse[:n]
        twin._squares[:n] = self._squares[:n]
        twin._ids[:n] = self._ids[:n]
        return twin

    def free(self) -> None:
        """Give the slot back; the matrix must not be used any more."""
        self._allocator.free(self.slab, self.slot)

    def _settle(self, slab: Slab, slot: int) -> None:
        self.slab, self.slot = slab, slot
        self._rows, self._inverse = slab.rows[slot], slab.inverse[slot]
        self._squares, self._ids = slab.squares[slot], slab.ids[slot]

    def _reserve(self, rows: int) -> None:
        """Make room for ``rows`` rows in all, in one move: each capacity between might cost a slab of its own."""
        slab, slot, capacity = self.slab, self.slot, self.slab.capacity
        if rows <= capacity:
            return
        while capacity < rows:
            capacity *= 2
        before = (self._rows, self._inverse, self._squares, self._ids)
        self._settle(*self._allocator.allocate(capacity))
        for old, new in zip(before, (self._rows, self._inverse, self._squares, self._ids), strict=True):
            new[: self._size] = old[: self._size]
        self._allocator.free(slab, slot)


def choose(matrices: Sequence[EpisodeMatrix], queries: Sequence[Vectors], ks: Sequence[int]) -> list[Rows]:
    """:meth:`EpisodeMatrix.candidates` of each matrix, query ``[dim]`` and ``k``, cheaper when there are many."""
    if len(matrices) < _MANY:
        return [matrix.candidates(query, k) for matrix, query, k in zip(matrices, queries, ks, strict=True)]
    together: dict[tuple[int, int], list[int]] = {}
    for i, (matrix, k) in enumerate(zip(matrices, ks, strict=True)):
        if len(matrix) > max(k, _FEW) and k > 0:
            together.setdefault((id(matrix.slab), k), []).append(i)
    found: dict[int, Rows] = {}
    for (_, k), members in together.items():
        slots = {matrices[i].slot for i in members}
        last = max(slots)
        # One query per slot; all slots up to the last are searched, whichever episode uses them.
        if len(members) >= _MANY and len(slots) == len(members) and last < 2 * len(members):
            wide = np.array([queries[i] for i in members], np.float64)
            found.update(zip(members, _choose_together([matrices[i] for i in members], wide, k, last), strict=True))
    return [
        found[i] if i in found else matrix.candidates(query, k)
        for i, (matrix, query, k) in enumerate(zip(matrices, queries, ks, strict=True))
    ]


def _choose_together(
    matrices: Sequence[EpisodeMatrix], wide: npt.NDArray[np.float64], k: int, last: int
) -> Iterator[Rows]:
    """The candidates of queries in matrices of one slab, in slots up to ``last``, of more than ``k`` entries each."""
    slab = matrices[0].slab
    slots = np.array([matrix.slot for matrix in matrices])
    sizes = np.array([len(matrix) for matrix in matrices])
    lengths = np.sqrt(np.einsum("ij,ij->i", wide, wide))
    # A query that is not finite proposes every row, as a query of zeros does, and ranking then raises the error.
    wide[~np.isfinite(lengths)] = 0.0
    lengths[~np.isfinite(lengths) | (lengths == 0.0)] = 1.0
    units = np.zeros((last + 1, wide.shape[1], 1), np.float32)
    units[slots, :, 0] = wide / lengths[:, None]
    used = int(sizes.max())
    scores = np.matmul(slab.rows[: last + 1, :used], units)[slots, :, 0]
    scores *= slab.inverse[slots, :used]
    scores[np.arange(used) >= sizes[:, None]] = -np.inf
    cuts = np.partition(scores, used - k, axis=1)[:, used - k] - 2.0 * margin(wide.shape[1])
    which, places = (scores >= cuts[:, None]).nonzero()
    where = slots[which], places
    ids, rows, squares = slab.ids[where], slab.rows[where], slab.squares[where]
    start = 0
    for end in np.searchsorted(which, np.arange(1, len(matrices) + 1)).tolist():
        yield Rows(ids[start:end], rows[start:end], squares[start:end])
        start = end


class Mirror:
    """The matrices of all episodes of a store.

    Several threads may use it, but each episode only one at a time.
    """

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self._allocator = Allocator(dim)
        self._episodes: dict[str, EpisodeMatrix] = {}
        self._nothing = EpisodeMatrix(Allocator(dim))

    def __contains__(self, episode: str) -> bool:
        return episode in self._episodes

    def episodes(self) -> list[str]:
        """Keys of the episodes that are mirrored, also those without entries."""
        return list(self._episodes)

    def ids(self, episode: str) -> list[int]:
        """Ids of the live entries of an episode; empty if it is not mirrored."""
        matrix = self._episodes.get(episode)
        return [] if matrix is None else matrix.ids

    def apply(self, writes: Sequence[Write], squares: Sequence[Sequence[float]]) -> None:
        """Apply checked writes, with the squared lengths that ``check_writes`` gave for each vector."""
        for write, lengths in zip(writes, squares, strict=True):
            matrix = self._episodes.get(write.episode)
            if matrix is None:
                matrix = self._episodes[write.episode] = EpisodeMatrix(self._allocator)
            if write.ids:
                matrix.put(write.ids, write.vectors, lengths)
            if write.deletes:
                matrix.remove(write.deletes)

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates of every search, in the order asked."""
        matrices = [self._episodes.get(search.episode, self._nothing) for search in searches]
        return choose(matrices, [search.vector for search in searches], [search.k for search in searches])

    def pick(self, episode: str, ids: Sequence[int]) -> Rows:
        """These entries of an episode.

        Raises:
            KeyError: one of them is not mirrored.
        """
        return self._episodes.get(episode, self._nothing).pick(ids)

    def rows(self, episode: str) -> Rows:
        """All entries of an episode by ascending id; none if it is not mirrored."""
        return self._episodes.get(episode, self._nothing).sorted_rows()

    def copy(self, episode: str, copied: str) -> None:
        """Copy what is mirrored of ``episode`` to the key ``copied``."""
        matrix = self._episodes.get(episode)
        self.forget(copied)
        if matrix is not None:
            self._episodes[copied] = matrix.copy()

    def forget(self, episode: str) -> None:
        """Free the memory of an episode; an unknown one is ignored."""
        matrix = self._episodes.pop(episode, None)
        if matrix is not None:
            matrix.free()
