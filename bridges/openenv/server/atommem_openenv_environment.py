"""Sessions of a server over one pool of environments, which embeds and writes for all of them at once."""

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
    """One session: an environment of a pool, which is taken at the first reset and given back at the end.

    Args:
        pool: Shared by all sessions; equals, environment by environment, a plain one bit for bit.
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
            episode_id: To be told again by ``state``.
            options: Those of the environment: ``index``, ``shuffle_seed``, ``difficulty``.

        Raises:
            IndexError, ConfigError: there is no such item, or no such option; nothing has changed.
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
            ResetNeeded: before the first reset, or after the end of the episode.
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
        """Not there: the pool is awaited."""
        raise NotImplementedError("this environment is awaited: await reset_async(…)")

    def step(self, action: AtomMemAction, timeout_s: float | None = None, **keywords: Any) -> AtomMemObservation:
        """Not there: the pool is awaited."""
        raise NotImplementedError("this environment is awaited: await step_async(…)")

    @property
    def state(self) -> State:
        """The episode's id, and how many steps it has had."""
        return self._state

    def get_metadata(self) -> EnvironmentMetadata:
        """What the server says of itself."""
        return EnvironmentMetadata(
            name="atommem_openenv",
            description=f"{self._pool.env_id} of atommem-gym: read a stream, keep what matters in memory, then answer",
            version=__version__,
        )

    def close(self) -> None:
        """Give the place in the pool back; called from any thread, so that it only asks for it."""
        env, self._env = self._env, None
        if env is not None and self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the pool is, too
                asyncio.run_coroutine_threadsafe(env.aclose(), self._loop)
