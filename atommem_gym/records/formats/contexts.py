"""What is read of a context, one stream with many questions (SPEC E14), whatever its shape."""

from __future__ import annotations

from dataclasses import dataclass

from atommem_gym.records.record import Record


@dataclass(frozen=True, slots=True)
class ParsedContext:
    """The questions of one context; all have the same documents."""

    records: tuple[Record, ...]
    unresolved: tuple[str, ...] = ()
    """Evidence that names nothing in the context: the question's id, and what was named."""
    contradictory: tuple[str, ...] = ()
    """Questions whose labels contradict each other or those of the same question asked again: the ids, and how."""
