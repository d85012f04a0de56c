"""Lets a player play one episode in an asynchronous environment, and returns the whole record of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeAlias

from atommem_gym.agents.players.player import Player, Turn
from atommem_gym.agents.playing import Playing
from atommem_gym.config import EnvConfig
from atommem_gym.episode import Episode
from atommem_gym.step import Observation
from atommem_gym.traces import AgentTrace, EpisodeTrace, TraceRecorder
from atommem_gym.traces.env_keywords import CUSTOM_ID, config_keywords

OnStep: TypeAlias = Callable[[Turn | None, Observation, Mapping[str, Any]], None]
"""Called after the reset (without a turn) and after each step with turn, observation and info."""


class AsyncEnv(Protocol):
    """What a rollout needs of an environment; ``AtomMemPool.env()`` gives one."""

    @property
    def config(self) -> EnvConfig:
        """All keyword arguments, resolved."""
        ...

    @property
    def episode(self) -> Episode:
        """The running episode."""
        ...

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode."""
        ...

    async def astep(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out an action."""
        ...


async def rollout(
    env: AsyncEnv,
    player: Player,
    index: int,
    *,
    shuffle_seed: int = 0,
    seed: int = 0,
    recorder: TraceRecorder | None = None,
    on_step: OnStep | None = None,
) -> EpisodeTrace:
    """Play item ``index`` to its end.

    A scripted player acts exactly as in :func:`atommem_gym.agents.play.play_episode`. Whatever the environment or the
    player raises goes to the caller, and the episode has no record then.

    Args:
        env: Of a pool, not in use by anyone else.
        player: Who plays; it is reset first.
        index: The item.
        shuffle_seed: Its layout.
        seed: Seeds the player, together with the item.
        recorder: Makes the record. An environment does not know its own id, so without one the record's is
            ``AtomMem-Custom``, which cannot be replayed.
        on_step: Called after every step.

    Example:
        >>> import asyncio
        >>> from atommem_gym.agents.players.player import make_player
        >>> from atommem_gym.envs.pool.pool import AtomMemPool
        >>> async def play():
        ...     async with AtomMemPool("AtomMem-Synthetic-v0", 1, num_docs=20, store="numpy") as pool:
        ...         async with pool.env() as env:
        ...             return await rollout(env, make_player("oracle")(), index=3)
        >>> asyncio.run(play()).metrics["em"]
        1.0

    Raises:
        AtomMemError: the environment's I/O or the player's model failed.
    """
    playing = Playing[Turn | None, Observation](player.name, index, shuffle_seed, seed, on_step)
    observation, info = await env.areset(options=playing.options)
    player.reset(env.episode, playing.agent_seed())
    if recorder is None:
        agent = AgentTrace(player.name, player.settings)
        recorder = TraceRecorder(CUSTOM_ID, config_keywords(env.config), agent, seed)
    recorder.reset(env.episode, observation, info)
    playing.show(None, observation, info)
    while not playing.over:
        with playing.timed("agent"):
            turn = await player.act(playing.observation)
        with playing.timed("env"):
            result = await env.astep(turn.action)
        recorder.step(turn, *result, seconds=playing.seconds)
        playing.step(turn, *result)
    return recorder.finish()
