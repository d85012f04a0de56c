"""Deleted is gone from the disk; memories are exported whole, also out of damaged databases (SPEC M16)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.stores.on_disk import on_disk

from atommem_gym.envs import SyntheticEnv
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.memory.protocols import Write
from atommem_gym.stores import export_memory, purge
from atommem_gym.stores.lite.store import MilvusLiteStore

DIM = 16


def vector(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((1, DIM)).astype(np.float32)


def state(next_id: int) -> str:
    return json.dumps({"next_id": next_id, "scratchpad": "a pad", "embedder": "test"})


@pytest.fixture
def kept(tmp_path: Path) -> Path:
    """Two memories of three entries each, written in two sessions."""
    path = tmp_path / "kept.db"
    for session in range(2):
        store = MilvusLiteStore(str(path), DIM, embedder="test")
        for number, key in enumerate(("one", "two")):
            ids = [1, 2] if session == 0 else [3]
            texts = [f"{key} täxt {i}" for i in ids]
            block = np.concatenate([vector(10 * number + i) for i in ids])
            store.write([Write(key, ids, texts, block, [], state(ids[-1] + 1))])
        store.close()
    for number, key in enumerate(("one", "two")):
        for i in (1, 2, 3):
            # The search itself finds what is there.
            assert on_disk(path, f"{key} täxt {i}".encode())
            assert on_disk(path, vector(10 * number + i).tobytes())
    return path


def gone(path: Path, number: int, i: int) -> bool:
    key = ("one", "two")[number]
    return not on_disk(path, f"{key} täxt {i}".encode()) and not on_disk(path, vector(10 * number + i).tobytes())


def keys(path: Path) -> dict[str, list[int]]:
    return {memory["key"]: [entry["id"] for entry in memory["entries"]] for memory in export_memory(str(path))}


def test_M16_a_purged_entry_is_gone_from_the_disk_and_its_id_is_not_given_again(kept: Path) -> None:
    assert purge(str(kept), "one", 2) == 1
    assert keys(kept) == {"one": [1, 3], "two": [1, 2, 3]}
    assert gone(kept, 0, 2)
    assert not gone(kept, 0, 1)
    assert export_memory(str(kept), "one")[0]["next_id"] == 4


def test_M16_a_purged_memory_is_gone_from_the_disk(kept: Path) -> None:
    assert purge(f"milvus://{kept}", "two") == 1
    assert keys(kept) == {"one": [1, 2, 3]}
    assert all(gone(kept, 1, i) for i in (1, 2, 3))
    assert not gone(kept, 0, 3)


def test_M16_all_memories_purged_leave_a_database_that_can_be_written(kept: Path) -> None:
    assert purge(str(kept)) == 2
    assert keys(kept) == {}
    assert all(gone(kept, number, i) for number in (0, 1) for i in (1, 2, 3))
    assert on_disk(kept, b"a pad") == []
    store = MilvusLiteStore(str(kept), DIM, embedder="test")
    store.write([Write("new", [1], ["new"], vector(99), [], state(2))])
    store.close()
    assert keys(kept) == {"new": [1]}


@pytest.mark.parametrize("reads", ["mirror", "milvus"])
def test_M16_finding_0_2_what_an_episode_deletes_or_replaces_is_gone_after_close(tmp_path: Path, reads: str) -> None:
    path = tmp_path / "kept.db"
    env = SyntheticEnv(num_docs=20, store=f"milvus://{path}", store_reads=reads)
    env.reset(seed=0)
    env.step("<create>secret number one</create><create>kept</create><scratchpad>secret number two</scratchpad>")
    env.step("<create>secret number three</create>")
    key = env.memory_key
    env.close()
    assert on_disk(path, b"secret number one")
    env = SyntheticEnv(num_docs=20, store=f"milvus://{path}", store_reads=reads)
    env.reset(seed=0, options={"memory": key})
    env.step('<delete id="1"/><update id="3">public</update><scratchpad>other</scratchpad>')
    env.close()
    assert on_disk(path, b"secret number") == []
    memory = export_memory(str(path))[0]
    assert [entry["text"] for entry in memory["entries"]] == ["kept", "public"]


@pytest.mark.parametrize(
    ("arguments", "error", "said"),
    [
        ((None, 1), ConfigError, "entry 1 of which memory"),
        (("three",), StoreError, "no memory 'three'.*one, two"),
        (("one", 9), StoreError, "has no entry 9; it has 1, 2, 3"),
    ],
)
def test_M16_what_is_not_there_is_not_purged(kept: Path, arguments: tuple, error: type[Exception], said: str) -> None:
    with pytest.raises(error, match=said):
        purge(str(kept), *arguments)
    assert keys(kept) == {"one": [1, 2, 3], "two": [1, 2, 3]}


def test_M16_a_database_that_is_open_or_is_none_is_not_purged(kept: Path, tmp_path: Path) -> None:
    store = MilvusLiteStore(str(kept), DIM)
    with pytest.raises(StoreError, match="is open in this process"):
        purge(str(kept))
    store.close()
    for where in (tmp_path / "none.db", tmp_path):
        with pytest.raises(StoreError):
            purge(str(where))
        with pytest.raises(StoreError):
            export_memory(str(where))
    assert not (tmp_path / "none.db").exists()


def test_M16_M17_what_is_intact_is_exported_from_a_damaged_database(kept: Path) -> None:
    saved = kept.with_name("saved")
    shutil.copytree(kept, saved)
    manifest = saved / "collections" / "atommem" / "manifest.json"
    manifest.write_text("")
    memories = export_memory(str(saved), vectors=True)
    assert [memory["key"] for memory in memories] == ["one", "two"]
    for number, memory in enumerate(memories):
        found = {entry["id"]: entry for entry in memory["entries"]}
        assert sorted([*found, *memory["missing"]]) == [1, 2, 3]
        assert memory["missing"]
        assert all(entry["intact"] for entry in found.values())
        for i, entry in found.items():
            assert entry["vector"] == vector(10 * number + i)[0].tolist()
    assert all(entry["intact"] for memory in export_memory(str(kept)) for entry in memory["entries"])
