"""The options of the drift family, and how ``difficulty=`` sets them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from atommem_gym.config import EnvConfig
from atommem_gym.records.layout import check_questions
from atommem_gym.worlds.checks import check_integers, check_shares, kinds_by_share
from atommem_gym.worlds.drift.attributes import ATTRIBUTES
from atommem_gym.worlds.drift.phrases import PAPERS

QUESTION_KINDS: Final = ("latest", "as_of", "count", "known")
"""Kinds of questions: the latest value, the value on a date, the number of changes, a value no longer known."""
_SHARES: Final = {"latest": 0.45, "as_of": 0.2, "count": 0.2, "known": 0.15}


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftOptions:
    """Keyword arguments of ``AtomMem-Drift-v0`` besides those of all environments.

    Raises:
        ConfigError: a value is out of its range.
    """

    entities: int | None = None
    """Entities at the same time; ``None``: as many as the notices allow, at most 10."""
    attributes: int = 2
    """Facts per entity, 1 to 6."""
    changes_per_fact: int = 4
    """Most changes of a fact, 1 to 12; facts asked for by ``count`` or ``known`` may have none, others have one."""
    distance: int | None = None
    """Approximate notices between two about the same fact; ``None``: spread over the entity's whole life."""
    distractors: float = 0.2
    """Least share of notices about which nothing is asked; used where ``entities`` is ``None``."""
    sources: int = 2
    """Newspapers, 1 to 5: one is trusted, the others report only hearsay."""
    hearsay: float = 0.3
    """Share of facts that an untrusted newspaper contradicts once."""
    corrections: float = 0.25
    """Share of facts of which one notice is corrected, with effect from the date of that notice."""
    turnover: float = 0.5
    """Entities that close and are replaced by new ones, as a share of the entities at the same time."""
    question_kinds: Mapping[str, float] = field(default_factory=lambda: dict(_SHARES))
    """Shares of ``latest``, ``as_of``, ``count`` and ``known``; they are divided by their sum."""

    def __post_init__(self) -> None:
        check_integers(self, attributes=(1, len(ATTRIBUTES)), changes_per_fact=(1, 12), sources=(1, len(PAPERS)))
        if self.entities is not None:
            check_integers(self, entities=(1, 1000))
        if self.distance is not None:
            check_integers(self, distance=(1, 1_000_000))
        check_shares(self, distractors=0.9, hearsay=1.0, corrections=1.0, turnover=4.0)
        object.__setattr__(self, "question_kinds", kinds_by_share(self.question_kinds, QUESTION_KINDS, _SHARES))


def at_difficulty(difficulty: float, config: EnvConfig) -> dict[str, Any]:
    """What ``difficulty=`` sets: a longer stream, more changes further apart, more noise, hearsay and turnover.

    Difficulty 1 gives the defaults.
    """
    top = DriftOptions()
    least = min(config.num_docs, 40 + 12 * check_questions(config.questions_per_episode)[1])
    length = least + round(difficulty * (config.num_docs - least))
    changes = 1 + round(difficulty * (top.changes_per_fact - 1))
    return {
        "num_docs": length,
        "changes_per_fact": changes,
        "distance": None if difficulty == 1 else 2 + int(difficulty * length / (2 * changes)),
        "distractors": top.distractors * difficulty,
        "sources": 1 if difficulty < 0.5 else top.sources,
        "turnover": top.turnover * difficulty,
    }
