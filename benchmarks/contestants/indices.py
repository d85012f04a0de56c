"""Vector indices in memory, and AtomMem's released scheme over one, as contestants of ``benchmarks/stores.py``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from workloads.stores import TOP_K, Move

from contestants.per_episode import PerEpisode


class Faiss(PerEpisode):
    """A flat index an episode; vectors only, no texts."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        import faiss

        # Threads for an index of 40 rows only get into each other's way.
        faiss.omp_set_num_threads(1)

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        import faiss

        return faiss.IndexIDMap2(faiss.IndexFlatIP(self.dim))

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        if move.updates:
            episode.remove_ids(np.array(move.updates))
        episode.add_with_ids(move.vectors, np.array(move.ids))

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.remove_ids(np.array(ids))

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found: list[int] = episode.search(move.query[None], min(TOP_K, episode.ntotal))[1][0].tolist()
        return found


class Hnswlib(PerEpisode):
    """A graph index an episode; vectors only, approximate."""

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        import hnswlib

        index = hnswlib.Index(space="cosine", dim=self.dim)
        index.init_index(max_elements=64)
        index.set_ef(64)
        return {"index": index, "live": set()}

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        index = episode["index"]
        while index.get_current_count() + len(move.ids) > index.get_max_elements():
            index.resize_index(2 * index.get_max_elements())
        index.add_items(move.vectors, move.ids, num_threads=1)
        episode["live"].update(move.ids)

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        for entry in ids:
            episode["index"].mark_deleted(entry)
        episode["live"].difference_update(ids)

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        k = min(TOP_K, len(episode["live"]))
        found: list[int] = episode["index"].knn_query(move.query, k, num_threads=1)[0][0].tolist()
        return found


class Usearch(PerEpisode):
    """A graph index an episode, searched exhaustively; vectors only."""

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        from usearch.index import Index

        return Index(ndim=self.dim, metric="cos", dtype="f32")

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        if move.updates:
            episode.remove(np.array(move.updates))
        episode.add(np.array(move.ids), move.vectors, threads=1)

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.remove(np.array(ids))

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found: list[int] = episode.search(move.query, TOP_K, exact=True, threads=1).keys.tolist()
        return found


class SharedIndex:
    """The scheme of AtomMem's released code, written anew: one flat index for all episodes of a batch.

    A search asks for the ``fetch_k`` nearest entries of all episodes and then leaves out those of others, so an episode
    loses entries when the batch has more than ``fetch_k``. A delete looks for the entry's text among those of all.
    """

    def __init__(self, dim: int, fetch_k: int) -> None:
        self._dim = dim
        self._fetch_k = fetch_k

    def begin(self, num_envs: int) -> None:
        """See ``contestants.ours.Contestant``."""
        import faiss

        faiss.omp_set_num_threads(1)
        self._index = faiss.IndexFlatL2(self._dim)
        self._entries: dict[int, tuple[str, int, int]] = {}
        """Text, episode and id, in the order of the index."""
        self._order: list[int] = []
        self._next = 0
        self._texts: list[dict[int, str]] = [{} for _ in range(num_envs)]

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``contestants.ours.Contestant``."""
        found = []
        for move in moves:
            texts = self._texts[move.episode]
            for entry in [*move.deletes, *move.updates]:
                self._delete(texts.pop(entry))
            for entry, text in zip(move.ids, move.texts, strict=True):
                texts[entry] = text
                self._entries[self._next] = (text, move.episode, entry)
                self._order.append(self._next)
                self._next += 1
            self._index.add(move.vectors)
            nearest = self._index.search(move.query[None], min(self._fetch_k, self._index.ntotal))[1][0]
            own = []
            for place in nearest.tolist():
                _, episode, entry = self._entries[self._order[place]]
                if episode == move.episode:
                    own.append(entry)
            found.append(own[:TOP_K])
        return found

    def end(self) -> None:
        """See ``contestants.ours.Contestant``."""

    def close(self) -> None:
        """See ``contestants.ours.Contestant``."""

    def _delete(self, wanted: str) -> None:
        number = next(number for number, (text, _, _) in self._entries.items() if text == wanted)
        place = self._order.index(number)
        self._index.remove_ids(np.array([place]))
        del self._entries[number]
        del self._order[place]
