"""What the property tests share: databases opened once for many examples, and episodes to play on them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from support.game import DOCUMENTS, QUESTIONS, STREAM_TOKENS, Game
from support.servers import MilvusServer, milvus_server  # noqa: F401

from atommem_gym.actions import Operation, format_action
from atommem_gym.config import EnvConfig
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.envs.backend import Backend, EpisodeWithKey
from atommem_gym.records.record import Item
from atommem_gym.step import StepResult

STORES = ("numpy", "mirror", "milvus", "server")
"""In memory; Milvus Lite answered from its mirror; Milvus Lite answering itself; a server of the Milvus protocol."""
RULES: tuple[dict[str, Any], ...] = (
    {},
    {"dialect": "tools", "sticky_query": True, "question_visible": "end"},
    {"addressing": "visible", "max_entries": 4, "max_entry_tokens": 3, "early_answer": True},
    {"preset": "released", "chunk_overlap": 3},
    {"dialect": "released", "advance": "on_write", "operations": ["create", "read", "delete"]},
)
"""Some of everything that changes what an action means."""
_EMBEDDER = HashingEmbedder()


class Databases:
    """Backends of every kind and every set of rules, each opened once."""

    def __init__(self, url: str, kind: str = "numpy") -> None:
        self._url = url
        self._kind = kind
        self._opened: dict[str, Backend] = {}

    def backend(self, kind: str = "", **keywords: Any) -> Backend:
        """A backend of a kind, by default the one that the test is run on."""
        kind = kind or self._kind
        key = repr((kind, sorted(keywords.items())))
        if key not in self._opened:
            stores: dict[str, dict[str, str]] = {
                "numpy": {"store": "numpy"},
                "mirror": {"store": "milvus"},
                "milvus": {"store": "milvus", "store_reads": "milvus"},
                "server": {"store": self._url},
            }
            keywords.setdefault("chunk_tokens", STREAM_TOKENS // 6)
            self._opened[key] = Backend(EnvConfig.from_keywords({**keywords, **stores[kind]}))
        return self._opened[key]

    def close(self) -> None:
        for backend in self._opened.values():
            backend.close()


@pytest.fixture(scope="module", params=STORES)
def databases(request: pytest.FixtureRequest, milvus_server: MilvusServer) -> Iterator[Databases]:  # noqa: F811
    """For tests that are run on every store, one after the other."""
    opened = Databases(milvus_server.url, request.param)
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def every_database(milvus_server: MilvusServer) -> Iterator[Databases]:  # noqa: F811
    """For tests that compare stores."""
    opened = Databases(milvus_server.url)
    yield opened
    opened.close()


def item(questions: int = 2) -> Item:
    return Item("game/0", 0, 0, QUESTIONS[:questions], DOCUMENTS)


class Play(Game):
    """An episode on a backend that others share; a context manager, so that its rows go when it ends."""

    def __init__(
        self,
        backend: Backend,
        of: Item | None = None,
        state: Any = None,
        vectors: Any = None,
        running: EpisodeWithKey | None = None,
    ) -> None:
        self.config = backend.config
        self.backend = backend
        self.running = running or backend.new_episode(of or item(), state=state, vectors=vectors)
        self.episode = self.running.episode
        if state is None and running is None:
            self.result = backend.run([(self.running, self.episode.open())])[0]

    def __enter__(self) -> Play:
        return self

    def __exit__(self, *_: object) -> None:
        self.backend.release([self.running])

    @property
    def over(self) -> bool:
        return self.episode.state.over

    def do(self, *operations: Operation) -> StepResult:
        return self.step(format_action(operations, self.config.dialect))

    def all(self, actions: Sequence[str]) -> list[StepResult]:
        """The results of these actions, up to the end of the episode."""
        results = []
        for action in actions:
            if self.over:
                break
            results.append(self.step(action))
        return results

    def best(self, query: str, k: int | None = None) -> list[int]:
        """The ids that a read of ``query`` must show, found by brute force with exact integers (SPEC M6)."""
        return best(self.entries, query, self.config.top_k if k is None else k)


def best(entries: dict[int, str], query: str, k: int) -> list[int]:
    if not entries:
        return []
    wanted = _integers([query])[0]
    scores = {i: _cosine(wanted, row) for i, row in zip(entries, _integers(list(entries.values())), strict=True)}
    return sorted(entries, key=lambda i: (-scores[i], i))[:k]


def _integers(texts: list[str]) -> list[dict[int, int]]:
    return [{i: int(row[i]) for i in row.nonzero()[0].tolist()} for row in _EMBEDDER.embed(texts, "document")]


def _cosine(a: dict[int, int], b: dict[int, int]) -> float:
    dot = sum(x * b.get(i, 0) for i, x in a.items())
    return dot / math.sqrt(sum(x * x for x in a.values()) * sum(y * y for y in b.values()))
