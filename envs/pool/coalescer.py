"""Gathers what many coroutines wait for into batches, and carries them out in threads, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Generic, TypeAlias, TypeVar

logger = logging.getLogger(__name__)

T = TypeVar("T")
Done: TypeAlias = Callable[[BaseException | None], None]
"""Called on the event loop when an item is done, with its own error if it failed."""


@dataclass(slots=True)
class StageStats:
    """What one stage of a pool has done so far."""

    batches: int = 0
    """Calls, the repeated ones of :attr:`alone` included."""
    items: int = 0
    """Steps (of ``opening``: resets; of ``releasing``: episodes) that went through."""
    largest: int = 0
    """Items of the largest batch."""
    alone: int = 0
    """Items that were tried on their own because their batch had failed."""
    seconds: float = 0.0
    """Of the calls, added up over threads."""
    waited: float = 0.0
    """Seconds that items waited for their batch to begin, added up."""

    @property
    def mean_batch(self) -> float:
        """Items a batch."""
        return self.items / self.batches if self.batches else 0.0


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """An item in the queue of a stage."""

    item: T
    done: Done
    since: float


class Stage(Generic[T]):
    """One kind of blocking work, done for batches of items, with at most ``threads`` batches at a time.

    Whatever waits when a thread is free makes up the next batch, at most ``max_batch`` items, in the order in which
    they came. A batch that is not full waits for more, at most ``max_wait`` seconds from its first item on, and not at
    all if ``complete()`` says that nobody is left to come. If a batch fails, each of its items is tried on its own, so
    that only those that are to blame fail.

    All methods are called on one event loop; ``work`` runs in a thread of ``executor`` and may be given the same item
    again after an error.
    """

    def __init__(
        self,
        work: Callable[[list[T]], None],
        executor: Executor,
        *,
        threads: int = 1,
        max_batch: int = 64,
        max_wait: float = 0.0,
        complete: Callable[[], bool] = lambda: False,
    ) -> None:
        self._work = work
        self._executor = executor
        self._threads = threads
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._complete = complete
        self._queue: dict[Ticket[T], None] = {}
        self._alone: deque[Ticket[T]] = deque()
        self._busy = 0
        self._waking = False
        self._timer: asyncio.TimerHandle | None = None
        """Set while a batch that is not full waits for more."""
        self._stats = StageStats()

    @property
    def stats(self) -> StageStats:
        """A copy of the counts so far."""
        return replace(self._stats)

    def put(self, item: T, done: Done) -> Ticket[T]:
        """Queue an item; ``done`` is called later, never from within this call."""
        ticket = Ticket(item, done, time.perf_counter())
        self._queue[ticket] = None
        due = self._timer is None or len(self._queue) >= self._max_batch or self._complete()
        if due and not self._waking and self._busy < self._threads:
            # Not at once: whoever else is ready in this turn of the event loop comes along.
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)
        return ticket

    def withdraw(self, ticket: Ticket[T]) -> bool:
        """Take an item back whose work has not begun; ``False`` if it has."""
        if ticket not in self._queue:
            return False
        del self._queue[ticket]
        return True

    def waits(self, ticket: Ticket[T]) -> bool:
        """Whether an item's work has not begun."""
        return ticket in self._queue

    def _wake(self) -> None:
        self._waking = False
        self._dispatch()

    def _dispatch(self) -> None:
        """Begin as many batches as are due and as threads are free."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._busy < self._threads and (self._alone or self._queue):
            if self._alone:
                self._begin([self._alone.popleft()])
                continue
            if len(self._queue) < self._max_batch and not self._complete():
                left = next(iter(self._queue)).since + self._max_wait - time.perf_counter()
                if left > 0:
                    self._timer = asyncio.get_running_loop().call_later(left, self._dispatch)
                    return
            batch = list(islice(self._queue, self._max_batch))
            for ticket in batch:
                del self._queue[ticket]
            self._begin(batch)

    def _begin(self, batch: list[Ticket[T]]) -> None:
        now = time.perf_counter()
        stats = self._stats
        stats.batches += 1
        stats.items += len(batch)
        stats.largest = max(stats.largest, len(batch))
        stats.waited += sum(now - ticket.since for ticket in batch)
        self._busy += 1
        loop, claim = asyncio.get_running_loop(), iter((True,))
        try:
            self._executor.submit(self._carry_out, loop, batch, claim)
        except RuntimeError as error:
            # No thread could be started, but the batch is in the executor's queue, where one may find it yet.
            if next(claim, False):
                loop.call_soon(self._finished, batch, error, 0.0)

    def _carry_out(self, loop: asyncio.AbstractEventLoop, batch: list[Ticket[T]], claim: Iterator[bool]) -> None:
        """In a thread: do the work of a batch, unless it was given up."""
        if not next(claim, False):
            return
        error: BaseException | None = None
        started = time.perf_counter()
        try:
            self._work([ticket.item for ticket in batch])
        except BaseException as raised:
            # Handed to whoever waits; in this thread nobody would ever see it, and they would wait for ever.
            error = _passable(raised)
        seconds = time.perf_counter() - started
        try:
            loop.call_soon_threadsafe(self._finished, batch, error, seconds)
        except RuntimeError:
            logger.debug("the event loop was closed before a batch of %d ended; nobody waits for it", len(batch))

    def _finished(self, batch: list[Ticket[T]], error: BaseException | None, seconds: float) -> None:
        self._busy -= 1
        self._stats.seconds += seconds
        if error is not None and len(batch) > 1:
            now = time.perf_counter()
            for ticket in batch:
                ticket.since = now
            self._stats.items -= len(batch)
            self._stats.alone += len(batch)
            self._alone.extend(batch)
            batch = []
        # The next batch first: its thread works while the results of this one are handed out.
        self._dispatch()
        for ticket in batch:
            ticket.done(error)


def _passable(error: BaseException) -> BaseException:
    """An error that a future can hold, and that says nothing about the coroutine which awaits it."""
    if not isinstance(error, (StopIteration, asyncio.CancelledError)):
        return error
    # A future refuses the one; the other would look as if the caller had been cancelled.
    passable = RuntimeError(f"{type(error).__name__} was raised in a thread of the pool: {error}")
    passable.__cause__ = error
    return passable
