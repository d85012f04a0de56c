"""A curriculum: the difficulty of episodes follows the rewards of the last ones.

Vector environments have their own under the same name: :mod:`atommem_gym.envs.wrappers.vector.curriculum`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from gymnasium.utils import RecordConstructorArgs

from atommem_gym.config import check_difficulty
from atommem_gym.envs.wrappers.base import plain_base
from atommem_gym.envs.wrappers.schedule import CurriculumState, Drawn
from atommem_gym.step import Observation


class Curriculum(gym.Wrapper[Observation, str, Observation, str], RecordConstructorArgs):
    """Plays each episode at a difficulty that follows the mean reward of the last ones.

    The reward of an episode is the sum of the rewards that this wrapper sees, so shaping outside of it does not count.
    ``info`` of a reset, and of the last step of an episode, has ``curriculum``: ``difficulty`` (of this episode),
    ``review``, ``level`` (of the next), ``mean`` (of the window), ``episodes``. ``reset(options={"difficulty": d})``
    plays an episode at ``d`` that does not count.

    A snapshot of the environment does not hold the state of the curriculum: keep :meth:`state_dict` beside it.

    Args:
        env: An AtomMem environment whose task has difficulties.
        **schedule: Fields of :class:`CurriculumSchedule`.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> env = Curriculum(gym.make("AtomMem-Needle-v0", store="numpy"), window=2, step=0.25)
        >>> levels = []
        >>> for episode in range(6):
        ...     observation, info = env.reset(seed=episode)
        ...     levels.append(info["curriculum"]["difficulty"])
        ...     over = False
        ...     while not over:  # whoever looks into the item always succeeds
        ...         _, _, over, _, info = env.step(f"<answer>{env.unwrapped.item.questions[0].answer}</answer>")
        >>> levels, info["curriculum"]["level"]
        ([0.0, 0.0, 0.25, 0.25, 0.5, 0.5], 0.75)
        >>> env.close()

    Raises:
        ConfigError: it is not an AtomMem environment, or the schedule is invalid.
    """

    def __init__(self, env: gym.Env[Observation, str], **schedule: Any) -> None:
        RecordConstructorArgs.__init__(self, **schedule)
        plain_base(self, env)
        gym.Wrapper.__init__(self, env)
        self._state = CurriculumState.start(schedule)
        self._begun = 0
        self._now: Drawn | None = None
        self._reward = 0.0

    @property
    def difficulty(self) -> float:
        """The difficulty of the next episode that is not a review."""
        return self._state.difficulty

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; the first ``seed`` also seeds the draws of reviews."""
        if seed is not None and not self._begun:
            self._state.seed = seed
        drawn = self._state.draw(0, self._begun)
        given = (options or {}).get("difficulty")
        now = drawn if given is None else Drawn(check_difficulty(given), True)
        observation, info = self.env.reset(seed=seed, options={**(options or {}), "difficulty": now.difficulty})
        self._begun += 1
        self._now, self._reward = now, 0.0
        return observation, {**info, "curriculum": self._state.status(now)}

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See ``AtomMemEnv.step``; the end of an episode may move the difficulty."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._reward += float(reward)
        if (terminated or truncated) and self._now is not None:
            if not self._now.review:
                self._state.count(self._reward)
            info = {**info, "curriculum": self._state.status(self._now)}
            self._now = None
        return observation, float(reward), terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """The state of the curriculum as JSON values, without the running episode."""
        return {"course": self._state.dump(), "begun": [self._begun]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict` at the next reset.

        Args:
            state: The result of :meth:`state_dict`.

        Raises:
            ConfigError: it has another schedule.
        """
        self._state.load(state["course"])
        self._begun = state["begun"][0]
        self._now = None
