"""PPO on whole episodes, with two other ways to assign the reward to steps.

    python -m atommem_gym.agents.learn.ppo_episodes --env-id AtomMem-Drift-v0 --hindsight 0.5
    python -m atommem_gym.agents.learn.ppo_episodes --env-id AtomMem-Drift-v0 --local-groups 2

``ppo.py`` trains on windows of a fixed length, and only its critic carries a reward at the end back to earlier steps.
Here a step is trained on once its episode is over, which allows two more ways:

- *Hindsight credit* (SPEC R7) moves a share of the reward to the steps whose operations earned it. A share, not all of
  it: steps that wrote an entry earn, steps that read it do not, so a policy paid only in hindsight would not read.
- *Local groups* compare continuations. A running episode is forked, each continuation is played to its end, and its
  advantage is its return minus the mean of its group, in place of the critic's estimate.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import tyro

from atommem_gym.agents.learn.extras import without_extra

try:
    import torch
    from torch import Tensor
except ModuleNotFoundError as error:
    raise without_extra(error, "rl") from error

from atommem_gym.agents.learn import ppo
from atommem_gym.agents.learn.ppo import OnRollout, Policy, generalised_advantages, log_prob, update
from atommem_gym.envs import HindsightCredit
from atommem_gym.envs.credit import step_rewards
from atommem_gym.envs.macro.embedding_observation import EmbeddingObservation
from atommem_gym.errors import ConfigError, check_integer


@dataclass
class Options(ppo.Options):
    """Train a network to choose macro-actions, on whole episodes.

    Raises:
        ConfigError: a value is out of its range.
    """

    hindsight: float = 0.0
    """Share of the final reward, from 0 to 1, that moves to the steps whose operations earned it (SPEC R7)."""
    local_groups: int = 0
    """Running episodes that are forked at the start of each rollout."""
    branches: int = 4
    """Continuations per fork, which form a group; the forked episode itself goes on and is not one of them."""

    def __post_init__(self) -> None:
        if not 0 <= self.hindsight <= 1:
            raise ConfigError(f"hindsight={self.hindsight!r} must be a share, from 0 to 1")
        check_integer("local_groups", self.local_groups, 0, self.num_envs)
        check_integer("branches", self.branches, 2)


Figures: TypeAlias = dict[str, float]
"""Figures of a rollout: ``steps`` so far, ``reward`` (mean over the finished episodes that began with a reset),
``local_groups`` (finished ones) and ``local_groups_without_variance`` (a share of them; NaN if there are none)."""
Rows: TypeAlias = list[Tensor]
"""Observations, choices, log-probabilities, advantages and returns of some steps, as ``ppo.update`` takes them."""


@dataclass(eq=False)
class Track:
    """An environment while an episode is played, from a reset or from a fork."""

    env: EmbeddingObservation
    """The environment."""
    observation: npt.NDArray[np.float32]
    """The observation to act on, ``[size]``."""
    first: int = 0
    """Number of the track's first step in the episode, from 0."""
    group: list[Track] = field(default_factory=list)
    """The continuations of one fork, this one included; empty if the track began with a reset."""
    steps: list[tuple[Tensor, Tensor, Tensor, Tensor]] = field(default_factory=list)
    """Observation, choices, their joint log-probability and value, per step."""
    rewards: list[float] = field(default_factory=list)
    """Reward per step, with hindsight credit once the episode is over."""
    over: bool = False
    """Whether the episode has ended."""

    def step(self, choices: Tensor, of: tuple[Tensor, Tensor, Tensor], hindsight: float) -> None:
        """Carry out choices; ``of`` holds the observation, their joint log-probability and the value."""
        seen, probability, value = of
        self.observation, reward, self.over, _, info = self.env.step(choices.numpy())
        self.steps.append((seen, choices, probability, value))
        self.rewards.append(reward)
        if self.over and hindsight:
            # Credit for steps before the fork stays in the last reward: it belongs to the return of this continuation.
            earned = [hindsight * one for one in step_rewards(info, self.first)]
            # Rewards that wrappers have added stay at their steps.
            self.rewards[-1] -= sum(earned)
            self.rewards = [one + more for one, more in zip(self.rewards, earned, strict=True)]


def group_advantages(returns: Sequence[float]) -> list[float]:
    """The advantage of each continuation of a group: its return minus the mean.

    >>> group_advantages([1.0, 0.0, 0.5, 0.5])
    [0.5, -0.5, 0.0, 0.0]
    """
    mean = sum(returns) / len(returns)
    return [one - mean for one in returns]


def rows_of(track: Track, options: Options) -> Rows:
    """The rows of an episode that is over, or of a continuation whose whole group is over.

    Advantages are generalised advantage estimates; for a continuation all are its advantage in the group.
    """
    seen, choices, probabilities, values = (torch.stack(part) for part in zip(*track.steps, strict=True))
    rewards = torch.tensor(track.rewards)
    if not track.group:
        ends = torch.zeros(len(rewards), 1)
        ends[-1] = 1.0
        advantages = generalised_advantages(
            rewards[:, None], values[:, None], ends, torch.zeros(1), options.gamma, options.gae_lambda
        )[:, 0]
        return [seen, choices, probabilities, advantages, advantages + values]
    mine = group_advantages([sum(one.rewards) for one in track.group])[track.group.index(track)]
    to_go = rewards.flip(0).cumsum(0).flip(0)
    return [seen, choices, probabilities, torch.full((len(rewards),), mine), to_go]


def make_env(options: Options) -> EmbeddingObservation:
    """One environment as ``ppo.make_env`` makes it, with hindsight credit if the options ask for it."""
    return ppo.make_env(options, HindsightCredit if options.hindsight else None)


def train(
    options: Options,
    on_rollout: OnRollout | None = None,
    on_figures: Callable[[Figures], None] | None = None,
    make: Callable[[Options], EmbeddingObservation] = make_env,
) -> Policy:
    """Train a policy with PPO over macro-actions, on whole episodes.

    Args:
        options: The settings; their defaults are those of the command line. An update waits for ``num_envs * rollout``
            steps of finished episodes. Steps of continuations count as well.
        on_rollout: Called with the number of steps so far and the policy, before each rollout and once at the end.
        on_figures: Called with the figures of each rollout.
        make: Makes each environment.

    Returns:
        The trained policy.
    """
    torch.manual_seed(options.seed)
    shuffle = np.random.default_rng(options.seed)
    with ExitStack() as stack:
        tracks: list[Track] = []
        # Tracks are added later: at the end this also closes the continuations that are still played.
        stack.callback(close_all, tracks)
        for i in range(options.num_envs):
            env = make(options)
            with ExitStack() as unless_begun:
                unless_begun.callback(env.close)
                tracks.append(Track(env, env.reset(seed=options.seed + i)[0]))
                unless_begun.pop_all()
        space: Any = tracks[0].env.action_space
        policy = Policy(space.nvec, len(tracks[0].observation), options.network, options.width)
        optimizer = torch.optim.Adam(policy.parameters(), lr=options.learning_rate, eps=1e-5)
        done = 0
        while done < options.steps:
            if on_rollout is not None:
                on_rollout(done, policy)
            for group in optimizer.param_groups:
                group["lr"] = options.learning_rate * (1 - done / options.steps)
            for chosen in shuffle.choice(options.num_envs, options.local_groups, replace=False).tolist():
                tracks += continuations(tracks[chosen], options.branches)
            ready: list[Rows] = []
            returns: list[float] = []
            flat: list[bool] = []
            while sum(len(rows[0]) for rows in ready) < options.num_envs * options.rollout and done < options.steps:
                done += len(tracks)
                act(policy, tracks, options.hindsight)
                for place, track in enumerate(tracks[: options.num_envs]):
                    if track.over:
                        ready.append(rows_of(track, options))
                        returns.append(sum(track.rewards))
                        tracks[place] = Track(track.env, track.env.reset()[0])
                for track in [one for one in tracks[options.num_envs :] if one.over]:
                    tracks.remove(track)
                    track.env.close()
                    if all(one.over for one in track.group):
                        ready += [rows_of(one, options) for one in track.group]
                        flat.append(len({round(sum(one.rewards), 9) for one in track.group}) == 1)
            if ready:
                train_on([torch.cat(part) for part in zip(*ready, strict=True)], policy, optimizer, shuffle, options)
            if on_figures is not None:
                share = float(np.mean(flat)) if flat else float("nan")
                reward = float(np.mean(returns)) if returns else float("nan")
                on_figures(
                    {
                        "steps": done,
                        "reward": reward,
                        "local_groups": len(flat),
                        "local_groups_without_variance": share,
                    }
                )
        if on_rollout is not None:
            on_rollout(done, policy)
    return policy


def close_all(tracks: Sequence[Track]) -> None:
    """Close the environments of these tracks."""
    for track in tracks:
        track.env.close()


def continuations(track: Track, branches: int) -> list[Track]:
    """Fork a running episode; the forks are one group."""
    group: list[Track] = []
    for fork in track.env.fork(branches):
        group.append(Track(fork, fork.current(), track.first + len(track.steps), group))
    return group


def act(policy: Policy, tracks: Sequence[Track], hindsight: float) -> None:
    """Sample and carry out one step of every track."""
    observations = torch.as_tensor(np.stack([track.observation for track in tracks]))
    with torch.no_grad():
        distributions, values = policy(observations)
    choices = torch.stack([d.sample() for d in distributions], 1)
    probabilities = log_prob(distributions, choices)
    for i, track in enumerate(tracks):
        track.step(choices[i], (observations[i], probabilities[i], values[i]), hindsight)


def train_on(
    rows: Rows, policy: Policy, optimizer: torch.optim.Optimizer, shuffle: np.random.Generator, options: Options
) -> None:
    """Train on the rows of a rollout, ``options.epochs`` times."""
    size = len(rows[0])
    for _ in range(options.epochs):
        for some in np.array_split(shuffle.permutation(size), max(1, size // options.batch)):
            update(policy, optimizer, [part[some] for part in rows], options)


def main(options: Options) -> int:
    """Train and print the figures of every rollout; the exit status."""
    torch.set_num_threads(1)  # for networks this small, more threads only wait for each other

    def show(figures: Figures) -> None:
        print("  ".join(f"{name} {value:.4g}" for name, value in figures.items()), flush=True)

    policy = train(options, on_figures=show)
    if options.save is not None:
        torch.save(policy.state_dict(), options.save)
    return 0


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Options)))
