"""Collects the calls of many coroutines into batches for a model in this process."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

from atommem_gym.errors import LanguageModelError

Job = TypeVar("Job")
Result = TypeVar("Result")


class Batcher(Generic[Job, Result]):
    """Collects jobs and runs them in batches, one batch at a time, in its own thread.

    While a batch runs, further jobs wait; the next batch takes all waiting jobs, up to ``max_batch``. The thread ends
    when no job is left, so a batcher that is never closed leaves no thread behind.
    """

    def __init__(
        self, run: Callable[[Sequence[Job]], Sequence[Result | Exception]], max_batch: int, max_wait: float
    ) -> None:
        """Make a batcher; no thread runs yet.

        Args:
            run: Runs a batch and returns a result or an exception for each job. What it raises fails the whole batch.
            max_batch: Jobs in a batch, at most.
            max_wait: Seconds to wait for further jobs before a batch that is not full begins.
        """
        self._run = run
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._waiting: deque[tuple[Job, Future[Result]]] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False
        self.batches = 0
        """Batches done so far."""
        self.jobs = 0
        """Jobs done so far."""

    def submit(self, job: Job) -> Future[Result]:
        """Queue a job; returns its future result. Cancelling the future before its batch begins withdraws the job.

        Raises:
            LanguageModelError: the batcher is closed.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self._closed:
                raise LanguageModelError("the model is closed; make a new one")
            self._waiting.append((job, future))
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="language model", daemon=True)
                self._thread.start()
            self._changed.notify()
        return future

    def close(self) -> None:
        """Fail the waiting jobs and wait for the running batch; a second call does nothing."""
        with self._changed:
            self._closed = True
            waiting, self._waiting = list(self._waiting), deque()
            thread = self._thread
            self._changed.notify()
        for _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_exception(LanguageModelError("the model was closed before it answered"))
        if thread is not None:
            thread.join()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    return
                self._changed.wait_for(lambda: self._closed or len(self._waiting) >= self._max_batch, self._max_wait)
                taken = [self._waiting.popleft() for _ in range(min(self._max_batch, len(self._waiting)))]
            self._do([pair for pair in taken if pair[1].set_running_or_notify_cancel()])

    def _do(self, batch: Sequence[tuple[Job, Future[Result]]]) -> None:
        if not batch:
            return
        try:
            results = self._run([job for job, _ in batch])
        except Exception as error:  # a failed batch must not end the thread: its callers get the error
            results = [error] * len(batch)
        self.batches += 1
        self.jobs += len(batch)
        for (_, future), result in zip(batch, results, strict=True):
            if isinstance(result, Exception):
                future.set_exception(result)
            else:
                future.set_result(result)
