"""The environments and language models of a plan while it is played.

An environment is opened when its first episode starts and closed after its last one; a model is opened once and shared
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
from atommem_gym.agents.players.openai_model import OpenAIModel
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
    """What makes the environment of a cell."""

    cell: Cell
    env_id: str
    keywords: Mapping[str, Any]

    @property
    def identity(self) -> str:
        """Equal for cells whose environments are made alike."""
        return identity(self.env_id, self.keywords)


def identity(env_id: str, keywords: Mapping[str, Any]) -> str:
    """Equal for environments that are made alike."""
    return json.dumps([env_id, keywords], sort_keys=True)


def make_cells(plan: Plan) -> dict[Cell, Made]:
    """What makes the environment of each cell: the plan's settings, the environment's, and what the agent needs.

    Raises:
        ConfigError: an agent is unknown, or what it needs contradicts the settings.
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
    """An environment of a plan at one document count, for all agents: its items, a pool for each way to make it."""

    def __init__(self, plan: Plan, env: EnvPlan, docs: int, made: Mapping[Cell, Made]) -> None:
        self.plan = plan
        self.env = env
        self.docs = docs
        self.made = made
        self.remaining = 0
        """Episodes that have not been played to their end."""
        self._items: Items | None = None
        self._pools: dict[str, AtomMemPool] = {}
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()

    async def load(self, done: Collection[EpisodeKey]) -> list[EpisodeKey]:
        """Load the items, and return the episodes that are still to be played.

        They come item after item, each by all agents and seeds, so that a stop leaves comparable results.

        Raises:
            ConfigError, DatasetUnavailableError: the items cannot be had.
        """
        keywords = self.plan.env_keywords(self.env, self.docs)
        config = _task(self.env.id).config(keywords)
        # Reading a data set for the first time may take minutes, and Ctrl-C should work meanwhile.
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
        """Refuse items that are not those of a protocol; to be called after :meth:`load`, in a thread.

        Raises:
            ConfigError: one differs.
        """
        assert self._items is not None
        protocol.check(self.env, self.docs, [self._items.item(*one) for one in self._drawn])

    def read_closed_book(
        self, writer: RunWriter, check: Callable[[], None], spend: Callable[[ClosedBook], None]
    ) -> None:
        """Ask the frozen reader, if there is one, the questions of all items with nothing shown, as far as is missing.

        To be called after :meth:`load`, in a thread: the server may take its time.

        Args:
            writer: The folder.
            check: Is called before each batch of questions, and raises to end.
            spend: Is told of each answer.

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
                # It may load an embedder, and other episodes are under way.
                pool = await asyncio.to_thread(self._make, made)
                self._pools[made.identity] = await self._stack.enter_async_context(pool)
            return self._pools[made.identity]

    def _make(self, made: Made) -> AtomMemPool:
        return AtomMemPool(made.env_id, capacity=self.plan.in_flight, items=self._items, **made.keywords)

    async def close(self) -> list[AtomMemPool]:
        """Close all pools; returns them, for what they can tell."""
        pools, self._pools = list(self._pools.values()), {}
        await self._stack.aclose()
        self._items = None
        return pools


def plan_models(plan: Plan) -> dict[str, ModelPlan]:
    """The model of each agent that needs one, by the agent's label.

    Raises:
        ConfigError: an agent needs one and the plan names none.
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
    """The model: behind a server, or in this process.

    Raises:
        ConfigError: an option is unknown or wrong, or a package is missing.
        LanguageModelError: it cannot be loaded.
    """
    if plan.url:
        return load_model(plan.url, plan.name or None, **plan.options)
    return load_model(plan.name, **plan.options)


async def await_model(model: LanguageModel) -> None:
    """Return when the model's server answers: only it knows the model's name, which stands in every record.

    A local model is ready once it is open.

    Raises:
        LanguageModelError: it did not answer within its ``patience``, or does not have the model.
    """
    if isinstance(model, OpenAIModel):
        await model.wait_until_ready()


def _task(env_id: str) -> Task:
    return next(task for task in TASKS.values() if task.env_id == env_id)
