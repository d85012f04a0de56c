"""Embeds through an OpenAI-compatible server, such as vLLM's, so that a large model need not live in this process."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from atommem_gym.endpoints import Endpoint, OddReplyError, shown
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.exchange import LARGEST_REPLY, MEBIBYTE
from atommem_gym.memory.protocols import TextKind, Vectors

QWEN_QUERY_INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
"""The query prompt that Qwen3-Embedding was released with (its ``config_sentence_transformers.json``)."""


class EndpointEmbedder:
    """Embeddings of ``POST /v1/embeddings``, normalised to length 1, in concurrent batches.

    The same text in another batch may get a vector that differs in its last bits, as on every real model; the cache of
    ``load_embedder`` gives each text one vector per process.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        query_instruction: str | None = None,
        batch_size: int = 64,
        concurrency: int = 8,
        timeout: float = 60.0,
        tries: int = 5,
        backoff: float = 0.5,
        api_key: str | None = None,
    ) -> None:
        """Ask the server for its model and embed one text to learn the dimension.

        Args:
            url: ``http(s)://host:port/v1``, or ``…/v1#model`` to name the model.
            model: The model's name; by default that of the URL, else the only one that ``/v1/models`` lists.
            query_instruction: Put before every query; by default Qwen3-Embedding's for a model of that name, else
                nothing. Give ``""`` for none.
            batch_size: Texts in one request at most.
            concurrency: Requests under way at a time.
            timeout: Seconds of one try.
            tries: How often a request is tried in all.
            backoff: Seconds before the second try, doubled before each further one.
            api_key: By default the environment variable ``OPENAI_API_KEY``.

        Raises:
            ConfigError: the URL is malformed, or the server has several models and none is named.
            EmbedderError: the server is down, or answers what no retry mends.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: a request holds at least 1 text")
        base, _, fragment = url.partition("#")
        self._endpoint = Endpoint(
            base,
            EmbedderError,
            api_key=api_key,
            timeout=timeout,
            tries=tries,
            backoff=backoff,
            concurrency=concurrency,
            largest=max(LARGEST_REPLY, batch_size * MEBIBYTE),
        )
        self._batch_size = batch_size
        self._model = model or fragment or self._only_model()
        if query_instruction is None:
            query_instruction = QWEN_QUERY_INSTRUCTION if "qwen3-embedding" in self._model.lower() else ""
        self._query_instruction = query_instruction
        self.tells_queries = bool(query_instruction)
        self.dim = 0
        self.dim = self._request(["dimension"]).shape[1]
        self.name = f"endpoint:{self._model}"
        if query_instruction:
            self.name += f":query-{hashlib.blake2b(query_instruction.encode(), digest_size=4).hexdigest()}"

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as ``[len(texts), dim]`` float32 of length 1.

        Raises:
            EmbedderError: the server failed after all tries, or its answer is unusable.
        """
        prefix = self._query_instruction if kind == "query" else ""
        # JSON in UTF-8 cannot hold lone surrogates.
        sent = [(prefix + text).encode(errors="replace").decode() for text in texts]
        batches = [sent[start : start + self._batch_size] for start in range(0, len(sent), self._batch_size)]
        parts = self._endpoint.map(self._request, batches)
        return np.concatenate(parts) if parts else np.empty((0, self.dim), np.float32)

    def close(self) -> None:
        """Close the connections to the server."""
        self._endpoint.close()

    def _only_model(self) -> str:
        names = self._endpoint.get("/models", _model_names)
        if len(names) != 1:
            raise ConfigError(
                f"the server {self._endpoint.url} has {len(names)} models ({', '.join(names) or 'none'}); "
                f"name one as '{self._endpoint.url}#MODEL'"
            )
        return names[0]

    def _request(self, texts: Sequence[str]) -> Vectors:
        body = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        return self._endpoint.post("/embeddings", body, lambda reply: self._read(reply, len(texts)))

    def _read(self, reply: Any, count: int) -> Vectors:
        try:
            return read_embeddings(reply, count, self.dim)
        except OddReplyError as odd:
            raise OddReplyError(
                f"{odd}, for model {self._model!r}; check that the server runs an embedding model"
            ) from None


def read_embeddings(reply: Any, count: int, dim: int = 0) -> Vectors:
    """The embeddings of a decoded reply to ``count`` texts, as ``[count, dim]`` float32 of length 1.

    Args:
        reply: What the server answered.
        count: How many texts were sent.
        dim: Numbers in an embedding; 0 if that is to be learnt.

    Raises:
        OddReplyError: it does not hold one embedding of finite numbers, and of the due length, for every text.
    """
    data = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(data, list) or not all(isinstance(row, dict) for row in data):
        raise OddReplyError(f"no list of equally long embeddings ({shown(reply)})")
    indices = [row.get("index") for row in data]
    if not all(type(index) is int for index in indices) or sorted(indices) != list(range(count)):
        raise OddReplyError(f"{len(data)} embeddings with indices {shown(indices)} for {count} texts")
    rows: list[Any] = [None] * count
    for row in data:
        rows[row["index"]] = row.get("embedding")
    if not all(isinstance(row, list) and set(map(type, row)) <= {int, float} for row in rows):
        raise OddReplyError(f"no list of equally long embeddings of numbers ({shown(reply)})")
    due = dim or len(rows[0])
    if not due or any(len(row) != due for row in rows):
        raise OddReplyError(
            f"embeddings of {', '.join(map(str, sorted({len(row) for row in rows})))} numbers where all should be "
            f"equally long, {dim or 'at least 1'}"
        )
    try:
        vectors = np.array(rows, np.float64)
    except OverflowError:
        raise OddReplyError("an embedding with a number too large for a float") from None
    if not np.isfinite(vectors).all():
        raise OddReplyError("NaN or infinity in an embedding")
    with np.errstate(over="ignore", under="ignore"):
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    if not np.isfinite(lengths).all() or ((lengths == 0) & (vectors != 0)).any():
        raise OddReplyError("an embedding whose length is beyond the range of floats")
    return (vectors / np.where(lengths == 0, 1, lengths)).astype(np.float32)


def _model_names(reply: Any) -> list[str]:
    data = reply.get("data") if isinstance(reply, dict) else None
    if isinstance(data, list) and all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in data):
        return [row["id"] for row in data]
    raise OddReplyError(f"no list of models ({shown(reply)}); does the URL end in /v1?")
