"""Sessions of a server on one pool of environments, which embeds and writes for all of them at once."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Mapping
from typing import Any

from atommem_gym import __version__
from atommem_gym.envs import AtomMemPool
from atommem_gym.envs.pool.pool_env import PoolEnv
from atommem_gym.prompts import PromptTemplate
from atommem_gym.traces.codec import plain
from openenv.core.env_server.interfaces import Environment
from openenv.core.env_server.types import EnvironmentMetadata, State

try:
    from ..models import AtomMemAction, AtomMemObservation
except ImportError:  # started in this folder, as OpenEnv's images do
    from models import AtomMemAction, AtomMemObservation


class AtomMemEnvironment(Environment[AtomMemAction, AtomMemObservation, State]):
    """One session: an environment of a pool, taken at the first reset and returned at the end.

    Args:
        pool: The pool that all sessions share; each of its environments is equal to a plain one, bit for bit.
    """

    SUPPORTS_CONCURRENT_SESSIONS = True

    def __init__(self, pool: AtomMemPool) -> None:
        super().__init__()
        self._pool = pool
        self._template = PromptTemplate(pool.config)
        self._env: PoolEnv | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._state = State(episode_id=None, step_count=0)

    async def reset_async(
        self, seed: int | None = None, episode_id: str | None = None, **options: Any
    ) -> AtomMemObservation:
        """Begin an episode with empty memory.

        Args:
            seed: Seeds the generator that draws the item.
            episode_id: Id of the episode in ``state``; by default a random one.
            options: Options of the environment: ``index``, ``shuffle_seed``, ``difficulty``.

        Raises:
            IndexError, ConfigError: there is no such item or option; nothing has changed.
        """
        if self._env is None:
            self._loop = asyncio.get_running_loop()
            self._env = await self._pool.env().__aenter__()
        observation, info = await self._env.areset(seed=seed, options=options)
        self._state = State(episode_id=episode_id or str(uuid.uuid4()), step_count=0)
        return self._told(observation, None, False, False, info)

    async def step_async(
        self, action: AtomMemAction, timeout_s: float | None = None, **keywords: Any
    ) -> AtomMemObservation:
        """Carry out an action.

        Raises:
            ResetNeeded: there was no reset yet, or the episode has ended.
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed; repeat the step.
        """
        if self._env is None:
            from gymnasium.error import ResetNeeded

            raise ResetNeeded("this session has no episode yet; call reset() first, and keep the connection for step()")
        observation, reward, terminated, truncated, info = await self._env.astep(action.text)
        self._state.step_count += 1
        return self._told(observation, reward, terminated, truncated, info)

    def _told(
        self, observation: Mapping[str, Any], reward: float | None, terminated: bool, truncated: bool, info: Any
    ) -> AtomMemObservation:
        return AtomMemObservation(
            **plain(observation),
            messages=self._template.messages(observation),
            terminated=terminated,
            truncated=truncated,
            done=terminated or truncated,
            reward=reward,
            metadata=plain(info),
        )

    def reset(self, seed: int | None = None, episode_id: str | None = None, **options: Any) -> AtomMemObservation:
        """Not supported: use ``reset_async``.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("this environment is awaited: await reset_async(…)")

    def step(self, action: AtomMemAction, timeout_s: float | None = None, **keywords: Any) -> AtomMemObservation:
        """Not supported: use ``step_async``.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("this environment is awaited: await step_async(…)")

    @property
    def state(self) -> State:
        """Id of the episode, and its number of steps so far."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """Name, description and version of the server."""
        return EnvironmentMetadata(
            name="atommem_openenv",
            description=f"{self._pool.env_id} of atommem-gym: read a stream, keep what matters in memory, then answer",
            version=__version__,
        )

    def close(self) -> None:
        """Return the environment to the pool; it may be called from any thread, so it does not wait for that."""
        env, self._env = self._env, None
        if env is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed, and the pool with it
                asyncio.run_coroutine_threadsafe(env.aclose(), self._loop)
