"""The ablation of retrieval: vectors that do not depend on meaning, so that a read shows random entries."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from atommem_gym.memory.protocols import TextKind, Vectors


class RandomEmbedder:
    """Vectors of length 1 from a hash of kind and text, equal to the bit in every process and on every platform.

    A text has one vector as a document and another as a query, so a query finds an entry with the same text no sooner
    than any other. An agent's score with a real embedder minus its score with this one is what retrieval contributes.

    >>> embedder = RandomEmbedder()
    >>> entry, query = embedder.embed(["a film"], "document")[0], embedder.embed(["a film"], "query")[0]
    >>> round(float(entry @ entry), 4), bool(abs(entry @ query) < 0.5)
    (1.0, True)
    """

    tells_queries = True
    """Whether a text has different vectors as a document and as a query."""

    def __init__(self, dim: int = 256) -> None:
        """Make an embedder of ``dim`` dimensions; the name contains ``dim``.

        Raises:
            ValueError: ``dim`` is less than 1.
        """
        if dim < 1:
            raise ValueError(f"dim={dim}: an embedder needs at least 1 dimension; use 256")
        self.dim = dim
        self.name = f"random-v1-{dim}"

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as float32 ``[len(texts), dim]`` of length 1. Any ``str`` can be embedded."""
        drawn = b"".join(self._bytes(text, kind) for text in texts)
        # Odd numbers from -255 to 255: none is zero, their squares add up exactly, and they need no distribution of
        # a library, which may change with its version.
        numbers = 2 * np.frombuffer(drawn, np.uint8).reshape(len(texts), self.dim).astype(np.int64) - 255
        lengths = np.sqrt((numbers * numbers).sum(axis=1, keepdims=True))
        vectors: Vectors = (numbers / lengths).astype(np.float32)
        return vectors

    def _bytes(self, text: str, kind: TextKind) -> bytes:
        return hashlib.shake_256(f"{kind}\0{text}".encode(errors="surrogatepass")).digest(self.dim)
