"""Finds the files of a split in a path (SPEC D1)."""

from __future__ import annotations

import re
from pathlib import Path

from atommem_gym.errors import ConfigError, DatasetUnavailableError, check_choice
from atommem_gym.records.reading import SUFFIXES

SPLITS = ("train", "validation", "test")

_SYNONYMS = {"dev": "validation", "valid": "validation", "val": "validation"}
_WORD = re.compile(r"[a-z]+")
_SHARD = re.compile(r"-\d{5}-of-\d{5}")
_SAVED = "state.json"
"""The file that marks a folder saved by ``datasets.Dataset.save_to_disk``."""


def split_name(split: str) -> str:
    """Normalise the name of a split to ``train``, ``validation`` or ``test``.

    Raises:
        ConfigError: the name is unknown.
    """
    name = _SYNONYMS.get(split, split)
    check_choice("split", name, SPLITS, or_else=", or 'dev'")
    return name


def named_split(name: str) -> str | None:
    """The split that the name of a file or folder contains; ``None`` if it contains none or several."""
    words = {_SYNONYMS.get(word, word) for word in _WORD.findall(name.lower())}
    found = [split for split in SPLITS if split in words]
    return found[0] if len(found) == 1 else None


def no_file(path: Path) -> str:
    """What to say of a path that is neither a file nor a folder."""
    if path.exists():
        return "is a pipe or device, and files are read"
    return f"does not exist (looked at {path.absolute()})"


def files_of_split(path: Path, split: str) -> list[Path]:
    """The files that hold ``split``; several only if they are the numbered shards of one.

    A single file, or a folder saved by ``datasets`` without splits, is the split asked for.

    Raises:
        ConfigError: several files match, so one of them must be named.
        DatasetUnavailableError: there is no such path, or no file for the split.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise DatasetUnavailableError(f'source="{path}" {no_file(path)}: give a file or folder, or "hub"')
    if (path / _SAVED).is_file():
        return _shards(path)
    groups = by_split(path).get(split, {})
    if not groups:
        listed = ", ".join(sorted(entry.name for entry in path.iterdir())[:12]) or "nothing"
        raise DatasetUnavailableError(
            f'source="{path}" has no file for the split {split!r}: its name must contain it, as in {split}.jsonl; the '
            f"folder holds {listed}. A single file may be given by its own path, whatever its name"
        )
    if len(groups) > 1:
        raise ConfigError(
            f'source="{path}" has several files for the split {split!r}: {", ".join(sorted(groups))}; '
            "give the path of the one that is meant"
        )
    return next(iter(groups.values()))


def by_split(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The candidates for each split in ``folder``: split to file name without shard number to files in order."""
    found: dict[str, dict[str, list[Path]]] = {}
    for name, files in group_files(folder).items():
        split = named_split(name)
        if split is not None:
            found.setdefault(split, {})[name] = files
    return found


def group_files(folder: Path) -> dict[str, list[Path]]:
    """All record files in ``folder``: file name without shard number to files in order.

    Raises:
        DatasetUnavailableError: a folder saved by ``datasets`` holds no data.
    """
    if (folder / _SAVED).is_file():
        return {folder.name: _shards(folder)}
    found: dict[str, list[Path]] = {}
    for entry in sorted(folder.iterdir()):
        if entry.is_dir() and (entry / _SAVED).is_file():
            found[entry.name] = _shards(entry)
        elif entry.is_file() and entry.suffix.lower() in SUFFIXES:
            found.setdefault(_SHARD.sub("", entry.name), []).append(entry)
    return found


def _shards(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.arrow"))
    if not files:
        raise DatasetUnavailableError(f"{folder} was saved by datasets but holds no .arrow file; save it again")
    return files
