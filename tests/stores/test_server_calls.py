"""What a step asks of a Milvus server: one search with strong consistency, without vectors, all episodes at once."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException
from support.servers import AnyServer, milvus_server, own_database  # noqa: F401
from support.stores.written import DIM, loaded, one

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Store, Write
from atommem_gym.memory.ranking import rank
from atommem_gym.stores.loading import open_store
from atommem_gym.stores.milvus_connection import Connection
from atommem_gym.stores.milvus_server import MilvusServerStore

QUERY = np.arange(1, DIM + 1, dtype=np.float32)


@pytest.fixture(scope="module")
def url(milvus_server: AnyServer) -> Iterator[str]:  # noqa: F811
    with own_database(milvus_server) as name:
        yield name


@pytest.fixture(params=[False, True], ids=["temporary", "kept"])
def store(request: pytest.FixtureRequest, url: str) -> Iterator[Store]:
    opened = open_store(url, DIM, keep=request.param)
    yield opened
    opened.drop(opened.episodes())
    opened.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Name and keywords of every call of the client from now on."""
    seen: list[tuple[str, dict[str, Any]]] = []

    def recorded(name: str) -> Any:
        original = getattr(MilvusClient, name)

        def call(self: MilvusClient, *args: Any, **keywords: Any) -> Any:
            seen.append((name, keywords))
            return original(self, *args, **keywords)

        return call

    for name in ("search", "query", "get", "upsert", "delete"):
        monkeypatch.setattr(MilvusClient, name, recorded(name))
    return seen


def vector(*numbers: float) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.array([numbers], np.float32)


def best(store: Store, episode: str, k: int = 3) -> tuple[list[int], list[float]]:
    return rank(QUERY, store.candidates([Search(episode, QUERY, k)])[0], k)


def test_finding_3_9_a_step_is_one_search_that_asks_for_no_vectors(
    store: Store, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    store.write([one("a", 1, state="{}")])
    for entry in range(2, 6):
        calls.clear()
        store.write([one("a", entry, deletes=(entry - 2,), state=f"{entry}")])
        assert best(store, "a")[0] == [entry - 1, entry]
        assert [name for name, _ in calls if name in ("search", "query", "get")] == ["search"]
        (search,) = [keywords for name, keywords in calls if name == "search"]
        assert search["consistency_level"] == "Strong"
        assert search["output_fields"] == []


def test_finding_3_9_the_searches_of_a_vector_step_run_together(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    episodes = [f"e{i}" for i in range(12)]
    store.write([one(episode, 1 + i) for i, episode in enumerate(episodes)])
    original = MilvusClient.search
    # Nobody passes before all are there: searches one after the other would break it.
    all_here = threading.Barrier(len(episodes), timeout=20.0)

    def search(self: MilvusClient, *args: Any, **keywords: Any) -> Any:
        all_here.wait()
        return original(self, *args, **keywords)

    monkeypatch.setattr(MilvusClient, "search", search)
    found = store.candidates([Search(episode, QUERY, 3) for episode in episodes])
    assert [rows.ids.tolist() for rows in found] == [[1 + i] for i in range(len(episodes))]


def test_finding_3_9_a_memory_gone_on_with_is_read_once(url: str, calls: list[tuple[str, dict[str, Any]]]) -> None:
    first = open_store(url, DIM, keep=True)
    vectors = np.random.default_rng(0).normal(size=(30, DIM)).astype(np.float32)
    first.write([Write("old", range(1, 31), ["t"] * 30, vectors, state="{}")])
    expected = best(first, "old", 6)
    first.close()
    again = open_store(url, DIM, keep=True)
    loaded(again, "old")
    calls.clear()
    assert best(again, "old", 6) == expected
    assert [name for name, _ in calls] == ["search"]
    again.release(["old"])
    calls.clear()
    # Not loaded, so its vectors are not known: they are asked for, once.
    assert best(again, "old", 6) == expected
    assert [name for name, _ in calls if name == "search"] == ["search"]
    asked = len(calls)
    assert best(again, "old", 6) == expected
    assert [name for name, _ in calls[asked:]] == ["search"]
    again.drop(["old"])
    again.close()


def test_M6_a_vector_that_another_client_wrote_over_counts_as_it_is_on_the_server(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, theirs = open_store(url, DIM, keep=True), open_store(url, DIM, keep=True)
    mine.write([Write("both", [1, 2], ["a", "b"], np.stack([QUERY, -QUERY]), state="{}")])
    assert best(mine, "both") == ([1, 2], [1.0, -1.0])
    theirs.write([Write("both", [1, 3], ["a", "c"], np.stack([-2 * QUERY, 2 * QUERY]), [2])])
    assert best(mine, "both") == ([3, 1], [1.0, -1.0])
    assert mine.candidates([Search("both", QUERY, 3)])[0].vectors.tolist() == [
        (2 * QUERY).tolist(),
        (-2 * QUERY).tolist(),
    ]
    # Gone between the search and the question for its vector: no candidate any more.
    theirs.write([Write("both", [3], ["c"], -QUERY[None])])
    with monkeypatch.context() as patch:
        patch.setattr(MilvusClient, "query", lambda *args, **keywords: [])
        assert best(mine, "both") == ([1], [-1.0])
    mine.drop(["both"])
    mine.close()
    theirs.close()


def test_M5_M13_what_arrived_of_a_write_that_failed_is_searched_as_it_is_and_dropped(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    query = np.array([1, 1, 0, 0], np.float32)
    one_way, other_way = vector(1, 0, 0, 0), vector(0, 1, 0, 0)
    original = MilvusClient.upsert

    def fails(self: MilvusClient, *args: Any, **keywords: Any) -> Any:
        original(self, *args, **keywords)
        raise MilvusException(message="the answer was lost")

    for episode in ("searched", "dropped"):
        store.write([Write(episode, [1, 2], ["a", "b"], np.concatenate([one_way, one_way]), state="{}")])
        with monkeypatch.context() as patch:
            patch.setattr(MilvusClient, "upsert", fails)
            with pytest.raises(StoreError, match="the answer was lost"):
                store.write([Write(episode, [1, 3], ["a", "c"], np.concatenate([other_way, one_way]), state="1")])
    # To this query both vectors are equally near, so that the cosine does not tell them apart.
    found = store.candidates([Search("searched", query, 3)])[0]
    vectors = dict(zip(found.ids.tolist(), found.vectors.tolist(), strict=True))
    assert vectors == {1: other_way[0].tolist(), 2: one_way[0].tolist(), 3: one_way[0].tolist()}
    store.drop(["searched", "dropped"])
    assert [store.load(episode) for episode in ("searched", "dropped")] == [None, None]


@pytest.mark.parametrize("arrives", [False, True])
def test_M5_after_a_write_that_failed_the_server_says_what_is_there(
    store: Store, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    store.write([Write("a", [1, 2], ["a", "b"], np.stack([QUERY, -QUERY]), state="{}")])
    original = MilvusClient.upsert

    def fails(self: MilvusClient, *args: Any, **keywords: Any) -> Any:
        if arrives:
            original(self, *args, **keywords)
        raise MilvusException(message="the connection broke")

    step = [Write("a", [1, 3], ["a", "c"], np.stack([-QUERY, QUERY]), state="1")]
    with monkeypatch.context() as patch:
        patch.setattr(MilvusClient, "upsert", fails)
        with pytest.raises(StoreError, match="the connection broke"):
            store.write(step)
    assert best(store, "a") == (([3, 1, 2], [1.0, -1.0, -1.0]) if arrives else ([1, 2], [1.0, -1.0]))
    store.write(step)
    assert best(store, "a") == ([3, 1, 2], [1.0, -1.0, -1.0])
    # Its rows are not all known any more, and must go all the same.
    store.drop(["a"])
    assert store.load("a") is None


def test_M13_the_rows_of_a_temporary_episode_are_deleted_by_their_keys(
    url: str, calls: list[tuple[str, dict[str, Any]]]
) -> None:
    store = open_store(url, DIM)
    for episode in ("a", "b"):
        # A state of several rows, one of which is left over from a longer one.
        store.write([Write(episode, [1, 2], ["a", "b"], np.ones((2, DIM), np.float32), state="x" * 200_000)])
        store.write([one(episode, 3, deletes=(1,), state="x" * 100_000)])
    calls.clear()
    store.release(["a", "unknown"])
    deletes = [keywords for name, keywords in calls if name == "delete"]
    # A filter makes a server search first: only for keys of which nothing is known.
    assert [keywords.get("filter") for keywords in deletes] == [None, 'episode in ["unknown"]']
    calls.clear()
    assert isinstance(store, MilvusServerStore)
    assert store._query('episode == "a"', ["pk"]) == []
    assert store.episodes() == ["b"]
    store.close()
    assert all("filter" not in keywords for name, keywords in calls if name == "delete")
    again = open_store(url, DIM)
    assert again.episodes() == []
    again.close()


def test_a_client_that_failed_is_closed_when_the_last_who_uses_it_is_done(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed: list[MilvusClient] = []
    close = MilvusClient.close
    monkeypatch.setattr(MilvusClient, "close", lambda self: (closed.append(self), close(self))[1])
    again: list[MilvusClient] = []
    connection = Connection(url, again.append)

    def breaks() -> None:
        with connection.client() as same:
            assert same is first
            raise OSError("broke")

    with connection.client() as first:
        with pytest.raises(StoreError, match="broke"):
            breaks()
        assert closed == []
        assert isinstance(first.list_collections(), list), "others still use it"
        with connection.client() as second:
            assert second is not first
        assert again == [second]
        assert closed == []
    assert closed == [first]

    def breaks_late() -> None:
        with connection.client():
            breaks_early()
            with connection.client() as third:
                clients.append(third)
            raise OSError("broke too")

    def breaks_early() -> None:
        with pytest.raises(StoreError), connection.client():
            raise OSError("broke")

    clients: list[MilvusClient] = []
    with pytest.raises(StoreError, match="broke too"):
        breaks_late()
    # Who fails with the old client does not take the new one away.
    with connection.client() as now:
        assert [now] == clients
    connection.close()
    assert closed == [first, second, now]
