"""The stores of this package, and the floor under all of them, as contestants of ``benchmarks/stores.py``."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from milvus_lite import Collection, MilvusLite
from workloads.stores import TOP_K, Move

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Search, Store, Write
from atommem_gym.memory.ranking import rank_all
from atommem_gym.stores.lite.engine import schema
from atommem_gym.stores.loading import open_store
from atommem_gym.stores.milvus_rows import entry_of, key_of, row
from atommem_gym.stores.milvus_server import MilvusServerStore
from contestants.per_episode import PerEpisode

SERVER_START_S = 60.0
REAL_MILVUS = "ATOMMEM_MILVUS"
"""The environment variable with the URL of a real Milvus."""


class Contestant(Protocol):
    """A store that plays workload W its own best way; one is opened for several rounds of several sizes."""

    def begin(self, num_envs: int) -> None:
        """Episodes ``0 … num_envs - 1`` begin, with empty memories."""
        ...

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """Carry out one move of each episode and return the ids that each read finds, best first. This is timed."""
        ...

    def end(self) -> None:
        """The episodes are over."""
        ...

    def close(self) -> None:
        """Give everything back."""
        ...


class Floor:
    """No store at all: one block of float32 for all episodes, one batched product to search, nothing checked."""

    def __init__(self, dim: int) -> None:
        self._dim = dim

    def begin(self, num_envs: int) -> None:
        """See ``Contestant``."""
        self._rows = np.zeros((num_envs, 64, self._dim), np.float32)
        self._ids = np.zeros((num_envs, 64), np.int64)
        self._free = np.full((num_envs, 64), -np.inf, np.float32)
        self._places: list[dict[int, int]] = [{} for _ in range(num_envs)]

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``Contestant``."""
        for move in moves:
            places = self._places[move.episode]
            for entry in move.deletes:
                self._remove(move.episode, entry)
            for entry, vector in zip(move.ids, move.vectors, strict=True):
                place = places.setdefault(entry, len(places))
                if place == self._rows.shape[1]:
                    self._grow()
                self._rows[move.episode, place] = vector
                self._ids[move.episode, place] = entry
                self._free[move.episode, place] = 0.0
        used = max(len(places) for places in self._places)
        queries = np.array([move.query for move in moves])
        scores = np.matmul(self._rows[:, :used], queries[:, :, None])[:, :, 0] + self._free[:, :used]
        k = min(TOP_K, used)
        best = (
            np.argpartition(-scores, k - 1, axis=1)[:, :k] if k < used else np.arange(used)[None].repeat(len(moves), 0)
        )
        best = np.take_along_axis(best, np.argsort(-np.take_along_axis(scores, best, 1), axis=1, kind="stable"), 1)
        found = np.take_along_axis(self._ids, best, 1).tolist()
        return [ids[: len(places)] for ids, places in zip(found, self._places, strict=True)]

    def end(self) -> None:
        """See ``Contestant``."""
        self._places.clear()

    def close(self) -> None:
        """See ``Contestant``."""

    def _remove(self, episode: int, entry: int) -> None:
        places = self._places[episode]
        place, last = places.pop(entry), len(places)
        if place != last:
            moved = int(self._ids[episode, last])
            self._rows[episode, place] = self._rows[episode, last]
            self._ids[episode, place] = moved
            places[moved] = place
        self._free[episode, last] = -np.inf

    def _grow(self) -> None:
        n, size = self._free.shape
        self._rows = np.concatenate([self._rows, np.zeros((n, size, self._dim), np.float32)], axis=1)
        self._ids = np.concatenate([self._ids, np.zeros((n, size), np.int64)], axis=1)
        self._free = np.concatenate([self._free, np.full((n, size), -np.inf, np.float32)], axis=1)


class Engine(PerEpisode):
    """Milvus Lite's engine by itself, a collection an episode: the floor under reads that it answers."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        self._folder = tempfile.TemporaryDirectory()
        self._engine = MilvusLite(self._folder.name)
        self._made = 0

    def make(self, number: int) -> Collection:
        """See ``PerEpisode``."""
        self._made += 1
        return self._engine.create_collection(f"episode_{self._made}", schema(self.dim))

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        written = zip(move.ids, move.texts, move.vectors.tolist(), strict=True)
        episode.insert([row("e", entry, text, vector) for entry, text, vector in written])

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.delete([key_of("e", entry) for entry in ids])

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found = episode.search([move.query.tolist()], top_k=TOP_K, metric_type="COSINE", output_fields=[])
        return [entry_of(hit["id"]) for hit in found[0]]

    def close(self) -> None:
        """See ``Contestant``."""
        self._engine.close()
        self._folder.cleanup()


class Ours:
    """A store of this package, with the ranking that a step does after it."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._keys: list[str] = []

    def begin(self, num_envs: int) -> None:
        """See ``Contestant``."""
        self._keys = [uuid.uuid4().hex for _ in range(num_envs)]
        self._state = "{}" if self._store.kept else None

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``Contestant``."""
        keys, state = self._keys, self._state
        self._store.write(
            [Write(keys[move.episode], move.ids, move.texts, move.vectors, move.deletes, state) for move in moves]
        )
        searches = [Search(keys[move.episode], move.query, TOP_K) for move in moves]
        return [ids for ids, _ in rank_all(searches, self._store.candidates(searches))]

    def end(self) -> None:
        """See ``Contestant``."""
        self._store.release(self._keys)

    def close(self) -> None:
        """See ``Contestant``."""
        self._store.close()


class Kept(Ours):
    """The embedded store in a folder that outlives the process (here it is removed all the same)."""

    def __init__(self, dim: int, reads: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="atommem-bench-")
        super().__init__(open_store(f"milvus://{self._folder.name}/kept.db", dim, store_reads=reads))

    def close(self) -> None:
        """See ``Contestant``."""
        super().close()
        self._folder.cleanup()


class Served(Ours):
    """``milvus-lite server`` in a process of its own, through a port."""

    def __init__(self, dim: int) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="atommem-bench-")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", self._folder.name]
        command += ["--host", "127.0.0.1", "--port", str(port)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            super().__init__(self._connected(f"http://127.0.0.1:{port}", dim))
        except BaseException:
            self._stop()
            raise

    def close(self) -> None:
        """See ``Contestant``."""
        try:
            super().close()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()

    @staticmethod
    def _connected(url: str, dim: int) -> Store:
        end = time.monotonic() + SERVER_START_S
        while True:
            try:
                return open_store(url, dim)
            except StoreError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.2)


class RealMilvus(Ours):
    """The server store on a real Milvus that somebody has started."""

    def __init__(self, dim: int) -> None:
        super().__init__(open_store(os.environ[REAL_MILVUS], dim))


class StrongSearch:
    """One search that waits for the time tick of a real Milvus, whatever the moves: no step can be faster."""

    def __init__(self, dim: int) -> None:
        store = open_store(os.environ[REAL_MILVUS], dim)
        assert isinstance(store, MilvusServerStore)
        self._store = store
        self._vector = np.ones(dim, np.float32)

    def begin(self, num_envs: int) -> None:
        """See ``Contestant``."""

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``Contestant``; it finds nothing."""
        self._store.candidates([Search("nobody", self._vector, TOP_K)])
        return [[] for _ in moves]

    def end(self) -> None:
        """See ``Contestant``."""

    def close(self) -> None:
        """See ``Contestant``."""
        self._store.close()


class WrittenAndSearched(StrongSearch):
    """One row written, and then that search, as every step has them."""

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``Contestant``; it finds nothing."""
        self._store.write([Write("somebody", [1], ["a text"], self._vector[None])])
        return super().step(moves)
