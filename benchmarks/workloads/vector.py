"""What the benchmark of the vector environment plays: actions, contestants and what they are compared with."""

from __future__ import annotations

import contextlib
import os
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
from gymnasium.vector import AsyncVectorEnv, SyncVectorEnv

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.actions import Create, Read, UnicodeText, Update, parse
from atommem_gym.memory.protocols import TextKind, Vectors
from atommem_gym.records.layout import stable_rng

TASK = "AtomMem-HotpotQA-v0"
DOCUMENTS = 800
GROUP = 8
"""Members of a GRPO group."""
WORDS = ("river", "castle", "author", "born", "director", "film", "album", "nineteen", "village", "minister", "north")


class FreeEmbedder:
    """Vectors of 384 dimensions out of a table, so that everything but the embedding is measured."""

    name = "free"
    dim = 384
    tells_queries = False

    def __init__(self) -> None:
        self._table = stable_rng("free embedder").standard_normal((4096, self.dim)).astype(np.float32)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """See ``Embedder.embed``; 4,096 vectors are shared by all texts."""
        rows: Vectors = self._table[[zlib.crc32(text.encode()) & 4095 for text in texts]]
        return rows


def source() -> dict[str, Any]:
    """Real records where ``ATOMMEM_DATA`` names a folder with them, else generated ones."""
    folder = os.environ.get("ATOMMEM_DATA", "")
    file = Path(folder) / "hotpotqa.jsonl"
    return {"source": str(file) if folder and file.is_file() else "synthetic", "num_docs": DOCUMENTS}


def actions(num_envs: int, steps: int) -> list[list[str]]:
    """Workload W of every step: one create of 200 characters, 0.3 updates, 0.1 deletes, one read; some reasoning."""
    rng = stable_rng("vector workload", num_envs)

    def text(count: int) -> str:
        return " ".join(WORDS[int(i)] for i in rng.integers(len(WORDS), size=count))

    def action(env: int, step: int) -> str:
        parts = [f"What matters here is kept. <create>{env} {step} {text(29)}</create>"]
        if rng.random() < 0.3:
            parts.append(f'<update id="{1 + int(rng.integers(step + 1))}">{env} {step} {text(29)}</update>')
        if rng.random() < 0.1:
            parts.append(f'<delete id="{1 + int(rng.integers(step + 1))}"/>')
        return "".join([*parts, f"<read>{env} {step} {text(6)}</read>"])

    return [[action(env, step) for env in range(num_envs)] for step in range(steps)]


def texts_of(batch: Sequence[str]) -> tuple[list[str], list[str]]:
    """The texts and the queries that a vector step embeds."""
    operations = [operation for action in batch for operation in parse(action)]
    texts = [operation.text for operation in operations if isinstance(operation, Create | Update)]
    return texts, [operation.query for operation in operations if isinstance(operation, Read)]


class SilentEnv(gym.Env[str, str]):
    """An environment that only shows 16 kB of text: what Gymnasium's own forms cost by themselves."""

    observation_space = UnicodeText(2**31 - 1)
    action_space = UnicodeText(2**31 - 1)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        """Begin."""
        return "x" * 16_000, {}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        """Go on."""
        return "x" * 16_000, 0.0, False, False, {}


@contextlib.contextmanager
def free_embedding(free: bool) -> Iterator[None]:
    """Environments made inside embed for nothing."""
    if not free:
        yield
        return
    embedder = FreeEmbedder()
    with mock.patch("atommem_gym.envs.backend.load_embedder", return_value=embedder):
        yield


def ours(num_envs: int, store: str, embedder: str) -> Any:
    """Our vector environment."""
    with free_embedding(embedder == "none"):
        named = {} if embedder == "none" else {"embedder": embedder}
        return gym.make_vec(TASK, num_envs=num_envs, store=store, **named, **source())


def plain_envs(num_envs: int, form: str) -> Any:
    """Our plain environment in Gymnasium's own vector forms, store numpy, embedder hashing."""
    keywords = {**source(), "store": "numpy"}
    made: list[Callable[[], gym.Env[Any, Any]]] = [lambda: gym.make(TASK, **keywords) for _ in range(num_envs)]
    return SyncVectorEnv(made) if form == "sync" else AsyncVectorEnv(made, shared_memory=False)


def silent_envs(num_envs: int) -> Any:
    """The trivial environment in Gymnasium's own vector form."""
    return SyncVectorEnv([SilentEnv for _ in range(num_envs)])


def interleaved(
    contestants: dict[str, Any], steps: int, *, seed: int = 0, grouped: str = ""
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of wall and of processor of every step, each step played by all in turn, the first two left out.

    The contestant ``grouped`` plays groups of ``GROUP`` equal episodes.
    """
    played = actions(next(iter(contestants.values())).num_envs, steps)
    for name, envs in contestants.items():
        groups = {"index": [i // GROUP for i in range(envs.num_envs)]} if name == grouped else None
        envs.reset(seed=seed, options=groups)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number, batch in enumerate(played):
        for name, envs in contestants.items():
            taken = timed(lambda envs=envs, batch=batch: envs.step(batch))  # type: ignore[misc]
            if number >= 2:
                seconds[name].append(taken)
    return seconds


def timed(work: Callable[[], object]) -> tuple[float, float]:
    """Seconds of wall and of this process's processor time."""
    began, used = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - began, time.process_time() - used
