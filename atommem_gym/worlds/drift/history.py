"""The life of one fact: what is said of it, and what therefore holds when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.drift.attributes import Attribute

STATED, CHANGED, CORRECTED, WITHDRAWN, HEARSAY = "stated", "changed", "corrected", "withdrawn", "hearsay"
DAYS_A_NOTICE: Final = 3
"""How time passes: a notice every so many days."""


@dataclass(slots=True, eq=False)
class Said:
    """One notice on a fact."""

    kind: str
    day: int
    """Days since the world began."""
    value: str | None
    """``None`` where the value is withdrawn."""
    corrects: int = -1
    """The day of the notice that is corrected."""


@dataclass(slots=True)
class Period:
    """A span of days in which one value holds, by all that is known in the end."""

    begin: int
    value: str | None
    decided_by: Said


@dataclass(slots=True, eq=False)
class Fact:
    """An attribute of an entity, and all that is said of it in the order of time."""

    entity: str
    attribute: Attribute
    asked: str
    """How it is asked for, if it is."""
    changes: int
    """How often it is superseded."""
    said: list[Said] = field(default_factory=list)

    @property
    def periods(self) -> list[Period]:
        """What holds from when on: hearsay counts for nothing, a correction replaces what it corrects."""
        periods: list[Period] = []
        for one in self.said:
            if one.kind == CORRECTED:
                periods[-1] = Period(periods[-1].begin, one.value, one)
            elif one.kind != HEARSAY:
                periods.append(Period(one.day, one.value, one))
        return periods


def tell(
    fact: Fact,
    dice: Dice,
    pool: Sequence[str],
    life: tuple[int, int],
    distance: int | None,
    *,
    correction: bool,
    hearsay: bool,
) -> None:
    """Fill in what is said of a fact on different days of ``life``, ``[begin, end)``; no value comes twice."""
    kinds = [STATED, *[CHANGED] * fact.changes]
    if correction:
        kinds.insert(dice.between(1, len(kinds)), CORRECTED)
    if fact.asked == "known":
        kinds.append(WITHDRAWN)
    if hearsay:
        kinds.insert(dice.between(1, len(kinds)), HEARSAY)
    values = iter(dice.shuffled(pool)[: len(kinds)])
    latest = -1
    for kind, day in zip(kinds, days(dice, len(kinds), life, distance), strict=True):
        value = None if kind == WITHDRAWN else next(values)
        fact.said.append(Said(kind, day, value, latest if kind == CORRECTED else -1))
        if kind in (STATED, CHANGED):
            latest = day


def days(dice: Dice, count: int, life: tuple[int, int], distance: int | None) -> list[int]:
    """``count`` different days of a life in ascending order, about ``distance`` notices apart if that is given."""
    begin, end = life
    room = end - begin - count
    if room < 0:
        raise ValueError(f"{count} notices do not fit {end - begin} days")
    if distance is None:
        # Different days are sorted days that are no longer different, each moved on by its rank.
        free = sorted(dice.below(room + 1) for _ in range(count))
    else:
        gaps = [dice.between((distance + 1) // 2, distance + distance // 2) for _ in range(count - 1)]
        span = DAYS_A_NOTICE * sum(gaps)
        scale = min(1.0, room / span) if span else 1.0
        first = dice.below(room - int(span * scale) + 1)
        free, reached = [first], 0
        for gap in gaps:
            reached += gap
            free.append(first + int(DAYS_A_NOTICE * reached * scale))
    return [begin + day + rank for rank, day in enumerate(free)]
