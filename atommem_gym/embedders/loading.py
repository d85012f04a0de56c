"""Loads the embedder that ``embedder=`` names and caches its vectors, since the model is most of a step's cost."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np

from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.embedders.options import EmbedderOptions
from atommem_gym.embedders.random_embedder import RandomEmbedder
from atommem_gym.endpoints import lacks_scheme, shown
from atommem_gym.errors import AtomMemError, ConfigError, EmbedderError, nearest
from atommem_gym.memory.protocols import Embedded, Embedder, EmbedderInPart, TextKind, Vectors
from atommem_gym.plugins.forms import FORMS
from atommem_gym.plugins.loading import check_colon, is_plugin, load_plugin, module_of
from atommem_gym.trust import check_import

CACHE_SIZE = 1 << 15
"""Most vectors in the cache of one embedder, by default."""
CACHE_BYTES = 1 << 27
"""Most bytes of texts and vectors in the cache of one embedder, by default."""

_ENTRY_OVERHEAD = 400
"""Approximate bytes of the Python objects around one cached vector."""


class CachedEmbedder:
    """A cache over ``embedder``: texts that it does not hold are embedded once each, all in one call.

    It keeps the most recently used vectors, so a text has the same vector, to the bit, for as long as it is cached,
    whatever batch it comes in. With a vector it keeps how much of the text was read. It is safe to use from threads.

    >>> embedder = CachedEmbedder(HashingEmbedder())
    >>> embedder.embed(["a film", "a book", "a film"], "document").shape
    (3, 1024)
    >>> embedder.hits, embedder.misses
    (1, 2)
    """

    def __init__(self, embedder: Embedder, size: int = CACHE_SIZE, max_bytes: int = CACHE_BYTES) -> None:
        """Cache at most ``size`` vectors, and at most ``max_bytes`` of texts and vectors together.

        Raises:
            ConfigError: a size is negative, or the embedder reads only a part of long texts (``max_tokens``) and cannot
                report which (``embed_in_part``).
        """
        if size < 0 or max_bytes < 0:
            raise ConfigError(f"cache_size={size}, max_bytes={max_bytes}: a cache cannot be smaller than 0")
        self._in_part = embedder if isinstance(embedder, EmbedderInPart) else None
        if self._in_part is None and getattr(embedder, "max_tokens", None) is not None:
            raise ConfigError(
                f"the embedder {embedder.name!r} reads max_tokens={embedder.max_tokens} of a text, but has no method "  # type: ignore[attr-defined]
                "embed_in_part, which says of which texts it did not read all (SPEC M18)"
            )
        self.embedder = embedder
        self.name = embedder.name
        self.dim = embedder.dim
        self.hits = 0
        """Texts that were cached, or occurred before in the same call."""
        self.misses = 0
        """Texts that the embedder embedded."""
        self._size = size
        self._max_bytes = max_bytes
        self._bytes = 0
        self.tells_queries: bool = getattr(embedder, "tells_queries", False)
        """Whether a text has different vectors as a document and as a query."""
        self._vectors: OrderedDict[tuple[TextKind, str], _Remembered] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of cached vectors."""
        return len(self._vectors)

    @property
    def max_tokens(self) -> int | None:
        """Most tokens of a text that the embedder reads, in its own tokens; ``None``: all, or not known."""
        return None if self._in_part is None else self._in_part.max_tokens

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as float32 ``[len(texts), dim]``; the caller may change the array.

        Raises:
            EmbedderError: see :meth:`embed_in_part`.
        """
        return self.embed_in_part(texts, kind).vectors

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        """Embed ``texts`` as float32 ``[len(texts), dim]``, and report which were not read whole.

        Raises:
            EmbedderError: the model or endpoint failed after its retries, or gave a vector that is zero or not finite.
        """
        key_kind: TextKind = kind if self.tells_queries else "document"
        found: dict[str, _Remembered] = {}
        with self._lock:
            for text in dict.fromkeys(texts):
                known = self._vectors.get((key_kind, text))
                if known is not None:
                    self._vectors.move_to_end((key_kind, text))
                    found[text] = known
        missing = [text for text in dict.fromkeys(texts) if text not in found]
        if missing:
            # Not under the lock: a slow model must not hold up threads whose texts are all cached.
            computed, in_part = self._computed(missing, kind)
            with self._lock:
                for place, (text, row) in enumerate(zip(missing, computed, strict=True)):
                    found[text] = self._remember((key_kind, text), row, in_part.get(place))
        with self._lock:
            self.misses += len(missing)
            self.hits += len(texts) - len(missing)
        vectors: Vectors = np.empty((len(texts), self.dim), np.float32)
        parts = {}
        for position, text in enumerate(texts):
            vectors[position], read = found[text]
            if read is not None:
                parts[position] = read
        return Embedded(vectors, parts)

    def _computed(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        embedded = embed_in_part(self.embedder, texts, kind)
        with np.errstate(over="ignore"):
            usable = np.isfinite(embedded.vectors).all(axis=1) & embedded.vectors.any(axis=1)
        if not usable.all():
            text = texts[int(np.argmin(usable))]
            raise EmbedderError(
                f"the embedder {self.name!r} gave a vector that is zero or not finite, which is similar to nothing, "
                f"for the text {shown(text)}; try another device or data type, or another model"
            )
        return embedded

    def renew_lock(self) -> None:
        """Replace the lock in a forked child, where a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def enlarge(self, size: int) -> None:
        """Raise the size of the cache to ``size`` vectors; it is never lowered."""
        with self._lock:
            self._size = max(self._size, size)

    def _remember(self, key: tuple[TextKind, str], row: Vectors, read: int | None) -> _Remembered:
        known = self._vectors.get(key)
        if known is not None:
            # Another thread was quicker; its vector may differ in the last bits, and a text keeps its first one.
            return known
        new = _Remembered(row.copy(), read)
        self._vectors[key] = new
        self._bytes += _bytes_of(key, new)
        while self._vectors and (len(self._vectors) > self._size or self._bytes > self._max_bytes):
            self._bytes -= _bytes_of(*self._vectors.popitem(last=False))
        return new


def embed_in_part(embedder: Embedder, texts: Sequence[str], kind: TextKind) -> Embedded:
    """Embed texts and report which were not read whole; an embedder without ``embed_in_part`` reads all (SPEC M18)."""
    if isinstance(embedder, EmbedderInPart):
        return embedder.embed_in_part(texts, kind)
    return Embedded(embedder.embed(texts, kind), {})


class _Remembered(NamedTuple):
    """The vector of a text."""

    vector: Vectors
    read: int | None
    """How many characters of the text were read; ``None``: all."""


def _bytes_of(key: tuple[TextKind, str], known: _Remembered) -> int:
    return key[1].__sizeof__() + known.vector.nbytes + _ENTRY_OVERHEAD


_loaded: dict[tuple[str, EmbedderOptions], CachedEmbedder] = {}
_loading = threading.RLock()  # reentrant: a custom embedder may load the embedder that it wraps


def load_embedder(
    name: str, options: Mapping[str, Any] | None = None, *, cache_size: int = CACHE_SIZE
) -> CachedEmbedder:
    """Load the embedder called ``name``, with a cache; one per process and name and options.

    Args:
        name: ``"hashing"``, ``"random"``, ``"minilm"``, ``"http(s)://host:port/v1"`` (an OpenAI-compatible server; add
            ``#MODEL`` if it has several models), ``"package.module:name"`` (a custom embedder, called without
            arguments), else a sentence-transformers name or folder.
        options: The fields of :class:`~atommem_gym.embedders.options.EmbedderOptions` by name.
        cache_size: Most vectors in the cache; over several calls for one embedder the largest counts.

    Raises:
        ConfigError: a package is missing, the name is malformed, this embedder does not have an option, or a
            custom embedder has another form (:mod:`atommem_gym.plugins`) or may not be imported
            (:mod:`atommem_gym.trust`).
        EmbedderError: the model cannot be loaded, or the server cannot be reached.
    """
    if not isinstance(name, str) or not name.strip():
        raise ConfigError(
            f"embedder={name!r}: an embedder is named by a non-empty string; use 'hashing', 'random', "
            "'minilm', a sentence-transformers name or folder, 'http://host:port/v1', or 'package.module:name'"
        )
    checked = EmbedderOptions.from_mapping(options)
    if is_plugin("embedder", name):
        check_import(module_of(name), f"embedder={name!r}")
    with _loading:
        if (name, checked) not in _loaded:
            made = _loaded[name, checked] = CachedEmbedder(_load(name, checked), cache_size)
            if is_plugin("embedder", name):
                # A database records this name: it must tell how to load the embedder again, and its version.
                made.name = f"{name}#{made.name}"
        _loaded[name, checked].enlarge(cache_size)
        return _loaded[name, checked]


def _load(name: str, options: EmbedderOptions) -> Embedder:
    if name in _BUILT_IN:
        return _built_in(name, options)
    if name == "minilm":
        from atommem_gym.embedders.sentence_embedder import load_minilm

        return load_minilm(options)
    if name.startswith(("http://", "https://")):
        from atommem_gym.embedders.openai_embedder import EndpointEmbedder

        return EndpointEmbedder(
            name,
            query_instruction=options.instruction,
            dimensions=options.dimensions,
            max_tokens=options.max_tokens,
        )
    if is_plugin("embedder", name):
        return _own_embedder(name, options)
    check_model_name(name)
    from atommem_gym.embedders.sentence_embedder import SentenceEmbedder

    return SentenceEmbedder(name, options=options)


def check_embedder(name: str) -> None:
    """Refuse a name that :func:`load_embedder` would not find; nothing is loaded, and no server is called but the hub.

    Raises:
        ConfigError: the name is malformed or misspelt.
        EmbedderError: neither a folder nor the hub has it.
    """
    check_model_name(name)
    if _names_model(name):
        from atommem_gym.embedders.sentence_embedder import check_there

        check_there(name)


def check_model_name(name: str) -> None:
    """Refuse a name that would be taken for that of a model, and resembles a URL or another kind of embedder.

    Raises:
        ConfigError: it is misspelt.
    """
    if not _names_model(name):
        return
    if lacks_scheme(name) and not os.path.lexists(name):
        raise ConfigError(f"embedder={name!r} is a URL without a scheme; write http://{name}")
    check_colon("embedder", name)
    # A strict cutoff, since the name of a model on the hub may be similar to one of these by chance.
    meant = nearest(name.lower(), [*_BUILT_IN, "minilm"], cutoff=0.8)
    if meant and not os.path.lexists(name):
        raise ConfigError(f"unknown embedder {name!r}; did you mean {meant!r}?")


def _names_model(name: str) -> bool:
    """Whether it is none of the other kinds of embedders: a folder, or a name on the hub."""
    other = name in (*_BUILT_IN, "minilm") or name.startswith(("http://", "https://"))
    return not other and not is_plugin("embedder", name)


def _own_embedder(name: str, options: EmbedderOptions) -> Embedder:
    """Load a custom embedder, checked by embedding one text."""
    if options.given():
        raise ConfigError(
            f"embedder={name!r} takes no embedder_options (given: {options.given()}): it is made without arguments; "
            "leave them out"
        )
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


_BUILT_IN: Final[dict[str, tuple[Callable[..., Embedder], str]]] = {
    "hashing": (HashingEmbedder, "embeds queries and documents alike"),
    "random": (RandomEmbedder, "embeds nothing of what they mean"),
}
"""The embedders without a model, and why each of them has no instruction, for messages."""


def _built_in(name: str, options: EmbedderOptions) -> Embedder:
    make, does = _BUILT_IN[name]
    for option in ("instruction", "max_tokens"):
        if option in options.given():
            raise ConfigError(
                f"the embedder option {option}={options.given()[option]!r} is none of embedder={name!r}, which reads "
                f"the whole of every text and {does}; leave it out"
            )
    return make() if options.dimensions is None else make(options.dimensions)


def _renew_locks() -> None:
    """Replace all locks in a forked child: another thread may have held one at the moment of the fork."""
    global _loading
    _loading = threading.RLock()
    for cache in _loaded.values():
        cache.renew_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_locks)
