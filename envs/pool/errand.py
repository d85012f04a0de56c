"""A call of a pool that is no step: a snapshot, a restore or a fork, done in a thread and never half."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from atommem_gym.envs.backend import EpisodeWithKey, Job
from atommem_gym.envs.pool.stages import Pipeline

W = TypeVar("W")
R = TypeVar("R")


class Errand(Generic[W, R]):
    """Work in a thread, and then a change on the event loop; ``result`` is the outcome, as that of a ``Flight``.

    Args:
        pipeline: Its branching stage does the work.
        work: Called in a thread. If it raises, it has changed nothing.
        land: Called on the event loop with what ``work`` returned; returns the result, and the episodes to be
            released, which they are before the result is set.
    """

    job: Job | None = None
    """It is no step."""
    wanted = True
    """Whether the caller still waits for the result; ``land`` may look."""

    def __init__(
        self, pipeline: Pipeline, work: Callable[[], W], land: Callable[[W], tuple[R, list[EpisodeWithKey]]]
    ) -> None:
        self.result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._pipeline = pipeline
        self._work = work
        self._land = land
        self._found: list[W] = []
        self._missing = 0
        self._error: BaseException | None = None
        self._ticket = pipeline.branching.put(self._carry_out, self._done)

    def withdraw(self, error: BaseException | None = None) -> bool:
        """Give up the call if its work has not begun, with ``error`` or as cancelled; ``False`` if it has."""
        if not self._pipeline.branching.withdraw(self._ticket):
            return False
        if error is None:
            self.result.cancel()
        else:
            self.result.set_exception(error)
        return True

    def _carry_out(self) -> None:
        self._found = [self._work()]

    def _done(self, error: BaseException | None) -> None:
        if error is None:
            try:
                result, left = self._land(self._found.pop())
            except Exception as raised:
                error = raised
        if error is not None:
            self.result.set_exception(error)
            return
        self._missing = len(left)
        for running in left:
            self._pipeline.releasing.put(running, lambda error: self._released(result, error))
        if not left:
            self.result.set_result(result)

    def _released(self, result: R, error: BaseException | None) -> None:
        self._error = self._error or error
        self._missing -= 1
        if self._missing == 0:
            if self._error is None:
                self.result.set_result(result)
            else:
                self.result.set_exception(self._error)
