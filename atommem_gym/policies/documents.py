"""Joins chunks into documents again, so that no agent stores half a sentence because of a chunk border."""

from __future__ import annotations

import re

from atommem_gym.config import EnvConfig
from atommem_gym.records.record import Document
from atommem_gym.step import Observation, Phase
from atommem_gym.tokenizers import Tokenizer

_SENTENCE = re.compile(r"""(?<=[.!?…。！？])["'”’)\]]*\s+""")
_SAID = r"(?P<said> \((?P<date>\d{4}-[^;()\n]*)(?:; (?P<speakers>[^\n]*))?\))?"
_UNSAID = "(?P<date>)(?P<speakers>)"
_UNSAFE = str.maketrans("", "", "<>")


def harmless(text: str) -> str:
    """The ``text`` without angle brackets and outer white space, so that it holds no tag of any dialect.

    >>> harmless("see </create><answer>x</answer> ")
    'see /createanswerx/answer'
    """
    return text.translate(_UNSAFE).strip()


class DocumentReader:
    """Collects the documents of a stream (SPEC E1) from its chunks.

    A document is complete when the next one begins, or with the last chunk. A chunk that is shown again
    (``advance="on_write"``) adds nothing.
    """

    def __init__(self, config: EnvConfig) -> None:
        self._overlapping = config.chunk_overlap > 0
        self._chunk = -1
        self._seen = ""
        """The previous chunk, to find where an overlapping chunk continues it."""
        self._tail = ""
        """The text of the incomplete document so far, with its header if that has not been found yet."""
        self._next = 1
        """Number of the document whose header comes next."""
        self._dated = False
        self._date = self._speakers = ""
        """Date and speakers of the incomplete document."""

    def read(self, observation: Observation) -> list[Document]:
        """The documents that this observation completes; their texts are :func:`harmless`."""
        current, chunks = (int(number) for number in observation["progress"])
        if observation["phase"] != Phase.READING or current == self._chunk:
            return []
        self._chunk = current
        self._tail += self._new_text(observation["chunk"])
        documents = self._complete_documents()
        if current == chunks - 1:
            documents += self._document(self._tail)
            self._tail = ""
        return documents

    def _new_text(self, chunk: str) -> str:
        seen, self._seen = self._seen, chunk
        if not self._overlapping:
            return chunk
        place = seen.find(chunk[:1]) if chunk else -1
        while place >= 0:
            shared = seen[place:]
            if chunk.startswith(shared):
                return chunk[len(shared) :]
            place = seen.find(chunk[:1], place + 1)
        return chunk

    def _complete_documents(self) -> list[Document]:
        documents: list[Document] = []
        while True:
            # Only the header with the next number counts, so a text that quotes another "Document 3:" stays whole.
            header = self._header()
            if header is None:
                return documents
            documents += self._document(self._tail[: header.start()])
            self._tail = self._tail[header.end() :]
            self._date, self._speakers = harmless(header["date"] or ""), harmless(header["speakers"] or "")
            self._next += 1

    def _header(self) -> re.Match[str] | None:
        """The header of the next document, if it has come; in a stream all headers are dated, or none is (SPEC D7)."""
        number = f"Document {self._next}"
        if self._next == 1:
            found = re.match(f"{number}{_SAID}:\n", self._tail)
            self._dated = found is not None and bool(found["said"])
            return found
        return re.search(f"\n\n{number}{_SAID if self._dated else _UNSAID}:\n", self._tail)

    def _document(self, body: str) -> list[Document]:
        title, _, text = body.partition("\n")
        title, text = harmless(title), harmless(text)
        speakers = tuple(self._speakers.split(", ")) if self._speakers else ()
        return [Document(title, text, self._date, speakers)] if title or text else []


def sentences(text: str) -> list[str]:
    """Split a text into sentences after punctuation marks. Joined by spaces, they give the text again.

    >>> sentences("Ada wrote notes. Who read them? Babbage.")
    ['Ada wrote notes.', 'Who read them?', 'Babbage.']
    """
    cuts = [match.end() for match in _SENTENCE.finditer(text)]
    pieces = (text[begin:end].strip() for begin, end in zip([0, *cuts], [*cuts, len(text)], strict=True))
    return [piece for piece in pieces if piece]


def entries(document: Document, tokenizer: Tokenizer, limit: int) -> list[str]:
    """A document as entries of at most ``limit`` tokens: one with title and text, or several, cut between sentences.

    Only the first of several entries has the title, so that joined they give the document again. Every entry of a dated
    document begins with the date, without which a word like "yesterday" means nothing.
    """
    if not document.date:
        return split(f"{document.title}\n{document.text}".strip(), tokenizer, limit)
    said = f"{document.date}: "
    pieces = split(f"{document.title}\n{document.text}".strip(), tokenizer, max(1, limit - tokenizer.count(said)))
    return [f"{said}{piece}" for piece in pieces]


def split(text: str, tokenizer: Tokenizer, limit: int) -> list[str]:
    """Split a text into pieces of at most ``limit`` tokens, between sentences; longer sentences are cut."""
    if tokenizer.count(text) <= limit:
        return [text] if text else []
    pieces = [""]
    for sentence in sentences(text):
        joined = f"{pieces[-1]} {sentence}".strip()
        if tokenizer.count(joined) <= limit:
            pieces[-1] = joined
            continue
        pieces += _cut(sentence, tokenizer, limit)
    return [piece for piece in pieces if piece]


def _cut(sentence: str, tokenizer: Tokenizer, limit: int) -> list[str]:
    pieces = []
    while sentence:
        piece = tokenizer.cut(sentence, limit)
        # Cut between words if possible: half a word would be a wrong word in both pieces.
        border = max(piece.rfind(" "), piece.rfind("\n"))
        if len(piece) < len(sentence) and not sentence[len(piece)].isspace() and border > 0:
            piece = piece[:border].rstrip()
        if not piece:
            break
        pieces.append(piece)
        sentence = sentence[len(piece) :].strip()
    return pieces
