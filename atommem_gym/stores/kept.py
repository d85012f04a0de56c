"""Opens kept databases for reading, so that nothing in them can change."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.embedders.loading import CachedEmbedder, load_embedder
from atommem_gym.embedders.options import split_name
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.memory.memory import read_state
from atommem_gym.memory.protocols import Rows, Store, StoredEpisode
from atommem_gym.memory.ranking import rank
from atommem_gym.plugins.loading import is_plugin, module_of
from atommem_gym.stores.lite.ledger import COLLECTIONS, LOCK
from atommem_gym.trust import is_module_said, is_said, reaches_out, secret

_KEPT = "atommem"
"""The collection of kept rows on a server."""


class KeepsNothingError(StoreError):
    """A server that keeps no memory at all."""


@dataclass(frozen=True, slots=True)
class KeptMemory:
    """The memory of one episode."""

    key: str
    """The episode key."""
    stored: StoredEpisode
    """Its entries with their vectors, and its state as the database has it."""
    next_id: int
    """The id of the next entry."""
    scratchpad: str
    """The text of the scratchpad."""
    embedder: str
    """The name of the embedder that it was written with."""

    @property
    def entries(self) -> dict[int, str]:
        """Texts by ascending id."""
        return dict(zip(self.stored.ids.tolist(), self.stored.texts, strict=True))

    def search(self, query: str, embedder: CachedEmbedder, k: int) -> list[tuple[int, float, str]]:
        """Ids, cosine similarities and texts of the ``k`` entries most similar to the query, best first (SPEC M6).

        Args:
            query: The text of the query.
            embedder: The embedder that the memory was written with.
            k: Most entries to return.

        Raises:
            EmbedderError: the embedder failed.
        """
        vector = embedder.embed([query], "query")[0]
        texts = self.entries
        ids, scores = rank(vector, Rows(self.stored.ids, self.stored.vectors), k)
        return [(i, score, texts[i]) for i, score in zip(ids, scores, strict=True)]


class KeptDatabase:
    """The memories in a kept database; made by :func:`open_kept`.

    Args:
        where: The path or URL, for messages.
        embedder: The name of the embedder that it records.
        changed: When its files last changed; ``None`` for a server.
        store: The store to read from.
    """

    def __init__(self, where: str, embedder: str, changed: datetime | None, store: Store) -> None:
        self.where = where
        self.embedder = embedder
        self.changed = changed
        self.dim = store.dim
        self.store = store

    def list_keys(self) -> list[str]:
        """The keys of all memories, sorted."""
        return self.store.episodes()

    def memory(self, key: str) -> KeptMemory:
        """One memory with all its entries.

        Raises:
            StoreError: there is no memory under this key, or it cannot be read.
        """
        stored = self.store.load(key)
        if stored is None:
            raise StoreError(f"there is no memory {key!r} in {self.where}; {self._listed()}")
        next_id, scratchpad, embedder = read_state(key, stored.ids.tolist(), stored.state)
        return KeptMemory(key, stored, next_id, scratchpad, embedder)

    def chosen(self, key: str | None) -> str:
        """The full key of a memory.

        Args:
            key: A key or an unambiguous prefix of one; ``None`` means the only memory there is.

        Raises:
            ConfigError: no memory fits, or several do.
        """
        return chosen_key(self.where, self.list_keys(), key)

    def _listed(self) -> str:
        keys = self.list_keys()
        return f"it has {listed_keys(keys)}" if keys else "it keeps none"


def chosen_key(where: str, keys: Sequence[str], key: str | None) -> str:
    """The one of ``keys`` that is meant; see :meth:`KeptDatabase.chosen`."""
    found = [one for one in keys if one == key] or [one for one in keys if one.startswith(key or "")]
    if len(found) == 1:
        return found[0]
    if not keys:
        raise ConfigError(f"{where} keeps no memory yet; `atommem ask … --memory` writes one")
    if not found:
        there = f"there {'is' if len(keys) == 1 else 'are'} {listed_keys(keys, 3)}"
        raise ConfigError(f"no memory of {where} has a key that begins with {key!r}; {there}")
    what = "name one with --key" if key is None else f"--key {key!r} fits {len(found)} of them; name another"
    raise ConfigError(f"{where} keeps {len(keys)} memories; {what}: it has {listed_keys(keys)}")


def listed_keys(keys: Sequence[str], most: int = 8) -> str:
    """The first keys, for an error."""
    return f"{', '.join(keys[:most])}{' …' if len(keys) > most else ''}"


def is_server(where: str) -> bool:
    """Whether ``where`` names a server and not a folder."""
    return where.startswith(("http://", "https://"))


def folder_of(where: str) -> Path:
    """The folder of an existing database.

    Raises:
        StoreError: there is no such folder, or it is not a memory database.
    """
    path = Path(where.removeprefix("milvus://")).expanduser()
    if not path.exists():
        raise StoreError(f"there is no database {str(path)!r} (looked at {path.absolute()}); name the one to look into")
    if not (path / COLLECTIONS).is_dir():
        raise StoreError(f"{str(path)!r} is not a memory database; name a folder that `--memory` or `store=` made")
    return path


@contextlib.contextmanager
def open_kept(where: str) -> Iterator[KeptDatabase]:
    """Open the database at a path or a URL for reading.

    A database folder is locked against writers while it is copied, and read from the copy, since the engine writes even
    when it reads (it finishes what a killed process began, and rearranges its files).

    Args:
        where: ``notes.db``, ``milvus:///path/notes.db`` or ``http://host:19530``.

    Raises:
        StoreLockedError: another process is using the folder.
        StoreError: there is no database, or it cannot be read.
    """
    if is_server(where):
        with _server(where) as database:
            yield database
        return
    path = folder_of(where)
    with writable_copy(where) as copy:
        changed = max((file.stat().st_mtime for file in path.rglob("*") if file.name != LOCK), default=0.0)
        store, embedder = _open_copy(copy, str(path))
        try:
            yield KeptDatabase(str(path), embedder, datetime.fromtimestamp(changed, timezone.utc), store)
        finally:
            store.close()


def is_read_only(where: str) -> bool:
    """Whether a database folder or one of its files is not writable."""
    path = folder_of(where)
    return not all(os.access(one, os.W_OK) for one in (path, *path.rglob("*")))


@contextlib.contextmanager
def writable_copy(where: str) -> Iterator[str]:
    """A temporary copy of a database folder, since the engine can open only a writable one.

    Raises:
        StoreLockedError: another process is using the folder.
        StoreError: the database cannot be read, or does not hold what it acknowledged.
    """
    # The engine takes a second to import.
    from atommem_gym.stores.lite.verify import copied, held, verify

    path = str(folder_of(where))
    verify(path)
    with contextlib.ExitStack() as stack:
        with held(path):
            copy = stack.enter_context(copied(path))
        yield copy


def embedder_of(database: KeptDatabase, named: str | None, options: Mapping[str, Any] | None = None) -> CachedEmbedder:
    """Load the embedder that a database was written with.

    Args:
        database: Records the embedder's name.
        named: The value for ``embedder=``; ``None`` if the recorded name tells it.
        options: Values for ``embedder_options=``; those that the recorded name tells need not be given.

    Raises:
        ConfigError: ``named`` is another embedder, or is ``None`` and the recorded name does not tell enough.
    """
    recorded = database.embedder
    if named is None:
        named = embedder_keyword(recorded)
        if named is None:
            raise ConfigError(unnamed(database, "--embedder "))
    embedder = load_embedder(named, recorded_options(recorded) | dict(options or {}))
    if embedder.name != recorded:
        raise ConfigError(
            f"{database.where} was written with embedder {recorded!r}, but --embedder {named} is {embedder.name!r}: "
            f"their vectors cannot be compared; name the one it was written with{other_instruction(recorded)}"
        )
    return embedder


def embedder_keyword(recorded: str) -> str | None:
    """The value of ``embedder=`` that loads the embedder with this recorded name; ``None`` if it is not known.

    It is also ``None`` for a URL, a folder or a name on a hub that the user has not named: the database may come from a
    stranger.

    >>> embedder_keyword("hashing-v1-1024"), embedder_keyword("minilm"), embedder_keyword("endpoint:qwen")
    ('hashing', 'minilm', None)
    >>> embedder_keyword("http://localhost:8000/v1"), embedder_keyword("/models/mine"), embedder_keyword("BAAI/bge-m3")
    (None, None, None)
    >>> embedder_keyword("mine:Model#v2")
    """
    own = _own(recorded)
    if own is not None:
        return own if is_module_said(module_of(own)) else None
    name, _ = split_name(recorded)
    for built_in in ("hashing", "random"):
        if name.startswith(f"{built_in}-v"):
            return built_in
    if name.startswith("endpoint:") or (reaches_out(name) and not is_said(name)):
        return None
    return name


def _own(recorded: str) -> str | None:
    """The ``module:name`` in the recorded name of a custom embedder."""
    name = recorded.partition("#")[0]
    return name if is_plugin("embedder", name) and not recorded.startswith("endpoint:") else None


def recorded_options(recorded: str) -> dict[str, Any]:
    """The ``embedder_options=`` that the recorded name of an embedder tells: all except an instruction.

    >>> recorded_options("minilm:dimensions-128"), recorded_options("hashing-v1-256"), recorded_options("minilm")
    ({'dimensions': 128}, {'dimensions': 256}, {})
    """
    name, options = split_name(recorded)
    size = _HASHING.fullmatch(name)
    if size is not None and int(size[1]) != HashingEmbedder().dim:
        options["dimensions"] = int(size[1])
    return options


_HASHING = re.compile(r"hashing-v\d+-(\d{1,9})")


def other_instruction(recorded: str) -> str:
    """The part of a message that asks for the instruction, if the recorded name holds the hash of one."""
    if ":query-" not in recorded:
        return ""
    return ', and its instruction by the embedder options {"instruction": "…"}'


def unnamed(database: KeptDatabase, option: str) -> str:
    """The message that asks the user to name the embedder of a database, with the command-line ``option`` for it."""
    recorded = database.embedder
    if recorded.startswith("endpoint:"):
        return (
            f"{database.where} was written with embedder {recorded!r}, a model behind a server; say where it is now "
            f"with {option}http://host:port/v1"
        )
    own = _own(recorded)
    if own is not None:
        return (
            f"{database.where} names the embedder {recorded!r}, whose module is not imported only because a database "
            f"says so; if you trust its code, say it again with {option}{own}, or add --import {module_of(own)}"
        )
    return (
        f"{database.where} names the embedder {recorded!r}, which is not called or opened only because a database says "
        f"so; if you mean it, say it again with {option}{split_name(recorded)[0]}"
    )


def _open_copy(copy: str, where: str) -> tuple[Store, str]:
    from atommem_gym.stores.lite.databases import acquire, release
    from atommem_gym.stores.lite.store import MilvusLiteStore

    database = acquire(copy)
    try:
        table = database.table(1)
        dim, embedder = table.dim, table.embedder()
        if not embedder:
            raise StoreError(f"the database {where!r} records no embedder, so it was not written by this package")
        return MilvusLiteStore(copy, dim, embedder=embedder), embedder
    finally:
        release(database)


@contextlib.contextmanager
def _server(url: str) -> Iterator[KeptDatabase]:
    from pymilvus import MilvusClient
    from pymilvus.exceptions import MilvusException

    from atommem_gym.stores.milvus_connection import CONNECT_TIMEOUT_S
    from atommem_gym.stores.milvus_rows import META_EPISODE, TEXT, VECTOR, key_of, read_meta
    from atommem_gym.stores.milvus_server import MilvusServerStore

    try:
        client = MilvusClient(url, token=secret("MILVUS_TOKEN", url) or "", timeout=CONNECT_TIMEOUT_S, dedicated=True)
        try:
            # Opening a store would make the collection.
            if not client.has_collection(_KEPT, timeout=CONNECT_TIMEOUT_S):
                raise KeepsNothingError(f"the Milvus server {url} keeps no memory (it has no collection {_KEPT!r})")
            fields: dict[str, Any] = {field["name"]: field for field in client.describe_collection(_KEPT)["fields"]}
            client.load_collection(_KEPT)
            meta = client.get(_KEPT, [key_of(META_EPISODE, 0)], output_fields=[TEXT])
        finally:
            client.close()
    except MilvusException as error:
        raise StoreError(f"the Milvus server {url} cannot be read: {error.message}; check that it runs") from error
    if VECTOR not in fields or not meta:
        raise StoreError(f"the collection {_KEPT!r} at {url} was not written by this package")
    embedder, _ = read_meta(meta[0][TEXT], url)
    store = MilvusServerStore(url, int(fields[VECTOR]["params"]["dim"]), keep=True, embedder=embedder)
    try:
        yield KeptDatabase(store.name, embedder, None, store)
    finally:
        store.close()
