"""Other people's stores as contestants of ``benchmarks/stores.py``, each used as its documentation advises.

Where a peer can keep episodes apart in several ways, the fastest that is exact was taken: an index, collection, table
or namespace for each episode. Peers that embed texts themselves get a function that looks the vectors up.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from stores_workload import TOP_K, Move, Vectors

# Peers that report their use would wait for a network.
os.environ.update(
    ANONYMIZED_TELEMETRY="False",
    MEM0_TELEMETRY="False",
    MEM0_DIR=tempfile.gettempdir(),
    OPENAI_API_KEY="unused",
    RUST_LOG="error",
    LANCE_LOG="error",
)


class PerEpisode:
    """A contestant with one object for each episode; says what is done with one."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.episodes: list[Any] = []

    def begin(self, num_envs: int) -> None:
        """See ``stores_ours.Contestant``."""
        self.episodes = [self.make(i) for i in range(num_envs)]

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``stores_ours.Contestant``."""
        found = []
        for move in moves:
            episode = self.episodes[move.episode]
            if move.deletes:
                self.delete(episode, move.deletes)
            self.put(episode, move)
            found.append(self.search(episode, move))
        return found

    def end(self) -> None:
        """See ``stores_ours.Contestant``."""
        for episode in self.episodes:
            self.drop(episode)
        self.episodes = []

    def close(self) -> None:
        """See ``stores_ours.Contestant``."""

    def make(self, number: int) -> Any:
        """Begin an episode."""
        raise NotImplementedError

    def put(self, episode: Any, move: Move) -> None:
        """Write the entries of a move, some of which exist."""
        raise NotImplementedError

    def delete(self, episode: Any, ids: list[int]) -> None:
        """Delete entries."""
        raise NotImplementedError

    def search(self, episode: Any, move: Move) -> list[int]:
        """Ids of what the move's query finds."""
        raise NotImplementedError

    def drop(self, episode: Any) -> None:
        """End an episode."""


class Faiss(PerEpisode):
    """A flat index an episode; vectors only, no texts."""

    def __init__(self, dim: int) -> None:
        super().__init__(dim)
        import faiss

        # Threads for an index of 40 rows only get into each other's way.
        faiss.omp_set_num_threads(1)

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        import faiss

        return faiss.IndexIDMap2(faiss.IndexFlatIP(self.dim))

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        if move.updates:
            episode.remove_ids(np.array(move.updates))
        episode.add_with_ids(move.vectors, np.array(move.ids))

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.remove_ids(np.array(ids))

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found: list[int] = episode.search(move.query[None], min(TOP_K, episode.ntotal))[1][0].tolist()
        return found


class Hnswlib(PerEpisode):
    """A graph index an episode; vectors only, approximate."""

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        import hnswlib

        index = hnswlib.Index(space="cosine", dim=self.dim)
        index.init_index(max_elements=64)
        index.set_ef(64)
        return {"index": index, "live": set()}

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        index = episode["index"]
        while index.get_current_count() + len(move.ids) > index.get_max_elements():
            index.resize_index(2 * index.get_max_elements())
        index.add_items(move.vectors, move.ids, num_threads=1)
        episode["live"].update(move.ids)

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        for entry in ids:
            episode["index"].mark_deleted(entry)
        episode["live"].difference_update(ids)

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        k = min(TOP_K, len(episode["live"]))
        found: list[int] = episode["index"].knn_query(move.query, k, num_threads=1)[0][0].tolist()
        return found


class Usearch(PerEpisode):
    """A graph index an episode, searched exhaustively; vectors only."""

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        from usearch.index import Index

        return Index(ndim=self.dim, metric="cos", dtype="f32")

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        if move.updates:
            episode.remove(np.array(move.updates))
        episode.add(np.array(move.ids), move.vectors, threads=1)

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.remove(np.array(ids))

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found: list[int] = episode.search(move.query, TOP_K, exact=True, threads=1).keys.tolist()
        return found


class Qdrant(PerEpisode):
    """qdrant-client's local mode, a collection an episode."""

    def __init__(self, dim: int, kept: bool) -> None:
        super().__init__(dim)
        from qdrant_client import QdrantClient

        self._folder = tempfile.TemporaryDirectory()
        self._client = QdrantClient(path=self._folder.name) if kept else QdrantClient(":memory:")

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        from qdrant_client import models

        self._client.create_collection(
            f"e{number}", vectors_config=models.VectorParams(size=self.dim, distance=models.Distance.COSINE)
        )
        return f"e{number}"

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        from qdrant_client import models

        entries = zip(move.ids, move.vectors.tolist(), move.texts, strict=True)
        points = [models.PointStruct(id=i, vector=vector, payload={"text": text}) for i, vector, text in entries]
        self._client.upsert(episode, points)

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        from qdrant_client import models

        self._client.delete(episode, models.PointIdsList(points=list(ids)))

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        return [int(point.id) for point in self._client.query_points(episode, move.query, limit=TOP_K).points]

    def drop(self, episode: Any) -> None:
        """See ``PerEpisode``."""
        self._client.delete_collection(episode)

    def close(self) -> None:
        """See ``stores_ours.Contestant``."""
        self._client.close()
        self._folder.cleanup()


class Chroma(PerEpisode):
    """Chroma in process, a collection an episode."""

    def __init__(self, dim: int, kept: bool) -> None:
        super().__init__(dim)
        import chromadb

        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        settings = chromadb.Settings(anonymized_telemetry=False)
        self._client: Any = (
            chromadb.PersistentClient(self._folder.name, settings) if kept else chromadb.EphemeralClient(settings)
        )

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        return self._client.create_collection(
            f"episode{number}", embedding_function=None, metadata={"hnsw:space": "cosine"}
        )

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        episode.upsert(ids=[str(i) for i in move.ids], embeddings=move.vectors, documents=move.texts)

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.delete(ids=[str(i) for i in ids])

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found = episode.query(query_embeddings=move.query[None], n_results=TOP_K, include=["distances"])
        return [int(i) for i in found["ids"][0]]

    def drop(self, episode: Any) -> None:
        """See ``PerEpisode``."""
        self._client.delete_collection(episode.name)

    def close(self) -> None:
        """See ``stores_ours.Contestant``."""
        self._folder.cleanup()


class LanceDB(PerEpisode):
    """LanceDB, a table an episode, searched exhaustively."""

    def __init__(self, dim: int, kept: bool) -> None:
        super().__init__(dim)
        import lancedb

        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        self._db = lancedb.connect(self._folder.name if kept else "memory://")

    def make(self, number: int) -> Any:
        """See ``PerEpisode``."""
        import pyarrow as pa

        vector = pa.field("vector", pa.list_(pa.float32(), self.dim))
        schema = pa.schema([pa.field("id", pa.int64()), pa.field("text", pa.string()), vector])
        return self._db.create_table(f"episode{number}", schema=schema)

    def put(self, episode: Any, move: Move) -> None:
        """See ``PerEpisode``."""
        if move.updates:
            self.delete(episode, move.updates)
        entries = zip(move.ids, move.texts, move.vectors, strict=True)
        episode.add([{"id": i, "text": text, "vector": vector} for i, text, vector in entries])

    def delete(self, episode: Any, ids: list[int]) -> None:
        """See ``PerEpisode``."""
        episode.delete(f"id IN ({', '.join(map(str, ids))})")

    def search(self, episode: Any, move: Move) -> list[int]:
        """See ``PerEpisode``."""
        found = episode.search(move.query).distance_type("cosine").select(["id", "_distance"]).limit(TOP_K).to_list()
        return [int(row["id"]) for row in found]

    def drop(self, episode: Any) -> None:
        """See ``PerEpisode``."""
        self._db.drop_table(episode.name)

    def close(self) -> None:
        """See ``stores_ours.Contestant``."""
        self._folder.cleanup()


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
        """See ``stores_ours.Contestant``."""
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
        """See ``stores_ours.Contestant``."""
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
        """See ``stores_ours.Contestant``."""
        self._folder.cleanup()


class SharedIndex:
    """The scheme of AtomMem's released code, written anew: one flat index for all episodes of a batch.

    A search asks for the ``fetch_k`` nearest entries of all episodes and then leaves out those of others, so an episode
    loses entries when the batch has more than ``fetch_k``. A delete looks for the entry's text among those of all.
    """

    def __init__(self, dim: int, fetch_k: int) -> None:
        self._dim = dim
        self._fetch_k = fetch_k

    def begin(self, num_envs: int) -> None:
        """See ``stores_ours.Contestant``."""
        import faiss

        faiss.omp_set_num_threads(1)
        self._index = faiss.IndexFlatL2(self._dim)
        self._entries: dict[int, tuple[str, int, int]] = {}
        """Text, episode and id, in the order of the index."""
        self._order: list[int] = []
        self._next = 0
        self._texts: list[dict[int, str]] = [{} for _ in range(num_envs)]

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``stores_ours.Contestant``."""
        found = []
        for move in moves:
            texts = self._texts[move.episode]
            for entry in [*move.deletes, *move.updates]:
                self._delete(texts.pop(entry))
            for entry, text in zip(move.ids, move.texts, strict=True):
                texts[entry] = text
                self._entries[self._next] = (text, move.episode, entry)
                self._order.append(self._next)
                self._next += 1
            self._index.add(move.vectors)
            nearest = self._index.search(move.query[None], min(self._fetch_k, self._index.ntotal))[1][0]
            own = []
            for place in nearest.tolist():
                _, episode, entry = self._entries[self._order[place]]
                if episode == move.episode:
                    own.append(entry)
            found.append(own[:TOP_K])
        return found

    def end(self) -> None:
        """See ``stores_ours.Contestant``."""

    def close(self) -> None:
        """See ``stores_ours.Contestant``."""

    def _delete(self, wanted: str) -> None:
        number = next(number for number, (text, _, _) in self._entries.items() if text == wanted)
        place = self._order.index(number)
        self._index.remove_ids(np.array([place]))
        del self._entries[number]
        del self._order[place]
