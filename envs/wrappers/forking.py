"""Wrappers around a fork of the environment that they are around (SPEC M14), for wrappers that fork themselves."""

from __future__ import annotations

from typing import Any, TypeVar

import gymnasium as gym
from gymnasium.wrappers import OrderEnforcing, PassiveEnvChecker

from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.branching import shallow
from atommem_gym.envs.wrappers.hindsight_credit import HindsightCredit
from atommem_gym.envs.wrappers.shaped_reward import ShapedReward
from atommem_gym.errors import ConfigError

STATELESS = (ShapedReward, HindsightCredit, OrderEnforcing, PassiveEnvChecker)
"""Wrappers that may be shared out: what they know of an episode, the episode itself takes along."""
Wrapper = TypeVar("Wrapper", bound=gym.Wrapper[Any, Any, Any, Any])


def check_forkable(env: gym.Env[Any, Any]) -> None:
    """Refuse wrappers that a fork cannot have.

    Raises:
        ConfigError: one of them keeps a state of its own.
    """
    layer = env
    while isinstance(layer, gym.Wrapper):
        if not isinstance(layer, STATELESS):
            known = ", ".join(kind.__name__ for kind in STATELESS)
            raise ConfigError(
                f"{type(layer).__name__} keeps a state of its own, so what is around it cannot be forked; wrappers "
                f"below may be {known}: fork env.unwrapped and wrap the forks, or leave it out"
            )
        layer = layer.env


def around_fork(wrapper: Wrapper, fork: AtomMemEnv) -> Wrapper:
    """A copy of a wrapper, and of all below it, around a fork of its environment."""
    twin = shallow(wrapper)
    twin.env = around_fork(wrapper.env, fork) if isinstance(wrapper.env, gym.Wrapper) else fork
    if hasattr(twin, "_base"):
        twin._base = fork
    return twin
