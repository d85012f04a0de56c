"""Warns of Gymnasium's own time limit, which ends episodes without the environment's knowledge."""

from __future__ import annotations

import warnings
from types import FrameType

import gymnasium as gym


def warn_of_time_limit(caller: FrameType | None, steps_left: int) -> bool:
    """Warn if a ``TimeLimit`` around the environment is shorter than the episode that begins.

    ``gymnasium.make(…, max_episode_steps=n)`` puts one around the environment, which does not know it: its own
    ``spec.max_episode_steps`` stays ``None``. But a reset passes through all wrappers, so the limit is among its
    callers.

    Args:
        caller: The frame that called ``AtomMemEnv.reset``.
        steps_left: Steps of the episode.

    Returns:
        Whether it has warned.
    """
    limits: list[int] = []
    stacklevel = 3
    # No other frames are inspected: up to Python 3.12, reading the locals of a frame keeps them alive while it runs.
    while caller is not None and caller.f_code.co_name == "reset":
        env = caller.f_locals.get("self")
        if not isinstance(env, gym.Env):
            break
        if isinstance(env, gym.wrappers.TimeLimit):
            limits.append(env._max_episode_steps)
        caller, stacklevel = caller.f_back, stacklevel + 1
    if not limits or min(limits) >= steps_left:
        return False
    warnings.warn(
        f"max_episode_steps={min(limits)} is Gymnasium's TimeLimit, which cuts this episode of up to {steps_left} "
        "steps without episode_metrics and without a reward; give the environment's own limit, "
        f"max_steps={min(limits)}",
        UserWarning,
        stacklevel=stacklevel,
    )
    return True
