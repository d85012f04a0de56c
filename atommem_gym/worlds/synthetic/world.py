"""The growing world of one item: makes entities with consistent dates, and decides the facts in their documents."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from math import floor
from typing import Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.entities import CREATOR_OF, ENTITY_KINDS, OTHER_ROLES, ROLES, YEAR_OF, Entity, Value
from atommem_gym.worlds.synthetic.names import Names

# Relation, kind of its object, probability that a document states it.
OPTIONAL: Final[dict[str, tuple[tuple[str, str, float], ...]]] = {
    "person": (
        ("born_in", "town", 0.9),
        ("studied_at", "institute", 0.6),
        ("moved_to", "town", 0.35),
        ("spouse", "person", 0.35),
        ("father", "person", 0.15),
        ("mother", "person", 0.15),
    ),
    "town": (("located_in", "region", 1.0), ("on_river", "river", 0.7), ("population", "", 0.6)),
    "region": (("capital", "town", 1.0),),
    "river": (("rises_in", "region", 0.9), ("length", "", 1.0)),
    "company": (("head_office", "town", 0.95), ("factory_in", "town", 0.4)),
    "institute": (("seated_in", "town", 1.0), ("students", "", 0.5)),
    "film": (
        ("based_on", "novel", 0.25),
        ("shot_in", "town", 0.6),
        ("premiered_in", "town", 0.3),
        ("running_time", "", 0.4),
    ),
    "novel": (("set_in", "town", 0.7), ("pages", "", 0.35)),
    "band": (("formed_in", "town", 0.95), ("members", "person", 0.8)),
    "museum": (("stands_in", "town", 1.0),),
}
NUMBERS: Final[dict[str, tuple[int, int]]] = {
    "population": (2_100, 640_000),
    "length": (41, 890),
    "students": (900, 31_000),
    "running_time": (78, 171),
    "pages": (140, 720),
}
_OWN_WAYS: Final = frozenset({*NUMBERS, "spouse", "father", "mother", "based_on", "members", "capital"})
"""Relations whose value is not simply an entity that was mentioned before."""
YEARS: Final[dict[str, tuple[int, int]]] = {
    "person": (1890, 1965),
    "film": (1925, 2010),
    "novel": (1925, 2010),
    "company": (1920, 2005),
    "institute": (1690, 1805),
    "town": (1090, 1780),
    "band": (1962, 2012),
}
"""Range of years of each kind; a work whose date is not prescribed gets one some decades after its maker's."""
_WITH_ARTICLE: Final = ("river", "museum")
FRESH: Final = {"region": 0.06, "river": 0.1, "town": 0.22, "institute": 0.15}
MOST_FACTS: Final = 6
"""Most facts of an entity; its document has a lead and at most one sentence per fact."""
RECENT: Final = 10
"""A mention chooses among this many latest entities; with all of them the oldest would be mentioned most."""
OTHERWISE_FRESH: Final = 0.35
"""Share of mentions of a new entity; it keeps mentions per entity about constant, whatever the stream's length."""


class SyntheticWorld:
    """All entities of one item; they depend only on the dice."""

    def __init__(self, dice: Dice, split: str) -> None:
        self.dice = dice
        self.names = Names(dice, split)
        self.pools: dict[str, list[Entity]] = {kind: [] for kind in (*ENTITY_KINDS, *ROLES.values())}
        self.waiting: deque[Entity] = deque()
        """Entities that were mentioned and have no document yet, oldest first."""
        self.closed: set[tuple[str, Entity]] = set()
        """``(relation, object)`` pairs that a question inverts; no other document may state them."""

    def make(
        self,
        kind: str,
        *,
        like: Entity | None = None,
        year: int | None = None,
        role: str = "",
        creator: Entity | None = None,
    ) -> Entity:
        """Make a new entity, with its creator if its kind has one.

        Args:
            kind: One of ``ENTITY_KINDS``, or ``"person"``.
            like: The name resembles that of this entity.
            year: The year in which it begins; ``None`` draws one.
            role: For a person, the occupation; ``""`` draws one.
            creator: For a work, its creator; ``None`` takes or makes one.
        """
        if kind == "person":
            return self._person(role, year, like)
        dice = self.dice
        title = self.names.title(kind, like.title if like is not None else None)
        entity = Entity(kind, title, f"the {title}" if kind in _WITH_ARTICLE else title)
        relation = CREATOR_OF.get(kind)
        if relation is not None:
            if creator is None and year is None:
                creator = self.mention(relation, "person")
            if creator is None:
                assert year is not None
                creator = self.make("person", role=ROLES[relation], year=year - dice.between(27, 55))
                self.add(creator)
                self.waiting.append(creator)
            entity.year = year if year is not None else creator.year + dice.between(27, 55)
            entity.facts[relation] = creator
        elif kind in YEAR_OF:
            entity.year = year if year is not None else dice.between(*YEARS[kind])
        if kind in YEAR_OF:
            entity.facts[YEAR_OF[kind]] = entity.year
        return entity

    def _person(self, role: str, year: int | None, like: Entity | None) -> Entity:
        dice = self.dice
        female = dice.chance(0.5)
        given = surname = None
        if like is not None:
            if dice.chance(0.6):
                surname = like.surname
            else:
                given, female = like.given, like.female
        given, surname = self.names.person(female, surname, given)
        name = f"{given} {surname}"
        if year is None:
            year = dice.between(*YEARS["person"])
        role = role or dice.pick(OTHER_ROLES)
        return Entity("person", name, name, year, role, female, given, surname, {"born": year})

    def relative(self, person: Entity, relation: str) -> Entity:
        """Make a spouse, father or mother of ``person``, who is related to nobody else; a father shares the surname."""
        dice = self.dice
        female = not person.female if relation == "spouse" else relation == "mother"
        surname = person.surname if relation == "father" else None
        given, surname = self.names.person(female, surname)
        name = f"{given} {surname}"
        year = person.year + (dice.between(-6, 6) if relation == "spouse" else dice.between(-41, -21))
        role = dice.pick(OTHER_ROLES)
        return Entity("person", name, name, year, role, female, given, surname, {"born": year}, ("spouse",))

    def settle(self) -> None:
        """Make some towns, regions, rivers and institutes, so that the first question can mention some."""
        for kind, number in (("town", 6), ("region", 3), ("river", 3), ("institute", 3)):
            for _ in range(number):
                self._found(kind)

    def _found(self, kind: str, role: str = "") -> Entity:
        entity = self.make(kind, role=role)
        self.pools[role or kind].append(entity)
        self.waiting.append(entity)
        return entity

    def add(self, entity: Entity) -> None:
        """Allow later documents to mention ``entity``."""
        pool = entity.role if entity.kind == "person" else entity.kind
        if pool in self.pools:
            self.pools[pool].append(entity)

    def mention(self, relation: str, kind: str, avoid: Entity | None = None) -> Entity:
        """An object for ``relation``: a recent entity of ``kind`` other than ``avoid``, or a new one."""
        role = ROLES.get(relation, "")
        pool, random = self.pools[role or kind], self.dice.random
        if pool and random() >= FRESH.get(kind, OTHERWISE_FRESH):
            recent = min(len(pool), RECENT)
            for _ in range(4):
                entity = pool[-1 - floor(random() * recent)]
                if entity is not avoid and (relation, entity) not in self.closed:
                    return entity
        return self._found(kind, role)

    def value(self, entity: Entity, relation: str, kind: str, avoid: Entity | None = None) -> Value:
        """A value for the fact ``relation`` of ``entity``, which has none yet; ``kind`` is the kind of its object."""
        if relation not in _OWN_WAYS:
            return self.mention(relation, kind, avoid)
        if relation in NUMBERS:
            low, high = NUMBERS[relation]
            # Squared, so that small towns are commoner than large ones; a product is the same on every platform.
            share = self.dice.random()
            return low + int((high - low) * share * share)
        if relation in ("spouse", "father", "mother"):
            return self.relative(entity, relation)
        if relation == "based_on":
            return self._novel_before(entity.year)
        if relation == "members":
            return tuple(self.member(entity) for _ in range(self.dice.between(2, 4)))
        town = self.make("town")
        town.facts["located_in"] = entity
        self.waiting.append(town)
        self.add(town)
        return town

    def _novel_before(self, year: int) -> Entity:
        earlier = [novel for novel in self.pools["novel"][-12:] if novel.year < year]
        if earlier and self.dice.chance(0.6):
            return self.dice.pick(earlier)
        novel = self.make("novel", year=year - self.dice.between(2, 15))
        self.add(novel)
        self.waiting.append(novel)
        return novel

    def member(self, band: Entity) -> Entity:
        """Make a musician of a suitable age for ``band``."""
        return self.make("person", role="musician", year=band.year - self.dice.between(18, 33))

    def complete(self, entity: Entity) -> None:
        """Decide the optional facts that the document of ``entity`` states."""
        facts, barred, random = entity.facts, entity.barred, self.dice.random
        latest: Entity | None = None
        for relation, kind, probability in OPTIONAL[entity.kind]:
            if relation in facts or relation in barred or random() >= probability or len(facts) >= MOST_FACTS:
                continue
            if kind != "town":
                facts[relation] = self.value(entity, relation, kind)
            else:
                # Two facts about the same town in one document would look like a mistake.
                value = self.value(entity, relation, kind, latest or _first_town(facts))
                assert isinstance(value, Entity)
                facts[relation] = latest = value

    def next_filler(self) -> Entity:
        """The next entity for a random document: mostly one that was mentioned and has no document yet."""
        dice = self.dice
        while self.waiting and dice.chance(0.75):
            entity = self.waiting.popleft()
            if not entity.documented:
                return entity
        entity = self.make(dice.pick(_FILLER_KINDS), role=dice.pick(_FILLER_ROLES))
        self.add(entity)
        return entity


def _first_town(facts: Mapping[str, Value]) -> Entity | None:
    for value in facts.values():
        if isinstance(value, Entity) and value.kind == "town":
            return value
    return None


_FILLER_KINDS: Final = (
    "person",
    "person",
    "town",
    "company",
    "film",
    "film",
    "novel",
    "band",
    "institute",
    "museum",
    "river",
)
_FILLER_ROLES: Final = (*ROLES.values(), "")
