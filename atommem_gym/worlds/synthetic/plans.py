"""The plan of a question, made before any document is written: its logical form, its gold facts and its text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from atommem_gym.worlds.synthetic.entities import Entity

Path: TypeAlias = tuple[str, ...]
"""Relations to follow one after the other; ``~r`` follows ``r`` backwards, from object to subjects."""


@dataclass(frozen=True, slots=True)
class Named:
    """The entity with this title."""

    title: str
    """The title."""


@dataclass(frozen=True, slots=True)
class Follow:
    """The entities or values to which ``path`` leads from ``start``."""

    start: Query
    """The query for the start."""
    path: Path
    """The relations."""


@dataclass(frozen=True, slots=True)
class Where:
    """All entities from which each path leads to a result of its query."""

    conditions: tuple[tuple[Path, Query], ...]
    """Pairs of a path and a query."""


@dataclass(frozen=True, slots=True)
class Extreme:
    """The entity among ``titles`` with the largest or smallest number at the end of ``path``."""

    titles: tuple[str, str]
    """The two titles."""
    path: Path
    """The relations."""
    largest: bool
    """Whether the largest number is asked for."""


@dataclass(frozen=True, slots=True)
class Same:
    """``yes`` if ``path`` leads from both titles to the same value, otherwise ``no``."""

    titles: tuple[str, str]
    """The two titles."""
    path: Path
    """The relations."""


Query: TypeAlias = Named | Follow | Where | Extreme | Same
"""The logical form of a question; evaluated over all facts of an item it gives exactly the answer."""


@dataclass(slots=True)
class QuestionPlan:
    """A question and the facts that its documents must state."""

    type: str
    """The question type."""
    question: str
    """The text of the question."""
    answer: str
    """The answer."""
    query: Query
    """The logical form."""
    hops: list[tuple[Entity, str]]
    """Gold facts as (subject, relation), in the order of reasoning."""
    near: list[Entity] = field(default_factory=list)
    """Entities that satisfy a part of the question; they must be among its distractors."""
    goal: Entity | None = None
    """The entity that is the answer; ``None`` if the answer is not an entity."""
    options: tuple[str, ...] = ()
    """Answers that the question offers; empty if it offers none."""

    @property
    def gold(self) -> list[Entity]:
        """The entities whose documents are gold, each once, in the order of reasoning."""
        return list(dict.fromkeys(entity for entity, _ in self.hops))
