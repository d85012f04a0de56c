"""The schedule and the state of a curriculum, for plain and vector environments."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

import numpy as np

from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.layout import stable_rng


@dataclass(frozen=True, kw_only=True, slots=True)
class CurriculumSchedule:
    """When and how far the difficulty moves.

    Raises:
        ConfigError: a value is out of its range.
    """

    start: float = 0.0
    """The difficulty of the first episode."""
    bounds: tuple[float, float] = (0.0, 1.0)
    """The least and the greatest difficulty."""
    target: tuple[float, float] = (0.4, 0.7)
    """The band of mean reward: above it the difficulty rises, below it falls, within it stays."""
    window: int = 32
    """Episodes over which the mean is computed; after a move only new ones count."""
    step: float = 0.05
    """How far the difficulty moves at a time."""
    review: float = 0.0
    """Share of review episodes, drawn evenly between the least and the current difficulty, against forgetting. They do
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
        check_integer("window", self.window, 1)
        if not _share("step", self.step) > 0 or not _share("review", self.review) < 1:
            raise ConfigError(f"step={self.step!r} must be above 0, and review={self.review!r} below 1")


class Drawn(NamedTuple):
    """The difficulty of one episode."""

    difficulty: float
    review: bool
    """Whether it is a review, which does not count for the mean."""


@dataclass(slots=True)
class CurriculumState:
    """The state of a curriculum."""

    schedule: CurriculumSchedule
    """The schedule."""
    seed: int = 0
    """The seed of the draws of reviews."""
    difficulty: float = 0.0
    """The current difficulty."""
    rewards: deque[float] = field(default_factory=deque)
    """The rewards in the window, the latest last."""
    episodes: int = 0
    """Episodes that counted for the mean."""

    @classmethod
    def start(cls, settings: Mapping[str, Any]) -> CurriculumState:
        """The state before the first episode.

        Args:
            settings: Fields of :class:`CurriculumSchedule`.

        Raises:
            ConfigError: a setting is unknown, or a value is out of its range.
        """
        known = CurriculumSchedule.__slots__
        unknown = sorted(set(settings) - set(known))
        if unknown:
            raise ConfigError(f"unknown curriculum setting {unknown[0]!r}; known are {', '.join(known)}")
        schedule = CurriculumSchedule(**settings)
        return cls(schedule, difficulty=float(schedule.start))

    def draw(self, member: int, number: int) -> Drawn:
        """Draw the difficulty of episode ``number`` of sub-environment ``member``, and whether it is a review."""
        if not self.schedule.review:
            return Drawn(self.difficulty, False)
        rng = stable_rng("curriculum", self.seed, member, number)
        if rng.random() >= self.schedule.review:
            return Drawn(self.difficulty, False)
        low = self.schedule.bounds[0]
        # Rounded, so that an environment keeps the items of few difficulties.
        return Drawn(round(low + float(rng.random()) * (self.difficulty - low), 2), True)

    def count(self, reward: float) -> None:
        """Count the reward of an episode, and move if the window is full and its mean is outside the band."""
        schedule = self.schedule
        self.episodes += 1
        self.rewards.append(reward)
        if len(self.rewards) > schedule.window:
            self.rewards.popleft()
        mean = self.mean
        if len(self.rewards) < schedule.window or mean is None or schedule.target[0] <= mean <= schedule.target[1]:
            return
        direction = 1 if mean > schedule.target[1] else -1
        # Rounded, so that 20 steps of 0.05 lead to exactly 1, and items are made for few difficulties.
        moved = round(self.difficulty + direction * schedule.step, 6)
        moved = min(schedule.bounds[1], max(schedule.bounds[0], moved))
        if moved != self.difficulty:
            self.difficulty = moved
            self.rewards.clear()

    @property
    def mean(self) -> float | None:
        """The mean reward of the window; ``None`` if it is empty."""
        return float(np.mean(self.rewards)) if self.rewards else None

    def status(self, drawn: Drawn) -> dict[str, Any]:
        """``info["curriculum"]`` of an episode."""
        return {
            "difficulty": drawn.difficulty,
            "review": drawn.review,
            "level": self.difficulty,
            "mean": self.mean,
            "episodes": self.episodes,
        }

    def dump(self) -> dict[str, Any]:
        """The whole state as JSON values."""
        schedule = asdict(self.schedule) | {"bounds": list(self.schedule.bounds), "target": list(self.schedule.target)}
        return {**asdict(self), "schedule": schedule, "rewards": list(self.rewards)}

    def load(self, state: Mapping[str, Any]) -> None:
        """Return to the state that :meth:`dump` returned.

        Raises:
            ConfigError: it has another schedule.
        """
        if CurriculumSchedule(**state["schedule"]) != self.schedule:
            raise ConfigError(f"the state is of schedule {state['schedule']}, this one is {asdict(self.schedule)}")
        self.seed, self.difficulty, self.episodes = state["seed"], state["difficulty"], state["episodes"]
        self.rewards = deque(state["rewards"])


def _share(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise ConfigError(f"{name}={value!r} must be made of numbers from 0 to 1")
    return float(value)
