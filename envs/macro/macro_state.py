"""What a policy over macro-actions knows: the pieces that wait for a decision, what it stored, and what it found."""

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
    """A document, or as much of a long one as fits an entry: what one keep, merge or skip decides."""

    title: str
    text: str
    """As an entry would hold it, a document's first piece with the title."""
    tokens: int
    vector: Vectors
    """``[dim]``, of the text."""
    title_vector: Vectors
    """``[dim]``"""


@dataclass(slots=True, eq=False)
class Stored:
    """An entry and the pieces it is made of."""

    id: int
    text: str
    tokens: int
    pieces: list[Piece]


@dataclass(frozen=True, slots=True)
class Measures:
    """Relevance and similarity of what is stored and what is offered, at one observation.

    Pieces come first those stored, entry by entry, then those offered: ``n = s + o`` of them.
    """

    owners: tuple[Stored, ...]
    """``[s]``: the entry of each stored piece."""
    relevance: Array
    """``[n]``, see :func:`~atommem_gym.envs.macro.relevance.chain_relevance`."""
    to_question: Array
    """``[n]``: cosine similarity to the nearest question."""
    in_question: Array
    """``[n]``: how far a question names the title."""
    to_stored: Array
    """``[o, s]``: cosine similarities of offered and stored pieces."""
    named_by_stored: Array
    """``[o, s]``: how far the stored piece names the offered one's title."""
    names_stored: Array
    """``[o, s]``: how far the offered piece names the stored one's title."""
    to_result: Array
    """``[o]``: cosine similarity to the best memory shown, 0 if none is."""
    named_by_result: Array
    """``[o]``: how far that memory names the title."""

    @property
    def stored(self) -> Array:
        """``[s]``: relevance of the stored pieces."""
        return self.relevance[: len(self.owners)]

    @property
    def offered(self) -> Array:
        """``[o]``: relevance of the offered pieces."""
        return self.relevance[len(self.owners) :]

    def by_entry(self) -> list[tuple[Stored, float]]:
        """Each entry with its relevance, that of its most relevant piece."""
        best: dict[int, tuple[Stored, float]] = {}
        for owner, value in zip(self.owners, self.stored.tolist(), strict=True):
            known = best.get(owner.id)
            best[owner.id] = (owner, value if known is None else max(known[1], value))
        return list(best.values())

    def least_relevant(self, count: int = 1) -> list[Stored]:
        """The entries that matter least, at most ``count`` of them, the older one of equals first."""
        ordered = sorted(self.by_entry(), key=lambda pair: (pair[1], pair[0].id))
        return [entry for entry, _ in ordered[:count]]


@dataclass(slots=True)
class Found:
    """What reads showed since the question was opened (while reading documents: what the last one showed)."""

    texts: list[str] = field(default_factory=list)
    unasked: list[str] = field(default_factory=list)
    """Of these, what has not served as a query yet, the latest read's best hit first."""


class MacroState:
    """Follows one episode through its observations and the operations that were sent.

    It knows nothing that a policy with a text interface could not: chunks, question, feedback, what reads showed, and
    what it wrote itself.

    Args:
        config: Of the environment.
        slots: How many pieces are offered at a time.
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
        """``[1, dim]`` of the best memory shown, ``[0, dim]`` if none is."""
        self._question = ""
        self._documents = DocumentReader(config)
        self._waiting: deque[Piece] = deque()
        self._measures: Measures | None = None

    def fork(self) -> MacroState:
        """The same state, which goes on by itself (SPEC M14); the embedder and what never changes are shared."""
        twin = shallow(self)
        twin.stored = {entry_id: replace(one, pieces=one.pieces.copy()) for entry_id, one in self.stored.items()}
        twin.found = Found(self.found.texts.copy(), self.found.unasked.copy())
        twin._documents = shallow(self._documents)
        twin._waiting = self._waiting.copy()
        # They name the entries of this one.
        twin._measures = None
        return twin

    @property
    def offered(self) -> list[Piece]:
        """The pieces that the next action decides about, in stream order, at most ``slots``."""
        return [self._waiting[i] for i in range(min(self.slots, len(self._waiting)))]

    @property
    def waiting(self) -> int:
        """Pieces that wait, the offered ones among them."""
        return len(self._waiting)

    def embed(self, texts: Sequence[str], kind: TextKind = "document") -> Vectors:
        """Vectors ``[n, dim]`` of the environment's own embedder."""
        return self._embedder.embed(texts, kind) if texts else np.zeros((0, self.dim), np.float32)

    def observe(self, observation: Observation) -> None:
        """Take in an observation: new documents, the question, what a read showed."""
        self._measures = None
        self._waiting += self._pieces(self._documents.read(observation))
        self._note_question(observation)
        self._note_found(observation)

    def sent(self, operations: Sequence[Operation], merged: dict[int, list[Piece]], feedback: str) -> None:
        """Take in what was done: the pieces offered are decided, ids are as the environment confirmed them.

        Args:
            operations: What was sent, in order; each create is of the piece with its text.
            merged: Pieces added to entries, by id.
            feedback: Of the observation that followed.
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
        # Ids are confirmed in the order of the creates; creates are rejected from some point on, when memory is full.
        ids = [int(match[1]) for match in map(_CREATED.fullmatch, feedback.split("\n")) if match]
        creates = [op for op in operations if isinstance(op, Create)]
        for entry_id, op in zip(ids, creates, strict=False):
            piece = by_text[op.text]
            self.stored[entry_id] = Stored(entry_id, piece.text, piece.tokens, [piece])

    def next_question(self) -> None:
        """The open question was answered: what was found for it is forgotten."""
        self.found = Found()
        self.questions_left = max(1, self.questions_left - 1)

    def measures(self) -> Measures:
        """Relevance and similarities now; computed once an observation."""
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
        # A document without a title is known by its text.
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
        # Hits of the latest read come first: they are one hop nearer to the answer.
        self.found.unasked = new + [text for text in self.found.unasked if text not in new]
