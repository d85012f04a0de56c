"""The record of an episode: everything that was seen, done and decided, as frozen dataclasses of JSON values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from atommem_gym.errors import AtomMemError
from atommem_gym.records.record import Evidence

TRACE_VERSION = 1
"""Of the record; any change of a field or of its meaning raises it."""

Json: TypeAlias = Any
"""``None``, ``bool``, ``int``, finite ``float``, ``str``, ``list`` or ``dict`` with ``str`` keys."""
Message: TypeAlias = dict[str, str]
Cause = Literal[
    "not answered",
    "never stored",
    "stored then lost",
    "stored but not retrieved",
    "not shown",
    "retrieved but answered wrong",
]

OperationOutcome = Literal["applied", "cut", "rejected"]


class TraceError(AtomMemError, ValueError):
    """A record cannot be read, written or used; the message names the file and the line."""


@dataclass(frozen=True, slots=True)
class EnvTrace:
    """What makes the environment again."""

    id: str
    """The Gymnasium id; ``AtomMem-Custom`` if the environment was made over custom items."""
    keywords: dict[str, Json]
    """As they were given; a callable ``reward`` is named ``package.module:function``."""
    shaping: dict[str, dict[str, Json]] = field(default_factory=dict)
    """What was added to the reward, in the JSON form of ``atommem_gym.envs.shaping``."""


@dataclass(frozen=True, slots=True)
class AgentTrace:
    """Who played."""

    name: str
    settings: dict[str, Json] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QuestionTrace:
    """A question with its gold answers and its evidence (SPEC E12)."""

    id: str
    question: str
    answer: str
    aliases: tuple[str, ...]
    type: str
    evidence: tuple[Evidence, ...]

    @property
    def answers(self) -> tuple[str, ...]:
        """The answer and its aliases; an empty answer is that of a question which has none."""
        return (self.answer, *self.aliases)


@dataclass(frozen=True, slots=True)
class EntryTrace:
    """An entry of memory."""

    id: int
    text: str


@dataclass(frozen=True, slots=True)
class UpdateTrace:
    """An entry whose text changed."""

    id: int
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class RetrievedTrace:
    """An entry as a read shows it."""

    id: int
    text: str
    score: float
    """Cosine similarity to the query."""


@dataclass(frozen=True, slots=True)
class ScratchpadTrace:
    """A scratchpad that was replaced."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class MemoryTrace:
    """The whole memory at the episode's beginning: empty, unless it went on with a kept one (SPEC M13)."""

    entries: tuple[EntryTrace, ...] = ()
    next_id: int = 1
    scratchpad: str = ""


@dataclass(frozen=True, slots=True)
class MemoryDiff:
    """The net effect of one action on memory, each by ascending id.

    An entry created and deleted by one action is in neither list; the ``released`` preset's update deletes an entry
    and creates another one.
    """

    created: tuple[EntryTrace, ...] = ()
    updated: tuple[UpdateTrace, ...] = ()
    deleted: tuple[EntryTrace, ...] = ()
    """With the text that they had before the action."""
    scratchpad: ScratchpadTrace | None = None
    """``None`` if it is as before."""


@dataclass(frozen=True, slots=True)
class OperationTrace:
    """One operation of an action, and what became of it."""

    kind: str
    """``create``, ``read``, ``update``, ``delete``, ``scratchpad`` or ``answer``; ``action`` for the whole action."""
    position: int
    """Place in the action, from 1; 0 for the action as a whole."""
    outcome: OperationOutcome
    """``cut``: executed with a text cut to its limit; the position 0: the end of the action was not read."""
    text: str | None = None
    """Of create, update, scratchpad and answer, as written."""
    query: str | None = None
    """Of a read."""
    id: int | None = None
    """What an update or delete names: an entry's id, or in dialect ``released`` a place among the entries shown."""
    reason: str | None = None
    """A code of ``atommem_gym.step.REASONS`` unless it was applied as it stood."""
    detail: str = ""
    entry_id: int | None = None
    """The entry that was created, updated or deleted."""


@dataclass(frozen=True, slots=True)
class CompletionTrace:
    """The cost of one call of a language model."""

    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    finish_reason: str | None
    reasoning: str = ""
    """What the server returned apart from the text."""
    tries: int = 1


@dataclass(frozen=True, slots=True)
class DroppedTrace:
    """What the model was not shown, or not given, because its context was too small."""

    what: str
    dropped: int
    of: int
    unit: str


@dataclass(frozen=True, slots=True)
class StepSeconds:
    """Wall time of a step."""

    agent: float = 0.0
    env: float = 0.0


@dataclass(frozen=True, slots=True)
class StepTrace:
    """One step: what was seen, what was done, and what the environment made of it."""

    observation: dict[str, Json]
    """What the action answers to (SPEC E10); ``progress`` is a list, ``memories`` a list of ``{id, text, score}``."""
    messages: list[Message] | None
    """The chat messages that the model saw; ``None`` for agents without one."""
    response: str
    """All that the model wrote, thinking included; the action for agents without one."""
    action: str
    operations: tuple[OperationTrace, ...]
    """In the order in which they are written."""
    memory: MemoryDiff
    retrieved: tuple[RetrievedTrace, ...]
    """What the read of this step found: the ``memories`` of the next observation."""
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Json]
    completions: tuple[CompletionTrace, ...] = ()
    dropped: tuple[DroppedTrace, ...] = ()
    seconds: StepSeconds = StepSeconds()


@dataclass(frozen=True, slots=True)
class Rescore:
    """What another scorer made of the answers (``atommem rescore``)."""

    scorer: str
    reward: float
    """Mean of ``scores``; shaping left out."""
    scores: tuple[float, ...]
    """One a question; 0 for those that got no answer that counts."""
    causes: tuple[Cause | None, ...]
    """Why each question failed, by these scores."""


@dataclass(frozen=True, slots=True)
class EpisodeTrace:
    """One finished episode."""

    version: int
    """``TRACE_VERSION`` of this module."""
    env: EnvTrace
    agent: AgentTrace
    seed: int
    """Of the agent."""
    index: int
    """The item's, for ``reset(options={"index": …})``."""
    shuffle_seed: int
    """Its layout."""
    item: str
    """Its id."""
    versions: dict[str, str]
    """Of Python and of the packages that can change a trajectory."""
    started: str
    """ISO 8601, UTC."""
    seconds: float
    """From the reset's return to the end, with all waiting."""
    questions: tuple[QuestionTrace, ...]
    documents: tuple[str, ...]
    """Titles, in the order of the stream."""
    initial_memory: MemoryTrace
    reset_info: dict[str, Json]
    """What ``reset`` returned with the first observation."""
    steps: tuple[StepTrace, ...]
    final_observation: dict[str, Json]
    metrics: dict[str, Json]
    """``info["episode_metrics"]`` of the last step."""
    causes: tuple[Cause | None, ...]
    """Why each question failed, ``None`` if it did not; see ``atommem_gym.traces.causes``."""
    reward: float
    """Sum over the steps."""
    rescores: tuple[Rescore, ...] = ()
