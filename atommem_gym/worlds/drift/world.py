"""The entities of one item, their facts, and all notices about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from math import ceil
from typing import Final

from atommem_gym.records.record import Document
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.drift import phrases
from atommem_gym.worlds.drift.attributes import ATTRIBUTES, Attribute
from atommem_gym.worlds.drift.history import (
    CHANGED,
    CORRECTED,
    DAYS_A_NOTICE,
    HEARSAY,
    STATED,
    WITHDRAWN,
    Fact,
    Said,
    tell,
)
from atommem_gym.worlds.drift.options import DriftOptions
from atommem_gym.worlds.synthetic.names import Names

MOST_ENTITIES: Final = 10
"""Most entities at the same time if ``entities=None``."""
_KINDS: Final = ("museum", "institute", "company")
_COUNTED: Final = ("count", "known")
"""Kinds of questions that may be asked about a fact that never changes."""


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """One document of the stream, before the order of notices of one day is decided."""

    day: int
    """Days since the world began."""
    document: Document
    """Title and text."""
    said: Said | None = None
    """What it says about a fact; ``None`` for small talk and closings."""


@dataclass(slots=True, eq=False)
class Entity:
    """An institution from its opening to its closing."""

    name: str
    """Its name, the title of its notices."""
    begin: int
    """The day of its opening."""
    end: int
    """The day of its closing, or the end of the stream."""
    closes: bool
    """Whether it closes before the end of the stream."""
    facts: list[Fact] = field(default_factory=list)
    """Its facts."""


@dataclass(frozen=True, slots=True)
class DriftPlan:
    """How many entities, facts and notices of each kind an item has; computed from the options alone."""

    entities: int
    """Entities at the same time."""
    closings: int
    """Entities that close."""
    facts: int
    """Facts of all entities."""
    kinds: dict[str, int]
    """Number of facts by kind of question."""
    corrections: int
    """Corrections."""
    hearsay: int
    """Notices of hearsay."""
    most_notices: int
    """Most notices without small talk; the first document counts as one."""


def plan(options: DriftOptions, entities: int) -> DriftPlan:
    """The plan with ``entities`` entities at the same time."""
    closings = round(options.turnover * entities)
    facts = (entities + closings) * options.attributes
    kinds = _apportioned(options.question_kinds, facts)
    corrections = round(options.corrections * facts)
    hearsay = round(options.hearsay * facts) if options.sources > 1 else 0
    changes = sum(_most_changes(kind, number, options.changes_per_fact) for kind, number in kinds.items())
    most = 1 + closings + facts + changes + kinds.get("known", 0) + corrections + hearsay
    return DriftPlan(entities, closings, facts, kinds, corrections, hearsay, most)


def largest_plan(options: DriftOptions, num_docs: int) -> DriftPlan | None:
    """The plan with the most entities whose notices leave room for distractors; ``None`` if even one does not fit."""
    room = int(num_docs * (1 - options.distractors))
    plans = (plan(options, entities) for entities in range(MOST_ENTITIES, 0, -1))
    return next((one for one in plans if one.most_notices <= room), None)


class DriftWorld:
    """Everything that happens in one item; it depends only on the dice."""

    def __init__(self, dice: Dice, split: str, options: DriftOptions, plan: DriftPlan, num_docs: int) -> None:
        self._dice = dice
        self._options = options
        self._plan = plan
        most_lives = ceil(plan.closings / plan.entities) + 1
        self.days: Final = max(DAYS_A_NOTICE * num_docs, 4 * most_lives * (options.changes_per_fact + 4))
        self._first_day = date(2021, 1, 1) + timedelta(dice.below(9000))
        self.papers = dice.shuffled(phrases.PAPERS)[: options.sources]
        """The newspapers, the trusted one first."""
        names = Names(dice, split)
        attributes = ATTRIBUTES[: options.attributes]
        self._pools: dict[Attribute, Sequence[str]] = {one: one.values(dice, names) for one in attributes}
        self.entities = self._lives(names)
        self._live(attributes)
        self.notices = self._notices()

    def date(self, day: int) -> date:
        """The date of a day."""
        return self._first_day + timedelta(day)

    @property
    def rules(self) -> Document:
        """The first document of the stream."""
        return Document(phrases.RULES_TITLE, phrases.rules(self.papers[0], self.papers[1:]))

    def alive(self) -> list[Entity]:
        """The entities that are open at the end."""
        return [entity for entity in self.entities if not entity.closes]

    def small_talk(self, dice: Dice) -> Notice:
        """A notice without a fact, about an entity that is open on that day."""
        day = dice.below(self.days)
        entity = dice.pick([one for one in self.entities if one.begin <= day < one.end])
        sentence = phrases.small_talk(entity.name, dice.below(100), dice.between(2, 99))
        return self._print(entity.name, dice.pick(self.papers), day, sentence)

    def _lives(self, names: Names) -> list[Entity]:
        """The entities: in each place of the plan one after the other."""
        dice, places = self._dice, self._plan.entities
        closings = [self._plan.closings // places] * places
        for place in dice.shuffled(range(places))[: self._plan.closings % places]:
            closings[place] += 1
        entities: list[Entity] = []
        for count in closings:
            step = self.days / (count + 1)
            # Each closing is moved by up to a quarter of a life.
            ends = [int(step * (i + 1 + (dice.random() - 0.5) / 2)) for i in range(count)]
            for begin, end in zip([0, *ends], [*ends, self.days], strict=True):
                like = dice.pick(entities).name if entities and dice.chance(0.3) else None
                name = names.title(dice.pick(_KINDS), like)
                entities.append(Entity(name, begin, end, closes=end < self.days))
        return entities

    def _live(self, attributes: Sequence[Attribute]) -> None:
        """Give each entity its facts, and each fact its history."""
        dice, plan = self._dice, self._plan
        asked = dice.shuffled(kind for kind, number in plan.kinds.items() for _ in range(number))
        rooms = {kind: iter(_changes(dice, kind, number, self._options)) for kind, number in plan.kinds.items()}
        corrections = dice.shuffled(i < plan.corrections for i in range(plan.facts))
        hearsay = dice.shuffled(i < plan.hearsay for i in range(plan.facts))
        places = [(entity, attribute) for entity in self.entities for attribute in attributes]
        for (entity, attribute), kind, corrects, heard in zip(places, asked, corrections, hearsay, strict=True):
            fact = Fact(entity.name, attribute, kind, next(rooms[kind]))
            life, distance = (entity.begin, entity.end), self._options.distance
            tell(fact, dice, self._pools[attribute], life, distance, correction=corrects, hearsay=heard)
            entity.facts.append(fact)

    def _notices(self) -> list[Notice]:
        notices: list[Notice] = []
        for entity in self.entities:
            for fact in entity.facts:
                notices += [self._on_fact(fact, one) for one in fact.said]
            if entity.closes:
                notices.append(self._print(entity.name, self.papers[0], entity.end, phrases.closed(entity.name)))
        return notices

    def _on_fact(self, fact: Fact, said: Said) -> Notice:
        name, attribute, day = fact.entity, fact.attribute, self.date(said.day)
        value, variant = said.value or "", self._dice.below(100)
        paper = self._dice.pick(self.papers[1:]) if said.kind == HEARSAY else self.papers[0]
        sentence = {
            STATED: lambda: phrases.stated(attribute, name, value, variant),
            CHANGED: lambda: phrases.changed(attribute, name, value, day, variant),
            HEARSAY: lambda: phrases.changed(attribute, name, value, day, variant),
            CORRECTED: lambda: phrases.corrected(attribute, name, value, self.date(said.corrects)),
            WITHDRAWN: lambda: phrases.withdrawn(attribute, name, day),
        }[said.kind]()
        return self._print(name, paper, said.day, sentence, said)

    def _print(self, name: str, paper: str, day: int, sentence: str, said: Said | None = None) -> Notice:
        return Notice(day, Document(name, phrases.notice(paper, self.date(day), sentence)), said)


def _apportioned(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Integers that add up to ``total`` and approximate the shares (largest remainders)."""
    exact = {name: share * total for name, share in shares.items()}
    counts = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(exact, key=lambda name: counts[name] - exact[name])
    for name in by_remainder[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _least_changes(kind: str) -> int:
    return 0 if kind in _COUNTED else 1


def _most_changes(kind: str, number: int, most: int) -> int:
    least = _least_changes(kind)
    return sum(min(most, least + (i + 1) * (most - least + 1) // number) for i in range(number))


def _changes(dice: Dice, kind: str, number: int, options: DriftOptions) -> list[int]:
    """How often each of ``number`` facts is superseded; all counts are about equally frequent."""
    least = _least_changes(kind)
    span = options.changes_per_fact - least + 1
    return dice.shuffled(least + int((i + dice.random()) * span / number) for i in range(number))
