"""A begun step with its I/O: what must be read, scored, embedded and stored."""

from __future__ import annotations

from dataclasses import dataclass, field

from atommem_gym.episode import Episode
from atommem_gym.memory.protocols import Vectors
from atommem_gym.step import Step


@dataclass(slots=True)
class EpisodeWithKey:
    """An episode and the key under which its entries are stored."""

    key: str
    """The key."""
    episode: Episode
    """The episode."""
    unsettled: set[int] | None = None
    """Ids that a failed step may have written or deleted in the store; ``None`` if store and memory agree."""


@dataclass(slots=True, eq=False)
class Job:
    """A begun step with its I/O; each stage of the I/O fills in its results."""

    running: EpisodeWithKey
    """The episode."""
    step: Step
    """The begun step."""
    texts: dict[int, str]
    """Texts of the entries to write, by id."""
    searches: bool
    """Whether there is a query and an entry that it could find."""
    writes: bool
    """Whether anything must be written or deleted."""
    scores: list[float] = field(default_factory=list)
    """The scores of ``step.requests``."""
    vectors: Vectors | None = None
    """The vectors of ``texts``, ``[len(texts), dim]``."""
    query: Vectors | None = None
    """The vector of the query, ``[dim]``."""
    in_part: dict[int | None, str] = field(default_factory=dict)
    """Reports of texts that were embedded in part, by entry id; ``None`` stands for the query."""
    hits: list[tuple[int, float]] = field(default_factory=list)
    """Ids and cosine similarities of the entries found, best first."""

    @property
    def read(self) -> bool:
        """Whether a frozen reader must answer questions before they are scored."""
        return bool(self.step.unread)

    @property
    def scored(self) -> bool:
        """Whether there are answers to score."""
        return bool(self.step.requests)

    @property
    def embedded(self) -> bool:
        """Whether there are texts or a query to embed."""
        return self.searches or bool(self.texts)

    @property
    def stored(self) -> bool:
        """Whether there is something to search, write or delete."""
        return self.searches or self.writes


def pending_writes(running: EpisodeWithKey, step: Step | None) -> dict[int, str]:
    """Texts of entries to write, by id: those of the step, and those that a failed step may have changed or deleted."""
    if step is None:
        texts, gone = {}, set()
    else:
        texts, gone = {i: entry.text for i, entry in step.draft.writes.items()}, set(step.draft.deletes)
    entries = running.episode.state.memory.entries
    for entry_id in (running.unsettled or set()) - texts.keys() - gone:
        if entry_id in entries:
            texts[entry_id] = entries[entry_id].text
    return texts


def pending_deletes(running: EpisodeWithKey, step: Step | None) -> list[int]:
    """Ids to delete, ascending: those of the step, and those that a failed step may have written."""
    if not running.unsettled:
        return [] if step is None else step.draft.deletes
    entries = running.episode.state.memory.entries
    written, gone = (set(), set()) if step is None else (set(step.draft.writes), set(step.draft.deletes))
    return sorted(gone | (running.unsettled - written - entries.keys()))
