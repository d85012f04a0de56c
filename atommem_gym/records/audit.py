"""The report of ``atommem data check``: how many records of which kind are in files, and what is wrong with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, combinations
from os import PathLike
from pathlib import Path

from atommem_gym.errors import DatasetUnavailableError, RecordError, check_choice
from atommem_gym.records.corpus import OWN, normalised_hash
from atommem_gym.records.files import group_files, no_file
from atommem_gym.records.formats import hotpotqa, twowiki
from atommem_gym.records.formats import paragraphs as sentences
from atommem_gym.records.formats.mentions import YES_NO, occurs, plain
from atommem_gym.records.reading import RawRecord, read
from atommem_gym.records.record import Record
from atommem_gym.records.sources import CONTEXTS, DATASETS, detect, no_shape, parse, parse_context

_BY_SENTENCE = (hotpotqa.NAME, twowiki.NAME)
"""Data sets that name gold by title and sentence number; the others mark paragraphs."""


@dataclass(slots=True)
class Part:
    """The contents of one file, or of the shards of one."""

    name: str
    """The path of the file, without shard numbers."""
    dataset: str
    """The data set whose parser read it; empty if its records have no known shape."""
    records: int = 0
    """Well-formed records."""
    malformed: list[str] = field(default_factory=list)
    """The error of each other entry: its file, its line or number, and what is wrong."""
    duplicate_ids: list[str] = field(default_factory=list)
    """Ids that occurred before."""
    types: Counter[str] = field(default_factory=Counter)
    """Number of records by question type."""
    gold: Counter[int] = field(default_factory=Counter)
    """Number of records by their number of gold documents."""
    documents: int = 0
    """Documents of all records, including repeats."""
    distinct_documents: int = 0
    """Documents that differ in normalised title or text."""
    evidence_sentences: int = 0
    """Pieces of evidence that are sentences."""
    evidence_paragraphs: int = 0
    """Evidence that is a whole paragraph: MuSiQue, one-sentence paragraphs, invalid sentence numbers."""
    no_hop_answer: int = 0
    """Pieces of evidence without a hop answer."""
    gold_title_shared: list[str] = field(default_factory=list)
    """Ids of records with an own distractor that shares title or text with gold; episodes omit it (SPEC D3)."""
    gold_namesakes: list[str] = field(default_factory=list)
    """Ids of records in which another document with another text has the title of a gold document."""
    undecided_namesakes: list[str] = field(default_factory=list)
    """Id and title of those whose sentence numbers do not decide which is gold; the earliest was taken."""
    answer_not_in_gold: list[str] = field(default_factory=list)
    """Ids of records none of whose answers occurs in a gold document; yes/no questions are not counted."""
    contexts: dict[str, int] = field(default_factory=dict)
    """Names of the contexts (SPEC E14) to the number of their documents."""
    unanswerable: int = 0
    """Questions without an answer."""
    no_evidence: int = 0
    """Questions with an answer and without evidence."""
    unresolved: list[str] = field(default_factory=list)
    """Evidence that does not exist: the question's id, and the evidence named."""
    contradictory: list[str] = field(default_factory=list)
    """Questions whose labels contradict each other; they are kept."""


@dataclass(frozen=True, slots=True)
class Audit:
    """The report on several files: each part, and what parts share."""

    parts: tuple[Part, ...]
    """One per file or set of shards."""
    shared_documents: Mapping[tuple[str, str], int]
    """For two parts of one data set, by name: documents of equal normalised title and text in both."""
    shared_contexts: Mapping[tuple[str, str], list[str]] = field(default_factory=dict)
    """For two parts of one data set, by name: the contexts in both, and custom records with the same documents."""

    @property
    def ok(self) -> bool:
        """Whether every part has records, no entry is malformed, and no context is in two parts."""
        whole = all(part.records and not part.malformed for part in self.parts)
        return whole and not any(self.shared_contexts.values())


def audit(paths: str | PathLike[str] | Sequence[str | PathLike[str]], dataset: str | None = None) -> Audit:
    """Read files or folders of records completely and report on them; a malformed record is counted, not raised.

    Args:
        paths: A file or folder, or several.
        dataset: The name of the data set; by default the shape of each file's first record decides.

    Raises:
        ConfigError: ``dataset`` is unknown.
        DatasetUnavailableError: a path does not exist, cannot be read, or is a folder without record files.
    """
    if dataset is not None:
        check_choice("dataset", dataset, DATASETS)
    given = [paths] if isinstance(paths, str | PathLike) else list(paths)
    documents: dict[str, set[int]] = {}
    streams: dict[str, dict[int, str]] = {}
    parts = []
    for name, files in chain.from_iterable(_files(Path(path).expanduser()) for path in given):
        documents[name] = set()
        streams[name] = {}
        parts.append(_audit_part(name, files, dataset, documents[name], streams[name]))
    shared = {
        (one.name, other.name): len(documents[one.name] & documents[other.name])
        for one, other in combinations(parts, 2)
        if one.dataset == other.dataset
    }
    contexts = {pair: [streams[pair[0]][key] for key in streams[pair[0]] if key in streams[pair[1]]] for pair in shared}
    return Audit(tuple(parts), shared, {pair: names for pair, names in contexts.items() if names})


def _files(path: Path) -> Iterable[tuple[str, list[Path]]]:
    if path.is_file():
        return [(str(path), [path])]
    if not path.is_dir():
        raise DatasetUnavailableError(f"{path} {no_file(path)}: give a file or a folder")
    groups = group_files(path)
    if not groups:
        raise DatasetUnavailableError(f"{path} holds no record files: give a .json, .jsonl, .parquet or .arrow file")
    return [(str(path / name), files) for name, files in groups.items()]


def _audit_part(
    name: str, files: Sequence[Path], dataset: str | None, documents: set[int], streams: dict[int, str]
) -> Part:
    entries = chain.from_iterable(_entries(path) for path in files)
    part = Part(name, dataset or "")
    ids: set[str] = set()
    for entry in entries:
        if not part.dataset and not entry.problem:
            part.dataset = detect(entry.fields) or ""
        try:
            if not part.dataset and not entry.problem:
                raise entry.error(no_shape(entry.fields))
            records = _parsed(part, entry)
        except RecordError as error:
            part.malformed.append(str(error))
            continue
        for record in records:
            if record.id in ids:
                part.duplicate_ids.append(record.id)
            ids.add(record.id)
            _count(part, record, documents)
            if part.dataset in CONTEXTS or part.dataset == OWN:
                _count_context(part, record, streams)
        if part.dataset in _BY_SENTENCE:
            part.undecided_namesakes += [f"{record.id}: {title!r}" for title in sentences.undecided(entry.fields)]
    part.distinct_documents = len(documents)
    return part


def _parsed(part: Part, entry: RawRecord) -> Sequence[Record]:
    if part.dataset not in CONTEXTS:
        return [parse(part.dataset, entry)]
    found = parse_context(part.dataset, entry)
    part.unresolved += found.unresolved
    part.contradictory += found.contradictory
    return found.records


def _count_context(part: Part, record: Record, streams: dict[int, str]) -> None:
    part.unanswerable += not record.answerable
    part.no_evidence += record.answerable and not record.evidence
    if record.context:
        if record.context in part.contexts:
            return
        part.contexts[record.context] = len(record.documents)
    if record.context or len(record.documents) > 1:
        said = [(normalised_hash(document.title), normalised_hash(document.text)) for document in record.documents]
        streams.setdefault(hash(tuple(said)), record.context or record.id)


def _entries(path: Path) -> Iterator[RawRecord]:
    """The entries of a file; a file that cannot be decoded at all is one malformed entry."""
    try:
        yield from read(path)
    except RecordError as error:
        yield RawRecord(path, "as a whole", {}, str(error))


def _count(part: Part, record: Record, documents: set[int]) -> None:
    part.records += 1
    part.types[record.type or "(none)"] += 1
    part.gold[len(record.gold)] += 1
    part.documents += len(record.documents)
    keys = [(normalised_hash(document.title), normalised_hash(document.text)) for document in record.documents]
    documents.update(hash(key) for key in keys)
    titles, texts = ({keys[position][side] for position in record.gold} for side in (0, 1))
    others = [key for position, key in enumerate(keys) if position not in record.gold]
    if any(title in titles or text in texts for title, text in others):
        part.gold_title_shared.append(record.id)
    gold = record.gold_documents
    by_title = Counter(title for title, _ in {(document.title, document.text) for document in record.documents})
    if any(by_title[document.title] > 1 for document in gold):
        part.gold_namesakes.append(record.id)
    for piece in record.evidence:
        whole = any(document.title == piece.title and document.text == piece.text for document in gold)
        part.evidence_paragraphs += whole
        part.evidence_sentences += not whole
        part.no_hop_answer += not piece.hop_answer
    if not gold:
        return
    said = any(occurs(answer, f"{document.title}\n{document.text}") for answer in record.answers for document in gold)
    if not said and plain(record.answer) not in YES_NO:
        part.answer_not_in_gold.append(record.id)
