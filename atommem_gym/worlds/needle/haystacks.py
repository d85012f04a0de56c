"""Haystacks: endless sequences of documents, made block by block, so that a stream is never in memory as a whole."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Protocol

from atommem_gym.errors import ConfigError
from atommem_gym.records.layout import stable_rng
from atommem_gym.records.record import Document
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic import SyntheticItems

BLOCK: Final = 50
"""Documents per block."""
_SENTENCE_END: Final = re.compile(r"(?<=[.!?])\s+")
_WORDS_A_DOCUMENT: Final = 90
_NOISE: Final = (
    *("Rain fell on the far fields.", "A door was left open.", "The kettle sang for a while.", "Nobody came by."),
    *("The path was wet again.", "Some leaves lay on the step.", "It was quiet in the yard.", "A bell rang twice."),
    *("The bread was still warm.", "Clouds went over the hill.", "The cat slept on the sill.", "A cart rolled past."),
    *("The lamp gave little light.", "Someone laughed next door.", "The clock was slow.", "Dust lay on the shelf."),
    *("The wind turned in the evening.", "Two boats lay in the bay.", "The stairs were steep.", "Snow was late."),
    *("The soup needed salt.", "A window rattled.", "The road bent to the left.", "The dog barked at nothing."),
    *("The apples were ripe.", "A train went by at noon.", "The ink was dry.", "The fence had been mended."),
    *("The well was deep.", "A letter lay unread.", "The field was mown.", "Grass grew between the stones."),
)


class Haystack(Protocol):
    """An endless sequence of documents, different for every item."""

    def block(self, item: int, shuffle_seed: int, number: int) -> Sequence[Document]:
        """The documents of a block; the same in every process.

        Args:
            item: The index of the item.
            shuffle_seed: The layout of the item.
            number: The block, from 0.

        Returns:
            ``BLOCK`` documents.
        """
        ...


class SyntheticHaystack:
    """Documents of the synthetic world; each block is a separate small world."""

    def __init__(self, split: str) -> None:
        self._items = SyntheticItems(split=split, num_docs=BLOCK, num_items=2**62)

    def block(self, item: int, shuffle_seed: int, number: int) -> Sequence[Document]:
        """See :class:`Haystack`."""
        rng = stable_rng("needle haystack", self._items.name, item, shuffle_seed, number)
        return self._items.item(int(rng.integers(2**62))).documents


class NoiseHaystack:
    """Pages of meaningless sentences that repeat."""

    def block(self, item: int, shuffle_seed: int, number: int) -> Sequence[Document]:
        """See :class:`Haystack`."""
        dice = Dice("needle noise", item, shuffle_seed, number)
        return [
            Document(f"Page {BLOCK * number + i + 1}", " ".join(dice.pick(_NOISE) for _ in range(12)))
            for i in range(BLOCK)
        ]


class TextHaystack:
    """The user's text, in documents of whole sentences of some 90 words each.

    Raises:
        ConfigError: the file cannot be read or has no words.
    """

    def __init__(self, path: str) -> None:
        try:
            text = Path(path).expanduser().read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"text={path!r} cannot be read ({error}); give a UTF-8 text file") from error
        self._texts = _passages(text)
        if not self._texts:
            raise ConfigError(f"text={path!r} holds no words; give a text file")
        self._title = Path(path).stem

    def block(self, item: int, shuffle_seed: int, number: int) -> Sequence[Document]:
        """See :class:`Haystack`."""
        start = int(stable_rng("needle text", item, shuffle_seed).integers(len(self._texts)))
        places = (start + BLOCK * number + i for i in range(BLOCK))
        return [self._passage(place % len(self._texts)) for place in places]

    def _passage(self, number: int) -> Document:
        return Document(f"{self._title}, part {number + 1}", self._texts[number])


def _passages(text: str) -> list[str]:
    passages: list[str] = []
    words = _WORDS_A_DOCUMENT
    for sentence in sentences(" ".join(text.split())):
        pieces = sentence.split(" ")
        if words + len(pieces) > _WORDS_A_DOCUMENT:
            passages += [" ".join(pieces[i : i + _WORDS_A_DOCUMENT]) for i in range(0, len(pieces), _WORDS_A_DOCUMENT)]
            words = len(pieces) % _WORDS_A_DOCUMENT or _WORDS_A_DOCUMENT
        else:
            passages[-1] += f" {sentence}"
            words += len(pieces)
    return passages


def sentences(text: str) -> list[str]:
    """Split a text into sentences at punctuation; joined by spaces they give a text with single spaces back."""
    return [sentence for sentence in _SENTENCE_END.split(text) if sentence]
