"""The ablation of retrieval: vectors that say nothing of what a text means, so that a read shows entries at random."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from atommem_gym.memory.protocols import TextKind, Vectors


class RandomEmbedder:
    """A vector of unit length from a hash of kind and text, equal to the bit in every process and on every platform.

    A text has one vector as a document and another as a query, so that a query finds an entry of the very same text no
    sooner than any other. What an agent scores above its row with this embedder is what retrieval is worth to it.

    >>> embedder = RandomEmbedder()
    >>> entry, query = embedder.embed(["a film"], "document")[0], embedder.embed(["a film"], "query")[0]
    >>> round(float(entry @ entry), 4), bool(abs(entry @ query) < 0.5)
    (1.0, True)
    """

    tells_queries = True
    """Whether a text has one vector as a document and another one as a query."""

    def __init__(self, dim: int = 256) -> None:
        """Make an embedder of ``dim`` dimensions; another ``dim`` is another embedder, with a name of its own."""
        if dim < 1:
            raise ValueError(f"dim={dim}: an embedder needs at least 1 dimension; use 256")
        self.dim = dim
        self.name = f"random-v1-{dim}"

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as ``[len(texts), dim]``; every ``str`` has a vector."""
        drawn = b"".join(self._bytes(text, kind) for text in texts)
        # Odd numbers from -255 to 255: none is zero, their squares add up exactly, and no distribution of a library,
        # which may change with its version, has a part in it.
        numbers = 2 * np.frombuffer(drawn, np.uint8).reshape(len(texts), self.dim).astype(np.int64) - 255
        lengths = np.sqrt((numbers * numbers).sum(axis=1, keepdims=True))
        vectors: Vectors = (numbers / lengths).astype(np.float32)
        return vectors

    def _bytes(self, text: str, kind: TextKind) -> bytes:
        return hashlib.shake_256(f"{kind}\0{text}".encode(errors="surrogatepass")).digest(self.dim)
