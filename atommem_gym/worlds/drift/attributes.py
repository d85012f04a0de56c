"""The six attributes of an institution that facts are about, each with a pool of values that differs by item."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.names import Names

POOL: Final = 40
"""Values of an attribute in one item; many facts share the pool, so that no value stands out."""
_STREETS: Final = (
    *("Alder Row", "Bakers Lane", "Canal Street", "Dyers Yard", "Elm Avenue", "Foundry Road", "Garden Walk"),
    *("Harbour Steps", "Ivy Lane", "Juniper Court", "Kiln Street", "Linden Square", "Mill Road", "North Quay"),
)


@dataclass(frozen=True, slots=True)
class Attribute:
    """One kind of fact."""

    name: str
    """The name in a sentence, as in "the director of …"."""
    person: bool
    """Whether values are names of people."""
    values: Callable[[Dice, Names], list[str]]
    """Makes ``POOL`` different values."""

    @property
    def who(self) -> str:
        """The first word of a question."""
        return "Who" if self.person else "What"


def _people(dice: Dice, names: Names) -> list[str]:
    return [" ".join(names.person(dice.chance(0.5))) for _ in range(POOL)]


def _distinct(make: Callable[[], str]) -> list[str]:
    found: dict[str, None] = {}
    while len(found) < POOL:
        found.setdefault(make())
    return list(found)


def _addresses(dice: Dice, names: Names) -> list[str]:
    return _distinct(lambda: f"{dice.between(1, 98)} {dice.pick(_STREETS)}")


def _telephones(dice: Dice, names: Names) -> list[str]:
    return _distinct(lambda: f"{dice.between(200, 989)} {dice.between(1000, 9999)}")


def _fees(dice: Dice, names: Names) -> list[str]:
    return _distinct(lambda: f"{dice.between(3, 99)} crowns")


ATTRIBUTES: Final = (
    Attribute("director", True, _people),
    Attribute("address", False, _addresses),
    Attribute("treasurer", True, _people),
    Attribute("admission fee", False, _fees),
    Attribute("caretaker", True, _people),
    Attribute("telephone number", False, _telephones),
)
