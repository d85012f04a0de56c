"""Embeds through an OpenAI-compatible server, such as vLLM, so that a large model can run in another process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from atommem_gym.embedders.options import EmbedderOptions
from atommem_gym.endpoints import Endpoint, OddReplyError, shown
from atommem_gym.errors import ConfigError, EmbedderError, is_integer
from atommem_gym.exchange import LARGEST_REPLY, MEBIBYTE
from atommem_gym.memory.protocols import Embedded, TextKind, Vectors
from atommem_gym.refusals import MOST_TOKENS, Refusal, lengths, too_long

QWEN_QUERY_INSTRUCTION = "Instruct: Given a web search query, retrieve relevant passages that answer the query\nQuery:"
"""The query prompt that Qwen3-Embedding was released with (its ``config_sentence_transformers.json``)."""

_SPECIAL_TOKENS = 4
"""Most special tokens that a server adds to a text. A token of the text itself has at least one byte."""
_NEARLY = 0.98
"""Tokens are spread unevenly over a text, so the part that should just fit is cut a little shorter."""


class EndpointEmbedder:
    """Embeddings from ``POST /v1/embeddings`` in concurrent batches, normalised to length 1.

    A text that the server refuses as too long is shortened and sent again until the server accepts it. How much of it
    is read does not depend on what was embedded before (SPEC M18). In another batch the same text may get a vector that
    differs in its last bits, as on every real model; the cache of ``load_embedder`` gives each text one vector per
    process.
    """

    def __init__(
        self,
        url: str,
        model: str | None = None,
        *,
        query_instruction: str | None = None,
        dimensions: int | None = None,
        max_tokens: int | None = None,
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
            model: The model's name; by default the one in the URL, else the only one that ``/v1/models`` lists.
            query_instruction: Text before every query; by default Qwen3-Embedding's for a model of that name, or one
                whose ``root`` in ``/v1/models`` has that name, else nothing. Give ``""`` for none.
            dimensions: Sent to the server, for models that were trained for it (Matryoshka).
            max_tokens: The tokens to which the server silently cuts a text (as Ollama does). A text that may be
                longer is sent alone and shortened until the server's ``usage`` counts fewer. Leave it out if the
                server refuses texts that are too long, as vLLM does.
            batch_size: Most texts in one request.
            concurrency: Most requests at a time.
            timeout: Seconds per try.
            tries: Tries per request in all.
            backoff: Seconds before the second try, doubled before each further one.
            api_key: By default the environment variable ``OPENAI_API_KEY``.

        Raises:
            ConfigError: the URL or an option is malformed, or no model is named and the server has not exactly one.
            EmbedderError: the server is down, or its answer is unusable after all tries.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: a request holds at least 1 text")
        options = EmbedderOptions.from_mapping(
            {"instruction": query_instruction, "dimensions": dimensions, "max_tokens": max_tokens}
        )
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
            explain=self._too_long,
        )
        self._batch_size = batch_size
        self._dimensions = dimensions
        self._cuts_at = max_tokens
        served = self._served(model or fragment)
        self._model = served.name
        self.max_tokens = served.max_tokens if max_tokens is None else max_tokens
        """Most tokens that the server reads of a text, special ones included, if the server or the user has said so."""
        self._alone_from: int | None = None
        """Bytes of the shortest text that was refused; texts of that length are sent alone, so no batch is refused."""
        if query_instruction is None:
            names = (served.name.lower(), served.root.lower())
            query_instruction = QWEN_QUERY_INSTRUCTION if any("qwen3-embedding" in name for name in names) else ""
        self._query_instruction = query_instruction
        self.tells_queries = bool(query_instruction)
        self.dim = dimensions or 0
        self.dim = self._request(["dimension"]).vectors.shape[1]
        self.name = options.named(f"endpoint:{self._model}", query_instruction or None)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as ``[len(texts), dim]`` float32 of length 1.

        Raises:
            EmbedderError: see :meth:`embed_in_part`.
        """
        return self.embed_in_part(texts, kind).vectors

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        """Embed ``texts`` as ``[len(texts), dim]`` float32 of length 1, each cut to what the server accepts.

        Raises:
            EmbedderError: the server failed after all tries, or its answer is unusable.
        """
        prefix = self._query_instruction if kind == "query" else ""
        # JSON in UTF-8 cannot hold lone surrogates.
        sent = [(prefix + text).encode(errors="replace").decode() for text in texts]
        sizes = [len(text.encode()) for text in sent]
        # Sorted by length: a request in which one text is too long is refused as a whole.
        order = sorted(range(len(sent)), key=sizes.__getitem__)
        together = [i for i in order if not self._goes_alone(sizes[i])]
        jobs = [together[start : start + self._batch_size] for start in range(0, len(together), self._batch_size)]
        jobs += [[i] for i in order[len(together) :]]
        vectors: Vectors = np.empty((len(sent), self.dim), np.float32)
        in_part: dict[int, int] = {}
        parts = self._endpoint.map(lambda job: self._taken([sent[i] for i in job], len(prefix)), jobs)
        for job, taken in zip(jobs, parts, strict=True):
            for i, (vector, read) in zip(job, taken, strict=True):
                vectors[i] = vector
                if read < len(sent[i]):
                    in_part[i] = read - len(prefix)
        return Embedded(vectors, in_part)

    def close(self) -> None:
        """Close the connections to the server."""
        self._endpoint.close()

    def _served(self, named: str) -> _Served:
        """What the server says about the model; if it lists none, a model that was named is taken to exist."""
        try:
            listed = self._endpoint.get("/models", lambda reply: _models(reply, strict=not named))
        except EmbedderError as error:
            if not named or error.refused is None:
                raise
            listed = []
        if named:
            return next((model for model in listed if model.name == named), _Served(named))
        if len(listed) != 1:
            names = ", ".join(model.name for model in listed) or "none"
            raise ConfigError(
                f"the server {self._endpoint.url} has {len(listed)} models ({names}); "
                f"name one as '{self._endpoint.url}#MODEL'"
            )
        return listed[0]

    def _goes_alone(self, size: int) -> bool:
        bounds = (self._alone_from, None if self._cuts_at is None else self._cuts_at - _SPECIAL_TOKENS + 1)
        return any(bound is not None and size >= bound for bound in bounds)

    def _taken(self, texts: Sequence[str], prefix: int) -> list[tuple[Vectors, int]]:
        """Vectors of texts, and how many characters of each the server accepts; the first ``prefix`` are never cut."""
        if len(texts) == 1:
            return [self._longest(texts[0], prefix)]
        try:
            return list(zip(self._request(texts).vectors, map(len, texts), strict=True))
        except _TooLongError:
            half = len(texts) // 2
            return self._taken(texts[:half], prefix) + self._taken(texts[half:], prefix)

    def _longest(self, text: str, prefix: int) -> tuple[Vectors, int]:
        """The vector and length in characters of nearly the longest prefix that the server accepts.

        If the server reports the text's length and its limit in tokens, their ratio gives the cut; otherwise the cut is
        bisected to within a twentieth.
        """
        low, high, refused = prefix, len(text), len(text)
        taken: Vectors | None = None
        part, exact = text, True
        while True:
            try:
                taken = self._request_uncut(part)
                low = len(part)
                if exact:
                    return taken, low
                counted = None
            except _TooLongError as error:
                refused = high = len(part)
                counted = error.fitting
                if part == text:
                    size = len(text.encode())
                    self._alone_from = min(size, self._alone_from or size)
                if self.max_tokens is None:
                    self.max_tokens = error.limit
                if high - low <= 1:
                    remedy = "; give a shorter instruction" if prefix else ""
                    raise EmbedderError(
                        f"{error}; not even the first character of {shown(text)} is accepted{remedy}"
                    ) from error
            if taken is not None and high - low <= max(16, high // 20):
                return taken, low
            cut = (low + high) // 2 if counted is None else int(prefix + (refused - prefix) * counted)
            exact = counted is not None
            part = text[: min(max(cut, low + 1), high - 1)]

    def _request_uncut(self, text: str) -> Vectors:
        """The vector of one text.

        Raises:
            _TooLongError: the server refuses the text, or has cut it.
        """
        reply = self._request([text])
        limit = self._cuts_at
        if limit is not None and len(text.encode()) > limit - _SPECIAL_TOKENS:
            if reply.tokens is None:
                raise EmbedderError(
                    f"the server {self._endpoint.url} reports no usage.prompt_tokens, so it is not known which texts "
                    f"it cuts to max_tokens={limit}; leave max_tokens out if it refuses texts that are too long, or "
                    "lower max_entry_tokens until no text is"
                )
            if reply.tokens >= limit:
                raise _TooLongError(
                    f"the server {self._endpoint.url} counts {reply.tokens} tokens in a text and reads {limit}",
                    reply.tokens if reply.tokens > limit else None,
                    limit,
                )
        vector: Vectors = reply.vectors[0]
        return vector

    def _too_long(self, refusal: Refusal) -> _TooLongError | None:
        if not too_long(refusal):
            return None
        where = f"POST {self._endpoint.url}/embeddings"
        return _TooLongError(f"{where} was refused with HTTP {refusal.status}: {refusal.message}", *lengths(refusal))

    def _request(self, texts: Sequence[str]) -> _Reply:
        body: dict[str, Any] = {"model": self._model, "input": list(texts), "encoding_format": "float"}
        if self._dimensions is not None:
            body["dimensions"] = self._dimensions
        return self._endpoint.post("/embeddings", body, lambda reply: self._read(reply, texts))

    def _read(self, reply: Any, texts: Sequence[str]) -> _Reply:
        try:
            vectors = read_embeddings(reply, len(texts), self.dim)
        except _NoDirectionError as odd:
            raise OddReplyError(f"{odd}, for model {self._model!r} and the text {shown(texts[odd.place])}") from None
        except OddReplyError as odd:
            asked = f" that takes dimensions={self._dimensions}" if self._dimensions is not None else ""
            raise OddReplyError(
                f"{odd}, for model {self._model!r}; check that the server runs an embedding model{asked}"
            ) from None
        usage = reply.get("usage")
        tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
        return _Reply(vectors, _tokens(tokens))


class _Served(NamedTuple):
    """A model as the server's ``/v1/models`` describes it."""

    name: str
    root: str = ""
    """The model behind an alias (vLLM's ``--served-model-name``)."""
    max_tokens: int | None = None
    """vLLM's ``max_model_len``."""


class _Reply(NamedTuple):
    """Embeddings, and the number of tokens in the request if the server reports it."""

    vectors: Vectors
    tokens: int | None


class _TooLongError(EmbedderError):
    """The server refused or cut a text, or one of several."""

    def __init__(self, message: str, tokens: int | None, limit: int | None) -> None:
        """Keep the length of the text and the limit of the server in tokens, where they are known."""
        super().__init__(message)
        self.limit = limit
        known = tokens is not None and limit is not None and tokens > limit > _SPECIAL_TOKENS
        self.fitting = _NEARLY * (limit - _SPECIAL_TOKENS) / tokens if known else None  # type: ignore[operator]
        """The share of the text that fits; ``None`` if the server does not report it."""


class _NoDirectionError(OddReplyError):
    """An embedding whose length is zero or out of range."""

    def __init__(self, reason: str, place: int) -> None:
        """Keep the reason and the position of the text."""
        super().__init__(reason)
        self.place = place


def read_embeddings(reply: Any, count: int, dim: int = 0) -> Vectors:
    """Read the embeddings of ``count`` texts from a decoded reply, as ``[count, dim]`` float32 of length 1.

    Args:
        reply: The decoded JSON of the server's reply.
        count: Number of texts that were sent.
        dim: Numbers in an embedding; 0 accepts any number that all embeddings share.

    Raises:
        OddReplyError: it does not hold one embedding of ``dim`` finite numbers for every text.
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
    for bad, reason in (
        (~vectors.any(axis=1), "an embedding of zeros alone"),
        (
            (lengths[:, 0] < _SHORTEST) | (lengths[:, 0] > _LONGEST),
            "an embedding whose length is beyond the range of floats",
        ),
    ):
        if bad.any():
            raise _NoDirectionError(reason, int(np.argmax(bad)))
    unit: Vectors = (vectors / lengths).astype(np.float32)
    return unit


_SHORTEST, _LONGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)
"""The range in which the length of an embedding must lie."""


def _models(reply: Any, *, strict: bool) -> list[_Served]:
    """The models that a server lists; if not ``strict``, an unreadable list counts as empty."""
    data = reply.get("data") if isinstance(reply, dict) else None
    if isinstance(data, list) and all(isinstance(row, dict) and isinstance(row.get("id"), str) for row in data):
        return [_served(row) for row in data]
    if strict:
        raise OddReplyError(f"no list of models ({shown(reply)}); does the URL end in /v1?")
    return []


def _served(row: dict[str, Any]) -> _Served:
    root, longest = row.get("root"), row.get("max_model_len")
    return _Served(
        row["id"],
        root if isinstance(root, str) else "",
        _tokens(longest),
    )


def _tokens(value: object) -> int | None:
    """A number of tokens that a server tells; ``None`` for any other value."""
    return value if is_integer(value) and 0 < value <= MOST_TOKENS else None
