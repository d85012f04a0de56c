"""Defines a task: where its items come from, which keyword arguments it adds, and what ``difficulty=`` means."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias, cast

from atommem_gym.config import DifficultyRule, EnvConfig, check_difficulty
from atommem_gym.errors import ConfigError

if TYPE_CHECKING:
    from atommem_gym.records.record import Items

ItemsFactory: TypeAlias = "Callable[[EnvConfig], Items]"
DIFFICULTIES_KEPT = 32
"""Most difficulties whose items an environment keeps in memory."""


@dataclass(frozen=True, slots=True)
class Task:
    """One task; ``register_task`` registers it as ``AtomMem-{name}-v{version}``.

    Values that are names, ``"package.module:attribute"``, are imported when an environment is made, so that the
    environment's spec has a JSON form and registering costs nothing.
    """

    name: str
    """The name; part of the id, so letters, digits, ``-`` and ``_``."""
    items: str | ItemsFactory
    """Makes the items of a configuration."""
    options: str | type[Any] | None = None
    """The task's own keyword arguments: a frozen dataclass of JSON values that raises ``ConfigError`` for bad ones."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Defaults of keyword arguments that differ from ``EnvConfig``'s."""
    summary: str = ""
    """A description in one line, for tables."""
    difficulty: str | DifficultyRule | None = None
    """What ``difficulty=`` means: keyword arguments, computed from it and the configuration without it."""
    entry_point: str = "atommem_gym.envs:AtomMemEnv"
    """The plain environment class."""
    vector_entry_point: str = "atommem_gym.envs:AtomMemVectorEnv"
    """The vector environment class."""
    dataset: str | None = None
    """The data set that it reads, one of ``atommem_gym.records.sources.DATASETS``; ``None`` if none."""
    version: int = 0
    """The version in the id; any change of semantics raises it."""
    abstention: bool = False
    """Whether questions may have no answer (SPEC R5); if so, prompts say so and abstentions are reported separately."""
    contexts: bool = False
    """Whether an item is a whole context with some of its questions (SPEC E14); if so, ``num_docs`` is refused."""

    @property
    def env_id(self) -> str:
        """The Gymnasium id."""
        return f"AtomMem-{self.name}-v{self.version}"

    def config(self, keywords: Mapping[str, Any]) -> EnvConfig:
        """The configuration of an environment of this task.

        Raises:
            ConfigError: a keyword is unknown, has a bad value, or contradicts another one.
        """
        options = None if self.options is None else load_attribute(self.options, f"options of {self.name}")
        if options is not None and not (isinstance(options, type) and is_dataclass(options)):
            raise ConfigError(f"the options of {self.name} are {options!r}; they must be a dataclass")
        rule = None if self.difficulty is None else load_attribute(self.difficulty, f"difficulty of {self.name}")
        defaults = self.defaults
        if self.contexts:
            keywords = _without_documents(keywords, self.env_id)
            defaults = {**defaults, "order": "given"}
        config = EnvConfig.from_keywords(keywords, defaults, options=options, rule=rule)
        if self.contexts:
            config = replace(config, num_docs=0)
        return replace(config, abstention=True) if self.abstention else config

    def load_items(self, config: EnvConfig) -> Items:
        """The items of a configuration.

        Raises:
            ConfigError: the settings do not fit the items.
            DatasetUnavailableError: the source cannot be read.
        """
        make = cast("ItemsFactory", load_attribute(self.items, f"items of {self.name}"))
        return make(config)


def _without_documents(keywords: Mapping[str, Any], env_id: str) -> dict[str, Any]:
    """The keywords without ``num_docs``, which may only be 0 or ``None``."""
    if keywords.get("num_docs") not in (None, 0):
        raise ConfigError(
            f"num_docs={keywords['num_docs']!r} contradicts {env_id}: contexts come whole, without distractors; leave "
            "it out"
        )
    if keywords.get("order", "given") != "given":
        raise ConfigError(
            f"order={keywords['order']!r} contradicts {env_id}: contexts keep their own order; leave it out, or say "
            '"given"'
        )
    return {name: value for name, value in keywords.items() if name != "num_docs"}


class ItemsByDifficulty:
    """The items of an environment at other difficulties, made on demand."""

    def __init__(self, task: Task | None, keywords: Mapping[str, Any]) -> None:
        """``keywords`` are the explicit keyword arguments; without a task (custom items) there are no difficulties."""
        self._task = task
        self._keywords = dict(keywords)
        self._made: dict[float, tuple[EnvConfig, Items]] = {}

    def at(self, difficulty: object) -> tuple[EnvConfig, Items]:
        """Configuration and items at a difficulty.

        Raises:
            ConfigError: it is not a number from 0 to 1, or the environment has no difficulties.
        """
        chosen = check_difficulty(difficulty)
        if chosen in self._made:
            return self._made[chosen]
        if self._task is None:
            raise ConfigError(
                f"reset option difficulty={chosen!r}: an environment over items of one's own has no difficulties"
            )
        config = self._task.config({**self._keywords, "difficulty": chosen})
        if len(self._made) >= DIFFICULTIES_KEPT:
            del self._made[next(iter(self._made))]
        self._made[chosen] = config, self._task.load_items(config)
        return self._made[chosen]


def load_attribute(found: Any, what: str) -> Any:
    """Import the object that a name such as ``"package.module:attribute"`` refers to.

    Args:
        found: The name; anything but a string is returned as it is.
        what: What it is, for the error, for example ``"options"``.

    Raises:
        ConfigError: there is no such object.
    """
    if not isinstance(found, str):
        return found
    module, _, attribute = found.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"the {what} {found!r} cannot be loaded ({error}); write them as 'package.module:attribute'"
        ) from error
