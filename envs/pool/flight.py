"""One step or reset of a pool on its way through the stages, from its beginning to its result."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from atommem_gym.envs.backend import EpisodeWithKey, Job
from atommem_gym.envs.pool.ending import Ending
from atommem_gym.envs.pool.stages import Done, Opening, Pipeline, Stage, Ticket
from atommem_gym.step import StepResult

Finish: TypeAlias = Callable[[Job, Opening | None], tuple[StepResult, list[EpisodeWithKey]]]
"""Finishes a step after its I/O; returns its result and the episodes that have ended or were replaced."""


class Flight(Ending[StepResult]):
    """One step or reset from its beginning to its result.

    The episode changes only in :meth:`_land`, which runs on the event loop without interruption; an error before that
    leaves it unchanged.

    The stages call it back (:meth:`_opened`, :meth:`_was_read`, :meth:`_arrived`, :meth:`_stored`, :meth:`_released`);
    it is not a coroutine that awaits them. A coroutine is simpler, but was 1.5 to 2 times slower: it needs a task for
    each step, and for each stage a future and one more turn of the event loop to wake that task. With callbacks, all
    steps of a batch continue in the same turn in which the stage hands out its results.
    """

    def __init__(self, pipeline: Pipeline, finish: Finish) -> None:
        super().__init__(pipeline)
        self.job: Job | None = None
        self._finish = finish
        self._opening: Opening | None = None
        self._waiting: list[tuple[Stage[Any], Ticket[Any]]] = []
        """Its tickets in the queues of stages; empty when any of its work has begun."""

    def open(self, opening: Opening) -> None:
        """Begin a reset."""
        self._opening = opening
        stage = self._pipeline.opening
        self._waiting = [(stage, stage.put(opening, self._opened))]

    def carry_out(self, job: Job) -> None:
        """Begin the I/O of a begun step."""
        self.job = job
        pipeline = self._pipeline
        stages: list[tuple[Stage[Job], Done]] = []
        if job.read:
            stages.append((pipeline.reading, self._was_read))
        elif job.scored and not pipeline.scores_at_once:
            stages.append((pipeline.scoring, self._arrived))
        if job.embedded:
            stages.append((pipeline.embedding, self._arrived))
        if job.stored and not stages:
            stages.append((pipeline.storing, self._stored))
        self._missing = len(stages)
        tickets = [(stage, stage.put(job, done)) for stage, done in stages]
        if self._opening is None:
            self._waiting += tickets
        if not stages:
            self._land()

    def withdraw(self, error: BaseException | None = None) -> bool:
        """Withdraw the call, with ``error`` or as cancelled; ``False`` if its I/O has begun."""
        if not self._waiting or not all(stage.waits(ticket) for stage, ticket in self._waiting):
            return False
        for stage, ticket in self._waiting:
            stage.withdraw(ticket)
        self._waiting = []
        self._give_up(error)
        return True

    def _opened(self, error: BaseException | None) -> None:
        self._waiting = []
        assert self._opening is not None
        if error is not None or self._opening.begun is None:
            self.result.set_exception(error or RuntimeError("the reset was not begun"))
            return
        self.carry_out(self._pipeline.backend.job(*self._opening.begun))

    def _was_read(self, error: BaseException | None) -> None:
        """Continue after reading, whose answers can now be scored."""
        self._waiting = []
        if error is not None or self._pipeline.scores_at_once:
            self._arrived(error)
            return
        assert self.job is not None
        self._pipeline.scoring.put(self.job, self._arrived)

    def _arrived(self, error: BaseException | None) -> None:
        """Continue after scoring (or failed reading) or embedding: when both are done, go on or fail."""
        self._waiting = []
        self._error = self._error or error
        self._missing -= 1
        if self._missing:
            return
        assert self.job is not None
        if self._error is not None:
            self._fail(self._error)
        elif self.job.stored:
            self._pipeline.storing.put(self.job, self._stored)
        else:
            self._land()

    def _stored(self, error: BaseException | None) -> None:
        self._waiting = []
        if error is None:
            self._land()
        else:
            self._fail(error)

    def _land(self) -> None:
        """Finish the step; the rows of an episode that has ended are deleted before its result is set."""
        assert self.job is not None
        job = self.job
        try:
            if job.scored and self._pipeline.scores_at_once:
                self._pipeline.backend.score([job])
            result, left = self._finish(job, self._opening)
        except Exception as error:
            self._fail(error)
            return
        self._end(result, left)

    def _fail(self, error: BaseException) -> None:
        """Set the error. The episode is unchanged; one that a failed reset has made is released first."""
        opening = self._opening
        if opening is None or opening.begun is None or opening.current.holds(opening.begun[0].key):
            self.result.set_exception(error)
            return
        self._missing, self._error = 1, error
        self._pipeline.releasing.put(opening.begun[0], self._given_back)

    def _given_back(self, error: BaseException | None) -> None:
        assert self._error is not None
        self.result.set_exception(self._error)
