"""The open Milvus Lite databases of this process: shared by path, counted, cleaned up after forks, exits, crashes."""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import shutil
import tempfile
import threading
import time
from typing import Any

from milvus_lite import DataDirLockedError, MilvusLite

from atommem_gym.errors import StoreError
from atommem_gym.stores.lite.engine import close_engine, disown, if_dead, open_engine
from atommem_gym.stores.lite.ledger import LOCK, Ledger
from atommem_gym.stores.lite.table import LiteTable
from atommem_gym.stores.lite.verify import SHARED, verify

logger = logging.getLogger(__name__)

_PREFIX = "atommem-gym-"
_UNFINISHED_AFTER_S = 3600.0
_TEMPORARY = ""
"""Stands in the place of a path for the temporary database of the process."""

_lock = threading.RLock()
_databases: dict[str, LiteDatabase] = {}
_inherited: list[Any] = []
"""In a forked child, the databases of its parent: never used and never finalised, since that might write."""


class LiteDatabase:
    """A database folder and its collections, one per dimension; made only by :func:`acquire`."""

    def __init__(self, key: str, path: str, engine: MilvusLite, ledger: Ledger | None = None) -> None:
        self.key = key
        self.path = path
        self.users = 0
        self.closed = False
        self._engine = engine
        self._tables: dict[str, LiteTable] = {}
        self._ledger = ledger

    @property
    def temporary(self) -> bool:
        """Whether the folder is removed when its last user releases it."""
        return self.key == _TEMPORARY

    def table(self, dim: int) -> LiteTable:
        """The rows with vectors of ``dim`` numbers; a kept database has one dimension, whatever ``dim`` is.

        Raises:
            StoreError: the database cannot be read, or was not written by this package.
        """
        name = f"entries_{dim}" if self.temporary else SHARED
        with _lock:
            if name not in self._tables:
                self._tables[name] = LiteTable(
                    self._engine, self.path, name, dim, kept=not self.temporary, ledger=self._ledger
                )
            return self._tables[name]

    def locks(self) -> list[threading.RLock]:
        """The locks of all collections."""
        return [table.collection.lock for table in self._tables.values()]

    def close(self) -> None:
        """Release locks, threads and files; a temporary folder is removed. Closing twice does nothing."""
        if self.closed:
            return
        self.closed = True
        for table in self._tables.values():
            table.settle()
        close_engine(
            self._engine,
            [table.collection for table in self._tables.values()],
            flush=not self.temporary,
            last=self._seal,
        )
        if self.temporary:
            shutil.rmtree(self.path, ignore_errors=True)

    def _seal(self) -> None:
        for table in self._tables.values():
            if table.ledger is not None:
                try:
                    table.ledger.seal()
                except OSError as error:
                    # Without the seal the next opening reads all rows.
                    logger.warning("the database %r could not be sealed: %s", self.path, error)

    def disown(self) -> None:
        """Leave the database to the parent process; called in a forked child."""
        disown(self._engine)


def acquire(path: str | None) -> LiteDatabase:
    """Open the database at ``path``, or the temporary one of the process (``None``); :func:`release` gives it back.

    Raises:
        StoreLockedError: another process holds it.
        StoreError: it cannot be opened, or does not hold what it acknowledged (``verify``).
    """
    key = _TEMPORARY if path is None else os.path.realpath(path)
    with _lock:
        database = _databases.get(key)
        if database is None:
            database = _temporary() if path is None else _kept(key)
            _databases[key] = database
        database.users += 1
        return database


def is_open(path: str) -> bool:
    """Whether this process has the database at ``path`` open."""
    with _lock:
        return os.path.realpath(path) in _databases


def release(database: LiteDatabase) -> None:
    """Give a database back; the last user closes it."""
    with _lock:
        database.users -= 1
        if database.users == 0:
            _databases.pop(database.key, None)
            database.close()


def _kept(path: str) -> LiteDatabase:
    checked = verify(path)
    engine = open_engine(path)
    try:
        # The ledger that was checked also knows which of several possible contents was found.
        ledger = checked if checked is not None and checked.is_whole() else Ledger.read(path)
        return LiteDatabase(path, path, engine, ledger)
    except BaseException:
        engine.close()
        raise


def _temporary() -> LiteDatabase:
    remove_leftovers()
    for _ in range(5):
        try:
            path = tempfile.mkdtemp(prefix=_PREFIX)
        except OSError as error:
            raise StoreError(
                f"no temporary folder can be made in {tempfile.gettempdir()!r}: {error}; free space there or set TMPDIR"
            ) from error
        # Another process that looks for leftovers may lock the new folder first, and then removes it.
        with contextlib.suppress(DataDirLockedError):
            return LiteDatabase(_TEMPORARY, path, MilvusLite(path))
    raise StoreError(f"no temporary database could be locked in {tempfile.gettempdir()!r}; set TMPDIR to another place")


def remove_leftovers() -> None:
    """Remove the temporary databases of processes that died without closing them; those of living ones are locked."""
    root = tempfile.gettempdir()
    try:
        with os.scandir(root) as entries:
            folders = [entry for entry in entries if entry.name.startswith(_PREFIX)]
    except OSError:
        # A folder that cannot be listed cannot be cleaned; whether it is writable shows when it is written.
        return
    for entry in folders:
        with contextlib.suppress(FileNotFoundError):
            found = entry.stat(follow_symlinks=False)
            if not entry.is_dir(follow_symlinks=False) or (hasattr(os, "getuid") and found.st_uid != os.getuid()):
                continue
            if os.path.exists(os.path.join(entry.path, LOCK)):
                if_dead(entry.path, functools.partial(shutil.rmtree, entry.path, ignore_errors=True))
            elif time.time() - found.st_mtime > _UNFINISHED_AFTER_S:
                # A folder without its lock file is being made or removed; after an hour it is abandoned.
                shutil.rmtree(entry.path, ignore_errors=True)


def _close_all() -> None:
    with _lock:
        for database in list(_databases.values()):
            database.close()
        _databases.clear()


def _before_fork() -> None:
    _lock.acquire()
    for database in _databases.values():
        for lock in database.locks():
            lock.acquire()


def _after_fork_in_parent() -> None:
    for database in _databases.values():
        for lock in database.locks():
            lock.release()
    _lock.release()


def _after_fork_in_child() -> None:
    global _lock
    _lock = threading.RLock()
    for database in _databases.values():
        database.disown()
        _inherited.append(database)
    _databases.clear()


atexit.register(_close_all)
if hasattr(os, "register_at_fork"):
    # The locks are held during the fork, so that it never happens in the middle of a write.
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
