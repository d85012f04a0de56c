"""Puts copies of wrappers around a fork of their environment (SPEC M14), for wrappers that can fork."""

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
"""Wrappers that can be copied: the episode itself holds everything that they know about it."""
Wrapper = TypeVar("Wrapper", bound=gym.Wrapper[Any, Any, Any, Any])


def check_forkable(env: gym.Env[Any, Any]) -> None:
    """Check that all wrappers can be copied around a fork.

    Raises:
        ConfigError: one of them has a state.
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
    """A copy of a wrapper and of all wrappers below it, around a fork of their environment."""
    twin = shallow(wrapper)
    twin.env = around_fork(wrapper.env, fork) if isinstance(wrapper.env, gym.Wrapper) else fork
    if hasattr(twin, "_base"):
        twin._base = fork
    return twin
