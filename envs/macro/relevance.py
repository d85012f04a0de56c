"""How much a text matters to a question when it is named by one that matters: relevance along chains of titles."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

SHARPNESS = 4
"""A title held by halves is a look-alike; its share counts to this power."""
DECAY = 0.9
"""What each further hop costs."""
SIMILARITY_WEIGHT = 0.2
"""What plain similarity to the question adds; it decides where no title is named."""
HOPS = 3
"""Hops beyond the question's own titles; the records of this family need at most four documents."""


class Products:
    """All inner products among some vectors, by one matrix product, and what follows from them.

    Args:
        vectors: ``[n, dim]``
    """

    def __init__(self, vectors: npt.NDArray[np.floating]) -> None:
        self._products: Array = (vectors @ vectors.T).astype(np.float64)
        self._squares = np.diagonal(self._products)

    def cosines(self, left: slice, right: slice) -> Array:
        """Cosine similarities of the vectors of two slices; 0 with a zero vector."""
        norms = np.sqrt(np.outer(self._squares[left], self._squares[right]))
        return _ratio(self._products[left, right], norms)

    def named(self, texts: slice, titles: slice) -> Array:
        """How far each text names each title, in [0, 1]: the share of the title's vector that the text's vector holds.

        With the built-in embedder, whose vectors are sums over words, a text that contains a title holds all of it,
        apart from hash collisions. Other embedders give a scaled cosine.

        >>> from atommem_gym.embedders.loading import load_embedder
        >>> texts = ["The Bitter Road was directed by Ilse Sonello.", "Ilse Sonello", "The Bitter Bell", "Stivdon"]
        >>> products = Products(load_embedder("hashing").embed(texts, "document"))
        >>> products.named(slice(0, 1), slice(1, 4)).round(1).tolist()
        [[1.0, 0.5, 0.0]]
        """
        return np.clip(_ratio(self._products[texts, titles], self._squares[titles][None, :]), 0.0, 1.0)


def chain_relevance(in_question: Array, names: Array, to_question: Array) -> Array:
    """The relevance of each of ``n`` documents to the questions, among the others.

    It is the strongest chain of names that leads from a question to the document: the product over its links of
    ``DECAY * share ** SHARPNESS``, where a link is a title that the one names and the other bears (in either
    direction), and the first link, from the question, costs no decay; plus ``SIMILARITY_WEIGHT`` times the similarity.

    Args:
        in_question: ``[n]``: how far a question names the title.
        names: ``[n, n]``: how far the document of the row names the title of that of the column.
        to_question: ``[n]``: cosine similarity to the nearest question.

    Returns:
        ``[n]``, at most ``1 + SIMILARITY_WEIGHT``.

    >>> film, director, look_alike = 0, 1, 2
    >>> names = np.array([[1, 1, 0.5], [0, 1, 0], [0.5, 0, 1]])
    >>> chain_relevance(np.array([1, 0, 0.5]), names, np.zeros(3)).round(2).tolist()
    [1.0, 0.9, 0.06]
    """
    chain = in_question**SHARPNESS
    links = DECAY * np.maximum(names, names.T) ** SHARPNESS
    if len(chain):
        for _ in range(HOPS):
            chain = np.maximum(chain, (links * chain[:, None]).max(0))
    relevance: Array = chain + SIMILARITY_WEIGHT * to_question
    return relevance


def _ratio(numerators: Array, denominators: Array) -> Array:
    """The quotients, 0 where the denominator is."""
    denominators = np.broadcast_to(denominators, numerators.shape)
    return np.divide(numerators, denominators, out=np.zeros(numerators.shape), where=denominators > 0)
