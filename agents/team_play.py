"""Plays teams in their environment and keeps what is worth a row in a table."""

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
    game = _Game(env, team, name, index, shuffle_seed, seed)
    while not game.over:
        with game.timed("agent"):
            actions = {agent: team[agent].act(game.observation[agent]) for agent in env.agents}
        game.round(actions)
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
    """One episode of a team: reward, end and metrics of a round are the same for all."""

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
        """Let all act."""
        with self.timed("env"):
            observations, rewards, terminations, truncations, infos = self.env.step(actions)
        first = next(iter(infos))
        self.step(actions, observations, rewards[first], terminations[first], truncations[first], infos[first])
