"""The items of ``AtomMem-Needle-v0``."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, check_choice
from atommem_gym.records.layout import GeneratorDraws, QuestionsPerEpisode, check_questions, draw_questions, stable_rng
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.records.stream import LazyDocuments, as_streamed
from atommem_gym.tokenizers import Tokenizer, load_tokenizer
from atommem_gym.worlds.checks import check_generated
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.needle.haystacks import (
    BLOCK,
    Haystack,
    NoiseHaystack,
    SyntheticHaystack,
    TextHaystack,
    sentences,
)
from atommem_gym.worlds.needle.needles import Key, make_keys
from atommem_gym.worlds.needle.options import MOST_NEEDLES, NeedleOptions
from atommem_gym.worlds.synthetic.names import SPLITS

ITEMS_VERSION: Final = 0
"""Part of every seed; raised, together with the environment's version, when the content of items changes."""

KEPT_BLOCKS: Final = 8
"""Most blocks of a stream in memory: 400 documents."""

Inserted: TypeAlias = dict[int, list[tuple[float, str]]]
"""Number of a document to the needles in it: the place in the document, from 0 to 1, and the sentence."""


class NeedleDocuments(LazyDocuments):
    """The first ``size`` documents of a haystack, with needles; documents are made in blocks when they are read.

    The latest blocks are kept: a short stream is made once for its gold documents, its counts and its chunks, and a
    long one is never in memory as a whole.
    """

    def __init__(self, haystack: Haystack, item: int, shuffle_seed: int, size: int, inserted: Inserted) -> None:
        self._haystack = haystack
        self._seeds = (item, shuffle_seed)
        self._size = size
        self._inserted = inserted
        self._blocks: dict[int, Sequence[Document]] = {}
        self._counts: tuple[str, npt.NDArray[np.int64]] | None = None

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._size))]
        place = index + self._size if index < 0 else index
        if not 0 <= place < self._size:
            raise IndexError(f"document {index} does not exist: valid are 0 to {self._size - 1}")
        number, within = divmod(place, BLOCK)
        block = self._blocks.get(number)
        if block is None:
            if len(self._blocks) == KEPT_BLOCKS:
                del self._blocks[next(iter(self._blocks))]
            block = self._blocks[number] = self._haystack.block(*self._seeds, number)
        document = block[within]
        return _with_needles(document, self._inserted[place]) if place in self._inserted else document

    def counts(self, tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
        """The number of tokens of each document in the stream, kept for the latest tokenizer."""
        if self._counts is None or self._counts[0] != tokenizer.name:
            self._counts = (tokenizer.name, super().counts(tokenizer))
        return self._counts[1]


class NeedleItems:
    """Items over a haystack with needles (SPEC D4); an item keeps only some blocks of its documents in memory.

    Keys, values and questions depend only on the split, the index and the options; the haystack and random depths
    also depend on ``shuffle_seed``.

    >>> from atommem_gym.tokenizers import load_tokenizer
    >>> options = NeedleOptions(haystack="noise", depth=0.5, length=2_000)
    >>> item = NeedleItems(load_tokenizer("words"), options=options).item(0)
    >>> [place for place, document in enumerate(item.documents) if item.questions[0].evidence[0].text in document.text]
    [13]
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        options: NeedleOptions | None = None,
        split: str = "train",
        num_docs: int = 200,
        questions_per_episode: QuestionsPerEpisode = 1,
        num_items: int = 10_000,
    ) -> None:
        """Check the arguments; nothing is generated yet.

        Args:
            tokenizer: Measures ``options.length``.
            options: The options of the world; by default those of the environment.
            split: ``"train"``, ``"validation"`` or ``"test"``; no two share a name.
            num_docs: Documents of an item, unless ``options.length`` gives its size in tokens.
            questions_per_episode: A number, ``(least, most)``, or ``"released"``.
            num_items: Items of the split.

        Raises:
            ConfigError: an argument is unknown or out of range, or contradicts another one.
        """
        check_choice("split", split, SPLITS)
        if num_items < 1:
            raise ConfigError(f"num_items={num_items} is invalid: it must be at least 1")
        self.options = options or NeedleOptions()
        self._questions = check_questions(questions_per_episode)
        self._questions_per_episode = questions_per_episode
        if self.options.kind == "multi_query" and questions_per_episode != 1:
            raise ConfigError(
                f"questions_per_episode={questions_per_episode!r} contradicts kind='multi_query', which asks one "
                "question for each of its needles; set needles instead"
            )
        if self._questions[1] > MOST_NEEDLES:
            raise ConfigError(f"questions_per_episode={questions_per_episode!r} must be at most {MOST_NEEDLES}")
        self.split = split
        self.num_docs = num_docs
        self.num_items = num_items
        self.name = f"needle-{self.options.kind}-{split}"
        self._tokenizer = tokenizer
        self._haystack = _haystack(self.options, split)
        self._latest: tuple[int, int, Item] | None = None

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout of ``shuffle_seed`` (SPEC E8); its documents are made when they are read.

        Raises:
            IndexError: ``index`` is outside ``[0, num_items)``.
        """
        index, shuffle_seed = operator.index(index), operator.index(shuffle_seed)
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} does not exist: valid are 0 to {self.num_items - 1}")
        latest = self._latest
        # A group of rollouts asks for the same item repeatedly, and measuring a long haystack takes seconds.
        if latest is None or latest[:2] != (index, shuffle_seed):
            latest = self._latest = (index, shuffle_seed, self._item(index, shuffle_seed))
        return latest[2]

    def _item(self, index: int, shuffle_seed: int) -> Item:
        options = self.options
        rng = stable_rng("needle questions", ITEMS_VERSION, self.name, index)
        number = draw_questions(self._questions_per_episode, GeneratorDraws(rng))
        asked, others = make_keys(Dice("needle", ITEMS_VERSION, self.name, index), options, number)
        length, depth = options.place(index)
        dice = Dice("needle layout", ITEMS_VERSION, self.name, index, shuffle_seed)
        size = self.num_docs if length is None else self._size(index, shuffle_seed, length, [*asked, *others])
        inserted: Inserted = {}
        needles = [needle for key in asked for needle in key.sentences]
        places = [depth * size + i if depth is not None else dice.random() * size for i in range(len(needles))]
        # Needles that would come after the last document move before it.
        surplus = max(0.0, max(places) - size)
        for place, needle in zip(places, dice.shuffled(needles), strict=True):
            _insert(inserted, place - surplus if depth is not None else place, size, needle)
        for key in others:
            _insert(inserted, dice.random() * size, size, key.sentences[0])
        documents = NeedleDocuments(self._haystack, index, shuffle_seed, size, inserted)
        where = {needle: place for place, found in inserted.items() for _, needle in found}
        numeric = options.value_type == "numbers"
        return Item(
            id=f"{self.name}/{index}",
            index=index,
            shuffle_seed=shuffle_seed,
            questions=tuple(
                _record(key, documents, where, numeric, options.kind, f"{self.name}-{index}-{number}")
                for number, key in enumerate(asked)
            ),
            documents=documents,
        )

    def _size(self, index: int, shuffle_seed: int, length: int, keys: Sequence[Key]) -> int:
        """The number of documents that have about ``length`` tokens, needles included; at least one."""
        count = self._tokenizer.counts
        left = length - sum(count([needle for key in keys for needle in key.sentences]))
        size, number = 0, 0
        while left > 0:
            block = self._haystack.block(index, shuffle_seed, number)
            tokens = count([as_streamed(BLOCK * number + i + 1, document) for i, document in enumerate(block)])
            for one in tokens:
                # The last document belongs to the stream if at least half of it fits.
                if left < one / 2:
                    return max(1, size)
                left -= int(one)
                size += 1
            number += 1
        return max(1, size)


def from_config(config: EnvConfig) -> NeedleItems:
    """The items of ``AtomMem-Needle-v0`` in a configuration.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    check_generated(config, "AtomMem-Needle-v0", "depth= says where the needles stand")
    assert isinstance(config.options, NeedleOptions)
    return NeedleItems(
        load_tokenizer(config.tokenizer),
        options=config.options,
        split=config.split,
        num_docs=config.num_docs,
        questions_per_episode=config.questions_per_episode,
    )


def _haystack(options: NeedleOptions, split: str) -> Haystack:
    if options.text is not None:
        return TextHaystack(options.text)
    return NoiseHaystack() if options.haystack == "noise" else SyntheticHaystack(split)


def _insert(inserted: Inserted, place: float, size: int, needle: str) -> None:
    document = min(int(place), size - 1)
    inserted.setdefault(max(0, document), []).append((min(1.0, max(0.0, place - document)), needle))


def _with_needles(document: Document, needles: Sequence[tuple[float, str]]) -> Document:
    """The document with needles between its sentences."""
    parts: list[str] = sentences(document.text)
    found = [(round(where * len(parts)), needle) for where, needle in needles]
    for boundary, needle in sorted(found, reverse=True):
        parts.insert(boundary, needle)
    return Document(document.title, " ".join(parts))


def _record(
    key: Key, documents: Sequence[Document], where: Mapping[str, int], numeric: bool, kind: str, identity: str
) -> Record:
    """The question about a key, with the documents that hold its needles."""
    gold = sorted({where[needle] for needle in key.sentences})
    found = {place: documents[place] for place in gold}
    pieces = zip(key.sentences, key.values, strict=True)
    return Record(
        id=identity,
        question=key.question(numeric),
        answer=key.answer,
        documents=tuple(found[place] for place in gold),
        gold=tuple(range(len(gold))),
        evidence=tuple(Evidence(found[where[needle]].title, needle, value) for needle, value in pieces),
        type=kind,
    )
