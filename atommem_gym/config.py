"""The keyword arguments of all environments: defaults, presets and contradictions, resolved once at ``make``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias

import numpy as np

from atommem_gym.actions import KINDS, STORAGE_KINDS, Kind, parse
from atommem_gym.actions.dialects import check_dialect_name
from atommem_gym.embedders.options import EmbedderOptions
from atommem_gym.errors import ConfigError, check_choice, check_integer, suggestion
from atommem_gym.plugins.loading import is_plugin
from atommem_gym.readers.options import check_reader, reader_name
from atommem_gym.readers.protocol import POLICY, FrozenReader
from atommem_gym.records.layout import ORDERS, QuestionsPerEpisode, check_questions
from atommem_gym.replies.thinking import Pairs, checked_pairs
from atommem_gym.scoring import Scorer
from atommem_gym.stores.loading import check_store_name

_MINIMUM = {
    "num_docs": 1,
    "chunk_tokens": 1,
    "chunk_overlap": 0,
    "top_k": 1,
    "max_entry_tokens": 1,
    "max_scratchpad_tokens": 1,
    "max_entries": 0,
    "max_memory_tokens": 1,
    "max_reads_per_question": 0,
    "max_steps": 1,
    "max_action_chars": 1,
}
_LARGEST = 2**53
"""No setting means more, and a larger number is none that floats can hold."""
_OPTIONAL = {"max_entries", "max_steps"}
_CHOICES: dict[str, tuple[str, ...]] = {
    "preset": ("paper", "released"),
    "addressing": ("id", "visible"),
    "advance": ("always", "on_write"),
    "order": ORDERS,
    "question_visible": ("always", "end"),
    "store_reads": ("mirror", "milvus"),
}
_FLAGS = ("scratchpad", "storage", "sticky_query", "early_answer")
_TEXTS = ("source", "split", "tokenizer", "embedder", "store", "initial_query")

RELEASED: dict[str, Any] = {
    "chunk_overlap": 100,
    "questions_per_episode": "released",
    "dialect": "released",
    "addressing": "visible",
    "sticky_query": True,
    "initial_query": "no query yet",
    "advance": "on_write",
    "early_answer": True,
    "reward": "released",
    "max_steps": 41,
    # The released caps are never read: only the 4096 tokens of one response bound a text.
    "max_entry_tokens": 4096,
    "max_scratchpad_tokens": 4096,
}
"""The keyword arguments that ``preset="released"`` sets, unless they are given explicitly or an ablation makes them
meaningless. Its control flow is ``ReleasedEpisode``."""


NO_KEYWORDS = ("options", "abstention")
"""Fields that are not keyword arguments."""
OF_ITEMS = ("num_docs", "questions_per_episode", "order", "options")
"""The fields that a difficulty may set: it changes only items."""


@dataclass(frozen=True, kw_only=True, slots=True)
class EnvConfig:
    """Every keyword argument of an environment, with its value.

    ``gymnasium.make`` and the other forms take these keyword arguments and make an ``EnvConfig`` of them, which
    ``env.unwrapped.config`` shows. A task's own keyword arguments are given beside them and are kept in ``options``.
    """

    source: str = "hub"
    """``"hub"``, ``"synthetic"``, or the path of a file or folder of records."""
    split: str = "train"
    """``"train"``, ``"validation"`` (for files and the hub also ``"dev"``) or ``"test"``."""
    num_docs: int = 200
    """Documents per episode; 0 for contexts, which are always complete (SPEC E14)."""
    questions_per_episode: QuestionsPerEpisode = 1
    """A number; a range ``[low, high]``, drawn uniformly; or ``"released"``: 1 with probability ½, else 2 to 10."""
    chunk_tokens: int = 4000
    """Tokens of the stream per chunk, and so per reading step."""
    chunk_overlap: int = 0
    """Tokens repeated on either side of a chunk."""
    tokenizer: str = "words"
    """``"words"``, ``"tiktoken:NAME"``, a Hugging Face name or folder, or ``"package.module:name"``."""
    embedder: str = "hashing"
    """``"hashing"``, ``"random"``, ``"minilm"``, a sentence-transformers name or folder, ``"http://host:port/v1"``, or
    ``"package.module:name"``."""
    embedder_options: Mapping[str, Any] | None = None
    """Settings of the embedder, by name: ``instruction`` (before queries), ``dimensions``, ``max_tokens``."""
    store: str = "milvus"
    """``"milvus"``, ``"milvus:///path/to.db"``, ``"http://host:19530"``, ``"numpy"`` or
    ``"package.module:name"``."""
    store_reads: str = "mirror"
    """What answers reads of the embedded store: its exact ``"mirror"`` in memory, or ``"milvus"`` itself."""
    keep_memory: bool | None = None
    """Whether episodes stay in the database after their end; ``None``: only with a ``milvus:///`` path, or if a custom
    store decides so."""
    top_k: int = 6
    """Most entries that a read shows."""
    operations: tuple[Kind, ...] = STORAGE_KINDS
    """The allowed operations on the store, among create, read, update and delete."""
    scratchpad: bool = True
    """Whether there is a scratchpad."""
    storage: bool = True
    """Whether there is a vector store; without it, its four operations are disabled."""
    dialect: str = "crud"
    """How actions are written: ``"crud"`` tags, ``"tools"`` calls, the tags of the ``"released"`` code, or
    ``"package.module:name"``."""
    thinking: Pairs | None = None
    """Delimiters of reasoning, which is ignored: a pair or a list of pairs; ``None``: ``<think>`` and other known
    spellings."""
    template: str | None = None
    """A Jinja2 file that replaces the dialect's prompt, or ``"shared_prefix"``: the dialect's prompt, which begins with
    the part that a group shares. Only wrappers and players use it."""
    preset: str = "paper"
    """``"paper"``, or ``"released"``: the semantics of the paper's released code, so that its checkpoint can be
    evaluated."""
    addressing: str = "id"
    """Which entries can be updated or deleted: all by ``"id"``, or only those ``"visible"`` in the observation."""
    sticky_query: bool = False
    """Whether the last query is evaluated again at every step until it is replaced."""
    initial_query: str = ""
    """A query that is searched before the first read; empty for none."""
    advance: str = "always"
    """When the next chunk is shown: ``"always"`` at the next step, or ``"on_write"``: only after a create or a
    well-formed update."""
    order: str = "shuffled"
    """Document order: ``"shuffled"``, ``"gold_first"``, ``"gold_last"``, ``"gold_spread"``, ``"gold_together"``, or
    ``"given"``: the order of the records, the only one for dated streams."""
    question_visible: str = "always"
    """When the questions are shown: ``"always"``, or at the ``"end"``, after the last chunk."""
    early_answer: bool = False
    """Whether questions may be answered while chunks remain."""
    reward: str | Callable[..., float] | Scorer = "em"
    """``"em"``, ``"f1"``, ``"subem"``, ``"judge"``, ``"released"``, ``"package.module:function"``, a callable or a
    ``Scorer``."""
    reader: str | Callable[[str, list[dict[str, Any]], str], str] | FrozenReader = POLICY
    """What answers a question that is closed with an empty answer: the ``"policy"`` itself, so that it abstains, the
    ``"oracle"``, a server ``"http://host:port/v1"``, ``"package.module:name"``, a function
    ``(question, memories, scratchpad) -> str``, or a ``FrozenReader``."""
    reader_options: Mapping[str, Any] | None = None
    """Settings of a reader on a server, by name: ``model``, ``api_key_env``, ``max_tokens`` and others."""
    max_steps: int | None = None
    """Most steps per episode; ``None``: chunks + 4 per question."""
    max_entry_tokens: int = 512
    """Most tokens of an entry; a longer one is cut."""
    max_scratchpad_tokens: int = 2048
    """Most tokens of the scratchpad; a longer one is cut."""
    max_entries: int | None = None
    """Most live entries; a create beyond them is rejected; ``None``: no limit."""
    max_memory_tokens: int = 4096
    """Most tokens that a read shows, over all its entries."""
    max_reads_per_question: int = 3
    """Most reads per question; one more closes the question unanswered."""
    max_action_chars: int = 65_536
    """Most characters of an action; a longer one is cut."""
    difficulty: float | None = None
    """From 0 to 1: sets keyword arguments of the task that are not given; ``num_docs`` then means difficulty 1."""
    options: Any = None
    """The task's own keyword arguments, in its dataclass; ``None`` if it has none. Not itself a keyword argument."""
    abstention: bool = False
    """Whether questions of the task may have no answer (SPEC R5). The task decides it; not a keyword argument."""

    @classmethod
    def from_keywords(
        cls,
        keywords: Mapping[str, Any],
        task_defaults: Mapping[str, Any] | None = None,
        *,
        options: type[Any] | None = None,
        rule: DifficultyRule | None = None,
    ) -> EnvConfig:
        """Resolve keyword arguments: explicit ones override the preset's, then the task's, then the defaults.

        Args:
            keywords: The explicit keyword arguments, including the task's own.
            task_defaults: The task's defaults.
            options: A frozen dataclass of the task's own keyword arguments; it raises ``ConfigError`` for bad values.
            rule: What a difficulty means for the task.

        Raises:
            ConfigError: a keyword is unknown, has a bad value, or contradicts another one.
        """
        if keywords.get("difficulty") is not None:
            return cls._at_difficulty(dict(keywords), task_defaults, options, rule)
        known = [field.name for field in fields(cls) if field.name not in NO_KEYWORDS]
        own = [field.name for field in fields(options)] if options is not None else []
        _check_known(keywords, known, own)
        preset = RELEASED if {**(task_defaults or {}), **keywords}.get("preset") == "released" else {}
        values = {**(task_defaults or {}), **preset, **keywords}
        if options is not None:
            values["options"] = options(**{name: values.pop(name) for name in own if name in values})
        if values.get("early_answer") is True and "question_visible" not in keywords:
            values["question_visible"] = "always"
        if values.get("dialect") == "released" and "addressing" not in keywords:
            values["addressing"] = "visible"
        if values.get("storage") is False and "operations" not in keywords:
            values["operations"] = ()
        for name in _MINIMUM:
            if isinstance(values.get(name), np.integer):
                values[name] = int(values[name])
        if "operations" in values:
            values["operations"] = _operations(values["operations"])
        if values.get("thinking") is not None:
            values["thinking"] = checked_pairs(values["thinking"])
        if "questions_per_episode" in values:
            count = values["questions_per_episode"]
            check_questions(count)
            values["questions_per_episode"] = tuple(count) if isinstance(count, list) else count
        if not {"create", "update"} & set(values.get("operations", STORAGE_KINDS)) and "advance" not in keywords:
            values["advance"] = "always"
        if "read" not in values.get("operations", STORAGE_KINDS) and "initial_query" not in keywords:
            values["initial_query"] = ""
        config = cls(**values)
        config._check_values()
        config._check_contradictions()
        return config

    @classmethod
    def _at_difficulty(
        cls,
        keywords: dict[str, Any],
        task_defaults: Mapping[str, Any] | None,
        options: type[Any] | None,
        rule: DifficultyRule | None,
    ) -> EnvConfig:
        difficulty = check_difficulty(keywords.pop("difficulty"))
        top = cls.from_keywords(keywords, task_defaults, options=options)
        if rule is None:
            raise ConfigError(f"difficulty={difficulty!r} is given, but this environment has none; leave it out")
        knobs = {name: v for name, v in rule(difficulty, top).items() if name == "num_docs" or name not in keywords}
        found = cls.from_keywords({**keywords, **knobs}, task_defaults, options=options)
        return replace(top, difficulty=difficulty, **{name: getattr(found, name) for name in OF_ITEMS})

    def as_keywords(self) -> dict[str, Any]:
        """Every keyword argument with its value, including the task's own."""
        own = fields(self.options) if self.options is not None else ()
        values = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in NO_KEYWORDS}
        return {**values, **{field.name: getattr(self.options, field.name) for field in own}}

    def _check_values(self) -> None:
        for name, minimum in _MINIMUM.items():
            value = getattr(self, name)
            if value is None and name in _OPTIONAL:
                continue
            check_integer(name, value, minimum)
            if value > _LARGEST:
                raise ConfigError(f"{name}={value!r:.40} is too large; it may be {_LARGEST} at most")
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        check_dialect_name(self.dialect)
        for name in _FLAGS:
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}={getattr(self, name)!r} must be True or False")
        for name in _TEXTS:
            value = getattr(self, name)
            if not isinstance(value, str) or (not value and name != "initial_query"):
                raise ConfigError(f"{name}={value!r} must be a non-empty string")
        check_store_name(self.store)
        if not (self.template is None or (isinstance(self.template, str) and self.template)):
            raise ConfigError(f"template={self.template!r} must be the path of a Jinja2 file, 'shared_prefix', or None")
        EmbedderOptions.from_mapping(self.embedder_options)
        check_reader(self.reader, self.reader_options)
        if not (self.keep_memory is None or isinstance(self.keep_memory, bool)):
            raise ConfigError(f"keep_memory={self.keep_memory!r} must be True, False or None")
        if not isinstance(self.reward, (str, Scorer)) and not callable(self.reward):
            raise ConfigError(f"reward={self.reward!r} must be a name, 'package.module:function', callable or Scorer")

    def _check_contradictions(self) -> None:
        if self.chunk_overlap >= self.chunk_tokens:
            raise ConfigError(
                f"chunk_overlap={self.chunk_overlap} contradicts chunk_tokens={self.chunk_tokens}: "
                "the overlap on one side must be smaller than the chunk"
            )
        if self.max_entry_tokens > self.max_memory_tokens:
            raise ConfigError(
                f"max_entry_tokens={self.max_entry_tokens} contradicts max_memory_tokens={self.max_memory_tokens}: "
                "an entry that fills its limit could never be shown; raise max_memory_tokens"
            )
        if self.operations and not self.storage:
            raise ConfigError(
                f"operations={list(self.operations)} contradicts storage=False: "
                "without the vector store there is nothing to operate on"
            )
        if self.advance == "on_write" and not {"create", "update"} & set(self.operations):
            raise ConfigError(
                f"advance='on_write' contradicts operations={list(self.operations)}: "
                "without create and update no chunk but the first would ever be shown"
            )
        if self.initial_query and "read" not in self.operations:
            raise ConfigError(f"initial_query={self.initial_query!r} contradicts operations without 'read'")
        if self.question_visible == "end" and self.early_answer:
            raise ConfigError(
                "question_visible='end' contradicts early_answer=True: a question cannot be answered before it is "
                "shown; set early_answer=False"
            )
        if not self.policy_answers and "released" in (self.preset, self.dialect):
            which = "preset" if self.preset == "released" else "dialect"
            raise ConfigError(
                f"reader={reader_name(self.reader)!r} contradicts {which}='released', where no empty answer closes a "
                "question; leave one of them out"
            )
        if self.dialect == "released" and self.addressing == "id":
            raise ConfigError(
                "addressing='id' contradicts dialect='released', which names entries by position; "
                "leave addressing out, or use another dialect"
            )
        for delimiter in (text for pair in self.thinking or () for text in pair):
            if not is_plugin("dialect", self.dialect) and parse(delimiter, self.dialect, ()):
                raise ConfigError(
                    f"thinking names {delimiter!r}, which dialect={self.dialect!r} reads as an operation; reasoning "
                    "needs delimiters of its own"
                )
        if self.store_reads == "milvus" and (self.store == "numpy" or is_plugin("store", self.store)):
            raise ConfigError(
                f"store_reads='milvus' contradicts store={self.store!r}, which has no Milvus; use store='milvus'"
            )
        if self.keep_memory and self.store in ("milvus", "numpy"):
            raise ConfigError(
                f"keep_memory=True contradicts store={self.store!r}, which is gone at close; use store='milvus:///path.db'"
            )
        if self.keep_memory is False and self.store.startswith("milvus://"):
            raise ConfigError(f"keep_memory=False contradicts store={self.store!r}, which is kept; use store='milvus'")

    @property
    def policy_answers(self) -> bool:
        """Whether the policy answers itself, without a frozen reader (SPEC E13)."""
        return self.reader == POLICY

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of operations that are not disabled (SPEC M12)."""
        absent = {kind for kind in STORAGE_KINDS if kind not in self.operations}
        if not self.scratchpad:
            absent.add("scratchpad")
        return tuple(kind for kind in KINDS if kind not in absent)


DifficultyRule: TypeAlias = Callable[[float, EnvConfig], Mapping[str, Any]]
"""What a difficulty means: keyword arguments, computed from it and the configuration without it."""


def check_difficulty(value: object) -> float:
    """Check a difficulty and return it as a ``float``.

    Raises:
        ConfigError: it is not a number from 0 to 1.
    """
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    if not number or not 0.0 <= value <= 1.0:  # type: ignore[operator]  # a number by now
        raise ConfigError(f"difficulty={value!r:.200} must be a number from 0 to 1")
    return float(value)  # type: ignore[arg-type]


def _check_known(keywords: Mapping[str, Any], known: Sequence[str], own: Sequence[str]) -> None:
    for name in keywords:
        if name in known or name in own:
            continue
        raise ConfigError(f"unknown keyword argument {name!r}; {suggestion(name, sorted(known), of_task=own)}")


def _operations(value: object) -> tuple[Kind, ...]:
    if isinstance(value, str) or not isinstance(value, (list, tuple, set, frozenset)):
        raise ConfigError(f"operations={value!r} must be a list of {', '.join(STORAGE_KINDS)}")
    unknown = [name for name in value if name not in STORAGE_KINDS]
    if unknown:
        raise ConfigError(
            f"operations={sorted(map(str, value))} holds {unknown[0]!r}; {suggestion(unknown[0], STORAGE_KINDS)}"
        )
    return tuple(kind for kind in STORAGE_KINDS if kind in value)
