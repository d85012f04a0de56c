"""A second, minimal implementation of the rules of an episode, independent of the first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from atommem_gym.actions import KINDS, Answer, Create, Delete, Kind, Operation, Read, Scratchpad, Update
from atommem_gym.memory.protocols import TextKind, Vectors

Embed = Callable[[Sequence[str], TextKind], Vectors]


@dataclass(frozen=True, slots=True)
class Malformed:
    """A malformed operation and the reason for its rejection."""

    text: str
    """The text in the action."""
    kind: Kind
    """The kind of operation that is reported as rejected."""
    reason: str
    """The expected reason."""


@dataclass(slots=True)
class Predicted:
    """The expected results of a step."""

    rejected: list[tuple[str, int, str]] = field(default_factory=list)
    """Kind, position in the action (from 1) and reason of each rejected operation."""
    feedback: list[str] = field(default_factory=list)
    """The beginning of each line of feedback."""
    applied: dict[str, int] = field(default_factory=dict)
    """Number of applied operations by kind."""
    read: str = ""
    """The query shown in the next observation."""


@dataclass(slots=True)
class EpisodeModel:
    """An episode with the default rules (SPEC M1 to M9, M11, E2, E3, E5, E6): no preset, no limits on lengths.

    It has neither store nor index: a read computes every cosine with exact sums.
    """

    questions: int
    """Number of questions."""
    chunks: int
    """Number of chunks of the stream."""
    max_steps: int
    """Maximum number of steps."""
    top_k: int
    """Maximum number of memories shown."""
    max_reads: int
    """Maximum number of reads per question while answering."""
    kinds: Sequence[Kind] = KINDS
    """The enabled operations."""
    max_entries: int | None = None
    """Maximum number of live entries; ``None`` for no limit."""
    entries: dict[int, str] = field(default_factory=dict)
    """Texts of the live entries, by id."""
    next_id: int = 1
    """Id of the next entry."""
    scratchpad: str = ""
    """Text of the scratchpad."""
    steps: int = 0
    """Number of steps executed."""
    reads: int = 0
    """Number of reads executed for the open question."""
    scores: list[float] = field(default_factory=list)
    """The score of each closed question."""
    totals: dict[str, int] = field(default_factory=dict)
    """Number of operations applied in the episode, by kind."""
    peak: int = 0
    """Largest number of live entries after a step."""
    query: str = ""
    """The query whose results are shown; empty for none."""

    @property
    def reading(self) -> bool:
        """Whether chunks remain (E2: every step advances to the next)."""
        return self.steps < self.chunks

    @property
    def terminated(self) -> bool:
        """Whether every question is closed (E6)."""
        return len(self.scores) == self.questions

    @property
    def truncated(self) -> bool:
        """Whether the steps ran out before all questions were closed (E6)."""
        return not self.terminated and self.steps == self.max_steps

    @property
    def reward(self) -> float:
        """The mean score of all questions; open questions score 0 (R1)."""
        return sum(self.scores) / self.questions

    def step(self, operations: Sequence[Operation | Malformed], right: Sequence[str]) -> Predicted:
        """Execute an action in order (M2) and return the expected results.

        Args:
            operations: The operations of the action.
            right: Answers that score 1 for the open question; any other answer scores 0.
        """
        said = Predicted(applied=dict.fromkeys(self.kinds, 0))
        closed_before = len(self.scores)
        for position, op in enumerate(operations, 1):
            reason = self._execute(op, said, right, len(self.scores) > closed_before)
            if reason is None:
                said.applied[op.kind] += 1
                self.totals[op.kind] = self.totals.get(op.kind, 0) + 1
                if isinstance(op, Create):
                    said.feedback.append(f"created {self.next_id - 1}")
            else:
                said.rejected.append((op.kind, position, reason))
                said.feedback.append(f"operation {position} ({op.kind}) rejected: {reason}")
        self.steps += 1
        self.peak = max(self.peak, len(self.entries))
        self.query = said.read
        return said

    def _execute(
        self, op: Operation | Malformed, said: Predicted, right: Sequence[str], closed_one: bool
    ) -> str | None:
        """Execute one operation; returns the reason if it is rejected."""
        if op.kind not in self.kinds:
            return "disabled"
        if isinstance(op, Malformed):
            return op.reason
        if isinstance(op, Create):
            if self.max_entries is not None and len(self.entries) >= self.max_entries:
                return "memory_full"
            self.entries[self.next_id] = op.text
            self.next_id += 1
        elif isinstance(op, (Update, Delete)):
            if op.id not in self.entries:
                return "unknown_id"
            if isinstance(op, Update):
                self.entries[op.id] = op.text
            else:
                del self.entries[op.id]
        elif isinstance(op, Scratchpad):
            self.scratchpad = op.text
        elif isinstance(op, Read):
            return self._read(op, said, closed_one)
        else:
            return self._answer(op, right, closed_one)
        return None

    def _read(self, op: Read, said: Predicted, closed_one: bool) -> str | None:
        if closed_one:
            return "question_closed"
        if not self.reading:
            if self.reads == self.max_reads:
                self._close(0.0)
                return "read_limit"
            self.reads += 1
        said.read = op.query
        return None

    def _answer(self, op: Answer, right: Sequence[str], closed_one: bool) -> str | None:
        if self.reading:
            return "not_yet"
        if closed_one:
            return "question_closed"
        self._close(1.0 if op.text in right else 0.0)
        return None

    def _close(self, score: float) -> None:
        self.scores.append(score)
        self.reads = 0

    def shown(self, embed: Embed) -> list[tuple[int, str, float]]:
        """Id, text and score of the memories found by the current query: best first, ties by lower id (M5, M6).

        Args:
            embed: The ``embed`` method of an embedder.
        """
        if not self.query or not self.entries:
            return []
        wanted = embed([self.query], "query")[0]
        vectors = embed(list(self.entries.values()), "document")
        scored = sorted((-_cosine(wanted, v), i) for i, v in zip(self.entries, vectors, strict=True))
        return [(i, self.entries[i], -score) for score, i in scored[: self.top_k]]


def _cosine(a: Vectors, b: Vectors) -> float:
    """Cosine with exact sums, rounded once: for vectors of integers it equals that of SPEC M6 bit for bit."""
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    squares = _sum(wide_a * wide_a) * _sum(wide_b * wide_b)
    return _sum(wide_a * wide_b) / math.sqrt(squares) if squares else 0.0


def _sum(products: npt.NDArray[np.float64]) -> float:
    return math.fsum(products[products != 0.0].tolist())
