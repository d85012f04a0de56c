"""Finds the embedder that ``embedder=`` names and keeps what it embedded, since the model is most of a step's cost."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.endpoints import lacks_scheme
from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.memory.protocols import Embedder, TextKind, Vectors
from atommem_gym.plugins.forms import FORMS
from atommem_gym.plugins.loading import check_colon, is_plugin, load_plugin, module_of
from atommem_gym.trust import check_import

CACHE_SIZE = 1 << 15
"""Vectors that the cache of one embedder keeps by default."""
CACHE_BYTES = 1 << 27
"""Bytes of texts and vectors that the cache of one embedder holds at most by default."""

_ENTRY_OVERHEAD = 400
"""Bytes of the objects around one cached vector, about."""


class CachedEmbedder:
    """Asks ``embedder`` only for texts that it does not remember: each text once, all in one call.

    Remembers the most recently used vectors, so a text keeps one vector, to the bit, for as long as it is remembered,
    whatever batch it comes in. Several threads may use it at a time.

    >>> embedder = CachedEmbedder(HashingEmbedder())
    >>> embedder.embed(["a film", "a book", "a film"], "document").shape
    (3, 1024)
    >>> embedder.hits, embedder.misses
    (1, 2)
    """

    def __init__(self, embedder: Embedder, size: int = CACHE_SIZE, max_bytes: int = CACHE_BYTES) -> None:
        """Remember at most ``size`` vectors, and at most ``max_bytes`` of texts and vectors together."""
        if size < 0 or max_bytes < 0:
            raise ConfigError(f"cache_size={size}, max_bytes={max_bytes}: a cache cannot be smaller than 0")
        self.embedder = embedder
        self.name = embedder.name
        self.dim = embedder.dim
        self.hits = 0
        """Texts that were remembered, or were asked for twice in one call."""
        self.misses = 0
        """Texts that the embedder was asked for."""
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self.tells_queries: bool = getattr(embedder, "tells_queries", False)
        """Whether a text has one vector as a document and another one as a query."""
        self._vectors: OrderedDict[tuple[TextKind, str], Vectors] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many vectors are remembered."""
        return len(self._vectors)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as ``[len(texts), dim]``; the array is the caller's own.

        Raises:
            EmbedderError: the model or endpoint failed after its retries.
        """
        key_kind: TextKind = kind if self.tells_queries else "document"
        found: dict[str, Vectors] = {}
        with self._lock:
            for text in dict.fromkeys(texts):
                vector = self._vectors.get((key_kind, text))
                if vector is not None:
                    self._vectors.move_to_end((key_kind, text))
                    found[text] = vector
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            # Not under the lock: a slow model must not hold up threads whose texts are all remembered.
            computed = self.embedder.embed(missing, kind)
            with self._lock:
                for text, row in zip(missing, computed, strict=True):
                    found[text] = self._remember((key_kind, text), row)
        with self._lock:
            self.misses += len(missing)
            self.hits += len(texts) - len(missing)
        vectors: Vectors = np.empty((len(texts), self.dim), np.float32)
        for position, text in enumerate(texts):
            vectors[position] = found[text]
        return vectors

    def enlarge(self, size: int) -> None:
        """Remember at least ``size`` vectors from now on."""
        with self._lock:
            self._size = max(self._size, size)

    def _remember(self, key: tuple[TextKind, str], row: Vectors) -> Vectors:
        known = self._vectors.get(key)
        if known is not None:
            # Another thread was quicker; its vector may differ in the last bits, and a text has only one.
            return known
        vector: Vectors = row.copy()
        self._vectors[key] = vector
        self._bytes += _bytes_of(key, vector)
        while self._vectors and (len(self._vectors) > self._size or self._bytes > self._max_bytes):
            self._bytes -= _bytes_of(*self._vectors.popitem(last=False))
        return vector


def _bytes_of(key: tuple[TextKind, str], vector: Vectors) -> int:
    return key[1].__sizeof__() + vector.nbytes + _ENTRY_OVERHEAD


_loaded: dict[str, CachedEmbedder] = {}
_loading = threading.RLock()  # an embedder of the user's own may load the one that it stands on


def load_embedder(name: str, *, cache_size: int = CACHE_SIZE) -> CachedEmbedder:
    """The embedder called ``name`` with its cache, one per process.

    Args:
        name: ``"hashing"``, ``"minilm"``, ``"http(s)://host:port/v1"`` (an OpenAI-compatible server; add ``#MODEL`` if
            it has several models), ``"package.module:name"`` (an embedder of your own, called without arguments), else
            a sentence-transformers name or folder.
        cache_size: Vectors to remember; of several calls for one embedder the largest counts.

    Raises:
        ConfigError: a package is missing, the name is malformed, or an embedder of your own has another form
            (:mod:`atommem_gym.plugins`) or may not be imported (:mod:`atommem_gym.trust`).
        EmbedderError: the model cannot be loaded, or the server cannot be reached.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(
            f"embedder={name!r}: an embedder is named by a non-empty string; use 'hashing', 'minilm', "
            "a sentence-transformers name or folder, 'http://host:port/v1', or 'package.module:name'"
        )
    if is_plugin("embedder", name):
        check_import(module_of(name), f"embedder={name!r}")
    with _loading:
        if name not in _loaded:
            _loaded[name] = CachedEmbedder(_load(name), cache_size)
            if is_plugin("embedder", name):
                # What a database records must tell how to find it again, and which version it was.
                _loaded[name].name = f"{name}#{_loaded[name].name}"
        _loaded[name].enlarge(cache_size)
        return _loaded[name]


def _load(name: str) -> Embedder:
    if name == "hashing":
        return HashingEmbedder()
    if name == "minilm":
        from atommem_gym.embedders.sentence_embedder import load_minilm

        return load_minilm()
    if name.startswith(("http://", "https://")):
        from atommem_gym.embedders.openai_embedder import EndpointEmbedder

        return EndpointEmbedder(name)
    if is_plugin("embedder", name):
        return _own_embedder(name)
    if lacks_scheme(name) and not os.path.lexists(name):
        raise ConfigError(f"embedder={name!r} is a URL without a scheme; write http://{name}")
    check_colon("embedder", name)
    from atommem_gym.embedders.sentence_embedder import SentenceEmbedder

    return SentenceEmbedder(name)


def _own_embedder(name: str) -> Embedder:
    """An embedder of the user's own, which has embedded one text as an embedder does."""
    embedder: Embedder = load_plugin("embedder", name)
    try:
        found: object = embedder.embed(["a first text"], "document")
    except AtomMemError:
        raise
    except Exception as error:  # whatever the user's code raises
        raise ConfigError(
            f"embedder={name!r}: its first text raised {type(error).__name__}: {error}{FORMS['embedder'].remedy}"
        ) from error
    shape = (1, embedder.dim)
    if not isinstance(found, np.ndarray) or found.dtype != np.float32 or found.shape != shape:
        what = f"{found.dtype} {list(found.shape)}" if isinstance(found, np.ndarray) else type(found).__name__
        raise ConfigError(
            f"embedder={name!r}: its first text became {what}, and must become a float32 array {list(shape)}"
            f"{FORMS['embedder'].remedy}"
        )
    return embedder
