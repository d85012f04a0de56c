"""The rollout of ``grpo.py``: plays all sessions of an iteration at once in a vector environment, then their forks."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from atommem_gym.agents.learn.grpo_policy import Policy, Row
from atommem_gym.agents.playing import Playing
from atommem_gym.envs.shaping import load_shaping, shaped
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.prompts import PromptTemplate
from atommem_gym.step import Observation


@dataclass(frozen=True)
class LocalGroups:
    """How many sessions are forked, and into how many continuations."""

    count: int
    """Sessions that are forked, drawn from all; each is forked once, at a step drawn from all but its first."""
    branches: int
    """Continuations per fork: the session's own, and ``branches - 1`` more that are played to their ends."""
    rng: np.random.Generator
    """Draws the sessions and the steps."""


@dataclass(frozen=True)
class Played:
    """The sessions of a rollout.

    A forked session counts as two: the steps before the fork, whose reward is the mean over the continuations, and its
    own continuation, which is a session of the local group.
    """

    rows: list[Row]
    """The steps of all sessions."""
    rewards: Tensor
    """``[sessions]``, shaping included: the sessions of the items in their order, then the continuations of the local
    groups, which count from the fork on."""
    local: Tensor
    """``[continuations]``: the number of each continuation's local group, from 0."""
    exact_match: float
    """Mean over the sessions of the items."""
    sampling_seconds: float
    """Seconds in the model."""
    environment_seconds: float
    """Seconds in the environment, rendering of prompts included."""

    @property
    def sampled_tokens(self) -> int:
        """Number of tokens of all responses."""
        return sum(len(row.response) for row in self.rows)


@dataclass(eq=False)
class Session:
    """An episode while it is played, from its reset or from a fork."""

    game: Playing[str, Observation]
    """The episode."""
    forks: bool = False
    """Whether this session will be forked."""
    gained: list[float] = field(default_factory=list)
    """The reward of each step."""
    forked_at: int = 0
    """Steps before the fork, if there is one."""
    state: dict[str, Any] | None = None
    """The environment's snapshot at the fork; ``None`` if there is no fork."""


def play(
    envs: AtomMemVectorEnv,
    policy: Policy,
    items: Sequence[tuple[int, int]],
    shaping: str,
    say: Callable[[str], None] = lambda _: None,
    local: LocalGroups | None = None,
) -> Played:
    """Play one episode in every sub-environment, all at once; then play the forks in the same sub-environments.

    Args:
        envs: One sub-environment per item.
        policy: The model that plays.
        items: Index and layout seed of each item; the members of a group have the same (SPEC E8).
        shaping: Wrappers that add to the reward, as JSON; see ``Options``.
        say: Called after each token with a line about the progress.
        local: Which sessions are forked; by default none.

    Raises:
        ConfigError: a prompt is longer than ``max_prompt``.
    """
    rollout = Rollout(envs, policy, shaping, say)
    games = [Playing[str, Observation]("policy", *item) for item in items]
    observations, _ = envs.reset(options={name: [game.options[name] for game in games] for name in games[0].options})
    for i, game in enumerate(games):
        game.show("", _member(observations, i), {})
    chosen = [] if local is None else local.rng.choice(len(items), local.count, replace=False).tolist()
    sessions = [Session(game, i in chosen) for i, game in enumerate(games)]
    rollout.play(dict(enumerate(sessions)), None if local is None else local.rng)
    groups = [[session] for session in sessions if session.state is not None]
    if local is not None:
        forks = [(group, group[0]) for group in groups for _ in range(local.branches - 1)]
        for start in range(0, len(forks), envs.num_envs):
            wave = {}
            for slot, (group, parent) in enumerate(forks[start : start + envs.num_envs]):
                wave[slot] = fork_of(envs, slot, parent)
                group.append(wave[slot])
            rollout.play(wave)
    ems = [em for em in (game.record().em for game in games) if em is not None]
    exact_match = float(np.mean(ems)) if ems else float("nan")
    rows, rewards, numbers = assembled(rollout.taken, sessions, groups)
    return Played(rows, rewards, numbers, exact_match, rollout.sampling, rollout.seconds - rollout.sampling)


def fork_of(envs: AtomMemVectorEnv, slot: int, parent: Session) -> Session:
    """Restore the fork of ``parent`` in sub-environment ``slot`` (SPEC M14); a session that goes on from there."""
    assert parent.state is not None
    observation = envs.restore(slot, parent.state)
    assert observation is not None
    game = Playing[str, Observation]("policy", parent.game.index, parent.game.shuffle_seed)
    game.show("", observation, {})
    return Session(game)


def assembled(
    taken: Sequence[tuple[Session, int, tuple[list[int], list[int]]]],
    sessions: Sequence[Session],
    groups: Sequence[Sequence[Session]],
) -> tuple[list[Row], Tensor, Tensor]:
    """Number the sessions, and compute their rewards.

    Args:
        taken: Every step: its session, its number in that session, and the token ids of prompt and response.
        sessions: The sessions of the items.
        groups: The local groups; each is the forked session, then its forks.

    Returns:
        The fields ``rows``, ``rewards`` and ``local`` of :class:`Played`.
    """
    rewards = [math.fsum(session.gained) for session in sessions]
    place = {id(session): number for number, session in enumerate(sessions)}
    continues: dict[int, int] = {}
    local: list[int] = []
    for number, (parent, *forks) in enumerate(groups):
        continued = [math.fsum(parent.gained[parent.forked_at :]), *(math.fsum(fork.gained) for fork in forks)]
        before = math.fsum(parent.gained[: parent.forked_at])
        rewards[place[id(parent)]] = before + math.fsum(continued) / len(continued)
        continues[id(parent)] = len(rewards)
        place |= {id(fork): len(rewards) + i for i, fork in enumerate(forks, 1)}
        rewards += continued
        local += [number] * len(continued)
    rows = []
    for session, step, pair in taken:
        later = session.state is not None and step >= session.forked_at
        rows.append(Row(continues[id(session)] if later else place[id(session)], *pair))
    return rows, torch.tensor(rewards), torch.tensor(local, dtype=torch.long)


class Rollout:
    """Plays sessions in the sub-environments of a vector environment, and notes their steps and the time."""

    def __init__(self, envs: AtomMemVectorEnv, policy: Policy, shaping: str, say: Callable[[str], None]) -> None:
        self._envs = envs
        self._policy = policy
        self._prompt = PromptTemplate(envs.config)
        self._extra = load_shaping(json.loads(shaping))
        self._say = say
        self._started = time.perf_counter()
        self._sampled = 0
        self.sampling = 0.0
        """Seconds in the model so far."""
        self.taken: list[tuple[Session, int, tuple[list[int], list[int]]]] = []
        """Every step so far, as :func:`assembled` takes them."""

    @property
    def seconds(self) -> float:
        """Seconds since the rollout was made."""
        return time.perf_counter() - self._started

    def play(self, sessions: Mapping[int, Session], forking: np.random.Generator | None = None) -> None:
        """Play sessions, by their sub-environments, to their ends; ``forking`` draws the steps of the forks."""
        while playing := [i for i, session in sessions.items() if not session.game.over]:
            for i in playing:
                self._maybe_fork(i, sessions[i], forking)
            messages = [self._prompt.messages(sessions[i].game.observation) for i in playing]
            began = time.perf_counter()
            over = f"{len(sessions) - len(playing)}/{len(sessions)} sessions over"
            where = f"sampling, {over}, {len(self.taken)} rows"
            tell = partial(_tell, self._say, where, self._sampled, began - self.sampling)
            pairs = self._policy.respond(messages, tell)
            self.sampling += time.perf_counter() - began
            self.taken += [(sessions[i], len(sessions[i].gained), pair) for i, pair in zip(playing, pairs, strict=True)]
            self._sampled += sum(len(response) for _, response in pairs)
            self._step(sessions, dict(zip(playing, self._policy.texts([pair[1] for pair in pairs]), strict=True)))

    def _maybe_fork(self, slot: int, session: Session, forking: np.random.Generator | None) -> None:
        """Choose this step with the probability that makes all steps but the first equally likely at the end."""
        steps = len(session.gained)
        if forking is not None and session.forks and steps and forking.integers(steps) == 0:
            session.forked_at, session.state = steps, self._envs.snapshot(slot)

    def _step(self, sessions: Mapping[int, Session], texts: Mapping[int, str]) -> None:
        envs = self._envs
        # Sub-environments whose session is over begin another episode, which is ignored.
        actions = [texts.get(i, "") for i in range(envs.num_envs)]
        observations, gained, terminations, truncations, _ = envs.step(actions)
        for i, text in texts.items():
            step = envs.stepped[i]
            assert step is not None
            # No bootstrapping after a truncation: the reward is final (SPEC E6).
            reward = shaped(float(gained[i]), self._extra, step.info, step.episode)
            seen = _member(observations, i)
            sessions[i].gained.append(reward)
            sessions[i].game.step(text, seen, reward, bool(terminations[i]), bool(truncations[i]), step.info)


def _tell(say: Callable[[str], None], where: str, before: int, since: float, tokens: int) -> None:
    rate = (before + tokens) / max(time.perf_counter() - since, 1e-9)
    say(f"{where}, {rate:,.0f} tokens/s")


def _member(observations: Observation, i: int) -> Observation:
    return {name: value[i] for name, value in observations.items()}
