"""The distinct documents of a split, each read from Arrow buffers only when it is used (SPEC D6)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from atommem_gym.records.record import Document

Hashes: TypeAlias = npt.NDArray[np.uint64]
Indices: TypeAlias = npt.NDArray[np.int64]

BATCH = 4096
"""Rows in every Arrow batch except the last, so that a division gives the batch of a row."""
_BATCH_BITS, _ROW = BATCH.bit_length() - 1, BATCH - 1

SEPARATOR = "\n\n"
"""The text between two documents of a stream."""


def heading(number: int, document: Document) -> str:
    """The head line of document ``number`` (from 1), without the line break (SPEC E1, D7).

    >>> heading(3, Document("At the sea", "…", "2023-05-08T13:56", ("Ada", "Ben"))), heading(4, Document("Ada", "…"))
    ('Document 3 (2023-05-08T13:56; Ada, Ben):', 'Document 4:')
    """
    if not (document.date or document.speakers):
        return f"Document {number}:"
    said = "; ".join(part for part in (document.date, ", ".join(document.speakers)) if part)
    return f"Document {number} ({said}):"


def body(document: Document) -> str:
    r"""The text of a document in a stream after its head line, with the separator that follows it.

    >>> body(Document("Ada", "A mathematician."))
    'Ada\nA mathematician.\n\n'
    """
    return f"{document.title}\n{document.text}{SEPARATOR}"


class Strings:
    """Single strings of a column, read directly from its buffers: three times as fast as Arrow scalars."""

    def __init__(self, arrays: list[Any]) -> None:
        # A string array of a file starts at 0 and has an offsets buffer (int32) and a data buffer (UTF-8).
        buffers = [array.buffers() for array in arrays]
        self.parts = [(memoryview(offsets).cast("i"), memoryview(data or b"")) for _, offsets, data in buffers]
        """For each batch, the offsets of its strings and their UTF-8 bytes."""

    def __getitem__(self, index: int) -> memoryview:
        """The bytes of one string, not copied."""
        offsets, data = self.parts[index // BATCH]
        row = index % BATCH
        return data[offsets[row] : offsets[row + 1]]


class Pool:
    """The distinct documents of a split by number; texts stay on disk until they are read.

    They are stored in the form that a stream needs (:func:`body`).
    """

    def __init__(
        self,
        bodies: Strings,
        title_bytes: Indices,
        title_hashes: Hashes,
        text_hashes: Hashes,
        dates: Strings | None = None,
        speakers: Strings | None = None,
    ) -> None:
        """Make a pool of columns of equal length.

        Args:
            bodies: :func:`body` of each document.
            title_bytes: ``[documents]``, the length of each title in UTF-8 bytes.
            title_hashes: ``[documents]``, hashes of the normalised titles.
            text_hashes: ``[documents]``, hashes of the normalised texts.
            dates: The date of each document; ``None`` if no document has one.
            speakers: The speakers of each document, one name per line.
        """
        self._bodies = bodies
        self._dates = dates
        self._speakers = speakers
        self.title_bytes = title_bytes
        """``[documents]``, the length of each title in UTF-8 bytes."""
        self.title_hashes = title_hashes
        """``[documents]``, hashes of the normalised titles."""
        self.text_hashes = text_hashes
        """``[documents]``, hashes of the normalised texts."""
        self._numbers: dict[str, npt.NDArray[np.int32]] = {}

    def __len__(self) -> int:
        return len(self.title_hashes)

    @property
    def dated(self) -> bool:
        """Whether documents have dates."""
        return self._dates is not None

    def document(self, number: int) -> Document:
        """Document ``number``."""
        body, end = self._bodies[number], int(self.title_bytes[number])
        title, text = str(body[:end], "utf-8"), str(body[end + 1 : -len(SEPARATOR)], "utf-8")
        if self._dates is None or self._speakers is None:
            return Document(title, text)
        speakers = str(self._speakers[number], "utf-8")
        return Document(title, text, str(self._dates[number], "utf-8"), tuple(speakers.split("\n") if speakers else ()))

    def bodies(self, numbers: Indices) -> list[memoryview]:
        """:func:`body` of the documents ``numbers`` in UTF-8, not copied."""
        # No method call per document: this is the innermost loop of cutting a chunk.
        parts, found = self._bodies.parts, []
        for number in numbers.tolist():
            offsets, data = parts[number >> _BATCH_BITS]
            row = number & _ROW
            found.append(data[offsets[row] : offsets[row + 1]])
        return found

    def documents(self, numbers: Indices) -> PoolDocuments:
        """The documents ``numbers`` ``[n]``, in this order."""
        return PoolDocuments(self, numbers)

    def remembered(self, name: str, numbers: Indices, measure: Callable[[list[Document]], Sequence[int]]) -> Indices:
        """The result of ``measure`` for each of the documents ``numbers``, computed once per document and kept.

        It takes four bytes per document of the pool. A document that two threads ask for at once may be measured twice.

        Args:
            name: Identifies the measure.
            numbers: ``[n]`` document numbers.
            measure: Gives an integer from 0 for each document.

        Returns:
            ``[n]`` integers.
        """
        known = self._numbers.get(name)
        if known is None:
            known = self._numbers.setdefault(name, np.full(len(self), -1, np.int32))
        found = known[numbers]
        new = numbers[found < 0]
        if len(new):
            known[new] = measure([self.document(number) for number in new.tolist()])
            found = known[numbers]
        return found.astype(np.int64)


class PoolDocuments(Sequence[Document]):
    """Documents of a pool; equal to a tuple of them, but each is read only when it is used.

    An episode of 800 documents starts without reading any and keeps none in memory.
    """

    def __init__(self, pool: Pool, numbers: Indices) -> None:
        """Refer to the documents ``numbers`` ``[n]`` of ``pool``."""
        self.pool = pool
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Document, ...]: ...
    def __getitem__(self, index: int | slice) -> Document | tuple[Document, ...]:
        if isinstance(index, slice):
            return tuple(map(self.pool.document, self.numbers[index].tolist()))
        return self.pool.document(int(self.numbers[index]))

    def __iter__(self) -> Iterator[Document]:
        return map(self.pool.document, self.numbers.tolist())

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PoolDocuments) and other.pool is self.pool:
            return np.array_equal(self.numbers, other.numbers)
        return isinstance(other, PoolDocuments | tuple) and len(self) == len(other) and tuple(self) == tuple(other)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))

    def __reduce__(self) -> tuple[type[tuple[Document, ...]], tuple[list[Document]]]:
        # A pool is a memory-mapped file, which cannot be pickled: pickle the documents themselves.
        return tuple, (list(self),)
