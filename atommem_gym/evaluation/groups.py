"""Opens and closes the environments and language models of a plan while it is played.

An environment is opened when its first episode starts and closed after its last one. A model is opened once and shared
by all agents that name it.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Collection, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

from atommem_gym.agents.play import draw_items
from atommem_gym.agents.players.language_model import LanguageModel, load_model
from atommem_gym.agents.players.player import player_keywords
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.envs.pool.pool import AtomMemPool
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.closed_book import ClosedBook, ask_closed_book
from atommem_gym.evaluation.folder import RunWriter
from atommem_gym.evaluation.plan import Cell, EnvPlan, ModelPlan, Plan
from atommem_gym.evaluation.protocols.protocol import FixedProtocol
from atommem_gym.evaluation.results import EpisodeKey
from atommem_gym.records.record import Items
from atommem_gym.registration import TASKS, Task, load_items


@dataclass(frozen=True, slots=True)
class Made:
    """How the environment of a cell is made."""

    cell: Cell
    """Environment, document count and agent."""
    env_id: str
    """Gymnasium id."""
    keywords: Mapping[str, Any]
    """Keyword arguments of the environment."""

    @property
    def identity(self) -> str:
        """A text that is equal for cells whose environments are made alike."""
        return identity(self.env_id, self.keywords)


def identity(env_id: str, keywords: Mapping[str, Any]) -> str:
    """A text that is equal for environments that are made alike."""
    return json.dumps([env_id, keywords], sort_keys=True)


def make_cells(plan: Plan) -> dict[Cell, Made]:
    """How the environment of each cell is made: by the settings of plan and environment, and what the agent demands.

    Raises:
        ConfigError: an agent is unknown, or what it demands contradicts the settings.
    """
    made = {}
    for env in plan.envs:
        for docs in plan.docs_of(env):
            for agent in plan.agents:
                keywords = plan.env_keywords(env, docs) | player_keywords(agent.name)
                try:
                    _task(env.id).config(keywords)
                except ConfigError as error:
                    raise ConfigError(f"the agent {agent.label!r} in {env.label}: {error}") from error
                cell = Cell(env.label, docs, agent.label)
                made[cell] = Made(cell, env.id, keywords)
    return made


class Group:
    """One environment of a plan at one document count: its items, and a pool for each way to make it."""

    def __init__(self, plan: Plan, env: EnvPlan, docs: int, made: Mapping[Cell, Made]) -> None:
        self.plan = plan
        self.env = env
        self.docs = docs
        self.made = made
        self.remaining = 0
        """Episodes that are still to be played."""
        self._items: Items | None = None
        self._pools: dict[str, AtomMemPool] = {}
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def load(self, done: Collection[EpisodeKey]) -> list[EpisodeKey]:
        """Load the items, and return the episodes that are still to be played.

        They are ordered by item, and each item is played by all agents and seeds, so that an interrupted run has
        comparable results.

        Args:
            done: The finished episodes.

        Raises:
            ConfigError, DatasetUnavailableError: the items cannot be loaded.
        """
        keywords = self.plan.env_keywords(self.env, self.docs)
        config = _task(self.env.id).config(keywords)
        # Loading a data set for the first time may take minutes, during which Ctrl-C must work.
        self._items = await asyncio.to_thread(load_items, _task(self.env.id).name, config)
        drawn = draw_items(self._items.num_items, self.plan.episodes, self.plan.items_seed)
        keys = [
            EpisodeKey(self.env.label, self.docs, agent.label, seed, index, shuffle_seed)
            for index, shuffle_seed in drawn
            for seed in self.plan.seeds
            for agent in self.plan.agents
        ]
        missing = [key for key in keys if key not in done]
        self.remaining = len(missing)
        self._drawn = drawn
        return missing

    def check_protocol(self, protocol: FixedProtocol) -> None:
        """Check that the items are those of a protocol; call it after :meth:`load`, in a thread.

        Raises:
            ConfigError: an item differs.
        """
        assert self._items is not None
        protocol.check(self.env, self.docs, [self._items.item(*one) for one in self._drawn])

    def read_closed_book(
        self, writer: RunWriter, check: Callable[[], None], spend: Callable[[ClosedBook], None]
    ) -> None:
        """Ask the frozen reader, if there is one, the questions of all items closed-book, unless it has been asked.

        Call it after :meth:`load`, in a thread, because the reader's server may take long.

        Args:
            writer: The folder of the evaluation.
            check: Called before each batch of questions; it raises to stop.
            spend: Called with each answer.

        Raises:
            ConfigError, ReaderError: the reader cannot be asked.
        """
        assert self._items is not None
        config = _task(self.env.id).config(self.plan.env_keywords(self.env, self.docs))
        if not config.policy_answers:
            items = (self._items.item(*one) for one in self._drawn)
            asked = writer.earlier.closed_book

            def keep(row: ClosedBook) -> None:
                writer.keep_closed_book(row)
                spend(row)

            ask_closed_book(self.env.label, self.docs, config, items, asked, keep, check)

    async def pool(self, cell: Cell) -> AtomMemPool:
        """The pool in which a cell is played."""
        made = self.made[cell]
        async with self._opening:
            if made.identity not in self._pools:
                # In a thread: it may load an embedder while other episodes are under way.
                pool = await asyncio.to_thread(self._make, made)
                self._pools[made.identity] = await self._stack.enter_async_context(pool)
            return self._pools[made.identity]

    def _make(self, made: Made) -> AtomMemPool:
        return AtomMemPool(made.env_id, capacity=self.plan.in_flight, items=self._items, **made.keywords)

    async def close(self) -> list[AtomMemPool]:
        """Close all pools; returns them, for their statistics."""
        pools, self._pools = list(self._pools.values()), {}
        await self._stack.aclose()
        self._items = None
        return pools


def plan_models(plan: Plan) -> dict[str, ModelPlan]:
    """The model of each agent that needs one, by the label of the agent.

    Raises:
        ConfigError: an agent needs a model and the plan names none.
    """
    wanted = {}
    for agent in plan.agents:
        model = agent.model or plan.model
        if agent.name not in ROLES:
            continue
        if model is None:
            raise ConfigError(
                f"the agent {agent.label!r} needs a language model; give --model URL --model-name NAME for a server, "
                "or --model NAME for a local one (in a plan: model: {url: …, name: …})"
            )
        wanted[agent.label] = model
    return wanted


def open_model(plan: ModelPlan) -> LanguageModel:
    """Open a model at a server, or in this process.

    Raises:
        ConfigError: an option is unknown or wrong, or a package is missing.
        LanguageModelError: the model cannot be loaded.
    """
    if plan.url:
        return load_model(plan.url, plan.name or None, **plan.options)
    return load_model(plan.name, **plan.options)


def _task(env_id: str) -> Task:
    return next(task for task in TASKS.values() if task.env_id == env_id)
