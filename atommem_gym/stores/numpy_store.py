"""The store without a database: exact, in memory, gone at ``close``; the reference for the others."""

from __future__ import annotations

from collections.abc import Sequence

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Rows, Search, StoredEpisode, Write
from atommem_gym.stores.mirror import Mirror
from atommem_gym.stores.write_checks import check_writes


class NumpyStore:
    """A ``Store`` of numpy matrices, one per episode.

    Args:
        dim: numbers in a vector.
    """

    kept = False

    def __init__(self, dim: int) -> None:
        self.name = "numpy"
        self.dim = dim
        self._mirror = Mirror(dim)
        self._texts: dict[str, dict[int, str]] = {}
        self._states: dict[str, str] = {}
        self._closed = False

    def write(self, writes: Sequence[Write]) -> None:
        """Apply the writes of one step or vector step.

        Raises:
            ConfigError, EmbedderError: a write is malformed (``write_checks.check_writes``); nothing has changed.
            StoreError: the store is closed.
        """
        self._check_open()
        self._mirror.apply(writes, check_writes(writes, self.dim))
        for write in writes:
            texts = self._texts.get(write.episode)
            if texts is None:
                texts = self._texts[write.episode] = {}
            texts.update(zip(write.ids, write.texts, strict=True))
            for entry in write.deletes:
                texts.pop(entry, None)
            if write.state is not None:
                self._states[write.episode] = write.state

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates of every search, in the order asked."""
        self._check_open()
        return self._mirror.candidates(searches)

    def load(self, episode: str) -> StoredEpisode | None:
        """Everything that was written under an episode key; ``None`` if nothing was."""
        self._check_open()
        texts, state = self._texts.get(episode), self._states.get(episode)
        if not texts and state is None:
            return None
        rows = self._mirror.rows(episode)
        found = texts or {}
        return StoredEpisode(rows.ids, tuple(found[entry] for entry in rows.ids.tolist()), rows.vectors, state)

    def copy_episode(self, episode: str, copies: Sequence[str]) -> None:
        """Copy everything kept under ``episode`` to each of these new keys (``protocols.CopyingStore``)."""
        self._check_open()
        texts, state = self._texts.get(episode), self._states.get(episode)
        for copied in copies:
            self._mirror.copy(episode, copied)
            if texts is not None:
                self._texts[copied] = texts.copy()
            if state is not None:
                self._states[copied] = state

    def episodes(self) -> list[str]:
        """Keys of all episodes that hold an entry or a state, sorted."""
        self._check_open()
        return sorted({key for key, texts in self._texts.items() if texts} | set(self._states))

    def drop(self, episodes: Sequence[str]) -> None:
        """Forget these episodes; unknown keys are ignored."""
        self._check_open()
        for episode in episodes:
            self._mirror.forget(episode)
            self._texts.pop(episode, None)
            self._states.pop(episode, None)

    def release(self, episodes: Sequence[str]) -> None:
        """Forget these episodes, since this store keeps nothing."""
        self.drop(episodes)

    def close(self) -> None:
        """Forget everything. Closing twice does nothing."""
        self._closed = True
        self._mirror = Mirror(self.dim)
        self._texts.clear()
        self._states.clear()

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("this numpy store is closed and its entries are gone; open a new one with open_store")
