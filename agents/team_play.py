"""Plays teams in their environment and returns a record of each episode."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from atommem_gym.agents.agent import Agent
from atommem_gym.agents.players.player import Player
from atommem_gym.agents.playing import EpisodeRecord, Playing
from atommem_gym.agents.team import Team
from atommem_gym.envs.team.team import TeamEnv
from atommem_gym.step import Observation


def play_team(
    env: TeamEnv, team: Team, name: str, index: int, *, shuffle_seed: int = 0, seed: int = 0
) -> EpisodeRecord:
    """Let a team of scripted agents play one episode to its end.

    Args:
        env: The team's environment.
        team: The agent of each part.
        name: Name of the team, for the record.
        index: Index of the item.
        shuffle_seed: Seed of the item's layout.
        seed: Seeds the agents, together with the item and its layout.

    Returns:
        The team's record. ``steps`` are rounds, in each of which every agent acts; ``agent_ms`` adds up the time of
        all agents in a round.

    Raises:
        IndexError: there is no item of this index.
        AtomMemError: the environment's I/O failed.

    >>> from atommem_gym.agents.team import make_team
    >>> from atommem_gym.envs.team.team import parallel_env
    >>> env = parallel_env(readers=2, num_docs=20, chunk_tokens=400, store="numpy")
    >>> record = play_team(env, make_team("oracle", readers=2), "oracle", index=0)
    >>> record.em, record.rejected
    (1.0, 0)
    >>> env.close()
    """
    game = _Game(env, team, name, index, shuffle_seed, seed)
    while not game.over:
        with game.timed("agent"):
            actions = {agent: team[agent].act(game.observation[agent]) for agent in env.agents}
        game.round(actions)
    return game.record()


async def aplay_team(
    env: TeamEnv, team: Mapping[str, Player], name: str, index: int, *, shuffle_seed: int = 0, seed: int = 0
) -> EpisodeRecord:
    """Let a team of players, such as language models, play one episode; the players of a round are asked at once.

    Args:
        env: The team's environment.
        team: The player of each part.
        name: Name of the team, for the record.
        index: Index of the item.
        shuffle_seed: Seed of the item's layout.
        seed: Seeds the players, together with the item and its layout.

    Returns:
        The team's record. ``steps`` are rounds; ``agent_ms`` counts the slowest player of each round.

    Raises:
        IndexError: there is no item of this index.
        LanguageModelError: a model gave no usable reply; the other calls of its round are cancelled.
        AtomMemError: the environment's I/O failed.
    """
    game = _Game(env, team, name, index, shuffle_seed, seed)
    while not game.over:
        with game.timed("agent"):
            asked = [asyncio.ensure_future(team[agent].act(game.observation[agent])) for agent in env.agents]
            try:
                turns = await asyncio.gather(*asked)
            except BaseException:
                for one in asked:
                    one.cancel()
                await asyncio.gather(*asked, return_exceptions=True)
                raise
        game.round({agent: turn.action for agent, turn in zip(env.agents, turns, strict=True)})
    return game.record()


class _Game(Playing[dict[str, str], dict[str, Observation]]):
    """One episode of a team: reward, end and metrics of a round are the same for every member."""

    def __init__(
        self, env: TeamEnv, team: Mapping[str, Agent | Player], name: str, index: int, shuffle_seed: int, seed: int
    ) -> None:
        super().__init__(name, index, shuffle_seed, seed)
        self.env = env
        observations, infos = env.reset(options=self.options)
        for part, member in env.episode.members.items():
            team[part].reset(member, self.agent_seed(part))
        self.show({}, observations, next(iter(infos.values())))

    def round(self, actions: dict[str, str]) -> None:
        """Step the environment with the actions of all agents."""
        with self.timed("env"):
            observations, rewards, terminations, truncations, infos = self.env.step(actions)
        first = next(iter(infos))
        self.step(actions, observations, rewards[first], terminations[first], truncations[first], infos[first])
