"""Where chunks are cut, at the edges of documents and of the stream (SPEC E1)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from atommem_gym.records.record import Document
from atommem_gym.records.stream import Stream
from atommem_gym.tokenizers import Offsets, load_tokenizer

WORDS = load_tokenizer("words")
DOCUMENTS = (Document("Ada", "Bees."), Document("Bob", "Boats."), Document("Cy", "Cats!"))
TEXT = "Document 1:\nAda\nBees.\n\nDocument 2:\nBob\nBoats.\n\nDocument 3:\nCy\nCats!"
TOKENS_A_DOCUMENT = 6
"""``Document`` ``1`` ``:`` title word mark."""


def chunks(size: int, overlap: int = 0, documents: Sequence[Document] = DOCUMENTS) -> list[str]:
    stream = Stream(documents, WORDS, size, overlap)
    return [stream.chunk(i) for i in range(stream.num_chunks)]


def test_E1_documents_are_numbered_from_one_with_blank_lines_between_and_none_at_the_end() -> None:
    stream = Stream(DOCUMENTS, WORDS, 100)
    assert stream.text == TEXT
    assert (stream.num_tokens, stream.num_chunks) == (18, 1)
    assert stream.chunk(0) == stream.core(0) == TEXT


def test_E1_a_chunk_ends_where_the_next_token_begins() -> None:
    assert chunks(4) == [
        "Document 1:\nAda\n",
        "Bees.\n\nDocument 2",
        ":\nBob\nBoats.\n\n",
        "Document 3:\nCy\n",
        "Cats!",
    ]
    assert chunks(TOKENS_A_DOCUMENT) == TEXT.replace("\n\nD", "\n\n|D").split("|")


def test_E1_overlaps_are_repeated_on_either_side_within_the_stream() -> None:
    assert chunks(6, 2) == [
        "Document 1:\nAda\nBees.\n\nDocument 2",
        "Bees.\n\nDocument 2:\nBob\nBoats.\n\nDocument 3",
        "Boats.\n\nDocument 3:\nCy\nCats!",
    ]
    stream = Stream(DOCUMENTS, WORDS, 6, 2)
    assert [stream.core(i) for i in range(3)] == chunks(6)


@pytest.mark.parametrize(("size", "expected"), [(17, 2), (18, 1), (19, 1), (9, 2), (8, 3), (1, 18)])
def test_E1_the_last_chunk_may_be_short_and_none_is_empty(size: int, expected: int) -> None:
    stream = Stream(DOCUMENTS, WORDS, size)
    cores = [stream.core(i) for i in range(stream.num_chunks)]
    assert len(cores) == expected
    assert all(cores)
    assert "".join(cores) == TEXT


def test_E1_a_stream_without_documents_has_one_empty_chunk() -> None:
    stream = Stream([], WORDS, 5)
    assert (stream.text, stream.num_tokens, stream.num_chunks, stream.chunk(0)) == ("", 0, 1, "")


def test_E1_only_the_separator_goes_from_the_end_of_the_last_document() -> None:
    assert Stream([Document("", "x\n\n")], WORDS, 5).text == "Document 1:\n\nx\n\n"


class _Counting:
    """Words, noting which texts are counted and located."""

    name = "counting"

    def __init__(self) -> None:
        self.counted: list[list[str]] = []
        self.located: list[str] = []

    def starts(self, text: str) -> Offsets:
        self.located.append(text)
        return np.asarray(WORDS.starts(text))

    def count(self, text: str) -> int:
        return WORDS.count(text)

    def counts(self, texts: Sequence[str]) -> list[int]:
        self.counted.append(list(texts))
        return WORDS.counts(texts)

    def cut(self, text: str, limit: int) -> str:
        return WORDS.cut(text, limit)


def test_E1_tokens_are_counted_in_one_batch_and_located_only_inside_a_document_that_is_cut() -> None:
    tokenizer = _Counting()
    stream = Stream(DOCUMENTS, tokenizer, TOKENS_A_DOCUMENT)
    pieces = ["Document 1:\nAda\nBees.\n\n", "Document 2:\nBob\nBoats.\n\n", "Document 3:\nCy\nCats!"]
    assert tokenizer.counted == [pieces]
    assert [stream.chunk(i) for i in range(3)] == pieces
    assert tokenizer.located == []
    assert Stream(DOCUMENTS, tokenizer, 8).chunk(0) == "Document 1:\nAda\nBees.\n\nDocument 2"
    assert tokenizer.located == [pieces[1]]
