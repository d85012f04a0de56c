"""What the tests of the pool share: coroutines that may not hang, an embedder with a gate, seeded actions."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import gymnasium as gym

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.actions import ActionText
from atommem_gym.config import EnvConfig
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.envs import AtomMemEnv, AtomMemPool
from atommem_gym.errors import EmbedderError
from atommem_gym.records.layout import stable_rng

ENV_ID = "AtomMem-Synthetic-v0"
SMALL: dict[str, Any] = {"source": "synthetic", "num_docs": 24, "chunk_tokens": 800, "store": "numpy"}
HANGS_AFTER_S = 60.0
"""Only so that a test that would hang fails instead."""

R = TypeVar("R")


def run(main: Coroutine[Any, Any, R]) -> R:
    return asyncio.run(asyncio.wait_for(main, HANGS_AFTER_S))


def make_pool(capacity: int = 8, **keywords: Any) -> AtomMemPool:
    return AtomMemPool(ENV_ID, capacity, **{**SMALL, **keywords})


def make_plain(**keywords: Any) -> AtomMemEnv:
    env = gym.make(ENV_ID, **{**SMALL, **keywords}).unwrapped
    assert isinstance(env, AtomMemEnv)
    return env


def sampler(config: EnvConfig, *seed: object) -> Callable[[], str]:
    """Seeded actions of every kind, the same for whoever asks with this seed."""
    space = ActionText(config.max_action_chars, dialect=config.dialect, kinds=config.kinds)
    space.seed(int(stable_rng("pool test", *seed).integers(2**31)))
    return space.sample


async def ticks(number: int = 20) -> None:
    """Let everyone else on the event loop run a while."""
    for _ in range(number):
        await asyncio.sleep(0)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that happens in another thread."""
    while not condition():
        await asyncio.sleep(0.001)


class GatedEmbedder:
    """The hashing embedder, but ``slow`` in a text stops it until the gate opens, and ``poison`` makes it fail."""

    def __init__(self) -> None:
        inner = HashingEmbedder()
        self._inner = inner
        self.name, self.dim = inner.name, inner.dim
        self.tells_queries = True
        self.gate = threading.Event()
        self.calls: list[list[str]] = []
        """Texts of every call with documents, in order."""
        self.inside = 0
        self.poison = "poison"

    def embed(self, texts: Any, kind: str) -> Any:
        if kind == "document":
            self.calls.append(list(texts))
        self.inside += 1
        try:
            if any("slow" in text for text in texts):
                assert self.gate.wait(HANGS_AFTER_S)
            if any(self.poison in text for text in texts):
                raise EmbedderError("poison on purpose")
            return self._inner.embed(texts, kind)  # type: ignore[arg-type]
        finally:
            self.inside -= 1


def gated(pool: AtomMemPool) -> GatedEmbedder:
    embedder = GatedEmbedder()
    pool._backend.embedder = embedder  # type: ignore[assignment]
    return embedder


def living_threads(pool: AtomMemPool) -> int:
    """How many threads a pool has."""
    return sum(thread.is_alive() for thread in pool._executor._threads)
