"""The history of one fact: what is said about it, and which value therefore holds when."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.drift.attributes import Attribute

STATED, CHANGED, CORRECTED, WITHDRAWN, HEARSAY = "stated", "changed", "corrected", "withdrawn", "hearsay"
DAYS_A_NOTICE: Final = 3
"""Average days between two notices."""


@dataclass(slots=True, eq=False)
class Said:
    """One notice about a fact."""

    kind: str
    """One of the five kinds above."""
    day: int
    """Days since the world began."""
    value: str | None
    """The value; ``None`` if it is withdrawn."""
    corrects: int = -1
    """The day of the notice that this one corrects; -1 if it corrects none."""


@dataclass(slots=True)
class Period:
    """A span of days in which one value holds, according to all notices."""

    begin: int
    """The first day."""
    value: str | None
    """The value; ``None`` if it is not known."""
    decided_by: Said
    """The notice that says so."""


@dataclass(slots=True, eq=False)
class Fact:
    """An attribute of an entity, and all notices about it in the order of time."""

    entity: str
    """The name of the entity."""
    attribute: Attribute
    """The attribute."""
    asked: str
    """The kind of question for this fact, if it is asked about."""
    changes: int
    """How often its value is superseded."""
    said: list[Said] = field(default_factory=list)
    """The notices."""

    @property
    def periods(self) -> list[Period]:
        """The periods of its values: hearsay is ignored, a correction replaces what it corrects."""
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
    """Fill in the notices about a fact, on different days and with different values.

    Args:
        fact: The fact, without notices.
        dice: The source of randomness.
        pool: The values of its attribute.
        life: The days ``[begin, end)`` on which notices may appear.
        distance: Approximate notices of the stream between two on the fact; ``None`` spreads them over ``life``.
        correction: Whether one notice is corrected.
        hearsay: Whether one notice is hearsay.
    """
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
    """``count`` different days of ``life`` in ascending order, about ``distance`` notices apart unless ``None``.

    Raises:
        ValueError: ``life`` has fewer days.
    """
    begin, end = life
    room = end - begin - count
    if room < 0:
        raise ValueError(f"{count} notices do not fit {end - begin} days")
    if distance is None:
        # Sorted days that may be equal become different when each is moved on by its rank.
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
