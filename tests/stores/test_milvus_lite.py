"""The embedded store (SPEC M13): one writer, nothing acknowledged is lost, nothing is left behind."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_lite import Collection, CollectionSchema, DataType, FieldSchema, MilvusLite
from support.stores.programs import kept
from support.stores.written import DIM, ids, loaded, one

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Vectors, Write
from atommem_gym.memory.ranking import rank
from atommem_gym.stores.loading import open_store

__all__ = ["kept"]


def test_a_vector_step_is_one_insert_and_one_delete_whatever_the_number_of_episodes(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str) -> None:
        original = getattr(Collection, name)

        def call(self: Collection, *args: Any) -> Any:
            calls.append(name)
            return original(self, *args)

        monkeypatch.setattr(Collection, name, call)

    for form in ("milvus", kept):
        store = open_store(form, DIM)
        store.write([one(f"e{i}", 1) for i in range(50)])
        counted("insert")
        counted("delete")
        store.write([one(f"e{i}", 2, deletes=(1,), state="{}") for i in range(50)])
        assert calls == ["insert", "delete"]
        store.drop([f"e{i}" for i in range(50)])
        assert calls == ["insert", "delete", "delete"]
        store.write([])
        assert len(calls) == 3
        monkeypatch.undo()
        calls.clear()
        assert store.episodes() == []
        store.close()


def test_a_kept_database_keeps_and_a_temporary_one_goes(kept: str) -> None:
    store = open_store(kept, DIM)
    assert store.kept
    store.write([one("a", 1, "first", state="{}"), one("b", 1, "other")])
    store.write([one("a", 2, "second", deletes=(1,))])
    store.close()
    again = open_store(kept, DIM, store_reads="milvus")
    assert again.episodes() == ["a", "b"]
    assert (loaded(again, "a").texts, loaded(again, "a").state) == (("second",), "{}")
    # An episode that is not loaded first is searched and goes on all the same.
    assert again.candidates([Search("b", np.ones(DIM, np.float32), 3)])[0].ids.tolist() == [1]
    again.write([one("b", 2, "more")])
    assert ids(again, "b") == [1, 2]
    again.drop(["a", "b"])
    again.close()
    last = open_store(kept, DIM)
    assert (last.episodes(), last.load("a")) == ([], None)
    last.close()


def test_stores_on_one_path_share_one_database(kept: str) -> None:
    first, second = open_store(kept, DIM), open_store(kept, DIM, store_reads="milvus")
    first.write([one("a", 1)])
    assert ids(second, "a") == [1]
    first.close()
    second.write([one("a", 2)])
    assert ids(second, "a") == [1, 2]
    second.close()


def test_closing_a_store_deletes_its_temporary_rows_and_no_others() -> None:
    first, second = open_store("milvus", 5), open_store("milvus", 5)
    for store, key in ((first, "a"), (second, "b")):
        store.write([Write(key, [1], ["t"], np.ones((1, 5), np.float32))])
    first.close()
    assert second.episodes() == ["b"]
    second.close()


def test_another_dimension_is_an_error_that_names_both(kept: str) -> None:
    open_store(kept, DIM, embedder="hashing-4").close()
    for _ in range(2):
        with pytest.raises(StoreError, match=r"4 numbers.*hashing-4.*but 8.*minilm.*another path"):
            open_store(kept, 8, embedder="minilm")
    open_store(kept, DIM).close()


def test_a_file_or_a_foreign_database_in_the_place_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file.db").write_text("not a folder")
    with pytest.raises(StoreError, match=r"file\.db.*is.* a folder"):
        open_store(f"milvus://{tmp_path}/file.db", DIM)
    with MilvusLite(str(tmp_path / "foreign.db")) as engine:
        fields = [
            FieldSchema("id", DataType.INT64, is_primary=True),
            FieldSchema("v", DataType.FLOAT_VECTOR, dim=DIM),
        ]
        engine.create_collection("atommem", CollectionSchema(fields))
    with pytest.raises(StoreError, match="not written by atommem-gym"):
        open_store(f"milvus://{tmp_path}/foreign.db", DIM)
    # The failed opening holds nothing.
    MilvusLite(str(tmp_path / "foreign.db")).close()


def failing(calls: int, error: BaseException) -> Callable[..., Any]:
    """A stand-in that fails so many times and then is not used any more."""
    left = [calls]

    def fail(original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise error
        return original(*args, **kwargs)

    return fail


@pytest.mark.parametrize("part", ["insert", "delete"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=type)
@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_mirror_and_engine_never_part_when_the_engine_fails(
    kept: str, monkeypatch: pytest.MonkeyPatch, part: str, error: BaseException, after: bool
) -> None:
    store = open_store(kept, DIM)
    store.write([one("e", 1, state="1"), one("f", 1)])
    original = getattr(Collection, part)

    def broken(self: Collection, *args: Any) -> Any:
        monkeypatch.undo()
        if after:
            original(self, *args)
        raise error

    step = [one("e", 2, deletes=(1,), state="2"), one("f", 1, "new")]
    monkeypatch.setattr(Collection, part, broken)
    with pytest.raises(StoreError if isinstance(error, OSError) else KeyboardInterrupt):
        store.write(step)
    assert ids(store, "e") == [1]
    assert loaded(store, "e").state == "1"
    assert loaded(store, "f").texts == ("t",)
    store.write(step)
    assert (ids(store, "e"), loaded(store, "f").texts) == ([2], ("new",))
    store.close()
    again = open_store(kept, DIM, store_reads="milvus")
    assert (ids(again, "e"), loaded(again, "f").texts) == ([2], ("new",))
    again.close()


def test_a_failed_flush_loses_nothing(kept: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from milvus_lite.engine import collection as engine

    store = open_store(kept, DIM, store_reads="milvus")
    store.write([one("e", entry, "x" * 1000) for entry in (1,)])
    original = engine.execute_flush
    fail = failing(1, OSError(errno.ENOSPC, "No space left on device"))
    with monkeypatch.context() as patch:
        patch.setattr(engine, "MEMTABLE_MEMORY_LIMIT", 4000)
        patch.setattr(engine, "execute_flush", lambda **keywords: fail(original, **keywords))
        entry, failed = 1, 0
        while entry < 60:
            entry += 1
            try:
                store.write([one("e", entry, "x" * 1000, (entry - 5,))])
            except StoreError:
                failed += 1
                store.write([one("e", entry, "x" * 1000, (entry - 5,))])
            assert ids(store, "e") == list(range(max(entry - 4, 1), entry + 1))
    assert failed == 1
    store.close()
    again = open_store(kept, DIM)
    assert ids(again, "e") == list(range(56, 61))
    again.close()


def test_8_threads_with_their_own_episodes_lose_nothing(kept: str) -> None:
    steps, threads = 25, 8
    failures: list[BaseException] = []

    def play(form: str, reads: str, key: str, seed: int) -> None:
        try:
            rng = np.random.default_rng(seed)
            store = open_store(form, 16, store_reads=reads)
            live: dict[int, Vectors] = {}
            for entry in range(1, steps + 1):
                vector = rng.integers(-2, 3, 16).astype(np.float32)
                gone = entry - 7
                live[entry] = vector
                live.pop(gone, None)
                store.write([Write(key, [entry], [f"{key} {entry}"], vector[None], [gone] if gone > 0 else [])])
                query = rng.integers(-2, 3, 16).astype(np.float32)
                (rows,) = store.candidates([Search(key, query, 3)])
                every = type(rows)(np.array(list(live)), np.array(list(live.values())))
                assert rank(query, rows, 3) == rank(query, every, 3)
            found = loaded(store, key)
            assert found.texts == tuple(f"{key} {entry}" for entry in sorted(live))
            store.close()
        except BaseException as error:
            failures.append(error)

    for form, reads in (("milvus", "mirror"), ("milvus", "milvus"), (kept, "mirror")):
        running = [threading.Thread(target=play, args=(form, reads, f"{reads}-{i}", i)) for i in range(threads)]
        for thread in running:
            thread.start()
        for thread in running:
            thread.join()
        assert failures == []
    again = open_store(kept, 16)
    assert again.episodes() == [f"mirror-{i}" for i in range(threads)]
    assert all(loaded(again, key).ids.tolist() == list(range(steps - 6, steps + 1)) for key in again.episodes())
    again.close()
