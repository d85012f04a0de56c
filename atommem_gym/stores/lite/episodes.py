"""Gives each episode whose reads Milvus Lite answers its own collection, since a search looks at every row of one."""

from __future__ import annotations

import contextlib
import re

from milvus_lite import MilvusLite

from atommem_gym.errors import StoreError
from atommem_gym.stores.lite.engine import LiteCollection, Row, collection_names
from atommem_gym.stores.milvus_rows import ENTRY, EPISODE, Head


class EpisodeCollections:
    """The collections of single episodes, beside the shared one: made at an episode's first write, removed at its end.

    None is used for a second episode: making and removing one costs less than emptying it, and what a failed
    write may have left behind is removed with it. Each holds a thread and up to two open files.

    None is flushed while its episode runs, so a search costs more with every entry (25 µs each, since the engine turns
    rows that are not flushed into Python numbers). Flushing every 32 rows gains nothing over 40 steps (38 ms of
    processor time instead of 36) and halves 256 steps (0.47 s instead of 0.93), but each flush holds the one writer,
    and with it all other episodes, for 30 ms and more, and adds new ways to fail half way. For memories of
    hundreds of entries use mirror reads.

    Args:
        engine: the open database.
        path: its folder, for messages.
        name: the shared collection; those of episodes have its name and a number.
        dim: numbers in a vector.
        shared: the shared collection; its lock guards the collections of the episodes, too.
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
        """Keys of the episodes that have their own collection."""
        return list(self._open)

    def get(self, episode: str) -> LiteCollection | None:
        """The collection of an episode; ``None`` if it has none of its own."""
        return self._open.get(episode)

    def make(self, episode: str, rows: list[Row]) -> None:
        """Make a collection for an episode that has none; without ``rows`` it appears on disk at its first use.

        Raises:
            StoreError: the database refused; the episode still has no collection.
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
        """Take over the collections of a process that died, and return the rows of each by episode key.

        The first write to a collection holds all rows that its episode had, in one record of the log. So a collection
        without rows is removed, and any other one counts, also where the shared collection says otherwise.

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
        """Release threads and files; the rows stay in the logs."""
        for collection in self._open.values():
            collection.close(flush=False)

    def _collection(self, number: int) -> LiteCollection:
        return LiteCollection(self._engine, self._path, f"{self._prefix}{number}", self._dim, self._shared)


def without_leftovers(rows: list[Row]) -> list[Row]:
    """The rows of an episode, without leftovers of an earlier, longer head."""
    head = Head.of(rows)
    chunks = len(head.chunks()) if head is not None else 0
    return [row for row in rows if row[ENTRY] > -chunks]
