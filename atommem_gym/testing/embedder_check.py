"""Checks a custom embedder: a text has one vector, in any batch, thread, instance and process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.memory.protocols import Embedder, TextKind, Vectors
from atommem_gym.plugins.loading import check_form, load_plugin
from atommem_gym.testing.hostile import HOSTILE_TEXTS, hostile_texts
from atommem_gym.testing.profiles import budget
from atommem_gym.testing.strategies import texts

_FIXED = ("Ada kept bees.", "ada kept bees", "東京 Tokyo 2020!", "a" * 3000, "", " ", "\n\n", *HOSTILE_TEXTS)
_THREADS = 4
_ELSEWHERE = """
import sys
import numpy as np
from atommem_gym.plugins.loading import load_plugin
from atommem_gym.testing.embedder_check import _FIXED
np.save(sys.argv[2], load_plugin("embedder", sys.argv[1]).embed(list(_FIXED), "document"))
"""


def check_embedder(embedder: str | Callable[[], Embedder], *, tolerance: float = 0.0, examples: int = 50) -> None:
    """Check an embedder.

    The rules, for two instances: the array is float32 ``[len(texts), dim]``, finite, and no text with a letter or digit
    has a zero vector (M6); any text can be embedded; a text has the same vector alone, in any batch, in several
    threads, from a second instance and, for an embedder given by name, in another process (M15); queries are embedded
    like documents unless the embedder has ``tells_queries = True``; ``max_tokens``, if present, is a positive integer
    or ``None`` (M18).

    Args:
        embedder: ``"package.module:name"``, or a callable without arguments that returns an embedder.
        tolerance: Largest absolute difference between components of two vectors of one text. Neural embedders need
            about 1e-5, because their arithmetic depends on the batch.
        examples: Number of random batches.

    Raises:
        AssertionError: a rule is broken.
        ConfigError: the embedder does not exist, or does not have the form of an embedder.

    >>> from atommem_gym.embedders.hashing_embedder import HashingEmbedder
    >>> check_embedder(HashingEmbedder, examples=3)
    """
    first, second = _made(embedder), _made(embedder)
    told = f"{first.name!r}, {first.dim}"
    assert (first.name, first.dim) == (second.name, second.dim), (
        f"M15: two instances are called {told} and {second.name!r}, {second.dim}; one name means one model"
    )
    limit = getattr(first, "max_tokens", None)
    whole = isinstance(limit, int) and not isinstance(limit, bool) and limit > 0
    assert limit is None or whole, f"M18: max_tokens is {limit!r}; it is a number of tokens, or None for all of a text"
    _check_kinds(first)
    _vectors(first, [])

    @given(
        st.lists(st.one_of(texts(), hostile_texts()), min_size=1, max_size=6), st.sampled_from(("document", "query"))
    )
    @budget(examples)
    def a_text_has_one_vector(batch: list[str], kind: TextKind) -> None:
        together = _vectors(first, batch, kind)
        alone = np.concatenate([_vectors(first, [text], kind) for text in reversed(batch)])[::-1]
        _check_equal(batch, together, alone, tolerance, "in a batch and alone")
        _check_equal(batch, together, _vectors(second, batch, kind), tolerance, "from two instances")

    a_text_has_one_vector()
    given_out = _vectors(first, _FIXED)
    fixed = given_out.copy()
    given_out[:] = 7
    _check_equal(_FIXED, fixed, _vectors(first, _FIXED), tolerance, "before and after a caller wrote into the array")
    turns = [(*_FIXED[turn:], *_FIXED[:turn]) for turn in range(2 * _THREADS)]
    with ThreadPoolExecutor(_THREADS) as pool:
        for turn, found in enumerate(pool.map(lambda batch: _vectors(first, batch), turns)):
            _check_equal(_FIXED, fixed, np.roll(found, turn, axis=0), tolerance, f"in {_THREADS} threads at a time")
    if isinstance(embedder, str):
        _check_equal(_FIXED, fixed, _elsewhere(embedder), tolerance, "in another process (is it hash() of a text?)")


def _made(embedder: str | Callable[[], Embedder]) -> Embedder:
    if isinstance(embedder, str):
        named: Embedder = load_plugin("embedder", embedder)
        return named
    made = embedder()
    check_form("embedder", getattr(embedder, "__qualname__", repr(embedder)), made)
    return made


def _vectors(embedder: Embedder, batch: Sequence[str], kind: TextKind = "document") -> Vectors:
    found = embedder.embed(list(batch), kind)
    shape = (len(batch), embedder.dim)
    assert isinstance(found, np.ndarray), f"M6: embed gives {type(found).__name__}, which must be a numpy array"
    assert (found.shape, found.dtype.name) == (shape, "float32"), (
        f"M6: embed gives {found.dtype} {list(found.shape)} for {len(batch)} texts, which must be float32 {list(shape)}"
    )
    for text, vector in zip(batch, found, strict=True):
        assert np.isfinite(vector).all(), f"M6: the vector of {text[:60]!r} holds NaN or infinity"
        assert vector.any() or not any(sign.isalnum() for sign in text), (
            f"M6: the vector of {text[:60]!r} is zero, and so like no other"
        )
    return found


def _check_kinds(embedder: Embedder) -> None:
    if getattr(embedder, "tells_queries", False):
        return
    document, query = (_vectors(embedder, _FIXED, kind) for kind in ("document", "query"))
    assert np.array_equal(document, query), (
        "M6: a text has another vector as a query than as a document; say so with the attribute tells_queries = True"
    )


def _check_equal(batch: Sequence[str], one: Vectors, other: Vectors, tolerance: float, when: str) -> None:
    apart = np.abs(one.astype(np.float64) - other).max(axis=1)
    worst = int(apart.argmax())
    assert apart[worst] <= tolerance, (
        f"M15: the vectors of {batch[worst][:60]!r} {when} are {apart[worst]:.3g} apart, more than {tolerance=}"
    )


def _elsewhere(embedder: str) -> Vectors:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vectors.npy"
        where = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        done = subprocess.run(
            [sys.executable, "-c", _ELSEWHERE, embedder, str(path)],
            env={**os.environ, "PYTHONPATH": where, "PYTHONHASHSEED": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"M15: in another process the embedder failed: {done.stderr[-2000:]}"
        vectors: Vectors = np.load(path)
        return vectors
