"""Which memory `atommem ask` goes on with, or where it begins one."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from atommem_gym.embedders.loading import load_embedder
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.plugins.loading import is_plugin
from atommem_gym.records.own_files import OwnFiles
from atommem_gym.stores.kept import (
    KeepsNothingError,
    KeptDatabase,
    embedder_keyword,
    is_read_only,
    is_server,
    open_kept,
    other_instruction,
    recorded_options,
    unnamed,
    writable_copy,
)


@dataclass(frozen=True, slots=True)
class Memory:
    """Where the entries are stored."""

    keywords: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of the environment."""
    key: str | None = None
    """The memory to go on with; ``None`` begins one."""
    embedder: str | None = None
    """What ``embedder=`` must be to go on with it, as far as the database tells."""
    embedder_options: dict[str, Any] | None = None
    """What ``embedder_options=`` must be then."""

    @property
    def embedding(self) -> dict[str, Any]:
        """The keyword arguments of the environment that go on with its vectors; empty where any do."""
        if self.embedder is None:
            return {}
        return {"embedder": self.embedder, "embedder_options": self.embedder_options}


def find_memory(
    where: str | None,
    key: str | None,
    *,
    new: bool,
    settings: Mapping[str, Any],
) -> Memory:
    """The memory that the command line means.

    Args:
        where: The database; ``None`` for one that is gone at the end.
        key: Of the memory, if it was given.
        new: Whether to begin a memory even if there is one.
        settings: What ``--set`` says; ``embedder`` and ``embedder_options`` of it count here.

    Raises:
        ConfigError: the database keeps several memories, or none of this key; or the embedder is another one.
        StoreError: it cannot be read.
    """
    if where is None:
        return Memory()
    keywords = _keywords(where)
    if not _exists(where):
        if key is not None:
            raise ConfigError(f"--key {key} goes on with a memory, but there is no database {where} yet")
        return Memory(keywords)
    with open_kept(where) as database:
        wanted = settings.get("embedder") or embedder_keyword(database.embedder)
        if wanted is None:
            raise ConfigError(unnamed(database, "--set embedder="))
        options = recorded_options(database.embedder) | dict(settings.get("embedder_options") or {})
        _check_embedder(database, wanted, options)
        begins = new or (key is None and not database.list_keys())
        return Memory(keywords, None if begins else database.chosen(key), wanted, options or None)


def without_kept(files: OwnFiles, where: str, key: str) -> tuple[OwnFiles, tuple[str, ...]]:
    """The files without the passages that an entry of the memory holds whole, under the same heading.

    Args:
        files: What was read.
        where: The database.
        key: Of the memory that is gone on with.

    Returns:
        What is left to read, and the names of the files that passages were left out of.

    Raises:
        StoreError: the memory cannot be read.
    """
    with open_kept(where) as database:
        kept = set(database.memory(key).entries.values())
    # Just as agents store a passage; a model's own words never equal one, and the file is then read again.
    known = [document for document in files.documents if f"{document.title}\n{document.text}" in kept]
    if not known:
        return files, ()
    left = tuple(document for document in files.documents if document not in known)
    names = tuple(dict.fromkeys(document.title.rpartition(", ")[0] or document.title for document in known))
    return dataclasses.replace(files, documents=left), names


@contextlib.contextmanager
def answering_from(memory: Memory, where: str | None) -> Iterator[tuple[Memory, str | None]]:
    """The memory for questions alone: where the database cannot be written, a copy that is gone at the end.

    Args:
        memory: What :func:`find_memory` found.
        where: The database.

    Yields:
        The memory to use, and what to tell the user about it.
    """
    folder = memory.key is not None and where is not None and not is_server(where)
    if not folder or not is_read_only(str(where)):
        yield memory, None
        return
    with writable_copy(str(where)) as copy:
        note = f"{where} cannot be written: it answers, but what is stored while answering is not kept"
        yield dataclasses.replace(memory, keywords={**memory.keywords, "store": f"milvus://{copy}"}), note


def _keywords(where: str) -> dict[str, Any]:
    if where.startswith(("http://", "https://")):
        return {"store": where, "keep_memory": True}
    path = where.removeprefix("milvus://")
    if is_plugin("store", where) and not Path(path).exists():
        raise ConfigError(
            f"--memory {where} names a store of your own, and a memory to go on with is a Milvus database; write for "
            f"instance --memory notes.db, or keep nothing with --set store={where}"
        )
    if not path:
        raise ConfigError(f"--memory {where!r} names no folder; write for instance --memory notes.db")
    return {"store": f"milvus://{Path(path).expanduser().absolute()}"}


def _exists(where: str) -> bool:
    if where.startswith(("http://", "https://")):
        try:
            with open_kept(where):
                return True
        except KeepsNothingError:
            return False
    path = Path(where.removeprefix("milvus://")).expanduser()
    if path.is_dir():
        return any(path.iterdir())
    if path.exists():
        raise StoreError(f"--memory {where} is a file; a memory database is a folder: name another one")
    return False


def _check_embedder(database: KeptDatabase, wanted: str, options: Mapping[str, Any]) -> None:
    name = load_embedder(wanted, options).name
    if name != database.embedder:
        raise ConfigError(
            f"{database.where} was written with embedder {database.embedder!r}, but embedder={wanted} is {name!r}: "
            "their vectors cannot be compared; leave --set embedder out, or keep the memory in another database"
            + other_instruction(database.embedder)
        )
