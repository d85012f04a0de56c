"""The current episode of an environment, from one reset to the next; a vector environment has one per slot."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend, EpisodeWithKey
from atommem_gym.envs.render import render_step
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.records.record import Item, Items
from atommem_gym.step import Step, StepResult
from atommem_gym.task import ItemsByDifficulty

RESET_OPTIONS = ("index", "shuffle_seed", "memory", "difficulty")


class CurrentEpisode:
    """The current episode of one (sub-)environment: begins its steps and finishes them after their I/O."""

    def __init__(self, items: Items, by_difficulty: ItemsByDifficulty, backend: Backend, *, render: bool) -> None:
        self._items = items
        self._by_difficulty = by_difficulty
        self._backend = backend
        self._render = render
        self._running: EpisodeWithKey | None = None
        self.frame = ""
        """The last step as coloured text, if rendering is on."""

    @property
    def exists(self) -> bool:
        """Whether there is an episode yet; it may be over."""
        return self._running is not None

    @property
    def running(self) -> EpisodeWithKey:
        """The current episode, also when it is over.

        Raises:
            ResetNeeded: there is none yet.
        """
        if self._running is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self._running

    def holds(self, key: str) -> bool:
        """Whether this is the key of the current episode."""
        return self._running is not None and self._running.key == key

    def begin_reset(self, rng: np.random.Generator, options: Mapping[str, Any]) -> tuple[EpisodeWithKey, Step]:
        """Make an episode and begin its opening step; the old episode stays current until :meth:`finish`.

        Args:
            rng: Draws the item if the options name none.
            options: The reset options.

        Raises:
            IndexError, ConfigError, StoreError: see ``AtomMemEnv.reset``.
        """
        config, item, key = chosen(self._items, self._by_difficulty, rng, options)
        mine = () if self._running is None else (self._running.key,)
        running = self._backend.new_episode(item, memory_key=key, replacing=mine, config=config)
        return running, running.episode.open()

    def begin_step(self, action: str) -> tuple[EpisodeWithKey, Step]:
        """Begin a step, and return the current episode with the begun step.

        Raises:
            ResetNeeded, TypeError: see ``AtomMemEnv.step``.
        """
        return self.running, self.running.episode.begin(action)

    def finish(self, action: str, running: EpisodeWithKey, step: Step, result: StepResult) -> list[EpisodeWithKey]:
        """Finish a step after its I/O, and return the episodes that have ended or were replaced, to be released."""
        left = self.take(running) if step.opening else []
        if result.terminated or result.truncated:
            left.append(running)
        if self._render:
            self.frame = render_step(running.episode, action, step, result)
        return left

    def fork(self, running: EpisodeWithKey) -> CurrentEpisode:
        """The current episode of another (sub-)environment, which is a fork of this one (SPEC M14)."""
        twin = CurrentEpisode(self._items, self._by_difficulty, self._backend, render=self._render)
        twin.take(running)
        twin.frame = self.frame
        return twin

    def take(self, running: EpisodeWithKey | None) -> list[EpisodeWithKey]:
        """Replace the current episode (``None``: by none), and return the old one to be released, unless it ended."""
        # An episode that continues with its own memory stays in use.
        same = running is not None and self.holds(running.key)
        left = [] if self._running is None or self._running.episode.state.over or same else [self._running]
        self._running = running
        self.frame = ""
        if running is not None:
            self._backend.claim(running)
        return left


class EpisodeAccess:
    """The public properties of an environment with one current episode."""

    _current: CurrentEpisode

    @property
    def episode(self) -> Episode:
        """The running episode. It is privileged: it holds the answers.

        Raises:
            ResetNeeded: there is none yet.
        """
        return self._current.running.episode

    @property
    def item(self) -> Item:
        """Questions, answers and documents of the running episode (privileged, see :attr:`episode`)."""
        return self.episode.item

    @property
    def memory_key(self) -> str:
        """The key of the running episode's memory, for the reset option ``memory`` with a kept database."""
        return self._current.running.key


def chosen(
    items: Items, by_difficulty: ItemsByDifficulty, rng: np.random.Generator, options: Mapping[str, Any]
) -> tuple[EnvConfig | None, Item, str | None]:
    """Choose difficulty, item and memory by the options of a reset; without ``index`` the generator draws the item.

    Returns:
        The configuration of the ``difficulty``, if given; the item; the key of the ``memory`` to continue, if given.

    Raises:
        IndexError: there is no item ``index``.
        ConfigError: an option is unknown or has an invalid value.
    """
    unknown = sorted(set(options) - set(RESET_OPTIONS))
    if unknown:
        raise ConfigError(f"unknown reset option {unknown[0]!r}; known are {', '.join(RESET_OPTIONS)}")
    config = None
    if options.get("difficulty") is not None:
        config, items = by_difficulty.at(options["difficulty"])
    index = rng.integers(items.num_items) if options.get("index") is None else options["index"]
    item = items.item(
        check_integer("reset option index", index, numpy=True),
        check_integer("reset option shuffle_seed", options.get("shuffle_seed", 0), numpy=True),
    )
    key = options.get("memory")
    if key is not None and not isinstance(key, str):
        raise ConfigError(f"reset option memory={key!r} must be a key, see env.unwrapped.memory_key")
    return config, item, key
