"""The end of every call of a pool: episodes that ended or were replaced are released, then the result is set."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Generic, TypeVar

from atommem_gym.envs.backend import EpisodeWithKey
from atommem_gym.envs.pool.stages import Pipeline

R = TypeVar("R")


class Ending(Generic[R]):
    """A call that is withdrawn before its work begins, or ends with a result or an error.

    ``result`` is the outcome; to wait for it without cancelling it, use ``asyncio.shield``.
    """

    def __init__(self, pipeline: Pipeline) -> None:
        self.result: asyncio.Future[R] = asyncio.get_running_loop().create_future()
        self._pipeline = pipeline
        self._missing = 0
        self._error: BaseException | None = None

    def _give_up(self, error: BaseException | None) -> None:
        """Withdraw a call that has not begun: its outcome is ``error``, or (``None``) cancellation."""
        if error is None:
            self.result.cancel()
        else:
            self.result.set_exception(error)

    def _end(self, result: R, left: Sequence[EpisodeWithKey]) -> None:
        """Release episodes; the result is set when the rows of all of them are deleted."""
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
