"""Memories of agents as contestants of ``benchmarks/stores.py``; they embed texts themselves, here by looking up."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from workloads.stores import TOP_K, Move, Vectors

from contestants.per_episode import PerEpisode


class LookUp:
    """Embeds by looking up, for peers that insist on embedding texts themselves."""

    def __init__(self) -> None:
        self._vectors: dict[str, list[float]] = {}

    def learn(self, text: str, vector: Vectors) -> str:
        """From now on ``text`` has this vector."""
        self._vectors[text] = vector.tolist()
        return text

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        """The vectors of texts."""
        return [self._vectors[text] for text in texts]

    def clear(self) -> None:
        """Forget all."""
        self._vectors.clear()


class LangGraph(PerEpisode):
    """langgraph's InMemoryStore, a namespace an episode."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        from langgraph.store.memory import InMemoryStore

        self._look_up = LookUp()
        self._open: Callable[[], Any] = lambda: InMemoryStore(
            index={"dims": dim, "embed": self._look_up, "fields": ["text"]}
        )

    def begin(self, num_envs: int) -> None:
        """See ``contestants.ours.Contestant``."""
        self.store = self._open()
        super().begin(num_envs)

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        return ("episodes", str(number))

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        for entry, text, vector in zip(move.ids, move.texts, move.vectors, strict=True):
            self.store.put(episode, str(entry), {"text": self._look_up.learn(text, vector)})

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        for entry in ids:
            self.store.delete(episode, str(entry))

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        query = self._look_up.learn(f"query {episode[1]}", move.query)
        return [int(item.key) for item in self.store.search(episode, query=query, limit=TOP_K)]

    def end(self) -> None:
        """See ``contestants.ours.Contestant``."""
        super().end()
        self._look_up.clear()


class LangMem(LangGraph):
    """langmem's tools over that store, as an agent would call them; they name the entries themselves."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        from langgraph.store.memory import InMemoryStore

        self._open = lambda: InMemoryStore(index={"dims": dim, "embed": self._look_up, "fields": ["content"]})

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        from langmem import create_manage_memory_tool, create_search_memory_tool

        namespace = ("episodes", str(number))
        return {
            "number": number,
            "manage": create_manage_memory_tool(namespace, store=self.store),
            "search": create_search_memory_tool(namespace, store=self.store, response_format="content_and_artifact"),
            "names": {},
            "ids": {},
        }

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        for entry, text, vector in zip(move.ids, move.texts, move.vectors, strict=True):
            call = {"content": self._look_up.learn(text, vector), "action": "create"}
            if entry in move.updates:
                call |= {"action": "update", "id": episode["names"][entry]}
            name = str(episode["manage"].invoke(call)).rsplit(" ", 1)[-1]
            episode["names"][entry], episode["ids"][name] = name, entry

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        for entry in ids:
            episode["manage"].invoke({"action": "delete", "id": episode["names"][entry]})

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        query = self._look_up.learn(f"query {episode['number']}", move.query)
        call = {"name": "search_memory", "args": {"query": query, "limit": TOP_K}, "id": "1", "type": "tool_call"}
        return [episode["ids"][item.key] for item in episode["search"].invoke(call).artifact]


class Mem0(PerEpisode):
    """mem0 with ``infer=False`` (no language model) over a local qdrant, a user an episode.

    Its search cannot show entries whose cosine is negative, of which random vectors have many.
    """

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        from mem0 import Memory
        from mem0.utils import factory

        self._look_up = look_up = LookUp()

        class Embedder:
            config = type("Config", (), {"embedding_dims": dim})

            def embed(self, text: str, *args: Any, **keywords: Any) -> list[float]:
                return look_up([text])[0]

            def embed_batch(self, texts: list[str], *args: Any, **keywords: Any) -> list[list[float]]:
                return look_up(texts)

        factory.EmbedderFactory.create = lambda *args, **keywords: Embedder()
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        place = {"path": f"{self._folder.name}/qdrant", "embedding_model_dims": dim, "on_disk": True}
        self._memory: Any = Memory.from_config(
            {
                "vector_store": {"provider": "qdrant", "config": place},
                "history_db_path": f"{self._folder.name}/history.db",
            }
        )

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        return {"user": f"user{number}", "names": {}, "ids": {}}

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        for entry, text, vector in zip(move.ids, move.texts, move.vectors, strict=True):
            self._look_up.learn(text, vector)
            if entry in move.updates:
                self._memory.update(episode["names"][entry], text)
                continue
            name = self._memory.add(text, user_id=episode["user"], infer=False)["results"][0]["id"]
            episode["names"][entry], episode["ids"][name] = name, entry

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        for entry in ids:
            self._memory.delete(episode["names"][entry])

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        query = self._look_up.learn(f"query {episode['user']}", move.query)
        try:
            found = self._memory.search(query, filters={"user_id": episode["user"]}, top_k=TOP_K, threshold=0.0)
        except TypeError:
            # Before version 2 the user was an argument, and top_k was called limit.
            found = self._memory.search(query, user_id=episode["user"], limit=TOP_K)
        return [episode["ids"][row["id"]] for row in found["results"]]

    def drop(self, episode: Any) -> None:
        """See ``PerEpisode``."""
        self._memory.delete_all(user_id=episode["user"])
        self._look_up.clear()

    def close(self) -> None:
        """See ``contestants.ours.Contestant``."""
        self._folder.cleanup()
