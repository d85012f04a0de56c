"""The cache of vectors, and embedders by name."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.embedders.loading import CachedEmbedder, load_embedder
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import Embedder, TextKind, Vectors

HASHING = HashingEmbedder()


class Counting:
    """Remembers what it was asked for; ``noise`` makes each vector depend on the call, as a real model's may."""

    name = "counting"
    dim = 2

    def __init__(self, tells_queries: bool = False, noise: bool = False) -> None:
        self.tells_queries = tells_queries
        self.calls: list[tuple[list[str], str]] = []
        self.noise = noise

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        self.calls.append((list(texts), kind))
        if self.noise:
            time.sleep(0.001)
        extra = len(self.calls) if self.noise else 0
        return np.array([[len(text) + extra, kind == "query"] for text in texts], np.float32)


def test_cache_asks_once_for_every_text() -> None:
    model = Counting()
    cache = CachedEmbedder(model)
    assert isinstance(cache, Embedder)
    assert (cache.name, cache.dim) == ("counting", 2)
    assert cache.embed(["aa", "b", "aa"], "document").tolist() == [[2, 0], [1, 0], [2, 0]]
    assert cache.embed(["b", "ccc"], "document").tolist() == [[1, 0], [3, 0]]
    assert model.calls == [(["aa", "b"], "document"), (["ccc"], "document")]
    assert (cache.hits, cache.misses, len(cache)) == (2, 3, 3)
    assert cache.embed([], "query").shape == (0, 2)
    assert len(model.calls) == 2


@pytest.mark.parametrize("tells", [True, False])
def test_cache_keeps_queries_apart_if_the_model_does(tells: bool) -> None:
    cache = CachedEmbedder(Counting(tells_queries=tells))
    cache.embed(["a"], "document")
    assert cache.embed(["a"], "query").tolist() == [[1, 1 if tells else 0]]
    assert cache.misses == (2 if tells else 1)


def test_cache_keeps_the_most_recently_used() -> None:
    model = Counting()
    cache = CachedEmbedder(model, size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.embed([text], "document")
    assert [texts for texts, _ in model.calls] == [["a"], ["b"], ["c"], ["b"]]
    assert len(cache) == 2
    cache.enlarge(3)
    cache.embed(["d"], "document")
    assert len(cache) == 3


def test_cache_is_bounded_in_bytes() -> None:
    cache = CachedEmbedder(Counting(), max_bytes=10_000)
    for i in range(50):
        cache.embed([str(i).zfill(1000)], "document")
    assert 1 <= len(cache) <= 7
    cache.embed(["x" * 20_000], "document")
    assert len(cache) == 0


@pytest.mark.parametrize("size", [0, 1])
def test_a_call_larger_than_the_cache_is_answered_whole(size: int) -> None:
    cache = CachedEmbedder(Counting(), size=size)
    assert cache.embed(["a", "bb", "ccc", "a"], "document")[:, 0].tolist() == [1, 2, 3, 1]
    assert len(cache) == size


def test_the_vectors_handed_out_are_the_callers_own() -> None:
    cache = CachedEmbedder(Counting())
    cache.embed(["a"], "document")[:] = 99
    assert cache.embed(["a"], "document").tolist() == [[1, 0]]


def test_cache_gives_threads_one_vector_for_one_text() -> None:
    cache = CachedEmbedder(Counting(noise=True))
    texts = [f"text {i}" for i in range(40)]
    results: list[list[Vectors]] = [[] for _ in range(8)]

    def work(mine: list[Vectors]) -> None:
        for first in range(0, 40, 4):
            mine.append(cache.embed(texts[first : first + 4], "document"))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    later = cache.embed(texts, "document")
    for mine in results:
        assert np.concatenate(mine).tolist() == later.tolist()
    assert cache.hits + cache.misses == 8 * 40 + 40


def test_a_failure_leaves_the_cache_usable() -> None:
    class Failing(Counting):
        def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
            if "bad" in texts:
                raise EmbedderError("no")
            return super().embed(texts, kind)

    cache = CachedEmbedder(Failing())
    with pytest.raises(EmbedderError):
        cache.embed(["good", "bad"], "document")
    assert cache.embed(["good"], "document").tolist() == [[4, 0]]


def test_load_embedder_shares_one_cache_per_process() -> None:
    assert load_embedder("hashing") is load_embedder("hashing", cache_size=7)
    assert load_embedder("hashing").embed(["a"], "query").tobytes() == HASHING.embed(["a"], "query").tobytes()


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_a_name_that_is_none(name: Any) -> None:
    with pytest.raises(ConfigError, match="non-empty string"):
        load_embedder(name)


def test_a_negative_cache() -> None:
    with pytest.raises(ConfigError, match="cache_size=-1"):
        CachedEmbedder(Counting(), size=-1)
