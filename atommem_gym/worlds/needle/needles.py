"""Keys, their values, the sentences that state them (the needles), and the questions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.needle.options import NeedleOptions

_FIRST: Final = (
    *("amber", "brass", "cedar", "copper", "coral", "crystal", "dusty", "ebony", "frosty", "golden", "granite"),
    *("hollow", "ivory", "jade", "linen", "marble", "mossy", "nimble", "opal", "paper", "quiet", "russet", "silver"),
    *("tidal", "umber", "velvet", "walnut", "woollen"),
)
_SECOND: Final = (
    *("anchor", "atlas", "beacon", "bellows", "cabinet", "causeway", "chimney", "compass", "crane", "drawer"),
    *("falcon", "furnace", "gable", "gateway", "hammock", "harbour", "kiln", "lantern", "lighthouse", "loom"),
    *("mill", "observatory", "orchard", "parlour", "quarry", "reservoir", "sundial", "turbine", "viaduct"),
)
_PAIRS: Final = tuple(f"{first} {second}" for first in _FIRST for second in _SECOND)
_WORDS: Final = {pair: pair.split() for pair in _PAIRS}
_CONSONANTS: Final = "bdfgklmnprstvz"
_VOWELS: Final = "aeiou"


@dataclass(frozen=True, slots=True)
class Key:
    """A thing with one or several access codes."""

    name: str
    """The name of the thing."""
    values: tuple[str, ...]
    """Its codes."""

    @property
    def sentences(self) -> tuple[str, ...]:
        """One needle per value."""
        if len(self.values) == 1:
            return (f"The access code of the {self.name} is {self.values[0]}.",)
        return tuple(f"One of the access codes of the {self.name} is {value}." for value in self.values)

    @property
    def answer(self) -> str:
        """The value, or all values in ascending order, separated by commas."""
        return ", ".join(sorted(self.values))

    def question(self, numeric: bool) -> str:
        """The question about all values; it states their order, so that exact match is well defined.

        Args:
            numeric: Whether the values are numbers, for the word for their order.
        """
        if len(self.values) == 1:
            return f"What is the access code of the {self.name}?"
        order = "ascending" if numeric else "alphabetical"
        return (
            f"What are the {len(self.values)} access codes of the {self.name}? "
            f"Write all of them in {order} order, separated by commas."
        )


def make_keys(dice: Dice, options: NeedleOptions, questions: int) -> tuple[list[Key], list[Key]]:
    """The keys that are asked for, and the distractors; all names and all values differ.

    Args:
        dice: The source of randomness.
        options: The options of the world.
        questions: Number of questions, which ``kind="multi_query"`` replaces by ``needles``.
    """
    values_each = options.count if options.kind == "multi_value" else 1
    asked = options.count if options.kind == "multi_query" else questions
    names = _names(dice, asked, options.others)
    values = iter(_values(dice, options.value_type, asked * values_each + options.others))
    keys = [Key(name, tuple(next(values) for _ in range(values_each))) for name in names[:asked]]
    return keys, [Key(name, (next(values),)) for name in names[asked:]]


def _names(dice: Dice, asked: int, others: int) -> list[str]:
    """Names for the keys asked for, then for the others, which share a word with one asked for as far as possible."""
    names = dice.shuffled(_PAIRS)[:asked]
    taken, words = set(names), {word for name in names for word in name.split()}
    near = dice.shuffled(pair for pair in _PAIRS if not words.isdisjoint(_WORDS[pair]) and pair not in taken)[:others]
    return [*names, *near, *dice.shuffled(set_aside(_PAIRS, names, near))[: others - len(near)]]


def set_aside(pairs: Sequence[str], *taken: list[str]) -> list[str]:
    """The pairs that are in none of the lists."""
    gone = {name for names in taken for name in names}
    return [pair for pair in pairs if pair not in gone]


def _values(dice: Dice, value_type: str, count: int) -> list[str]:
    made: dict[str, None] = {}
    while len(made) < count:
        made.setdefault(_value(dice, value_type))
    return list(made)


def _value(dice: Dice, value_type: str) -> str:
    if value_type == "numbers":
        return str(dice.between(1_000_000, 9_999_999))
    if value_type == "words":
        return "".join(dice.pick(_CONSONANTS) + dice.pick(_VOWELS) for _ in range(4))
    digits = "".join(f"{dice.below(16):x}" for _ in range(32))
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
