"""Teams of agents over one memory, in PettingZoo's forms: ``parallel_env``, ``env`` (AEC) and ``raw_env``.

Needs PettingZoo: ``pip install "atommem-gym[team]"``.
"""

from __future__ import annotations

import copy
import sys
import weakref
from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from rich.console import RenderableType
from rich.text import Text

from atommem_gym.actions import ActionText, UnicodeText
from atommem_gym.config import EnvConfig
from atommem_gym.envs.atommem_env import observation_space
from atommem_gym.envs.backend import Backend
from atommem_gym.envs.branching import Branching
from atommem_gym.envs.team.branching import TeamBranching
from atommem_gym.envs.team.episode import (
    ANSWERER,
    PARTS,
    CurrentTeamEpisode,
    TeamEpisode,
    TeamStep,
    reader_names,
    sampled_kinds,
)
from atommem_gym.errors import ConfigError, check_choice, check_integer, counted
from atommem_gym.records.record import Item, Items
from atommem_gym.registration import TASKS, configure, load_items, resolve_env_id, task_of
from atommem_gym.step import Observation, Phase, StepResult
from atommem_gym.task import ItemsByDifficulty
from atommem_gym.terminal import Excerpt, Heading, Line, drawn, on_one_line

try:
    from pettingzoo import AECEnv, ParallelEnv

    from atommem_gym.envs.team.turns import TeamTurns, TurnsInOrder
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("teams need PettingZoo: pip install 'atommem-gym[team]'", name="pettingzoo") from error

Info = dict[str, Any]
MAX_CHANGES = 12
"""Number of changed entries that :func:`render_team` shows."""


class TeamEnv(ParallelEnv):  # type: ignore[misc]  # PettingZoo ships no types
    """A team of agents over one shared memory: readers with a part of the stream each, and an answerer.

    ## Description

    The documents of an item are divided among the agents ``reader_0``, ``reader_1``, …; each sees its part chunk by
    chunk, has a scratchpad, and writes into the shared memory. ``answerer_0`` sees no chunks, only what it reads from
    memory, and its scratchpad. All agents act in every round. With ``readers=1`` this is the setting of Memory-R1
    (Yan et al. 2025, arXiv 2508.19828): a memory manager and an answer agent.

    ## Action Space

    For every agent, that of the single environment: any text, in the same dialects. Answers of readers are rejected
    (reason ``disabled``). ``sample()`` draws only operations that cannot end an episode: no answers, and no reads for
    the answerer.

    ## Observation Space

    For every agent, that of the single environment; each memory shown also has an ``author``, the agent that wrote its
    current text (empty for an entry that no team wrote). ``phase`` is the team's. ``progress`` counts a reader's
    chunks, and for the answerer those of all readers. After its part is read a reader sees no chunks, but may change
    the memory until the episode ends.

    ## One step of a team

    Actions are executed agent by agent: the readers by number, then the answerer, each in the order written. An
    update or delete of an entry that *another* agent created, updated or deleted in the same step is rejected
    (reason ``conflict``); both agents find it in ``info["conflicts"]`` and in their feedback. A read sees the memory
    after all actions of the step; its result is in the next observation of the agent that made it. Ids of entries are
    shared by the team.

    ## Starting State

    Empty memory and scratchpads. ``reset`` takes the options of the single environment: ``index``, ``shuffle_seed``,
    ``difficulty``, and, with a kept database, ``memory``, which resumes entries, authors and scratchpads.

    ## Rewards

    Every agent gets the same reward: that of the episode at its end, by default the mean exact match over the
    questions, and 0 before.

    ## Episode End

    All agents end together. Answering begins when every reader has read its part. The episode ends when every question
    is closed (terminated), or after ``max_steps`` rounds (truncated): by default the number of chunks of the longest
    part plus 4 for each question. ``max_cycles`` is another name for ``max_steps``.

    ## Information

    Every agent gets the ``info`` of the single environment about its operations, and ``conflicts``. At the end comes
    ``episode_metrics``: its ``operations`` and ``rejected`` are totals of the team, and ``agents`` has those of each
    agent.

    ## Arguments

    Args:
        task: A task of the family, by name or id.
        readers: Number of readers, at least 1.
        parts: How the documents are divided: ``"contiguous"``, in runs of neighbours, or ``"round_robin"``, dealt out
            one by one.
        items: Custom items, in place of those of the task.
        max_cycles: PettingZoo's name for ``max_steps``.
        render_mode: ``None``, ``"ansi"`` or ``"human"``.
        **keywords: Keyword arguments of ``EnvConfig`` and of the task; ``preset="released"`` is for single agents only.

    Raises:
        ConfigError: a keyword is unknown, has a wrong value, or contradicts another one.

    >>> env = TeamEnv(readers=2, num_docs=20, chunk_tokens=400, store="numpy")
    >>> observations, infos = env.reset(seed=0)
    >>> env.agents
    ['reader_0', 'reader_1', 'answerer_0']
    >>> actions = {"reader_0": "<create>a fact</create>", "reader_1": "", "answerer_0": "<read>fact</read>"}
    >>> observations, rewards, terminations, truncations, infos = env.step(actions)
    >>> [(memory["text"], memory["author"]) for memory in observations["answerer_0"]["memories"]]
    [('a fact', 'reader_0')]
    >>> env.close()
    """

    metadata: dict[str, Any] = {  # noqa: RUF012  (PettingZoo declares it an instance variable)
        "name": "atommem_team_v0",
        "render_modes": ["ansi", "human"],
        "render_fps": 1,
        "is_parallelizable": True,
    }

    def __init__(
        self,
        task: str = "Synthetic",
        readers: int = 4,
        *,
        parts: str = "contiguous",
        items: Items | None = None,
        max_cycles: int | None = None,
        render_mode: str | None = None,
        **keywords: Any,
    ) -> None:
        readers = check_integer("readers", readers, 1)
        check_choice("parts", parts, PARTS)
        if render_mode is not None and render_mode not in self.metadata["render_modes"]:
            raise ConfigError(f"render_mode={render_mode!r} must be None, 'ansi' or 'human'")
        if keywords.get("preset") == "released":
            raise ConfigError("preset='released' is the control flow of a single agent; leave it out for a team")
        if max_cycles is not None:
            if keywords.get("max_steps", max_cycles) != max_cycles:
                raise ConfigError(
                    f"max_cycles={max_cycles!r} contradicts max_steps={keywords['max_steps']!r}; give one"
                )
            keywords = {**keywords, "max_steps": max_cycles}
        registered = task_of(resolve_env_id(task))
        assert registered is not None
        self.task = registered.name
        self.render_mode = render_mode
        self.config = configure(self.task, keywords)
        self.max_cycles = self.config.max_steps
        self.items = load_items(self.task, self.config) if items is None else items
        by_difficulty = ItemsByDifficulty(TASKS[self.task] if items is None else None, keywords)
        self.possible_agents = [*reader_names(readers), ANSWERER]
        self.agents: list[str] = []
        self._observation_spaces = {agent: team_observation_space(self.config) for agent in self.possible_agents}
        self._action_spaces = {agent: _action_space(self.config, agent) for agent in self.possible_agents}
        self._backend = Backend(self.config)
        self._current = CurrentTeamEpisode(self.items, by_difficulty, self._backend, readers=readers, parts=parts)
        branching = Branching(self.task, self.items, by_difficulty, self._backend)
        self._branching = TeamBranching(branching, readers, parts)
        self._rng: np.random.Generator | None = None
        self._frame = ""
        # An environment that is collected without close() must not hold a database folder, thread or lock.
        self._finalizer = weakref.finalize(self, self._backend.close)

    @property
    def num_items(self) -> int:
        """Number of items; ``reset(options={"index": i})`` takes ``0 <= i < num_items``."""
        return self.items.num_items

    @property
    def episode(self) -> TeamEpisode:
        """The current episode, also when it is over; it holds the answers, so agents must not read it.

        Raises:
            ResetNeeded: there is none yet.
        """
        return self._current.team

    @property
    def item(self) -> Item:
        """Questions, answers and documents of the current episode; not for agents."""
        return self.episode.item

    @property
    def memory_key(self) -> str:
        """Key of the current episode's memory, for ``reset(options={"memory": key})`` with a kept database.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        return self._current.running.key

    def observation_space(self, agent: str) -> spaces.Dict:
        """The space of an agent's observations; always the same object."""
        return self._observation_spaces[agent]

    def action_space(self, agent: str) -> UnicodeText:
        """The space of an agent's actions; always the same object."""
        return self._action_spaces[agent]

    def reset(
        self, seed: int | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, Info]]:
        """Begin an episode, with empty memory unless ``options`` names a kept one.

        An option named ``options``, which PettingZoo's tests pass, is ignored.

        Args:
            seed: Seeds the choice of items; ``None`` continues the current sequence.
            options: See :meth:`~atommem_gym.envs.atommem_env.AtomMemEnv.reset`.

        Returns:
            Observations and infos, by agent.

        Raises:
            IndexError, ConfigError, StoreError: nothing has changed; the old episode stays current.
        """
        choice = {name: value for name, value in (options or {}).items() if name != "options"}
        # On a copy, so that repeating a failed reset draws the same item.
        fresh = seed is not None or self._rng is None
        rng = gym.utils.seeding.np_random(seed)[0] if fresh else copy.deepcopy(self._rng)
        assert rng is not None
        opening, results = self._current.reset(rng, choice, self._checked_cycles())
        self._rng = rng
        self._show({}, opening, results)
        self.agents = self.possible_agents[:]
        return (
            {agent: result.observation for agent, result in results.items()},
            {agent: result.info for agent, result in results.items()},
        )

    def step(
        self, actions: Mapping[str, str]
    ) -> tuple[dict[str, Observation], dict[str, float], dict[str, bool], dict[str, bool], dict[str, Info]]:
        """Execute the actions of all agents and move on.

        Args:
            actions: One for every agent; an empty text does nothing.

        Raises:
            ResetNeeded: there is no episode, or it is over.
            ValueError: an action is missing, or is for an unknown agent.
            TypeError: an action is not a string.
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed; the same step may be repeated.
        """
        if self.episode.over:
            raise ResetNeeded("the episode is over; call reset() before the next step()")
        missing = [agent for agent in self.agents if agent not in actions]
        unknown = [agent for agent in actions if agent not in self.agents]
        if missing or unknown:
            what = f"no action for {missing[0]!r}" if missing else f"an action for the unknown agent {unknown[0]!r}"
            raise ValueError(f"{what}; give one for each of {', '.join(self.agents)} ('' does nothing)")
        step, results = self._current.step(actions)
        if any(result.terminated or result.truncated for result in results.values()):
            self.agents = []
        self._show(actions, step, results)
        return (
            {agent: result.observation for agent, result in results.items()},
            {agent: result.reward for agent, result in results.items()},
            {agent: result.terminated for agent, result in results.items()},
            {agent: result.truncated for agent, result in results.items()},
            {agent: result.info for agent, result in results.items()},
        )

    def snapshot(self) -> dict[str, Any]:
        """The state of the whole team, picklable, for :meth:`restore` (SPEC M14).

        Raises:
            ClosedEnvironmentError: the environment is closed.
        """
        self._check_not_closed()
        return self._branching.snapshot(self._current, self._rng, self._generators())

    def restore(self, snapshot: dict[str, Any]) -> dict[str, Observation] | None:
        """Return exactly to a snapshot, in this or another process, also with another store.

        The restored team gets a new memory, so a team branches by restoring one snapshot into several
        environments. Snapshots of single-agent environments are not accepted.

        Returns:
            The observations at which the snapshot was taken, by agent; ``None`` if that was before the first reset.

        Raises:
            SnapshotError: it is damaged, of a newer version, or of another team, task, configuration or item than this
                environment's; nothing has changed.
            ClosedEnvironmentError: the environment is closed.
        """
        self._check_not_closed()
        own = self._generators()
        restored = self._branching.restored(snapshot, own, self._current)
        team, running = restored or (None, None)
        self._backend.release(self._current.take(team, running))
        for agent, generator in own.items():
            generator.bit_generator.state = snapshot["action_spaces"][agent]
        if snapshot["np_random"] is None:
            self._rng = None
        else:
            self._rng = gym.utils.seeding.np_random(0)[0]
            self._rng.bit_generator.state = snapshot["np_random"]
        self._frame = ""
        if team is None:
            self.agents = []
            return None
        self.agents = [] if team.over else self.possible_agents[:]
        return {name: member.observation() for name, member in team.members.items()}

    def state(self) -> dict[str, Any]:
        """The whole memory and the progress of every reader, as JSON values, for a centralised critic.

        Returns:
            ``entries`` (``id``, ``text``, ``author``), ``scratchpads`` by agent, ``progress`` by reader (chunks read,
            chunks in all), ``steps_left``.
        """
        team = self.episode
        authors = team.memory.authors
        return {
            "entries": [
                {"id": entry, "text": kept.text, "author": authors.get(entry, "")}
                for entry, kept in sorted(team.memory.entries.items())
            ],
            "scratchpads": {name: member.state.memory.scratchpad for name, member in team.members.items()},
            "progress": {reader.name: [reader.state.chunk, reader.stream.num_chunks] for reader in team.readers},
            "steps_left": team.max_steps - team.answerer.state.steps,
        }

    def render(self) -> str | None:
        """Return the last step as coloured text in mode ``ansi``; mode ``human`` prints every step as it happens."""
        if self.render_mode is None:
            gym.logger.warn("render() without a render_mode; make the environment with render_mode='ansi' or 'human'")
            return None
        return self._frame if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Release the store and its database; may be called twice."""
        if self._finalizer.alive:
            self._backend.release(self._current.take(None, None))
            self._finalizer()

    def __str__(self) -> str:
        """The environment's name."""
        return str(self.metadata["name"])

    def _check_not_closed(self) -> None:
        if not self._finalizer.alive:
            raise ClosedEnvironmentError("this environment is closed; make another one")

    def _generators(self) -> dict[str, np.random.Generator]:
        """The generators of the action spaces, by agent."""
        return {agent: space.np_random for agent, space in self._action_spaces.items()}

    def _checked_cycles(self) -> int | None:
        cycles = self.max_cycles
        return None if cycles is None else check_integer("max_cycles", cycles, 1, or_else=", or None")

    def _show(self, actions: Mapping[str, str], step: TeamStep, results: Mapping[str, StepResult]) -> None:
        if self.render_mode is not None:
            self._frame = render_team(self.episode, actions, step, results)
        if self.render_mode == "human":
            encoding = sys.stdout.encoding or "utf-8"
            print(self._frame.encode(encoding, "replace").decode(encoding))


def team_observation_space(config: EnvConfig) -> spaces.Dict:
    """The observation space of the single environment, with an ``author`` for every memory shown."""
    space = observation_space(config)
    memories = space["memories"]
    assert isinstance(memories, spaces.Sequence)
    shown = memories.feature_space
    assert isinstance(shown, spaces.Dict)
    of_team = spaces.Dict({**shown.spaces, "author": UnicodeText(64)})
    return spaces.Dict({**space.spaces, "memories": spaces.Sequence(of_team)})


def _action_space(config: EnvConfig, agent: str) -> UnicodeText:
    kinds = sampled_kinds(config, agent)
    # An agent without operations to sample gets a space of plain text.
    return (
        ActionText(config.max_action_chars, dialect=config.dialect, kinds=kinds)
        if kinds
        else UnicodeText(config.max_action_chars)
    )


def render_team(
    team: TeamEpisode, actions: Mapping[str, str], step: TeamStep, results: Mapping[str, StepResult]
) -> str:
    """The step that just ended, as text with ANSI colours.

    Args:
        team: The episode after the step.
        actions: Actions by agent; empty for the reset.
        step: The decided step.
        results: Its results by agent.
    """
    end = results[team.answerer.name]
    metrics = end.info.get("episode_metrics")
    phase = "reading" if team.phase is Phase.READING else "answering"
    title = f"round {team.answerer.state.steps} · {phase} · reward {end.reward:.2f}"
    parts: list[RenderableType] = [Heading(title, "bold green" if metrics else "bold")]
    for name, result in results.items():
        observation = result.observation
        read, chunks = observation["progress"]
        sees = f"{read}/{chunks}" if name != team.answerer.name else "memory"
        parts.append(Text.assemble((name, "bold"), f" sees {sees}"))
        if actions.get(name):
            parts.append(Line(actions[name], "cyan", "  action: "))
        if observation["feedback"]:
            parts.append(Line(observation["feedback"], "yellow", "  feedback: "))
        if observation["query"]:
            found = ", ".join(f"[{memory['id']}] by {memory['author'] or '?'}" for memory in observation["memories"])
            parts.append(Line(f"{observation['query']} → {found or 'nothing'}", "blue", "  reads: "))
    parts += _changes(team, step, int(end.info["entries"]))
    if metrics is None:
        parts += [Text("question", style="bold"), Excerpt(end.observation["question"], 400, "magenta")]
    else:
        for answer in metrics["answers"]:
            asked, gold = on_one_line(answer["question"]), on_one_line(answer["gold"][0])
            said = on_one_line(answer["answer"]) or "(no answer)"
            parts.append(Text(f"{asked}\n  → {said}  [gold: {gold}]  EM {answer['em']:.0f}", style="bold"))
    return drawn(*parts)


def _changes(team: TeamEpisode, step: TeamStep, entries: int) -> list[RenderableType]:
    draft = step.draft
    lines = [Line("", "red", f"- [{entry}] deleted by {draft.changed[entry]}") for entry in draft.deletes]
    lines += [
        Line(written.text, "green", f"+ [{entry}] {draft.changed[entry]}: ") for entry, written in draft.writes.items()
    ]
    lines += [
        Line("", "red", f"! [{c.entry}] {c.operation} of {c.rejected} rejected, {c.kept} came first")
        for c in draft.conflicts
    ]
    parts: list[RenderableType] = [
        Text(f"memory: {counted(entries, 'entry', 'entries')}", style="bold"),
        *lines[:MAX_CHANGES],
    ]
    if len(lines) > MAX_CHANGES:
        parts.append(Text(f"… and {len(lines) - MAX_CHANGES} more", style="dim"))
    return parts


parallel_env = TeamEnv
"""PettingZoo's name for :class:`TeamEnv`."""


def raw_env(*args: Any, **keywords: Any) -> AECEnv:
    """A team as a PettingZoo ``AECEnv`` without wrappers; the arguments are those of :class:`TeamEnv`.

    Agents act in turn; their actions are executed together after the last agent has acted.
    """
    return TurnsInOrder(TeamTurns(TeamEnv(*args, **keywords)))


def env(*args: Any, **keywords: Any) -> AECEnv:
    """A team as a PettingZoo ``AECEnv`` that checks the order of calls; the arguments are those of :class:`TeamEnv`."""
    return TurnsInOrder(raw_env(*args, **keywords))
