"""The async pool: episodes that run at their own pace, in many coroutines, and share batched I/O."""

from __future__ import annotations

import asyncio
import functools
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, TypeVar

import gymnasium as gym
from gymnasium.envs.registration import load_env_creator
from gymnasium.error import ClosedEnvironmentError

from atommem_gym.actions import ActionText
from atommem_gym.envs.atommem_env import AtomMemEnv, observation_space
from atommem_gym.envs.backend import Backend, EpisodeWithKey
from atommem_gym.envs.branching import Branching
from atommem_gym.envs.items_ahead import AwaitedItems
from atommem_gym.envs.pool.errand import Errand
from atommem_gym.envs.pool.flight import Finish, Flight
from atommem_gym.envs.pool.pool_env import Forks, Lease, PoolEnv
from atommem_gym.envs.pool.send_recv import EnvIds, PoolBatches, Received
from atommem_gym.envs.pool.stages import Pipeline, StageStats
from atommem_gym.envs.shaping import Shaping, ShapingSpec, load_shaping
from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.record import Items
from atommem_gym.registration import TASKS, configure, load_items
from atommem_gym.step import StepResult
from atommem_gym.task import ItemsByDifficulty

W = TypeVar("W")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class PoolStats:
    """Counts and times of a pool so far; all times are in seconds."""

    resets: int
    """Number of resets."""
    steps: int
    """Number of steps."""
    seconds: float
    """Time from the call of a step or reset to its result, summed over all of them."""
    opening: StageStats
    """Making episodes: items, streams, kept memories."""
    reading: StageStats
    """Calls of the frozen reader, if there is one (SPEC E13)."""
    scoring: StageStats
    """Calls of the scorer; none for ``em``, ``f1`` and ``released``, which take microseconds."""
    embedding: StageStats
    """Calls of the embedder."""
    storing: StageStats
    """Writes and searches."""
    releasing: StageStats
    """Deleting the rows of episodes that are over."""


class AtomMemPool:
    """Environments for many coroutines, each at its own pace, over one embedder and one store.

    Threads do the I/O of steps, never the event loop, and they do it in batches: the texts of all waiting steps are
    embedded in one call, and their entries are written in one call. A step waits only for its own I/O, so a slow
    embedding or judge call does not delay the others. At most ``capacity`` environments are in use at a time;
    ``pool.env()`` waits for a place, first come, first served. If the I/O of a batch fails, each of its steps is tried
    alone, so that only the steps at fault fail.

    A pool belongs to the event loop in which it is first used. Make it before, since that may load models and records.

    Args:
        env_id: A Gymnasium id such as ``"AtomMem-HotpotQA-v0"``; ``None`` for custom ``items``.
        capacity: Most environments in use at a time, at least 1.
        items: See ``AtomMemEnv``.
        max_batch: Most steps that share a call.
        max_wait_ms: Milliseconds that a batch which is not full waits for more steps, 0 or more. It does not wait once
            every environment in use has sent its step.
        items_ahead: Whether a separate process makes generated items. The items are the same; while one is made, the
            steps of the other environments continue (``atommem_gym.envs.items_ahead``).
        shaping: Terms added to the reward, for example ``{"MemoryCost": {"per_operation": 0.01}}``, or callables
            ``(info, episode) -> float``.
        credit: Whether the ``info`` of an episode's last step has the credit of each operation (SPEC R7), as the
            wrapper ``HindsightCredit`` does.
        **keywords: The keyword arguments of the environment.

    Raises:
        ConfigError: a keyword is unknown, has a bad value, or contradicts another one.

    Example:
        >>> import asyncio
        >>> async def episode(pool, index):
        ...     async with pool.env() as env:
        ...         observation, info = await env.areset(options={"index": index})
        ...         over = False
        ...         while not over:
        ...             action = "<answer>no idea</answer>" if observation["phase"] else "<create>a fact</create>"
        ...             observation, reward, terminated, truncated, info = await env.astep(action)
        ...             over = terminated or truncated
        ...         return reward
        >>> async def main():
        ...     async with AtomMemPool("AtomMem-Synthetic-v0", capacity=8, num_docs=20, store="numpy") as pool:
        ...         return await asyncio.gather(*(episode(pool, index) for index in range(20)))
        >>> len(asyncio.run(main()))
        20
    """

    def __init__(
        self,
        env_id: str | None,
        capacity: int = 64,
        *,
        items: Items | None = None,
        max_batch: int = 64,
        max_wait_ms: float = 1.0,
        items_ahead: bool = False,
        shaping: ShapingSpec | Iterable[Shaping] = (),
        credit: bool = False,
        **keywords: Any,
    ) -> None:
        capacity, max_batch = check_integer("capacity", capacity, 1), check_integer("max_batch", max_batch, 1)
        if isinstance(max_wait_ms, bool) or not isinstance(max_wait_ms, (int, float)) or not max_wait_ms >= 0:
            raise ConfigError(f"max_wait_ms={max_wait_ms!r} must be a number of milliseconds, 0 or more")
        env_class, defaults = _env_class(env_id)
        task, keywords = defaults.pop("task", env_class.task), {**defaults, **keywords}
        if env_id is None and items is None:
            raise ConfigError("env_id=None needs items=…; or name an environment, such as 'AtomMem-Synthetic-v0'")
        self.env_id = env_id
        self.capacity = capacity
        self.config = configure(task, keywords)
        self.shaping = load_shaping(shaping)
        self.credit = credit
        self.items = load_items(task, self.config) if items is None else items
        self._by_difficulty = ItemsByDifficulty(TASKS[task] if items is None else None, keywords)
        self.observation_space = observation_space(self.config)
        self.action_space = ActionText(
            self.config.max_action_chars, dialect=self.config.dialect, kinds=self.config.kinds
        )
        self._made_elsewhere = AwaitedItems(self.items) if items_ahead else None
        self._backend = Backend(self.config)
        self._branching = Branching(task, self.items, self._by_difficulty, self._backend)
        # Tokenizers build tables at their first use, which would block the event loop.
        self._backend.tokenizer.starts("a")
        executor = ThreadPoolExecutor(Pipeline.threads(self._backend), thread_name_prefix="atommem-pool")
        self._pipeline = Pipeline(
            self._backend, executor, max_batch=max_batch, max_wait=max_wait_ms / 1000, complete=self._complete
        )
        self._executor = executor
        self._loop: asyncio.AbstractEventLoop | None = None
        self._places = Places(capacity)
        self._taken: set[PoolEnv] = set()
        self._flying = 0
        self._resets = 0
        self._steps = 0
        self._seconds = 0.0
        self._batches = PoolBatches(capacity, self._occupy_now)
        self._closing: asyncio.Task[None] | None = None
        # A pool that is never closed must not leave a database folder, threads or a lock behind.
        self._finalizer = weakref.finalize(self, _give_up, executor, self._backend)

    @property
    def num_items(self) -> int:
        """Number of items (episodes) in the split."""
        return self.items.num_items

    @property
    def stats(self) -> PoolStats:
        """Counts and times of the pool so far."""
        pipeline = self._pipeline
        return PoolStats(
            resets=self._resets,
            steps=self._steps,
            seconds=self._seconds,
            opening=pipeline.opening.stats,
            reading=pipeline.reading.stats,
            scoring=pipeline.scoring.stats,
            embedding=pipeline.embedding.stats,
            storing=pipeline.storing.stats,
            releasing=pipeline.releasing.stats,
        )

    def env(self) -> Lease:
        """An environment for an ``async with`` block, which waits for a free place and gives it back at its end.

        Leaving the block, also by an exception or a cancellation, deletes the rows of its episode.

        Raises:
            ClosedEnvironmentError: the pool is closed, or is closed while this waits.
        """
        return Lease(self)

    async def fork(self, env: PoolEnv, n: int) -> Forks:
        """Make ``n`` running environments of this pool that share only the past with ``env`` (SPEC M14).

        See ``AtomMemEnv.fork``. Each takes a place until it is given back: by ``async with await pool.fork(env, n) as
        forks``, by ``await forks.aclose()``, or one by one by ``await fork.aclose()``. If this is cancelled, no fork is
        left.

        Args:
            env: An environment of this pool.
            n: Number of forks, at least 1.

        Raises:
            ConfigError: fewer than ``n`` places are free; it does not wait, since callers that hold places and wait for
                more would wait for each other. Or ``n`` is not an integer of at least 1, or ``env`` is of another pool.
            ResetNeeded: ``env`` has no episode yet, or it is over.
            EmbedderError, StoreError: nothing has changed, and no fork is left.
            AlreadyPendingCallError: another coroutine is calling ``env``.
            ClosedEnvironmentError: ``env`` was left, or the pool is closed, also during this call.
        """
        self._check_loop()
        self._check_open()
        n = check_integer("n", n, 1)
        if env._pool is not self:
            raise ConfigError("this environment is of another pool; fork it there")
        return await env._fork(n)

    async def __aenter__(self) -> AtomMemPool:
        self._check_loop()
        self._check_open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Wait for running calls, then release environments, store, database and threads; may be called twice.

        Calls that have not begun are withdrawn and raise ``ClosedEnvironmentError``, as do those that wait for a place.
        """
        self._check_loop()
        if self._closing is None:
            self._places.close(ClosedEnvironmentError(_CLOSED))
            # A separate task, so that closing continues if its caller is cancelled.
            self._closing = asyncio.get_running_loop().create_task(self._close())
        await asyncio.shield(self._closing)

    def async_reset(
        self,
        env_ids: EnvIds | None = None,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        """Begin a reset of the environments with these numbers, by default all; :meth:`recv` returns the observations.

        Args:
            env_ids: Numbers from 0 to ``capacity - 1``. A number takes one of the pool's places at its first reset and
                keeps it until the pool is closed.
            seed: ``n`` seeds them with ``n, n + 1, …`` in the order given; a sequence has one seed for each.
            options: Those of ``reset``, each as one value for all or a list with one per environment.

        Raises:
            ConfigError: a number is out of range or given twice, or no place is free for it.
            AlreadyPendingCallError: one of them is still running; ``recv`` it first.
        """
        self._check_loop()
        self._check_open()
        self._batches.reset(env_ids, seed, options)

    def send(self, actions: Sequence[str], env_ids: EnvIds) -> None:
        """Begin a step of each of these environments; :meth:`recv` returns the results when they are ready.

        Args:
            actions: One text per environment.
            env_ids: Their numbers.

        Raises:
            ConfigError: there is not one action for each, or a number was never reset.
            AlreadyPendingCallError: one of them is still running; ``recv`` it first.
        """
        self._check_loop()
        self._check_open()
        self._batches.send(actions, env_ids)

    async def recv(self, min_envs: int = 1) -> Received:
        """Wait for ``min_envs`` results, or for all if fewer calls are running, and return all that are ready then.

        If this is cancelled, nothing is lost: the next call returns the same results.

        Raises:
            NoAsyncCallError: no call is running or ready.
            ClosedEnvironmentError: the pool is closed, or is closed while this waits.
            StepFailedError: one of them failed, with the cause in ``__cause__``; the next call returns the others.
        """
        self._check_loop()
        self._check_open()
        return await self._batches.recv(min_envs)

    async def _close(self) -> None:
        await self._batches.close(ClosedEnvironmentError(_CLOSED))
        leaving = [env._leave() for env in list(self._taken)]
        outcomes = await asyncio.gather(*leaving, return_exceptions=True)
        try:
            await asyncio.get_running_loop().run_in_executor(self._executor, self._backend.close)
        finally:
            self._finalizer.detach()
            self._executor.shutdown()
            if self._made_elsewhere is not None:
                self._made_elsewhere.close()
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome

    async def _occupy(self) -> PoolEnv:
        self._check_loop()
        self._check_open()
        await self._places.take()
        return self._place()

    def _occupy_now(self) -> PoolEnv | None:
        return self._place() if self._places.take_now() else None

    def _place(self) -> PoolEnv:
        env = PoolEnv(self)
        self._taken.add(env)
        return env

    def _take_places(self, n: int) -> None:
        """Take ``n`` places, or none.

        Raises:
            ConfigError: fewer are free.
        """
        taken = 0
        while taken < n and self._places.take_now():
            taken += 1
        if taken < n:
            for _ in range(taken):
                self._places.give()
            raise ConfigError(
                f"n={n} forks need as many free places, and of the pool's {self.capacity} only {taken} are; give some "
                "back, or make a pool with a larger capacity"
            )

    def _give_unused_places(self, n: int, made: asyncio.Future[Forks | None]) -> None:
        """Give back the places that a fork has taken, if it failed."""
        if made.cancelled() or made.exception() is not None or made.result() is None:
            for _ in range(n):
                self._places.give()

    def _vacated(self, env: PoolEnv) -> None:
        self._taken.discard(env)
        self._places.give()

    def _take_off(self, finish: Finish) -> Flight:
        flight = Flight(self._pipeline, finish)
        self._flying += 1
        flight.result.add_done_callback(functools.partial(self._landed, flight, time.perf_counter()))
        return flight

    def _send_on_errand(
        self, work: Callable[[], W], land: Callable[[W], tuple[R, list[EpisodeWithKey]]]
    ) -> Errand[W, R]:
        errand = Errand(self._pipeline, work, land)
        self._flying += 1
        errand.result.add_done_callback(self._back)
        return errand

    def _back(self, _: object) -> None:
        self._flying -= 1

    def _landed(self, flight: Flight, began: float, result: asyncio.Future[StepResult]) -> None:
        self._flying -= 1
        if result.cancelled() or result.exception() is not None or flight.job is None:
            return
        self._seconds += time.perf_counter() - began
        if flight.job.step.opening:
            self._resets += 1
        else:
            self._steps += 1

    def _complete(self) -> bool:
        """Whether every environment in use has a running call, so that no other step can join a batch."""
        return self._flying >= len(self._taken)

    def _check_loop(self) -> None:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(
                "this pool belongs to another event loop, that of its first use; make one pool for each loop "
                "(`asyncio.run` makes a new loop each time)"
            )

    def _check_open(self) -> None:
        if self._closing is not None:
            raise ClosedEnvironmentError(_CLOSED)


class Places:
    """Like ``asyncio.Semaphore``, but a place can also be taken without waiting, and all waiters can be refused.

    >>> places = Places(1)
    >>> places.take_now(), places.take_now()
    (True, False)
    """

    def __init__(self, number: int) -> None:
        self._free = number
        """Free places; 0 while a caller waits."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a place if one is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Wait for a place; callers get one in the order in which they came.

        Raises:
            Exception: the one that :meth:`close` was given.
        """
        if self.take_now():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                # It got the place and was cancelled at the same moment.
                self.give()
            raise

    def give(self) -> None:
        """Give a place back; the first caller that waits gets it."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self, error: Exception) -> None:
        """Raise ``error`` in all callers that wait."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)


_CLOSED = "this pool is closed; make a new one with AtomMemPool(…)"


def _env_class(env_id: str | None) -> tuple[type[AtomMemEnv], dict[str, Any]]:
    """The plain environment class of an id, and the keyword arguments with which it is registered."""
    if env_id is None:
        return AtomMemEnv, {}
    spec = gym.spec(env_id)
    creator: object = spec.entry_point if callable(spec.entry_point) else load_env_creator(str(spec.entry_point))
    if not (isinstance(creator, type) and issubclass(creator, AtomMemEnv)):
        raise ConfigError(f"env_id={env_id!r} is not an AtomMem environment; `atommem envs` lists them")
    return creator, dict(spec.kwargs)


def _give_up(executor: ThreadPoolExecutor, backend: Backend) -> None:
    """Free threads and store of a pool that was garbage-collected without being closed; no call is running then."""
    executor.shutdown(wait=False)
    backend.close()
