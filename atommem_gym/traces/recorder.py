"""Records an episode from its reset to its end, whatever drives the environment."""

from __future__ import annotations

import math
import platform
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any, Protocol, SupportsFloat, TypeAlias

import numpy as np
from msgspec.structs import replace

from atommem_gym.actions import Delete, Invalid, Read, Update
from atommem_gym.episode import Episode
from atommem_gym.memory.memory import Memory
from atommem_gym.readers.options import reader_name
from atommem_gym.readers.protocol import Reading
from atommem_gym.records.record import Item
from atommem_gym.scoring import Scorer
from atommem_gym.step import Observation, OperationOutcome
from atommem_gym.traces.causes import failure_causes
from atommem_gym.traces.codec import plain
from atommem_gym.traces.record import (
    TRACE_VERSION,
    AgentTrace,
    BranchTrace,
    CompletionTrace,
    DroppedTrace,
    EntryTrace,
    EnvTrace,
    EpisodeTrace,
    Json,
    MemoryDiff,
    MemoryTrace,
    Message,
    OperationTrace,
    QuestionTrace,
    ReaderTrace,
    RetrievedTrace,
    ScratchpadTrace,
    StepSeconds,
    StepTrace,
    TraceError,
    UpdateTrace,
)
from atommem_gym.trust import without_secrets

Texts: TypeAlias = dict[int, str]
_PACKAGES = ("atommem-gym", "gymnasium", "numpy", "jinja2", "milvus-lite")
_OPTIONAL_PACKAGES = ("pymilvus", "tiktoken", "tokenizers", "torch", "transformers", "sentence-transformers")


class CompletionLike(Protocol):
    """The cost of a call of a language model."""

    @property
    def prompt_tokens(self) -> int | None: ...

    @property
    def completion_tokens(self) -> int | None: ...

    @property
    def seconds(self) -> float: ...

    @property
    def finish_reason(self) -> str | None: ...


class TurnLike(Protocol):
    """An action of a player with its prompt and response (``atommem_gym.agents.players.player.Turn``)."""

    @property
    def action(self) -> str: ...

    @property
    def messages(self) -> list[Message] | None: ...

    @property
    def response(self) -> str: ...

    @property
    def completions(self) -> Sequence[CompletionLike]: ...


@dataclass(frozen=True)
class RecordedPast:
    """The steps recorded until an episode was forked or saved; the trace of the branch begins with them."""

    parent: BranchTrace
    """The trace, and the step at which the branch leaves it."""
    started: datetime
    """When the episode started."""
    seconds: float
    """Wall time until the fork."""
    initial: MemoryTrace
    """The memory at the beginning."""
    reset_info: dict[str, Json]
    """The ``info`` of ``reset``."""
    observation: dict[str, Json]
    """The observation at the fork."""
    steps: tuple[StepTrace, ...]
    """The steps until the fork."""

    def branch(self) -> RecordedPast:
        """The past for a branch of a branch that was not recorded: the same."""
        return self


class TraceRecorder:
    """Makes the traces of episodes, one after another.

    It needs only the running episode and the results of ``reset`` and ``step``,
    so it works for a plain environment, a slot of a vector environment and an environment of a pool.

    Args:
        env_id: The environment's Gymnasium id.
        keywords: The environment's keyword arguments, as they were given.
        agent: The agent: its name, or name and settings.
        seed: The seed of the agent.
        shaping: Shaping terms of the reward, in the JSON form of ``atommem_gym.envs.shaping``.

    Example:
        >>> import gymnasium as gym, atommem_gym
        >>> keywords = {"num_docs": 20, "store": "numpy"}
        >>> env = gym.make("AtomMem-Synthetic-v0", **keywords)
        >>> recorder = TraceRecorder("AtomMem-Synthetic-v0", keywords, "nobody")
        >>> observation, info = env.reset(options={"index": 3})
        >>> recorder.reset(env.unwrapped.episode, observation, info)
        >>> while not recorder.over:
        ...     recorder.step("<create>a fact</create>", *env.step("<create>a fact</create>"))
        >>> trace = recorder.finish()
        >>> trace.steps[0].memory.created, trace.causes
        ((EntryTrace(id=1, text='a fact'),), ('not answered',))
        >>> env.close()

    Raises:
        TraceError: a keyword argument has no JSON form.
    """

    def __init__(
        self,
        env_id: str,
        keywords: Mapping[str, Any],
        agent: AgentTrace | str,
        seed: int = 0,
        shaping: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> None:
        self._env = EnvTrace(env_id, json_keywords(keywords), plain(shaping or {}))
        self._agent = AgentTrace(agent) if isinstance(agent, str) else replace(agent, settings=plain(agent.settings))
        self._seed = seed
        self._episode: Episode | None = None
        self._steps: list[StepTrace] = []
        self._id: str | None = None
        self._branch: BranchTrace | None = None

    @property
    def over(self) -> bool:
        """Whether the episode has ended, so that :meth:`finish` may be called."""
        return bool(self._steps) and (self._steps[-1].terminated or self._steps[-1].truncated)

    @property
    def steps(self) -> int:
        """Number of recorded steps of this episode."""
        return len(self._steps)

    @property
    def so_far(self) -> tuple[StepTrace, ...]:
        """The recorded steps of this episode, also if it has not ended."""
        return tuple(self._steps)

    @property
    def observation(self) -> dict[str, Json]:
        """The current observation, as recorded."""
        return self._observation

    @property
    def reset_info(self) -> dict[str, Json]:
        """The ``info`` of ``reset``, as recorded."""
        return self._reset_info

    @property
    def last(self) -> StepTrace:
        """The last recorded step.

        Raises:
            TraceError: no step of this episode has been recorded.
        """
        if not self._steps:
            raise TraceError("no step of this episode has been recorded; call step() first")
        return self._steps[-1]

    def reset(self, episode: Episode, observation: Observation, info: Mapping[str, Any]) -> None:
        """Begin a trace; the steps of an episode that did not end are discarded.

        Args:
            episode: The running episode; the recorder keeps it and reads its memory after each step.
            observation: The observation that ``reset`` returned, of one environment.
            info: The ``info`` that it returned.

        Raises:
            TraceError: a value has no JSON form.
        """
        self._watch(episode)
        self._steps = []
        self._id = self._branch = None
        self._started = datetime.now(timezone.utc)
        self._clock = time.perf_counter()
        self._observation: dict[str, Json] = plain(observation)
        self._reset_info: dict[str, Json] = plain(info)
        memory = episode.state.memory
        self._initial = MemoryTrace(
            tuple(EntryTrace(i, entry.text) for i, entry in sorted(memory.entries.items())),
            memory.next_id,
            memory.scratchpad,
        )
        self._take(memory)

    def watches(self, episode: Episode) -> bool:
        """Whether ``episode`` is the episode that is being recorded."""
        return self._episode is episode

    def branch(self) -> RecordedPast:
        """The steps recorded so far, for a fork or a snapshot of the episode, whose trace gets an ``id``."""
        self._id = self._id or uuid.uuid4().hex
        return RecordedPast(
            BranchTrace(self._id, len(self._steps)),
            self._started,
            time.perf_counter() - self._clock,
            self._initial,
            self._reset_info,
            self._observation,
            tuple(self._steps),
        )

    def resume(self, episode: Episode) -> None:
        """Continue the trace of a fork or of a restored episode, instead of :meth:`reset` (SPEC M14).

        Its trace begins with all steps of its parent's trace up to the fork, and names the parent and that step.

        Args:
            episode: The running episode, at the step at which it was forked or restored.

        Raises:
            TraceError: its parent was not recorded, or it has been stepped without being recorded.
        """
        past = episode.past
        if not isinstance(past, RecordedPast) or past.parent.step != episode.state.steps:
            raise TraceError(
                "this episode did not begin with a reset that was recorded, and brings no record of its steps up to "
                "here along; a recorder has to watch its parent from the reset to the fork or snapshot"
            )
        self._watch(episode)
        self._steps = list(past.steps)
        self._id, self._branch = None, past.parent
        self._started, self._clock = past.started, time.perf_counter() - past.seconds
        self._initial, self._reset_info, self._observation = past.initial, past.reset_info, past.observation
        self._take(episode.state.memory)

    def step(
        self,
        turn: TurnLike | str,
        observation: Observation,
        reward: SupportsFloat,
        terminated: bool,
        truncated: bool,
        info: Mapping[str, Any],
        *,
        seconds: StepSeconds = StepSeconds(),  # noqa: B008  (frozen)
    ) -> None:
        """Record a step, before the environment takes the next one.

        Args:
            turn: The action, or a turn that holds it.
            observation: The observation that ``step`` returned, of one environment; at the end of an episode the
                final one, not that of an autoreset.
            reward: The reward that ``step`` returned.
            terminated: Whether the episode terminated.
            truncated: Whether it was truncated.
            info: The ``info`` that ``step`` returned.
            seconds: Wall time spent in agent and environment.

        Raises:
            TraceError: no episode is running, or a value has no JSON form.
        """
        episode = self._episode
        if episode is None or self.over:
            raise TraceError("there is no running episode to record; call reset() with the new one first")
        action = turn if isinstance(turn, str) else turn.action
        result: dict[str, Json] = plain(observation)
        memory = episode.state.memory
        self._steps.append(
            StepTrace(
                observation=self._observation,
                messages=None if isinstance(turn, str) else plain(turn.messages),
                response=plain(action if isinstance(turn, str) else turn.response),
                action=plain(action),
                operations=tuple(map(_operation, episode.outcomes)),
                memory=_difference(self._texts, self._scratchpad, memory),
                retrieved=tuple(RetrievedTrace(m["id"], m["text"], m["score"]) for m in result["memories"]),
                reward=plain(float(reward)),
                terminated=bool(terminated),
                truncated=bool(truncated),
                info=plain(info),
                completions=() if isinstance(turn, str) else tuple(map(_completion, turn.completions)),
                dropped=tuple(
                    DroppedTrace(one.what, one.dropped, one.of, one.unit) for one in getattr(turn, "dropped", ())
                ),
                seconds=seconds,
                reader=tuple(map(_reading, episode.readings)),
            )
        )
        self._observation = result
        self._take(memory)

    def finish(self) -> EpisodeTrace:
        """The trace of the episode that has ended.

        Raises:
            TraceError: the episode has not ended.
        """
        episode = self._episode
        if episode is None or not self.over:
            raise TraceError(f"the episode has not ended after {self.steps} steps; a record is of a finished episode")
        item = episode.item
        trace = EpisodeTrace(
            version=TRACE_VERSION,
            env=self._played(episode),
            agent=self._agent,
            seed=self._seed,
            index=item.index,
            shuffle_seed=item.shuffle_seed,
            item=plain(item.id),
            versions=dict(versions()),
            started=self._started.isoformat(timespec="milliseconds"),
            seconds=time.perf_counter() - self._clock,
            questions=questions(item),
            documents=tuple(plain(document.title) for document in item.documents),
            initial_memory=self._initial,
            reset_info=self._reset_info,
            steps=tuple(self._steps),
            final_observation=self._observation,
            metrics=self._steps[-1].info["episode_metrics"],
            causes=(),
            reward=math.fsum(step.reward for step in self._steps),
            id=self._id,
            branch=self._branch,
        )
        self._watch(None)
        return replace(trace, causes=failure_causes(trace))

    def _watch(self, episode: Episode | None) -> None:
        """Record only this episode from now on; its forks and snapshots take the recorded steps along."""
        if self._episode is not None and self._episode.past is self:
            self._episode.past = None
        self._episode = episode
        if episode is not None:
            episode.past = self

    def _played(self, episode: Episode) -> EnvTrace:
        """The environment, with the difficulty of the episode if its reset chose another one."""
        difficulty = episode.config.difficulty
        if difficulty == self._env.keywords.get("difficulty"):
            return self._env
        return replace(self._env, keywords={**self._env.keywords, "difficulty": difficulty})

    def _take(self, memory: Memory) -> None:
        """Keep the texts of the memory, to compare them after the next step."""
        self._texts: Texts = {i: entry.text for i, entry in memory.entries.items()}
        self._scratchpad = memory.scratchpad


def json_keywords(keywords: Mapping[str, Any]) -> dict[str, Json]:
    """The keyword arguments of an environment as JSON values, without keys and passwords; callables become names.

    >>> json_keywords({"operations": {"read", "create"}, "reward": len})
    {'operations': ['create', 'read'], 'reward': 'builtins:len'}

    Raises:
        TraceError: one has no JSON form.
    """
    values = {name: str(value) if isinstance(value, Path) else value for name, value in keywords.items()}
    reward = values.get("reward")
    if isinstance(reward, Scorer):
        values["reward"] = reward.name
    elif callable(reward):
        values["reward"] = f"{reward.__module__}:{getattr(reward, '__qualname__', type(reward).__name__)}"
    if "reader" in values:
        values["reader"] = reader_name(values["reader"])
    told: dict[str, Json] = without_secrets({name: plain(value) for name, value in values.items()})
    return told


def questions(item: Item) -> tuple[QuestionTrace, ...]:
    """The questions of an item in the form of a trace."""
    return tuple(
        QuestionTrace(one.id, one.question, one.answer, one.aliases, one.type, one.evidence) for one in item.questions
    )


@lru_cache(maxsize=1)
def versions() -> dict[str, str]:
    """Versions of Python and of the installed packages that can change a trajectory."""
    found = {"python": platform.python_version()}
    for name in (*_PACKAGES, *_OPTIONAL_PACKAGES):
        try:
            found[name.replace("-", "_")] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # an optional one that is not installed changes nothing
    return found


def _operation(outcome: OperationOutcome) -> OperationTrace:
    """The result of an operation in the form of a trace; of several reports the first counts."""
    op, report = outcome.operation, next(iter(outcome.reports), None)
    return OperationTrace(
        kind=outcome.kind,
        position=outcome.position,
        outcome=outcome.became,
        text=None if op is None or isinstance(op, (Invalid, Read, Delete)) else op.text,
        query=op.query if isinstance(op, Read) else None,
        id=op.id if isinstance(op, (Update, Delete)) else None,
        reason=None if report is None else report.reason,
        detail="" if report is None else plain(report.detail),
        entry_id=outcome.entry_id,
    )


def _difference(texts: Texts, scratchpad: str, memory: Memory) -> MemoryDiff:
    after = memory.entries
    changed = [(i, texts[i], after[i].text) for i in sorted(texts.keys() & after.keys()) if texts[i] != after[i].text]
    return MemoryDiff(
        created=tuple(EntryTrace(i, after[i].text) for i in sorted(after.keys() - texts.keys())),
        updated=tuple(UpdateTrace(*change) for change in changed),
        deleted=tuple(EntryTrace(i, texts[i]) for i in sorted(texts.keys() - after.keys())),
        scratchpad=None if scratchpad == memory.scratchpad else ScratchpadTrace(scratchpad, memory.scratchpad),
    )


def _reading(reading: Reading) -> ReaderTrace:
    request = reading.request
    return ReaderTrace(
        question=plain(request.question.question),
        memories=tuple(RetrievedTrace(i, plain(text), float(score)) for i, text, score in request.memories),
        scratchpad=plain(request.scratchpad),
        answer=plain(reading.answer),
        completions=tuple(map(_completion, reading.calls)),
    )


def _completion(completion: CompletionLike) -> CompletionTrace:
    return CompletionTrace(
        completion.prompt_tokens,
        completion.completion_tokens,
        float(np.round(completion.seconds, 6)),
        completion.finish_reason,
        plain(getattr(completion, "reasoning", "")),
        getattr(completion, "tries", 1),
    )
