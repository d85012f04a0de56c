"""The place in which a team's episodes run, one after the other: their beginnings, their I/O, their ends."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping
from typing import Any

import numpy as np
from gymnasium.error import ResetNeeded

from atommem_gym.envs.backend import Backend
from atommem_gym.envs.jobs import Job, Running
from atommem_gym.envs.slot import chosen
from atommem_gym.envs.team.episode import TeamEpisode, TeamStep
from atommem_gym.envs.team.memory import TeamMemory
from atommem_gym.records.record import Items
from atommem_gym.step import Step, StepResult
from atommem_gym.task import ItemsByDifficulty


class TeamSlot:
    """The current episode of a team environment, and the I/O of its steps."""

    def __init__(
        self, items: Items, by_difficulty: ItemsByDifficulty, backend: Backend, *, readers: int, parts: str
    ) -> None:
        self._items = items
        self._by_difficulty = by_difficulty
        self._backend = backend
        self._readers = readers
        self._parts = parts
        self._team: TeamEpisode | None = None
        self._running: Running | None = None

    @property
    def team(self) -> TeamEpisode:
        """The current episode, also when it is over.

        Raises:
            ResetNeeded: there is none yet.
        """
        if self._team is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self._team

    @property
    def running(self) -> Running:
        """The key of its memory, and one of the team's members for all.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        if self._running is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self._running

    def reset(
        self, rng: np.random.Generator, options: Mapping[str, Any], max_steps: int | None
    ) -> tuple[TeamStep, dict[str, StepResult]]:
        """Begin an episode in place of the current one, which goes on if this fails.

        Args:
            rng: Draws the item.
            options: See ``AtomMemEnv.reset``.
            max_steps: Rounds of the episode, ``None`` for the default.

        Returns:
            The opening step, and its result by agent.

        Raises:
            IndexError, ConfigError, StoreError: nothing has changed.
        """
        config, item, key = chosen(self._items, self._by_difficulty, rng, options)
        config = dataclasses.replace(config or self._backend.config, max_steps=max_steps)
        try:
            memory = None if key is None else self._kept_memory(key)
            team = TeamEpisode(
                config, item, self._backend.tokenizer, readers=self._readers, parts=self._parts, memory=memory
            )
            running = Running(key or uuid.uuid4().hex, team.answerer)
            step = team.open()
            results = self._carry_out(team, running, step)
        except BaseException:
            self._backend.forgo()
            raise
        left = self.take(team, running)
        self._backend.release(left)
        return step, results

    def step(self, actions: Mapping[str, str]) -> tuple[TeamStep, dict[str, StepResult]]:
        """Execute the actions of all agents.

        Raises:
            ResetNeeded, TypeError: see ``TeamEpisode.begin``.
            EmbedderError, StoreError, JudgeError: nothing has changed; the same step may be repeated.
        """
        step = self.team.begin(actions)
        results = self._carry_out(self.team, self.running, step)
        if self.team.over:
            self._backend.release([self.running])
        return step, results

    def take(self, team: TeamEpisode | None, running: Running | None) -> list[Running]:
        """Go on with another episode, or with none; returns the old one if it did not end, to be released."""
        old = self._running
        # An episode that goes on with its own memory stays in use.
        same = old is not None and running is not None and running.key == old.key
        left = [] if old is None or old.episode.state.over or same else [old]
        self._team, self._running = team, running
        if running is not None:
            self._backend.adopt(running)
        return left

    def _kept_memory(self, key: str) -> TeamMemory:
        mine = () if self._running is None else (self._running.key,)
        memory = self._backend.kept_memory(key, replacing=mine)
        stored = self._backend.store.load(key) if self._backend.store is not None else None
        return TeamMemory.from_single(memory, None if stored is None else stored.state)

    def _carry_out(self, team: TeamEpisode, running: Running, step: TeamStep) -> dict[str, StepResult]:
        """The I/O of a step: one call each to scorer, embedder and store for the whole team."""
        backend = self._backend
        # The shared draft is written once; the agents' own steps only score and search.
        written = backend.job(running, Step(step.draft, opening=step.opening))
        searchable = backend.store is not None and len(step.draft) > 0
        jobs = {
            name: Job(running, own, {}, searches=searchable and bool(own.query), writes=False)
            for name, own in step.steps.items()
        }
        batch = [written, *jobs.values()]
        backend.score(batch)
        backend.embed(batch)
        backend.write_and_search(batch)
        results = team.finish(
            step, {name: job.scores for name, job in jobs.items()}, {name: job.hits for name, job in jobs.items()}
        )
        running.unsettled = None
        return results
