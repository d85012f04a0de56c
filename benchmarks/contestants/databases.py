"""Vector databases in this process as contestants of ``benchmarks/stores.py``, used as their documentation advises."""

from __future__ import annotations

import tempfile
from typing import Any

from workloads.stores import TOP_K, Move

from contestants.per_episode import PerEpisode


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
        """See ``contestants.ours.Contestant``."""
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
        """See ``contestants.ours.Contestant``."""
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
        """See ``contestants.ours.Contestant``."""
        self._folder.cleanup()
