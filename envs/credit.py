"""Hindsight credit: the contribution of each create, update and delete to the reward of an episode (SPEC R7).

A ledger follows an episode step by step: which operation wrote what, and what was visible while a question was open.
After the end :meth:`Ledger.credit` divides the reward among the operations. All forms of the environment use it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias

from atommem_gym.actions import Create, Delete, Update
from atommem_gym.episode import Episode
from atommem_gym.evidence import holds, suggests
from atommem_gym.memory.memory import squeezed
from atommem_gym.records.record import Evidence, Item
from atommem_gym.step import OperationOutcome, Phase

KEY = "credit"
"""The key of the credit in the ``info`` of the last step."""
Credit: TypeAlias = dict[str, Any]
"""JSON values: ``operations``, a list of ``{step, position, operation, entry, credit}``; ``by_step``, one number per
step; and ``begun``, the step, from 0, at which the ledger began."""


class Write(NamedTuple):
    """An executed create, update or delete."""

    step: int
    """From 0."""
    position: int
    """Place in the action, from 1."""
    operation: str
    entry: int


class Version(NamedTuple):
    """A text that an entry has or had."""

    write: int | None
    """Index in ``Ledger.writes`` of the operation that wrote it; ``None`` if it is older than the ledger."""
    text: str


class Answered(NamedTuple):
    """The step and position at which a question was closed."""

    step: int
    position: int


@dataclass(slots=True)
class InSight:
    """What was visible while a question was open."""

    entries: dict[tuple[int, int], str] = field(default_factory=dict)
    """Texts by entry and index of its version, in the order in which reads showed them."""
    scratchpads: dict[str, None] = field(default_factory=dict)
    """The texts of the scratchpad, as keys."""


@dataclass(slots=True)
class Ledger:
    """Everything in one episode on which credit depends; picklable.

    Each question has a share of the reward: its score divided by the number of questions. The share is divided equally
    among the pieces
    of evidence (SPEC E12: exactly, else by the lenient heuristic) that were visible while the question was open:

    - a piece in an entry that a read showed goes to the operation that brought it there, the one with whose text the
      entry began to hold it; later updates that keep it get nothing for it;
    - a piece that only the scratchpad held goes to the answer.

    If a right answer needs no evidence, or none was visible, the share is divided equally among the entries that reads
    showed, and goes to the operations that wrote their texts; if there are none, or the question has no
    answer, all of it goes to the answer.

    Deletes get their share in two ways: the last one of an entry that ever held an erased code (SPEC D9) counts as one
    more piece for every question that is answered later, unless the entry was created in the same step, and once if it
    is the last one of several codes; and under ``max_entries`` a create into a full memory
    shares its credit equally with the delete that made room for it.

    Credit for operations before the beginning of the ledger goes to the answer, too.
    """

    most: int | None
    """``max_entries`` of the environment."""
    questions: int
    """Number of questions."""
    writes: list[Write] = field(default_factory=list)
    """Executed creates, updates and deletes."""
    versions: dict[int, list[Version]] = field(default_factory=dict)
    """The texts of all entries that ever existed, by id, the latest last."""
    live: set[int] = field(default_factory=set)
    """Ids of live entries."""
    steps: int = 0
    """Steps of the episode that the ledger knows."""
    in_sight: list[InSight] = field(default_factory=list)
    """What was visible for each question that was opened."""
    answered: list[Answered] = field(default_factory=list)
    """Where each closed question was closed."""
    rooms: dict[int, int] = field(default_factory=dict)
    """Indices in ``writes`` of creates, to those of the deletes that made room for them."""
    taken: int = 0
    """Places of memory that were ever taken, at most ``most``."""
    freed: deque[int] = field(default_factory=deque)
    """Indices in ``writes`` of deletes whose place no create has taken yet."""
    begun: int = 0
    """The step at which the ledger began."""
    _shown: tuple[tuple[int, int, str], ...] = ()
    """The entries in the current observation: id, index of the version, and text."""
    _scratchpad: str = ""

    @classmethod
    def of(cls, episode: Episode) -> Ledger:
        """The ledger of a running episode, which is kept with it; forks and snapshots take it along (SPEC M14).

        A new one begins here if there is none, or if the episode was stepped without it; earlier operations are then
        not known.
        """
        state = episode.state
        if isinstance(episode.ledger, cls) and episode.ledger.steps == state.steps:
            return episode.ledger
        ledger = cls(
            most=episode.config.max_entries,
            questions=len(episode.item.questions),
            versions={entry_id: [Version(None, entry.text)] for entry_id, entry in state.memory.entries.items()},
            live=set(state.memory.entries),
            steps=state.steps,
            answered=[Answered(0, 0)] * len(state.closings),
            taken=len(state.memory.entries),
            begun=state.steps,
        )
        ledger._see(episode)
        episode.ledger = ledger
        return ledger

    def branch(self) -> Ledger:
        """An independent copy, for a fork or a snapshot."""
        return Ledger(
            self.most,
            self.questions,
            self.writes.copy(),
            {entry_id: versions.copy() for entry_id, versions in self.versions.items()},
            self.live.copy(),
            self.steps,
            [InSight(one.entries.copy(), one.scratchpads.copy()) for one in self.in_sight],
            self.answered.copy(),
            self.rooms.copy(),
            self.taken,
            self.freed.copy(),
            self.begun,
            self._shown,
            self._scratchpad,
        )

    def note(self, episode: Episode) -> None:
        """Follow the last step of the episode; a step that is known already changes nothing."""
        state = episode.state
        if state.steps == self.steps:
            return
        answers = [outcome.position for outcome in episode.outcomes if outcome.kind == "answer" and outcome.applied]
        for number in range(len(self.answered), len(state.closings)):
            # Closed on what the observation before showed, also while reading (early answers).
            self._put_in_sight(number)
            by_answer = state.closings[number].how not in ("read_limit", "unanswered")
            self.answered.append(Answered(self.steps, answers.pop(0) if by_answer and answers else 0))
        for outcome in episode.outcomes:
            if outcome.applied and outcome.entry_id is not None:
                self._write(outcome)
        self.steps = state.steps
        self._see(episode)

    def credit(self, episode: Episode) -> Credit:
        """The share of each executed create, update and delete, and of answers; they add up to the reward (SPEC R1).

        Args:
            episode: The episode that was followed; it is over.
        """
        shares = [0.0] * len(self.writes)
        rest = [0.0] * len(self.answered)
        counted = episode.counted
        for number in counted:
            part = episode.state.closings[number].score / len(counted)
            if not part:
                continue
            pieces = list(self._pieces(episode.item, number))
            for write in pieces or [None]:
                share = part / max(1, len(pieces))
                if write is None:
                    rest[number] += share
                elif write in self.rooms:
                    shares[write] += share / 2
                    shares[self.rooms[write]] += share / 2
                else:
                    shares[write] += share
        operations = [{**write._asdict(), KEY: share} for write, share in zip(self.writes, shares, strict=True)]
        operations += [
            {"step": answer.step, "position": answer.position, "operation": "answer", "entry": None, KEY: share}
            for answer, share in zip(self.answered, rest, strict=True)
            if share
        ]
        operations.sort(key=lambda one: (one["step"], one["position"]))
        by_step = [0.0] * self.steps
        for one in operations:
            by_step[one["step"]] += one[KEY]
        return {"operations": operations, "by_step": by_step, "begun": self.begun}

    def _write(self, outcome: OperationOutcome) -> None:
        entry_id, op = outcome.entry_id, outcome.operation
        assert entry_id is not None
        number = len(self.writes)
        if not isinstance(op, (Create, Update, Delete)):
            return
        self.writes.append(Write(self.steps, outcome.position, op.kind, entry_id))
        if outcome.stored is None:
            if entry_id in self.live:
                self.live.discard(entry_id)
                self.freed.append(number)
            return
        if outcome.replaced is not None:
            # The preset "released" updates an entry by creating another one in its place, with its history.
            self.live.discard(outcome.replaced)
            self.versions[entry_id] = self.versions.get(outcome.replaced, []).copy()
        elif entry_id not in self.live:
            self._take_place(number)
        self.live.add(entry_id)
        self.versions.setdefault(entry_id, []).append(Version(number, outcome.stored))

    def _take_place(self, number: int) -> None:
        if self.most is None:
            return
        if self.taken < self.most:
            self.taken += 1
        elif self.freed:
            self.rooms[number] = self.freed.popleft()

    def _see(self, episode: Episode) -> None:
        """Note what the observation shows; while answering, for the open question."""
        state = episode.state
        self._shown = tuple((one.id, len(self.versions[one.id]) - 1, one.text) for one in state.shown)
        self._scratchpad = state.memory.scratchpad if episode.config.scratchpad else ""
        if episode.phase is Phase.ANSWERING and len(state.closings) < self.questions:
            self._put_in_sight(len(state.closings))

    def _put_in_sight(self, question: int) -> None:
        while len(self.in_sight) <= question:
            self.in_sight.append(InSight())
        seen = self.in_sight[question]
        seen.entries.update({(entry_id, version): text for entry_id, version, text in self._shown})
        if self._scratchpad:
            seen.scratchpads[self._scratchpad] = None

    def _pieces(self, item: Item, number: int) -> Iterator[int | None]:
        """For each piece on which a right answer rests, the operation that gets its share; ``None``: the answer."""
        question = item.questions[number]
        # Nothing is known of a question that was closed before the ledger began.
        seen = self.in_sight[number] if number < len(self.in_sight) else InSight()
        yield from self._erasing(item, self.answered[number].step)
        found = False
        for piece in question.evidence:
            for test in (holds, suggests):
                where = next((place for place, text in seen.entries.items() if test(piece, text)), None)
                if where is not None:
                    found = True
                    yield self._bringer(piece, *where)
                    break
                if any(test(piece, text) for text in seen.scratchpads):
                    found = True
                    yield None
                    break
        if not found and question.answerable:
            for entry_id, version in seen.entries:
                yield self.versions[entry_id][version].write

    def _bringer(self, piece: Evidence, entry_id: int, place: int) -> int | None:
        """The operation whose text brought a piece into an entry."""
        versions = self.versions[entry_id]
        test = holds if holds(piece, versions[place].text) else suggests
        while place and test(piece, versions[place - 1].text):
            place -= 1
        return versions[place].write

    def _erasing(self, item: Item, before: int) -> Iterator[int]:
        """For each code to erase (SPEC D9), the last delete before a step of an entry that ever held it."""
        codes = [squeezed(code) for code in item.erased]
        last: dict[str, int] = {}
        for number, write in enumerate(self.writes):
            if not codes or write.step >= before:
                break
            if write.operation != "delete":
                continue
            versions = self.versions[write.entry]
            first = versions[0].write
            if first is not None and self.writes[first].step == write.step:
                continue  # created in the same step: it was never in memory
            texts = [squeezed(version.text) for version in versions]
            last.update((code, number) for code in codes if any(code in text for text in texts))
        yield from sorted(set(last.values()))


def note(episode: Episode, info: dict[str, Any]) -> None:
    """Follow a step of an episode that has a ledger; the ``info`` of the step that ends it gets the credit."""
    ledger = episode.ledger
    assert isinstance(ledger, Ledger), "Ledger.of(episode) comes before the step"
    ledger.note(episode)
    if episode.state.over:
        info[KEY] = ledger.credit(episode)


def step_rewards(info: Mapping[str, Any], first: int = 0) -> list[float]:
    """The credit of each step, in place of the reward at the end; all steps add up to the episode's reward.

    Args:
        info: The ``info`` of the step that ended the episode.
        first: The first step to return, from 0.

    >>> step_rewards({"credit": {"operations": [], "by_step": [0.5, 0.0, 0.5]}}, 1)
    [0.0, 0.5]
    """
    return list(info[KEY]["by_step"][first:])
