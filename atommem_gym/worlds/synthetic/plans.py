"""What a question is before any document is written: its logic, its gold facts and its words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from atommem_gym.worlds.synthetic.entities import Entity

Path: TypeAlias = tuple[str, ...]
"""Relations to follow one after the other; ``~r`` follows ``r`` from its object to its subjects."""


@dataclass(frozen=True, slots=True)
class Named:
    """The entity with this title."""

    title: str


@dataclass(frozen=True, slots=True)
class Follow:
    """What ``path`` leads to from ``start``."""

    start: Query
    path: Path


@dataclass(frozen=True, slots=True)
class Where:
    """Every entity from which each path leads to something that its query means."""

    conditions: tuple[tuple[Path, Query], ...]


@dataclass(frozen=True, slots=True)
class Extreme:
    """The one of ``titles`` whose number at the end of ``path`` is the largest or the smallest."""

    titles: tuple[str, str]
    path: Path
    largest: bool


@dataclass(frozen=True, slots=True)
class Same:
    """``yes`` if ``path`` leads from both titles to the same thing, else ``no``."""

    titles: tuple[str, str]
    path: Path


Query: TypeAlias = Named | Follow | Where | Extreme | Same
"""A question's logical form; evaluated over all facts of an item it gives exactly the answer."""


@dataclass(slots=True)
class QuestionPlan:
    """A question and what its documents must say."""

    type: str
    question: str
    answer: str
    query: Query
    hops: list[tuple[Entity, str]]
    """Gold facts as (subject, relation), in the order of reasoning."""
    near: list[Entity] = field(default_factory=list)
    """Entities that fulfil a part of the question: they must be among its distractors."""
    goal: Entity | None = None
    """The answer, where it is an entity."""
    options: tuple[str, ...] = ()

    @property
    def gold(self) -> list[Entity]:
        """The entities whose documents are gold, each once, in the order of reasoning."""
        return list(dict.fromkeys(entity for entity, _ in self.hops))
