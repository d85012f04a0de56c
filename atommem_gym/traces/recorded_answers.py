"""Answers from a trace in place of scorers and readers that are not called again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeAlias

from atommem_gym.errors import AtomMemError
from atommem_gym.readers.options import is_url
from atommem_gym.readers.protocol import ReaderCall, Reading, ReadRequest, Seen
from atommem_gym.scoring import ScoreRequest
from atommem_gym.scoring.abstention import decided
from atommem_gym.traces.record import EpisodeTrace, ReaderTrace
from atommem_gym.traces.rescore import recorded_requests


class NotRecordedError(AtomMemError, RuntimeError):
    """A scorer or reader is needed for something that the trace does not hold."""


class RecordedScores:
    """A scorer that returns the scores of a trace, in the order of the answers."""

    name = "recorded"

    def __init__(self) -> None:
        self._scores: Iterator[float] = iter(())
        self._known: dict[ScoreRequest, float] | None = None

    def begin(self, trace: EpisodeTrace) -> None:
        """Continue with the scores of this trace, without those that need no scorer."""
        asked = recorded_requests(trace)
        self._scores = iter([answer["score"] for request, answer in asked if decided(request) is None])
        self._known = None

    def look_up(self, trace: EpisodeTrace) -> None:
        """Look up the scores of this trace by their requests from now on."""
        self._known = {}
        for request, answer in recorded_requests(trace):
            self._known.setdefault(request, answer["score"])
        self._reward = trace.env.keywords.get("reward")

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """One recorded score per request; 0 for requests that the trace does not have (the check reports them anyway).

        Raises:
            NotRecordedError: scores are looked up, and one is missing.
        """
        if self._known is None:
            return [next(self._scores, 0.0) for _ in requests]
        for request in requests:
            if request not in self._known:
                raise NotRecordedError(
                    f"how the answer {request.prediction!r} to the question {request.question!r} scores is not "
                    f"recorded, and a record's reward={self._reward!r} is not run; name it again to run it: --set "
                    "reward=…"
                )
        return [self._known[request] for request in requests]


Asked: TypeAlias = tuple[str, tuple[object, ...], str]
"""A request to a reader: the question, what it sees of the memories, and the scratchpad."""


class RecordedReadings:
    """A frozen reader that returns the answers of a trace, question by question (SPEC E13)."""

    name = "recorded"

    def __init__(self) -> None:
        self._readings: Iterator[ReaderTrace] = iter(())
        self._known: dict[Asked, ReaderTrace] | None = None

    def begin(self, trace: EpisodeTrace) -> None:
        """Continue with the answers of this trace."""
        self._readings = iter([reading for step in trace.steps for reading in step.reader])
        self._known = None

    def look_up(self, trace: EpisodeTrace) -> None:
        """Look up the answers of this trace by their requests from now on."""
        self._reader = trace.env.keywords.get("reader")
        self._known = {}
        for one in (reading for step in trace.steps for reading in step.reader):
            memories = tuple((memory.id, memory.text, memory.score) for memory in one.memories)
            self._known.setdefault(self._asked(one.question, memories, one.scratchpad), one)

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        """One recorded answer per request; an empty one if there is none (the check reports it anyway).

        Raises:
            NotRecordedError: answers are looked up, and one is missing.
        """
        return [self._reading(request) for request in requests]

    def _reading(self, request: ReadRequest) -> Reading:
        recorded = next(self._readings, None) if self._known is None else self._found(request, self._known)
        if recorded is None:
            return Reading(request, "")
        calls = tuple(
            ReaderCall(
                one.prompt_tokens, one.completion_tokens, one.seconds, one.finish_reason, one.reasoning, one.tries
            )
            for one in recorded.completions
        )
        return Reading(request, recorded.answer, calls)

    def _found(self, request: ReadRequest, known: dict[Asked, ReaderTrace]) -> ReaderTrace:
        asked = request.question.question
        found = known.get(self._asked(asked, request.memories, request.scratchpad))
        if found is None:
            raise NotRecordedError(
                f"the question {asked!r} was put to the reader with other memories or another scratchpad than in the "
                f"record, and a record's reader={self._reader!r} is not asked; name it again to ask it: --set reader=…"
            )
        return found

    def _asked(self, question: str, memories: Sequence[Seen], scratchpad: str) -> Asked:
        # A server sees only the texts; a function also sees ids and scores.
        seen = tuple(text for _, text, _ in memories) if is_url(self._reader) else tuple(map(tuple, memories))
        return question, seen, scratchpad
