"""What a snapshot does not hold: wrappers are no part of the environment's state (finding 4.7, SPEC M14)."""

from __future__ import annotations

import gymnasium as gym

import atommem_gym  # noqa: F401
from atommem_gym.envs import Curriculum, MemoryCost
from atommem_gym.envs.wrappers.base import plain_base

SMALL = {"num_docs": 8, "chunk_tokens": 200, "store": "numpy"}


def play_badly(env: Curriculum, episodes: int) -> None:
    for seed in range(episodes):
        env.reset(seed=seed)
        over = False
        while not over:
            *_, terminated, truncated, _ = env.step("<answer>no idea</answer>")
            over = terminated or truncated


def test_finding_4_7_a_snapshot_does_not_hold_where_a_curriculum_stands() -> None:
    env = Curriculum(
        gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **SMALL), start=0.5, window=2, step=0.25
    )
    env.reset(seed=0)
    snapshot, state = plain_base(env, env.env).snapshot(), env.state_dict()
    play_badly(env, 4)
    moved = env.state_dict()
    assert moved != state
    plain_base(env, env.env).restore(snapshot)
    assert env.state_dict() == moved
    env.load_state_dict(state)
    assert env.state_dict() == state
    assert "does not hold the state of the curriculum" in " ".join((Curriculum.__doc__ or "").split())
    env.close()


def test_finding_4_7_a_restored_episode_goes_on_under_the_shaping_around_it() -> None:
    dear = MemoryCost(gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **SMALL), per_operation=0.5)
    cheap = MemoryCost(gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **SMALL), per_operation=0.25)
    dear.reset(seed=3)
    snapshot = plain_base(dear, dear.env).snapshot()
    cheap.reset(seed=0)
    plain_base(cheap, cheap.env).restore(snapshot)
    assert [one.step("<create>a</create>")[1] for one in (dear, cheap)] == [-0.5, -0.25]
    dear.close()
    cheap.close()
