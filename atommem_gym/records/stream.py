"""The document stream of an episode, cut into chunks of tokens (SPEC E1)."""

from __future__ import annotations

from abc import ABC
from collections.abc import Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from atommem_gym.records.documents import SEPARATOR, PoolDocuments, body, heading
from atommem_gym.records.identity import DocumentsHash, documents_hash
from atommem_gym.records.record import Document
from atommem_gym.tokenizers import Tokenizer, WordTokenizer

_COUNTED_AT_ONCE = 256
KEPT_AFTER_HEAD = 12
"""Characters after a dated head that no cut separates from it (SPEC D7)."""


class Stream:
    r"""Documents joined as ``Document i:\ntitle\ntext``, with blank lines between, and cut into windows of tokens.

    Tokens are counted document by document (the counts are cheap to batch and to cache), so the token of a document's
    last character never runs into the next document. A cut falls on the beginning of a token, never inside a character.
    Chunks are cut when they are read, so a stream takes no more memory than its documents.

    A document with a date has it in its head, ``Document i (2023-05-08T13:56; Ada, Ben):``. A cut that would fall
    within such a head, or the ``KEPT_AFTER_HEAD`` characters after it, moves before the head: that chunk is shorter,
    and all later cuts move with it. A head that does not fit into a chunk makes that chunk longer.

    >>> from atommem_gym.tokenizers import load_tokenizer
    >>> stream = Stream([Document("Ada", "A mathematician."), Document("Bob", "A cook.")], load_tokenizer("words"), 8)
    >>> stream.num_chunks, stream.chunk(0)
    (2, 'Document 1:\nAda\nA mathematician.\n\n')
    """

    def __init__(
        self, documents: Sequence[Document], tokenizer: Tokenizer, chunk_tokens: int, overlap: int = 0
    ) -> None:
        self.documents = documents
        self._tokenizer = tokenizer
        self._overlap = overlap
        self._chunk_tokens = chunk_tokens
        self._latest = (-1, "")
        self._latest_chunk = (-1, "")
        self._tokens: npt.NDArray[np.int64] = np.concatenate([[0], np.cumsum(self._counts(), dtype=np.int64)])
        self._places: dict[int, tuple[int, int]] = {}
        self.num_tokens = int(self._tokens[-1])
        self._cuts = self._dated_cuts() if _dated(documents) else None
        """The tokens at which the chunks of a dated stream begin, and its end; other streams compute theirs."""
        self.num_chunks = max(1, -(-self.num_tokens // chunk_tokens)) if self._cuts is None else len(self._cuts) - 1

    @property
    def text(self) -> str:
        """The whole stream."""
        return self._between(0, self.num_tokens)

    @cached_property
    def documents_hash(self) -> str:
        """The hash of the documents (:mod:`atommem_gym.records.identity`); lazy ones were hashed when counted."""
        documents = self.documents
        return documents.content_hash() if isinstance(documents, LazyDocuments) else documents_hash(documents)

    def chunk(self, index: int) -> str:
        """Chunk ``index``: tokens ``[chunk_tokens * index - overlap, chunk_tokens * (index + 1) + overlap)``.

        In a dated stream the overlaps do not split a head either.
        """
        latest, text = self._latest_chunk
        if latest != index:
            begin, end = self._bounds(index)
            begin, end = begin - self._overlap, end + self._overlap
            if self._cuts is not None and self._overlap:
                begin, end = self._before_head(begin), self._before_head(end)
            text = self._between(begin, end)
            # The members of a group read the same stream, often at the same pace.
            self._latest_chunk = (index, text)
        return text

    def core(self, index: int) -> str:
        """Chunk ``index`` without its overlaps; all cores joined give the stream."""
        return self._between(*self._bounds(index))

    def _bounds(self, index: int) -> tuple[int, int]:
        """The first token of chunk ``index`` and the one after its last, without overlaps."""
        if self._cuts is None:
            return index * self._chunk_tokens, (index + 1) * self._chunk_tokens
        return self._cuts[index], self._cuts[index + 1]

    def _dated_cuts(self) -> list[int]:
        cuts = [0]
        while cuts[-1] < self.num_tokens or len(cuts) == 1:
            wanted = cuts[-1] + self._chunk_tokens
            cut = self._before_head(wanted)
            while cut <= cuts[-1] < self.num_tokens:
                # The head that begins this chunk does not fit it.
                wanted += 1
                cut = self._before_head(wanted)
            cuts.append(cut)
        return cuts

    def _before_head(self, token: int) -> int:
        """``token``, or the first token of the document whose head a cut there would split."""
        if not 0 < token < self.num_tokens:
            return max(0, min(token, self.num_tokens))
        document, place = self._place(token)
        if place and place < self._kept(document):
            place = 0
            token = int(self._tokens[document])
        # A document of a few characters ends before what is kept after its head.
        while not place and document and len(self._piece(document - 1)) < self._kept(document - 1):
            document -= 1
            token = int(self._tokens[document])
        return token

    def _kept(self, document: int) -> int:
        """How many characters at the beginning of ``document`` (from 0) stay together."""
        head = heading(document + 1, self.documents[document])
        return len(head) + KEPT_AFTER_HEAD

    def _between(self, begin: int, end: int) -> str:
        # In the order of the stream, so that each document that is cut is built once.
        first, start = self._place(begin)
        head = self._piece(first)[start:] if start else ""
        last, stop = self._place(end)
        if first == last:
            return self._piece(first)[start:stop] if stop else ""
        tail = self._piece(last)[:stop] if stop else ""
        return self._joined(head, first + bool(start), last, tail)

    def _place(self, token: int) -> tuple[int, int]:
        """Where a token of the stream begins: the document, and the character in its piece.

        White space before the first token of a piece belongs to the piece; the end of the stream is a document past the
        last one.
        """
        if token <= 0:
            return 0, 0
        if token >= self.num_tokens:
            return len(self.documents), 0
        place = self._places.get(token)
        if place is None:
            piece = int(self._tokens.searchsorted(token, "right")) - 1
            within = token - int(self._tokens[piece])
            place = (piece, self._start(self._piece(piece), within) if within else 0)
            # A chunk begins where the one before ends.
            self._places[token] = place
        return place

    def _start(self, piece: str, token: int) -> int:
        if isinstance(self._tokenizer, WordTokenizer):
            return self._tokenizer.start(piece, token)
        return int(self._tokenizer.starts(piece)[token])

    def _piece(self, i: int) -> str:
        """Document ``i`` (from 0) in the form that it has in the stream."""
        latest, piece = self._latest
        if latest != i:
            piece = as_streamed(i + 1, self.documents[i], last=i == len(self.documents) - 1)
            # A cut document is used three times: to find the cut, to end one chunk and to begin the next.
            self._latest = (i, piece)
        return piece

    def _joined(self, head: str, first: int, stop: int, tail: str) -> str:
        """``head``, documents ``first`` to ``stop - 1`` of the stream, and ``tail``, joined."""
        documents = self.documents
        if not isinstance(documents, PoolDocuments) or documents.pool.dated:
            return "".join([head, *map(self._piece, range(first, stop)), tail])
        # All bytes are decoded at once: a chunk of 35 documents is most of the work of a step.
        parts: list[bytes | memoryview] = [b""] * (2 * (stop - first) + 2)
        parts[0], parts[-1] = head.encode(), tail.encode()
        parts[1:-1:2] = map(_heading, range(first + 1, stop + 1))
        parts[2:-1:2] = documents.pool.bodies(documents.numbers[first:stop])
        text = b"".join(parts).decode()
        return text.removesuffix(SEPARATOR) if first < stop == len(documents) else text

    def _counts(self) -> Sequence[int] | npt.NDArray[np.int64]:
        """The number of tokens of each document in the stream, ``[documents]``."""
        documents, tokenizer = self.documents, self._tokenizer
        if isinstance(documents, LazyDocuments):
            return documents.counts(tokenizer)
        if not (isinstance(documents, PoolDocuments) and isinstance(tokenizer, WordTokenizer) and len(documents)):
            return tokenizer.counts([self._piece(i) for i in range(len(documents))])
        # Any number of up to 8 digits is one token, so a document has the same count at every place.
        counts = documents.pool.remembered(
            tokenizer.name, documents.numbers, lambda new: tokenizer.counts([as_streamed(1, one) for one in new])
        )
        counts[-1] = tokenizer.count(self._piece(len(documents) - 1))
        return counts


class LazyDocuments(Sequence[Document], ABC):
    """Documents that are made when they are read, for streams too long for memory.

    A subclass defines ``__len__`` and ``__getitem__``, and may override :meth:`counts` if it knows the tokens.
    """

    dated = False
    """Whether documents have dates."""
    _hash: str | None = None

    def counts(self, tokenizer: Tokenizer) -> npt.NDArray[np.int64]:
        """Count the tokens of each document in the stream, block by block.

        Args:
            tokenizer: Counts the tokens.

        Returns:
            ``[documents]`` numbers of tokens.
        """
        counts, found = np.zeros(len(self), np.int64), DocumentsHash()
        for first in range(0, len(self), _COUNTED_AT_ONCE):
            block = range(first, min(first + _COUNTED_AT_ONCE, len(self)))
            documents = [self[i] for i in block]
            # Hashed here, since making the documents again only for the hash would double the time.
            found.add(documents)
            pieces = [as_streamed(i + 1, one, last=i == len(self) - 1) for i, one in zip(block, documents, strict=True)]
            counts[first : block.stop] = tokenizer.counts(pieces)
        self._hash = found.hexdigest()
        return counts

    def content_hash(self) -> str:
        """The ``documents_hash`` of the documents; computed while they are counted, else now."""
        if self._hash is None:
            self._hash = documents_hash(self)
        return self._hash


def _dated(documents: Sequence[Document]) -> bool:
    if isinstance(documents, PoolDocuments):
        return documents.pool.dated
    if isinstance(documents, LazyDocuments):
        return documents.dated
    return any(document.date or document.speakers for document in documents)


@lru_cache(maxsize=1024)
def _heading(number: int) -> bytes:
    return b"Document %d:\n" % number


def as_streamed(number: int, document: Document, *, last: bool = False) -> str:
    """Document ``number`` (from 1) in the form that it has in the stream; the ``last`` one has no separator."""
    whole = f"{heading(number, document)}\n{body(document)}"
    return whole.removesuffix(SEPARATOR) if last else whole
