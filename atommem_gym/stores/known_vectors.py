"""The vectors of running episodes that a client of a server knows, so that it need not ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atommem_gym.memory.protocols import Rows, Search, Vectors, Write
from atommem_gym.memory.ranking import margin, squared_lengths
from atommem_gym.stores.milvus_search import Hit
from atommem_gym.stores.mirror import Mirror


class KnownVectors:
    """A cache of vectors that were written or read; the server alone decides which entries exist.

    Several threads may use it, but each episode only one at a time.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._mirror = Mirror(dim)

    def apply(self, writes: Sequence[Write], squares: Sequence[Sequence[float]]) -> None:
        """Remember writes that have reached the server, with the squared lengths that ``check_writes`` returned."""
        self._mirror.apply(writes, squares)

    def learn(self, episode: str, ids: Sequence[int], vectors: Vectors) -> None:
        """Remember ``vectors`` ``[len(ids), dim]`` that the server returned."""
        known = Write(episode, ids, (), vectors)
        self._mirror.apply([known], [squared_lengths(vectors).tolist()])

    def unlearn(self, episode: str, ids: Sequence[int]) -> None:
        """Forget entries that the server does not have or has with other vectors."""
        self._mirror.apply([Write(episode, deletes=ids)], [[]])

    def forget(self, episode: str) -> None:
        """Forget an episode."""
        self._mirror.forget(episode)

    def ids(self, episode: str) -> list[int]:
        """The ids of the known entries, in no particular order."""
        return self._mirror.ids(episode)

    def doubtful(self, search: Search, hits: Sequence[Hit]) -> list[int]:
        """The ids of hits whose vectors are not known, or contradict the cosine that the server computed.

        A contradiction means that the server has another vector than this client wrote: another client's, or one of a
        write that failed and came late.
        """
        known = set(self.ids(search.episode))
        ids = [hit[0] for hit in hits]
        there = [i for i, entry in enumerate(ids) if entry in known]
        rows = self._mirror.pick(search.episode, [ids[i] for i in there])
        query = search.vector.astype(np.float64)
        squares = squared_lengths(rows.vectors) * float(query @ query)
        # Rows of zeros have no cosine: servers say 0 or NaN.
        lengths = np.where(squares > 0.0, np.sqrt(squares), np.inf)
        cosines = rows.vectors.astype(np.float64) @ query / lengths
        said = np.array([hits[i][1] for i in there], np.float64)
        agree = (np.abs(cosines - said) <= margin(self._dim)) | np.isinf(lengths)
        sure = {ids[i] for i, agrees in zip(there, agree.tolist(), strict=True) if agrees}
        return [entry for entry in ids if entry not in sure]

    def pick(self, episode: str, ids: Sequence[int]) -> Rows:
        """The known entries among ``ids``."""
        known = set(self.ids(episode))
        return self._mirror.pick(episode, [entry for entry in ids if entry in known])
