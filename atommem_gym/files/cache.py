"""The cache folder that large splits are converted into once, whole or not at all (SPEC D6)."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import platformdirs

from atommem_gym.errors import DatasetUnavailableError

ENVIRONMENT_VARIABLE = "ATOMMEM_CACHE"

_UNFINISHED = ".unfinished-"
_ABANDONED_AFTER = 24 * 3600.0


def cache_folder() -> Path:
    """The folder named by ``ATOMMEM_CACHE``, else the platform's cache folder for this package. It may be deleted."""
    named = os.environ.get(ENVIRONMENT_VARIABLE)
    if named:
        return Path(named).expanduser()
    # Without "opinion" it is on Windows, too, the folder itself and not one named Cache in it.
    return platformdirs.user_cache_path("atommem-gym", appauthor=False, opinion=False)


def cache_key(*parts: str | int) -> str:
    """A short name for what these parts describe."""
    text = "\0".join(map(str, parts))
    return hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()


def cached_folder(name: str, fill: Callable[[Path], None]) -> Path:
    """The cache folder ``name``; if it is not there yet, ``fill`` writes its files first.

    ``fill`` writes into a temporary folder that is renamed when it is complete, so an interruption at any moment leaves
    nothing that a later start would take for the whole. Of two processes that fill at once the first one wins.

    Raises:
        DatasetUnavailableError: the cache cannot be written (disk full, no permission).
    """
    root = cache_folder()
    final = root / name
    if final.is_dir():
        return final
    try:
        root.mkdir(parents=True, exist_ok=True)
        _remove_abandoned(root)
        unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=root))
        try:
            fill(unfinished)
            _rename(unfinished, final)
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
    except OSError as error:
        raise DatasetUnavailableError(
            f"the converted records cannot be written to the cache {root}: {error}; free some space, or set "
            f"{ENVIRONMENT_VARIABLE} to a folder on another disk"
        ) from error
    return final


def _rename(unfinished: Path, final: Path) -> None:
    try:
        unfinished.rename(final)
    except OSError:
        # Another process has finished the same folder in the meantime: its content is the same.
        if not final.is_dir():
            raise


def _remove_abandoned(root: Path) -> None:
    """Remove what killed processes left; younger folders may still be in use."""
    for folder in root.glob(f"{_UNFINISHED}*"):
        if time.time() - folder.stat().st_mtime > _ABANDONED_AFTER:
            shutil.rmtree(folder, ignore_errors=True)
