"""One environment of an async pool: Gymnasium's ``reset`` and ``step``, to be awaited, and safe to cancel."""

from __future__ import annotations

import asyncio
import copy
import logging
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError

from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Job, Running
from atommem_gym.envs.pool.flight import Flight, Opening
from atommem_gym.envs.shaping import shaped
from atommem_gym.envs.slot import EpisodeAccess, Slot
from atommem_gym.episode import Episode
from atommem_gym.records.record import Items
from atommem_gym.step import Observation, StepResult

if TYPE_CHECKING:
    from atommem_gym.envs.pool.pool import AtomMemPool

logger = logging.getLogger(__name__)


class PoolEnv(EpisodeAccess):
    """One environment of a pool, for one coroutine at a time: Gymnasium's ``reset`` and ``step``, to be awaited.

    Each ``pool.env()`` gives a fresh one; it equals, bit for bit, a plain environment with the same keyword arguments,
    seeds and actions (SPEC M15).

    **Cancellation.** A call that is cancelled before any of its I/O began is withdrawn: it never happened. Otherwise it
    is carried out to its end in the background, never half. Either way the environment stays usable: the next
    :meth:`areset` or :meth:`astep` first waits for what is under way, and :meth:`settle` does so and returns what it
    returned.
    """

    def __init__(self, pool: AtomMemPool) -> None:
        self._pool = pool
        self._slot = Slot(pool.items, pool._by_difficulty, pool._backend, render=False)
        self._rng: np.random.Generator | None = None
        self._flight: Flight | None = None
        """The call under way, or one whose caller was cancelled and whose result nobody has seen."""
        self._called = False
        self._gone: asyncio.Future[None] | None = None

    @property
    def config(self) -> EnvConfig:
        """All keyword arguments, resolved."""
        return self._pool.config

    @property
    def items(self) -> Items:
        """What there is to read and to ask."""
        return self._pool.items

    @property
    def num_items(self) -> int:
        """How many items there are; ``areset(options={"index": i})`` takes ``0 <= i < num_items``."""
        return self._pool.num_items

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode with empty memory; arguments and errors are those of ``AtomMemEnv.reset``.

        Raises:
            IndexError, ConfigError, StoreError: nothing has changed, the old episode goes on.
            AlreadyPendingCallError: another coroutine is calling this environment.
            ClosedEnvironmentError: the environment was left, or the pool is closed.
        """
        with self._calling():
            await self._calm()
            flight = self._take_off()
            if seed is not None or self._rng is None:
                rng = gym.utils.seeding.np_random(seed)[0]
            else:
                # A reset that fails or is withdrawn draws the same item when it is repeated.
                rng = copy.deepcopy(self._rng)
            flight.open(Opening(self._slot, rng, dict(options or {})))
            result = await self._arrival(flight)
        return result.observation, result.info

    async def astep(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Execute the operations of an action and move on; errors are those of ``AtomMemEnv.step``.

        Raises:
            ResetNeeded: before the first ``areset`` or after the end of the episode.
            TypeError: the action is no string.
            EmbedderError, StoreError, JudgeError: nothing has changed; the same step may be repeated.
            AlreadyPendingCallError: another coroutine is calling this environment.
            ClosedEnvironmentError: the environment was left, or the pool is closed.
        """
        with self._calling():
            await self._calm()
            job = self._pool._backend.job(*self._slot.begin_step(action))
            if not (job.scored or job.embedded or job.stored):
                # A step without I/O must not keep the event loop to itself.
                await asyncio.sleep(0)
            flight = self._take_off()
            flight.carry_out(job)
            result = await self._arrival(flight)
        return self._stepped(result, job.running.episode)

    async def settle(
        self,
    ) -> tuple[Observation, float, bool, bool, dict[str, Any]] | tuple[Observation, dict[str, Any]] | None:
        """Wait for the call that a cancelled caller left under way, and return what it would have got.

        Returns:
            What :meth:`astep` or :meth:`areset` returned, once; ``None`` if the call was withdrawn, or none was
            cancelled.

        Raises:
            EmbedderError, StoreError, JudgeError: that call failed; nothing has changed.
        """
        with self._calling():
            flight = self._flight
            if flight is None:
                return None
            result = await asyncio.shield(flight.result)
            self._flight = None
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
        """Wait for what a cancelled caller left under way; its error was logged, its result is forgotten."""
        if self._flight is not None:
            await asyncio.wait([self._flight.result])
            self._flight = None
            self._check_there()

    def _take_off(self) -> Flight:
        self._check_there()
        self._flight = self._pool._take_off(self._land)
        return self._flight

    async def _arrival(self, flight: Flight) -> StepResult:
        try:
            result = await asyncio.shield(flight.result)
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

    def _land(self, job: Job, opening: Opening | None) -> tuple[StepResult, list[Running]]:
        result = self._pool._backend.finish(job)
        if opening is not None:
            self._rng = opening.rng
        return result, self._slot.finish("", job.running, job.step, result)

    def _leave(self) -> asyncio.Future[None]:
        """Give the place back once nothing is under way and the rows are gone; leaving twice is no error."""
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
        ended = self._slot.take(None)
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
    """What ``pool.env()`` returns: waits for a place, and gives it back."""

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
        # If this is cancelled, the place is given back all the same, a little later.
        await asyncio.shield(self._env._leave())


def _log_unseen(result: asyncio.Future[StepResult]) -> None:
    error = None if result.cancelled() else result.exception()
    if error is not None:
        logger.warning("a step or reset whose caller was cancelled failed, and its episode is as it was: %s", error)
