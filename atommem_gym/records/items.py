"""Makes items of the records of a split: which questions and documents, in which order (SPEC D3, E8, E9)."""

from __future__ import annotations

import operator
from collections.abc import Sequence

import numpy as np

from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.documents import Hashes, Indices, Pool
from atommem_gym.records.layout import (
    QuestionsPerEpisode,
    arrange,
    check_order,
    in_given_order,
    partition,
    stable_rng,
)
from atommem_gym.records.record import Item
from atommem_gym.records.sources import Split

_DENSE = 4
"""A pool with fewer than this many times the documents wanted is searched completely instead of by rejection."""
_ROUNDS = 8
"""After this many rounds rejection gives up (nearly all documents conflict), and the whole pool is searched."""


class RecordItems:
    """The items of a split. Each record of the split is a question of exactly one item.

    Which records form item ``i`` depends only on the split and ``questions_per_episode``. The order of the questions,
    the choice of distractors and the order of the documents depend only on the item and ``shuffle_seed``, so all
    members of a group that ask for the same item get the same episode.
    """

    def __init__(
        self,
        split: Split,
        *,
        num_docs: int,
        questions_per_episode: QuestionsPerEpisode | Sequence[int],
        order: str,
    ) -> None:
        """Partition the records of a split into items.

        Args:
            split: The records.
            num_docs: Documents per item.
            questions_per_episode: A number, a range ``(lo, hi)`` or ``"released"``.
            order: The document order, one of ``layout.ORDERS``.

        Raises:
            ConfigError: an argument is invalid, the documents are dated and ``order`` is not ``"given"``, an item has
                more gold documents than ``num_docs``, or the split has fewer distinct documents than ``num_docs``.
        """
        self.num_docs = check_integer("num_docs", num_docs, 1, numpy=True)
        check_order(order)
        if split.pool.dated and order != "given":
            raise ConfigError(
                f"order={order!r} contradicts {split.dataset}/{split.split}, whose documents are dated: their order "
                'means something; use order="given"'
            )
        self.name = f"{split.dataset}/{split.split}"
        self._split = split
        self._order = order
        rng = stable_rng("partition", split.dataset, split.split)
        self._groups = partition(len(split), questions_per_episode, rng)
        self.num_items = len(self._groups)
        self._check_pool()
        self._check_gold()

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout of ``shuffle_seed``.

        Raises:
            IndexError: ``index`` is outside ``0 .. num_items - 1``.
            ConfigError: too few documents of the split can be distractors of this item.
        """
        index, shuffle_seed = operator.index(index), operator.index(shuffle_seed)
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} does not exist: {self.name} has items 0 to {self.num_items - 1}")
        rng = stable_rng("item", self._split.dataset, self._split.split, index, shuffle_seed)
        records = rng.permutation(self._groups[index]).tolist()
        gold, distractors = self._documents(index, records, rng)
        if self._order == "given":
            numbers = self._in_given_order(records, np.concatenate([gold, distractors]))
        else:
            numbers = np.array(arrange(gold.tolist(), distractors.tolist(), self._order, rng), np.int64)
        return Item(
            id=f"{self.name}/{index}",
            index=index,
            shuffle_seed=shuffle_seed,
            questions=tuple(self._split.record(number) for number in records),
            documents=self._split.pool.documents(numbers),
        )

    def _documents(self, index: int, records: Sequence[int], rng: np.random.Generator) -> tuple[Indices, Indices]:
        """Pool numbers of the gold documents and of the distractors of these records, ``num_docs`` in all."""
        pool = self._split.pool
        gold, own = self._own(records)
        self._check_fits(index, len(records), len(gold))
        room = self.num_docs - len(gold)
        own = own[_usable(pool, own, pool.title_hashes[gold], pool.text_hashes[gold])]
        if len(own) >= room:
            return gold, rng.permutation(own)[:room]
        taken = np.concatenate([pool.text_hashes[gold], pool.text_hashes[own]])
        more = _draw(pool, room - len(own), pool.title_hashes[gold], taken, rng)
        if len(more) < room - len(own):
            raise ConfigError(
                f"num_docs={self.num_docs} cannot be filled for item {index} of {self.name}: {len(gold)} gold "
                f"documents, {len(own)} own distractors and {len(more)} others of the split that share no title or "
                f"text with gold make {len(gold) + len(own) + len(more)}; lower num_docs or use a larger split"
            )
        return gold, np.concatenate([own, more])

    def _in_given_order(self, records: Sequence[int], chosen: Indices) -> Indices:
        """The chosen documents in the order of the records, then those that belong to no record."""
        own = [self._split.document_order(number).tolist() for number in records]
        wanted, theirs = chosen.tolist(), set().union(*own)
        rest = [number for number in wanted if number not in theirs]
        return np.array(in_given_order(own, set(wanted), rest), np.int64)

    def _own(self, records: Sequence[int]) -> tuple[Indices, Indices]:
        """Gold documents of these records, each once, and all their own distractors."""
        pairs = [self._split.document_numbers(number) for number in records]
        gold = np.concatenate([pair[0] for pair in pairs])
        pool = self._split.pool
        same = np.stack([pool.title_hashes[gold], pool.text_hashes[gold]], axis=1)
        _, first = np.unique(same, axis=0, return_index=True)
        return gold[np.sort(first)], np.concatenate([pair[1] for pair in pairs])

    def _check_pool(self) -> None:
        hashes = np.sort(self._split.pool.text_hashes)
        distinct = int(np.count_nonzero(np.diff(hashes))) + min(len(hashes), 1)
        if distinct < self.num_docs:
            raise ConfigError(
                f"num_docs={self.num_docs} is more than the {distinct} distinct documents of {self.name}; "
                "lower num_docs or use a larger split"
            )

    def _check_gold(self) -> None:
        """Raise for the first item whose gold does not fit; only items near the limit are examined one by one."""
        if not self.num_items:
            return
        counts = np.add.reduceat(self._split.gold_counts[self._groups.order], self._groups.bounds[:-1])
        for index in np.flatnonzero(counts > self.num_docs).tolist():
            records = self._groups[index].tolist()
            self._check_fits(index, len(records), len(self._own(records)[0]))

    def _check_fits(self, index: int, questions: int, gold: int) -> None:
        if gold > self.num_docs:
            raise ConfigError(
                f"num_docs={self.num_docs} is smaller than the {gold} gold documents of the {questions} question(s) of "
                f"item {index} of {self.name}; raise num_docs to {gold} or more, or lower questions_per_episode"
            )


def _draw(pool: Pool, wanted: int, titles: Hashes, texts: Hashes, rng: np.random.Generator) -> Indices:
    """``wanted`` random documents of distinct texts, or all if fewer, with none of the given titles and texts."""
    found = np.empty(0, np.int64)
    if len(pool) >= _DENSE * (wanted + len(texts)):
        for _ in range(_ROUNDS):
            found = np.concatenate([found, rng.integers(len(pool), size=wanted + wanted // 8 + 8)])
            found = found[_usable(pool, found, titles, texts)]
            if len(found) >= wanted:
                return found[:wanted]
    everything = rng.permutation(len(pool)).astype(np.int64)
    return everything[_usable(pool, everything, titles, texts)][:wanted]


def _usable(pool: Pool, numbers: Indices, titles: Hashes, texts: Hashes) -> Indices:
    """Ascending positions of the documents with none of the given titles and texts; each text once."""
    barred = np.isin(pool.title_hashes[numbers], titles) | np.isin(pool.text_hashes[numbers], texts)
    allowed = np.flatnonzero(~barred)
    _, first = np.unique(pool.text_hashes[numbers[allowed]], return_index=True)
    return allowed[np.sort(first)]
