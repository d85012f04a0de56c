"""How a stream of documents is shared out among readers, without reading it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from atommem_gym.records.documents import PoolDocuments
from atommem_gym.records.record import Document
from atommem_gym.records.stream import LazyDocuments

PARTS = ("contiguous", "round_robin")
"""In runs of neighbours, or dealt one by one."""


def part_of(documents: Sequence[Document], reader: int, readers: int, parts: str) -> Sequence[Document]:
    """The documents of one reader, in the order of the stream; no two parts differ by more than one document.

    Documents that are made when they are read stay so.

    >>> part_of("abcdefg", 0, 3, "contiguous"), part_of("abcdefg", 1, 3, "round_robin")
    ('abc', 'be')
    """
    if readers == 1:
        return documents
    size, larger = divmod(len(documents), readers)
    begin = reader * size + min(reader, larger)
    where = slice(begin, begin + size + (reader < larger)) if parts == "contiguous" else slice(reader, None, readers)
    if isinstance(documents, PoolDocuments):
        return PoolDocuments(documents.pool, documents.numbers[where])
    if isinstance(documents, LazyDocuments):
        return LazyPart(documents, range(len(documents))[where])
    return documents[where]


class LazyPart(LazyDocuments):
    """Some of the documents of a stream that should not stand in memory."""

    def __init__(self, documents: LazyDocuments, numbers: range) -> None:
        self._documents = documents
        self._numbers = numbers

    def __len__(self) -> int:
        return len(self._numbers)

    @overload
    def __getitem__(self, index: int) -> Document: ...
    @overload
    def __getitem__(self, index: slice) -> list[Document]: ...
    def __getitem__(self, index: int | slice) -> Document | list[Document]:
        if isinstance(index, slice):
            return [self._documents[number] for number in self._numbers[index]]
        return self._documents[self._numbers[index]]
