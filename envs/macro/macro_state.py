"""The state of a policy over macro-actions: pieces that wait for a decision, stored entries, and results of reads."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from atommem_gym.actions import Create, Delete, Operation, Update
from atommem_gym.config import EnvConfig
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.envs.branching import shallow
from atommem_gym.envs.macro.relevance import Array, Products, chain_relevance
from atommem_gym.memory.protocols import TextKind, Vectors
from atommem_gym.policies.documents import DocumentReader, entries, harmless
from atommem_gym.records.record import Document
from atommem_gym.step import Observation, Phase
from atommem_gym.tokenizers import load_tokenizer

_CREATED = re.compile(r"created (\d+)")
_NUMBERING = re.compile(r"^\d+\. ")


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A document, or a part of a long one that fits into an entry; each choice decides about one piece."""

    title: str
    """The title of the document."""
    text: str
    """The text for an entry; the first piece of a document begins with the title."""
    tokens: int
    """Tokens of the text."""
    vector: Vectors
    """The vector of the text, ``[dim]``."""
    title_vector: Vectors
    """The vector of the title, ``[dim]``."""


@dataclass(slots=True, eq=False)
class Stored:
    """An entry and the pieces that it consists of."""

    id: int
    """The id of the entry."""
    text: str
    """The text of the entry."""
    tokens: int
    """Tokens of the text."""
    pieces: list[Piece]
    """The pieces, in the order in which they were added."""


@dataclass(frozen=True, slots=True)
class Measures:
    """Relevance and similarity of stored and offered pieces, at one observation.

    Of the ``n = s + o`` pieces the ``s`` stored ones come first, entry by entry, then the ``o`` offered ones.
    """

    owners: tuple[Stored, ...]
    """``[s]``: the entry of each stored piece."""
    relevance: Array
    """``[n]``, see :func:`~atommem_gym.envs.macro.relevance.chain_relevance`."""
    to_question: Array
    """``[n]``: cosine similarity to the nearest question."""
    in_question: Array
    """``[n]``: how much of the title a question names, in [0, 1]."""
    to_stored: Array
    """``[o, s]``: cosine similarities of offered and stored pieces."""
    named_by_stored: Array
    """``[o, s]``: how much of the offered piece's title the stored piece names, in [0, 1]."""
    names_stored: Array
    """``[o, s]``: how much of the stored piece's title the offered piece names, in [0, 1]."""
    to_result: Array
    """``[o]``: cosine similarity to the best memory shown; 0 if none is shown."""
    named_by_result: Array
    """``[o]``: how much of the title that memory names, in [0, 1]."""

    @property
    def stored(self) -> Array:
        """``[s]``: relevance of the stored pieces."""
        return self.relevance[: len(self.owners)]

    @property
    def offered(self) -> Array:
        """``[o]``: relevance of the offered pieces."""
        return self.relevance[len(self.owners) :]

    def by_entry(self) -> list[tuple[Stored, float]]:
        """Each entry with its relevance: that of its most relevant piece."""
        best: dict[int, tuple[Stored, float]] = {}
        for owner, value in zip(self.owners, self.stored.tolist(), strict=True):
            known = best.get(owner.id)
            best[owner.id] = (owner, value if known is None else max(known[1], value))
        return list(best.values())

    def least_relevant(self, count: int = 1) -> list[Stored]:
        """The least relevant entries, at most ``count``; of equals the older one comes first."""
        ordered = sorted(self.by_entry(), key=lambda pair: (pair[1], pair[0].id))
        return [entry for entry, _ in ordered[:count]]


@dataclass(slots=True)
class Found:
    """The entries that reads showed since the question was opened (while reading: those of the last read)."""

    texts: list[str] = field(default_factory=list)
    """Their texts, in the order in which they were shown."""
    unasked: list[str] = field(default_factory=list)
    """The texts that have not been used for a query yet; those of the latest read first, best first."""


class MacroState:
    """Follows one episode by its observations and the operations that were sent.

    It knows only what a policy with a text interface knows: chunks, question, feedback, results of reads, and
    its own operations.

    Args:
        config: The configuration of the environment.
        slots: Number of pieces offered at a time.
    """

    def __init__(self, config: EnvConfig, slots: int) -> None:
        self.config = config
        self.slots = slots
        self.tokenizer = load_tokenizer(config.tokenizer)
        self._embedder = load_embedder(config.embedder, config.embedder_options)
        self.dim = self._embedder.dim
        self.stored: dict[int, Stored] = {}
        self.found = Found()
        self.questions_left = 1
        self.question_vectors: Vectors = np.zeros((0, self.dim), np.float32)
        self.result_vector: Vectors = np.zeros((0, self.dim), np.float32)
        """The vector of the best memory shown, ``[1, dim]``; ``[0, dim]`` if none is shown."""
        self._question = ""
        self._documents = DocumentReader(config)
        self._waiting: deque[Piece] = deque()
        self._measures: Measures | None = None

    def fork(self) -> MacroState:
        """An independent copy (SPEC M14); the embedder and everything immutable are shared."""
        twin = shallow(self)
        twin.stored = {entry_id: replace(one, pieces=one.pieces.copy()) for entry_id, one in self.stored.items()}
        twin.found = Found(self.found.texts.copy(), self.found.unasked.copy())
        twin._documents = shallow(self._documents)
        twin._waiting = self._waiting.copy()
        # They refer to the entries of this state.
        twin._measures = None
        return twin

    @property
    def offered(self) -> list[Piece]:
        """The pieces that the next action decides about, at most ``slots``, in stream order."""
        return [self._waiting[i] for i in range(min(self.slots, len(self._waiting)))]

    @property
    def waiting(self) -> int:
        """Number of pieces that wait for a decision, including the offered ones."""
        return len(self._waiting)

    def embed(self, texts: Sequence[str], kind: TextKind = "document") -> Vectors:
        """Vectors ``[n, dim]`` from the environment's embedder."""
        return self._embedder.embed(texts, kind) if texts else np.zeros((0, self.dim), np.float32)

    def observe(self, observation: Observation) -> None:
        """Follow an observation: new documents, the question, the result of a read."""
        self._measures = None
        self._waiting += self._pieces(self._documents.read(observation))
        self._note_question(observation)
        self._note_found(observation)

    def sent(self, operations: Sequence[Operation], merged: dict[int, list[Piece]], feedback: str) -> None:
        """Follow an action: the offered pieces are decided, and entries get the ids that the environment confirmed.

        Args:
            operations: The operations that were sent, in order; each create has the text of a piece.
            merged: Pieces added to entries, by id.
            feedback: The feedback in the next observation.
        """
        decided = [self._waiting.popleft() for _ in range(min(self.slots, len(self._waiting)))]
        by_text = {piece.text: piece for piece in decided}
        for op in operations:
            if isinstance(op, Delete):
                self.stored.pop(op.id, None)
            elif isinstance(op, Update):
                entry = self.stored[op.id]
                entry.text, entry.tokens = op.text, self.tokenizer.count(op.text)
                entry.pieces += merged[op.id]
        # Ids are confirmed in the order of the creates; when memory is full, all later creates are rejected.
        ids = [int(match[1]) for match in map(_CREATED.fullmatch, feedback.split("\n")) if match]
        creates = [op for op in operations if isinstance(op, Create)]
        for entry_id, op in zip(ids, creates, strict=False):
            piece = by_text[op.text]
            self.stored[entry_id] = Stored(entry_id, piece.text, piece.tokens, [piece])

    def next_question(self) -> None:
        """Go on to the next question and forget the results of reads for the last one."""
        self.found = Found()
        self.questions_left = max(1, self.questions_left - 1)

    def measures(self) -> Measures:
        """Relevance and similarities at the current observation; computed once."""
        if self._measures is None:
            self._measures = self._measure()
        return self._measures

    def _pieces(self, documents: Sequence[Document]) -> list[Piece]:
        limit = self.config.max_entry_tokens
        whole = [f"{document.title}\n{document.text}".strip() for document in documents]
        pairs: list[tuple[str, str]] = []
        counts: list[int] = []
        for document, text, count in zip(documents, whole, self.tokenizer.counts(whole), strict=True):
            texts = [text] if count <= limit else entries(document, self.tokenizer, limit)
            pairs += [(document.title, piece) for piece in texts]
            counts += [count] if count <= limit else self.tokenizer.counts(texts)
        texts = [text for _, text in pairs]
        # Of a document without a title the text is used.
        vectors = self.embed([*texts, *(title or text for title, text in pairs)])
        rows = zip(pairs, counts, vectors[: len(texts)], vectors[len(texts) :], strict=True)
        return [Piece(title, text, count, vector, titled) for (title, text), count, vector, titled in rows]

    def _measure(self) -> Measures:
        owners = tuple(entry for entry in self.stored.values() for _ in entry.pieces)
        pieces = [piece for entry in self.stored.values() for piece in entry.pieces] + self.offered
        q, r, s, n = len(self.question_vectors), len(self.result_vector), len(owners), len(pieces)
        rows = [*self.question_vectors, *self.result_vector, *(piece.vector for piece in pieces)]
        rows += [piece.title_vector for piece in pieces]
        products = Products(np.array(rows, np.float32).reshape(-1, self.dim))
        questions, result, texts = slice(0, q), slice(q, q + r), slice(q + r, q + r + n)
        titles, offered = slice(texts.stop, texts.stop + n), slice(texts.start + s, texts.stop)
        nothing = np.zeros(n)
        to_question = products.cosines(questions, texts).max(0) if q else nothing
        in_question = products.named(questions, titles).max(0) if q else nothing
        names = products.named(texts, titles)
        return Measures(
            owners=owners,
            relevance=chain_relevance(in_question, names, to_question),
            to_question=to_question,
            in_question=in_question,
            to_stored=products.cosines(offered, slice(texts.start, texts.start + s)),
            named_by_stored=names[:s, s:].T,
            names_stored=names[s:, :s],
            to_result=products.cosines(result, offered)[0] if r else nothing[s:],
            named_by_result=products.named(result, titles)[0, s:] if r else nothing[s:],
        )

    def _note_question(self, observation: Observation) -> None:
        question = observation["question"]
        if observation["phase"] == Phase.READING:
            self.questions_left = question.count("\n") + 1
        if question != self._question:
            self._question = question
            lines = [_NUMBERING.sub("", line) for line in question.split("\n") if line.strip()]
            self.question_vectors = self.embed(lines, "query")

    def _note_found(self, observation: Observation) -> None:
        shown = [harmless(memory["text"]) for memory in observation["memories"]]
        self.result_vector = self.embed(shown[:1])
        if observation["phase"] == Phase.READING:
            self.found = Found([], shown)
            return
        new = [text for text in dict.fromkeys(shown) if text and text not in self.found.texts]
        self.found.texts += new
        # Entries of the latest read come first: they are one hop nearer to the answer.
        self.found.unasked = new + [text for text in self.found.unasked if text not in new]
