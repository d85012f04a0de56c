"""Custom tasks in a few lines: records, a scorer and a prompt, under a new id."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, RecordError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.dates import check_dated
from atommem_gym.records.formats.own_records import parse
from atommem_gym.records.layout import check_questions
from atommem_gym.records.record import Items, Record
from atommem_gym.registration import register_task
from atommem_gym.scoring import Scorer
from atommem_gym.task import Task
from atommem_gym.trust import is_built_in_template

if TYPE_CHECKING:
    from atommem_gym.records.sources import Split

OwnRecords: TypeAlias = Iterable[Record | Mapping[str, Any]]
"""Records, or dictionaries with ``question``, ``documents`` (``atommem_gym.records.formats.own_records``)."""

REGISTERED = "registered"
"""The value of ``source`` for the records that the task was registered with."""


@dataclass(frozen=True, kw_only=True)
class CustomTask:
    """A task over custom records; :meth:`register` registers it with Gymnasium.

    Episodes are made of the records as for HotpotQA (SPEC D3, E8, E9): each record once per epoch, all its
    gold documents, its own distractors, then others of the split up to ``num_docs``, in an order that depends only on
    item and ``shuffle_seed``. All keyword arguments of the family apply. Documents with dates stay in the order of
    their records and need ``defaults={"order": "given"}`` (SPEC D7).

    >>> import gymnasium as gym
    >>> def capitals(split):
    ...     for country, city in {"Peru": "Lima", "Fiji": "Suva", "Mali": "Bamako"}.items():
    ...         gold = {"title": country, "text": f"The capital of {country} is {city}.", "gold": True}
    ...         yield {"question": f"What is the capital of {country}?", "answer": city, "documents": [gold]}
    >>> CustomTask(name="Capitals", records=capitals, defaults={"num_docs": 3}).register()
    'AtomMem-Capitals-v0'
    >>> env = gym.make("AtomMem-Capitals-v0", store="numpy")
    >>> env.unwrapped.num_items, env.reset(options={"index": 0})[1]["item"]
    (3, 'Capitals/train/0')
    >>> env.close()
    >>> from atommem_gym.registration import TASKS
    >>> del TASKS["Capitals"], gym.registry["AtomMem-Capitals-v0"]  # leave no trace of this example
    """

    name: str
    """The name; the id is ``AtomMem-{name}-v{version}``."""
    records: str | Path | OwnRecords | Callable[[str], OwnRecords]
    """A file or folder (in the custom or an official format); a function from the split's name to the records; or the
    records themselves, which then belong to the default split only."""
    scorer: str | Callable[..., float] | Scorer = "em"
    """The default of ``reward``: a name, a function ``(prediction, answers, question) -> float``, or a ``Scorer``."""
    template: str | Path | None = None
    """The default of ``template``: a Jinja2 file in place of the dialect's prompt, or ``"shared_prefix"``."""
    defaults: Mapping[str, Any] = field(default_factory=dict)
    """Further defaults of keyword arguments, for example ``num_docs``."""
    summary: str = "custom records"
    """One line for ``atommem envs``."""
    version: int = 0
    """The version in the id; raise it with every change that makes scores incomparable."""
    abstention: bool = False
    """Whether questions may have no answer (``"answerable": false``, SPEC R5); if so, prompts say so."""
    contexts: bool = False
    """Whether records have a ``context``, whose documents they share: an item is then one complete context in its own
    order, with ``questions_per_episode`` of its questions (SPEC E14)."""

    def register(self) -> str:
        """Register the task and return its id; registering a changed task again replaces it.

        Raises:
            ConfigError: the name is taken or cannot be part of an id, a default or the template is invalid.
        """
        in_file = isinstance(self.records, str | Path)
        template = None if self.template is None else str(self.template)
        if template is not None and not is_built_in_template(template):
            template = str(Path(template).absolute())
        defaults = {
            "source": str(Path(str(self.records)).expanduser().absolute()) if in_file else REGISTERED,
            "reward": self.scorer,
            **({} if template is None else {"template": template}),
            **self.defaults,
        }
        splits = _Splits(self)
        task = Task(
            self.name,
            splits.items,
            defaults=defaults,
            summary=self.summary,
            difficulty=None if self.contexts else splits.fewer_documents,
            version=self.version,
            abstention=self.abstention,
            contexts=self.contexts,
        )
        # Errors are raised here, with the user's line in the traceback, and not at the first `make`.
        PromptTemplate(task.config(defaults))
        return register_task(task)


class _Splits:
    """The splits of a custom task, each read once per process."""

    def __init__(self, task: CustomTask) -> None:
        self._task = task
        self._read: dict[str, Split] = {}
        self._lock = threading.Lock()

    def items(self, config: EnvConfig) -> Items:
        # Imported here, since registering must be quick and not load pyarrow.
        from atommem_gym.records.contexts import ContextItems, warn_of_shared
        from atommem_gym.records.items import RecordItems

        split = self._split(config)
        warn_of_shared(split, self._others(config))
        if self._task.contexts:
            return ContextItems(split, questions_per_episode=config.questions_per_episode)
        if any(split.contexts):
            raise ConfigError(
                f"the records of {self._task.name} have contexts; register it with CustomTask(…, contexts=True), so "
                "that each comes whole"
            )
        return RecordItems(
            split,
            num_docs=config.num_docs,
            questions_per_episode=config.questions_per_episode,
            order=config.order,
        )

    def _others(self, config: EnvConfig) -> list[Split]:
        """The other splits that are available: those of a folder, or those that were read before."""
        from atommem_gym.records.contexts import loadable
        from atommem_gym.records.sources import other_splits

        if config.source == REGISTERED:
            with self._lock:
                return [split for name, split in self._read.items() if name != config.split]
        others = other_splits(config.source, config.split)
        return loadable(others, lambda name: self._from_file(replace(config, split=name)))

    def fewer_documents(self, difficulty: float, config: EnvConfig) -> Mapping[str, Any]:
        """What ``difficulty=`` sets: ``num_docs``, from just above the most gold of an episode."""
        most = check_questions(config.questions_per_episode)[1]
        gold = int(np.sort(self._split(config).gold_counts)[-most:].sum())
        least = min(config.num_docs, gold + 1)
        return {"num_docs": least + round(difficulty * (config.num_docs - least))}

    def _split(self, config: EnvConfig) -> Split:
        return self._registered(config.split) if config.source == REGISTERED else self._from_file(config)

    def _from_file(self, config: EnvConfig) -> Split:
        from atommem_gym.records.sources import dataset_of, load_split

        if config.source in ("hub", "synthetic"):
            raise ConfigError(
                f"source={config.source!r} contradicts {self._task.name}, which has records of its own; leave it out, "
                "or give the path of a file"
            )
        split = copy.copy(load_split(dataset_of(config.source, config.split), config.source, config.split))
        split.dataset = self._task.name  # items are named after the task
        return split

    def _registered(self, name: str) -> Split:
        from atommem_gym.records.corpus import OWN, from_records

        with self._lock:
            if name not in self._read:
                found = from_records(self._task.name, name, self._parsed(self._given(name)))
                found.dataset_shape = OWN
                if not len(found):
                    raise ConfigError(f"{self._task.name} has no records for split={name!r}; `records` gave none")
                self._read[name] = found
            return self._read[name]

    def _given(self, split: str) -> OwnRecords:
        name, given = self._task.name, self._task.records
        if isinstance(given, str | Path):
            raise ConfigError(f"source={REGISTERED!r} contradicts {name}, whose records are in {given}; leave it out")
        if callable(given):
            return given(split)
        only = self._task.defaults.get("split", "train")
        if split != only:
            raise ConfigError(
                f"split={split!r}: {name} was registered with the records of {only!r} alone; give a function of the "
                "split's name for several splits"
            )
        return given

    def _parsed(self, given: OwnRecords) -> Iterator[Record]:
        for number, record in enumerate(given):
            try:
                found = record if isinstance(record, Record) else parse(record)
                check_dated(found.documents)
                yield found
            except RecordError as error:
                raise RecordError(f"{self._task.name}, record {number}: {error}") from error
