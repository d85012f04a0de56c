"""Items over generated contexts: one stream, and some of the questions that are asked about it (SPEC E14)."""

from __future__ import annotations

import operator
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import pairwise

from atommem_gym.errors import ConfigError, check_choice
from atommem_gym.records.layout import QuestionsPerEpisode, check_questions, partition, stable_rng
from atommem_gym.records.record import Document, Item, Record
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.names import SPLITS

CONTEXTS = 1_000
"""Contexts of a split."""


@dataclass(frozen=True, slots=True)
class Context:
    """A stream with all its questions, in a random order that is the context's own."""

    documents: tuple[Document, ...]
    questions: tuple[Record, ...]
    erased: tuple[str, ...] = ()
    """See ``Item.erased``."""


class GeneratedContexts(ABC):
    """The items of generated contexts: an item is one context and some of its questions, each in exactly one item.

    What a context holds depends on the split, its number and the options alone; ``shuffle_seed`` changes the order of
    an item's questions, and nothing else. The first ``CONTEXTS`` items are of different contexts.
    """

    def __init__(self, world: str, split: str, *, questions: int, questions_per_episode: QuestionsPerEpisode) -> None:
        """Items of ``world`` whose contexts have so many questions; nothing is generated yet.

        Raises:
            ConfigError: the split is unknown, or an item may need more questions than a context has.
        """
        check_choice("split", split, SPLITS)
        most = check_questions(questions_per_episode)[1]
        if most > questions:
            raise ConfigError(
                f"questions_per_episode={questions_per_episode!r} is too much for contexts of {questions} questions: "
                "questions of different contexts never meet; raise questions, or ask less"
            )
        self.split = split
        self.name = f"{world}-{split}"
        # Questions come in a random order of their context's own, so that the same cuts make other groups of each.
        cuts = partition(questions, questions_per_episode, stable_rng("partition", self.name)).bounds.tolist()
        self._groups = [slice(begin, end) for begin, end in pairwise(cuts)]
        self.num_items = CONTEXTS * len(self._groups)
        self._latest: tuple[int, Context] | None = None

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index``, its questions in the order of ``shuffle_seed`` (SPEC E8, E14).

        Raises:
            IndexError: ``index`` is outside ``0 .. num_items - 1``.
        """
        index, shuffle_seed = operator.index(index), operator.index(shuffle_seed)
        context = self.context(index)
        group = context.questions[self._groups[index // CONTEXTS]]
        return Item(
            id=f"{self.name}/{index}",
            index=index,
            shuffle_seed=shuffle_seed,
            questions=tuple(Dice("item", self.name, index, shuffle_seed).shuffled(group)),
            documents=context.documents,
            erased=context.erased,
        )

    def context(self, index: int) -> Context:
        """The whole context of item ``index``.

        Raises:
            IndexError: ``index`` is outside ``0 .. num_items - 1``.
        """
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} does not exist: {self.name} has items 0 to {self.num_items - 1}")
        number = index % CONTEXTS
        # A group of rollouts asks for one item again and again. Threads may race here: each keeps what it made.
        latest = self._latest
        if latest is None or latest[0] != number:
            latest = self._latest = (number, self._make(number))
        return latest[1]

    @abstractmethod
    def _make(self, number: int) -> Context:
        """Context ``number``; the same in every process."""
