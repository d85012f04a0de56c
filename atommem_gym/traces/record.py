"""The trace of an episode: everything that was seen, done and decided, as frozen structs of JSON values."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from msgspec import Struct

from atommem_gym.errors import AtomMemError
from atommem_gym.records.record import Evidence
from atommem_gym.step import Became

TRACE_VERSION = 2
"""The version of new traces; any change of a field or of its meaning raises it."""
READ_VERSIONS = (1, 2)
"""The versions that can be read. A trace of version 1 keeps its version when it is written again."""

Json: TypeAlias = Any
"""``None``, ``bool``, ``int``, finite ``float``, ``str``, ``list`` or ``dict`` with ``str`` keys."""
Message: TypeAlias = dict[str, str]
Cause = Literal[
    "not erased",
    "never stored",
    "stored then lost",
    "stored but not retrieved",
    "not shown",
    "retrieved but answered wrong",
    "not answered",
]
CAUSES: tuple[Cause, ...] = get_args(Cause)
"""Why a question failed, in the order of an episode, which tables and plots use too."""
WITHOUT_MEMORY: Cause = "not shown"
"""The cause that only agents without a memory can have."""
NOT_ERASED: Cause = "not erased"
"""The cause that only questions can have whose stream asks to erase something (SPEC D9)."""
SELDOM: tuple[Cause, ...] = (WITHOUT_MEMORY, NOT_ERASED)
"""The causes that tables leave out if no question has them."""


class TraceError(AtomMemError, ValueError):
    """A record cannot be read, written or used; the message names the file and the line."""


class TracePart(Struct, frozen=True, forbid_unknown_fields=True):
    """The base of all parts of a trace: frozen, and strict about unknown fields.

    ``msgspec.structs.replace(part, field=value)`` makes a changed copy. Fields of version 2 that are ``None`` or empty
    are left out of the line.
    """


class EnvTrace(TracePart, frozen=True):
    """The environment, so that it can be made again."""

    id: str
    """The Gymnasium id; ``AtomMem-Custom`` if the environment was made over custom items."""
    keywords: dict[str, Json]
    """The keyword arguments as they were given; a callable ``reward`` is written ``package.module:function``."""
    shaping: dict[str, dict[str, Json]] = {}
    """Shaping terms of the reward, in the JSON form of ``atommem_gym.envs.shaping``."""


class AgentTrace(TracePart, frozen=True):
    """The agent that played."""

    name: str
    settings: dict[str, Json] = {}


class QuestionTrace(TracePart, frozen=True):
    """A question with its gold answers and its evidence (SPEC E12)."""

    id: str
    question: str
    answer: str
    aliases: tuple[str, ...]
    type: str
    evidence: tuple[Evidence, ...]
    date: str | None = None
    """The date on which the question is asked, ISO 8601, if it states one (SPEC D8). Since version 2."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The answer and its aliases; a question without an answer has an empty one."""
        return (self.answer, *self.aliases)


class EntryTrace(TracePart, frozen=True):
    """An entry of memory."""

    id: int
    text: str


class UpdateTrace(TracePart, frozen=True):
    """An entry whose text changed."""

    id: int
    before: str
    after: str


class RetrievedTrace(TracePart, frozen=True):
    """An entry as a read shows it."""

    id: int
    text: str
    score: float
    """Cosine similarity to the query."""


class ScratchpadTrace(TracePart, frozen=True):
    """A scratchpad that was replaced."""

    before: str
    after: str


class MemoryTrace(TracePart, frozen=True):
    """The whole memory at the beginning of the episode: empty, unless it continued a kept one (SPEC M13)."""

    entries: tuple[EntryTrace, ...] = ()
    next_id: int = 1
    scratchpad: str = ""


class MemoryDiff(TracePart, frozen=True):
    """The net effect of one action on memory, each by ascending id.

    An entry created and deleted by one action is in neither list; the ``released`` preset's update deletes an entry
    and creates another one.
    """

    created: tuple[EntryTrace, ...] = ()
    updated: tuple[UpdateTrace, ...] = ()
    deleted: tuple[EntryTrace, ...] = ()
    """Deleted entries with their texts before the action."""
    scratchpad: ScratchpadTrace | None = None
    """The change of the scratchpad; ``None`` if it did not change."""


class OperationTrace(TracePart, frozen=True):
    """One operation of an action, and its result."""

    kind: str
    """``create``, ``read``, ``update``, ``delete``, ``scratchpad`` or ``answer``; ``action`` for the whole action."""
    position: int
    """Its position in the action, from 1; 0 for the action as a whole."""
    outcome: Became
    """``applied``, ``rejected``, or ``cut``: executed with a shortened text (at position 0: the action was cut)."""
    text: str | None = None
    """The text of a create, update, scratchpad or answer, as written."""
    query: str | None = None
    """The query of a read."""
    id: int | None = None
    """The id in an update or delete: an entry's id, or in the dialect ``released`` a position among those shown."""
    reason: str | None = None
    """A code of ``atommem_gym.step.REASONS``; ``None`` if it was applied as written."""
    detail: str = ""
    entry_id: int | None = None
    """The entry that was created, updated or deleted."""


class CompletionTrace(TracePart, frozen=True):
    """The cost of one call of a language model."""

    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    finish_reason: str | None
    reasoning: str = ""
    """Reasoning that the server returned apart from the text."""
    tries: int = 1


class DroppedTrace(TracePart, frozen=True):
    """Something that was left out of the prompt because the context was too small."""

    what: str
    dropped: int
    of: int
    unit: str


class ReaderTrace(TracePart, frozen=True):
    """The input and the answer of a frozen reader, which answers in place of the policy (SPEC E13)."""

    question: str
    memories: tuple[RetrievedTrace, ...]
    scratchpad: str
    answer: str
    completions: tuple[CompletionTrace, ...] = ()
    """The costs of its calls, if it is a language model."""


class BranchTrace(TracePart, frozen=True):
    """The episode that this one was forked from, or whose snapshot it continues (SPEC M14)."""

    parent: str
    """The ``id`` of that episode's trace."""
    step: int
    """How many steps both traces share, up to the fork."""


class StepSeconds(TracePart, frozen=True):
    """Wall time of a step in seconds."""

    agent: float = 0.0
    env: float = 0.0


class StepTrace(TracePart, frozen=True):
    """One step: the observation, the action, and its effects."""

    observation: dict[str, Json]
    """The observation before the action (SPEC E10); ``progress`` and ``memories`` (``{id, text, score}``) are lists."""
    messages: list[Message] | None
    """The chat messages that the model saw; ``None`` for agents without one."""
    response: str
    """Everything that the model wrote, including thinking; for agents without a model the action."""
    action: str
    operations: tuple[OperationTrace, ...]
    """The operations in the order in which they are written."""
    memory: MemoryDiff
    retrieved: tuple[RetrievedTrace, ...]
    """The entries that the read of this step found: the ``memories`` of the next observation."""
    reward: float
    terminated: bool
    truncated: bool
    info: dict[str, Json]
    completions: tuple[CompletionTrace, ...] = ()
    dropped: tuple[DroppedTrace, ...] = ()
    seconds: StepSeconds = StepSeconds()
    reader: tuple[ReaderTrace, ...] = ()
    """One per question that the step closed and a frozen reader answered. Since version 2."""


class Rescore(TracePart, frozen=True):
    """The scores of another scorer (``atommem rescore``)."""

    scorer: str
    reward: float
    """The mean of ``scores``, without shaping."""
    scores: tuple[float, ...]
    """One per question; 0 for questions without an answer that counts."""
    causes: tuple[Cause | None, ...]
    """Why each question failed, according to these scores."""


class EpisodeTrace(TracePart, frozen=True):
    """One finished episode."""

    version: int
    """``TRACE_VERSION`` when it was recorded. Version 1 derived ``entry_id`` from the action, so some ids are
    wrong under ``preset="released"``."""
    env: EnvTrace
    agent: AgentTrace
    seed: int
    """The seed of the agent."""
    index: int
    """The index of the item, for ``reset(options={"index": …})``."""
    shuffle_seed: int
    """The layout of the item."""
    item: str
    """The id of the item."""
    versions: dict[str, str]
    """Versions of Python and of the packages that can change a trajectory."""
    started: str
    """When the episode started, ISO 8601, UTC."""
    seconds: float
    """Wall time from the return of ``reset`` to the end."""
    questions: tuple[QuestionTrace, ...]
    documents: tuple[str, ...]
    """The titles of the documents, in the order of the stream."""
    initial_memory: MemoryTrace
    reset_info: dict[str, Json]
    """The ``info`` of ``reset``."""
    steps: tuple[StepTrace, ...]
    final_observation: dict[str, Json]
    metrics: dict[str, Json]
    """``info["episode_metrics"]`` of the last step."""
    causes: tuple[Cause | None, ...]
    """Why each question failed, ``None`` if it did not (``atommem_gym.traces.causes``)."""
    reward: float
    """The sum of the rewards of all steps."""
    rescores: tuple[Rescore, ...] = ()
    id: str | None = None
    """The name by which its branches refer to it; only an episode that was forked or saved has one. This and the
    following fields are new in version 2."""
    branch: BranchTrace | None = None
    """The episode that it was forked from, if any."""
    context: str | None = None
    """The id of the context that the item's questions belong to (SPEC E14)."""
    dates: tuple[str | None, ...] = ()
    """The dates of ``documents``, ISO 8601, ``None`` for one without; empty if none has a date (SPEC D7)."""


SINCE_2 = {"episode": ("id", "branch", "context", "dates"), "questions": ("date",), "steps": ("reader",)}
"""The fields that version 2 added to the episode, its questions and its steps; each may be absent."""
