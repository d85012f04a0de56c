"""Checks that a kept database still holds what it acknowledged, without changing anything in it (SPEC M17)."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator

from milvus_lite import MilvusLite

from atommem_gym.errors import EmbedderError, StoreError
from atommem_gym.memory.protocols import StoredEpisode
from atommem_gym.stores.lite.engine import Row, close_engine, held_by_another
from atommem_gym.stores.lite.ledger import COLLECTIONS, LOCK, Contents, Ledger, checksum_of_text, how_to_save
from atommem_gym.stores.lite.table import LiteTable
from atommem_gym.stores.milvus_rows import ENTRY, EPISODE, KEY, META_EPISODE, TEXT, key_of, read_meta, stored
from atommem_gym.stores.write_checks import check_vectors

SHARED = "atommem"
"""The collection of a kept database."""


def verify(path: str) -> Ledger | None:
    """Check that a database folder holds what was last acknowledged, in a known format, and return its ledger.

    A sealed database is compared file by file. Any other one, whose process died, is read from a copy: the engine
    writes even when it reads, and a damaged database must stay unchanged. ``None`` for a folder that does not exist,
    and for a database from before there were ledgers.

    Raises:
        StoreLockedError: another process holds it.
        StoreError: it is damaged, holds a link, or has a newer format.
    """
    if not os.path.isdir(path):
        return None
    _check_no_links(path)
    with held(path):
        ledger = Ledger.read(path)
        if ledger is None and not _has_collections(path):
            return None
        if ledger is not None and ledger.sealed is not None and ledger.sealed == ledger.files():
            return ledger
        with copied(path) as copy:
            said = examine(copy, path, ledger)
    if said:
        raise StoreError(f"the database {path!r} is damaged: {said}; " + how_to_save(path))
    return ledger


def _check_no_links(path: str) -> None:
    """Refuse a folder with links: they may lead to somebody's files, which would be read and written."""
    for root, folders, names in os.walk(path):
        for name in (*folders, *names):
            if os.path.islink(os.path.join(root, name)):
                raise StoreError(
                    f"the database {path!r} holds the link {os.path.relpath(os.path.join(root, name), path)!r}, which "
                    "no database has; replace the link by the file if you trust what it leads to"
                )


def examine(copy: str, where: str, ledger: Ledger | None) -> str:
    """What is wrong with a database, in words; empty if nothing is.

    Args:
        copy: A copy of the database folder.
        where: The database, for messages.
        ledger: Its ledger; ``None`` if it has none.

    Raises:
        StoreError: the engine cannot read it, or it has a newer format.
    """
    found, dim = read_rows(copy, where)
    try:
        meta = found.pop(META_EPISODE, [])
        version = read_meta(meta[0][TEXT], where)[1] if meta else 1
        episodes = {key: stored_of(key, rows, dim, zero=ledger is not None) for key, rows in found.items()}
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        return f"a row cannot be read ({error})"
    if ledger is None:
        if version >= 2:
            return "the file that notes what was acknowledged is missing"
        return ""
    said = []
    if ledger.meta is not None and (not meta or checksum_of_text(meta[0][TEXT]) != ledger.meta):
        said.append("the row that describes it (format, embedder) is not the one that was written")
    held_now = {key: Contents.of(key, episode) for key, episode in episodes.items() if episode is not None}
    said.extend(filter(None, [ledger.settle(held_now)]))
    return "; ".join(said)


def read_rows(copy: str, where: str) -> tuple[dict[str, list[Row]], int]:
    """All rows in a copy of a database by episode key, and the dimension of their vectors.

    Raises:
        StoreError: the engine cannot read it.
    """
    try:
        engine = MilvusLite(copy)
        collections = []
        try:
            if not engine.has_collection(SHARED) and not engine.list_collections():
                return {}, 1
            table = LiteTable(engine, copy, SHARED, 1, kept=True)
            collections.append(table.collection)
            rows: dict[str, list[Row]] = {}
            for row in table.collection.everything():
                if row[KEY] != key_of(row[EPISODE], row[ENTRY]):
                    raise ValueError(f"the row {row[KEY]!r} says that it is entry {row[ENTRY]} of {row[EPISODE]!r}")
                rows.setdefault(row[EPISODE], []).append(row)
            return rows, table.dim
        finally:
            close_engine(engine, collections, flush=False)
    except Exception as error:
        # The engine and the libraries beneath it raise exceptions of any kind on files that are damaged.
        cause = error.__cause__ if isinstance(error, StoreError) and error.__cause__ is not None else error
        raise StoreError(
            f"the database {where!r} is damaged: Milvus Lite cannot read it ({type(cause).__name__}: {cause}); "
            + how_to_save(where)
        ) from error


def stored_of(key: str, rows: list[Row], dim: int, *, zero: bool) -> StoredEpisode | None:
    """What is kept of a memory, read from its rows.

    Args:
        key: The key of the memory.
        rows: All its rows.
        dim: Numbers in a vector.
        zero: Whether a vector may be zero because it was written so. Without a checksum a zero vector counts as damage:
            numbers too small for float32.

    Raises:
        ValueError: its head cannot be read, or a vector is not finite, is too long or too short to be compared, or is
            zero and may not be.
    """
    try:
        found = stored(rows, dim)
    except StoreError as error:
        raise ValueError(f"memory {key!r}: {error}") from error
    if found is not None and len(found.ids):
        try:
            squares = check_vectors(found.vectors, len(found.ids), dim)
        except EmbedderError as error:
            raise ValueError(f"memory {key!r}: {error}") from error
        if not zero and 0.0 in squares:
            raise ValueError(f"memory {key!r}: the vector of entry {found.ids[squares.index(0.0)]} is zero")
    return found


@contextlib.contextmanager
def copied(path: str) -> Iterator[str]:
    """A temporary copy of a database folder; the caller holds the folder (:func:`held`).

    Raises:
        StoreError: a file cannot be read or copied.
    """
    with tempfile.TemporaryDirectory(prefix="atommem-look-") as folder:
        copy = os.path.join(folder, "copy.db")
        try:
            shutil.copytree(path, copy)
        except OSError as error:
            raise StoreError(f"the database {path!r} cannot be read ({error}); check its rights") from error
        # The copy of a read-only folder is read-only, too.
        for root, folders, names in os.walk(copy):
            for name in (".", *folders, *names):
                with contextlib.suppress(OSError):
                    os.chmod(os.path.join(root, name), 0o700)
        yield copy


@contextlib.contextmanager
def held(path: str) -> Iterator[None]:
    """Keep every other process from opening the database folder during the block.

    Raises:
        StoreLockedError: another process has it open.
    """
    if sys.platform == "win32":
        # A file that a writer has locked there cannot be copied, which raises an error anyway.
        yield
        return
    import fcntl

    try:
        # A read-only handle is enough for a shared lock.
        handle = os.open(os.path.join(path, LOCK), os.O_RDONLY)
    except (FileNotFoundError, NotADirectoryError):
        # A copy of a database that no process has opened yet.
        yield
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise held_by_another(path) from error
        yield
    finally:
        os.close(handle)


def _has_collections(path: str) -> bool:
    folder = os.path.join(path, COLLECTIONS)
    return os.path.isdir(folder) and any(os.scandir(folder))
