"""SPEC M13 where Milvus Lite answers the reads: each running episode in a collection of its own, and none left over."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_lite import Collection, MilvusLite
from support.stores.programs import kept, line, program  # noqa: F401
from support.stores.written import DIM, ids, loaded, one

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Rows, Search, Store, Write
from atommem_gym.memory.ranking import rank
from atommem_gym.stores.lite.engine import LiteCollection, schema
from atommem_gym.stores.loading import open_store
from atommem_gym.stores.milvus_rows import marker, row

Program = Callable[[str], Any]
EVERY = np.ones(DIM, np.float32)
VARIED = np.random.default_rng(0).normal(size=(30, DIM)).astype(np.float32)


def path_of(store: str) -> str:
    return store.removeprefix("milvus://")


def collections(store: str) -> list[str]:
    """What is on disk of a database that nobody has open."""
    with MilvusLite(path_of(store)) as engine:
        return list(engine.list_collections())


def answering(store: str) -> Store:
    return open_store(store, DIM, store_reads="milvus")


def found(store: Store, episode: str) -> list[int]:
    return sorted(store.candidates([Search(episode, EVERY, 1000)])[0].ids.tolist())


def test_M13_at_rest_a_kept_database_has_the_shared_collection_alone(kept: str) -> None:  # noqa: F811
    store = answering(kept)
    store.write([one("a", 1, "first", state="{}"), one("b", 1, "other")])
    store.write([one("a", 2, "second", deletes=(1,), state='{"long": "' + "é" * 70_000 + '"}')])
    assert (ids(store, "a"), ids(store, "b"), store.episodes()) == ([2], [1], ["a", "b"])
    store.release(["a"])
    assert (ids(store, "a"), store.episodes()) == ([2], ["a", "b"])
    store.close()
    assert collections(kept) == ["atommem"]
    mirrored = open_store(kept, DIM)
    assert mirrored.episodes() == ["a", "b"]
    assert (loaded(mirrored, "a").texts, ids(mirrored, "b")) == (("second",), [1])
    mirrored.close()


def test_M13_an_old_episode_goes_on_in_a_collection_of_its_own(kept: str) -> None:  # noqa: F811
    mirrored = open_store(kept, DIM)
    mirrored.write([one("old", i, f"text {i}", state="é" * 70_000) for i in (1,)] + [one("rest", 1)])
    mirrored.write([one("old", 2, "text 2", state="short")])
    mirrored.close()
    store = answering(kept)
    # A search before the first write is one of the shared collection.
    assert (found(store, "old"), found(store, "rest"), found(store, "nobody")) == ([1, 2], [1], [])
    store.write([one("old", 3, "text 3", deletes=(1,))])
    assert (ids(store, "old"), ids(store, "rest")) == ([2, 3], [1])
    # In one place at a time.
    shared = store._table.collection.query('episode == "old"', ["pk"])  # type: ignore[attr-defined]
    assert shared == []
    store.close()
    mirrored = open_store(kept, DIM)
    assert (ids(mirrored, "old"), loaded(mirrored, "old").state, ids(mirrored, "rest")) == ([2, 3], "short", [1])
    mirrored.close()


@pytest.mark.parametrize("form", ["milvus", "kept"])
def test_M13_a_dropped_episode_is_gone_and_the_others_are_not(kept: str, form: str) -> None:  # noqa: F811
    store = answering(kept if form == "kept" else form)
    store.write([one(key, 1) for key in ("a", "b", "c")])
    store.drop(["a", "nobody"])
    assert (store.load("a"), found(store, "a"), store.episodes()) == (None, [], ["b", "c"])
    store.write([one("a", 5)])
    assert (ids(store, "a"), ids(store, "b")) == ([5], [1])
    store.drop(["a", "b", "c"])
    assert store.episodes() == []
    store.close()


def test_stores_of_both_kinds_see_each_others_episodes(kept: str) -> None:  # noqa: F811
    for form in ("milvus", kept):
        mirrored, store = open_store(form, DIM), answering(form)
        mirrored.write([one("m", 1)])
        store.write([one("s", 1)])
        assert [found(each, key) for each in (mirrored, store) for key in "ms"] == [[1]] * 4
        mirrored.write([one("s", 2)])
        store.write([one("m", 2)])
        assert [ids(each, key) for each in (mirrored, store) for key in "ms"] == [[1, 2]] * 4
        store.release(["m", "s"])
        mirrored.drop(["m", "s"])
        mirrored.close()
        store.close()


KILLED = """
store = open_store('milvus://' + path, 4, store_reads='milvus')
entry = 0
while True:
    entry += 1
    store.write([one(key, entry, f'text {entry}', range(max(entry - 3, 1), entry - 2), str(entry)) for key in 'ab'])
    if entry % 7 == 0:
        store.release('ab')
    say(entry)
"""


@pytest.mark.parametrize(
    "rounds", [(5, 33), pytest.param(tuple(range(1, 100)), marks=pytest.mark.slow)], ids=["twice", "99 times"]
)
def test_M13_every_acknowledged_write_survives_kill_9(
    kept: str,  # noqa: F811
    program: Program,  # noqa: F811
    rounds: tuple[int, ...],
) -> None:
    """Also when it strikes while episodes move into the shared collection or out of it."""
    for lines in rounds:
        shutil.rmtree(path_of(kept), ignore_errors=True)
        writer = program(KILLED)
        said = [line(writer) for _ in range(lines)]
        os.kill(writer.pid, signal.SIGKILL)
        acknowledged = int([*said, *writer.stdout.read().split("\n")[:-1]][-1])
        writer.wait()
        store = open_store(kept, DIM, store_reads=("mirror", "milvus")[lines % 2])
        assert store.episodes() == ["a", "b"]
        for key in "ab":
            stored = loaded(store, key)
            newest = int(stored.state or 0)
            # The step that was cut off may be there as a whole or not at all, in either episode.
            assert newest in (acknowledged, acknowledged + 1)
            assert ids(store, key) == [i for i in range(newest - 2, newest + 1) if i > 0]
            assert stored.texts == tuple(f"text {entry}" for entry in stored.ids.tolist())
        store.close()
        assert collections(kept) == ["atommem"]


DEATHS = {
    "between insert and delete": "Collection.delete = lambda self, keys: os._exit(9)\nstore.write(last)",
    "moved out, still in the shared one": """
store.release(['a'])
store = open_store('milvus://' + path, 4, store_reads='milvus')
write = LiteCollection.write
def copied(self, rows, deletes):
    if not rows:
        os._exit(9)
    write(self, rows, deletes)
LiteCollection.write = copied
store.write(last)""",
    "moved in, still in its own": """
store.write(last)
LiteCollection.remove = lambda self: os._exit(9)
store.release(['a'])""",
    "half removed": """
store.write(last)
store.write([one('a', 5, state='5')])
import shutil
def begun(path, **keywords):
    if os.path.isdir(path):
        for folder, _, files in os.walk(path):
            for name in files:
                if 'delta' in name:
                    os.remove(os.path.join(folder, name))
        os._exit(9)
shutil.rmtree = begun
store.release(['a'])""",
    "before the copy": """
store.release(['a'])
Collection.insert = lambda self, rows: os._exit(9)
store.write(last)""",
}


@pytest.mark.parametrize("death", DEATHS)
def test_M13_whenever_the_process_dies_an_episode_is_there_once_and_whole(
    kept: str,  # noqa: F811
    program: Program,  # noqa: F811
    death: str,
) -> None:
    dying = program(
        f"""
from milvus_lite import Collection
from atommem_gym.stores.lite.engine import LiteCollection
store = open_store('milvus://' + path, 4, store_reads='milvus')
for entry in (1, 2, 3):
    store.write([one('a', entry, state=str(entry))])
last = [one('a', 4, deletes=(1, 2), state='4')]
{DEATHS[death]}
"""
    )
    assert dying.wait(timeout=60) == 9
    for reads in ("mirror", "milvus"):
        store = open_store(kept, DIM, store_reads=reads)
        before, after = ([1, 2, 3], "3"), ([3, 4], "4")
        expected = {
            "before the copy": before,
            "moved out, still in the shared one": before,
            "half removed": ([3, 4, 5], "5"),
        }.get(death, after)
        assert (ids(store, "a"), loaded(store, "a").state) == expected
        assert store.episodes() == ["a"]
        store.close()
        assert collections(kept) == ["atommem"]


@pytest.mark.parametrize("left", [0, 5])
def test_M6_rows_that_are_no_entries_do_not_take_the_place_of_entries(kept: str, left: int) -> None:  # noqa: F811
    """The rows of a long head lie in an episode's collection, and after a death some that are left of a longer one."""
    mirrored = open_store(kept, DIM)
    mirrored.write([Write("e", range(1, 31), ["t"] * 30, VARIED, state="x" * 200_000)])
    leftovers = [row("e", -10 - i, "left", marker(DIM)) for i in range(left)]
    mirrored._table.collection.write(leftovers, [])  # type: ignore[attr-defined]
    mirrored.close()
    store = answering(kept)
    store.write([one("e", 31)])
    # The vector that such rows have: to a search without a filter they are the nearest.
    query = np.array(marker(DIM), np.float32)
    (rows,) = store.candidates([Search("e", query, 2)])
    every = Rows(np.arange(1, 32), np.concatenate([VARIED, np.full((1, DIM), 31, np.float32)]))
    assert rank(query, rows, 2) == rank(query, every, 2)
    store.close()


def test_a_collection_without_rows_is_of_no_consequence(kept: str) -> None:  # noqa: F811
    """A process died between making a collection and writing to it."""
    store = open_store(kept, DIM)
    store.write([one("a", 1)])
    store.close()
    with MilvusLite(path_of(kept)) as engine:
        engine.create_collection("atommem_episode_7", schema(DIM))
        engine.create_collection("atommem_episode_x", schema(DIM))
    store = answering(kept)
    assert (ids(store, "a"), store.episodes()) == ([1], ["a"])
    store.close()
    assert collections(kept) == ["atommem", "atommem_episode_x"]


@pytest.mark.parametrize("part", ["insert", "delete"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_of_several_episodes_each_is_written_whole_or_not_at_all(
    kept: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    part: str,
    error: BaseException,
    after: bool,
) -> None:
    store = answering(kept)
    store.write([one(key, 1, state="1") for key in "efg"])
    original, calls = getattr(Collection, part), []

    def broken(self: Collection, *args: Any) -> Any:
        calls.append(part)
        if len(calls) != 2:
            return original(self, *args)
        if after:
            original(self, *args)
        raise error

    step = [one(key, 2, deletes=(1,), state="2") for key in "efg"]
    with monkeypatch.context() as patch:
        patch.setattr(Collection, part, broken)
        with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt):
            store.write(step)
    assert [(ids(store, key), loaded(store, key).state) for key in "efg"] == [([2], "2"), ([1], "1"), ([1], "1")]
    store.write(step)
    assert [ids(store, key) for key in "efg"] == [[2]] * 3
    store.close()
    again = open_store(kept, DIM)
    assert [(ids(again, key), loaded(again, key).state) for key in "efg"] == [([2], "2")] * 3
    again.close()


def test_without_space_to_gather_an_episode_stays_where_it_is_until_the_next_opening(
    kept: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    store = answering(kept)
    store.write([one("a", 1, state="1")])
    write = LiteCollection.write

    def full(self: LiteCollection, rows: list[Any], deletes: list[str]) -> None:
        if self._name == "atommem":
            raise StoreError("no space")
        write(self, rows, deletes)

    with monkeypatch.context() as patch:
        patch.setattr(LiteCollection, "write", full)
        with pytest.raises(StoreError, match="no space"):
            store.release(["a"])
        assert ids(store, "a") == [1]
        store.close()
    assert "until the next opening" in caplog.text
    assert collections(kept) == ["atommem", "atommem_episode_1"]
    again = open_store(kept, DIM)
    assert (ids(again, "a"), loaded(again, "a").state) == ([1], "1")
    again.close()


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=type)
def test_M13_an_old_episode_whose_first_write_fails_keeps_its_entries(
    kept: str,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
) -> None:
    """Its own collection is made by that write; were it there without the rows, it would count all the same."""
    mirrored = open_store(kept, DIM)
    mirrored.write([one("old", 1, state="1")])
    mirrored.write([one("old", 2, state="2")])
    mirrored.close()
    store = answering(kept)

    def refused(self: Collection, rows: list[Any]) -> None:
        raise error

    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(Collection, "insert", refused)
            with pytest.raises((StoreError, KeyboardInterrupt)):
                store.write([one("old", 3, state="3")])
        assert (found(store, "old"), loaded(store, "old").state) == ([1, 2], "2")
    store.write([one("old", 3, state="3")])
    assert (found(store, "old"), ids(store, "old")) == ([1, 2, 3], [1, 2, 3])
    store.close()
    assert collections(kept) == ["atommem"]
    mirrored = open_store(kept, DIM)
    assert (ids(mirrored, "old"), loaded(mirrored, "old").state) == ([1, 2, 3], "3")
    mirrored.close()


def test_too_many_open_files_names_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    store = answering("milvus")

    def refused(self: Collection, rows: list[Any]) -> None:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert", refused)
        with pytest.raises(StoreError, match=r"ulimit -n.*store_reads='mirror'"):
            store.write([one("e", 1)])
    store.write([one("e", 1)])
    assert ids(store, "e") == [1]
    store.close()


LEAKS = """
def things():
    folders = sum(len(names) for _, names, _ in os.walk(tempfile.gettempdir() if name == 'milvus' else path))
    return len(os.listdir('/proc/self/fd')), threading.active_count(), folders
for name in ('milvus', 'milvus://' + path):
    store = open_store(name, 4, store_reads='milvus')
    seen = []
    for batch in range(EPISODES // 10):
        keys = [f'e{batch}-{i}' for i in range(10)]
        for entry in (1, 2, 3):
            store.write([one(key, entry, state='{}') for key in keys])
            found = store.candidates([Search(key, np.ones(4, np.float32), 2) for key in keys])
            assert all(sorted(rows.ids.tolist()) == list(range(1, entry + 1)) for rows in found)
        (store.drop if batch % 2 else store.release)(keys)
        seen.append(things())
    assert len(set(seen[1:])) == 1, seen
    store.close()
say('flat')
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files of the process in /proc: run it on Linux")
@pytest.mark.parametrize("episodes", [60, pytest.param(1_000, marks=pytest.mark.slow)])
def test_M13_episodes_leave_no_file_thread_or_folder(program: Program, episodes: int) -> None:  # noqa: F811
    running = program(LEAKS.replace("EPISODES", str(episodes)))
    assert line(running) == "flat"
    assert running.wait(timeout=120) == 0


def test_many_ties_are_all_proposed_although_a_search_asks_for_few(kept: str) -> None:  # noqa: F811
    store = answering(kept)
    store.write([Write("e", range(90, 0, -1), ["same"] * 90, np.ones((90, DIM), np.float32), state="{}")])
    (rows,) = store.candidates([Search("e", EVERY, 6)])
    assert set(range(1, 7)) <= set(rows.ids.tolist())
    store.close()


def test_a_collection_of_an_episode_has_the_schema_that_the_engine_would_write(
    kept: str,  # noqa: F811
    tmp_path: Path,
) -> None:
    store = answering(kept)
    store.write([one("a", 1)])
    folder = tmp_path / "kept.db" / "collections"
    shared, own = (json.loads((folder / name / "schema.json").read_text()) for name in ("atommem", "atommem_episode_1"))
    assert sorted(os.listdir(folder)) == ["atommem", "atommem_episode_1"]
    assert own["fields"] == shared["fields"]
    store.close()


@pytest.mark.parametrize("where", ["own", "shared"])
def test_M13_a_row_that_was_never_acknowledged_is_an_error_and_no_answer(
    kept: str,  # noqa: F811
    where: str,
) -> None:
    store = answering(kept)
    table = store._table  # type: ignore[attr-defined]
    mirrored = open_store(kept, DIM)
    (mirrored if where == "shared" else store).write([one("e", 1)])
    ghost = {"pk": "e:2", "episode": "e", "entry": 2, "text": "ghost", "vector": [1.0] * DIM}
    table._home("e").write([ghost], [])
    with pytest.raises(StoreError, match="entry 2 of episode 'e'"):
        found(store, "e")
    store.write([Write("e", deletes=[2])])
    assert ids(store, "e") == [1]
    mirrored.close()
    store.close()
