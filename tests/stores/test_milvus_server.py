"""The store on a Milvus server, against a real server of the protocol on a loopback port."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pymilvus import MilvusClient
from support.servers import AnyServer, MilvusServer, free_port, milvus_server, own_database  # noqa: F401
from support.stores.written import DIM, loaded, one

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Write
from atommem_gym.memory.ranking import rank
from atommem_gym.stores import milvus_server as module
from atommem_gym.stores.loading import open_store


@pytest.fixture
def url(milvus_server: AnyServer) -> Iterator[str]:  # noqa: F811
    """A database of its own on the session's server, which also tests that the path of a URL names one."""
    with own_database(milvus_server) as name:
        yield name


def test_nobody_listening_is_an_error_within_seconds_naming_url_and_remedy() -> None:
    began = time.monotonic()
    with pytest.raises(StoreError, match=r'127\.0\.0\.1:\d+ failed.*repeat.*store="milvus"'):
        open_store(f"http://127.0.0.1:{free_port()}", DIM)
    assert time.monotonic() - began < 10


def test_a_password_in_the_url_is_not_shown() -> None:
    with pytest.raises(StoreError) as caught:
        open_store(f"http://root:secret@127.0.0.1:{free_port()}", DIM)
    # Nor in the driver's own error, where a traceback would show it.
    assert "secret" not in f"{caught.value} {caught.value.__cause__}"


def test_kept_rows_outlive_the_store_and_temporary_ones_do_not(url: str) -> None:
    for keep in (False, True):
        store = open_store(url, DIM, keep=keep)
        assert store.kept is keep
        store.write([one("a", 1, "first", state="{}")])
        store.write([one("a", 2, "second", deletes=(1,), state='{"x": 1}')])
        store.close()
        again = open_store(url, DIM, keep=keep)
        assert again.episodes() == (["a"] if keep else [])
        if keep:
            assert (loaded(again, "a").texts, loaded(again, "a").state) == (("second",), '{"x": 1}')
        again.close()


def test_a_client_that_dies_between_upsert_and_delete_of_a_step_is_harmless(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(url, DIM, keep=True)
    store.write([one("a", 1, state="1"), one("b", 1, state="1")])

    def dies(*args: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MilvusClient, "delete", dies)
        with pytest.raises(KeyboardInterrupt):
            store.write([one("a", 2, deletes=(1,), state="2"), one("b", 2, deletes=(1,), state="2")])
    again = open_store(url, DIM, keep=True)
    assert again.candidates([Search("a", np.ones(DIM, np.float32), 5)])[0].ids.tolist() == [2]
    assert (loaded(again, "b").ids.tolist(), loaded(again, "b").state) == ([2], "2")
    again.close()
    store.close()


def test_another_dimension_is_an_error_that_names_both(url: str) -> None:
    open_store(url, DIM, keep=True, embedder="hashing-4").close()
    with pytest.raises(StoreError, match=r"4 numbers.*hashing-4.*but 8.*minilm.*another database"):
        open_store(url, 8, keep=True, embedder="minilm")
    # Temporary rows have a collection for every dimension.
    open_store(url, 8).close()


def test_a_foreign_collection_is_an_error(url: str) -> None:
    client = MilvusClient(url)
    schema = MilvusClient.create_schema()
    schema.add_field("id", module.DataType.INT64, is_primary=True)
    schema.add_field("vector", module.DataType.FLOAT_VECTOR, dim=DIM)
    client.create_collection("atommem", schema=schema)
    client.close()
    with pytest.raises(StoreError, match="not written by atommem-gym"):
        open_store(url, DIM, keep=True)


def test_a_long_step_goes_in_several_messages(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_CALL_BYTES", 100_000)
    monkeypatch.setattr(module, "_KEYS_PER_CALL", 7)
    store = open_store(url, DIM)
    n = 40
    text = "é" * 10_000
    vectors = np.random.default_rng(0).normal(size=(n, DIM)).astype(np.float32)
    store.write([Write("a", range(1, n + 1), [text] * n, vectors), *(one(f"b{i}", 1) for i in range(20))])
    store.write([Write("a", deletes=range(1, n, 2))])
    found = loaded(store, "a")
    assert found.ids.tolist() == list(range(2, n + 1, 2))
    assert found.texts == (text,) * (n // 2)
    assert np.array_equal(found.vectors, vectors[1::2])
    assert len(store.episodes()) == 21
    store.drop(store.episodes())
    assert store.episodes() == []
    store.close()


def test_8_threads_with_their_own_episodes_lose_nothing(url: str) -> None:
    failures: list[BaseException] = []
    open_store(url, DIM).close()

    def play(key: str) -> None:
        try:
            store = open_store(url, DIM)
            for entry in range(1, 9):
                store.write([one(key, entry, f"{key} {entry}", (entry - 3,))])
            assert loaded(store, key).texts == tuple(f"{key} {entry}" for entry in (6, 7, 8))
            store.close()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=play, args=(f"e{i}",)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    store = open_store(url, DIM)
    assert store.episodes() == []
    store.close()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[MilvusServer]:
    server = MilvusServer(tmp_path)
    server.start()
    yield server
    server.kill()


def test_a_lost_connection_is_an_error_and_the_same_write_can_be_repeated(own_server: MilvusServer) -> None:
    files = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    store = open_store(own_server.url, DIM, keep=True)
    store.write([one("a", 1, state="1")])
    own_server.kill()
    step = [one("a", 2, deletes=(1,), state="2")]
    query = Search("a", np.ones(DIM, np.float32), 3)
    began = time.monotonic()
    for call in (lambda: store.write(step), lambda: store.candidates([query]), lambda: store.load("a")):
        with pytest.raises(StoreError, match="repeat"):
            call()
    assert time.monotonic() - began < 30
    own_server.start()
    store.write(step)
    assert (loaded(store, "a").ids.tolist(), loaded(store, "a").state) == ([2], "2")
    assert rank(query.vector, store.candidates([query])[0], 3) == ([2], [1.0])
    store.close()
    if files:
        end = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) > files and time.monotonic() < end:
            time.sleep(0.05)
        assert len(os.listdir("/proc/self/fd")) <= files + 1


@pytest.mark.skipif(importlib.util.find_spec("scipy") is None, reason="needs scipy, which comes with the extra `embed`")
def test_the_first_searches_find_pymilvus_imported_whole(url: str) -> None:
    # pymilvus imports scipy.sparse at the first vectors that it is given; many threads at once find it half imported.
    lines = (
        "import sys",
        "from atommem_gym.stores.loading import open_store",
        "assert 'scipy.sparse' not in sys.modules",
        f"store = open_store({url!r}, {DIM})",
        "assert 'scipy.sparse' in sys.modules",
        "store.close()",
    )
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True, timeout=120)
