"""The only module that knows the internals of the Milvus Lite engine: one writer, rollback of failed writes, forks.

It relies on these facts about milvus-lite 3.2 (read in its source, tested in ``tests/stores/test_milvus_lite.py``):

- Its log has no lock: two threads that write one collection tear it, and recovery stops at the first torn record. So
  every call goes through one lock, reads too (a flush swaps two structures that a search reads one after the other).
- A write that fails half way (disk full) leaves a torn record, and everything appended after it would be lost at the
  next recovery. A flush that fails leaves the rows only in the log, and the next flush deletes that log. So after any
  failure the collection object is abandoned without a flush, the log is cut back to its length before the call, and the
  next call opens the collection anew from disk.
- A flush commits its rows to the manifest, then deletes their log. A process that dies between the two leaves a log
  whose rows the next opening would have twice; after a death between the log's two files it could not flush again. So
  logs older than the one that the manifest names are deleted before a collection is opened.
- What was deleted or replaced stays in its Parquet files until enough of them are merged; ``compact`` merges all.
- It never calls fsync while writing: acknowledged rows survive the death of the process, not of the machine.
- The lock on the folder belongs to an open file that a fork shares: a child that kept it would keep the database
  locked after its parent's end.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import pyarrow as pa
import pyarrow.parquet as pq
from milvus_lite import (
    Collection,
    CollectionSchema,
    DataDirLockedError,
    DataType,
    FieldSchema,
    MilvusLite,
    MilvusLiteError,
)
from milvus_lite.constants import SEQ_FORMAT_WIDTH, WAL_DATA_TEMPLATE, WAL_DELTA_TEMPLATE
from milvus_lite.db import DEFAULT_DATABASE_NAME, SCHEMA_FILENAME
from milvus_lite.storage.manifest import Manifest
from milvus_lite.storage.wal import WAL

from atommem_gym.errors import StoreError, StoreLockedError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES
from atommem_gym.stores.milvus_rows import ENTRY, EPISODE, KEY, MAX_EPISODE_CHARS, MAX_KEY_CHARS, TEXT, VECTOR

Row: TypeAlias = dict[str, Any]

_LOG_FILES = (WAL_DATA_TEMPLATE, WAL_DELTA_TEMPLATE)
_ENGINE_ERRORS = (OSError, MilvusLiteError, pa.ArrowException, RuntimeError)


def open_engine(path: str) -> MilvusLite:
    """Open and lock the database folder ``path``, making it if needed.

    Raises:
        StoreLockedError: another process holds it.
        StoreError: it cannot be made or read.
    """
    try:
        return MilvusLite(path)
    except DataDirLockedError as error:
        raise held_by_another(path) from error
    except FileExistsError as error:
        raise StoreError(
            f"the database {path!r} cannot be a folder because a file of that name (or on the way to it) exists; "
            "Milvus Lite 3 keeps a folder: choose another path or move the file away"
        ) from error
    except _ENGINE_ERRORS as error:
        forbidden = next((one for one in (Path(path), *Path(path).rglob("*")) if not _may_write(one)), None)
        if forbidden is not None:
            raise StoreError(
                f"the database {path!r} cannot be opened: you may not write {forbidden}; give yourself the permission "
                "(chmod -R u+w), or work as its owner"
            ) from error
        raise StoreError(
            f"the database {path!r} cannot be opened: {error}; check that the folder exists, is writable and has space"
        ) from error


def _may_write(path: Path) -> bool:
    """Whether permissions allow writing a file or folder; a missing one counts as allowed."""
    return not path.exists() or os.access(path, os.W_OK)


def held_by_another(path: str) -> StoreLockedError:
    """The error for a database folder that another process uses."""
    return StoreLockedError(
        f"the database {path!r} is held by another process; one process may use it at a time: close that process, wait "
        "until it is done, choose another path, or share a Milvus server (store='http://host:19530')"
    )


def schema(dim: int) -> CollectionSchema:
    """The schema of a collection of rows with vectors of ``dim`` numbers."""
    return CollectionSchema(
        fields=[
            FieldSchema(KEY, DataType.VARCHAR, is_primary=True, max_length=MAX_KEY_CHARS),
            FieldSchema(EPISODE, DataType.VARCHAR, max_length=MAX_EPISODE_CHARS),
            FieldSchema(ENTRY, DataType.INT64),
            FieldSchema(TEXT, DataType.VARCHAR, max_length=MAX_TEXT_BYTES),
            FieldSchema(VECTOR, DataType.FLOAT_VECTOR, dim=dim),
        ]
    )


class LiteCollection:
    """One collection with exactly one writer; a failed call changes nothing and may be repeated.

    Args:
        engine: the open database.
        path: its folder, for messages.
        name: the collection, made with ``dim`` if it does not exist.
        dim: numbers in a vector.
        like: another collection of the same database; its schema is copied and its lock is shared, so that both have
            one writer together. Without it the collection makes its own.
    """

    def __init__(self, engine: MilvusLite, path: str, name: str, dim: int, like: LiteCollection | None = None) -> None:
        self._engine = engine
        self._path = path
        self._name = name
        self._dim = dim
        self._open: Collection | None = None
        self._like = like
        self.lock: threading.RLock = threading.RLock() if like is None else like.lock

    def found_dim(self) -> int | None:
        """Dimension of the collection on disk, or ``None`` if there is no such collection.

        Raises:
            StoreError: there is one, but it was not written by this package, or the database cannot be read.
        """
        with self._guarded("read"):
            if not self._engine.has_collection(self._name):
                return None
            fields = {field.name: field for field in self._collection().schema.fields}
        if set(fields) != {KEY, EPISODE, ENTRY, TEXT, VECTOR}:
            raise StoreError(
                f"the collection {self._name!r} in the database {self._path!r} has fields {sorted(fields)}, so it was "
                "not written by atommem-gym; choose another path"
            )
        return int(fields[VECTOR].dim)

    def write(self, rows: list[Row], deletes: list[str]) -> None:
        """Insert or replace ``rows``, then delete the primary keys ``deletes``: one engine call each.

        If what fails is a flush that the insert triggered, the insert may stay; repeating the call corrects that.

        Raises:
            StoreError: the engine failed; unless it failed in a flush, nothing has changed.
        """
        with self._guarded("written"):
            collection = self._collection()
            log = _Log(collection)
            try:
                if rows:
                    collection.insert(rows)
                if deletes:
                    collection.delete(deletes)
            except BaseException:
                # Also for an interrupt: it may have come in the middle of a record.
                self._abandon()
                log.cut()
                raise

    def get(self, keys: list[str], fields: list[str]) -> list[Row]:
        """Rows by primary key; unknown keys are skipped."""
        with self._guarded("read"):
            found: list[Row] = self._collection().get(keys, output_fields=fields)
            return found

    def query(self, expression: str, fields: list[str]) -> list[Row]:
        """The given fields of all rows that match a filter expression."""
        with self._guarded("read"):
            found: list[Row] = self._collection().query(expression, output_fields=fields)
            return found

    def everything(self) -> list[Row]:
        """All rows with all fields."""
        return self.query("", [KEY, EPISODE, ENTRY, TEXT, VECTOR])

    def search(self, vector: list[float], limit: int, expression: str | None, fields: list[str]) -> list[Row]:
        """The nearest rows: ``id`` is the primary key, ``distance`` the engine's cosine, ``entity`` the fields.

        With a filter ``expression`` the engine reads all fields of all rows, which takes half as long again.
        """
        with self._guarded("searched"):
            found: list[list[Row]] = self._collection().search(
                [vector], top_k=limit, metric_type="COSINE", expr=expression, output_fields=fields
            )
            return found[0]

    def compact(self) -> None:
        """Flush the log, and remove deleted and replaced rows from all files.

        A process that dies meanwhile loses no row: the engine commits its new files atomically, and
        removes unused ones when it opens the collection.

        Raises:
            StoreError: the engine failed; all rows are still there.
        """
        with self._guarded("compacted"):
            collection = self._collection()
            try:
                collection.flush()
                collection._wait_for_bg()
                with collection._maintenance_lock:
                    manifest, deleted = collection._manifest, collection._delta_index
                    for partition, files in manifest.get_all_data_files().items():
                        folder = os.path.join(self._folder(), "partitions", partition)
                        written = sum(pq.read_metadata(os.path.join(folder, name)).num_rows for name in files)
                        if written > collection.partition_num_entities(partition):
                            collection._compaction_mgr._compact_files(partition, folder, files, manifest, deleted)
                    collection._compaction_mgr._gc_tombstones(manifest, deleted)
                    collection._refresh_segment_cache()
            except BaseException:
                self._abandon()
                raise

    def close(self, *, flush: bool) -> None:
        """Release threads and files; without ``flush`` the rows stay in the log, which the next opening reads."""
        with self.lock:
            if self._open is None:
                return
            try:
                if flush:
                    self._open.close()
            except _ENGINE_ERRORS:
                # A disk without space for the flush still has the log; nothing acknowledged is lost.
                flush = False
            finally:
                if not flush:
                    self._abandon()
                self._open = None

    def remove(self) -> None:
        """Delete the collection atomically, without the flush with which the engine's own method begins.

        Raises:
            StoreError: the file system refused; the collection is still there.
        """
        with self._guarded("cleared of a collection"):
            self._abandon()
            doomed = self._staged()
            # A rename cannot stop half way.
            with contextlib.suppress(FileNotFoundError):
                os.rename(self._folder(), doomed)
            shutil.rmtree(doomed, ignore_errors=True)

    @contextlib.contextmanager
    def _guarded(self, what: str) -> Iterator[None]:
        with self.lock:
            try:
                yield
            except _ENGINE_ERRORS as error:
                if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
                    raise StoreError(
                        f"the database {self._path!r} could not be {what}: {error}; allow more open files (ulimit -n; "
                        "store_reads='milvus' needs two for every running episode, store_reads='mirror' none), then "
                        "repeat the same call"
                    ) from error
                raise StoreError(
                    f"the database {self._path!r} could not be {what}: {error}; free space or fix the disk, then "
                    "repeat the same call"
                ) from error

    def _collection(self) -> Collection:
        if self._open is None:
            if self._engine.has_collection(self._name):
                self._delete_flushed_logs()
                self._open = self._engine.get_collection(self._name)
            else:
                # A folder without a schema is what a disk that was full, or an interrupt, left of an earlier try.
                shutil.rmtree(self._folder(), ignore_errors=True)
                if self._like is None:
                    self._open = self._engine.create_collection(self._name, schema(self._dim))
                else:
                    self._copy_schema(self._like)
                    self._open = self._engine.get_collection(self._name)
        return self._open

    def _copy_schema(self, like: LiteCollection) -> None:
        """Make a collection as the engine does, but without its fsync, which takes longer than all the rest."""
        like._collection()
        staged = self._staged()
        os.makedirs(staged)
        shutil.copyfile(os.path.join(like._folder(), SCHEMA_FILENAME), os.path.join(staged, SCHEMA_FILENAME))
        os.rename(staged, self._folder())

    def _staged(self) -> str:
        """An unused path in the engine's staging folder, which the engine clears when it is opened."""
        staged = os.path.join(self._engine._database_staging_root(), self._name)
        shutil.rmtree(staged, ignore_errors=True)
        return staged

    def _folder(self) -> str:
        return str(self._engine._collection_dir(self._name, DEFAULT_DATABASE_NAME))

    def _delete_flushed_logs(self) -> None:
        folder = self._folder()
        active = Manifest.load(folder).active_wal_number
        logs = os.path.join(folder, "wal")
        for number in WAL.find_wal_files(logs):
            if active is not None and number < active:
                for template in _LOG_FILES:
                    with contextlib.suppress(FileNotFoundError):
                        os.remove(os.path.join(logs, template.format(n=number, w=SEQ_FORMAT_WIDTH)))

    def _abandon(self) -> None:
        """Drop the collection object without the flush that its own ``close`` would do."""
        collection, self._open = self._open, None
        if collection is None:
            return
        self._engine._collections.pop((DEFAULT_DATABASE_NAME, self._name), None)
        _close_log(collection._wal)
        collection._bg_closed = True
        collection._bg_executor.shutdown(wait=True)


class _Log:
    """The lengths of a collection's write-ahead log before a call, so that it can be cut back."""

    def __init__(self, collection: Collection) -> None:
        self._wal = collection._wal
        self._lengths = (self._wal._data_size_bytes, self._wal._delta_size_bytes)

    def cut(self) -> None:
        """Cut the log back. A torn record that cannot be cut off does no harm: nothing is appended after it."""
        _close_log(self._wal)
        for template, length in zip(_LOG_FILES, self._lengths, strict=True):
            path = os.path.join(self._wal.wal_dir, template.format(n=self._wal.number, w=SEQ_FORMAT_WIDTH))
            with contextlib.suppress(OSError):
                if length:
                    os.truncate(path, length)
                else:
                    os.remove(path)


def _close_log(wal: Any) -> None:
    for sink in (wal._data_sink, wal._delta_sink):
        if sink is not None:
            # Closing tries to write the rest of the buffer, fails again on a full disk, and closes anyway.
            with contextlib.suppress(OSError):
                sink.close()


def collection_names(engine: MilvusLite) -> list[str]:
    """Names of all collections on disk, sorted."""
    return list(engine.list_collections())


def close_engine(
    engine: MilvusLite, collections: Sequence[LiteCollection], *, flush: bool, last: Callable[[], None] | None = None
) -> None:
    """Close a database whose collections were all opened through ``LiteCollection``.

    Args:
        engine: the open database.
        collections: all of them.
        flush: whether to flush the logs.
        last: called when the files are final, before another process can open them.
    """
    try:
        for collection in collections:
            collection.close(flush=flush)
        if last is not None:
            last()
    finally:
        engine.close()


def disown(engine: MilvusLite) -> None:
    """In a forked child: close the child's copy of the lock file, so that the parent alone holds the database."""
    if engine._lock_fd is not None:
        with contextlib.suppress(OSError):
            os.close(engine._lock_fd)
        engine._lock_fd = None


def if_dead(path: str, action: Callable[[], None]) -> None:
    """Run ``action`` while holding the database folder ``path``, if no living process holds it."""
    try:
        engine = MilvusLite(path)
    except (DataDirLockedError, OSError):
        return
    try:
        action()
    finally:
        engine.close()
