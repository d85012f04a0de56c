"""Plays one episode in an asynchronous environment and returns its trace."""

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
    """The methods of an environment that a rollout calls; ``AtomMemPool.env()`` gives one."""

    @property
    def config(self) -> EnvConfig:
        """The environment's keyword arguments, defaults filled in."""
        ...

    @property
    def episode(self) -> Episode:
        """The running episode."""
        ...

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; observation and info."""
        ...

    async def astep(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out an action; observation, reward, terminated, truncated and info."""
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
    """Let a player play one episode to its end.

    A scripted player acts exactly as in :func:`atommem_gym.agents.play.play_episode`. Whatever the environment or the
    player raises reaches the caller, and then there is no trace of the episode.

    Args:
        env: An environment of a pool that no other coroutine uses.
        player: Who plays; it is reset first.
        index: Index of the item, ``0 <= index < num_items``.
        shuffle_seed: Seed of the item's layout.
        seed: Seeds the player, together with the item and its layout.
        recorder: Makes the trace. An environment does not know its own id, so without a recorder the trace has the id
            ``AtomMem-Custom`` and cannot be replayed.
        on_step: Called after the reset (with ``None`` as turn) and after every step; its time does not count.

    Returns:
        The trace of the episode.

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
        IndexError: there is no item of this index.
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
