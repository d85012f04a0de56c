"""Trains and evaluates one seed over macro-actions on Drift or Forget, for ``credit.py``."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias

import gymnasium as gym
import numpy as np
import numpy.typing as npt
import torch

import atommem_gym  # noqa: F401  (registers the environments)
from atommem_gym.agents.learn import ppo_episodes
from atommem_gym.agents.play import atommem_env, draw_items
from atommem_gym.envs import HindsightCredit
from atommem_gym.envs.macro.embedding_observation import EmbeddingObservation
from atommem_gym.envs.macro.macro_actions import MacroActions
from atommem_gym.records.layout import stable_rng

TASKS: dict[str, dict[str, Any]] = {
    "AtomMem-Drift-v0": {
        "num_docs": 16,
        "chunk_tokens": 160,
        "question_visible": "always",
        "max_entries": 3,
        "max_entry_tokens": 64,
        "store": "numpy",
    },
    "AtomMem-Forget-v0": {
        "sessions": 24,
        "places": 3,
        "codes": 3,
        "distance": 4,
        "questions": 6,
        "chunk_tokens": 160,
        "questions_per_episode": 2,
        "question_visible": "always",
        "max_entries": 8,
        "store": "numpy",
    },
}
"""The tasks, small; questions are visible, since what a network sees of a document is how near it is to them."""
SLOTS = 4
ARMS: dict[str, dict[str, Any]] = {
    "reward at the end": {},
    "hindsight credit": {"hindsight": 0.5},
    "local groups": {"local_groups": 2, "branches": 4},
}
"""What differs: where the reward goes, and nothing else."""
PPO: dict[str, Any] = {"shaping": 0.0, "num_envs": 8, "rollout": 16, "batch": 64, "learning_rate": 3e-3}
DRAWS = {"validation": 0, "test": 1}
"""Seeds of the items drawn from each split."""
Act: TypeAlias = Callable[[npt.NDArray[np.float32]], Any]


@dataclass(frozen=True, slots=True)
class Trained:
    """One seed of one arm on one task."""

    task: str
    arm: str
    seed: int
    steps: list[int]
    """Of training, at which it was evaluated on ``validation``."""
    curve: list[float]
    """Exact match there."""
    test: list[float]
    """Exact match of every item of ``test``."""
    trained_steps: int
    """All steps of training, continuations included."""
    rewarded: float
    """Share of the updates before which some finished episode had a reward."""
    flat_groups: float | None
    """Share of the local groups without variance."""
    cpu_seconds: float


def make_env(task: str, split: str, hindsight: float = 0.0) -> EmbeddingObservation:
    """The environment for a network."""
    env: gym.Env[Any, Any] = gym.make(task, disable_env_checker=True, split=split, **TASKS[task])
    if hindsight:
        env = HindsightCredit(env)
    return EmbeddingObservation(MacroActions(env, slots=SLOTS), vectors=0)


def play(act: Act, task: str, split: str, episodes: int) -> list[float]:
    """Exact match of a policy on the items that all policies play."""
    found = []
    with closing(make_env(task, split)) as env:
        for index, shuffle_seed in draw_items(atommem_env(env).num_items, episodes, DRAWS[split]):
            observation, _ = env.reset(options={"index": index, "shuffle_seed": shuffle_seed})
            over = False
            while not over:
                observation, _, over, _, info = env.step(act(observation))
            found.append(float(info["episode_metrics"]["em"]))
    return found


def drawn_choices(policy: ppo_episodes.Policy, *seed: object) -> Act:
    """The policy as it is trained: choices are drawn, here from a generator of the evaluation's own."""
    rng = stable_rng("credit", *seed)

    def act(observation: npt.NDArray[np.float32]) -> Any:
        with torch.no_grad():
            distributions, _ = policy(torch.as_tensor(observation)[None])
        drawn = rng.random(len(distributions))
        below = [np.searchsorted(np.cumsum(d.probs[0].numpy()), at) for d, at in zip(distributions, drawn, strict=True)]
        return [min(int(choice), size - 1) for choice, size in zip(below, policy.choices, strict=True)]

    return act


def random_choices(task: str) -> Act:
    """Uniform choices, the floor of the action space."""
    rng = stable_rng("random macro-actions", task)
    with closing(make_env(task, "test")) as env:
        places = env.action_space.nvec  # type: ignore[attr-defined]
    return lambda _: rng.integers(places)


def train(task: str, arm: str, seed: int, *, steps: int, points: int, curve_episodes: int, episodes: int) -> Trained:
    """Train one seed, evaluate it on the way and at the end."""
    started = time.process_time()
    options = ppo_episodes.Options(env_id=task, slots=SLOTS, steps=steps, seed=seed, **PPO, **ARMS[arm])
    seen: list[int] = []
    curve: list[float] = []
    figures: list[ppo_episodes.Figures] = []

    def look(done: int, policy: ppo_episodes.Policy) -> None:
        # The last evaluation is of the trained policy.
        if min(done, steps) * (points - 1) >= len(curve) * steps:
            seen.append(min(done, steps))
            curve.append(float(np.mean(play(drawn_choices(policy, seed, done), task, "validation", curve_episodes))))

    policy = ppo_episodes.train(options, look, figures.append, lambda given: make_env(task, "train", given.hindsight))
    test = play(drawn_choices(policy, seed, "test"), task, "test", episodes)
    flat = [one["local_groups_without_variance"] for one in figures if one["local_groups"]]
    return Trained(
        task,
        arm,
        seed,
        seen,
        curve,
        test,
        int(figures[-1]["steps"]),
        float(np.mean([one["reward"] > 0 for one in figures])),
        float(np.mean(flat)) if flat else None,
        round(time.process_time() - started, 1),
    )
