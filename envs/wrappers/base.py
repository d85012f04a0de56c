"""Checks what a wrapper wraps; errors name the wrapper of the same name for the other kind of environment."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import gymnasium as gym
from gymnasium import spaces
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.wrappers import Autoreset
from gymnasium.wrappers.vector import DictInfoToList

from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.envs.wrappers import vector
from atommem_gym.errors import ConfigError

VectorEnvs: TypeAlias = VectorEnv[Any, Sequence[str], Any]

OUTERMOST = (Autoreset, DictInfoToList)
"""Wrappers of Gymnasium that go outside of ours: one begins episodes unseen, the other changes the form of ``info``."""
INSTEAD = {
    "atommem_gym.envs.pool": "a pool takes shaping= and credit= in place of wrappers (docs/parallel.md)",
    "atommem_gym.envs.team": "a team takes the wrappers of PettingZoo alone (docs/team.md)",
}
"""What to do with the environments of this family that cannot be wrapped, by the package of their class."""


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
    _check_wrappable(name, env)
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
    name, twin = type(wrapper).__name__, _name_in_both_rooms(wrapper)
    _check_wrappable(name, env)
    base = getattr(env, "unwrapped", None)
    if isinstance(base, AtomMemVectorEnv):
        return base
    if isinstance(base, AtomMemEnv) and isinstance(env, gym.Env):
        raise ConfigError(
            f"{name} wraps vector environments, and {env} is a single environment; "
            f"take atommem_gym.envs.wrappers.{twin or name}"
        )
    raise ConfigError(
        f"{env} is not an AtomMem vector environment; make one with gymnasium.make_vec('AtomMem-…-v0', num_envs=…), "
        f"or put atommem_gym.envs.wrappers.{twin or name} into each environment of a SyncVectorEnv or AsyncVectorEnv"
    )


def check_observations(
    wrapper: object, env: gym.Env[Any, Any] | VectorEnvs, base: AtomMemEnv | AtomMemVectorEnv
) -> None:
    """Refuse to read observations that a wrapper in between has changed.

    Args:
        wrapper: Which one reads them.
        env: What it is to go around.
        base: The environment under all wrappers.

    Raises:
        ConfigError: what ``env`` observes lacks fields of what ``base`` observes.
    """
    space, wanted = env.observation_space, base.observation_space
    if isinstance(space, spaces.Dict) and isinstance(wanted, spaces.Dict) and wanted.keys() <= space.keys():
        return
    name = type(wrapper).__name__
    raise ConfigError(
        f"{name} reads the observations of {base}, and {env} has others in their place; put {name} on the inner side "
        "of the wrapper that changes them, or leave one of the two out"
    )


def check_actions(wrapper: object, env: gym.Env[Any, Any]) -> None:
    """Refuse to write action texts for a wrapper that takes other actions.

    Raises:
        ConfigError: ``env`` does not take texts.
    """
    if not isinstance(env.action_space, spaces.Text):
        name = type(wrapper).__name__
        raise ConfigError(
            f"{name} writes actions as text, and {env} takes {env.action_space}; put {name} on the inner side of the "
            "wrapper that changes them, or leave one of the two out"
        )


def _check_wrappable(name: str, env: object) -> None:
    """Refuse pools and teams, and wrappers of Gymnasium that only work on the outside."""
    for package, instead in INSTEAD.items():
        if type(getattr(env, "unwrapped", env)).__module__.startswith(f"{package}."):
            raise ConfigError(f"{name} wraps single or vector environments, and {env} is none of them; {instead}")
    layer = env
    while isinstance(layer, (gym.Wrapper, VectorWrapper)):
        if isinstance(layer, OUTERMOST):
            outer = type(layer).__name__
            raise ConfigError(
                f"{name} cannot go around {env}: {outer} belongs outside of this package's wrappers, from which it "
                f"hides resets or the form of info; put {outer} around {name}"
            )
        layer = layer.env


def _name_in_both_rooms(wrapper: object) -> str | None:
    """The name that the wrapper, or a base class of it, has in both packages."""
    return next((kind.__name__ for kind in type(wrapper).__mro__ if kind.__name__ in dir(vector)), None)
