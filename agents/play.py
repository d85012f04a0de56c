"""Plays agents in an environment, one episode after the other, and returns a record of each episode."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import gymnasium as gym

from atommem_gym.agents.agent import Agent
from atommem_gym.agents.playing import EpisodeRecord, Playing
from atommem_gym.envs.wrappers.base import atommem_env
from atommem_gym.records.layout import stable_rng
from atommem_gym.step import Observation

Env: TypeAlias = gym.Env[Observation, str]
OnStep: TypeAlias = Callable[[str, Observation, dict[str, Any]], None]
"""Called after the reset (with an empty action) and after each step with action, observation and info."""


def play_episode(
    env: Env, agent: Agent, index: int, *, shuffle_seed: int = 0, seed: int = 0, on_step: OnStep | None = None
) -> EpisodeRecord:
    """Let an agent play one episode to its end.

    Args:
        env: An AtomMem environment; no wrapper around it rewrites observations.
        agent: Who plays; it is reset first.
        index: Index of the item, ``0 <= index < num_items``.
        shuffle_seed: Seed of the item's layout.
        seed: Seeds the agent, together with the item and its layout.
        on_step: Called after the reset and after every step; its time does not count.

    Returns:
        Score, costs and timing of the episode.

    Raises:
        IndexError: there is no item of this index.
        AtomMemError: the environment's I/O failed.
    """
    base = atommem_env(env)
    playing = Playing(agent.name, index, shuffle_seed, seed, on_step)
    observation, info = env.reset(options=playing.options)
    agent.reset(base.episode, playing.agent_seed())
    playing.show("", observation, info)
    while not playing.over:
        with playing.timed("agent"):
            action = agent.act(playing.observation)
        with playing.timed("env"):
            result = env.step(action)
        playing.step(action, *result)
    return playing.record()


def draw_items(num_items: int, episodes: int, seed: int) -> list[tuple[int, int]]:
    """Draw items to play. No item comes a second time before all have been played, and then in another layout.

    Args:
        num_items: Items to draw from.
        episodes: How many to draw.
        seed: Seeds the draw.

    Returns:
        Pairs of index and ``shuffle_seed``; the latter is the number of the pass over all items, from 0.

    >>> sorted(draw_items(2, 3, seed=0))[:2]
    [(0, 0), (1, 0)]
    """
    drawn: list[tuple[int, int]] = []
    for epoch in range(-(-episodes // num_items)):
        count = min(num_items, episodes - len(drawn))
        order = stable_rng("items to play", seed, epoch).choice(num_items, size=count, replace=False)
        drawn += [(int(index), epoch) for index in order]
    return drawn


def iterate(
    env: Env,
    agent: Agent,
    episodes: int | Sequence[int],
    seed: int = 0,
    on_step: OnStep | None = None,
) -> Iterator[EpisodeRecord]:
    """Play episode after episode and yield each record at once, so that an interrupted caller keeps the records so far.

    Args:
        env: An AtomMem environment.
        agent: Who plays.
        episodes: How many; they are drawn by ``seed`` alone, so all agents meet the same ones. Or the items' indices.
        seed: Seeds the draw and the agent.
        on_step: Called after each reset and every step.
    """
    if isinstance(episodes, int):
        items = draw_items(atommem_env(env).num_items, episodes, seed)
    else:
        items = [(index, 0) for index in episodes]
    for index, shuffle_seed in items:
        yield play_episode(env, agent, index, shuffle_seed=shuffle_seed, seed=seed, on_step=on_step)


def play(
    env: Env,
    agent: Agent,
    episodes: int | Sequence[int],
    seed: int = 0,
    on_step: OnStep | None = None,
) -> list[EpisodeRecord]:
    """The records of :func:`iterate` in a list.

    >>> import gymnasium, atommem_gym
    >>> from atommem_gym.agents import make_agent
    >>> env = gymnasium.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy")
    >>> [record.em for record in play(env, make_agent("oracle"), episodes=2)]
    [1.0, 1.0]
    >>> env.close()
    """
    return list(iterate(env, agent, episodes, seed, on_step))


__all__ = ["Env", "EpisodeRecord", "OnStep", "atommem_env", "draw_items", "iterate", "play", "play_episode"]
