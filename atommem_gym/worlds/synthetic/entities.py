"""The entities of a synthetic world, of ten kinds, with the facts that their documents state."""

from __future__ import annotations

from typing import Final, TypeAlias, Union

from msgspec import Struct, field

ENTITY_KINDS: Final = ("person", "town", "region", "river", "company", "institute", "film", "novel", "band", "museum")

ROLES: Final[dict[str, str]] = {
    "directed_by": "film director",
    "written_by": "novelist",
    "founded_by": "industrialist",
    "designed_by": "architect",
    "members": "musician",
}
"""The occupation of the people that a relation points to."""

OTHER_ROLES: Final = (
    "botanist",
    "physician",
    "geologist",
    "playwright",
    "painter",
    "chess player",
    "mountaineer",
    "judge",
)

YEAR_OF: Final[dict[str, str]] = {
    "person": "born",
    "film": "released",
    "novel": "published",
    "company": "founded",
    "institute": "opened",
    "town": "chartered",
    "band": "formed",
    "museum": "inaugurated",
}
"""The relation that holds an entity's year, by kind."""

CREATOR_OF: Final[dict[str, str]] = {
    "film": "directed_by",
    "novel": "written_by",
    "company": "founded_by",
    "museum": "designed_by",
}
"""The relation to the one person who made an entity, by kind."""

Value: TypeAlias = Union["Entity", int, tuple["Entity", ...]]


class Entity(Struct, eq=False):
    """One entity of the world; ``facts`` are exactly the facts that its document states."""

    kind: str
    title: str
    ref: str
    """Its name within a sentence."""
    year: int = 0
    role: str = ""
    female: bool = False
    given: str = ""
    surname: str = ""
    facts: dict[str, Value] = field(default_factory=dict)
    barred: tuple[str, ...] = ()
    """Relations that its document must not state, since another document states the inverse."""
    documented: bool = False

    def __repr__(self) -> str:
        return f"<{self.kind} {self.title}>"


def shown(value: Value, relation: str = "") -> str:
    """The value of a fact as an answer: a title, a year, or a number with thousands separators."""
    if isinstance(value, Entity):
        return value.title
    if isinstance(value, tuple):
        return ", ".join(member.title for member in value)
    return f"{value:,}" if relation in ("population", "students") else str(value)


def aliases(entity: Entity) -> tuple[str, ...]:
    """Other accepted names of ``entity``."""
    first, _, rest = entity.title.partition(" ")
    if entity.kind == "river":
        return (rest, f"{rest} River")
    if entity.kind == "museum":
        return (f"{first} Museum",)
    if entity.kind == "person":
        return (f"{rest}, {first}",)
    if entity.kind in ("company", "institute"):
        return (first,)
    if entity.kind == "town":
        return (f"town of {entity.title}",)
    return ()
