"""Plays agents in an environment and keeps what is worth a row in a table."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym

from atommem_gym.agents.agent import Agent
from atommem_gym.envs import AtomMemEnv
from atommem_gym.errors import ConfigError
from atommem_gym.records.layout import stable_rng
from atommem_gym.step import Observation

Env: TypeAlias = gym.Env[Observation, str]
OnStep: TypeAlias = Callable[[str, Observation, dict[str, Any]], None]
"""Called after the reset (with an empty action) and after each step with action, observation and info."""


@dataclass(frozen=True, slots=True)
class EpisodeRecord:
    """What became of one episode; JSON values only."""

    agent: str
    item: str
    index: int
    shuffle_seed: int
    seed: int
    reward: float
    em: float
    f1: float
    operations: dict[str, int]
    """Executed operations by kind."""
    rejected: int
    """Rejected and cut operations."""
    peak_entries: int
    final_entries: int
    evidence_recall: float | None
    """By the lenient heuristic (SPEC E12); ``None`` where no question names evidence, so is the exact one."""
    evidence_recall_exact: float | None
    steps: int
    truncated: bool
    env_ms: float
    """Milliseconds a step spent in the environment, reset left out; the agent's own time does not count."""
    agent_ms: float
    """Milliseconds a step spent in the agent."""
    answers: tuple[dict[str, Any], ...] = ()
    """``answer``, ``closed``, ``em`` and ``answerable`` of each question, where some may have no answer (SPEC R5)."""

    @classmethod
    def of(cls, info: Mapping[str, Any], **played: Any) -> EpisodeRecord:
        """The record of a finished episode.

        Args:
            info: Of its last step; the item and the metrics are taken from it.
            **played: The fields that the environment does not know: who played, how, and what it took.
        """
        metrics = info["episode_metrics"]
        measured = ("em", "f1", "rejected", "peak_entries", "final_entries", "evidence_recall", "evidence_recall_exact")
        return cls(
            item=info["item"],
            operations=dict(metrics["operations"]),
            answers=_for_abstention(metrics),
            **{name: metrics[name] for name in measured},
            **played,
        )


def _for_abstention(metrics: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    if "abstention_recall" not in metrics:
        return ()
    return tuple(
        {**{name: answer[name] for name in ("answer", "closed", "em")}, "answerable": answer.get("answerable", True)}
        for answer in metrics["answers"]
    )


def atommem_env(env: Env) -> AtomMemEnv:
    """The environment under all wrappers.

    Raises:
        ConfigError: it is none of this family.
    """
    if not isinstance(env.unwrapped, AtomMemEnv):
        raise ConfigError(f"{env} is no AtomMem environment; make one with gymnasium.make('AtomMem-…-v0')")
    return env.unwrapped


def play_episode(
    env: Env, agent: Agent, index: int, *, shuffle_seed: int = 0, seed: int = 0, on_step: OnStep | None = None
) -> EpisodeRecord:
    """Let an agent play item ``index`` to its end.

    Args:
        env: An AtomMem environment whose observations are not rewritten by a wrapper.
        agent: Who plays.
        index: The item.
        shuffle_seed: Its layout.
        seed: Seeds the agent, together with the item.
        on_step: Called after every step.
    """
    base = atommem_env(env)
    observation, info = env.reset(options={"index": index, "shuffle_seed": shuffle_seed})
    generator = stable_rng("play", agent.name, seed, index, shuffle_seed)
    agent.reset(base.episode, int(generator.integers(2**31)))
    if on_step:
        on_step("", observation, info)
    steps, reward, in_env, in_agent, over, truncated = 0, 0.0, 0.0, 0.0, False, False
    while not over:
        started = time.perf_counter()
        action = agent.act(observation)
        acted = time.perf_counter()
        observation, gained, terminated, truncated, info = env.step(action)
        in_env += time.perf_counter() - acted
        in_agent += acted - started
        steps += 1
        reward += float(gained)
        over = terminated or truncated
        if on_step:
            on_step(action, observation, info)
    return EpisodeRecord.of(
        info,
        agent=agent.name,
        index=index,
        shuffle_seed=shuffle_seed,
        seed=seed,
        reward=reward,
        steps=steps,
        truncated=truncated,
        env_ms=1000 * in_env / steps,
        agent_ms=1000 * in_agent / steps,
    )


def draw_items(num_items: int, episodes: int, seed: int) -> list[tuple[int, int]]:
    """Items to play, as pairs of index and ``shuffle_seed``: none twice before all were played, then in a new layout.

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
    """Play episode after episode; after an interruption the caller has all records so far.

    Args:
        env: An AtomMem environment.
        agent: Who plays.
        episodes: How many, drawn by ``seed`` alone, so that all agents meet the same ones; or the items' indices.
        seed: Seeds the draw and the agent.
        on_step: Called after every step.
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
