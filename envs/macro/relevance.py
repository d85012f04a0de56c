"""Relevance of documents to questions, along chains of documents that name each other's titles."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[np.float64]

SHARPNESS = 4
"""The exponent of shares: a title that is named only in part is probably another title."""
DECAY = 0.9
"""The factor for each further hop."""
SIMILARITY_WEIGHT = 0.2
"""The weight of the similarity to the question, which decides if no title is named."""
HOPS = 3
"""Hops beyond the titles in the question; questions need at most four documents."""


class Products:
    """All inner products of some vectors, computed by one matrix product.

    Args:
        vectors: ``[n, dim]``.
    """

    def __init__(self, vectors: npt.NDArray[np.floating]) -> None:
        self._products: Array = (vectors @ vectors.T).astype(np.float64)
        self._squares = np.diagonal(self._products)

    def cosines(self, left: slice, right: slice) -> Array:
        """Cosine similarities ``[left, right]`` of the vectors in two slices; 0 with a zero vector."""
        norms = np.sqrt(np.outer(self._squares[left], self._squares[right]))
        return _ratio(self._products[left, right], norms)

    def named(self, texts: slice, titles: slice) -> Array:
        """How much of each title each text names, in [0, 1]: the projection of the text's vector on the title's.

        With the built-in embedder, whose vectors are sums over words, a text that contains a title has the value 1,
        except for hash collisions. Other embedders give a scaled cosine.

        >>> from atommem_gym.embedders.loading import load_embedder
        >>> texts = ["The Bitter Road was directed by Ilse Sonello.", "Ilse Sonello", "The Bitter Bell", "Stivdon"]
        >>> products = Products(load_embedder("hashing").embed(texts, "document"))
        >>> products.named(slice(0, 1), slice(1, 4)).round(1).tolist()
        [[1.0, 0.5, 0.0]]
        """
        return np.clip(_ratio(self._products[texts, titles], self._squares[titles][None, :]), 0.0, 1.0)


def chain_relevance(in_question: Array, names: Array, to_question: Array) -> Array:
    """The relevance of each of ``n`` documents to the questions.

    It is the strongest chain of titles from a question to the document: the product over its links of
    ``DECAY * share ** SHARPNESS``, where a link is a document that names the title of the other one (in either
    direction), and the first link, from the question, has no decay; plus ``SIMILARITY_WEIGHT`` times the similarity.

    Args:
        in_question: ``[n]``: how much of the title a question names, in [0, 1].
        names: ``[n, n]``: how much of the column's title the row's document names, in [0, 1].
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
    """The quotients; 0 where the denominator is 0."""
    denominators = np.broadcast_to(denominators, numerators.shape)
    return np.divide(numerators, denominators, out=np.zeros(numerators.shape), where=denominators > 0)
