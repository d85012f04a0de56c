"""The memory that a team shares: the author of each entry, and conflicts between changes of the same step."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from atommem_gym.errors import StoreError
from atommem_gym.memory.memory import Draft, Entry, Limits, Memory, Outcome
from atommem_gym.tokenizers import Tokenizer


@dataclass(frozen=True, slots=True)
class Conflict:
    """Two agents changed one entry in the same step; the one that came first in the agents' order was executed."""

    entry: int
    """Id of the entry."""
    kept: str
    """The agent whose change was executed."""
    rejected: str
    """The agent whose operation was rejected."""
    operation: str
    """The rejected operation: ``update`` or ``delete``."""

    @property
    def line(self) -> str:
        """The feedback of the agent whose change stands."""
        return (
            f"conflict on entry {self.entry}: your change stands, the {self.operation} of {self.rejected} was rejected"
        )

    def record(self) -> dict[str, Any]:
        """The conflict as an item of ``info["conflicts"]``."""
        return {"entry": self.entry, "kept": self.kept, "rejected": self.rejected, "operation": self.operation}


@dataclass(slots=True)
class TeamMemory(Memory):
    """The entries of the whole team with their authors.

    Each agent has a ``Memory`` over the same entries that holds its scratchpad; the ``scratchpad`` here stays empty.
    """

    authors: dict[int, str] = field(default_factory=dict)
    """The agent that wrote the current text, by id of live entry; entries that no team wrote are missing."""
    scratchpads: dict[str, str] = field(default_factory=dict)
    """Scratchpads by agent; a missing agent's scratchpad is empty."""

    def copy(self) -> TeamMemory:
        """An independent copy."""
        return TeamMemory(
            self.entries.copy(), self.next_id, self.scratchpad, self.authors.copy(), self.scratchpads.copy()
        )

    def of_member(self, name: str) -> Memory:
        """The memory as one agent sees it: the entries of the whole team and the agent's scratchpad."""
        return Memory(self.entries, self.next_id, self.scratchpads.get(name, ""))

    def kept_state(self, embedder: str) -> str:
        """The state with which, together with the entries, a kept database resumes this memory (SPEC M13)."""
        single = json.loads(Memory.kept_state(self, embedder))
        return json.dumps({**single, "team": {"authors": self.authors, "scratchpads": self.scratchpads}})

    @classmethod
    def from_single(cls, memory: Memory, state: str | None) -> TeamMemory:
        """The shared memory of a kept database.

        Args:
            memory: The kept entries; entries that no team wrote have no author.
            state: The ``kept_state`` stored with them; ``None`` without one.

        Raises:
            StoreError: what it says of a team cannot be read.
        """
        try:
            team: Mapping[str, Any] = json.loads(state or "{}").get("team", {})
            authors = {int(entry): name for entry, name in team.get("authors", {}).items()}
            scratchpads = dict(team.get("scratchpads", {}).items())
            if not all(isinstance(text, str) for text in (*authors.values(), *scratchpads.values())):
                raise TypeError("names and scratchpads must be texts")
        except (ValueError, TypeError, AttributeError, RecursionError) as error:
            raise StoreError(
                f"the state of the memory tells authors and scratchpads of its team that cannot be read "
                f"({error!r:.200}); nothing was written, and `atommem memory export` saves its entries"
            ) from error
        return cls(memory.entries, memory.next_id, "", authors, scratchpads)


class TeamDraft(Draft):
    """What the actions of a team do to the shared memory, decided but not yet executed."""

    def __init__(self, memory: TeamMemory, limits: Limits, tokenizer: Tokenizer) -> None:
        super().__init__(memory, limits, tokenizer)
        self._team = memory
        self._team_limits = limits
        self._team_tokenizer = tokenizer
        self.members: dict[str, MemberDraft] = {}
        self.changed: dict[int, str] = {}
        """The agent that created, updated or deleted an entry in this step, by id."""
        self.conflicts: list[Conflict] = []

    def of_member(self, name: str, memory: Memory) -> MemberDraft:
        """The draft through which one agent writes."""
        self.members[name] = MemberDraft(self, name, memory, self._team_limits, self._team_tokenizer)
        return self.members[name]

    @property
    def changes_kept_state(self) -> bool:
        """Whether :meth:`TeamMemory.kept_state` may differ after the commit."""
        scratchpads = any(member.changes_scratchpad for member in self.members.values())
        return super().changes_kept_state or bool(self.changed) or scratchpads

    def committed(self) -> TeamMemory:
        """The memory after the commit, without the entries."""
        scratchpads = self._team.scratchpads | {name: member.scratchpad for name, member in self.members.items()}
        return TeamMemory({}, super().committed().next_id, "", self._authors(), scratchpads)

    def commit(self) -> None:
        """Apply the draft to the shared memory and to every agent's scratchpad."""
        after = self.committed()
        super().commit()
        self._team.authors = after.authors
        self._team.scratchpads = after.scratchpads
        for member in self.members.values():
            member.commit()

    def _authors(self) -> dict[int, str]:
        authors = self._team.authors | {entry: name for entry, name in self.changed.items() if entry in self.writes}
        gone = {entry for entry in self.changed if self.entry(entry) is None}
        return {entry: name for entry, name in authors.items() if entry not in gone}


class MemberDraft(Draft):
    """One agent's part of a team's draft.

    Actions are executed agent by agent. The first agent that changes an entry in a step keeps it:
    an update or delete of that entry by a later agent is rejected (reason ``conflict``), because that agent could not
    see the change. An agent may change an entry several times in one step, in the order written (SPEC M2).
    """

    def __init__(self, shared: TeamDraft, name: str, memory: Memory, limits: Limits, tokenizer: Tokenizer) -> None:
        super().__init__(memory, limits, tokenizer)
        self._shared = shared
        self._name = name
        self._own = memory

    def __len__(self) -> int:
        """Number of the team's live entries after the commit."""
        return len(self._shared)

    def entry(self, entry_id: int) -> Entry | None:
        """The live entry with this id, as the team's draft has it."""
        return self._shared.entry(entry_id)

    def find(self, text: str) -> int | None:
        """The lowest id of a live entry with exactly this text."""
        return self._shared.find(text)

    @property
    def writes(self) -> dict[int, Entry]:
        """Entries that this agent inserts or replaces, by id."""
        return {entry: text for entry, text in self._shared.writes.items() if self._shared.changed[entry] == self._name}

    @property
    def deletes(self) -> list[int]:
        """Ids that this agent deletes."""
        return [entry for entry in self._shared.deletes if self._shared.changed[entry] == self._name]

    @property
    def changes_scratchpad(self) -> bool:
        """Whether the agent's scratchpad will differ after the commit."""
        return self.scratchpad != self._own.scratchpad

    def create(self, text: str, before: Entry | None = None) -> Outcome:
        """Add an entry under the team's next id."""
        return self._note(self._shared.create(text, before))

    def update(self, entry_id: int, text: str) -> Outcome:
        """Replace the text of a live entry and become its author, unless another agent changed it in this step."""
        return self._conflict(entry_id, "update") or self._note(self._shared.update(entry_id, text))

    def delete(self, entry_id: int) -> Outcome:
        """Remove a live entry for good, unless another agent changed it in this step."""
        return self._conflict(entry_id, "delete") or self._note(self._shared.delete(entry_id))

    def commit(self) -> None:
        """Replace the agent's own scratchpad; the team commits the entries."""
        self._own.scratchpad = self.scratchpad

    def _note(self, outcome: Outcome) -> Outcome:
        if outcome.applied and outcome.id is not None:
            self._shared.changed[outcome.id] = self._name
        return outcome

    def _conflict(self, entry_id: int, operation: str) -> Outcome | None:
        first = self._shared.changed.get(entry_id, self._name)
        if first == self._name:
            return None
        self._shared.conflicts.append(Conflict(entry_id, first, self._name, operation))
        return Outcome(False, reason="conflict", detail=f"{first} changed entry {entry_id} in this step and came first")
