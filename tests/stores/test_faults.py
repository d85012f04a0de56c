"""Nothing acknowledged is lost: kill -9, a full disk, two processes, threads, environments left open (SPEC M13)."""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.stores import players
from support.stores.players import Plan, endless, facts, rng, states

from atommem_gym.errors import StoreError, StoreLockedError
from atommem_gym.memory.protocols import Search, Store
from atommem_gym.stores.loading import open_store

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="kills forks and reads /proc: run it on Linux")
DIM = 1024


@pytest.fixture(scope="module")
def processes() -> Any:
    """Children that begin at once: a server that has imported the package, and nothing more, forks them."""
    context = multiprocessing.get_context("forkserver")
    # Milvus Lite imports the last three when it opens a database; a module that is not there is left out.
    modules = ["atommem_gym.envs", "atommem_gym.stores.lite.store", "pandas", "pyarrow.dataset", "pyarrow.parquet"]
    context.set_forkserver_preload([*modules, "milvus_lite.engine.collection"])
    return context


@pytest.fixture
def kept(tmp_path: Path) -> str:
    return f"milvus://{tmp_path}/kept.db"


@contextlib.contextmanager
def child(processes: Any, play: Any, *args: Any) -> Iterator[tuple[Any, Any]]:
    """A child that plays, and our end of the pipe to it; killed in the end."""
    ours, theirs = processes.Pipe()
    process = processes.Process(target=play, args=(*args, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield process, ours
    finally:
        process.kill()
        process.join()
        ours.close()


def received(pipe: Any) -> list[Any]:
    """All that a child still said before it died."""
    found = []
    with contextlib.suppress(EOFError, ConnectionResetError):
        while True:
            found.append(pipe.recv())
    return found


def kept_state(store: Store, key: str) -> tuple[dict[int, str], int, str]:
    """What a database has under a key, by both ways of reading."""
    stored = store.load(key)
    assert stored is not None, f"nothing is kept under {key}"
    state = json.loads(stored.state or "{}")
    ids = stored.ids.tolist()
    assert len(set(ids)) == len(ids), f"{key} has an entry twice: {ids}"
    return dict(zip(ids, stored.texts, strict=True)), state["next_id"], state["scratchpad"]


def rounds_of_kill_9(processes: Any, store: str, numbers: Sequence[int]) -> None:
    expected: dict[str, tuple[dict[int, str], int, str]] = {}
    for number in numbers:
        dice = rng("kill", number)
        num_envs = 1 if number % 2 else 3
        memtable = int(dice.integers(40_000, 200_000)) if number % 4 > 1 else None
        seed = f"kill{number}"
        with child(processes, players.write_until_killed, store, seed, num_envs, memtable) as (process, pipe):
            assert pipe.poll(60), "the child did not begin"
            keys = pipe.recv()
            acknowledged = int(dice.integers(0, 60))
            for _ in range(acknowledged):
                pipe.recv()
            time.sleep(float(dice.random()) * 0.01)
            os.kill(process.pid, signal.SIGKILL)
            acknowledged += len(received(pipe))
        database = open_store(store, DIM, store_reads=("mirror", "milvus")[number % 3 == 0])
        try:
            for i, key in enumerate(keys):
                found = kept_state(database, key)
                # The step that was cut off may be there as a whole or not at all.
                possible = states(f"{seed}-{i}", acknowledged + 1)[-2:]
                assert found in possible, (
                    f"round {number}, {acknowledged} steps acknowledged: {found} not in {possible}"
                )
                expected[key] = found
            assert database.episodes() == sorted(expected)
            # What earlier rounds left is not disturbed by later deaths.
            for key in list(expected)[:: max(1, len(expected) // 10)]:
                assert kept_state(database, key) == expected[key]
        finally:
            database.close()
    for key in list(expected)[-2:]:
        goes_on(store, key, expected[key])


def goes_on(store: str, key: str, before: tuple[dict[int, str], int, str]) -> None:
    """M1, M13: an environment goes on with a kept memory: its entries, its scratchpad, and the next id."""
    env = endless(store=store)
    observation, info = env.reset(options={"memory": key})
    assert facts(env) == before
    assert (info["entries"], observation["scratchpad"]) == (len(before[0]), before[2])
    observation = env.step("<create>afterwards</create><read>afterwards</read>")[0]
    assert observation["feedback"] == f"created {before[1]}"
    assert observation["memories"][0]["id"] == before[1]
    env.close()


def test_M13_after_kill_9_every_acknowledged_step_is_there_whole_and_once(processes: Any, kept: str) -> None:
    rounds_of_kill_9(processes, kept, range(6))


@pytest.mark.slow
def test_M13_after_kill_9_every_acknowledged_step_is_there_200_times(processes: Any, kept: str) -> None:
    for first in range(1000, 1200, 20):
        rounds_of_kill_9(processes, f"{kept}-{first}", range(first, first + 20))


@pytest.mark.parametrize("reads", ["mirror", "milvus"])
@pytest.mark.parametrize("part", players.FLUSH_PARTS)
def test_M13_a_process_that_dies_within_a_flush_leaves_no_row_twice(
    processes: Any, kept: str, part: str, reads: str
) -> None:
    with child(processes, players.die_in_a_flush, kept, part) as (process, pipe):
        key, *done = received(pipe)
        process.join()
    assert process.exitcode == 9
    # The step whose insert set the flush off is in the log, though it was not acknowledged.
    possible = states("flush", len(done) + 1)[-2:]
    database = open_store(kept, DIM, store_reads=reads)
    rows = database.candidates([Search(key, np.ones(DIM, np.float32), 1_000)])[0]
    found = kept_state(database, key)
    assert found in possible
    assert sorted(rows.ids.tolist()) == sorted(found[0])
    database.close()
    goes_on(kept, key, found)


@pytest.mark.parametrize(
    ("num_envs", "memtable"), [(1, None), (3, None), (2, 60_000)], ids=["log", "vector", "log and flush"]
)
def test_M13_a_full_disk_fails_the_step_changes_nothing_and_the_step_can_be_repeated(
    processes: Any, kept: str, num_envs: int, memtable: int | None
) -> None:
    limit = 150_000 if memtable is None else 40_000
    args = (kept, f"full{num_envs}", num_envs, limit, memtable)
    with child(processes, players.run_out_of_space, *args) as (process, pipe):
        assert pipe.poll(120), "the child did not end"
        keys, steps, failures = pipe.recv()
        process.join()
    assert len(failures) == 6
    assert all("kept.db" in failure and "repeat" in failure for failure in failures)
    # Every step was acknowledged in the end, and the process ended without closing anything.
    database = open_store(kept, DIM)
    for key, state in players.keys_and_states(keys, f"full{num_envs}", steps).items():
        assert kept_state(database, key) == state
    database.close()


def test_M13_a_disk_that_is_full_at_reset_leaves_the_old_episode_as_it_is(
    kept: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from milvus_lite import Collection

    env = endless(store=kept)
    env.reset(seed=0)
    env.step("<create>bees</create>")
    key, before = env.memory_key, facts(env)

    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Collection, "insert", full)
        with pytest.raises(StoreError, match="No space left"):
            env.reset(seed=1)
    assert (env.memory_key, facts(env)) == (key, before)
    assert [m["text"] for m in env.step("<read>bees</read>")[0]["memories"]] == ["bees"]
    env.reset(seed=1)
    assert env.memory_key != key
    env.close()


def test_M13_of_processes_at_one_path_one_gets_it_and_the_others_are_told(processes: Any, kept: str) -> None:
    with contextlib.ExitStack() as stack:
        started = [stack.enter_context(child(processes, players.hold, kept)) for _ in range(3)]
        said = [pipe.recv() for _, pipe in started]
        outcomes = sorted(outcome for outcome, _ in said)
        assert outcomes == ["StoreLockedError", "StoreLockedError", "held"]
        for outcome, message in said:
            assert outcome == "held" or ("kept.db" in message and "another process" in message)
        with pytest.raises(StoreLockedError, match=r"kept\.db"):
            endless(store=kept)
        winner, pipe = started[[outcome for outcome, _ in said].index("held")]
        # Those who were refused have not disturbed the one who has it.
        pipe.send("go on")
        assert pipe.recv() == ("closed", "")
        winner.join()
        second, pipe = stack.enter_context(child(processes, players.hold, kept))
        assert pipe.recv()[0] == "held"
        # A holder that dies frees the path.
        os.kill(second.pid, signal.SIGKILL)
        second.join()
        database = open_store(kept, DIM)
        key = next(key for outcome, key in said if outcome == "held")
        assert kept_state(database, key) == ({1: "still here"}, 2, "")
        database.close()


def test_M13_64_environments_in_8_threads_over_one_kept_database(kept: str) -> None:
    steps, threads, each = 10, 8, 8
    failures: list[BaseException] = []
    keys: dict[str, str] = {}

    def play(thread: int) -> None:
        try:
            names = [f"thread{thread}-{i}" for i in range(each)]
            envs = [endless(store=kept) for _ in names]
            for env in envs:
                env.reset(seed=0)
            moves = [Plan(name).actions() for name in names]
            memories = [states(name, steps) for name in names]
            for step in range(1, steps + 1):
                for env, move, memory in zip(envs, moves, memories, strict=True):
                    observation = env.step(next(move))[0]
                    assert facts(env) == memory[step]
                    assert {m["id"]: m["text"] for m in observation["memories"]}.items() <= memory[step][0].items()
                    assert len(observation["memories"]) == min(6, len(memory[step][0]))
            keys.update({env.memory_key: name for env, name in zip(envs, names, strict=True)})
            for env in envs:
                env.close()
        except BaseException as error:
            failures.append(error)

    running = [threading.Thread(target=play, args=(thread,)) for thread in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    assert failures == []
    assert len(keys) == threads * each
    database = open_store(kept, DIM)
    assert database.episodes() == sorted(keys)
    for key, name in keys.items():
        assert kept_state(database, key) == states(name, steps)[-1]
    database.close()


def left_open(processes: Any, store: str, episodes: int, every: int) -> list[tuple[int, int, int, int, int]]:
    with child(processes, players.leave_unclosed, store, episodes, every) as (_, pipe):
        found = received(pipe)
        rows = [row for row in found if row is not None]
        assert found[-1:] == [None], "the child died"
    return rows


@pytest.mark.parametrize("store", ["milvus", "numpy"])
def test_M13_environments_left_open_leak_no_file_thread_or_row(processes: Any, store: str) -> None:
    rows = left_open(processes, store, 150, 25)
    files, threads, episodes = ([row[i] for row in rows] for i in (1, 2, 4))
    assert max(files[1:]) <= files[0], f"open files grow: {files}"
    assert max(threads[1:]) <= threads[0], f"threads grow: {threads}"
    # The running episode alone is in the database: those that were left are gone.
    assert set(episodes) == {1}, episodes


@pytest.mark.slow
@pytest.mark.parametrize("store", ["milvus", "numpy"])
def test_M13_over_1000_episodes_memory_is_flat(processes: Any, store: str) -> None:
    rows = np.array(left_open(processes, store, 1_200, 100))[4:]
    assert np.ptp(rows[:, 1]) <= 1, f"open files: {rows[:, 1]}"
    assert np.ptp(rows[:, 2]) <= 1, f"threads: {rows[:, 2]}"
    slope = np.polyfit(rows[:, 0], rows[:, 3], 1)[0]
    # The vectors of an episode of four steps alone have some 24 KiB.
    assert slope < 8.0, f"{slope:.1f} KiB an episode: {rows[:, 3]}"
