"""The embedded store (SPEC M13): one writer, nothing acknowledged is lost, nothing is left behind."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from milvus_lite import Collection, CollectionSchema, DataType, FieldSchema, MilvusLite

from atommem_gym.errors import StoreError, StoreLockedError
from atommem_gym.memory.protocols import Search, Store, StoredEpisode, Vectors, Write
from atommem_gym.memory.ranking import rank
from atommem_gym.stores.loading import open_store

DIM = 4
PRELUDE = """
import os, resource, signal, sys, tempfile, threading
import numpy as np
from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Write
from atommem_gym.stores.loading import open_store
path = sys.argv[1]
def one(episode, entry, text="t", deletes=(), state=None):
    return Write(episode, [entry], [text], np.full((1, 4), entry, np.float32), [i for i in deletes if i > 0], state)
def say(*words):
    print(*words, flush=True)
"""


@pytest.fixture
def kept(tmp_path: Path) -> str:
    return f"milvus://{tmp_path}/kept.db"


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[[str], subprocess.Popen[str]]]:
    """Starts Python code in a process of its own, with its own folder for temporary files and `path` for a database."""
    started: list[subprocess.Popen[str]] = []
    temporary = tmp_path / "tmp"
    temporary.mkdir()

    def start(code: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", PRELUDE + code, str(tmp_path / "kept.db")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(temporary)},
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


def output(process: subprocess.Popen[str]) -> list[str]:
    """All that a program prints until it ends, which must be well."""
    text, _ = process.communicate(timeout=60)
    assert process.returncode == 0
    return text.splitlines()


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


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


def test_a_second_process_is_told_the_path_and_the_remedy(kept: str, program: Callable[[str], Any]) -> None:
    holder = program("store = open_store('milvus://' + path, 4); say('open'); sys.stdin.read()")
    assert line(holder) == "open"
    with pytest.raises(StoreLockedError, match=r"kept\.db.*another process.*Milvus server"):
        open_store(kept, DIM)
    holder.communicate()
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


def test_every_acknowledged_write_survives_kill_9(kept: str, program: Callable[[str], Any]) -> None:
    writer = program(
        """
store = open_store('milvus://' + path, 4)
entry = 0
while True:
    entry += 1
    store.write([one('e', entry, f'text {entry}', (entry - 3,), str(entry))])
    say(entry)
"""
    )
    lines = [line(writer) for _ in range(200)]
    os.kill(writer.pid, signal.SIGKILL)
    # The last line may be cut off. (communicate() would miss what the reader has buffered already.)
    acknowledged = int([*lines, *writer.stdout.read().split("\n")[:-1]][-1])
    writer.wait()
    store = open_store(kept, DIM)
    found = loaded(store, "e")
    newest = int(found.state or 0)
    # The step that was cut off may be there as a whole or not at all.
    assert newest in (acknowledged, acknowledged + 1)
    assert ids(store, "e") == [newest - 2, newest - 1, newest]
    assert found.texts == tuple(f"text {entry}" for entry in found.ids.tolist())
    store.close()


@pytest.mark.parametrize("reads", ["mirror", "milvus"])
def test_a_process_that_dies_between_insert_and_delete_of_a_step_is_harmless(
    kept: str, program: Callable[[str], Any], reads: str
) -> None:
    dying = program(
        """
store = open_store('milvus://' + path, 4)
store.write([one(key, entry, state='1') for key in 'ab' for entry in (1,)])
store.write([one(key, entry, state='1') for key in 'ab' for entry in (2,)])
from milvus_lite import Collection
Collection.delete = lambda self, keys: os._exit(7)
store.write([one('a', 3, deletes=(1, 2), state='2'), one('b', 3, deletes=(1,))])
"""
    )
    assert dying.wait(timeout=60) == 7
    store = open_store(kept, DIM, store_reads=reads)
    assert store.episodes() == ["a", "b"]
    # One is searched before it is loaded, the other is loaded first.
    assert store.candidates([Search("a", np.ones(DIM, np.float32), 9)])[0].ids.tolist() == [3]
    assert (ids(store, "a"), loaded(store, "a").state) == ([3], "2")
    assert (ids(store, "b"), loaded(store, "b").state) == ([2, 3], "1")
    store.close()


def test_disk_full_is_an_error_that_changes_nothing_and_the_write_can_be_repeated(
    kept: str, program: Callable[[str], Any]
) -> None:
    code = """
store = open_store('milvus://' + path, 4)
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
entry = failures = 0
while failures < 5:
    entry += 1
    step = [one('e', entry, 'x' * 30_000, (entry - 2,), str(entry))]
    try:
        store.write(step)
    except StoreError as error:
        failures += 1
        assert 'kept.db' in str(error) and 'repeat' in str(error), error
        before = store.load('e')
        assert before.state == str(entry - 1), (before.state, entry)
        assert before.ids.tolist() == [i for i in (entry - 2, entry - 1) if i > 0], (before.ids, entry)
        rows = store.candidates([Search('e', np.ones(4, np.float32), 9)])[0]
        assert sorted(rows.ids.tolist()) == before.ids.tolist()
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        store.write(step)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
say(entry)
os.kill(os.getpid(), signal.SIGKILL)
"""
    writer = program(code)
    newest = int(line(writer))
    writer.wait(timeout=60)
    store = open_store(kept, DIM)
    assert ids(store, "e") == [newest - 1, newest]
    assert loaded(store, "e").state == str(newest)
    store.close()


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


LEAVES_NOTHING = """
import gc, time
def things():
    fds = [f'/proc/self/fd/{fd}' for fd in os.listdir('/proc/self/fd')]
    files = [os.readlink(fd) for fd in fds if os.path.lexists(fd)]
    return sorted(files), sorted(t.name for t in threading.enumerate()), sorted(os.listdir(tempfile.gettempdir()))
def back_to(before):
    # pyarrow's own threads close the Parquet files that a flush had read a little later.
    end = time.monotonic() + 10
    while things() != before and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
    assert things() == before, (things(), before)
open_store('milvus', 4).close()
before = things()
for _ in range(2):
    stores = [open_store('milvus', 4), open_store('milvus', 4, store_reads='milvus'), open_store('milvus', 8)]
    stores += [open_store('milvus://' + path, 4), open_store('milvus://' + path + '2', 4)]
    assert len(things()[2]) == 1, things()
    for i, store in enumerate(stores):
        if store.dim == 4:
            store.write([one(f'e{i}', 1, state='{}')])
            store.write([one(f'e{i}', 2, deletes=[1])])
            assert store.candidates([Search(f'e{i}', np.ones(4, np.float32), 3)])[0].ids.tolist() == [2]
    assert things() != before
    for store in stores:
        store.close()
    back_to(before)
try:
    open_store('milvus://' + path, 5)
except StoreError:
    say('refused')
back_to(before)
open_store('milvus', 4)
open_store('milvus://' + path, 4).write([one('left', 1)])
say('left open')
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts the open files of the process in /proc: run it on Linux")
def test_no_threads_files_or_folders_are_left(kept: str, tmp_path: Path, program: Callable[[str], Any]) -> None:
    assert output(program(LEAVES_NOTHING)) == ["refused", "left open"]
    # What was not closed is cleaned up when the interpreter ends.
    assert list((tmp_path / "tmp").iterdir()) == []
    store = open_store(kept, DIM)
    assert "left" in store.episodes()
    store.close()


def test_leftovers_of_killed_processes_are_removed_and_living_ones_are_not(
    tmp_path: Path, program: Callable[[str], Any]
) -> None:
    hold = "store = open_store('milvus', 4); store.write([one('e', 1)]); say(store._database.path); sys.stdin.read()"
    killed, living = program(hold), program(hold)
    dead_folder, live_folder = line(killed), line(living)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    (tmp_path / "tmp" / "atommem-gym-being-made").mkdir()
    (tmp_path / "tmp" / "somebody-else").mkdir()
    assert {os.path.exists(dead_folder), os.path.exists(live_folder)} == {True}
    assert output(program("store = open_store('milvus', 4); say('up')")) == ["up"]
    assert not os.path.exists(dead_folder)
    assert sorted(p.name for p in (tmp_path / "tmp").iterdir()) == sorted(
        [os.path.basename(live_folder), "atommem-gym-being-made", "somebody-else"]
    )
    living.communicate()
    assert not os.path.exists(live_folder)


FORKS = """
store = open_store('milvus', 4)
lasting = open_store('milvus://' + path, 4)
store.write([one('e', 1)])
lasting.write([one('e', 1)])
folder = store._database.path
readable, writable = os.pipe()
child = os.fork()
if child == 0:
    code = 1
    try:
        for inherited in (store, lasting):
            try:
                inherited.write([one('e', 2)])
            except StoreError as error:
                assert 'forked child' in str(error)
            else:
                raise AssertionError('a child wrote to its parent\\'s database')
            inherited.close()
        own = open_store('milvus', 4)
        assert own._database.path != folder and own.episodes() == []
        own.write([one('e', 7)])
        own.close()
        os.close(writable)
        os.read(readable, 1)
        code = 0
    finally:
        # An ordinary end, with everything that runs at exit.
        sys.exit(code)
os.close(readable)
store.write([one('e', 2)])
lasting.write([one('e', 2)])
for each in (store, lasting):
    assert each.load('e').ids.tolist() == [1, 2]
lasting.close()
# The child still lives, but must not hold the lock.
lasting = open_store('milvus://' + path, 4)
assert lasting.load('e').ids.tolist() == [1, 2]
os.close(writable)
assert os.waitpid(child, 0)[1] == 0
assert os.path.isdir(folder)
assert store.load('e').ids.tolist() == [1, 2]
store.close()
lasting.close()
say('done', os.path.exists(folder))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
def test_a_forked_child_leaves_its_parents_databases_alone(program: Callable[[str], Any]) -> None:
    assert output(program(FORKS)) == ["done False"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
def test_a_child_that_outlives_its_killed_parent_does_not_hold_the_database(
    kept: str, program: Callable[[str], Any]
) -> None:
    parent = program(
        """
store = open_store('milvus://' + path, 4)
store.write([one('e', 1)])
if os.fork() == 0:
    say('child')
    sys.stdin.read()
    os._exit(0)
signal.pause()
"""
    )
    assert line(parent) == "child"
    parent.kill()
    parent.wait()
    store = open_store(kept, DIM)
    assert ids(store, "e") == [1]
    store.close()
