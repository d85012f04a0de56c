"""The vectors of running episodes as far as a client of a server knows them, so that it need not ask for them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from atommem_gym.memory.protocols import Rows, Search, Vectors, Write
from atommem_gym.memory.ranking import margin, squared_lengths
from atommem_gym.stores.milvus_search import Hit
from atommem_gym.stores.mirror import Mirror


class KnownVectors:
    """Remembers what was written and read; the server stays the judge of what is there.

    Every episode may be used by another thread, one episode by one thread at a time.
    """

    def __init__(self, dim: int) -> None:
        self._dim = dim
        self._mirror = Mirror(dim)

    def apply(self, writes: Sequence[Write], squares: Sequence[Sequence[float]]) -> None:
        """Remember checked writes that have arrived, with what ``check_writes`` says of each."""
        self._mirror.apply(writes, squares)

    def learn(self, episode: str, ids: Sequence[int], vectors: Vectors) -> None:
        """Remember what the server says that it has: ``[len(ids), dim]``."""
        known = Write(episode, ids, (), vectors)
        self._mirror.apply([known], [squared_lengths(vectors).tolist()])

    def unlearn(self, episode: str, ids: Sequence[int]) -> None:
        """Forget entries that the server does not have, or has with other vectors."""
        self._mirror.apply([Write(episode, deletes=ids)], [[]])

    def forget(self, episode: str) -> None:
        """Forget an episode."""
        self._mirror.forget(episode)

    def ids(self, episode: str) -> list[int]:
        """The entries that are known, in no particular order."""
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
        """The entries among ``ids`` that are known."""
        known = set(self.ids(episode))
        return self._mirror.pick(episode, [entry for entry in ids if entry in known])
