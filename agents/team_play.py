"""Plays teams in their environment and keeps what is worth a row in a table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from atommem_gym.agents.agent import Agent
from atommem_gym.agents.play import EpisodeRecord
from atommem_gym.agents.players.player import Player
from atommem_gym.agents.team import Team
from atommem_gym.envs.team.team import TeamEnv
from atommem_gym.records.layout import stable_rng
from atommem_gym.step import Observation


def play_team(
    env: TeamEnv, team: Team, name: str, index: int, *, shuffle_seed: int = 0, seed: int = 0
) -> EpisodeRecord:
    """Let a team of scripted agents play item ``index`` to its end.

    Args:
        env: Where it plays.
        team: Who plays which part.
        name: What the record calls the team.
        index: The item.
        shuffle_seed: Its layout.
        seed: Seeds the agents, together with the item.

    Returns:
        The team's record: ``steps`` are rounds, in each of which all act; ``agent_ms`` is the time of all of them.

    >>> from atommem_gym.agents.team import make_team
    >>> from atommem_gym.envs.team.team import parallel_env
    >>> env = parallel_env(readers=2, num_docs=20, chunk_tokens=400, store="numpy")
    >>> record = play_team(env, make_team("oracle", readers=2), "oracle", index=0)
    >>> record.em, record.rejected
    (1.0, 0)
    >>> env.close()
    """
    game = _Game(env, name, index, shuffle_seed, seed)
    observations = game.begin(team)
    while env.agents:
        started = time.perf_counter()
        actions = {agent: team[agent].act(observations[agent]) for agent in env.agents}
        observations = game.step(actions, time.perf_counter() - started)
    return game.record()


async def aplay_team(
    env: TeamEnv, team: Mapping[str, Player], name: str, index: int, *, shuffle_seed: int = 0, seed: int = 0
) -> EpisodeRecord:
    """Let a team of players, such as language models, play item ``index``; those of a round are asked all at once.

    Args:
        env: Where it plays.
        team: Who plays which part.
        name: What the record calls the team.
        index: The item.
        shuffle_seed: Its layout.
        seed: Seeds the players, together with the item.

    Returns:
        The team's record; ``agent_ms`` is the time of the slowest in each round.

    Raises:
        LanguageModelError: a model gave no usable reply; the others of its round are given up.
    """
    game = _Game(env, name, index, shuffle_seed, seed)
    observations = game.begin(team)
    while env.agents:
        started = time.perf_counter()
        asked = [asyncio.ensure_future(team[agent].act(observations[agent])) for agent in env.agents]
        try:
            turns = await asyncio.gather(*asked)
        except BaseException:
            for one in asked:
                one.cancel()
            await asyncio.gather(*asked, return_exceptions=True)
            raise
        actions = {agent: turn.action for agent, turn in zip(env.agents, turns, strict=True)}
        observations = game.step(actions, time.perf_counter() - started)
    return game.record()


@dataclass(slots=True)
class _Game:
    """One episode of a team, and what it took so far."""

    env: TeamEnv
    name: str
    index: int
    shuffle_seed: int
    seed: int
    steps: int = 0
    reward: float = 0.0
    truncated: bool = False
    in_env: float = 0.0
    in_agents: float = 0.0
    info: dict[str, Any] | None = None

    def begin(self, team: Mapping[str, Agent | Player]) -> dict[str, Observation]:
        observations, _ = self.env.reset(options={"index": self.index, "shuffle_seed": self.shuffle_seed})
        for agent, member in self.env.episode.members.items():
            generator = stable_rng("play a team", self.name, agent, self.seed, self.index, self.shuffle_seed)
            team[agent].reset(member, int(generator.integers(2**31)))
        return observations

    def step(self, actions: Mapping[str, str], seconds: float) -> dict[str, Observation]:
        started = time.perf_counter()
        observations, rewards, _, truncations, infos = self.env.step(actions)
        self.in_env += time.perf_counter() - started
        self.in_agents += seconds
        self.steps += 1
        # Reward, end and metrics are the same for all.
        self.reward += next(iter(rewards.values()))
        self.truncated = next(iter(truncations.values()))
        self.info = next(iter(infos.values()))
        return observations

    def record(self) -> EpisodeRecord:
        assert self.info is not None
        return EpisodeRecord.of(
            self.info,
            agent=self.name,
            index=self.index,
            shuffle_seed=self.shuffle_seed,
            seed=self.seed,
            reward=self.reward,
            steps=self.steps,
            truncated=self.truncated,
            env_ms=1000 * self.in_env / self.steps,
            agent_ms=1000 * self.in_agents / self.steps,
        )
