"""A split as two Arrow tables, records and distinct documents, which are memory-mapped, not loaded (SPEC D6)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.ipc

from atommem_gym.errors import RecordError
from atommem_gym.records.documents import BATCH, Hashes, Indices, Pool, Strings, body
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.scoring import normalize

FORMAT_VERSION = 5
"""Raised with every change of the schemas or of the parsers; cache files of older versions are ignored."""

OWN = "own"
"""The shape of custom records."""
RECORDS_FILE = "records.arrow"
DOCUMENTS_FILE = "documents.arrow"

_EVIDENCE = pa.struct(
    [("document", pa.int32()), ("start", pa.int32()), ("stop", pa.int32()), ("hop_answer", pa.string())]
)
_RECORDS = pa.schema(
    [
        ("id", pa.string()),
        ("question", pa.string()),
        ("answer", pa.string()),
        ("aliases", pa.list_(pa.string())),
        ("type", pa.string()),
        ("options", pa.list_(pa.string())),
        ("documents", pa.list_(pa.int32())),
        ("gold", pa.list_(pa.int32())),
        # Evidence is stored as a place in a document: it is always a substring, and no text is stored twice.
        ("evidence", pa.list_(_EVIDENCE)),
        ("answerable", pa.bool_()),
        ("trap", pa.string()),
        ("context", pa.string()),
    ]
)
_DOCUMENTS = pa.schema(
    [
        ("body", pa.string()),
        ("title_bytes", pa.int64()),
        ("title_hash", pa.uint64()),
        ("text_hash", pa.uint64()),
        ("date", pa.string()),
        ("speakers", pa.string()),
    ]
)


def normalised(text: str) -> str:
    """The form in which titles and texts are compared (SPEC D3): normalised as answers are, or raw if nothing is left.

    >>> normalised("The  Beatles!"), normalised("The The")
    ('beatles', 'the the')
    """
    return normalize(text) or " ".join(text.casefold().split())


def normalised_hash(text: str) -> int:
    """A 64-bit hash of the normalised text, the same in every process."""
    return int.from_bytes(hashlib.blake2b(normalised(text).encode(), digest_size=8).digest(), "big")


class Sinks(NamedTuple):
    """Where the two tables are written: Arrow output streams."""

    records: Any
    documents: Any


def write_tables(records: Iterable[Record], sinks: Sinks) -> int:
    """Write records and their distinct documents to ``sinks``, and return the number of records.

    Documents with the same title, text, date and speakers are written once.

    Raises:
        RecordError: a piece of evidence is not in a gold document of its record.
    """
    with _Batches(sinks.records, _RECORDS) as record_rows, _Batches(sinks.documents, _DOCUMENTS) as document_rows:
        known: dict[bytes, int] = {}
        count = 0
        latest: Sequence[Document] | None = None
        numbers: list[int] = []
        for record in records:
            # The questions of one context follow each other and share their documents.
            again, latest = record.documents is latest, record.documents
            numbers = numbers if again else []
            for document in () if again else record.documents:
                key = _document_key(document)
                number = known.get(key)
                if number is None:
                    number = known[key] = len(known)
                    document_rows.add(_document_row(document))
                numbers.append(number)
            record_rows.add(_record_row(record, numbers))
            count += 1
    return count


class _Batches:
    """Writes rows to an Arrow IPC file batch by batch, so that memory stays bounded."""

    def __init__(self, sink: Any, schema: pa.Schema) -> None:
        self._schema = schema
        self._writer = pa.ipc.new_file(sink, schema)
        self._rows: list[dict[str, Any]] = []

    def __enter__(self) -> _Batches:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._flush()
        self._writer.close()

    def add(self, row: dict[str, Any]) -> None:
        self._rows.append(row)
        if len(self._rows) == BATCH:
            self._flush()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_batch(pa.RecordBatch.from_pylist(self._rows, schema=self._schema))
            self._rows.clear()


def _document_key(document: Document) -> bytes:
    said = "\n".join((document.date, *document.speakers)) if document.date else ""
    return hashlib.blake2b(f"{len(document.title)}:{document.title}{document.text}{said}".encode()).digest()[:16]


def _document_row(document: Document) -> dict[str, Any]:
    return {
        "body": body(document),
        "title_bytes": len(document.title.encode()),
        # Sessions may all have the same title; their dates tell them apart.
        "title_hash": normalised_hash(f"{document.date} {document.title}" if document.date else document.title),
        "text_hash": normalised_hash(document.text),
        "date": document.date,
        "speakers": "\n".join(document.speakers),
    }


def _record_row(record: Record, numbers: list[int]) -> dict[str, Any]:
    return {
        "id": record.id,
        "question": record.question,
        "answer": record.answer,
        "aliases": record.aliases,
        "type": record.type,
        "options": record.options,
        "documents": numbers,
        "gold": record.gold,
        "evidence": [_place(record, piece) for piece in record.evidence],
        "answerable": record.answerable,
        "trap": record.trap,
        "context": record.context,
    }


def _place(record: Record, piece: Evidence) -> dict[str, Any]:
    for position in record.gold:
        document = record.documents[position]
        start = document.text.find(piece.text) if document.title == piece.title else -1
        if start >= 0:
            stop = start + len(piece.text)
            return {"document": position, "start": start, "stop": stop, "hop_answer": piece.hop_answer}
    raise RecordError(
        f"record {record.id!r}: the evidence {piece.text[:60]!r} is in no gold document titled {piece.title!r}; "
        "evidence must be a substring of a gold document's text"
    )


class _Table:
    """An Arrow IPC file whose batches all have ``BATCH`` rows, except the last."""

    def __init__(self, source: Any) -> None:
        reader = pa.ipc.open_file(source)
        self.batches = [reader.get_batch(number) for number in range(reader.num_record_batches)]
        self.rows: int = sum(batch.num_rows for batch in self.batches)

    def row(self, index: int) -> dict[str, Any]:
        row: dict[str, Any] = self.batches[index // BATCH].slice(index % BATCH, 1).to_pylist()[0]
        return row

    def strings(self, name: str) -> Strings:
        """A column of strings, for access to single values."""
        return Strings([batch.column(name) for batch in self.batches])

    def has_text(self, name: str) -> bool:
        """Whether any string of a column is not empty."""
        return any(len(batch.column(name).buffers()[2] or b"") for batch in self.batches)

    # Read from the buffers, here and in Strings: Arrow's own conversions import pandas, which takes a second.

    def numbers(self, name: str) -> Hashes:
        """A column of 64-bit numbers as one array ``[rows]``, copied."""
        parts = [np.frombuffer(batch.column(name).buffers()[1], np.uint64, batch.num_rows) for batch in self.batches]
        return np.concatenate(parts) if parts else np.empty(0, np.uint64)

    def lengths(self, name: str) -> Indices:
        """The length of every list of a column, ``[rows]``."""
        parts = [
            np.diff(np.frombuffer(batch.column(name).buffers()[1], np.int32, batch.num_rows + 1))
            for batch in self.batches
        ]
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)


class ArrowSplit:
    """The records of one split and the pool of their distinct documents (a ``sources.Split``)."""

    def __init__(self, dataset: str, split: str, records: _Table, documents: _Table) -> None:
        self.dataset = dataset
        self.dataset_shape = dataset
        """The shape of the records, whatever the data set is called."""
        self.split = split
        self.pool = Pool(
            documents.strings("body"),
            documents.numbers("title_bytes").view(np.int64),
            documents.numbers("title_hash"),
            documents.numbers("text_hash"),
            *((documents.strings("date"), documents.strings("speakers")) if documents.has_text("date") else ()),
        )
        self.gold_counts: Indices = records.lengths("gold")
        """``[records]``: the number of gold documents of each."""
        self._records = records

    def __len__(self) -> int:
        return self._records.rows

    def record(self, i: int) -> Record:
        """Record ``i`` of the source, from 0.

        Raises:
            IndexError: there is no such record.
        """
        row = self._row(i)
        numbers = np.array(row["documents"], np.int64)
        # A context has hundreds of documents and many questions, so its documents stay lazy.
        documents: Sequence[Document] = self.pool.documents(numbers)
        if not row["context"]:
            documents = tuple(documents)
        evidence = []
        for piece in row["evidence"]:
            document = documents[piece["document"]]
            text = document.text[piece["start"] : piece["stop"]]
            evidence.append(Evidence(document.title, text, piece["hop_answer"]))
        return Record(
            id=row["id"],
            question=row["question"],
            answer=row["answer"],
            documents=documents,
            gold=tuple(row["gold"]),
            evidence=tuple(evidence),
            aliases=tuple(row["aliases"]),
            type=row["type"],
            options=tuple(row["options"]),
            answerable=row["answerable"],
            trap=row["trap"],
            context=row["context"],
        )

    def document_numbers(self, i: int) -> tuple[Indices, Indices]:
        """Pool numbers of the gold documents of record ``i`` and of its own distractors, each in the record's order.

        Raises:
            IndexError: there is no such record.
        """
        row = self._row(i)
        numbers = np.array(row["documents"], np.int64)
        is_gold = np.zeros(len(numbers), np.bool_)
        is_gold[row["gold"]] = True
        return numbers[is_gold], numbers[~is_gold]

    @cached_property
    def contexts(self) -> list[str]:
        """``[records]``, the name of each record's context; empty if it belongs to none."""
        return [name for batch in self._records.batches for name in batch.column("context").to_pylist()]

    def context_keys(self) -> dict[bytes, str]:
        """The names of contexts by a key of their documents; custom records with several documents count as contexts.

        Records of other data sets without contexts have their own documents, so the result is empty.
        """
        if not any(self.contexts) and self.dataset_shape != OWN:
            return {}
        found: dict[bytes, str] = {}
        seen: set[str] = set()
        for i, context in enumerate(self.contexts):
            if context in seen:
                continue
            row = self._row(i)
            numbers = np.array(row["documents"], np.int64)
            if context or len(numbers) > 1:
                said = np.stack([self.pool.title_hashes[numbers], self.pool.text_hashes[numbers]])
                found.setdefault(said.tobytes(), context or row["id"])
            if context:
                seen.add(context)
        return found

    def document_order(self, i: int) -> Indices:
        """Pool numbers of all documents of record ``i``, in the record's order.

        Raises:
            IndexError: there is no such record.
        """
        return np.array(self._row(i)["documents"], np.int64)

    def _row(self, i: int) -> dict[str, Any]:
        if not 0 <= i < len(self):
            raise IndexError(f"record {i} does not exist: {self.dataset}/{self.split} has 0 to {len(self) - 1}")
        return self._records.row(i)


def open_folder(dataset: str, split: str, folder: Path) -> ArrowSplit:
    """Open the split whose tables are in ``folder``, memory-mapped.

    Args:
        dataset: The name of the data set.
        split: The name of the split.
        folder: Holds ``RECORDS_FILE`` and ``DOCUMENTS_FILE``.

    Raises:
        OSError: a file is missing.
        pyarrow.ArrowInvalid: a file is damaged.
    """
    tables = [_Table(pa.memory_map(str(folder / name))) for name in (RECORDS_FILE, DOCUMENTS_FILE)]
    return ArrowSplit(dataset, split, *tables)


def from_records(dataset: str, split: str, records: Iterable[Record]) -> ArrowSplit:
    """A split of ``records``, held in memory.

    Args:
        dataset: The name of the data set.
        split: The name of the split.
        records: The records.

    Raises:
        RecordError: a piece of evidence is not in a gold document of its record.
    """
    sinks = Sinks(pa.BufferOutputStream(), pa.BufferOutputStream())
    write_tables(records, sinks)
    return ArrowSplit(dataset, split, *(_Table(sink.getvalue()) for sink in sinks))
