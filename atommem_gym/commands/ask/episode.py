"""One episode over the user's files: how it is played, and what the player had in sight when it answered."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from atommem_gym.agents.players.player import Player
from atommem_gym.agents.rollout import OnStep, rollout
from atommem_gym.config import EnvConfig
from atommem_gym.envs import AtomMemEnv
from atommem_gym.episode import Episode
from atommem_gym.records.own_files import OwnFiles
from atommem_gym.step import Observation, Phase
from atommem_gym.traces import AgentTrace, EpisodeTrace, TraceRecorder
from atommem_gym.traces.causes import closing_steps
from atommem_gym.traces.env_keywords import CUSTOM_ID


def unscored(prediction: str, answers: Sequence[str], question: str) -> float:
    """The reward of questions without a gold answer."""
    return 0.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What an episode is about."""

    files: OwnFiles
    """The documents that are read."""
    keywords: dict[str, Any]
    """Of the environment, besides items and reward."""
    memory_key: str | None
    """The kept memory to go on with."""


async def play(env: AtomMemEnv, player: Player, asked: Asked, on_step: OnStep) -> EpisodeTrace:
    """Let the player read and answer.

    Raises:
        AtomMemError: the store or the player's model failed.
    """
    keywords = {**asked.keywords, "reward": unscored}
    recorder = TraceRecorder(CUSTOM_ID, keywords, AgentTrace(player.name, dict(player.settings)))
    return await rollout(_Opened(env, asked), player, 0, recorder=recorder, on_step=on_step)


@dataclass(frozen=True, slots=True)
class Seen:
    """What the player had in sight while a question was open."""

    reads: tuple[tuple[str, tuple[dict[str, Any], ...]], ...]
    """Each query with the entries (id, text, score) that it found, in their order."""
    scratchpad: str
    """When the question was closed."""


def in_sight(trace: EpisodeTrace, question: int) -> Seen:
    """What the player saw for a question."""
    closed = closing_steps(trace)
    first = closed[question - 1] + 1 if question else 0
    seen = [step.observation for step in trace.steps[first : closed[question] + 1]]
    reads = {one["query"]: tuple(one["memories"]) for one in seen if one["query"] and one["phase"] == Phase.ANSWERING}
    return Seen(tuple(reads.items()), seen[-1]["scratchpad"])


class _Opened:
    """The environment as a rollout drives it, which goes on with a kept memory and does not read where nothing is."""

    def __init__(self, env: AtomMemEnv, asked: Asked) -> None:
        self._env = env
        self._asked = asked

    @property
    def config(self) -> EnvConfig:
        """All keyword arguments, resolved."""
        return self._env.config

    @property
    def episode(self) -> Episode:
        """The running episode."""
        return self._env.episode

    async def areset(
        self, *, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin the episode, at its first question if there are no documents."""
        going_on = {} if self._asked.memory_key is None else {"memory": self._asked.memory_key}
        observation, info = self._env.reset(seed=seed, options={**(options or {}), **going_on})
        if not self._asked.files.documents:
            # A stream has at least one chunk; an empty one is nothing that a policy should have to deal with.
            observation, _, _, _, info = self._env.step("")
        return observation, info

    async def astep(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Carry out an action."""
        return self._env.step(action)
