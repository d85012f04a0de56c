"""Why a question failed, derived from the trace alone: how far its evidence got on the way to the answer.

A piece of evidence (SPEC E12) is *held* by a text that contains it exactly, or by the lenient heuristic: title and hop
answer occur in one text. The heuristic tolerates paraphrase and can be wrong both ways, so causes are hints for a
closer look, not proof; a policy that shortens beyond recognition counts as never having stored.

The fate of a piece, for one question:

1. *retrieved*: it was in a read's result or in the scratchpad while the question was open in the answering phase, or
   in what the answer was based on (exactly what counts for ``evidence_recall``, and for early answers what was seen);
2. *stored but not retrieved*: when the question closed, an entry held it;
3. *stored then lost*: an entry or the scratchpad held it before, and none when the question closed;
4. *never stored*: no entry or scratchpad ever held it.

Where there is no memory at all (``storage=False, scratchpad=False``: the baseline ``long_context``) nothing can be
stored, so the prompt that the answer was based on is what counts, and because it contains documents word for word,
exactly: a piece that it held is *retrieved*, any other *not shown* (for example because the context was too small).
Evidence recall (SPEC E12) counts only reads and the scratchpad and stays 0 there.

The cause of a failure, the first that holds:

1. ``not answered``: there was no answer that counts (the steps ran out, the read limit closed the question, or under
   ``preset="released"`` one action gave several answers). This is certain, and memory could not have helped. Equally
   certain is ``not erased``: the answer did not count, since memory kept what the stream asked to erase (SPEC D9);
2. ``never stored``, 3. ``stored then lost``, 4. ``stored but not retrieved``: the fate of a piece. The earliest
   broken link counts, since repairing a later one would not have been enough; without a memory ``not shown``;
5. ``retrieved but answered wrong``: every piece was seen (also if the question has no evidence).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal, TypeAlias

from atommem_gym.evidence import held, holds, suggests
from atommem_gym.records.record import Evidence
from atommem_gym.step import Phase
from atommem_gym.traces.record import CAUSES, NOT_ERASED, Cause, EpisodeTrace, StepTrace

Fate = Literal["retrieved", "stored but not retrieved", "stored then lost", "never stored", "not shown"]
Pieces: TypeAlias = frozenset[int]
"""Numbers of the episode's distinct pieces of evidence."""


def failure_causes(trace: EpisodeTrace, scores: Sequence[float] | None = None) -> tuple[Cause | None, ...]:
    """The cause of each question's failure; ``None`` for questions that scored 1.

    Args:
        trace: A finished episode.
        scores: One per question; by default those of the episode's own reward.
    """
    answers = trace.metrics["answers"]
    scored = [answer["score"] for answer in answers] if scores is None else scores
    if all(score >= 1 for score in scored):
        return (None,) * len(answers)
    return tuple(
        None if score >= 1 else _cause(answer["closed"], fates)
        for answer, score, fates in zip(answers, scored, evidence_fates(trace), strict=True)
    )


def evidence_fates(trace: EpisodeTrace) -> tuple[tuple[Fate, ...], ...]:
    """How far each piece of evidence got: for each question of ``trace`` a tuple in the order of its ``evidence``."""
    pieces = list(dict.fromkeys(piece for question in trace.questions for piece in question.evidence))
    journey = _Journey(trace, pieces)
    numbers = {piece: i for i, piece in enumerate(pieces)}
    return tuple(
        tuple(journey.fate(question, numbers[piece]) for piece in one.evidence)
        for question, one in enumerate(trace.questions)
    )


def closing_steps(trace: EpisodeTrace) -> tuple[int, ...]:
    """The step (from 0) that closed each question; the last step for questions that the end closed.

    Every executed answer and every read over the limit closes the next question (SPEC E3).
    """
    closed = [number for number, step in enumerate(trace.steps) for _ in range(closings(step))]
    missing = len(trace.questions) - len(closed)
    return (*closed, *[len(trace.steps) - 1] * missing)


def closings(step: StepTrace) -> int:
    """How many questions the action of a step closed."""
    return sum(
        (operation.kind == "answer" and operation.outcome != "rejected") or operation.reason == "read_limit"
        for operation in step.operations
    )


def _cause(closed: str, fates: Sequence[Fate]) -> Cause:
    if closed == "not_erased":
        return NOT_ERASED
    if closed != "answered":
        return "not answered"
    # CAUSES has the order of an episode, so the earliest broken link comes first.
    return next((link for link in CAUSES if link in fates), "retrieved but answered wrong")


def _has_memory(trace: EpisodeTrace) -> bool:
    return any(trace.env.keywords.get(part, True) is not False for part in ("storage", "scratchpad"))


class _Journey:
    """Follows the pieces of evidence step by step, in one pass over the trace."""

    def __init__(self, trace: EpisodeTrace, pieces: list[Evidence]) -> None:
        self._pieces = pieces
        self._held: dict[str, Pieces] = {}
        self._closed_at = closing_steps(trace)
        self._has_memory = _has_memory(trace)
        questions = range(len(trace.questions))
        self._retrieved: list[set[int]] = [set() for _ in questions]
        self._ever: list[Pieces] = [frozenset() for _ in questions]
        """For each question, the pieces stored at any time until it closed."""
        self._left: list[Pieces] = [frozenset() for _ in questions]
        """For each question, the pieces stored when it closed."""
        if self._has_memory:
            self._follow_memory(trace)
            self._follow_observations(trace)
        else:
            self._look_at_prompts(trace)

    def fate(self, question: int, piece: int) -> Fate:
        """The fate of a piece for a question."""
        if piece in self._retrieved[question]:
            return "retrieved"
        if not self._has_memory:
            return "not shown"
        if piece in self._left[question]:
            return "stored but not retrieved"
        return "stored then lost" if piece in self._ever[question] else "never stored"

    def _follow_memory(self, trace: EpisodeTrace) -> None:
        initial = trace.initial_memory
        live = {entry.id: self._in(entry.text) for entry in initial.entries}
        notes = self._in(initial.scratchpad)
        ever = notes.union(*live.values())
        for number, step in enumerate(trace.steps):
            change = step.memory
            for entry in change.deleted:
                live.pop(entry.id, None)
            live |= {entry.id: self._in(entry.text) for entry in change.created}
            live |= {entry.id: self._in(entry.after) for entry in change.updated}
            notes = notes if change.scratchpad is None else self._in(change.scratchpad.after)
            written = [*(entry.id for entry in change.created), *(entry.id for entry in change.updated)]
            ever = ever.union(notes, *(live[entry_id] for entry_id in written))
            for question, closed_at in enumerate(self._closed_at):
                if closed_at == number:
                    self._ever[question] = ever
                    self._left[question] = notes.union(*live.values())

    def _follow_observations(self, trace: EpisodeTrace) -> None:
        """SPEC E12 as ``Episode`` counts it: what answering saw, and the scratchpad when the question closed."""
        observations = [step.observation for step in trace.steps] + [trace.final_observation]
        for number, observation in enumerate(observations):
            notes = self._in(observation["scratchpad"])
            seen = self._all([observation["scratchpad"], *(memory["text"] for memory in observation["memories"])])
            for question, closed_at in enumerate(self._closed_at):
                # The observation that follows the closing step shows the scratchpad as that step left it.
                if closed_at == number or (closed_at > number and observation["phase"] == Phase.ANSWERING):
                    self._retrieved[question] |= seen
                elif closed_at == number - 1:
                    self._retrieved[question] |= notes

    def _look_at_prompts(self, trace: EpisodeTrace) -> None:
        """The pieces in the prompt of the step that closed a question; an agent without prompts saw the chunk."""
        for seen, number in zip(self._retrieved, self._closed_at, strict=True):
            step = trace.steps[number]
            texts = [step.observation["chunk"]] if step.messages is None else [one["content"] for one in step.messages]
            seen |= {i for text in texts for i, there in enumerate(held(self._pieces, text)) if there}

    def _in(self, text: str) -> Pieces:
        """The pieces that a text holds; cached, since texts recur."""
        found = self._held.get(text)
        if found is None:
            found = frozenset(i for i, piece in enumerate(self._pieces) if holds(piece, text) or suggests(piece, text))
            self._held[text] = found
        return found

    def _all(self, texts: Iterable[str]) -> Pieces:
        return frozenset().union(*map(self._in, texts))
