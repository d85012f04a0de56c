"""Checks what a wrapper wraps; errors name the wrapper of the same name for the other kind of environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium.vector import VectorEnv

from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.envs.wrappers import vector
from atommem_gym.errors import ConfigError

VectorEnvs: TypeAlias = VectorEnv[Any, Sequence[str], Any]


def atommem_env(env: object) -> AtomMemEnv:
    """The environment below all wrappers.

    Raises:
        ConfigError: it is not an AtomMem environment.
    """
    base = getattr(env, "unwrapped", None)
    if not isinstance(base, AtomMemEnv):
        raise ConfigError(f"{env} is not an AtomMem environment; make one with gymnasium.make('AtomMem-…-v0')")
    return base


def plain_base(wrapper: object, env: object) -> AtomMemEnv:
    """The environment below all wrappers, for a wrapper of plain environments.

    Args:
        wrapper: The wrapper, before its ``gym.Wrapper.__init__``.
        env: The environment to wrap.

    Raises:
        ConfigError: it is a vector environment, or not an AtomMem environment; the message says what to write instead.
    """
    name, twin = type(wrapper).__name__, _name_in_both_rooms(wrapper)
    if isinstance(getattr(env, "unwrapped", None), AtomMemVectorEnv) and twin is not None:
        raise ConfigError(
            f"{name} wraps single environments, and {env} is a vector environment; "
            f"take atommem_gym.envs.wrappers.vector.{twin}"
        )
    if isinstance(env, VectorEnv):
        raise ConfigError(
            f"{name} wraps single environments, and {env} is a vector environment; put it into each of them: "
            f"gymnasium.make_vec('AtomMem-…-v0', num_envs=…, vectorization_mode='sync', wrappers=[{name}])"
        )
    return atommem_env(env)


def vector_base(wrapper: object, env: object) -> AtomMemVectorEnv:
    """The vector environment below all wrappers, for a wrapper of vector environments.

    Args:
        wrapper: The wrapper, before its ``VectorWrapper.__init__`` (Gymnasium 1.1 closes what a wrapper that could
            not be made has been given).
        env: The environment to wrap.

    Raises:
        ConfigError: it is a single environment, or not an AtomMem environment; the message says what to write instead.
    """
    base = getattr(env, "unwrapped", None)
    if isinstance(base, AtomMemVectorEnv):
        return base
    name, twin = type(wrapper).__name__, _name_in_both_rooms(wrapper)
    if isinstance(base, AtomMemEnv) and isinstance(env, gym.Env):
        raise ConfigError(
            f"{name} wraps vector environments, and {env} is a single environment; "
            f"take atommem_gym.envs.wrappers.{twin or name}"
        )
    raise ConfigError(
        f"{env} is not an AtomMem vector environment; make one with gymnasium.make_vec('AtomMem-…-v0', num_envs=…), "
        f"or put atommem_gym.envs.wrappers.{twin or name} into each environment of a SyncVectorEnv or AsyncVectorEnv"
    )


def _name_in_both_rooms(wrapper: object) -> str | None:
    """The name that the wrapper, or a base class of it, has in both packages."""
    return next((kind.__name__ for kind in type(wrapper).__mro__ if kind.__name__ in dir(vector)), None)
