"""One step or reset on its way through the stages of its I/O; it goes on to its end even if its caller is gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from atommem_gym.envs.backend import Backend, Job, Running
from atommem_gym.envs.pool.coalescer import Stage, Ticket
from atommem_gym.envs.slot import Slot
from atommem_gym.step import Step, StepResult

_AT_ONCE = ("em", "f1", "released")
"""Scorers that take microseconds and ask nobody; every other one may block."""

OPENING_THREADS, STORING_THREADS, RELEASING_THREADS = 1, 1, 1
ENDPOINT_THREADS = 8
"""Batches under way at a time at an embedding server."""
SERVER_THREADS = 4
"""Batches under way at a time at a judge, and at a Milvus server, whose searches overlap while writes take turns."""


@dataclass(slots=True, eq=False)
class Opening:
    """A reset whose episode is to be made: documents arranged and counted, a kept memory loaded."""

    slot: Slot
    rng: np.random.Generator
    options: Mapping[str, Any]
    begun: tuple[Running, Step] | None = None


Finish: TypeAlias = Callable[[Job, "Opening | None"], tuple[StepResult, list[Running]]]
"""Takes note of a step whose I/O is done; returns what it led to, and the episodes that are over or left."""


class Pipeline:
    """The stages that the steps of a pool go through: opening (resets only), scoring and embedding, storing, releasing.

    Args:
        backend: Does the work.
        executor: Its threads; at least :attr:`threads` of them.
        max_batch: Steps a batch at most.
        max_wait: Seconds that a step waits for others at most; only the first stages wait.
        complete: Whether everyone who could join a batch is there.
    """

    def __init__(
        self,
        backend: Backend,
        executor: Executor,
        *,
        max_batch: int,
        max_wait: float,
        complete: Callable[[], bool],
    ) -> None:
        self.backend = backend
        self.scores_at_once = backend.config.reward in _AT_ONCE
        scoring, embedding, storing = _threads(backend)
        first: dict[str, Any] = {"max_batch": max_batch, "max_wait": max_wait, "complete": complete}
        self.opening: Stage[Opening] = Stage(self._open, executor, threads=OPENING_THREADS, max_batch=1)
        self.scoring: Stage[Job] = Stage(backend.score, executor, threads=scoring, **first)
        self.embedding: Stage[Job] = Stage(backend.embed, executor, threads=embedding, **first)
        self.storing: Stage[Job] = Stage(backend.write_and_search, executor, threads=storing, max_batch=max_batch)
        self.releasing: Stage[Running] = Stage(
            backend.release, executor, threads=RELEASING_THREADS, max_batch=max(max_batch, 64)
        )

    @staticmethod
    def threads(backend: Backend) -> int:
        """How many threads the stages of a backend use together."""
        return OPENING_THREADS + RELEASING_THREADS + sum(_threads(backend))

    def _open(self, openings: list[Opening]) -> None:
        for opening in openings:
            try:
                opening.begun = opening.slot.begin_reset(opening.rng, opening.options)
            except BaseException:
                self.backend.forgo()
                raise
            # At once and in the one thread that opens: two resets under way cannot go on with one kept memory.
            self.backend.adopt(opening.begun[0])


def _threads(backend: Backend) -> tuple[int, int, int]:
    """Threads of scoring, embedding and storing: several where a server does the work, else one each.

    One model, one database writer and one reward function of the user's must not be entered twice.
    """
    config = backend.config
    return (
        SERVER_THREADS if config.reward == "judge" else 1,
        ENDPOINT_THREADS if config.embedder.startswith(("http://", "https://")) else 1,
        SERVER_THREADS if config.store.startswith(("http://", "https://")) else STORING_THREADS,
    )


class Flight:
    """One step or reset from its beginning to its result.

    Nothing of the episode changes before :meth:`_land`, which is on the event loop and in one go; until then an error
    leaves it as it was. ``result`` is the outcome; to wait for it without cancelling it, use ``asyncio.shield``.
    """

    def __init__(self, pipeline: Pipeline, finish: Finish) -> None:
        self.result: asyncio.Future[StepResult] = asyncio.get_running_loop().create_future()
        self.job: Job | None = None
        self._pipeline = pipeline
        self._finish = finish
        self._opening: Opening | None = None
        self._waiting: list[tuple[Stage[Any], Ticket[Any]]] = []
        """Where it stands in queues, as long as none of its work has begun."""
        self._missing = 0
        self._error: BaseException | None = None

    def open(self, opening: Opening) -> None:
        """Begin a reset."""
        self._opening = opening
        stage = self._pipeline.opening
        self._waiting = [(stage, stage.put(opening, self._opened))]

    def carry_out(self, job: Job) -> None:
        """Begin the I/O of a step that was decided."""
        self.job = job
        pipeline = self._pipeline
        stages = [pipeline.scoring] if job.scored and not pipeline.scores_at_once else []
        stages += [pipeline.embedding] if job.embedded else []
        if not stages:
            stages = [pipeline.storing] if job.stored else []
        done = self._stored if stages == [pipeline.storing] else self._arrived
        self._missing = len(stages)
        tickets = [(stage, stage.put(job, done)) for stage in stages]
        if self._opening is None:
            self._waiting += tickets
        if not stages:
            self._land()

    def withdraw(self, error: BaseException | None = None) -> bool:
        """Give up a step or reset of which nothing has begun, with ``error`` or as cancelled; ``False`` if it has."""
        if not self._waiting or not all(stage.waits(ticket) for stage, ticket in self._waiting):
            return False
        for stage, ticket in self._waiting:
            stage.withdraw(ticket)
        self._waiting = []
        if error is None:
            self.result.cancel()
        else:
            self.result.set_exception(error)
        return True

    def _opened(self, error: BaseException | None) -> None:
        self._waiting = []
        assert self._opening is not None
        if error is not None or self._opening.begun is None:
            self.result.set_exception(error or RuntimeError("the reset was not begun"))
            return
        self.carry_out(self._pipeline.backend.job(*self._opening.begun))

    def _arrived(self, error: BaseException | None) -> None:
        """Scoring or embedding is done; both must be before the episode may go on or be given up."""
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
        """Let the step happen; the rows of an episode that is over are gone before its result is there."""
        assert self.job is not None
        job = self.job
        try:
            if job.scored and self._pipeline.scores_at_once:
                self._pipeline.backend.score([job])
            result, left = self._finish(job, self._opening)
        except Exception as error:
            self._fail(error)
            return
        self._missing = len(left)
        for running in left:
            self._pipeline.releasing.put(running, lambda error: self._released(result, error))
        if not left:
            self.result.set_result(result)

    def _released(self, result: StepResult, error: BaseException | None) -> None:
        self._error = self._error or error
        self._missing -= 1
        if self._missing == 0:
            if self._error is None:
                self.result.set_result(result)
            else:
                self.result.set_exception(self._error)

    def _fail(self, error: BaseException) -> None:
        """The episode goes on as it was; one that a failed reset had begun is given back."""
        opening = self._opening
        if opening is None or opening.begun is None or opening.slot.holds(opening.begun[0].key):
            self.result.set_exception(error)
            return
        self._missing, self._error = 1, error
        self._pipeline.releasing.put(opening.begun[0], self._given_back)

    def _given_back(self, error: BaseException | None) -> None:
        assert self._error is not None
        self.result.set_exception(self._error)
