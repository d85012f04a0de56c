"""The store without a database (SPEC M5, M6, M13)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Write
from atommem_gym.stores.numpy_store import NumpyStore


def write(episode: str, *ids: int, deletes: Sequence[int] = (), state: str | None = None) -> Write:
    vectors = np.array([[i, 1] for i in ids], np.float32).reshape(len(ids), 2)
    return Write(episode, ids, [f"text {i}" for i in ids], vectors, deletes, state)


def test_M13_a_numpy_store_gives_back_what_was_written_under_a_key() -> None:
    store = NumpyStore(2)
    assert (store.name, store.dim, store.kept) == ("numpy", 2, False)
    assert store.load("a") is None
    store.write([write("a", 3, 1, state="{}"), write("b", 2)])
    store.write([write("a", 2, deletes=[3, 9])])
    found = store.load("a")
    assert found is not None
    assert (found.ids.tolist(), found.texts, found.state) == ([1, 2], ("text 1", "text 2"), "{}")
    assert found.vectors.tolist() == [[1, 1], [2, 1]]
    other = store.load("b")
    assert other is not None
    assert (other.ids.tolist(), other.texts, other.state) == ([2], ("text 2",), None)
    store.write([write("a", state="new")])
    again = store.load("a")
    assert again is not None
    assert again.state == "new"
    assert again.texts == found.texts


def test_M13_an_episode_is_there_while_it_holds_an_entry_or_a_state() -> None:
    store = NumpyStore(2)
    store.write([write("c", 1), write("b", 1, state="s"), write("a"), write("d", state="s")])
    assert store.episodes() == ["b", "c", "d"]
    store.write([write("c", deletes=[1]), write("b", deletes=[1])])
    assert store.episodes() == ["b", "d"]
    assert store.load("c") is None
    assert store.load("a") is None
    for key in ("b", "d"):
        stateful = store.load(key)
        assert stateful is not None
        assert (stateful.ids.tolist(), stateful.texts, stateful.state) == ([], (), "s")
        assert stateful.vectors.shape == (0, 2)
    store.write([write("c", 1)])
    store.drop(["b", "c", "never"])
    assert store.episodes() == ["d"]
    assert store.load("b") is None
    assert store.load("c") is None
    assert [len(rows.ids) for rows in store.candidates([Search("c", np.ones(2, np.float32), 3)])] == [0]


def test_M5_searches_are_answered_in_the_order_asked() -> None:
    store = NumpyStore(2)
    store.write([write("a", 1), write("b", 2)])
    asked = [Search(key, np.ones(2, np.float32), 3) for key in ("b", "none", "a")]
    assert [rows.ids.tolist() for rows in store.candidates(asked)] == [[2], [], [1]]


def test_M6_each_search_looks_for_its_own_vector_and_number_among_many() -> None:
    store = NumpyStore(40)
    vectors = np.eye(40, dtype=np.float32)
    store.write([Write("a", range(1, 41), ["x"] * 40, vectors)])
    asked = [Search("a", vectors[6], 1), Search("a", vectors[8], 1), Search("a", vectors[8], 40)]
    found = [rows.ids.tolist() for rows in store.candidates(asked)]
    assert found == [[7], [9], list(range(1, 41))]


def test_M13_released_episodes_are_forgotten_and_others_are_not() -> None:
    store = NumpyStore(2)
    store.write([write("a", 1, state="s"), write("b", 1), write("c", 1)])
    store.release(["a", "b", "never"])
    assert store.episodes() == ["c"]
    assert store.load("a") is None


def test_a_closed_numpy_store_refuses_everything_and_has_forgotten() -> None:
    store = NumpyStore(2)
    store.write([write("a", 1, state="s")])
    store.close()
    store.close()
    message = "^this numpy store is closed and its entries are gone; open a new one with open_store$"
    for call in (
        lambda: store.write([write("a", 1)]),
        lambda: store.candidates([]),
        lambda: store.load("a"),
        store.episodes,
        lambda: store.drop([]),
        lambda: store.release([]),
    ):
        with pytest.raises(StoreError, match=message):
            call()
