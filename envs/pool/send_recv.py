"""Steps a pool like EnvPool: send actions, receive the results that are ready."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt
from gymnasium.error import AlreadyPendingCallError, NoAsyncCallError

from atommem_gym.errors import ConfigError, StepFailedError
from atommem_gym.step import Observation

if TYPE_CHECKING:
    from atommem_gym.envs.pool.pool_env import PoolEnv

EnvIds: TypeAlias = Sequence[int] | npt.NDArray[np.int64]


class Received(NamedTuple):
    """Results of several environments in the order in which they got ready; ``env_ids`` has their numbers."""

    observations: tuple[Observation, ...]
    """One observation per result, not batched."""
    rewards: npt.NDArray[np.float64]
    """``[n]`` rewards; 0 for a reset."""
    terminations: npt.NDArray[np.bool_]
    """``[n]``; ``False`` for a reset."""
    truncations: npt.NDArray[np.bool_]
    """``[n]``; ``False`` for a reset."""
    infos: tuple[dict[str, Any], ...]
    """One ``info`` per result, each with its ``env_id``."""

    @property
    def env_ids(self) -> npt.NDArray[np.int64]:
        """``[n]`` numbers of the environments, for the next ``send``."""
        return np.array([info["env_id"] for info in self.infos], np.int64)


class PoolBatches:
    """The numbered environments of a pool, and their running or finished calls.

    Args:
        capacity: Number of environments.
        occupy: Takes a place in the pool; ``None`` if none is free.
    """

    def __init__(self, capacity: int, occupy: Callable[[], PoolEnv | None]) -> None:
        self._capacity = capacity
        self._occupy = occupy
        self._envs: dict[int, PoolEnv] = {}
        self._tasks: dict[int, asyncio.Task[tuple[Any, ...]]] = {}
        """Calls that are running, or ready and not yet received, by number."""
        self._ready: list[int] = []
        self._arrival: asyncio.Future[None] | None = None
        self._closed: Exception | None = None

    def reset(
        self, env_ids: EnvIds | None, seed: int | Sequence[int | None] | None, options: Mapping[str, Any] | None
    ) -> None:
        """See ``AtomMemPool.async_reset``."""
        ids = self._idle(range(self._capacity) if env_ids is None else env_ids)
        if seed is None or isinstance(seed, (int, np.integer)):
            seeds = [None if seed is None else int(seed) + i for i in range(len(ids))]
        else:
            seeds = list(seed)
            _check_one_each("seeds", seeds, ids)
        own = [_own(options or {}, i, ids) for i in range(len(ids))]
        for env_id in ids:
            if env_id not in self._envs:
                env = self._occupy()
                if env is None:
                    raise ConfigError(
                        f"env_id {env_id} has no place: all of the pool's {self._capacity} are taken, some by "
                        "pool.env(); leave those first, or make a pool with a larger capacity"
                    )
                self._envs[env_id] = env
        for env_id, one, chosen in zip(ids, seeds, own, strict=True):
            self._begin(env_id, self._envs[env_id].areset(seed=one, options=chosen))

    def send(self, actions: Sequence[str], env_ids: EnvIds) -> None:
        """See ``AtomMemPool.send``."""
        ids = self._idle(env_ids)
        _check_one_each("actions", actions, ids)
        unknown = [env_id for env_id in ids if env_id not in self._envs]
        if unknown:
            raise ConfigError(f"env_id {unknown[0]} was never reset; call async_reset([{unknown[0]}]) first")
        for env_id, action in zip(ids, actions, strict=True):
            self._begin(env_id, self._envs[env_id].astep(action))

    async def recv(self, min_envs: int) -> Received:
        """See ``AtomMemPool.recv``."""
        if min_envs < 1:
            raise ConfigError(f"min_envs={min_envs} must be at least 1")
        if self._arrival is not None:
            raise AlreadyPendingCallError("another coroutine waits in recv; let one of them receive", "recv")
        if not self._tasks:
            raise NoAsyncCallError("recv, but no environment is under way or ready; send to some first", "recv")
        while len(self._ready) < min(min_envs, len(self._tasks)):
            if self._closed is not None:
                raise self._closed
            self._arrival = asyncio.get_running_loop().create_future()
            try:
                await self._arrival
            finally:
                self._arrival = None
        return self._received()

    async def close(self, error: Exception) -> None:
        """Withdraw calls that have not begun, wait for the others, discard results; ``recv`` raises ``error``."""
        self._closed = error
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_exception(error)
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks.clear()
        self._ready.clear()

    def _begin(self, env_id: int, call: Any) -> None:
        task = asyncio.get_running_loop().create_task(call)
        self._tasks[env_id] = task
        task.add_done_callback(lambda _: self._arrived(env_id))

    def _arrived(self, env_id: int) -> None:
        self._ready.append(env_id)
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)

    def _received(self) -> Received:
        for env_id in self._ready:
            task = self._tasks[env_id]
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            if error is not None:
                self._ready.remove(env_id)
                del self._tasks[env_id]
                raise StepFailedError(env_id, error) from error
        observations, rewards, terminations, truncations, infos = [], [], [], [], []
        for env_id in self._ready:
            result = self._tasks.pop(env_id).result()
            reset = len(result) == 2
            observations.append(result[0])
            rewards.append(0.0 if reset else result[1])
            terminations.append(not reset and result[2])
            truncations.append(not reset and result[3])
            infos.append({**result[-1], "env_id": env_id})
        self._ready.clear()
        return Received(
            tuple(observations),
            np.array(rewards, np.float64),
            np.array(terminations, np.bool_),
            np.array(truncations, np.bool_),
            tuple(infos),
        )

    def _idle(self, env_ids: EnvIds | range) -> list[int]:
        ids = [int(env_id) for env_id in env_ids]
        for env_id in ids:
            if not 0 <= env_id < self._capacity:
                raise ConfigError(f"env_id {env_id} is none of 0 to {self._capacity - 1} (capacity={self._capacity})")
            if env_id in self._tasks:
                raise AlreadyPendingCallError(f"env_id {env_id} is under way or not received yet; recv() first", "send")
        if len(set(ids)) < len(ids):
            raise ConfigError(f"env_ids {ids} name an environment twice; it has one step after the other")
        return ids


def _check_one_each(what: str, values: Sequence[Any], ids: Sequence[int]) -> None:
    if isinstance(values, str) or len(values) != len(ids):
        given = "a string" if isinstance(values, str) else f"{len(values)} {what}"
        raise ConfigError(f"{given} for {len(ids)} environments; give a sequence with one for each")


def _own(options: Mapping[str, Any], i: int, ids: Sequence[int]) -> dict[str, Any]:
    """The reset options of one environment."""
    own = {}
    for name, value in options.items():
        if isinstance(value, (list, tuple, np.ndarray)):
            values = list(value)
            _check_one_each(f"values of option {name}", values, ids)
            value = values[i]
        own[name] = value
    return own
