"""The result of parsing a context: one stream with many questions (SPEC E14)."""

from __future__ import annotations

from dataclasses import dataclass

from atommem_gym.records.record import Record


@dataclass(frozen=True, slots=True)
class ParsedContext:
    """The questions of one context, which all have the same documents."""

    records: tuple[Record, ...]
    """One record per question."""
    unresolved: tuple[str, ...] = ()
    """Evidence that does not exist in the context: the question's id, and the evidence named."""
    contradictory: tuple[str, ...] = ()
    """Questions whose labels contradict each other or those of the same question asked again: the ids, and how."""
