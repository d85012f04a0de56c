"""Deletes kept memories for good, whole or entry by entry, and exports them as plain values (SPEC M16)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.memory.protocols import StoredEpisode, Write
from atommem_gym.stores.kept import folder_of, is_server, open_kept


def purge(where: str, key: str | None = None, entry: int | None = None) -> int:
    """Delete one kept memory, one of its entries or, without a key, all memories of a database.

    Deleted means gone from the disk: on return no file of the database folder holds the text or the vector. A server
    removes rows from its own files in its own time.

    Args:
        where: ``notes.db``, ``milvus:///path/notes.db`` or ``http://host:19530``.
        key: The key of the memory; ``None`` means all.
        entry: The id of one entry of it; the id is never used again.

    Returns:
        How many memories (or entries, if ``entry`` is given) were deleted.

    Raises:
        ConfigError: an entry without a key.
        StoreLockedError: another process has the database open.
        StoreError: there is no such database, memory or entry, or the database is damaged or open in this process.
    """
    if entry is not None and key is None:
        raise ConfigError(f"entry {entry} of which memory? give its key, too; entries count from 1 in each memory")
    if is_server(where):
        with open_kept(where) as database:
            return _purge(database.store, where, key, entry)
    path = str(folder_of(where))
    # The engine takes a second to import.
    from atommem_gym.stores.lite.databases import acquire, is_open, release

    if is_open(path):
        raise StoreError(
            f"the database {path!r} is open in this process, and files of an open one cannot be cleared; close the "
            "environments and stores that use it first"
        )
    opened = acquire(path)
    try:
        table = opened.table(1)
        done = _purge(table, path, key, entry)
        # Closing compacts too, but only logs a failure.
        table.collection.compact()
        return done
    finally:
        release(opened)


def export_memory(where: str, key: str | None = None, *, vectors: bool = False) -> list[dict[str, Any]]:
    """One kept memory, or all memories of a database, as plain values; also from a damaged database.

    Each is a dictionary of ``key``; ``next_id``, ``scratchpad``, ``embedder`` (``None`` if they cannot be read);
    ``entries`` (``id``, ``text``, with ``vectors`` also ``vector``; ``intact`` says whether it matches what was
    acknowledged, ``None`` if that was not recorded); and ``missing`` (ids that were acknowledged and are gone).

    Args:
        where: ``notes.db``, ``milvus:///path/notes.db`` or ``http://host:19530``.
        key: The key of the memory; ``None`` means all.
        vectors: Whether to include the vectors.

    Raises:
        StoreLockedError: another process has the database open.
        StoreError: there is no such database or memory, or nothing of it can be read.
    """
    if is_server(where):
        with open_kept(where) as database:
            kept = {one: database.memory(one).stored for one in database.list_keys() if key in (None, one)}
        _check_found(kept, where, key)
        return [_exported(one, episode, None, vectors) for one, episode in kept.items()]
    path = str(folder_of(where))
    from atommem_gym.stores.lite.ledger import Contents, Ledger
    from atommem_gym.stores.lite.verify import copied, held, read_rows
    from atommem_gym.stores.milvus_rows import META_EPISODE, stored

    with held(path), copied(path) as copy:
        try:
            ledger = Ledger.read(copy, path)
        except StoreError:
            # A damaged ledger proves nothing: each entry is exported with ``intact`` unknown.
            ledger = None
        rows, dim = read_rows(copy, path)
    rows.pop(META_EPISODE, None)
    memories = {} if ledger is None else ledger.memories
    found: dict[str, StoredEpisode | None] = {}
    for one in sorted(rows.keys() | memories.keys()):
        if key in (None, one):
            try:
                found[one] = stored(rows.get(one, []), dim)
            except (StoreError, ValueError, KeyError, TypeError):
                # The head cannot be read; the entries can.
                found[one] = stored([row for row in rows[one] if row["entry"] > 0], dim)
    _check_found(found, path, key)
    said = {one: memories.get(one, [Contents()]) for one in found}
    return [_exported(one, found[one], None if ledger is None else said[one][0].entries, vectors) for one in found]


def _purge(store: Any, where: str, key: str | None, entry: int | None) -> int:
    keys = store.episodes()
    if key is None:
        store.drop(keys)
        return len(keys)
    if key not in keys:
        raise StoreError(f"there is no memory {key!r} in {where}; it has {', '.join(keys) or 'none'}")
    if entry is None:
        store.drop([key])
        return 1
    ids = store.load(key).ids.tolist()
    if entry not in ids:
        raise StoreError(f"the memory {key!r} in {where} has no entry {entry}; it has {', '.join(map(str, ids))}")
    store.write([Write(key, deletes=[entry])])
    return 1


def _check_found(found: Mapping[str, object], where: str, key: str | None) -> None:
    if key is not None and key not in found:
        raise StoreError(f"there is no memory {key!r} in {where}; `atommem memory ls` lists those there are")


def _exported(key: str, stored: StoredEpisode | None, sums: dict[int, int] | None, vectors: bool) -> dict[str, Any]:
    from atommem_gym.stores.lite.ledger import checksum

    entries = []
    for i, text, vector in zip(stored.ids.tolist(), stored.texts, stored.vectors, strict=True) if stored else ():
        intact = None if sums is None else sums.get(i) == checksum(key, i, text, vector)
        value = {"id": i, "text": text, "intact": intact}
        entries.append({**value, "vector": vector.tolist()} if vectors else value)
    try:
        state = dict(json.loads((stored.state if stored else None) or "{}"))
    except (ValueError, TypeError, RecursionError):
        state = {}
    there = {value["id"] for value in entries}
    return {
        "key": key,
        **{name: state.get(name) for name in ("next_id", "scratchpad", "embedder")},
        "entries": entries,
        "missing": sorted((sums or {}).keys() - there),
    }
