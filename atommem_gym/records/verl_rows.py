"""Rows for veRL and SkyRL: which episode to play, without its documents, with a hash that detects changed data."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from atommem_gym.errors import ConfigError, check_integer
from atommem_gym.files.strict_json import strict_json
from atommem_gym.plugins.loading import module_of, plugins_in
from atommem_gym.records.formats.fields import shown
from atommem_gym.records.record import Item, Items
from atommem_gym.trust import check_no_secrets, unsaid

AGENT_NAME = "atommem"
"""The name of the agent loop that plays the rows, in veRL's list of agent loops."""

SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "agent_name": pa.string(),
        "prompt": pa.list_(pa.struct({"role": pa.string(), "content": pa.string()})),
        "ability": pa.string(),
        "reward_model": pa.struct({"style": pa.string(), "ground_truth": pa.string()}),
        "extra_info": pa.struct(
            {
                "part": pa.string(),
                "index": pa.int64(),
                "shuffle_seed": pa.int64(),
                "rows_an_epoch": pa.int64(),
                "env_id": pa.string(),
                "env_keywords": pa.string(),
                "item": pa.string(),
                "item_hash": pa.string(),
            }
        ),
    }
)
"""The columns that veRL's ``RLHFDataset`` reads. ``env_keywords`` is JSON; ``prompt`` names the item for logs."""

_LONGEST, _LARGEST = 10_000, 2**63 - 1
"""Characters of a text in a row, and the largest number that its columns hold."""
POOL_PARAMETERS = frozenset(
    {"env_id", "capacity", "items", "max_batch", "max_wait_ms", "items_ahead", "shaping", "credit"}
)
"""Parameters of ``AtomMemPool`` that are not keyword arguments of environments; a row may not set them."""

SKYRL_ENV_CLASS = "atommem"
"""The name under which SkyRL groups the metrics of these rows."""

SKYRL_SCHEMA = pa.schema(
    {
        "data_source": pa.string(),
        "prompt": SCHEMA.field("prompt").type,
        "env_class": pa.string(),
        "reward_spec": pa.struct({"method": pa.string(), "ground_truth": pa.string()}),
        "extra_info": SCHEMA.field("extra_info").type,
    }
)
"""The columns that SkyRL's ``PromptDataset`` reads: the same values in other columns."""


@dataclass(frozen=True, slots=True)
class ItemReference:
    """The episode that a row refers to.

    >>> ItemReference("AtomMem-Synthetic-v0", {}, 3, "synthetic/3", "", rows_an_epoch=16).layout(5)
    5
    """

    env_id: str
    """The id of the environment."""
    env_keywords: Mapping[str, Any]
    """Keyword arguments of the environment, as JSON values."""
    index: int
    """The index of the item."""
    item: str
    """The item's id."""
    item_hash: str
    """:func:`item_hash` of the item when the row was written."""
    shuffle_seed: int = 0
    """The layout; if ``rows_an_epoch`` is not 0, the number to which the training step is added."""
    part: str = "train"
    """``train`` or ``validation``, for logs."""
    rows_an_epoch: int = 0
    """Rows in the file, if an item gets another layout in every training step; 0: always the same layout."""

    @classmethod
    def from_extra_info(cls, extra_info: Mapping[str, Any]) -> ItemReference:
        """Read a reference from the column ``extra_info`` of a row.

        Raises:
            ConfigError: the row was not written by `atommem data verl` or `atommem data skyrl`.
        """
        try:
            env_keywords = strict_json(extra_info["env_keywords"])
            if not isinstance(env_keywords, dict):
                raise TypeError(f"env_keywords={env_keywords!r:.80} must be a JSON object")
            texts = {name: extra_info[name] for name in ("env_id", "item", "item_hash", "part")}
            for name, text in texts.items():
                if not isinstance(text, str) or len(text) > _LONGEST:
                    raise TypeError(f"{name}={text!r:.80} must be a text of at most {_LONGEST} characters")
            numbers = {
                name: check_integer(name, extra_info[name], 0, _LARGEST, numpy=True)
                for name in ("index", "shuffle_seed", "rows_an_epoch")
            }
            return cls(
                env_id=texts["env_id"],
                env_keywords=env_keywords,
                index=numbers["index"],
                item=texts["item"],
                item_hash=texts["item_hash"],
                shuffle_seed=numbers["shuffle_seed"],
                part=texts["part"],
                rows_an_epoch=numbers["rows_an_epoch"],
            )
        except (KeyError, TypeError, ValueError, OverflowError, RecursionError) as error:
            raise ConfigError(
                f"extra_info={shown(extra_info, 300)} of a row names no item ({type(error).__name__}: "
                f"{str(error)[:200]}); write the data with `atommem data verl` or `atommem data skyrl`"
            ) from error

    def as_extra_info(self) -> dict[str, Any]:
        """The column ``extra_info`` of a row; :meth:`from_extra_info` is the inverse."""
        return {
            "part": self.part,
            "index": self.index,
            "shuffle_seed": self.shuffle_seed,
            "rows_an_epoch": self.rows_an_epoch,
            "env_id": self.env_id,
            "env_keywords": json.dumps(dict(self.env_keywords), sort_keys=True),
            "item": self.item,
            "item_hash": self.item_hash,
        }

    def layout(self, global_step: int) -> int:
        """The ``shuffle_seed`` at a training step (SPEC E8): the same for a GRPO group, different in every step.

        An item occurs again in another epoch, hence in another step, however many prompts a step takes.

        Args:
            global_step: veRL's step, from 1, in which the prompt was drawn; the same for all its sessions.
        """
        return self.shuffle_seed + (global_step if self.rows_an_epoch else 0)

    def check_trust(self, imports: Collection[str], env_keywords: Mapping[str, Any], template: str | None) -> None:
        """Check that the row alone causes no import, open or call, since it may come from a stranger.

        Args:
            imports: Modules that the user has named.
            env_keywords: Keyword arguments that the user gives, which override those of the row.
            template: The user's prompt template, if there is one.

        Raises:
            ConfigError: see :meth:`check_code` and :meth:`check_keywords`.
        """
        self.check_code(imports, env_keywords)
        self.check_keywords({**env_keywords, "template": template})

    def check_code(self, imports: Collection[str], overrides: Collection[str] = ()) -> None:
        """Check that the row names no module that the user has not named: it may come from a stranger.

        >>> reference = ItemReference("AtomMem-Synthetic-v0", {"dialect": "mine:lines"}, 3, "synthetic/3", "")
        >>> reference.check_code(["mine"])

        Args:
            imports: Modules that the user has named.
            overrides: Names of keyword arguments that are not taken from the row.

        Raises:
            ConfigError: the row names a module that is not in ``imports``.
        """
        for name, value in plugins_in(self.env_keywords).items():
            module = module_of(value)
            if name not in overrides and module not in imports:
                raise ConfigError(
                    f"a row names {name}={value!r}, whose module is not imported only because a row says so; if you "
                    f"trust its code, name the module in the settings of the agent loop or generator, "
                    f"imports: [{module}]"
                )

    def check_keywords(self, named: Mapping[str, Any]) -> None:
        """Check that the user has given everything that the row would open or call.

        Args:
            named: Keyword arguments that the user gives, which override those of the row.

        Raises:
            ConfigError: the row names a server, folder, file, model or settings of a reader, and the user does not;
                or it names a parameter of the pool, which is not a keyword argument of an environment.
        """
        for name in self.env_keywords:
            if name in POOL_PARAMETERS:
                raise ConfigError(
                    f"the row of {self.item!r} names {name}={self.env_keywords[name]!r}, which is not a keyword "
                    "argument of an environment; write the data with `atommem data verl` or `atommem data skyrl`"
                )
        given = {name for name, value in named.items() if value is not None}
        # They may name the environment variable of a key, and data to send to the server.
        options = [(name, value) for name, value in self.env_keywords.items() if name == "reader_options" and value]
        for name, value in [*unsaid(self.env_keywords), *options]:
            if name not in given:
                where = "template" if name == "template" else f"env_keywords.{name}"
                raise ConfigError(
                    f"the row of {self.item!r} names {name}={value!r}, which is not opened or called only "
                    f"because a row says so; if you mean it, write it into the configuration of the agent loop or "
                    f"generator ({where})"
                )

    def check(self, item: Item) -> None:
        """Check that an item is the one that the row was made of.

        Raises:
            ConfigError: it has another id, or its questions, answers or evidence have changed.
        """
        found = item_hash(item)
        if (item.id, found) != (self.item, self.item_hash):
            raise ConfigError(
                f"item {self.index} of {self.env_id} is {item.id!r} (hash {found}), but the row was made of "
                f"{self.item!r} (hash {self.item_hash}): the source or a keyword argument has changed; "
                "write the data again with `atommem data verl` or `atommem data skyrl`"
            )


def item_hash(item: Item) -> str:
    """A hash of an item's questions, answers, evidence and erased codes; the same in every layout and every process.

    >>> from atommem_gym.worlds.synthetic import SyntheticItems
    >>> items = SyntheticItems(num_docs=20)
    >>> item_hash(items.item(0, shuffle_seed=1)) == item_hash(items.item(0)) != item_hash(items.item(1))
    True
    """
    questions = sorted(
        [
            question.id,
            question.question,
            list(question.answers),
            sorted([one.title, one.text, one.hop_answer] for one in question.evidence),
        ]
        for question in item.questions
    )
    text = json.dumps([item.id, questions, *([item.erased] if item.erased else [])], ensure_ascii=True)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def references(
    env_id: str,
    env_keywords: Mapping[str, Any],
    items: Items,
    indices: Sequence[int],
    *,
    shuffle_seed: int = 0,
    part: str = "train",
) -> Iterator[tuple[ItemReference, Item]]:
    """Make references to items; those of the part ``train`` get another layout in every training step.

    Args:
        env_id: The environment's id.
        env_keywords: The environment's keyword arguments, as JSON values.
        items: The environment's items.
        indices: The indices of the items to refer to.
        shuffle_seed: The layout, or the number to which the training step is added.
        part: ``train`` or ``validation``.

    Yields:
        Each reference with its item.

    Raises:
        ConfigError: a keyword argument holds a password or key, which must not be written to a file.
    """
    check_no_secrets(env_keywords)
    rows = len(indices) if part == "train" else 0
    for index in indices:
        item = items.item(index, shuffle_seed)
        reference = ItemReference(env_id, env_keywords, index, item.id, item_hash(item), shuffle_seed, part, rows)
        yield reference, item


def row(reference: ItemReference, item: Item, data_source: str) -> dict[str, Any]:
    """A row for veRL, with the columns of ``SCHEMA``.

    Args:
        reference: The reference to the item.
        item: The item, for its answers, which veRL shows in its tables.
        data_source: The name by which veRL groups its validation metrics.
    """
    return {
        "data_source": data_source,
        "agent_name": AGENT_NAME,
        "prompt": [{"role": "user", "content": f"{reference.env_id}, item {reference.item}"}],
        "ability": "memory",
        "reward_model": {
            "style": "environment",
            "ground_truth": json.dumps([question.answer for question in item.questions], ensure_ascii=False),
        },
        "extra_info": reference.as_extra_info(),
    }


def skyrl_row(reference: ItemReference, item: Item, data_source: str) -> dict[str, Any]:
    """A row for SkyRL, with the columns of ``SKYRL_SCHEMA``; the arguments are those of :func:`row`."""
    verl = row(reference, item, data_source)
    model = verl["reward_model"]
    return {
        "data_source": verl["data_source"],
        "prompt": verl["prompt"],
        "env_class": SKYRL_ENV_CLASS,
        "reward_spec": {"method": model["style"], "ground_truth": model["ground_truth"]},
        "extra_info": verl["extra_info"],
    }


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], schema: pa.Schema = SCHEMA) -> int:
    """Write rows as Parquet and return their number.

    Args:
        path: The file.
        rows: Rows with the columns of ``schema``.
        schema: ``SCHEMA`` or ``SKYRL_SCHEMA``.

    Raises:
        OSError: the file cannot be written; an existing file is unchanged.
    """
    table = pa.Table.from_pylist([dict(one) for one in rows], schema=schema)
    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(table, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return int(table.num_rows)
