"""One environment of an async pool: ``areset`` and ``astep``, awaited and safe to cancel.

A coroutine calls :class:`PoolEnv`. Each call is a :class:`Flight`, which goes through the stages of its I/O
to its end even if its caller was cancelled.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

import gymnasium as gym
import numpy as np
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, ResetNeeded

from atommem_gym.config import EnvConfig
from atommem_gym.envs import credit
from atommem_gym.envs.backend import EpisodeWithKey, Job
from atommem_gym.envs.current_episode import CurrentEpisode, EpisodeAccess
from atommem_gym.envs.generators import twin_of
from atommem_gym.envs.pool.errand import Errand
from atommem_gym.envs.pool.flight import Flight
from atommem_gym.envs.pool.stages import Opening
from atommem_gym.envs.shaping import shaped
from atommem_gym.episode import Episode
from atommem_gym.records.record import Items
from atommem_gym.step import Observation, StepResult

if TYPE_CHECKING:
    from atommem_gym.envs.pool.pool import AtomMemPool

logger = logging.getLogger(__name__)

R = TypeVar("R")


class PoolEnv(EpisodeAccess):
    """One environment of a pool, for one coroutine at a time: Gymnasium's ``reset`` and ``step`` as coroutines.

    Each ``pool.env()`` gives a fresh one; it equals, bit for bit, a plain environment with the same keyword arguments,
    seeds and actions (SPEC M15).

    **Cancellation.** A call that is cancelled before any of its I/O began is withdrawn: it never happened. Otherwise it
    continues in the background to its end. Either way the environment stays usable: the next
    :meth:`areset` or :meth:`astep` first waits for the running call, and :meth:`settle` does so and returns its
    result.
    """

    def __init__(self, pool: AtomMemPool) -> None:
        self._pool = pool
        self._current = CurrentEpisode(
            pool._made_elsewhere or pool.items, pool._by_difficulty, pool._backend, render=False
        )
        self._rng: np.random.Generator | None = None
        self._flight: Flight | Errand[Any, Any] | None = None
        """The running call, or a call whose caller was cancelled and whose result was not returned yet."""
        self._called = False
        self._gone: asyncio.Future[None] | None = None

    @property
    def config(self) -> EnvConfig:
        """All keyword arguments, resolved."""
        return self._pool.config

    @property
    def items(self) -> Items:
        """The items from which episodes are made."""
        return self._pool.items

    @property
    def num_items(self) -> int:
        """Number of items; ``areset(options={"index": i})`` takes ``0 <= i < num_items``."""
        return self._pool.num_items

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with empty memory; arguments and errors are those of ``AtomMemEnv.reset``.

        Raises:
            IndexError, ConfigError, StoreError: nothing has changed, and the old episode continues.
            gymnasium.error.Error: the seed is not an integer from 0; nothing has changed.
            AlreadyPendingCallError: another coroutine is calling this environment.
            ClosedEnvironmentError: the environment was left, or the pool is closed.
        """
        with self._calling():
            await self._calm()
            self._check_there()
            if seed is not None or self._rng is None:
                rng = gym.utils.seeding.np_random(seed)[0]
            else:
                # A failed or withdrawn reset draws the same item when it is repeated.
                rng = copy.deepcopy(self._rng)
            opening = Opening(self._current, rng, dict(options or {}))
            # Last, since an error between take-off and opening would leave a flight that never ends.
            flight = self._take_off()
            flight.open(opening)
            result = await self._arrival(flight.result)
        return result.observation, result.info

    async def astep(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute the operations of an action and return what follows, see ``AtomMemEnv.step``.

        Raises:
            ResetNeeded: before the first ``areset`` or after the end of the episode.
            TypeError: the action is not a string.
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed; the same step may be repeated.
            AlreadyPendingCallError: another coroutine is calling this environment.
            ClosedEnvironmentError: the environment was left, or the pool is closed.
        """
        with self._calling():
            await self._calm()
            job = self._pool._backend.job(*self._current.begin_step(action))
            if not (job.scored or job.embedded or job.stored):
                # A step without I/O must not block the event loop.
                await asyncio.sleep(0)
            flight = self._take_off()
            flight.carry_out(job)
            result = await self._arrival(flight.result)
        return self._stepped(result, job.running.episode)

    async def snapshot(self) -> dict[str, Any]:
        """The state of this environment, in the form of ``AtomMemEnv.snapshot`` (SPEC M14).

        It holds the present state of the pool's action space, which all its environments share.

        Raises:
            EmbedderError, StoreError: the store failed; nothing has changed.
            AlreadyPendingCallError: another coroutine is calling this environment.
            ClosedEnvironmentError: the environment was left, or the pool is closed.
        """
        with self._calling():
            await self._calm()
            self._check_there()
            own = self._generators()
            work = functools.partial(self._pool._branching.snapshot, self._current, own)
            errand = self._flight = self._pool._send_on_errand(work, lambda snapshot: (snapshot, []))
            return await self._arrival(errand.result)

    async def restore(self, snapshot: dict[str, Any]) -> Observation | None:
        """Return to a snapshot of this or a plain environment, or of a slot; see ``AtomMemEnv.restore``.

        The generator that draws items continues from the saved state. The pool's action space does not change: the
        other environments share it.

        Returns:
            The observation at which the snapshot was taken; ``None`` if that was before the first reset.

        Raises:
            SnapshotError, EmbedderError, StoreError: nothing has changed.
            AlreadyPendingCallError: another coroutine is calling this environment.
            ClosedEnvironmentError: the environment was left, or the pool is closed.
        """
        with self._calling():
            await self._calm()
            self._check_there()
            own = self._generators()
            work = functools.partial(self._pool._branching.restored, snapshot, own, self._current)

            def land(running: EpisodeWithKey | None) -> tuple[Observation | None, list[EpisodeWithKey]]:
                left = self._current.take(running)
                own["np_random"].bit_generator.state = snapshot["np_random"]
                self._rng = own["np_random"]
                return None if running is None else running.episode.observation(), left

            errand = self._flight = self._pool._send_on_errand(work, land)
            return await self._arrival(errand.result)

    async def aclose(self) -> None:
        """Give the place back, like the end of ``async with pool.env()``; may be called twice.

        The rows of the episode are deleted; if this is cancelled, a little later.
        """
        self._pool._check_loop()
        await asyncio.shield(self._leave())

    async def __aenter__(self) -> PoolEnv:
        self._check_there()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _fork(self, n: int) -> Forks:
        """See ``AtomMemPool.fork``."""
        with self._calling():
            await self._calm()
            self._check_there()
            running = self._current.running
            if running.episode.state.over:
                raise ResetNeeded("the episode is over, so its forks could not go on; call areset() first")
            pool = self._pool
            pool._take_places(n)

            def land(forked: list[EpisodeWithKey]) -> tuple[Forks | None, list[EpisodeWithKey]]:
                if self._gone is not None or not errand.wanted:
                    return None, forked
                return Forks(self._forked(one) for one in forked), []

            errand: Errand[list[EpisodeWithKey], Forks | None]
            errand = pool._send_on_errand(functools.partial(pool._backend.fork, running, n), land)
            errand.result.add_done_callback(functools.partial(pool._give_unused_places, n))
            self._flight = errand
            try:
                forks = await self._arrival(errand.result)
            except BaseException:
                errand.wanted = False
                made = errand.result
                if made.done() and not made.cancelled() and made.exception() is None:
                    # Cancelled at the moment at which the forks were handed over.
                    self._flight = None
                    for fork in made.result() or ():
                        fork._leave()
                raise
        if forks is None:
            raise ClosedEnvironmentError("the environment was left, or its pool closed, before it was forked")
        return forks

    def _forked(self, running: EpisodeWithKey) -> PoolEnv:
        """An environment of the same pool for a fork of this episode; its place was taken before."""
        fork = self._pool._place()
        fork._current = self._current.fork(running)
        fork._rng = None if self._rng is None else twin_of(self._rng)
        return fork

    def _generators(self) -> dict[str, np.random.Generator]:
        """The generators by the field of a snapshot that holds their state: a copy of this one's, and the pool's."""
        own = gym.utils.seeding.np_random()[0] if self._rng is None else twin_of(self._rng)
        return {"np_random": own, "action_space": self._pool.action_space.np_random}

    async def settle(
        self,
    ) -> (
        tuple[Observation, float, bool, bool, dict[str, Any]] | tuple[Observation, dict[str, Any]] | Observation | None
    ):
        """Wait for a call whose caller was cancelled, and return its result.

        Returns:
            The result of :meth:`astep`, :meth:`areset`, :meth:`snapshot` or :meth:`restore`, once; ``None`` if the call
            was withdrawn, or none was cancelled.

        Raises:
            EmbedderError, StoreError, JudgeError, ReaderError: that call failed; nothing has changed.
        """
        with self._calling():
            flight = self._flight
            if flight is None:
                return None
            await asyncio.wait([flight.result])
            # Returned or raised only once.
            self._flight = None
            result: Any = flight.result.result()
        if isinstance(flight, Errand):
            told: Observation | None = result
            return told
        assert flight.job is not None
        if flight.job.step.opening:
            return result.observation, result.info
        return self._stepped(result, flight.job.running.episode)

    def _stepped(self, result: StepResult, episode: Episode) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        reward = shaped(result.reward, self._pool.shaping, result.info, episode)
        return result.observation, reward, result.terminated, result.truncated, result.info

    def _calling(self) -> _Call:
        self._pool._check_loop()
        self._check_there()
        if self._called:
            raise AlreadyPendingCallError(
                "another coroutine is waiting for a step or reset of this environment; an episode has one step after "
                "the other: take an environment of its own for each coroutine (`async with pool.env() as env`)",
                "astep",
            )
        return _Call(self)

    def _check_there(self) -> None:
        if self._gone is not None:
            raise ClosedEnvironmentError(
                "this environment was left, or its pool is closed; take another one with `async with pool.env() as env`"
            )

    async def _calm(self) -> None:
        """Wait for a call whose caller was cancelled; its error is logged, its result discarded."""
        if self._flight is not None:
            await asyncio.wait([self._flight.result])
            self._flight = None
            self._check_there()

    def _take_off(self) -> Flight:
        self._check_there()
        flight = self._flight = self._pool._take_off(self._land)
        return flight

    async def _arrival(self, outcome: asyncio.Future[R]) -> R:
        """Wait for the outcome of the running call."""
        flight = self._flight
        assert flight is not None
        try:
            result = await asyncio.shield(outcome)
        except asyncio.CancelledError:
            if flight.withdraw():
                self._flight = None
            else:
                flight.result.add_done_callback(_log_unseen)
            raise
        except BaseException:
            self._flight = None
            raise
        self._flight = None
        return result

    def _land(self, job: Job, opening: Opening | None) -> tuple[StepResult, list[EpisodeWithKey]]:
        # Here, so that steps of cancelled callers are followed, too.
        credited = self._pool.credit and not job.step.opening
        if credited:
            credit.Ledger.of(job.running.episode)
        result = self._pool._backend.finish(job)
        if credited:
            credit.note(job.running.episode, result.info)
        if opening is not None:
            self._rng = opening.rng
        return result, self._current.finish("", job.running, job.step, result)

    def _leave(self) -> asyncio.Future[None]:
        """Give the place back when no call is running and the rows are deleted; may be called twice."""
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            flight = self._flight
            left = ClosedEnvironmentError("the environment was left before this call began; it was withdrawn")
            if flight is None or flight.result.done() or flight.withdraw(left):
                self._vacate()
            else:
                flight.result.add_done_callback(lambda _: self._vacate())
        return self._gone

    def _vacate(self) -> None:
        ended = self._current.take(None)
        if ended:
            self._pool._pipeline.releasing.put(ended[0], self._vacated)
        else:
            self._vacated(None)

    def _vacated(self, error: BaseException | None) -> None:
        assert self._gone is not None
        self._pool._vacated(self)
        if error is None:
            self._gone.set_result(None)
        else:
            self._gone.set_exception(error)


class Forks(tuple[PoolEnv, ...]):
    """The result of ``pool.fork``: a tuple of forks, all of which ``async with`` or :meth:`aclose` gives back.

    A single fork is given back with its own ``aclose``.
    """

    async def __aenter__(self) -> Forks:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Give all places back and delete the rows; may be called twice."""
        # All leave at once, so that a cancellation forgets none.
        await asyncio.shield(asyncio.gather(*(fork._leave() for fork in self)))


class _Call:
    """Marks an environment as being called."""

    __slots__ = ("_env",)

    def __init__(self, env: PoolEnv) -> None:
        self._env = env

    def __enter__(self) -> None:
        self._env._called = True

    def __exit__(self, *_: object) -> None:
        self._env._called = False


class Lease:
    """The result of ``pool.env()``: a context that waits for a place and gives it back."""

    def __init__(self, pool: AtomMemPool) -> None:
        self._pool = pool
        self._env: PoolEnv | None = None

    async def __aenter__(self) -> PoolEnv:
        if self._env is not None:
            raise RuntimeError("this `pool.env()` was entered before; call pool.env() anew for each episode")
        self._env = await self._pool._occupy()
        return self._env

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._env is not None
        # If this is cancelled, the place is still given back, a little later.
        await asyncio.shield(self._env._leave())


def _log_unseen(result: asyncio.Future[Any]) -> None:
    error = None if result.cancelled() else result.exception()
    if error is not None:
        logger.warning("a step or reset whose caller was cancelled failed, and its episode is as it was: %s", error)
