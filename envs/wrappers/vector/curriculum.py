"""A curriculum for all sub-environments of a vector environment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

from atommem_gym.config import check_difficulty
from atommem_gym.envs.vector_env import Flags, Rewards, TextVectorWrapper
from atommem_gym.envs.wrappers.base import VectorEnvs, vector_base
from atommem_gym.envs.wrappers.schedule import CurriculumState, Drawn
from atommem_gym.errors import ConfigError


class Curriculum(TextVectorWrapper):
    """One curriculum for all sub-environments of a vector environment, including autoresets.

    Args:
        env: An AtomMem vector environment, wrapped or not.
        **schedule: Fields of :class:`CurriculumSchedule`.

    ``infos["curriculum"]`` is an object array with the ``dict`` of :class:`atommem_gym.envs.wrappers.Curriculum`
    where an episode begins or ends (``None`` elsewhere), and ``infos["_curriculum"]`` says where. If one ends and
    the next begins in the same step (same-step autoreset), it is that of the ended one.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = gym.make_vec("AtomMem-Needle-v0", num_envs=2, store="numpy", early_answer=True)
        >>> envs = Curriculum(envs, window=2, step=0.25)
        >>> observations, infos = envs.reset(seed=0)
        >>> for _ in range(4):  # two episodes of a step and a reset each
        ...     answers = [episode.item.questions[0].answer for episode in envs.unwrapped.episodes]
        ...     *_, infos = envs.step([f"<answer>{answer}</answer>" for answer in answers])
        >>> envs.difficulty
        0.5
        >>> envs.close()

    Raises:
        ConfigError: it is not an AtomMem vector environment, or the schedule is invalid.
    """

    def __init__(self, env: VectorEnvs, **schedule: Any) -> None:
        self._base = vector_base(self, env)
        super().__init__(env)
        self._state = CurriculumState.start(schedule)
        self._begun = [0] * self.num_envs
        self._now: list[Drawn] = [Drawn(self._state.difficulty, False)] * self.num_envs
        self._rewards = np.zeros(self.num_envs)
        self._base.autoreset_options = lambda i: {"difficulty": self._state.draw(i, self._begun[i]).difficulty}

    @property
    def difficulty(self) -> float:
        """The difficulty of the next episodes that are not reviews."""
        return self._state.difficulty

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; the first ``seed``, if it is one number, also seeds the draws of reviews."""
        options = dict(options or {})
        if isinstance(seed, int) and not any(self._begun):
            self._state.seed = seed
        drawn = [self._state.draw(i, number) for i, number in enumerate(self._begun)]
        given = options.get("difficulty")
        if given is not None:
            each = given if isinstance(given, (list, tuple, np.ndarray)) else [given] * self.num_envs
            drawn = [Drawn(check_difficulty(one), True) for one in each]
        mask = options.get("reset_mask")
        options["difficulty"] = [one.difficulty for one in drawn]
        # Gymnasium's wrappers are typed for one seed, but its vector environments also take one per sub-environment.
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        begun = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        for i in begun:
            self._begin(i, drawn[i])
        return observations, self._with_status(infos, {i: self._state.status(self._now[i]) for i in begun})

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """See ``AtomMemVectorEnv.step``; the end of an episode may move the difficulty."""
        drawn = [self._state.draw(i, number) for i, number in enumerate(self._begun)]
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        statuses: dict[int, dict[str, Any]] = {}
        over = terminations | truncations
        for i, stepped in enumerate(self._base.stepped):
            if stepped is None:
                self._begin(i, drawn[i])
                statuses[i] = self._state.status(self._now[i])
                continue
            self._rewards[i] += rewards[i]
            if over[i]:
                if not self._now[i].review:
                    self._state.count(float(self._rewards[i]))
                statuses[i] = self._state.status(self._now[i])
                if self._base.autoreset_mode is AutoresetMode.SAME_STEP:
                    # The next episode has begun already, at the difficulty before this step.
                    self._begin(i, drawn[i])
        return observations, rewards, terminations, truncations, self._with_status(infos, statuses)

    def state_dict(self) -> dict[str, Any]:
        """The state of the curriculum as JSON values, without the running episodes."""
        return {"course": self._state.dump(), "begun": list(self._begun)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a :meth:`state_dict` at the next reset.

        Args:
            state: The result of :meth:`state_dict`.

        Raises:
            ConfigError: it has another schedule or number of sub-environments.
        """
        if len(state["begun"]) != self.num_envs:
            raise ConfigError(f"the state is of {len(state['begun'])} sub-environments, these are {self.num_envs}")
        self._state.load(state["course"])
        self._begun = list(state["begun"])

    def _begin(self, i: int, drawn: Drawn) -> None:
        self._begun[i] += 1
        self._now[i], self._rewards[i] = drawn, 0.0

    def _with_status(self, infos: dict[str, Any], statuses: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        if not statuses:
            return infos
        values = np.full(self.num_envs, None, object)
        there = np.zeros(self.num_envs, np.bool_)
        for i, one in statuses.items():
            values[i], there[i] = one, True
        return {**infos, "curriculum": values, "_curriculum": there}
