"""The record of an episode: everything that was seen, done and decided, as frozen structs of JSON values."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, get_args

from msgspec import Struct

from atommem_gym.errors import AtomMemError
from atommem_gym.records.record import Evidence
from atommem_gym.step import Became

TRACE_VERSION = 2
"""Of the records that are made; any change of a field or of its meaning raises it."""
READ_VERSIONS = (1, 2)
"""Of the records that are read. One of version 1 keeps its version when it is written again."""

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
"""Why a question failed: what did not count, then in the order of an episode's life; so tables and plots show them."""
WITHOUT_MEMORY: Cause = "not shown"
"""The one that only agents without a memory can have."""
NOT_ERASED: Cause = "not erased"
"""The one that only questions can have whose stream asks that something be erased (SPEC D9)."""
SELDOM: tuple[Cause, ...] = (WITHOUT_MEMORY, NOT_ERASED)
"""Those that tables leave out where no question has them."""


class TraceError(AtomMemError, ValueError):
    """A record cannot be read, written or used; the message names the file and the line."""


class TracePart(Struct, frozen=True, forbid_unknown_fields=True):
    """What all parts of a record share: they are frozen, and refuse fields that they do not know.

    ``msgspec.structs.replace(part, field=value)`` makes a changed copy. Fields of version 2 that are ``None`` or empty
    are left out of the line.
    """


class EnvTrace(TracePart, frozen=True):
    """What makes the environment again."""

    id: str
    """The Gymnasium id; ``AtomMem-Custom`` if the environment was made over custom items."""
    keywords: dict[str, Json]
    """As they were given; a callable ``reward`` is named ``package.module:function``."""
    shaping: dict[str, dict[str, Json]] = {}
    """What was added to the reward, in the JSON form of ``atommem_gym.envs.shaping``."""


class AgentTrace(TracePart, frozen=True):
    """Who played."""

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
    """When it is asked, ISO 8601, where it says so (SPEC D8). Since version 2."""

    @property
    def answers(self) -> tuple[str, ...]:
        """The answer and its aliases; an empty answer is that of a question which has none."""
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
    """The whole memory at the episode's beginning: empty, unless it went on with a kept one (SPEC M13)."""

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
    """With the text that they had before the action."""
    scratchpad: ScratchpadTrace | None = None
    """``None`` if it is as before."""


class OperationTrace(TracePart, frozen=True):
    """One operation of an action, and what became of it."""

    kind: str
    """``create``, ``read``, ``update``, ``delete``, ``scratchpad`` or ``answer``; ``action`` for the whole action."""
    position: int
    """Place in the action, from 1; 0 for the action as a whole."""
    outcome: Became
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


class CompletionTrace(TracePart, frozen=True):
    """The cost of one call of a language model."""

    prompt_tokens: int | None
    completion_tokens: int | None
    seconds: float
    finish_reason: str | None
    reasoning: str = ""
    """What the server returned apart from the text."""
    tries: int = 1


class DroppedTrace(TracePart, frozen=True):
    """What the model was not shown, or not given, because its context was too small."""

    what: str
    dropped: int
    of: int
    unit: str


class ReaderTrace(TracePart, frozen=True):
    """What a frozen reader, which answers in the policy's place, saw and said when a question closed."""

    question: str
    memories: tuple[RetrievedTrace, ...]
    scratchpad: str
    answer: str
    completions: tuple[CompletionTrace, ...] = ()
    """What its calls cost, where it is a language model."""


class BranchTrace(TracePart, frozen=True):
    """Where an episode parted from the one that it was forked from, or whose snapshot it goes on from (SPEC M14)."""

    parent: str
    """The ``id`` of that episode's record."""
    step: int
    """How many steps they share: the first ones of both records, up to the fork."""


class StepSeconds(TracePart, frozen=True):
    """Wall time of a step."""

    agent: float = 0.0
    env: float = 0.0


class StepTrace(TracePart, frozen=True):
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
    reader: tuple[ReaderTrace, ...] = ()
    """One for each question that the step closed and a frozen reader answered. Since version 2."""


class Rescore(TracePart, frozen=True):
    """What another scorer made of the answers (``atommem rescore``)."""

    scorer: str
    reward: float
    """Mean of ``scores``; shaping left out."""
    scores: tuple[float, ...]
    """One a question; 0 for those that got no answer that counts."""
    causes: tuple[Cause | None, ...]
    """Why each question failed, by these scores."""


class EpisodeTrace(TracePart, frozen=True):
    """One finished episode."""

    version: int
    """``TRACE_VERSION`` when it was recorded. In version 1, which worked out ``entry_id`` from the action, some ids are
    wrong under ``preset="released"``."""
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
    id: str | None = None
    """What its branches call it by; only an episode that was forked, or saved by ``snapshot``, has one. Since version
    2, as all that follow."""
    branch: BranchTrace | None = None
    """Where it was forked from another one."""
    context: str | None = None
    """The id of the context that the item's questions belong to (SPEC E14)."""
    dates: tuple[str | None, ...] = ()
    """Of ``documents``, ISO 8601, ``None`` for one without; empty if none has any (SPEC D7)."""


SINCE_2 = {"episode": ("id", "branch", "context", "dates"), "questions": ("date",), "steps": ("reader",)}
"""The fields that version 2 added, to the episode and to each of its questions and steps; all may be absent."""
