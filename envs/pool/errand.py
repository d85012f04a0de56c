"""A call of a pool that is not a step: a snapshot, a restore or a fork, done in a thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from atommem_gym.envs.backend import EpisodeWithKey, Job
from atommem_gym.envs.pool.ending import Ending
from atommem_gym.envs.pool.stages import Pipeline

W = TypeVar("W")
R = TypeVar("R")


class Errand(Ending[R], Generic[W, R]):
    """Work in a thread, followed by a change on the event loop; ``result`` is the outcome, as in a ``Flight``.

    Args:
        pipeline: The pipeline whose branching stage does the work.
        work: Called in a thread. If it raises, it has changed nothing.
        land: Called on the event loop with the result of ``work``; returns the result, and the episodes to be
            released before the result is set.
    """

    job: Job | None = None
    """None, since it is not a step."""
    wanted = True
    """Whether the caller still waits for the result; ``land`` may read it."""

    def __init__(
        self, pipeline: Pipeline, work: Callable[[], W], land: Callable[[W], tuple[R, list[EpisodeWithKey]]]
    ) -> None:
        super().__init__(pipeline)
        self._work = work
        self._land = land
        self._found: list[W] = []
        self._ticket = pipeline.branching.put(self._carry_out, self._done)

    def withdraw(self, error: BaseException | None = None) -> bool:
        """Withdraw the call, with ``error`` or as cancelled; ``False`` if its work has begun."""
        if not self._pipeline.branching.withdraw(self._ticket):
            return False
        self._give_up(error)
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
        self._end(result, left)
