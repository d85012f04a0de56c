"""The seeded layout of episodes: stable generators, document orders, the partition of records (SPEC E4, E8, E9)."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Literal, Protocol, TypeAlias, TypeVar, overload

import numpy as np
import numpy.typing as npt

from atommem_gym.errors import ConfigError, check_choice

ORDERS = ("shuffled", "gold_first", "gold_last", "gold_spread", "gold_together", "given")
"""The document orders of SPEC E9."""

QuestionsPerEpisode: TypeAlias = int | tuple[int, int] | Literal["released"]

SINGLE_RELEASED = 0.5
MAX_RELEASED_QUESTIONS = 10
"""The released data has one question with probability ``SINGLE_RELEASED``, else uniformly from 2 to this number."""

Indices: TypeAlias = npt.NDArray[np.int64]
T = TypeVar("T")


def stable_rng(*parts: object) -> np.random.Generator:
    """A generator seeded by a hash of ``parts`` that is the same in every process and on every platform.

    Parts are ``str``, ``int``, ``bool``, ``float``, ``None`` or sequences of these; their types and their lengths
    count, so ``("ab", "c")`` and ``("a", "bc")`` give different generators, and so do ``1`` and ``"1"``.

    Raises:
        TypeError: a part is of another type, whose text might differ between processes.
    """
    digest = hashlib.blake2b(_canonical(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def _canonical(part: object) -> str:
    if part is None:
        return "n"
    if isinstance(part, bool | np.bool_):
        return f"b{int(part)}"
    if isinstance(part, int | np.integer):
        return f"i{int(part)};"
    if isinstance(part, float | np.floating):
        return f"f{float(part).hex()};"
    if isinstance(part, str):
        return f"s{len(part)}:{part}"
    if isinstance(part, tuple | list):
        return f"t{len(part)}:" + "".join(_canonical(one) for one in part)
    raise TypeError(
        f"stable_rng got {type(part).__name__}: parts are str, int, float, bool, None or sequences of these, "
        "whose text is the same in every process; pass such a value instead"
    )


def arrange(gold: Sequence[T], others: Sequence[T], order: str, rng: np.random.Generator) -> tuple[T, ...]:
    """All of ``gold`` and ``others`` in the document order ``order`` (SPEC E9).

    Within each order gold and others are permuted at random. ``"shuffled"`` puts gold uniformly
    over all positions, whatever comes first in the arguments. ``"gold_spread"`` cuts the stream into as many equal
    parts as there are gold documents and puts one into each, ``"gold_together"`` puts them side by side at a uniform
    place. ``"given"`` changes nothing: all of ``gold``, then all of ``others``, in their order; callers whose records
    mix the two order them beforehand (:func:`in_given_order`).

    Args:
        gold: The documents that answer the questions.
        others: All other documents.
        order: One of ``ORDERS``.
        rng: Draws the permutations; :func:`stable_rng` makes a generator from a seed and an index.

    Raises:
        ConfigError: ``order`` is not one of ``ORDERS``.
    """
    check_order(order)
    if order == "given":
        return (*gold, *others)
    total, size = len(gold) + len(others), len(gold)
    if order == "gold_first":
        places = np.arange(size)
    elif order == "gold_last":
        places = np.arange(total - size, total)
    elif order == "gold_together":
        places = np.arange(size) + int(rng.integers(len(others) + 1))
    elif order == "gold_spread":
        edges = np.arange(size + 1) * total // max(size, 1)
        places = rng.integers(edges[:-1], edges[1:]) if size else np.arange(0)
    else:
        places = rng.permutation(total)[:size]
    arranged: list[T | None] = [None] * total
    for place, chosen in zip(places.tolist(), rng.permutation(size).tolist(), strict=True):
        arranged[place] = gold[chosen]
    is_gold = np.zeros(total, np.bool_)
    is_gold[places] = True
    for place, chosen in zip(np.flatnonzero(~is_gold).tolist(), rng.permutation(len(others)).tolist(), strict=True):
        arranged[place] = others[chosen]
    return tuple(arranged)  # type: ignore[arg-type]  # every place is filled by one of the two loops


def in_given_order(records: Iterable[Iterable[T]], chosen: Collection[T], rest: Sequence[T]) -> tuple[T, ...]:
    """The ``chosen`` documents in the order of their records, one record after the other, then ``rest`` (SPEC E9).

    A document of several records takes its place in the first of them.

    Args:
        records: The documents of each record.
        chosen: The documents to keep.
        rest: Documents of no record.

    >>> in_given_order([["a", "b", "c"], ["c", "d", "a"]], {"a", "c", "d"}, ["x"])
    ('a', 'c', 'd', 'x')
    """
    own = dict.fromkeys(one for record in records for one in record if one in chosen)
    return (*own, *rest)


def check_order(order: str) -> None:
    """Raise ``ConfigError`` unless ``order`` is one of ``ORDERS``."""
    check_choice("order", order, ORDERS)


class Partition(Sequence[Indices]):
    """Groups of record numbers in which every record occurs exactly once (SPEC E8)."""

    def __init__(self, order: Indices, bounds: Indices) -> None:
        """``order`` ``[records]`` is a permutation; group ``i`` is ``order[bounds[i]:bounds[i + 1]]``."""
        self.order = order
        self.bounds = bounds

    def __len__(self) -> int:
        return len(self.bounds) - 1

    @overload
    def __getitem__(self, index: int) -> Indices: ...
    @overload
    def __getitem__(self, index: slice) -> list[Indices]: ...
    def __getitem__(self, index: int | slice) -> Indices | list[Indices]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(f"group {index} does not exist: valid are 0 to {len(self) - 1}")
        return self.order[self.bounds[index] : self.bounds[index + 1]]

    def __iter__(self) -> Iterator[Indices]:
        return (self[i] for i in range(len(self)))


def partition(
    num_records: int, questions_per_episode: QuestionsPerEpisode | Sequence[int], rng: np.random.Generator
) -> Partition:
    """Group the records of a split into episodes, each record in exactly one (SPEC E4, E8).

    A number gives groups of that size, a range ``(lo, hi)`` uniform sizes from ``lo`` to ``hi`` inclusive, and
    ``"released"`` the sizes of :func:`draw_questions`. The last group takes what is left and may be smaller.

    Args:
        num_records: Records of the split.
        questions_per_episode: A number, a range ``(lo, hi)`` or ``"released"``.
        rng: Draws the permutation and the sizes.

    Raises:
        ConfigError: ``questions_per_episode`` is none of these.
    """
    low, high = check_questions(questions_per_episode)
    order: Indices = rng.permutation(num_records).astype(np.int64)
    if questions_per_episode == "released":
        # As in draw_questions, for all episodes at once.
        single = rng.random(num_records) < SINGLE_RELEASED
        sizes = np.where(single, 1, rng.integers(2, high + 1, num_records))
    elif low == high:
        sizes = np.full(-(-num_records // low), low)
    else:
        sizes = rng.integers(low, high + 1, num_records)
    ends = np.cumsum(sizes, dtype=np.int64)
    inner = ends[ends < num_records]
    bounds = np.concatenate([[0], inner, [num_records]]) if num_records else np.zeros(1)
    return Partition(order, bounds.astype(np.int64))


class Draws(Protocol):
    """A source of random numbers."""

    def chance(self, p: float, /) -> bool:
        """True with probability ``p``."""
        ...

    def between(self, low: int, high: int, /) -> int:
        """An integer in ``[low, high]``."""
        ...


class GeneratorDraws:
    """Random numbers from a NumPy generator."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng

    def chance(self, p: float, /) -> bool:
        """True with probability ``p``."""
        return bool(self._rng.random() < p)

    def between(self, low: int, high: int, /) -> int:
        """An integer in ``[low, high]``."""
        return int(self._rng.integers(low, high + 1))


def draw_questions(questions_per_episode: QuestionsPerEpisode, draws: Draws) -> int:
    """Draw the number of questions of one episode.

    A number gives that number, a range ``(lo, hi)`` a uniform number from ``lo`` to ``hi`` inclusive, ``"released"``
    one with probability 1/2, else 2 to 10 (docs/released.md).

    Args:
        questions_per_episode: A number, a range or ``"released"``.
        draws: The source of random numbers.

    Raises:
        ConfigError: ``questions_per_episode`` is none of these.
    """
    low, high = check_questions(questions_per_episode)
    if questions_per_episode == "released":
        return 1 if draws.chance(SINGLE_RELEASED) else draws.between(2, high)
    return draws.between(low, high)


def check_questions(questions_per_episode: object) -> tuple[int, int]:
    """The smallest and the largest number of questions that an episode may have.

    Raises:
        ConfigError: not a positive number, a range ``(lo, hi)`` with ``1 <= lo <= hi``, or ``"released"``.
    """
    value = questions_per_episode
    if value == "released":
        return 1, MAX_RELEASED_QUESTIONS
    ends = tuple(value) if isinstance(value, tuple | list) else (value, value)
    whole = all(isinstance(end, int | np.integer) and not isinstance(end, bool) for end in ends)
    if len(ends) != 2 or not whole or not 1 <= ends[0] <= ends[1]:
        raise ConfigError(
            f"questions_per_episode={value!r} is invalid: give a number from 1, a range such as (2, 10) with "
            'the smaller number first, or "released"'
        )
    return int(ends[0]), int(ends[1])
