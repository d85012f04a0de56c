"""Loads the records and documents of a split from a source (SPEC D1, D2, D6)."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa
from rich.console import Console
from rich.progress import Progress

from atommem_gym.errors import ConfigError, DatasetUnavailableError, RecordError, check_choice, nearest
from atommem_gym.files.cache import cache_key, cached_folder
from atommem_gym.records.corpus import (
    DOCUMENTS_FILE,
    FORMAT_VERSION,
    RECORDS_FILE,
    ArrowSplit,
    Sinks,
    from_records,
    open_folder,
    write_tables,
)
from atommem_gym.records.dates import check_dated
from atommem_gym.records.documents import Indices, Pool
from atommem_gym.records.files import by_split, files_of_split, split_name
from atommem_gym.records.formats import factconsolidation, hotpotqa, locomo, longmemeval, musique, own_records, twowiki
from atommem_gym.records.formats.contexts import ParsedContext
from atommem_gym.records.formats.fields import Raw, shown
from atommem_gym.records.hub import HUB, official_help, read_hub
from atommem_gym.records.reading import RawRecord, read
from atommem_gym.records.record import Record

PARSERS: Mapping[str, Callable[[Raw], Record]] = {
    hotpotqa.NAME: hotpotqa.parse,
    twowiki.NAME: twowiki.parse,
    musique.NAME: musique.parse,
    own_records.NAME: own_records.parse,
}
"""Data set name to the function that parses one of its raw records."""

CONTEXTS: Mapping[str, Callable[..., ParsedContext]] = {
    locomo.NAME: locomo.parse,
    factconsolidation.NAME: factconsolidation.parse,
    longmemeval.NAME: longmemeval.parse,
}
"""The same for data sets whose entries are contexts with questions (SPEC E14)."""
DATASETS = (*PARSERS, *CONTEXTS)

_TWOWIKI_TYPES = frozenset({"compositional", "inference", "bridge_comparison"})

CONVERT_FROM_BYTES = 20_000_000
"""Sources of fewer bytes are parsed in memory at every start; larger ones once, into the cache folder."""


class Split(Protocol):
    """The records of a split and the pool of their distinct documents."""

    dataset: str
    split: str
    pool: Pool
    gold_counts: Indices
    """``[records]``: the number of gold documents of each."""

    def __len__(self) -> int: ...

    def record(self, i: int) -> Record:
        """Record ``i`` of the source, from 0.

        Raises:
            IndexError: there is no such record.
        """
        ...

    def document_numbers(self, i: int) -> tuple[Indices, Indices]:
        """Pool numbers of the gold documents of record ``i``, and of its own distractors."""
        ...

    @property
    def contexts(self) -> list[str]:
        """``[records]``, the name of each record's context; empty if it belongs to none."""
        ...

    def context_keys(self) -> dict[bytes, str]:
        """The names of the contexts by a key of their documents; equal documents have equal keys."""
        ...

    def document_order(self, i: int) -> Indices:
        """Pool numbers of all documents of record ``i``, in the record's order."""
        ...


_loaded: dict[tuple[str, ...], ArrowSplit] = {}
_lock = threading.Lock()


def load_split(dataset: str, source: str, split: str, corrections: str | None = None) -> Split:
    """Load a split of a data set; each is loaded once per process.

    ``source`` is ``"hub"`` or a path: a ``.json`` list, a ``.jsonl``, ``.parquet`` or ``.arrow`` file, a folder that
    ``datasets`` saved, or a folder with one file per split whose name contains ``train``, ``dev`` or ``validation``, or
    ``test``. A single file, or a saved folder without splits, *is* the split asked for, whatever its name.

    Sources of 20 MB and more, and the hub, are converted once into the cache folder (``ATOMMEM_CACHE``) and then
    memory-mapped; a changed file is converted again.

    Args:
        dataset: One of ``DATASETS``.
        source: ``"hub"`` or a path.
        split: ``train``, ``validation`` (or ``dev``) or ``test``.
        corrections: A file of corrected answers and evidence, for LoCoMo only.

    Raises:
        ConfigError: the data set or split name is unknown, or several files match the split.
        DatasetUnavailableError: the source cannot be read or has no records; no other source is tried.
        RecordError: a record is malformed; the message names file, line and field.
    """
    check_choice("dataset", dataset, DATASETS)
    split = split_name(split)
    if source == "hub" and dataset not in HUB:
        raise ConfigError(f"source='hub' has no {dataset!r} records; give the path of a file")
    if source == "hub":
        files: list[Path] = []
        hub = HUB[dataset]
        identity = [str(hub.repository), str(hub.config), str(hub.revision)]
    else:
        files = _files(dataset, source, split)
        identity = [f"{path.resolve()}|{path.stat().st_size}|{path.stat().st_mtime_ns}" for path in files]
    options: dict[str, Any] = {}
    if corrections is not None:
        options = {"corrections": locomo.read_corrections(corrections)}
        path = Path(corrections).expanduser()
        identity.append(f"{path.resolve()}|{path.stat().st_size}|{path.stat().st_mtime_ns}")
    key = (dataset, split, *identity)
    with _lock:
        if key not in _loaded:
            _loaded[key] = _open(dataset, split, files, identity, options)
        return _loaded[key]


def other_splits(source: str, split: str) -> list[str]:
    """The other splits that a folder holds; a single file has none, since it is the split asked for."""
    path = Path(source).expanduser()
    if not path.is_dir():
        return []
    return [name for name in by_split(path) if name != split_name(split)]


def parse(dataset: str, raw: RawRecord) -> Record:
    """Parse an entry of a file of ``dataset``, one of ``PARSERS``, to a record.

    Raises:
        RecordError: the entry is malformed or has the shape of another data set; the message names file, place and
            field.
    """
    _check_shape(dataset, raw)
    try:
        record = PARSERS[dataset](raw.fields)
        check_dated(record.documents)
        return record
    except RecordError as error:
        raise raw.error(str(error)) from error


def parse_context(dataset: str, raw: RawRecord, **options: Any) -> ParsedContext:
    """Parse an entry of a file of ``dataset``, one of ``CONTEXTS``, to a context.

    Raises:
        RecordError: as in :func:`parse`; also if a session has no date or dates go backwards.
    """
    _check_shape(dataset, raw)
    try:
        found = CONTEXTS[dataset](raw.fields, **options)
        check_dated(found.records[0].documents if found.records else ())
        return found
    except RecordError as error:
        raise raw.error(str(error)) from error


def records_of(dataset: str, raw: RawRecord, **options: Any) -> tuple[Record, ...]:
    """Parse an entry of a file of ``dataset`` to its records: one, or all questions of a context.

    Raises:
        RecordError: as in :func:`parse`.
    """
    return parse_context(dataset, raw, **options).records if dataset in CONTEXTS else (parse(dataset, raw),)


def _check_shape(dataset: str, raw: RawRecord) -> None:
    if raw.problem:
        raise raw.error(raw.problem)
    if _is_trace(raw.fields):
        raise raw.error(no_shape(raw.fields))
    found = shape(raw.fields)
    if found is not None and found != dataset:
        use = "use the environment of " + found
        if found == own_records.NAME:
            use = "play it as a CustomTask, which docs/custom_task.md describes, or give records of " + dataset
        raise raw.error(f"this record has the shape of {found}, not of {dataset}; {use}")


def shape(fields: Raw) -> str | None:
    """The data set that the fields of a raw record prove; ``None`` if they do not."""
    if "conversation" in fields and "qa" in fields:
        return locomo.NAME
    if "haystack_sessions" in fields:
        return longmemeval.NAME
    if "questions" in fields and "context" in fields:
        return factconsolidation.NAME
    if "paragraphs" in fields:
        return musique.NAME
    if "evidences" in fields:
        return twowiki.NAME
    if "documents" in fields and not _is_trace(fields):
        return own_records.NAME
    return hotpotqa.NAME if "level" in fields else None


def detect(fields: Raw) -> str | None:
    """The data set that a raw record most probably belongs to; ``None`` if it has no known shape."""
    found = shape(fields)
    if found is None and "context" in fields:
        return twowiki.NAME if fields.get("type") in _TWOWIKI_TYPES else hotpotqa.NAME
    return found


def _is_trace(fields: Raw) -> bool:
    return "steps" in fields and "env" in fields


def no_shape(fields: Raw) -> str:
    """What is wrong with a record that no data set has; a misspelt field is named."""
    if _is_trace(fields):
        return "this is a recorded episode and no record; `atommem replay` and `atommem view` take files of traces"
    names = sorted(map(str, fields))
    said = f"fields {shown(names, 400)} are of no known shape; a custom record has question, answer and documents"
    missing = [name for name in ("question", "answer", "documents") if name not in fields]
    for name in names:
        meant = nearest(name, missing)
        if meant is not None:
            return f"{said}: {shown(name)} is unknown, did you mean {meant!r}?"
    return said


def dataset_of(source: str, split: str) -> str:
    """The data set of the first record of a source's split.

    Raises:
        ConfigError: several files match the split.
        DatasetUnavailableError: the source cannot be read or has no records.
        RecordError: the record is malformed or has no known shape.
    """
    for path in files_of_split(Path(source).expanduser(), split_name(split)):
        for entry in read(path):
            if entry.problem:
                raise entry.error(entry.problem)
            found = detect(entry.fields)
            if found is None:
                raise entry.error(no_shape(entry.fields))
            return found
    raise DatasetUnavailableError(f"{source} has no records; check that the file is complete")


def _files(dataset: str, source: str, split: str) -> list[Path]:
    try:
        return files_of_split(Path(source).expanduser(), split)
    except DatasetUnavailableError as error:
        raise DatasetUnavailableError(f"{error}\n{official_help(dataset, split)}".strip()) from error


def _open(dataset: str, split: str, files: list[Path], identity: list[str], options: Mapping[str, Any]) -> ArrowSplit:
    if files and sum(path.stat().st_size for path in files) < CONVERT_FROM_BYTES:
        found = from_records(dataset, split, _records(dataset, split, files, options))
        _check_not_empty(len(found), dataset, split, files)
        return found

    def convert(folder: Path) -> None:
        with _OpenSinks(folder) as sinks:
            count = write_tables(_records(dataset, split, files, options), sinks)
        _check_not_empty(count, dataset, split, files)

    folder = cached_folder(f"{dataset}-{split}-{cache_key(FORMAT_VERSION, dataset, *identity)}", convert)
    try:
        return open_folder(dataset, split, folder)
    except (pa.ArrowInvalid, OSError) as error:
        raise DatasetUnavailableError(
            f"the converted records in {folder} are damaged ({error}); delete that folder, it is made again"
        ) from error


class _OpenSinks:
    """The two files of a split, open for writing."""

    def __init__(self, folder: Path) -> None:
        self._sinks = Sinks(pa.OSFile(str(folder / RECORDS_FILE), "wb"), pa.OSFile(str(folder / DOCUMENTS_FILE), "wb"))

    def __enter__(self) -> Sinks:
        return self._sinks

    def __exit__(self, *_: object) -> None:
        for sink in self._sinks:
            sink.close()


def _records(dataset: str, split: str, files: list[Path], options: Mapping[str, Any]) -> Iterator[Record]:
    entries = (entry for path in files for entry in read(path)) if files else read_hub(dataset, split)
    console = Console(stderr=True)
    # Converting 90,000 records takes a minute; the progress bar shows that it goes on.
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(f"reading {dataset}/{split}", total=None)
        for number, entry in enumerate(entries, start=1):
            yield from records_of(dataset, entry, **options)
            if number % 1000 == 0:
                progress.update(task, completed=number, description=f"reading {dataset}/{split}: {number:,} records")


def _check_not_empty(count: int, dataset: str, split: str, files: list[Path]) -> None:
    if not count:
        where = ", ".join(map(str, files)) or "the hub"
        raise DatasetUnavailableError(
            f"{dataset}/{split} has no records in {where}; check that the file is complete.\n"
            f"{official_help(dataset, split)}".strip()
        )
