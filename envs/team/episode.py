"""The episode of a team, readers with a part of the stream each and an answerer over one memory, and its I/O.

:class:`TeamEpisode` is a state machine without I/O. Each member is an :class:`~atommem_gym.episode.Episode` over its
part of the documents; the team holds what they share. :class:`CurrentTeamEpisode` does the I/O of the steps.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar, overload

import numpy as np
from gymnasium.error import ResetNeeded

from atommem_gym.actions import KINDS, Answer, Kind, Read
from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend, new_key
from atommem_gym.envs.current_episode import chosen
from atommem_gym.envs.jobs import EpisodeWithKey, Job
from atommem_gym.envs.team.memory import Conflict, TeamDraft, TeamMemory
from atommem_gym.episode import Episode, limits_of
from atommem_gym.memory.memory import Outcome
from atommem_gym.records.documents import PoolDocuments
from atommem_gym.records.identity import documents_hash, identity
from atommem_gym.records.record import Document, Item, Items
from atommem_gym.records.stream import LazyDocuments, Stream
from atommem_gym.step import Closing, EpisodeState, Observation, Phase, Step, StepResult
from atommem_gym.task import ItemsByDifficulty
from atommem_gym.tokenizers import Tokenizer

ANSWERER = "answerer_0"
"""Name of the answering agent."""
PARTS = ("contiguous", "round_robin")
"""How the documents are divided among the readers: in contiguous runs, or dealt out one by one."""


class MemberEpisode(Episode):
    """The episode as one agent of a team plays it: its scratchpad, feedback and reads, the team's phase and questions.

    :class:`TeamEpisode` commits the entries and ends the episode.
    """

    name: str
    team: TeamEpisode

    @property
    def phase(self) -> Phase:
        """The team's phase: answering begins when every reader has read its part."""
        return self.team.phase

    def _scratchpads(self) -> list[str]:
        """The scratchpads of the whole team (SPEC D9)."""
        return [member.state.memory.scratchpad for member in self.team.members.values()]

    def settle(self, step: Step, scores: Sequence[float], hits: Sequence[tuple[int, float]]) -> None:
        """Apply a step to everything but the entries, which the team commits."""
        self._settle(step, scores, hits)

    def info(self, step: Step) -> dict[str, Any]:
        """Build this agent's ``info`` of a step."""
        return self._info(step)

    def observation(self) -> Observation:
        """The current observation; each memory has its ``author``."""
        observation = super().observation()
        authors = self.team.memory.authors
        observation["memories"] = tuple(
            {**memory, "author": authors.get(memory["id"], "")} for memory in observation["memories"]
        )
        return observation


class ReaderEpisode(MemberEpisode):
    """A reader: sees its part of the stream and maintains the memory; its reads are never counted and it cannot answer.

    After its part is read it sees no chunks, but may change the memory until the episode ends.
    """

    def _read(self, step: Step, position: int, op: Read) -> None:
        step.query = op.query
        step.note(position, op, Outcome(True))

    def _answer(self, step: Step, position: int, op: Answer) -> None:
        step.reject(position, op, "disabled", "readers do not answer, the answerer does")


class AnswererEpisode(MemberEpisode):
    """The answerer: sees no chunks, only what it reads from memory and its scratchpad.

    It may use any operation. Its reads are counted while answering, as in a single episode (SPEC E3).
    """

    def observation(self) -> Observation:
        """The current observation, with the team's progress."""
        observation = super().observation()
        observation["progress"] = np.array(self.team.progress, np.int64)
        return observation

    def conclude(self, step: Step) -> StepResult:
        """The result of a step for the whole team."""
        return self._result(step)


Member = TypeVar("Member", bound=MemberEpisode)


@dataclass(slots=True)
class TeamStep:
    """The decided effect of all agents' actions, before texts are embedded and entries stored."""

    draft: TeamDraft
    """The changes of the shared memory."""
    opening: bool = False
    """Whether this is the step before the first observations, which has no actions."""
    steps: dict[str, Step] = field(default_factory=dict)
    """The step of each agent, in the order of execution: its query and answers. All write into ``draft``."""


class TeamEpisode:
    """One episode of one item, read and answered by a team; does no I/O and uses neither store nor embedder.

    Actions are executed agent by agent: the readers by number, then the answerer. All reads of a step see
    the memory after all actions of that step (SPEC M5).

    Args:
        config: Configuration of the environment.
        item: The item to play.
        tokenizer: Counts tokens of chunks and limits.
        readers: Number of readers.
        parts: One of :data:`PARTS`.
        memory: Initial memory; ``None`` for an empty one.
    """

    def __init__(
        self,
        config: EnvConfig,
        item: Item,
        tokenizer: Tokenizer,
        *,
        readers: int,
        parts: str = "contiguous",
        memory: TeamMemory | None = None,
    ) -> None:
        self.config = config
        self.item = item
        self.memory = memory or TeamMemory()
        self._tokenizer = tokenizer
        self._limits = limits_of(config, item)
        closings: list[Closing] = []
        # A reader may get no documents; its stream is then one empty chunk.
        streams = [
            Stream(part_of(item.documents, i, readers, parts), tokenizer, config.chunk_tokens, config.chunk_overlap)
            for i in range(readers)
        ]
        self.readers = [
            self._member(ReaderEpisode, name, stream, closings)
            for name, stream in zip(reader_names(readers), streams, strict=True)
        ]
        # The answerer's stream is empty, so that it never sees a chunk.
        self.answerer = self._member(AnswererEpisode, ANSWERER, Stream((), tokenizer, config.chunk_tokens), closings)
        self.members: dict[str, MemberEpisode] = {member.name: member for member in (*self.readers, self.answerer)}
        longest = max(stream.num_chunks for stream in streams)
        self.max_steps = config.max_steps or longest + 4 * len(item.questions)
        for member in self.members.values():
            member.max_steps = self.max_steps

    @cached_property
    def identity(self) -> dict[str, str]:
        """The identity of the item (SPEC M14), see ``atommem_gym.records.identity``; its documents are hashed once."""
        return identity(self.item, documents_hash(self.item.documents))

    @property
    def phase(self) -> Phase:
        """Reading until every reader has read its part, then answering."""
        read, chunks = self.progress
        return Phase.READING if read < chunks else Phase.ANSWERING

    @property
    def progress(self) -> tuple[int, int]:
        """Number of chunks that the readers have read together, and number of all chunks."""
        return sum(r.state.chunk for r in self.readers), sum(r.stream.num_chunks for r in self.readers)

    @property
    def over(self) -> bool:
        """Whether the episode has ended."""
        return self.answerer.state.over

    def open(self) -> TeamStep:
        """The step before the first observations."""
        step = TeamStep(self._draft(), opening=True)
        for name, member in self.members.items():
            step.steps[name] = member.open(step.draft.of_member(name, member.state.memory))
        return step

    def begin(self, actions: Mapping[str, str]) -> TeamStep:
        """Decide what the actions of all agents do; nothing changes until :meth:`finish`.

        Args:
            actions: The action of every agent, by name.

        Raises:
            ResetNeeded: the episode is over.
            TypeError: an action is not a string.
        """
        step = TeamStep(self._draft())
        for name, member in self.members.items():
            step.steps[name] = member.begin(actions[name], step.draft.of_member(name, member.state.memory))
        for conflict in step.draft.conflicts:
            step.steps[conflict.kept].feedback.append(conflict.line)
        return step

    def finish(
        self,
        step: TeamStep,
        scores: Mapping[str, Sequence[float]],
        hits: Mapping[str, Sequence[tuple[int, float]]],
    ) -> dict[str, StepResult]:
        """Apply a step begun by :meth:`begin` and build every agent's result.

        Args:
            step: Returned by :meth:`begin` or :meth:`open`.
            scores: Scores of each agent's answers, by agent; only the answerer has any.
            hits: Results of each agent's query, by agent; see ``Episode.finish``.

        Returns:
            The result of every agent, by name.
        """
        step.draft.commit()
        for name, member in self.members.items():
            member.settle(step.steps[name], scores[name], hits[name])
        end = self.answerer.conclude(step.steps[ANSWERER])
        if self.over:
            end.info["episode_metrics"] = self._metrics(end.info["episode_metrics"])
        results = {}
        for name, member in self.members.items():
            info = end.info if member is self.answerer else member.info(step.steps[name])
            info["conflicts"] = [conflict.record() for conflict in self._conflicts(step, name)]
            if self.over:
                member.state.over = True
                info["episode_metrics"] = end.info["episode_metrics"]
            results[name] = replace(end, observation=member.observation(), info=info)
        return results

    def _draft(self) -> TeamDraft:
        return TeamDraft(self.memory, self._limits, self._tokenizer)

    def _member(self, kind: type[Member], name: str, stream: Stream, closings: list[Closing]) -> Member:
        own = self.memory.of_member(name)
        state = EpisodeState(own, peak_entries=len(own.entries), closings=closings)
        member = kind(self.config, self.item, stream, self._tokenizer, state=state)
        member.name, member.team = name, self
        return member

    def _conflicts(self, step: TeamStep, name: str) -> Iterable[Conflict]:
        return (conflict for conflict in step.draft.conflicts if name in (conflict.kept, conflict.rejected))

    def _metrics(self, answerer: dict[str, Any]) -> dict[str, Any]:
        """The answerer's metrics, which score the episode, with the operations of the whole team."""
        states = {name: member.state for name, member in self.members.items()}
        kinds = answerer["operations"]
        return {
            **answerer,
            "operations": {kind: sum(state.applied[kind] for state in states.values()) for kind in kinds},
            "rejected": sum(state.rejected for state in states.values()),
            "agents": {
                name: {"operations": {kind: state.applied[kind] for kind in kinds}, "rejected": state.rejected}
                for name, state in states.items()
            },
        }


class CurrentTeamEpisode:
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
        self._running: EpisodeWithKey | None = None

    @property
    def exists(self) -> bool:
        """Whether an episode was begun; it may be over."""
        return self._team is not None

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
    def running(self) -> EpisodeWithKey:
        """The answerer's episode, which represents the team's, with the key of the shared memory.

        Raises:
            ResetNeeded: there is no episode yet.
        """
        if self._running is None:
            raise ResetNeeded("there is no episode yet; call reset() first")
        return self._running

    def reset(
        self, rng: np.random.Generator, options: Mapping[str, Any], max_steps: int | None
    ) -> tuple[TeamStep, dict[str, StepResult]]:
        """Begin an episode in place of the current one, which stays current if this fails.

        Args:
            rng: Draws the item.
            options: See ``AtomMemEnv.reset``.
            max_steps: Maximum number of rounds; ``None`` for the default.

        Returns:
            The opening step and its result by agent.

        Raises:
            IndexError, ConfigError, StoreError: nothing has changed.
        """
        config, item, key = chosen(self._items, self._by_difficulty, rng, options)
        config = replace(config or self._backend.config, max_steps=max_steps)
        try:
            memory = None if key is None else self._kept_memory(key)
            team = TeamEpisode(
                config, item, self._backend.tokenizer, readers=self._readers, parts=self._parts, memory=memory
            )
            running = EpisodeWithKey(key or new_key(), team.answerer)
            step = team.open()
            results = self._carry_out(team, running, step)
        except BaseException:
            self._backend.drop_reservations()
            raise
        left = self.take(team, running)
        self._backend.release(left)
        return step, results

    def step(self, actions: Mapping[str, str]) -> tuple[TeamStep, dict[str, StepResult]]:
        """Execute the actions of all agents and return the step and its result by agent.

        Raises:
            ResetNeeded, TypeError: see ``TeamEpisode.begin``.
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed; the same step may be repeated.
        """
        step = self.team.begin(actions)
        results = self._carry_out(self.team, self.running, step)
        if self.team.over:
            self._backend.release([self.running])
        return step, results

    def take(self, team: TeamEpisode | None, running: EpisodeWithKey | None) -> list[EpisodeWithKey]:
        """Replace the current episode, and return the old one if it still has to be released.

        Args:
            team: The new episode; ``None`` for none.
            running: Its answerer's episode with the key of the memory; ``None`` for none.
        """
        old = self._running
        # A new episode over the same kept memory keeps it in use.
        same = old is not None and running is not None and running.key == old.key
        left = [] if old is None or old.episode.state.over or same else [old]
        self._team, self._running = team, running
        if running is not None:
            self._backend.claim(running)
        return left

    def _kept_memory(self, key: str) -> TeamMemory:
        mine = () if self._running is None else (self._running.key,)
        memory = self._backend.kept_memory(key, replacing=mine)
        stored = self._backend.store.load(key) if self._backend.store is not None else None
        return TeamMemory.from_single(memory, None if stored is None else stored.state)

    def _carry_out(self, team: TeamEpisode, running: EpisodeWithKey, step: TeamStep) -> dict[str, StepResult]:
        """The I/O of a step: one call each to reader, scorer, embedder and store for the whole team."""
        backend = self._backend
        # The shared draft is written once; the steps of the agents only score and search.
        written = backend.job(running, Step(step.draft, opening=step.opening))
        searchable = backend.store is not None and len(step.draft) > 0
        jobs = {
            name: Job(running, own, {}, searches=searchable and bool(own.query), writes=False)
            for name, own in step.steps.items()
        }
        batch = [written, *jobs.values()]
        backend.read(batch)
        backend.score(batch)
        backend.embed(batch)
        backend.write_and_search(batch)
        for entry_id, detail in written.in_part.items():
            # Only one agent has written this entry in this step (a second one would be a conflict).
            for own in step.steps.values():
                own.report_part(entry_id, detail)
        for job in jobs.values():
            for place, detail in job.in_part.items():
                job.step.report_part(place, detail)
        results = team.finish(
            step, {name: job.scores for name, job in jobs.items()}, {name: job.hits for name, job in jobs.items()}
        )
        running.unsettled = None
        return results


def part_of(documents: Sequence[Document], reader: int, readers: int, parts: str) -> Sequence[Document]:
    """The documents of one reader, in the order of the stream; sizes of parts differ by at most one document.

    Lazy documents stay lazy.

    Args:
        documents: All documents of the item.
        reader: Number of the reader, from 0.
        readers: Number of readers.
        parts: One of :data:`PARTS`.

    >>> part_of("abcdefg", 0, 3, "contiguous"), part_of("abcdefg", 1, 3, "round_robin")
    ('abc', 'be')
    """
    if readers == 1:
        return documents
    size, larger = divmod(len(documents), readers)
    begin = reader * size + min(reader, larger)
    where = slice(begin, begin + size + (reader < larger)) if parts == "contiguous" else slice(reader, None, readers)
    if isinstance(documents, PoolDocuments):
        return PoolDocuments(documents.pool, documents.numbers[where])
    if isinstance(documents, LazyDocuments):
        return LazyPart(documents, range(len(documents))[where])
    return documents[where]


class LazyPart(LazyDocuments):
    """A selection of a lazy sequence of documents; each is made when it is read."""

    def __init__(self, documents: LazyDocuments, numbers: range) -> None:
        self._documents = documents
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self._documents[number] for number in self._numbers[index]]
        return self._documents[self._numbers[index]]


def reader_names(readers: int) -> list[str]:
    """The names of the readers, in the order in which their actions are executed."""
    return [f"reader_{i}" for i in range(readers)]


def sampled_kinds(config: EnvConfig, name: str) -> tuple[Kind, ...]:
    """The operations that an agent's action space samples: only those that cannot end an episode.

    Readers cannot answer. An answer closes a question, and so does a read over the limit: the answerer may write both,
    but its space samples neither, so that random play lasts for ``max_steps``.
    """
    left_out = ("answer", "read") if name == ANSWERER else ("answer",)
    return tuple(kind for kind in KINDS if kind in config.kinds and kind not in left_out)
