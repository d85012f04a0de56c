"""Items over generated contexts: one stream, and some of the questions about it (SPEC E14)."""

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
"""Number of contexts in a split."""


@dataclass(frozen=True, slots=True)
class Context:
    """A stream with all its questions."""

    documents: tuple[Document, ...]
    """The stream."""
    questions: tuple[Record, ...]
    """All its questions, in a random order that depends only on the context."""
    erased: tuple[str, ...] = ()
    """Codes that the documents ask to erase (``Item.erased``)."""


class GeneratedContexts(ABC):
    """The items of generated contexts: an item is one context and some of its questions, each in exactly one item.

    What a context holds depends only on the split, its number and the options; ``shuffle_seed`` changes only the order
    of an item's questions. The first ``CONTEXTS`` items are of different contexts.
    """

    def __init__(self, world: str, split: str, *, questions: int, questions_per_episode: QuestionsPerEpisode) -> None:
        """Check the arguments; nothing is generated yet.

        Args:
            world: The name of the world; part of the names of items and of every seed.
            split: ``"train"``, ``"validation"`` or ``"test"``.
            questions: Questions of each context.
            questions_per_episode: A number, a range ``(lo, hi)`` or ``"released"``.

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
        # Each context has its questions in its own random order, so the same cuts give different groups.
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
        # A group of rollouts asks for the same item repeatedly. Threads may race here; each uses what it made.
        latest = self._latest
        if latest is None or latest[0] != number:
            latest = self._latest = (number, self._make(number))
        return latest[1]

    @abstractmethod
    def _make(self, number: int) -> Context:
        """Context ``number``; the same in every process."""
