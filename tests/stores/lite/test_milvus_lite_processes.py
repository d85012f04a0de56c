"""The embedded store and its processes: a second one, killed ones and forks (SPEC M13)."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stores.programs import kept, line, output, program
from support.stores.written import DIM, ids, loaded

from atommem_gym.errors import StoreLockedError
from atommem_gym.memory.protocols import Search
from atommem_gym.stores.lite.engine import open_engine
from atommem_gym.stores.lite.verify import held
from atommem_gym.stores.loading import open_store

__all__ = ["kept", "program"]


def test_a_second_process_is_told_the_path_and_the_remedy(kept: str, program: Callable[[str], Any]) -> None:
    holder = program("store = open_store('milvus://' + path, 4); say('open'); sys.stdin.read()")
    assert line(holder) == "open"
    with pytest.raises(StoreLockedError, match=r"kept\.db.*another process.*Milvus server"):
        open_store(kept, DIM)
    holder.communicate()
    open_store(kept, DIM).close()


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


def test_whoever_finds_a_database_in_use_says_the_same(tmp_path: Path) -> None:
    path = str(tmp_path / "kept.db")
    engine = open_engine(path)
    try:
        with pytest.raises(StoreLockedError) as opening:
            open_engine(path)
        with pytest.raises(StoreLockedError) as looking, held(path):
            pass
    finally:
        engine.close()
    assert str(opening.value) == str(looking.value)
    assert "close that process, wait until it is done" in str(opening.value)
