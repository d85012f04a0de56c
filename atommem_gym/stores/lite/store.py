"""The default store: Milvus Lite in this process, written through, with reads answered from an exact mirror."""

from __future__ import annotations

import os
from collections.abc import Sequence

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Rows, Search, StoredEpisode, Write
from atommem_gym.stores.lite.databases import acquire, release
from atommem_gym.stores.milvus_rows import check_episode


class MilvusLiteStore:
    """A ``Store`` in a Milvus Lite database.

    All stores of a process on one path, and all temporary ones, share one database and its one writer. Several
    threads may use them, an episode only one at a time. When ``write`` returns, the rows outlive this process (kill -9
    included), but a crash of the machine may take the last ones, since Milvus Lite does not call fsync. A process that
    dies between the insert and the delete of a step does not lose the delete: the insert names the deletes
    (``milvus_rows.Head``), and loading the episode finishes them.

    Args:
        path: the folder of a kept database, or ``None`` for the temporary one of the process.
        dim: numbers in a vector.
        reads: what proposes candidates, ``"mirror"`` or ``"milvus"``. The engine turns all rows of a collection into
            Python numbers for each search, so the episodes that it answers for have collections of their own while
            they run, which takes two open files and a thread each.
        embedder: recorded in a kept database.

    Raises:
        StoreLockedError: another process holds the database.
        StoreError: it cannot be opened or holds vectors of another dimension.
    """

    def __init__(self, path: str | None, dim: int, *, reads: str = "mirror", embedder: str = "") -> None:
        # The real path, however it was spelled, since the name tells whether a kept memory is in use.
        self.name = "milvus" if path is None else f"milvus://{os.path.realpath(path)}"
        self.dim = dim
        self.kept = path is not None
        self._reads = reads
        self._process = os.getpid()
        self._closed = False
        self._own: set[str] = set()
        self._database = acquire(path)
        try:
            self._table = self._database.table(dim)
            if self._table.dim != dim:
                raise StoreError(
                    f"the database {self._database.path!r} holds vectors of {self._table.dim} numbers (embedder "
                    f"{self._table.embedder() or 'unknown'!r}), but {dim} were asked for (embedder "
                    f"{embedder or 'unknown'!r}); use the embedder it was written with, or another path"
                )
            if self.kept:
                self._table.record(embedder)
        except BaseException:
            release(self._database)
            raise

    def write(self, writes: Sequence[Write]) -> None:
        """Apply the writes of one step or vector step: one insert and one delete, however many writes there are.

        With ``reads="milvus"`` it is one of each per episode.

        Raises:
            ConfigError, EmbedderError: a write is malformed (``write_checks.check_writes``); nothing has changed.
            StoreError: the disk is full or broken; each episode is written completely or not at all (with
                ``reads="mirror"`` all or none), mirror and database agree, and the same call may be repeated.
        """
        self._check_usable()
        if not self.kept:
            self._own.update(write.episode for write in writes)
        self._table.write(writes, apart=self._reads == "milvus")

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates of every search, in the order asked."""
        self._check_usable()
        return self._table.mirrored(searches) if self._reads == "mirror" else self._table.searched(searches)

    def load(self, episode: str) -> StoredEpisode | None:
        """Everything that the database keeps under an episode key; ``None`` if nothing is."""
        self._check_usable()
        check_episode(episode)
        return self._table.load(episode)

    def episodes(self) -> list[str]:
        """Keys of all episodes in the database that hold an entry or a state, sorted."""
        self._check_usable()
        return self._table.episodes()

    def drop(self, episodes: Sequence[str]) -> None:
        """Delete all rows of these episodes; unknown keys are ignored."""
        self._check_usable()
        for episode in episodes:
            check_episode(episode)
        if episodes:
            self._table.drop(episodes)
            self._own.difference_update(episodes)

    def release(self, episodes: Sequence[str]) -> None:
        """Delete these episodes from a temporary database; in a kept one, free their mirror."""
        if self.kept:
            self._check_usable()
            self._table.release(episodes)
        else:
            self.drop(episodes)

    def close(self) -> None:
        """Drop this store's episodes from a temporary database and release the database. Closing twice does nothing.

        In a forked child it does nothing, since the database belongs to the parent.
        """
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._process:
            return
        try:
            # The rows of the last user are removed with the folder, which at exit may be gone already.
            if self._own and self._database.users > 1 and not self._database.closed:
                self._table.drop(sorted(self._own))
        finally:
            release(self._database)

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(f"this store ({self.name}) is closed; open a new one with open_store")
        if os.getpid() != self._process:
            raise StoreError(
                f"this store ({self.name}) was opened by process {self._process}, and a forked child cannot use it; "
                "open a store in the child (with a path of its own if kept)"
            )
