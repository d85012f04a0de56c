"""The stages of a pool: blocking work for many coroutines, done in batches in threads, off the event loop."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Generic, TypeAlias, TypeVar

import numpy as np

from atommem_gym.envs.backend import Backend, EpisodeWithKey, Job
from atommem_gym.envs.current_episode import CurrentEpisode
from atommem_gym.readers.options import is_url
from atommem_gym.step import Step

logger = logging.getLogger(__name__)

_AT_ONCE = ("em", "f1", "subem", "released")
"""Scorers that take microseconds; any other may block."""

OPENING_THREADS, STORING_THREADS, RELEASING_THREADS, BRANCHING_THREADS = 1, 1, 1, 1
ENDPOINT_THREADS = 8
"""Batches at a time at an embedding server."""
SERVER_THREADS = 4
"""Batches at a time at a judge, a reader and a Milvus server, where searches overlap and writes take turns."""

T = TypeVar("T")
Done: TypeAlias = Callable[[BaseException | None], None]
"""Called on the event loop when an item is done, with its own error if it failed."""


@dataclass(slots=True)
class StageStats:
    """Counts and times of one stage of a pool so far."""

    batches: int = 0
    """Number of calls, including those of :attr:`alone`."""
    items: int = 0
    """Number of steps (of ``opening`` resets, of ``releasing`` episodes)."""
    largest: int = 0
    """Items in the largest batch."""
    alone: int = 0
    """Items that were tried alone because their batch had failed."""
    seconds: float = 0.0
    """Duration of all calls in seconds, summed over threads."""
    waited: float = 0.0
    """Seconds that items waited for their batch to begin, summed over items."""

    @property
    def mean_batch(self) -> float:
        """Mean number of items per batch."""
        return self.items / self.batches if self.batches else 0.0


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """An item in the queue of a stage."""

    item: T
    """The item."""
    done: Done
    """Called when it is done."""
    since: float
    """When it was queued (``time.perf_counter``)."""


class Stage(Generic[T]):
    """One kind of blocking work, done in batches of items, with at most ``threads`` batches at a time.

    When a thread is free, the waiting items become the next batch, at most ``max_batch`` of them, in the order in
    which they came. A batch that is not full waits for more items until its first has waited ``max_wait`` seconds, and
    does not wait if ``complete()`` says that no other item can come. If a batch fails, each of its items is tried
    alone, so that only the items at fault fail.

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
        """Set while a batch that is not full waits for more items."""
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
            # Not at once, so that items queued later in this turn of the event loop join the batch.
            self._waking = True
            asyncio.get_running_loop().call_soon(self._wake)
        return ticket

    def withdraw(self, ticket: Ticket[T]) -> bool:
        """Remove an item whose work has not begun; ``False`` if it has begun."""
        if ticket not in self._queue:
            return False
        del self._queue[ticket]
        return True

    def waits(self, ticket: Ticket[T]) -> bool:
        """Whether the work of an item has not begun."""
        return ticket in self._queue

    def _wake(self) -> None:
        self._waking = False
        self._dispatch()

    def _dispatch(self) -> None:
        """Begin all batches that are due, as long as threads are free."""
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
            # No thread could be started, but the batch is queued, and a running thread may take it.
            if next(claim, False):
                loop.call_soon(self._finished, batch, error, 0.0)

    def _carry_out(self, loop: asyncio.AbstractEventLoop, batch: list[Ticket[T]], claim: Iterator[bool]) -> None:
        """Do the work of a batch, unless it was given up; runs in a thread."""
        if not next(claim, False):
            return
        error: BaseException | None = None
        started = time.perf_counter()
        try:
            self._work([ticket.item for ticket in batch])
        except BaseException as raised:
            # Passed to the waiting steps: raised in this thread it would be lost, and they would wait for ever.
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
        # The next batch first, so that its thread works while the results of this one are handed out.
        self._dispatch()
        for ticket in batch:
            ticket.done(error)


@dataclass(slots=True, eq=False)
class Opening:
    """A reset in the opening stage, which makes its episode: it arranges and counts documents, or loads a memory."""

    current: CurrentEpisode
    """The current episode of the environment."""
    rng: np.random.Generator
    """Draws the item."""
    options: Mapping[str, Any]
    """The reset options."""
    begun: tuple[EpisodeWithKey, Step] | None = None
    """The new episode and its opening step, when the stage is done."""


class Pipeline:
    """The stages of steps: opening (resets only), reading, scoring, embedding, storing, releasing.

    Embedding runs at the same time as reading and the scoring after it.

    Args:
        backend: The backend that does the work.
        executor: Runs the threads, at least :attr:`threads` of them.
        max_batch: Most steps per batch.
        max_wait: Most seconds that a step waits for others, in reading, scoring and embedding.
        complete: Whether no other step can join a batch.
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
        reading, scoring, embedding, storing = _threads(backend)
        first: dict[str, Any] = {"max_batch": max_batch, "max_wait": max_wait, "complete": complete}
        self.opening: Stage[Opening] = Stage(self._open, executor, threads=OPENING_THREADS, max_batch=1)
        self.reading: Stage[Job] = Stage(backend.read, executor, threads=reading, **first)
        self.scoring: Stage[Job] = Stage(backend.score, executor, threads=scoring, **first)
        self.embedding: Stage[Job] = Stage(backend.embed, executor, threads=embedding, **first)
        self.storing: Stage[Job] = Stage(backend.write_and_search, executor, threads=storing, max_batch=max_batch)
        self.releasing: Stage[EpisodeWithKey] = Stage(
            backend.release, executor, threads=RELEASING_THREADS, max_batch=max(max_batch, 64)
        )
        self.branching: Stage[Callable[[], None]] = Stage(_call, executor, threads=BRANCHING_THREADS, max_batch=1)
        """Snapshots, restores and forks, one at a time."""

    @staticmethod
    def threads(backend: Backend) -> int:
        """Most threads that the stages of a backend use together."""
        return OPENING_THREADS + RELEASING_THREADS + BRANCHING_THREADS + sum(_threads(backend))

    def _open(self, openings: list[Opening]) -> None:
        for opening in openings:
            try:
                opening.begun = opening.current.begin_reset(opening.rng, opening.options)
            except BaseException:
                self.backend.drop_reservations()
                raise
            # At once and in the single opening thread, so that two resets cannot continue one kept memory.
            self.backend.claim(opening.begun[0])


def _call(works: list[Callable[[], None]]) -> None:
    for work in works:
        work()


def _threads(backend: Backend) -> tuple[int, int, int, int]:
    """Threads of reading, scoring, embedding and storing: several if a server does the work, otherwise one each.

    A model, a database writer and a custom reader or reward function are called by one thread at a time.
    """
    config = backend.config
    return (
        SERVER_THREADS if is_url(config.reader) else 1,
        SERVER_THREADS if config.reward == "judge" else 1,
        ENDPOINT_THREADS if config.embedder.startswith(("http://", "https://")) else 1,
        SERVER_THREADS if config.store.startswith(("http://", "https://")) else STORING_THREADS,
    )


def _passable(error: BaseException) -> BaseException:
    """The error in a form that a future can hold and that is not taken for a cancellation of the caller."""
    if not isinstance(error, (StopIteration, asyncio.CancelledError)):
        return error
    # A future refuses StopIteration; CancelledError would look as if the caller had been cancelled.
    passable = RuntimeError(f"{type(error).__name__} was raised in a thread of the pool: {error}")
    passable.__cause__ = error
    return passable
