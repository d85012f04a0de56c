"""A team's episode as a state machine without I/O: readers with a part of the stream each, one who answers, one memory.

A member is an :class:`~atommem_gym.episode.Episode` of its own part of the documents; only what several share is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np

from atommem_gym.actions import KINDS, Answer, Kind, Read
from atommem_gym.config import EnvConfig
from atommem_gym.envs.team.memory import Conflict, TeamDraft, TeamMemory
from atommem_gym.envs.team.parts import part_of
from atommem_gym.episode import Episode
from atommem_gym.memory.memory import Limits
from atommem_gym.records.record import Item
from atommem_gym.records.stream import Stream
from atommem_gym.step import Closing, EpisodeState, Observation, Phase, Step, StepResult
from atommem_gym.tokenizers import Tokenizer

ANSWERER = "answerer_0"
"""The name of the one who answers."""


class MemberEpisode(Episode):
    """What one agent of a team sees and may do: its own scratchpad, feedback and reads, the team's phase and questions.

    The team's :class:`TeamEpisode` commits the entries and ends the episode.
    """

    name: str
    team: TeamEpisode

    @property
    def phase(self) -> Phase:
        """The team's: answering begins when every reader has read its part."""
        return self.team.phase

    def settle(self, step: Step, scores: Sequence[float], hits: Sequence[tuple[int, float]]) -> None:
        """All that a step changes but the entries, which are the team's."""
        self._settle(step, scores, hits)

    def info(self, step: Step) -> dict[str, Any]:
        """What every step reports to this agent."""
        return self._info(step)

    def observation(self) -> Observation:
        """The current observation; a memory shows who wrote it."""
        observation = super().observation()
        authors = self.team.memory.authors
        observation["memories"] = tuple(
            {**memory, "author": authors.get(memory["id"], "")} for memory in observation["memories"]
        )
        return observation


class ReaderEpisode(MemberEpisode):
    """A reader: sees its part of the stream and looks after the memory; its reads are never counted, it never answers.

    When its part is read it sees no more chunks but may go on working on the memory until the episode ends.
    """

    def _read(self, step: Step, position: int, op: Read) -> None:
        step.query = op.query
        step.applied["read"] += 1

    def _answer(self, step: Step, position: int, op: Answer) -> None:
        step.report("answer", position, "disabled", "readers do not answer, the answerer does")


class AnswererEpisode(MemberEpisode):
    """The one who answers: sees no chunks, only what it reads from memory and its own scratchpad.

    It may use any operation. Reads are counted when answering has begun, as in a single episode (SPEC E3).
    """

    def observation(self) -> Observation:
        """The current observation; its progress is the team's."""
        observation = super().observation()
        observation["progress"] = np.array(self.team.progress, np.int64)
        return observation

    def conclude(self, step: Step) -> StepResult:
        """The end of a step for the whole team."""
        return self._result(step)


Member = TypeVar("Member", bound=MemberEpisode)


@dataclass(slots=True)
class TeamStep:
    """What the actions of all agents will do once their texts are embedded and the entries stored."""

    draft: TeamDraft
    opening: bool = False
    steps: dict[str, Step] = field(default_factory=dict)
    """One an agent, in their order; each has its own query and answers, all write into ``draft``."""


class TeamEpisode:
    """One episode of one item, read and answered by a team; does no I/O and knows neither store nor embedder.

    The actions of a step are executed agent by agent: the readers by number, then the answerer. All reads of a step see
    the memory after all of its actions (SPEC M5).
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
        self._limits = Limits(config.max_entry_tokens, config.max_scratchpad_tokens, config.max_entries)
        closings: list[Closing] = []
        # A reader may be left without documents; its stream is then one empty chunk.
        streams = [
            Stream(part_of(item.documents, i, readers, parts), tokenizer, config.chunk_tokens, config.chunk_overlap)
            for i in range(readers)
        ]
        self.readers = [
            self._member(ReaderEpisode, name, stream, closings)
            for name, stream in zip(reader_names(readers), streams, strict=True)
        ]
        # The answerer's stream is empty, so that it can never be shown a chunk.
        self.answerer = self._member(AnswererEpisode, ANSWERER, Stream((), tokenizer, config.chunk_tokens), closings)
        self.members: dict[str, MemberEpisode] = {member.name: member for member in (*self.readers, self.answerer)}
        longest = max(stream.num_chunks for stream in streams)
        self.max_steps = config.max_steps or longest + 4 * len(item.questions)
        for member in self.members.values():
            member.max_steps = self.max_steps

    @property
    def phase(self) -> Phase:
        """Reading until every reader has read its part."""
        read, chunks = self.progress
        return Phase.READING if read < chunks else Phase.ANSWERING

    @property
    def progress(self) -> tuple[int, int]:
        """Chunks that the readers have read together, and chunks in all."""
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
        """Decide what the actions of all agents do; nothing changes before :meth:`finish`.

        Raises:
            ResetNeeded: the episode is over.
            TypeError: an action is no string.
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
        """Do what was decided, and build every agent's observation.

        Args:
            step: What :meth:`begin` or :meth:`open` returned.
            scores: Of each agent's answers; only the answerer has any.
            hits: Of each agent's query, see ``Episode.finish``.
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
        """The answerer's metrics, which score the episode, with the operations of all."""
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


def reader_names(readers: int) -> list[str]:
    """The names of the readers, in the order in which their actions are executed."""
    return [f"reader_{i}" for i in range(readers)]


def sampled_kinds(config: EnvConfig, name: str) -> tuple[Kind, ...]:
    """The operations that an agent's action space samples: those that can never end an episode.

    Readers do not answer. The answerer's answers close questions, and so does a read over the limit; it may write both,
    but they are never drawn at random, so that random play lasts for ``max_steps``.
    """
    left_out = ("answer", "read") if name == ANSWERER else ("answer",)
    return tuple(kind for kind in KINDS if kind in config.kinds and kind not in left_out)
