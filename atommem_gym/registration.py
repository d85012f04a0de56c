"""The table of all tasks, and the registration of custom ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gymnasium as gym

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, suggestion
from atommem_gym.task import ItemsFactory, Task
from atommem_gym.worlds import conversation, drift, forget, needle, synthetic

if TYPE_CHECKING:
    from atommem_gym.records.record import Items

__all__ = ["TASKS", "Task", "configure", "load_items", "register_all", "register_task", "resolve_env_id", "task_of"]


def _of_records(dataset: str) -> ItemsFactory:
    """Makes items of the records of a data set, or generated ones of the same shape (SPEC D1)."""

    def items(config: EnvConfig) -> Items:
        # Imported here, since `import atommem_gym` must be quick and load neither pyarrow nor a generator.
        from atommem_gym.records.items import RecordItems
        from atommem_gym.records.sources import load_split
        from atommem_gym.worlds.synthetic.items import of_shape

        if config.source == "synthetic":
            return of_shape(dataset, config)
        split = load_split(dataset, config.source, config.split)
        return RecordItems(
            split, num_docs=config.num_docs, questions_per_episode=config.questions_per_episode, order=config.order
        )

    return items


def _of_contexts(dataset: str) -> ItemsFactory:
    """Makes items of a data set of contexts (SPEC E14), for which there are no generated records."""

    def items(config: EnvConfig) -> Items:
        from atommem_gym.records.contexts import ContextItems, loadable, warn_of_shared
        from atommem_gym.records.sources import load_split, other_splits

        if config.source == "synthetic":
            raise ConfigError(
                f"source='synthetic' contradicts {dataset}, which has no generated records; give the path of its file"
            )
        corrections = getattr(config.options, "corrections", None)
        split = load_split(dataset, config.source, config.split, corrections)
        others = other_splits(config.source, config.split)
        warn_of_shared(split, loadable(others, lambda name: load_split(dataset, config.source, name, corrections)))
        return ContextItems(split, questions_per_episode=config.questions_per_episode)

    return items


def _asks_contexts(name: str, dataset: str, summary: str, **more: Any) -> Task:
    return Task(
        name,
        _of_contexts(dataset),
        summary=summary,
        entry_point=f"atommem_gym.envs:{name}Env",
        dataset=dataset,
        contexts=True,
        **more,
    )


def _reads(name: str, entry_point: str, dataset: str, summary: str) -> Task:
    return Task(
        name,
        _of_records(dataset),
        summary=summary,
        difficulty=synthetic.TASK.difficulty,
        entry_point=f"atommem_gym.envs:{entry_point}Env",
        dataset=dataset,
    )


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        _reads("HotpotQA", "HotpotQA", "hotpotqa", "two-hop questions over Wikipedia paragraphs"),
        _reads(
            "2WikiMultiHopQA",
            "TwoWikiMultiHopQA",
            "2wikimultihopqa",
            "two- to four-hop questions with comparison and inference",
        ),
        _reads("MuSiQue", "MuSiQue", "musique", "two- to four-hop questions that resist short cuts"),
        synthetic.TASK,
        needle.TASK,
        drift.TASK,
        forget.TASK,
        conversation.TASK,
        _asks_contexts(
            "LoCoMo",
            "locomo",
            "long dialogues of two people in dated sessions",
            options="atommem_gym.records.formats.locomo:LoCoMoOptions",
            abstention=True,
        ),
        _asks_contexts(
            "FactConsolidation",
            "factconsolidation",
            "lists of facts of which later ones win",
            defaults={"reward": "subem"},
        ),
        _asks_contexts("LongMemEval", "longmemeval", "dated chats with an assistant, a question each", abstention=True),
    )
}
"""All tasks by name: data sets, generated worlds, and those that were registered."""

_OURS = frozenset(TASKS)


def register_task(task: Task) -> str:
    """Register a task with ``gymnasium.make`` and ``gymnasium.make_vec``, and return its id.

    Registration holds for one process: a worker process must import the module that registers it, as with any
    Gymnasium environment (``gymnasium.make("my_package:AtomMem-Mine-v0")`` does).

    >>> from atommem_gym.worlds.synthetic import SyntheticItems
    >>> register_task(Task("Tiny", lambda config: SyntheticItems(num_docs=config.num_docs), defaults={"num_docs": 8}))
    'AtomMem-Tiny-v0'
    >>> gym.make("AtomMem-Tiny-v0", store="numpy").unwrapped.config.num_docs
    8
    >>> del TASKS["Tiny"], gym.registry["AtomMem-Tiny-v0"]

    Raises:
        ConfigError: the name is taken by a task of this package, or cannot be part of a Gymnasium id.
    """
    if not task.name.replace("_", "").replace("-", "").isalnum():
        raise ConfigError(f"the task name {task.name!r} must be letters, digits, '-' and '_', to be part of an id")
    if task.name in _OURS:
        raise ConfigError(f"the task name {task.name!r} is taken by {TASKS[task.name].env_id}; choose another one")
    TASKS[task.name] = task
    # Registering a changed task again, for example in a notebook, replaces it without Gymnasium's warning.
    gym.registry.pop(task.env_id, None)
    _register(task)
    return task.env_id


def register_all() -> None:
    """Register every id with Gymnasium; ``import atommem_gym`` does it."""
    for task in TASKS.values():
        _register(task)


def _register(task: Task) -> None:
    gym.register(
        id=task.env_id,
        entry_point=task.entry_point,
        vector_entry_point=task.vector_entry_point,
        # After restore() a fresh environment is stepped without a reset, which both wrappers would forbid; before
        # the first reset it raises by itself, and the tests run Gymnasium's checker on every id.
        order_enforce=False,
        disable_env_checker=True,
        # One vector environment class serves all tasks, and one plain class those without their own.
        kwargs={"task": task.name},
    )


def resolve_env_id(name: str) -> str:
    """The id of an environment, from its id or the name of its task, ignoring case.

    >>> resolve_env_id("hotpotqa")
    'AtomMem-HotpotQA-v0'

    Raises:
        ConfigError: there is no such environment; the message suggests one.
    """
    known = {key.casefold(): task.env_id for task in TASKS.values() for key in (task.name, task.env_id)}
    found = known.get(name.casefold())
    if found is None:
        raise ConfigError(
            f"unknown environment {name!r}; {_proposed(name, known)} "
            "(`atommem envs` describes them; `--import MODULE` adds your own)"
        )
    return found


def _proposed(name: str, known: Mapping[str, str]) -> str:
    parts = name.replace(" ", "").split(",")
    if len(parts) > 1 and all(part.casefold() in known for part in parts):
        return f"several are separated by spaces: {' '.join(parts)}"
    return suggestion(name.casefold(), known, meant=known)


def task_of(env_id: str) -> Task | None:
    """The task with a Gymnasium id; ``None`` if there is none."""
    return next((task for task in TASKS.values() if task.env_id == env_id), None)


def configure(task_name: str, keywords: Mapping[str, Any]) -> EnvConfig:
    """Resolve the keyword arguments of a task; a task that is not registered adds none of its own.

    Raises:
        ConfigError: a keyword is unknown, has a bad value, or contradicts another one.
    """
    task = TASKS.get(task_name)
    return EnvConfig.from_keywords(keywords) if task is None else task.config(keywords)


def load_items(task_name: str, config: EnvConfig) -> Items:
    """Load the items of a task: its data set's records, or generated ones (SPEC D1).

    Raises:
        ConfigError: the task is not registered, or the configuration does not fit its items.
        DatasetUnavailableError: the source cannot be read.
    """
    if task_name not in TASKS:
        raise ConfigError(f"the task {task_name!r} is not registered; give its items with items=…")
    return TASKS[task_name].load_items(config)
