"""Makes items of contexts: one stream, and some of the questions about it (SPEC E14)."""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from atommem_gym.errors import ConfigError, DatasetUnavailableError, RecordError
from atommem_gym.records.layout import Partition, QuestionsPerEpisode, partition, stable_rng
from atommem_gym.records.record import Item
from atommem_gym.records.sources import Split


class ContextItems:
    """The items of a split of contexts: an item is one context and some of its questions, each in exactly one item.

    The questions of each context are partitioned with their own generator, so that a context has the same groups
    whatever other contexts there are. The items are in a seeded order, so that the first ones are of many contexts. A
    context is always complete and in its own order; ``shuffle_seed`` changes only the order of the questions.
    """

    def __init__(self, split: Split, *, questions_per_episode: QuestionsPerEpisode | Sequence[int]) -> None:
        """Partition the questions of a split.

        Args:
            split: Records that all belong to contexts.
            questions_per_episode: A number, a range ``(lo, hi)`` or ``"released"``.

        Raises:
            ConfigError: ``questions_per_episode`` is invalid, or records belong to no context.
        """
        self.name = f"{split.dataset}/{split.split}"
        self._split = split
        contexts = split.contexts
        if not all(contexts):
            raise ConfigError(
                f"record {contexts.index('')} of {self.name} belongs to no context; give it a 'context', or leave out "
                "contexts=True"
            )
        of: dict[str, list[int]] = {}
        for number, context in enumerate(contexts):
            of.setdefault(context, []).append(number)
        groups = []
        for context, numbers in of.items():
            rng = stable_rng("partition", split.dataset, split.split, context)
            own = np.array(numbers, np.int64)
            groups += [own[group] for group in partition(len(numbers), questions_per_episode, rng)]
        order = stable_rng("contexts", split.dataset, split.split).permutation(len(groups)).tolist()
        chosen = [groups[i] for i in order]
        bounds = np.concatenate([[0], np.cumsum([len(group) for group in chosen])]).astype(np.int64)
        self._groups = Partition(np.concatenate(chosen) if chosen else np.zeros(0, np.int64), bounds)
        self.num_items = len(self._groups)

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index``, with its questions in the order of ``shuffle_seed``.

        Raises:
            IndexError: ``index`` is outside ``0 .. num_items - 1``.
        """
        index, shuffle_seed = operator.index(index), operator.index(shuffle_seed)
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} does not exist: {self.name} has items 0 to {self.num_items - 1}")
        rng = stable_rng("item", self._split.dataset, self._split.split, index, shuffle_seed)
        numbers = rng.permutation(self._groups[index]).tolist()
        return Item(
            id=f"{self.name}/{index}",
            index=index,
            shuffle_seed=shuffle_seed,
            questions=tuple(self._split.record(number) for number in numbers),
            documents=self._split.pool.documents(self._split.document_order(numbers[0])),
        )


def warn_of_shared(split: Split, others: Iterable[Split]) -> None:
    """Warn of contexts that a split shares with others (SPEC D3), since training on one then leaks into the other."""
    for other in others:
        shared = shared_contexts(split, other)
        if shared:
            warnings.warn(
                f"the splits {split.split!r} and {other.split!r} of {split.dataset} share {len(shared)} contexts "
                f"({', '.join(shared[:3])}{', …' if len(shared) > 3 else ''}): what is learned on one is known on the "
                "other; put each context into one split",
                UserWarning,
                stacklevel=2,
            )


def shared_contexts(one: Split, other: Split) -> list[str]:
    """The names of the contexts of ``one`` whose documents are also a context of ``other``."""
    theirs = other.context_keys()
    return [name for key, name in one.context_keys().items() if key in theirs]


def loadable(splits: Iterable[str], load: Callable[[str], Split]) -> list[Split]:
    """The splits among ``splits`` that can be loaded; what is wrong with another one is reported when it is played."""
    found: list[Split] = []
    for name in splits:
        try:
            found.append(load(name))
        except (ConfigError, DatasetUnavailableError, RecordError):
            continue
    return found
