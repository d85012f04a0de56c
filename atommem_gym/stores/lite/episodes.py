"""A collection for each episode whose reads Milvus Lite itself answers, since it looks at every row of a collection."""

from __future__ import annotations

import contextlib
import re

from milvus_lite import MilvusLite

from atommem_gym.errors import StoreError
from atommem_gym.stores.lite.engine import LiteCollection, Row, collection_names
from atommem_gym.stores.milvus_rows import ENTRY, EPISODE, Head


class EpisodeCollections:
    """The collections of single episodes beside the shared one: made at an episode's first write, removed at its end.

    None is used for a second episode: making and removing one costs less than emptying it would, and what a failed
    write may have left behind goes with it. Each holds a thread and up to two open files.

    None is flushed while its episode runs, so a search costs more with every entry (25 µs each, since the engine turns
    rows that are not flushed into Python numbers). Flushing every 32 rows gains nothing over 40 steps (38 ms of
    processor time instead of 36) and halves 256 steps (0.47 s instead of 0.93), but each flush holds the one writer,
    and with it all other episodes, for 30 ms and more, and adds its own ways to die half way. Whoever has memories of
    hundreds of entries is better served by mirror reads.

    Args:
        engine: the open database.
        path: its folder, for messages.
        name: the shared collection; those of episodes are called after it, with a number.
        dim: numbers in a vector.
        shared: the shared collection; it has one writer together with all of these.
    """

    def __init__(self, engine: MilvusLite, path: str, name: str, dim: int, shared: LiteCollection) -> None:
        self._engine = engine
        self._path = path
        self._prefix = f"{name}_episode_"
        self._dim = dim
        self._shared = shared
        self._open: dict[str, LiteCollection] = {}
        self._last = 0

    def __contains__(self, episode: str) -> bool:
        return episode in self._open

    def episodes(self) -> list[str]:
        """Keys of the episodes that have a collection of their own."""
        return list(self._open)

    def get(self, episode: str) -> LiteCollection | None:
        """The collection of an episode, if it has one of its own."""
        return self._open.get(episode)

    def make(self, episode: str, rows: list[Row]) -> None:
        """A new collection for an episode that has none, with the rows it has; without any it is on disk once used.

        Raises:
            StoreError: the database refused; the episode has none.
        """
        self._last += 1
        collection = self._collection(self._last)
        if rows:
            try:
                collection.write(rows, [])
            except BaseException:
                # An episode whose rows are elsewhere must not be looked for here.
                with contextlib.suppress(StoreError):
                    collection.remove()
                raise
        self._open[episode] = collection

    def remove(self, episode: str) -> None:
        """Remove an episode's collection with all its rows.

        Raises:
            StoreError: the file system refused; the episode still has its collection.
        """
        self._open[episode].remove()
        del self._open[episode]

    def recover(self) -> dict[str, list[Row]]:
        """Take over the collections of a process that died: their episodes, and the rows of each.

        A collection is written first with all that its episode had, in one record of the log. So one without rows is
        of no consequence, and in any other stands what counts, also where the shared collection says otherwise.

        Raises:
            StoreError: one cannot be read.
        """
        found = {}
        for name in collection_names(self._engine):
            number = re.fullmatch(re.escape(self._prefix) + r"(\d+)", name)
            if number is None:
                continue
            self._last = max(self._last, int(number[1]))
            collection = self._collection(int(number[1]))
            rows = collection.everything()
            if rows:
                episode = str(rows[0][EPISODE])
                self._open[episode] = collection
                found[episode] = rows
            else:
                collection.remove()
        return found

    def close(self) -> None:
        """Let go of threads and files; the rows stay in the logs."""
        for collection in self._open.values():
            collection.close(flush=False)

    def _collection(self, number: int) -> LiteCollection:
        return LiteCollection(self._engine, self._path, f"{self._prefix}{number}", self._dim, self._shared)


def without_leftovers(rows: list[Row]) -> list[Row]:
    """The rows of an episode without those that are left of a longer head than its present one."""
    head = Head.of(rows)
    chunks = len(head.chunks()) if head is not None else 0
    return [row for row in rows if row[ENTRY] > -chunks]
