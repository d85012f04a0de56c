"""Identifies an item by a few hashes, so that a snapshot can recognise it (SPEC M14)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from atommem_gym.records.documents import PoolDocuments, body
from atommem_gym.records.record import Document, Item, Record

PARTS = ("questions", "answers", "evidence", "documents")
"""The parts of an item that are hashed separately, so that an error can say which one differs."""


class DocumentsHash:
    """The hash of a sequence of documents (titles, texts, dates, speakers, order), computed incrementally.

    It is the same in every process and for every kind of sequence: a tuple, a pool's documents, or lazy documents.
    """

    def __init__(self) -> None:
        self._hash = hashlib.blake2b(digest_size=16)

    def add(self, documents: Iterable[Document]) -> None:
        """Add the next documents."""
        for document in documents:
            # Records that were read have no lone surrogates; those made by a program may.
            title = len(document.title.encode("utf-8", "surrogatepass"))
            self._add(title, body(document).encode("utf-8", "surrogatepass"))
            if document.date or document.speakers:
                said = "\n".join((document.date, *document.speakers)).encode("utf-8", "surrogatepass")
                self._hash.update(b"@%d:" % len(said) + said)

    def add_pool(self, documents: PoolDocuments) -> None:
        """Add the next documents, from the bytes in the pool."""
        if documents.pool.dated:
            self.add(documents)
            return
        bodies = documents.pool.bodies(documents.numbers)
        for title, found in zip(documents.pool.title_bytes[documents.numbers].tolist(), bodies, strict=True):
            self._add(title, found)

    def _add(self, title_bytes: int, found: bytes | memoryview) -> None:
        # The lengths tell where a title, a text and a document end.
        self._hash.update(b"%d,%d:" % (title_bytes, len(found)))
        self._hash.update(found)

    def hexdigest(self) -> str:
        """The hash of all documents so far."""
        return self._hash.hexdigest()


def documents_hash(documents: Sequence[Document]) -> str:
    """The :class:`DocumentsHash` of ``documents`` in hexadecimal; lazy documents are read one at a time."""
    found = DocumentsHash()
    if isinstance(documents, PoolDocuments):
        found.add_pool(documents)
    else:
        found.add(documents)
    return found.hexdigest()


def identity(item: Item, documents: str) -> dict[str, str]:
    """The ``id`` of an item and the hashes of its ``PARTS``.

    Args:
        item: The item.
        documents: The :func:`documents_hash` of its documents.
    """
    questions = item.questions
    return {
        "id": item.id,
        "questions": _hash([question.question for question in questions]),
        # The codes to erase decide whether an answer counts.
        "answers": _hash([*(question.answers for question in questions), *([item.erased] if item.erased else [])]),
        "evidence": _hash([_evidence(question) for question in questions]),
        "documents": documents,
    }


def difference(theirs: Mapping[str, str], ours: Mapping[str, str]) -> list[str]:
    """The ``PARTS`` in which two identities differ; ids are not compared."""
    return [part for part in PARTS if theirs[part] != ours[part]]


def _evidence(question: Record) -> list[list[str]]:
    return [[piece.title, piece.text, piece.hop_answer] for piece in question.evidence]


def _hash(value: object) -> str:
    # ASCII JSON has one spelling for every value, also for lone surrogates. A custom item may hold numbers.
    return hashlib.blake2b(json.dumps(value, default=str).encode(), digest_size=16).hexdigest()
