"""Writes of a small store, and what is found of them by every way of reading."""

from __future__ import annotations

import numpy as np

from atommem_gym.memory.protocols import Search, Store, StoredEpisode, Write

DIM = 4


def one(episode: str, entry: int, text: str = "t", deletes: tuple[int, ...] = (), state: str | None = None) -> Write:
    gone = [i for i in deletes if i > 0]
    return Write(episode, [entry], [text], np.full((1, DIM), entry, np.float32), gone, state)


def loaded(store: Store, episode: str) -> StoredEpisode:
    found = store.load(episode)
    assert found is not None
    return found


def ids(store: Store, episode: str) -> list[int]:
    """Ids by both ways of reading, which must agree."""
    kept_ids: list[int] = loaded(store, episode).ids.tolist()
    (rows,) = store.candidates([Search(episode, np.ones(DIM, np.float32), 1000)])
    assert sorted(rows.ids.tolist()) == kept_ids
    return kept_ids
