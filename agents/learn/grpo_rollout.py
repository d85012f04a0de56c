"""The rollout of ``grpo.py``: all sessions of an iteration, together, over a vector environment; and their forks."""

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
    """Which sessions are forked, and into how many."""

    count: int
    """Sessions that are forked, drawn from all of them; each once, at a step drawn from all its own but the first."""
    branches: int
    """Continuations of each: the session's own, and forks that are played to their ends besides."""
    rng: np.random.Generator
    """Draws sessions and steps."""


@dataclass(frozen=True)
class Played:
    """The sessions of a rollout.

    A session that was forked is two: its steps before the fork, which are worth the mean of what came of it, and its
    own continuation, which is a session of its local group.
    """

    rows: list[Row]
    rewards: Tensor
    """``[sessions]``, shaping included: first of the items, in their order, then of the local groups' continuations,
    from the fork on."""
    local: Tensor
    """The local group, from 0, of each of the latter."""
    exact_match: float
    """Mean over the sessions of the items."""
    sampling_seconds: float
    environment_seconds: float
    """With rendering prompts."""

    @property
    def sampled_tokens(self) -> int:
        """Of all responses."""
        return sum(len(row.response) for row in self.rows)


@dataclass(eq=False)
class Session:
    """An episode while it is played, from its reset or from a fork on."""

    game: Playing[str, Observation]
    forks: bool = False
    """Whether it is to be forked."""
    gained: list[float] = field(default_factory=list)
    """The reward of each step."""
    forked_at: int = 0
    """Number of steps before the fork, if there is one."""
    state: dict[str, Any] | None = None
    """The snapshot at that step."""


def play(
    envs: AtomMemVectorEnv,
    policy: Policy,
    items: Sequence[tuple[int, int]],
    shaping: str,
    say: Callable[[str], None] = lambda _: None,
    local: LocalGroups | None = None,
) -> Played:
    """Let every sub-environment play one episode, all of them together; then the forks, in as many slots as there are.

    Args:
        envs: As many sub-environments as items.
        policy: Who plays.
        items: Index and layout of each; the members of a group have the same (SPEC E8).
        shaping: See ``Options``.
        say: Is told how far it is, after each token.
        local: Which sessions are forked; by default none is.
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
    """A session that goes on in a slot from where another one was forked (SPEC M14)."""
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
    """Rows with the numbers of their sessions, rewards, and the local groups.

    Args:
        taken: Every step: whose it is, its number in that session, prompt and response.
        sessions: Those of the items.
        groups: Each a forked session, then its forks.
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
    """Plays sessions in the slots of a vector environment, and notes their steps and the time they take."""

    def __init__(self, envs: AtomMemVectorEnv, policy: Policy, shaping: str, say: Callable[[str], None]) -> None:
        self._envs = envs
        self._policy = policy
        self._prompt = PromptTemplate(envs.config)
        self._extra = load_shaping(json.loads(shaping))
        self._say = say
        self._started = time.perf_counter()
        self._sampled = 0
        self.sampling = 0.0
        """Seconds."""
        self.taken: list[tuple[Session, int, tuple[list[int], list[int]]]] = []
        """Every step, see :func:`assembled`."""

    @property
    def seconds(self) -> float:
        """Since it was made."""
        return time.perf_counter() - self._started

    def play(self, sessions: Mapping[int, Session], forking: np.random.Generator | None = None) -> None:
        """Play sessions to their ends; ``forking`` draws at which step those that are to be forked are."""
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
        """Keep this step with the probability that makes all steps but the first equally likely at the end."""
        steps = len(session.gained)
        if forking is not None and session.forks and steps and forking.integers(steps) == 0:
            session.forked_at, session.state = steps, self._envs.snapshot(slot)

    def _step(self, sessions: Mapping[int, Session], texts: Mapping[int, str]) -> None:
        envs = self._envs
        # Those that are over begin another episode, which nobody looks at.
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
