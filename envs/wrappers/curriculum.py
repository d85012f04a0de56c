"""A curriculum: the difficulty of episodes moves with how well the last ones went."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv

from atommem_gym.config import check_difficulty
from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.vector_env import AtomMemVectorEnv, Flags, Rewards, TextVectorWrapper
from atommem_gym.errors import ConfigError
from atommem_gym.records.layout import stable_rng
from atommem_gym.step import Observation


@dataclass(frozen=True, kw_only=True, slots=True)
class CurriculumSchedule:
    """When and how far the difficulty moves.

    Raises:
        ConfigError: a value is out of its range.
    """

    start: float = 0.0
    bounds: tuple[float, float] = (0.0, 1.0)
    """The difficulty never leaves them."""
    target: tuple[float, float] = (0.4, 0.7)
    """Above this band of mean reward it gets harder, below it easier, inside it stays."""
    window: int = 32
    """Episodes the mean is over; after a move, it is over new ones only."""
    step: float = 0.05
    """How far it moves."""
    review: float = 0.0
    """Share of episodes drawn evenly from the easiest to the current difficulty, so that nothing is forgotten. They do
    not count for the mean."""

    def __post_init__(self) -> None:
        for name in ("bounds", "target"):
            pair = getattr(self, name)
            if not isinstance(pair, (list, tuple)) or len(pair) != 2:
                raise ConfigError(f"{name}={pair!r} must be two numbers, the smaller one first")
            object.__setattr__(self, name, tuple(_share(name, value) for value in pair))
        (low, high), band = self.bounds, self.target
        if low > high or band[0] > band[1]:
            raise ConfigError(f"bounds={self.bounds!r} and target={band!r} must have the smaller number first")
        if not low <= _share("start", self.start) <= high:
            raise ConfigError(f"start={self.start!r} must lie within bounds={self.bounds!r}")
        if isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 1:
            raise ConfigError(f"window={self.window!r} must be a whole number from 1")
        if not _share("step", self.step) > 0 or not _share("review", self.review) < 1:
            raise ConfigError(f"step={self.step!r} must be above 0, and review={self.review!r} below 1")


@dataclass(slots=True)
class _Course:
    """Where a curriculum stands: the one thing that a plain and a vector environment share."""

    schedule: CurriculumSchedule
    seed: int = 0
    difficulty: float = 0.0
    rewards: deque[float] = field(default_factory=deque)
    episodes: int = 0
    """Episodes that counted for the mean."""

    def draw(self, member: int, number: int) -> tuple[float, bool]:
        """Difficulty of the ``number``-th episode of a sub-environment, and whether it is a review."""
        if not self.schedule.review:
            return self.difficulty, False
        rng = stable_rng("curriculum", self.seed, member, number)
        if rng.random() >= self.schedule.review:
            return self.difficulty, False
        low = self.schedule.bounds[0]
        # To two places, so that an environment keeps the items of few difficulties.
        return round(low + float(rng.random()) * (self.difficulty - low), 2), True

    def note(self, reward: float) -> None:
        """Count an episode, and move if the window is full and its mean outside the band."""
        schedule = self.schedule
        self.episodes += 1
        self.rewards.append(reward)
        if len(self.rewards) > schedule.window:
            self.rewards.popleft()
        mean = self.mean
        if len(self.rewards) < schedule.window or mean is None or schedule.target[0] <= mean <= schedule.target[1]:
            return
        direction = 1 if mean > schedule.target[1] else -1
        # Rounded, so that 20 steps of 0.05 lead to 1 and an item is made for few difficulties.
        moved = round(self.difficulty + direction * schedule.step, 6)
        moved = min(schedule.bounds[1], max(schedule.bounds[0], moved))
        if moved != self.difficulty:
            self.difficulty = moved
            self.rewards.clear()

    @property
    def mean(self) -> float | None:
        """The mean reward of the window; ``None`` if it is empty."""
        return float(np.mean(self.rewards)) if self.rewards else None

    def state(self) -> dict[str, Any]:
        """All of it, as JSON values."""
        schedule = asdict(self.schedule) | {"bounds": list(self.schedule.bounds), "target": list(self.schedule.target)}
        return {**asdict(self), "schedule": schedule, "rewards": list(self.rewards)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to a state.

        Raises:
            ConfigError: it is of another schedule.
        """
        if CurriculumSchedule(**state["schedule"]) != self.schedule:
            raise ConfigError(f"the state is of schedule {state['schedule']}, this one is {asdict(self.schedule)}")
        self.seed, self.difficulty, self.episodes = state["seed"], state["difficulty"], state["episodes"]
        self.rewards = deque(state["rewards"])


class Curriculum(gym.Wrapper[Observation, str, Observation, str], RecordConstructorArgs):
    """Plays every episode at a difficulty that moves with success.

    The reward of an episode is the sum of what this wrapper sees, so shaping outside of it does not count. ``info`` of
    a reset, and of the last step of an episode, holds ``curriculum``: ``difficulty`` (of this episode), ``review``,
    ``level`` (of the next), ``mean`` (of the window), ``episodes``. ``reset(options={"difficulty": d})`` plays an
    episode at ``d`` that does not count.

    Args:
        env: An AtomMem environment whose task has difficulties (all registered ones do).
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
        ConfigError: the environment is none of this family, or the schedule is wrong.
    """

    def __init__(self, env: gym.Env[Observation, str], **schedule: Any) -> None:
        RecordConstructorArgs.__init__(self, **schedule)
        gym.Wrapper.__init__(self, env)
        if not isinstance(env.unwrapped, AtomMemEnv):
            raise ConfigError(f"{env} is no AtomMem environment; make one with gymnasium.make('AtomMem-…-v0')")
        self._course = _course(schedule)
        self._begun = 0
        self._now: tuple[float, bool] | None = None
        self._reward = 0.0

    @property
    def difficulty(self) -> float:
        """The difficulty of the next episode that is no review."""
        return self._course.difficulty

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Begin an episode; the first ``seed`` seeds the draws of reviews as well."""
        if seed is not None and not self._begun:
            self._course.seed = seed
        drawn = self._course.draw(0, self._begun)
        given = (options or {}).get("difficulty")
        now = drawn if given is None else (check_difficulty(given), True)
        observation, info = self.env.reset(seed=seed, options={**(options or {}), "difficulty": now[0]})
        self._begun += 1
        self._now, self._reward = now, 0.0
        return observation, {**info, "curriculum": _told(self._course, now)}

    def step(self, action: str) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """See ``AtomMemEnv.step``; the end of an episode may move the difficulty."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._reward += float(reward)
        if (terminated or truncated) and self._now is not None:
            if not self._now[1]:
                self._course.note(self._reward)
            info = {**info, "curriculum": _told(self._course, self._now)}
            self._now = None
        return observation, float(reward), terminated, truncated, info

    def state_dict(self) -> dict[str, Any]:
        """Where the curriculum stands, as JSON values; a running episode is not part of it."""
        return {"course": self._course.state(), "begun": [self._begun]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict` with the next reset.

        Raises:
            ConfigError: it is of another schedule.
        """
        self._course.load(state["course"])
        self._begun = state["begun"][0]
        self._now = None


class VectorCurriculum(TextVectorWrapper):
    """One curriculum for all sub-environments of a vector environment, autoresets included.

    Args:
        env: An AtomMem vector environment, wrapped or not.
        **schedule: Fields of :class:`CurriculumSchedule`.

    ``infos["curriculum"]`` is as in :class:`Curriculum`, an object array with one ``dict`` where an episode begins or
    ends (``None`` elsewhere), and ``infos["_curriculum"]`` says where. Where one ends and the next begins in one step
    (autoreset in the same step) it is that of the ended one.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> envs = gym.make_vec("AtomMem-Needle-v0", num_envs=2, store="numpy", early_answer=True)
        >>> envs = VectorCurriculum(envs, window=2, step=0.25)
        >>> observations, infos = envs.reset(seed=0)
        >>> for _ in range(4):  # two episodes of a step and a reset each
        ...     answers = [episode.item.questions[0].answer for episode in envs.unwrapped.episodes]
        ...     *_, infos = envs.step([f"<answer>{answer}</answer>" for answer in answers])
        >>> envs.difficulty
        0.5
        >>> envs.close()

    Raises:
        ConfigError: the environment is none of this family, or the schedule is wrong.
    """

    def __init__(self, env: VectorEnv[Any, Sequence[str], Any], **schedule: Any) -> None:
        super().__init__(env)
        base = env.unwrapped
        if not isinstance(base, AtomMemVectorEnv):
            raise ConfigError(
                f"{env} is no AtomMem vector environment; make one with gymnasium.make_vec('AtomMem-…-v0')"
            )
        self._base = base
        self._course = _course(schedule)
        self._begun = [0] * self.num_envs
        self._now: list[tuple[float, bool]] = [(self._course.difficulty, False)] * self.num_envs
        self._rewards = np.zeros(self.num_envs)
        self._base.autoreset_options = lambda i: {"difficulty": self._course.draw(i, self._begun[i])[0]}

    @property
    def difficulty(self) -> float:
        """The difficulty of the next episodes that are no reviews."""
        return self._course.difficulty

    def reset(
        self, *, seed: int | Sequence[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin episodes; the first ``seed``, if it is one number, seeds the draws of reviews as well."""
        options = dict(options or {})
        if isinstance(seed, int) and not any(self._begun):
            self._course.seed = seed
        drawn = [self._course.draw(i, number) for i, number in enumerate(self._begun)]
        given = options.get("difficulty")
        if given is not None:
            each = given if isinstance(given, (list, tuple, np.ndarray)) else [given] * self.num_envs
            drawn = [(check_difficulty(one), True) for one in each]
        mask = options.get("reset_mask")
        options["difficulty"] = [difficulty for difficulty, _ in drawn]
        # Gymnasium's wrappers are typed for one seed, its vector environments take one for each as well.
        observations, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        begun = range(self.num_envs) if mask is None else np.flatnonzero(mask).tolist()
        for i in begun:
            self._begin(i, drawn[i])
        return observations, self._with_told(infos, {i: _told(self._course, self._now[i]) for i in begun})

    def step(self, actions: Sequence[str]) -> tuple[Any, Rewards, Flags, Flags, dict[str, Any]]:
        """See ``AtomMemVectorEnv.step``; the end of an episode may move the difficulty."""
        drawn = [self._course.draw(i, number) for i, number in enumerate(self._begun)]
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        told: dict[int, dict[str, Any]] = {}
        over = terminations | truncations
        for i, stepped in enumerate(self._base.stepped):
            if stepped is None:
                self._begin(i, drawn[i])
                told[i] = _told(self._course, self._now[i])
                continue
            self._rewards[i] += rewards[i]
            if over[i]:
                if not self._now[i][1]:
                    self._course.note(float(self._rewards[i]))
                told[i] = _told(self._course, self._now[i])
                if self._base.autoreset_mode is AutoresetMode.SAME_STEP:
                    # The next episode has begun already, at the difficulty before this step.
                    self._begin(i, drawn[i])
        return observations, rewards, terminations, truncations, self._with_told(infos, told)

    def state_dict(self) -> dict[str, Any]:
        """Where the curriculum stands, as JSON values; running episodes are not part of it."""
        return {"course": self._course.state(), "begun": list(self._begun)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict` with the next reset.

        Raises:
            ConfigError: it is of another schedule or number of sub-environments.
        """
        if len(state["begun"]) != self.num_envs:
            raise ConfigError(f"the state is of {len(state['begun'])} sub-environments, these are {self.num_envs}")
        self._course.load(state["course"])
        self._begun = list(state["begun"])

    def _begin(self, i: int, drawn: tuple[float, bool]) -> None:
        self._begun[i] += 1
        self._now[i], self._rewards[i] = drawn, 0.0

    def _with_told(self, infos: dict[str, Any], told: Mapping[int, dict[str, Any]]) -> dict[str, Any]:
        if not told:
            return infos
        values = np.full(self.num_envs, None, object)
        there = np.zeros(self.num_envs, np.bool_)
        for i, one in told.items():
            values[i], there[i] = one, True
        return {**infos, "curriculum": values, "_curriculum": there}


def _course(schedule: Mapping[str, Any]) -> _Course:
    known = CurriculumSchedule.__slots__
    unknown = sorted(set(schedule) - set(known))
    if unknown:
        raise ConfigError(f"unknown curriculum setting {unknown[0]!r}; known are {', '.join(known)}")
    made = CurriculumSchedule(**schedule)
    return _Course(made, difficulty=float(made.start))


def _told(course: _Course, now: tuple[float, bool]) -> dict[str, Any]:
    return {
        "difficulty": now[0],
        "review": now[1],
        "level": course.difficulty,
        "mean": course.mean,
        "episodes": course.episodes,
    }


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{name}={value!r} must be made of numbers from 0 to 1")
    return float(value)
