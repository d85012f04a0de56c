"""The whole family in one table: task, id, environment class, and where its items come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import gymnasium as gym

from atommem_gym.errors import ConfigError

if TYPE_CHECKING:
    from atommem_gym.config import EnvConfig
    from atommem_gym.data.records import Items


@dataclass(frozen=True, slots=True)
class Task:
    """One member of the family."""

    name: str
    entry_point: str
    dataset: Literal["hotpotqa", "2wikimultihopqa", "musique"] | None
    """Whose records it reads; ``None``: it generates all of them."""
    shape: str
    """The shape of its generated records."""
    summary: str

    @property
    def env_id(self) -> str:
        """The Gymnasium id; any change of semantics raises its version."""
        return f"AtomMem-{self.name}-v0"

    @property
    def vector_entry_point(self) -> str:
        """The class that ``gymnasium.make_vec`` makes."""
        return self.entry_point.removesuffix("Env") + "VectorEnv"

    @property
    def defaults(self) -> dict[str, Any]:
        """Keyword defaults that differ from ``EnvConfig``'s."""
        return {} if self.dataset else {"source": "synthetic"}


TASKS: dict[str, Task] = {
    task.name: task
    for task in (
        Task("HotpotQA", "HotpotQAEnv", "hotpotqa", "hotpotqa", "two-hop questions over Wikipedia paragraphs"),
        Task(
            "2WikiMultiHopQA",
            "TwoWikiMultiHopQAEnv",
            "2wikimultihopqa",
            "2wikimultihopqa",
            "two- to four-hop questions with comparison and inference",
        ),
        Task("MuSiQue", "MuSiQueEnv", "musique", "musique", "two- to four-hop questions that resist short cuts"),
        Task("Synthetic", "SyntheticEnv", None, "mixed", "generated multi-hop questions, no network and no files"),
    )
}


def register_all() -> None:
    """Register every id with Gymnasium; ``import atommem_gym`` does it."""
    for task in TASKS.values():
        gym.register(
            id=task.env_id,
            entry_point=f"atommem_gym.envs:{task.entry_point}",
            vector_entry_point=f"atommem_gym.envs:{task.vector_entry_point}",
            # After restore() a fresh environment is stepped without a reset, which both wrappers would forbid; before
            # the first reset it raises by itself, and the tests run Gymnasium's checker on every id.
            order_enforce=False,
            disable_env_checker=True,
        )


def load_items(task_name: str, config: EnvConfig) -> Items:
    """The items of a task: its data set's records, or generated ones of the same shape (SPEC D1).

    Raises:
        ConfigError: the task generates its records and was given another source, or the settings do not fit the items.
        DatasetUnavailableError: the source cannot be read.
    """
    # Registering must be quick: `import atommem_gym` loads neither pyarrow nor a generator.
    from atommem_gym.data.items import RecordItems
    from atommem_gym.data.sources import load_split
    from atommem_gym.data.synthetic import SyntheticItems

    if task_name not in TASKS:
        raise ConfigError(f"the task {task_name!r} is not registered; give its items with items=…")
    task = TASKS[task_name]
    questions = config.questions_per_episode
    if config.source == "synthetic":
        return SyntheticItems(
            shape=task.shape,
            split=config.split,
            num_docs=config.num_docs,
            questions_per_episode=questions,
            order=config.order,
        )
    if task.dataset is None:
        raise ConfigError(
            f"source={config.source!r} contradicts {task.env_id}, which generates its records; leave it out"
        )
    split = load_split(task.dataset, config.source, config.split)
    return RecordItems(split, num_docs=config.num_docs, questions_per_episode=questions, order=config.order)
