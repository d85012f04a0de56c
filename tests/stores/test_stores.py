"""SPEC M6, M13: all stores keep the same rows and, ranked, give the same answers, to the bit."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.servers import milvus_server, milvus_url  # noqa: F401

from atommem_gym.errors import ConfigError, EmbedderError, StoreError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, Rows, Search, Store, Vectors, Write
from atommem_gym.memory.ranking import rank
from atommem_gym.stores.loading import open_store
from atommem_gym.stores.milvus_rows import Head, from_varchar, to_varchar
from atommem_gym.testing import budget

DIM = 4
KINDS = ("numpy", "mirror", "milvus", "kept", "kept-milvus", "server", "kept-server")
Open: TypeAlias = Callable[[str], Store]
_numbers = itertools.count()


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory, milvus_url: str) -> Iterator[dict[str, Store]]:  # noqa: F811
    folder = tmp_path_factory.mktemp("kept")
    opened = {
        "numpy": open_store("numpy", DIM),
        "mirror": open_store("milvus", DIM),
        "milvus": open_store("milvus", DIM, store_reads="milvus"),
        "kept": open_store(f"milvus://{folder}/a.db", DIM),
        "kept-milvus": open_store(f"milvus://{folder}/b.db", DIM, store_reads="milvus"),
        "server": open_store(milvus_url, DIM),
        "kept-server": open_store(milvus_url, DIM, keep=True),
    }
    yield opened
    for store in opened.values():
        store.close()


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, stores: dict[str, Store]) -> Store:
    return stores[request.param]


@pytest.fixture
def episode() -> str:
    return fresh_episode()


def fresh_episode() -> str:
    return f"episode-{next(_numbers)}"


def vectors(*rows: list[float]) -> Vectors:
    return np.array(rows, np.float32).reshape(len(rows), DIM)


def one(episode: str, entry: int, text: str, state: str | None = None) -> Write:
    return Write(episode, [entry], [text], vectors([float(entry), 1, 0, 0]), state=state)


class Model:
    """A dict small enough to be obviously right."""

    def __init__(self) -> None:
        self.episodes: dict[str, dict[int, tuple[str, Vectors]]] = {}

    def write(self, writes: list[Write]) -> None:
        for write in writes:
            entries = self.episodes.setdefault(write.episode, {})
            entries.update(
                (i, (text, vector)) for i, text, vector in zip(write.ids, write.texts, write.vectors, strict=True)
            )
            for i in write.deletes:
                entries.pop(i, None)

    def rank(self, search: Search) -> tuple[list[int], list[float]]:
        entries = self.episodes.get(search.episode, {})
        found = np.array([vector for _, vector in entries.values()], np.float32).reshape(len(entries), DIM)
        return rank(search.vector, Rows(np.array(list(entries), np.int64), found), search.k)


coordinates = st.lists(st.integers(-2, 2) | st.sampled_from([0.1, 0.30000001, -1e-3, 1e6]), min_size=DIM, max_size=DIM)
texts = st.text(max_size=12) | st.sampled_from(["\0", "'\"\\", "🦉", '" or episode != "', "\ud800\U0010ffff"])


@st.composite
def steps(draw: st.DrawFn) -> list[list[tuple[int, dict[int, tuple[str, list[float]]], set[int]]]]:
    """Some steps; a step writes to some of three episodes: entries put, ids deleted."""
    ids = st.integers(1, 9)
    write = st.tuples(st.dictionaries(ids, st.tuples(texts, coordinates), max_size=6), st.sets(ids, max_size=3))
    step = st.dictionaries(st.integers(0, 2), write, min_size=1, max_size=3)
    return [[(key, *value) for key, value in found.items()] for found in draw(st.lists(step, min_size=1, max_size=4))]


@given(steps(), st.lists(st.tuples(coordinates, st.integers(1, 7)), min_size=1, max_size=2), st.text(max_size=5))
@budget(15)
def test_M6_every_store_ranks_like_brute_force_to_the_bit(
    stores: dict[str, Store],
    plan: list[list[tuple[int, dict[int, tuple[str, list[float]]], set[int]]]],
    queries: list[tuple[list[float], int]],
    state: str,
) -> None:
    # Two of the stores share the process's temporary database, so each has its own keys.
    keys = {name: [fresh_episode() for _ in range(3)] for name in stores}
    model = Model()
    for step in plan:
        written = [
            (
                key,
                list(entries),
                [text for text, _ in entries.values()],
                vectors(*(vector for _, vector in entries.values())),
                sorted(deletes - set(entries)),
                state,
            )
            for key, entries, deletes in step
        ]
        model.write([Write(str(key), *rest) for key, *rest in written])
        searches = [(key, vectors(query)[0], k) for key in range(3) for query, k in queries]
        expected = [model.rank(Search(str(key), *rest)) for key, *rest in searches]
        for name, store in stores.items():
            store.write([Write(keys[name][key], *rest) for key, *rest in written])
            found = store.candidates([Search(keys[name][key], *rest) for key, *rest in searches])
            assert [rank(q, rows, k) for (_, q, k), rows in zip(searches, found, strict=True)] == expected, name
    for name, store in stores.items():
        for number, entries in model.episodes.items():
            loaded = store.load(keys[name][int(number)])
            assert loaded is not None, name
            assert loaded.state == state, name
            assert loaded.ids.tolist() == sorted(entries), name
            assert list(loaded.texts) == [entries[i][0] for i in sorted(entries)], name
            assert [row.tobytes() for row in loaded.vectors] == [entries[i][1].tobytes() for i in sorted(entries)]
        assert {keys[name][int(number)] for number in model.episodes} <= set(store.episodes())
        store.drop(keys[name])
        assert not set(keys[name]) & set(store.episodes())
        assert all(store.load(key) is None for key in keys[name])


def test_is_a_store(store: Store) -> None:
    assert isinstance(store, Store)
    assert store.dim == DIM


def test_M13_episodes_never_see_each_other(store: Store) -> None:
    a, b = fresh_episode(), fresh_episode()
    store.write([one(a, 1, "in a"), one(b, 2, "in b")])
    found = store.candidates([Search(key, np.ones(DIM, np.float32), 6) for key in (a, b, fresh_episode())])
    assert [rows.ids.tolist() for rows in found] == [[1], [2], []]
    store.drop([a, "unknown-key"])
    assert store.load(a) is None
    loaded = store.load(b)
    assert loaded is not None
    assert loaded.texts == ("in b",)


def test_M5_a_search_sees_the_write_before_it(store: Store, episode: str) -> None:
    query = Search(episode, vectors([0, 0, 0, 1])[0], 1)
    for i in range(1, 6):
        store.write([Write(episode, [1], [f"version {i}"], vectors([0, 0, 1, i]))])
        (found,) = store.candidates([query])
        assert found.vectors.tolist() == [[0, 0, 1, i]]
    store.write([Write(episode, deletes=[1])])
    assert store.candidates([query])[0].ids.tolist() == []


def test_M6_many_ties_at_the_cut_are_all_proposed(store: Store, episode: str) -> None:
    n = 150
    store.write([Write(episode, range(n, 0, -1), ["same"] * n, np.ones((n, DIM), np.float32))])
    query = np.ones(DIM, np.float32)
    assert rank(query, store.candidates([Search(episode, query, 6)])[0], 6) == ([1, 2, 3, 4, 5, 6], [1.0] * 6)


@pytest.mark.parametrize(
    "text",
    [
        "\0",
        "a\0b",
        "'",
        '"',
        "\\",
        '" or 1 == 1',
        "🦉" * 9,
        "\ud800",
        "\udfff\U0010ffff\U0010f000",
        "\r\n\t",
        "é" * 30_000,
    ],
    # Short: pytest puts the test's name into the environment, which a server that is started in it inherits.
    ids=lambda text: ascii(text[:12]),
)
def test_any_text_comes_back_as_it_was(store: Store, episode: str, text: str) -> None:
    assert from_varchar(to_varchar(text)) == text
    store.write([one(episode, 1, text, state=text)])
    loaded = store.load(episode)
    assert loaded is not None
    assert (loaded.texts, loaded.state) == ((text,), text)


def test_a_state_longer_than_a_row_comes_back_and_may_shrink(store: Store, episode: str) -> None:
    for length in (200_000, 70_000, 3, 140_000):
        state = "é" * length
        store.write([one(episode, 1, "x", state=state)])
        store.write([Write(episode, deletes=[2])])
        loaded = store.load(episode)
        assert loaded is not None
        assert loaded.state == state
        assert loaded.ids.tolist() == [1]


def test_writing_again_changes_nothing(store: Store, episode: str) -> None:
    write = Write(episode, [1, 2], ["a", "b"], vectors([1, 0, 0, 0], [0, 1, 0, 0]), [3], "{}")
    store.write([write])
    store.write([write])
    loaded = store.load(episode)
    assert loaded is not None
    assert (loaded.ids.tolist(), loaded.texts, loaded.state) == ([1, 2], ("a", "b"), "{}")


def test_an_id_may_come_back_after_its_delete(store: Store, episode: str) -> None:
    """Restoring a snapshot writes entries again that were deleted since."""
    store.write([one(episode, 1, "first", state="1")])
    store.write([Write(episode, deletes=[1], state="2")])
    store.write([one(episode, 1, "again")])
    loaded = store.load(episode)
    assert loaded is not None
    assert (loaded.texts, loaded.state) == (("again",), "2")


BAD_WRITES = {
    "key": ([Write('x" or episode != "')], ConfigError, "episode key"),
    "long-key": ([Write("x" * 129)], ConfigError, "128"),
    "twice": ([Write("x"), Write("x")], ConfigError, "twice"),
    "id": ([one("x", 0, "t")], ConfigError, "positive"),
    "repeated": ([Write("x", [1, 1], ["a", "b"], np.ones((2, DIM), np.float32))], ConfigError, "different"),
    "deleted": ([Write("x", [1], ["a"], np.ones((1, DIM), np.float32), [1])], ConfigError, "deletes"),
    "head": ([Write("x", deletes=[0])], ConfigError, "below 1"),
    "texts": ([Write("x", [1], [], np.ones((1, DIM), np.float32))], ConfigError, "1 ids but 0 texts"),
    "no-ids": ([Write("x", [], ["a"])], ConfigError, "without ids"),
    "length": ([one("x", 1, "é" * 40_000)], ConfigError, str(MAX_TEXT_BYTES)),
    "dim": ([Write("x", [1], ["a"], np.ones((1, 3), np.float32))], EmbedderError, r"\(1, 3\)"),
    "nan": ([Write("x", [1], ["a"], vectors([0, 0, 0, np.nan]))], EmbedderError, "nan"),
    "inf": ([Write("x", [1], ["a"], vectors([0, 0, 0, np.inf]))], EmbedderError, "inf"),
    "huge": ([Write("x", [1], ["a"], vectors([0, 0, 0, 1e30]))], EmbedderError, "normalise"),
}


@pytest.mark.parametrize("name", BAD_WRITES)
def test_a_malformed_write_is_refused_whole(store: Store, episode: str, name: str) -> None:
    writes, error, message = BAD_WRITES[name]
    with pytest.raises(error, match=message):
        store.write([one(episode, 1, "valid"), *writes])
    assert store.load(episode) is None
    assert store.candidates([Search(episode, np.ones(DIM, np.float32), 1)])[0].ids.tolist() == []


@pytest.mark.parametrize("kind", ["numpy", "mirror", "server"])
def test_a_closed_store_says_so(kind: str, milvus_url: str) -> None:  # noqa: F811
    store = open_store({"mirror": "milvus", "server": milvus_url}.get(kind, kind), DIM)
    store.write([one("x", 1, "t")])
    store.close()
    store.close()
    for call in (lambda: store.write([]), lambda: store.candidates([]), store.episodes, lambda: store.load("x")):
        with pytest.raises(StoreError, match="closed"):
            call()


@pytest.mark.parametrize(
    ("store", "keywords", "message"),
    [
        ("sqlite", {}, "unknown store 'sqlite'; known are \"milvus\" .Milvus Lite"),
        ("milvus:/x", {}, "unknown store 'milvus:/x'; known are"),
        ("milvuz", {}, "unknown store 'milvuz'; did you mean 'milvus'.$"),
        ("milvus://", {}, "names no path"),
        ("numpy", {"store_reads": "milvus"}, "no Milvus"),
        ("milvus", {"store_reads": "disk"}, "store_reads='disk' must be one of 'mirror', 'milvus'"),
        ("numpy", {"keep": True}, "temporary"),
        ("milvus", {"keep": True}, "temporary"),
        ("milvus:///x.db", {"keep": False}, "kept"),
    ],
)
def test_unknown_and_contradictory_keywords(store: str, keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(store, DIM, **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("dim", [0, -1, True, 2.0])
def test_dim_is_a_positive_integer(dim: int) -> None:
    with pytest.raises(ConfigError, match="positive integer"):
        open_store("numpy", dim)


def test_a_relative_path_is_relative_to_the_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = open_store("milvus://sub/relative.db", DIM)
    store.close()
    assert (tmp_path / "sub" / "relative.db").is_dir()


@given(st.none() | st.text(), st.lists(st.integers(1, 99)))
def test_heads_come_back_whatever_is_left_from_longer_ones(state: str | None, deletes: list[int]) -> None:
    head = Head(state, tuple(deletes))
    rows = [{"entry": -i, "text": text} for i, text in enumerate(head.chunks())]
    stale = [{"entry": -len(rows), "text": "left over"}, {"entry": 1, "text": "an entry"}]
    assert Head.of(rows + stale) == head


@pytest.mark.parametrize(
    ("store", "told"),
    [
        ("localhost:19530", "is a URL without a scheme; write http://localhost:19530"),
        ("./memory.db", "is a path; write milvus://./memory.db"),
        ("milvuz", "did you mean 'milvus'?"),
        ("postgres", "known are"),
    ],
)
def test_a_store_that_is_misspelt_is_told_what_was_meant(store: str, told: str) -> None:
    with pytest.raises(ConfigError) as caught:
        open_store(store, 8)
    assert told in str(caught.value)
