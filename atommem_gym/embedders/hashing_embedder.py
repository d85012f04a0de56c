"""The built-in embedder: lexical vectors by feature hashing, without a model, equal to the bit on every platform."""

from __future__ import annotations

import functools
import hashlib
import itertools
import math
import re
import unicodedata
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from atommem_gym.embedders.function_words import FUNCTION_WORDS
from atommem_gym.memory.protocols import TextKind, Vectors
from atommem_gym.tokenizers import CJK

# At most 64 characters, since codes of words are cached and a policy may write words of any length.
_WORD = re.compile(rf"[^\W_{CJK}]{{1,64}}|[{CJK}]")
# Also first-person words, and what an apostrophe leaves ("it's", "don't"). The scripted agents keep these words:
# dropping them would change what they write, search and answer, and so all their tables and traces.
_STOP_WORDS = FUNCTION_WORDS | frozenset(
    ("between", "i", "itself", "me", "my", "nor", "our", "s", "should", "t", "us", "very", "we")
)

# Found by measuring the recall of gold paragraphs on HotpotQA, 2WikiMultiHopQA and MuSiQue (see the class).
_WORD_WEIGHT = 3
_NAME_WEIGHT = 6
_PAIR_WEIGHT = 2
_WEIGHT_BITS = 3
_WEIGHT_MASK = np.uint64((1 << _WEIGHT_BITS) - 1)

# The weight of n occurrences in one text, in quarters: 1 + log2(n), so that repetition does not drown names.
_GROWTH = np.array([0] + [round(4 * (1 + math.log2(n))) for n in range(1, 256)], np.int64)

_PAIR_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_MIX_FACTOR = np.uint64(0xD6E8FEB86659FD93)
_HALF = np.uint64(32)


class HashingEmbedder:
    """Bags of hashed words and word pairs, as integer vectors.

    Words are case-folded, stripped of accents and of common English endings; capitalised words and numbers weigh
    twice as much as others, stop words nothing; each pair of neighbouring words counts too; occurrences count
    ``1 + log2(n)``. Each feature is added to or subtracted from one of ``dim`` places, as its BLAKE2 hash says
    (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009). All numbers are integers far
    below 2**24, so float32 holds them and float64 dot products of them are exact, whatever the order of summation.
    No vector is zero. Queries and documents are embedded alike.

    >>> embedder = HashingEmbedder()
    >>> paris, curie, query = embedder.embed(
    ...     ["Paris is the capital of France.", "Marie Curie was born in Warsaw.", "Where was Curie born?"], "document"
    ... )
    >>> bool(query @ curie > query @ paris)
    True
    """

    def __init__(self, dim: int = 1024) -> None:
        """Make an embedder of ``dim`` dimensions; the name contains ``dim``.

        Raises:
            ValueError: ``dim`` is less than 1.
        """
        if dim < 1:
            raise ValueError(f"dim={dim}: an embedder needs at least 1 dimension; use 1024")
        self.dim = dim
        self.name = f"hashing-v1-{dim}"

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as float32 ``[len(texts), dim]``. Any ``str`` is valid; ``kind`` makes no difference."""
        words = [[_word_code(word) for word in _WORD.findall(text)] for text in texts]
        lengths = np.fromiter(map(len, words), np.int64, len(texts))
        codes = np.fromiter(itertools.chain.from_iterable(words), np.uint64, int(lengths.sum()))
        rows = np.repeat(np.arange(len(texts)), lengths)
        counted = codes & _WEIGHT_MASK != 0
        rows, features, weights = _with_pairs(rows[counted], codes[counted])
        vectors = self._accumulate(len(texts), *_weighed(rows, features, weights))
        for row in np.flatnonzero(~vectors.any(axis=1)).tolist():
            vectors[row, _digest(texts[row]) % self.dim] = 1
        return vectors

    def _accumulate(
        self, size: int, rows: npt.NDArray[np.int64], features: npt.NDArray[np.uint64], values: npt.NDArray[np.int64]
    ) -> Vectors:
        signed = np.where(features >> np.uint64(63), values, -values)
        # The top bit is the sign; the others choose the place.
        places = ((features << np.uint64(1)) >> _HALF) % np.uint64(self.dim)
        flat = np.bincount(rows * self.dim + places.astype(np.int64), signed, size * self.dim)
        return flat.reshape(size, self.dim).astype(np.float32)


def _with_pairs(
    rows: npt.NDArray[np.int64], codes: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Rows, hashes and weights of all words and of all pairs of neighbouring words of one text."""
    words = codes & ~_WEIGHT_MASK
    neighbours = rows[1:] == rows[:-1]
    pairs = _mix((words[:-1] * _PAIR_FACTOR + words[1:])[neighbours])
    return (
        np.concatenate([rows, rows[1:][neighbours]]),
        np.concatenate([_mix(words), pairs]),
        np.concatenate([(codes & _WEIGHT_MASK).astype(np.int64), np.full(len(pairs), _PAIR_WEIGHT, np.int64)]),
    )


def _weighed(
    rows: npt.NDArray[np.int64], features: npt.NDArray[np.uint64], weights: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """Each feature of a row once, with its highest weight times the growth of its count."""
    if not len(rows):
        return rows, features, weights
    order = np.lexsort((features, rows))
    rows, features, weights = rows[order], features[order], weights[order]
    first = np.flatnonzero(np.concatenate([[True], (rows[1:] != rows[:-1]) | (features[1:] != features[:-1])]))
    counts = np.diff(np.append(first, len(rows)))
    values = np.maximum.reduceat(weights, first) * _GROWTH[np.minimum(counts, len(_GROWTH) - 1)]
    return rows[first], features[first], values


def _mix(hashes: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Spread every bit over the whole number, since the place and the sign of a feature are single bits of it."""
    mixed: npt.NDArray[np.uint64] = (hashes ^ (hashes >> _HALF)) * _MIX_FACTOR
    mixed ^= mixed >> _HALF
    return mixed


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=8).digest(), "little")


@functools.lru_cache(maxsize=1 << 16)
def _word_code(word: str) -> int:
    """A 64-bit hash of the word's stem whose lowest bits are its weight; 0 for a stop word."""
    folded = word.casefold()
    if not folded.isascii():
        decomposed = unicodedata.normalize("NFKD", folded)
        folded = "".join(character for character in decomposed if not unicodedata.combining(character))
    if folded in _STOP_WORDS:
        return 0
    weight = _NAME_WEIGHT if not word[0].islower() else _WORD_WEIGHT
    return (_digest(_stem(folded)) >> _WEIGHT_BITS << _WEIGHT_BITS) | weight


def _stem(word: str) -> str:
    """``word`` without the commonest English endings, so that *directed*, *directing* and *director* are equal."""
    if len(word) > 4 and word.endswith("ies"):
        word = word[:-3] + "y"
    elif len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for ending in ("ing", "ed", "er", "or"):
        if len(word) > len(ending) + 3 and word.endswith(ending):
            word = word.removesuffix(ending)
            break
    return word.removesuffix("e") if len(word) > 4 else word
