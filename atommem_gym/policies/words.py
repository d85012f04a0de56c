"""Relevance as the scripted agents compute it: the words that two texts share, weighted by how rare they are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Iterable

from atommem_gym.embedders.function_words import FUNCTION_WORDS

_WORD = re.compile(r"[^\W_]+")
_NUMBERING = re.compile(r"^\d+\. ", re.MULTILINE)
# Words of the form of a question ("how many", "the name of", "the same or another one") say nothing about its subject.
# The embedder keeps them, because in documents they are content.
_STOP_WORDS = FUNCTION_WORDS | {"many", "much", "name", "one", "other", "same"}


def content_words(text: str) -> list[str]:
    """The words of a text without stop words, case-folded, each once, in order of first occurrence.

    >>> content_words("Who directed the film that Ada Byron saw, and who directed Ada?")
    ['directed', 'film', 'ada', 'byron', 'saw']
    """
    words = (word.casefold() for word in _WORD.findall(text))
    return list(dict.fromkeys(word for word in words if word not in _STOP_WORDS))


def names(text: str) -> list[str]:
    """The content words of a text with a capital letter or a digit, each once, as they are written.

    >>> names("She directed the film Ada in 1932.")
    ['Ada', '1932']
    """
    # "She" is a stop word; other words at the beginning of a sentence do little harm.
    found: dict[str, str] = {}
    for word in _WORD.findall(text):
        if not word.islower() and word.casefold() not in _STOP_WORDS:
            found.setdefault(word.casefold(), word)
    return list(found.values())


def question_words(question: str) -> list[str]:
    """The content words of an observation's questions, without the numbers that stand before them."""
    return content_words(_NUMBERING.sub("", question))


class Rarity:
    """Weights words by inverse document frequency over the documents read so far."""

    def __init__(self) -> None:
        self._documents = 0
        self._with_word: Counter[str] = Counter()

    def note(self, words: Iterable[str]) -> None:
        """Count a document with these words."""
        self._documents += 1
        self._with_word.update(set(words))

    def relevance(self, words: Collection[str], wanted: Collection[str]) -> float:
        """The sum of ``log(1 + documents / documents with the word)`` over the words that both have."""
        shared = set(words) & set(wanted)
        return math.fsum(math.log1p(max(1, self._documents) / max(1, self._with_word[word])) for word in sorted(shared))
