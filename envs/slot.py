"""One place in which episodes run, one after the other; the plain environment has one, a vector environment many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend, Running
from atommem_gym.envs.render import render_step
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError
from atommem_gym.records.record import Item, Items
from atommem_gym.step import Step, StepResult
from atommem_gym.task import ItemsByDifficulty

RESET_OPTIONS = ("index", "shuffle_seed", "memory", "difficulty")


class Slot:
    """The current episode of one (sub-)environment; begins its steps, and takes note of them once the I/O is done."""

    def __init__(self, items: Items, by_difficulty: ItemsByDifficulty, backend: Backend, *, render: bool) -> None:
        self._items = items
        self._by_difficulty = by_difficulty
        self._backend = backend
        self._render = render
        self._running: Running | None = None
        self.frame = ""
        """The last step as coloured text, if rendering is on."""

    @property
    def occupied(self) -> bool:
        """Whether there is an episode, running or over."""
        return self._running is not None

    @property
    def running(self) -> Running:
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

    def begin_reset(self, rng: np.random.Generator, options: Mapping[str, Any]) -> tuple[Running, Step]:
        """A new episode and its opening step; the old one goes on until :meth:`finish`.

        Raises:
            IndexError, ConfigError, StoreError: see ``AtomMemEnv.reset``.
        """
        config, item, key = chosen(self._items, self._by_difficulty, rng, options)
        mine = () if self._running is None else (self._running.key,)
        running = self._backend.new_episode(item, memory_key=key, replacing=mine, config=config)
        return running, running.episode.open()

    def begin_step(self, action: str) -> tuple[Running, Step]:
        """The current episode and what the action will do to it.

        Raises:
            ResetNeeded, TypeError: see ``AtomMemEnv.step``.
        """
        return self.running, self.running.episode.begin(action)

    def finish(self, action: str, running: Running, step: Step, result: StepResult) -> list[Running]:
        """Take note of a step that was carried out; returns the episodes that are over or left, to be released."""
        left = self.take(running) if step.opening else []
        if result.terminated or result.truncated:
            left.append(running)
        if self._render:
            self.frame = render_step(running.episode, action, step, result)
        return left

    def take(self, running: Running | None) -> list[Running]:
        """Go on with another episode, or with none; returns the old one if it did not end, to be released."""
        # An episode that goes on with its own memory stays in use.
        same = running is not None and self.holds(running.key)
        left = [] if self._running is None or self._running.episode.state.over or same else [self._running]
        self._running = running
        self.frame = ""
        if running is not None:
            self._backend.adopt(running)
        return left


class EpisodeAccess:
    """What an environment of one slot tells of its episode."""

    _slot: Slot

    @property
    def episode(self) -> Episode:
        """The running episode. It is privileged: an agent that looks here sees the answers.

        Raises:
            ResetNeeded: there is none yet.
        """
        return self._slot.running.episode

    @property
    def item(self) -> Item:
        """Questions, answers and documents of the running episode (privileged, see :attr:`episode`)."""
        return self.episode.item

    @property
    def memory_key(self) -> str:
        """The key of the running episode's memory, for the reset option ``memory`` with a kept database."""
        return self._slot.running.key


def chosen(
    items: Items, by_difficulty: ItemsByDifficulty, rng: np.random.Generator, options: Mapping[str, Any]
) -> tuple[EnvConfig | None, Item, str | None]:
    """What the options of a reset, or else the generator, choose.

    Returns:
        The configuration if the difficulty is another one, the item, and the key of the memory to go on with, if any.

    Raises:
        IndexError: there is no item ``index``.
        ConfigError: an option is unknown or of a wrong type.
    """
    unknown = sorted(set(options) - set(RESET_OPTIONS))
    if unknown:
        raise ConfigError(f"unknown reset option {unknown[0]!r}; known are {', '.join(RESET_OPTIONS)}")
    config = None
    if options.get("difficulty") is not None:
        config, items = by_difficulty.at(options["difficulty"])
    index = options.get("index")
    index = int(rng.integers(items.num_items)) if index is None else _integer("index", index)
    item = items.item(index, _integer("shuffle_seed", options.get("shuffle_seed", 0)))
    key = options.get("memory")
    if key is not None and not isinstance(key, str):
        raise ConfigError(f"reset option memory={key!r} must be a key, see env.unwrapped.memory_key")
    return config, item, key


def _integer(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise ConfigError(f"reset option {name}={value!r} must be an integer")
    return int(value)
