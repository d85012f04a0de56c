"""What a member of the family is: where its items come from, which keyword arguments it adds, what is hard about it."""

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
"""Difficulties whose items an environment keeps; making them anew costs a moment, keeping them memory."""


@dataclass(frozen=True, slots=True)
class Task:
    """One member of the family; ``register_task`` makes ``AtomMem-{name}-v{version}`` of it.

    What is given by a name, ``"package.module:attribute"``, is imported when an environment is made: then the
    environment's spec has a JSON form, and registering costs nothing.
    """

    name: str
    items: str | ItemsFactory
    """Makes the items from the configuration."""
    options: str | type[Any] | None = None
    """The task's own keyword arguments: a frozen dataclass of JSON values that raises ``ConfigError``."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Keyword defaults that differ from ``EnvConfig``'s."""
    summary: str = ""
    """One line for tables."""
    difficulty: str | DifficultyRule | None = None
    """What ``difficulty=`` means: the knobs' values, from it and the configuration without it."""
    entry_point: str = "atommem_gym.envs:AtomMemEnv"
    vector_entry_point: str = "atommem_gym.envs:AtomMemVectorEnv"
    dataset: str | None = None
    """Whose records it reads, a name of ``atommem_gym.records.sources``; ``None`` for all others."""
    version: int = 0
    abstention: bool = False
    """Whether questions may have no answer (SPEC R5): then prompts say so, and abstentions are reported apart."""
    contexts: bool = False
    """Whether an item is a whole context with some of its questions (SPEC E14): then documents are not counted."""

    @property
    def env_id(self) -> str:
        """The Gymnasium id; any change of semantics raises its version."""
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
    """The keywords without a count of documents; 0 and ``None`` are what a context says of itself."""
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
    """The items of an environment at any other difficulty, made when they are asked for."""

    def __init__(self, task: Task | None, keywords: Mapping[str, Any]) -> None:
        """``keywords`` are the explicit ones; without a task (items of one's own) there are no difficulties."""
        self._task = task
        self._keywords = dict(keywords)
        self._made: dict[float, tuple[EnvConfig, Items]] = {}

    def at(self, difficulty: object) -> tuple[EnvConfig, Items]:
        """Configuration and items at a difficulty.

        Raises:
            ConfigError: it is no number from 0 to 1, or the environment has no difficulties.
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
    """What a name such as ``"package.module:attribute"`` means.

    Args:
        found: The name; anything but a string is returned as it is.
        what: What it names, for the error, such as ``"options"``.

    Raises:
        ConfigError: there is nothing of this name.
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
