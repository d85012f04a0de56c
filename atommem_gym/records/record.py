"""Documents, records and items: the form that every data set is read into."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Document:
    """A title and a text without leading or trailing white space; in dialogues also date and speakers (SPEC D7)."""

    title: str
    """The title."""
    text: str
    """The text."""
    date: str = ""
    """ISO 8601, for example ``2023-05-08T13:56``; empty if there is none."""
    speakers: tuple[str, ...] = ()
    """Names of the people who speak in it."""

    def __repr__(self) -> str:
        """The fields, date and speakers only where there are any."""
        return _shown(self, ("date", "speakers"))


class Evidence(Struct, frozen=True, forbid_unknown_fields=True):
    """One piece of text that answers a question need (SPEC E12): a gold sentence or a whole gold paragraph."""

    title: str
    """Title of the document that contains it."""
    text: str
    """The sentence or paragraph, a substring of the document's text."""
    hop_answer: str
    """What this hop contributes to the answer; empty if the data set does not say."""


@dataclass(frozen=True, slots=True)
class Record:
    """A question, its answers, its documents and which of them are gold."""

    id: str
    """The data set's id of the question."""
    question: str
    """The question."""
    answer: str
    """The gold answer; empty if the question is not answerable."""
    documents: Sequence[Document]
    """The question's own documents, gold and distractors, in the order of the data set."""
    gold: tuple[int, ...]
    """Ascending positions of the gold documents in ``documents``."""
    evidence: tuple[Evidence, ...]
    """The gold sentences or paragraphs."""
    aliases: tuple[str, ...] = ()
    """Other accepted answers."""
    type: str = ""
    """The data set's own question type, for example ``bridge`` or ``comparison``."""
    options: tuple[str, ...] = ()
    """Answers that the question itself offers (``yes``/``no``, or the two things compared); empty if it offers none."""
    answerable: bool = True
    """``False``: the documents hold no answer, and abstaining is the right answer (SPEC R5)."""
    trap: str = ""
    """The wrong answer that a question without an answer invites; empty if the data set names none."""
    context: str = ""
    """The name of the context that ``documents`` are, if many questions are asked about it (SPEC E14)."""

    def __repr__(self) -> str:
        """The fields; ``answerable``, ``trap`` and ``context`` only where they differ from their defaults."""
        return _shown(self, ("answerable", "trap", "context"))

    @property
    def answers(self) -> tuple[str, ...]:
        """The answer and its aliases; empty if the question is not answerable."""
        return (self.answer, *self.aliases) if self.answerable else ()

    @property
    def gold_documents(self) -> tuple[Document, ...]:
        """The gold documents, in the order of the data set."""
        return tuple(self.documents[i] for i in self.gold)


@dataclass(frozen=True, slots=True)
class Item:
    """The task of one episode (SPEC E8): its questions, and its documents in the order of the stream."""

    id: str
    """Names the item within its environment, for example ``hotpotqa/train/3``."""
    index: int
    """Its number, from 0."""
    shuffle_seed: int
    """The layout: the seed of the order of documents, distractors and questions."""
    questions: tuple[Record, ...]
    """The questions, in the order in which they are asked."""
    documents: Sequence[Document]
    """The documents; read one by one where the sequence is lazy."""
    erased: tuple[str, ...] = ()
    """Codes that the documents ask to erase; no question counts while memory keeps one of them (SPEC D9)."""

    def __repr__(self) -> str:
        """The fields; ``erased`` only if it is not empty."""
        return _shown(self, ("erased",))


def _shown(one: Document | Record | Item, optional: Sequence[str]) -> str:
    """The ``repr`` of a dataclass, without ``optional`` fields that have their defaults."""
    pairs = [(field.name, getattr(one, field.name), field.default) for field in fields(one)]
    shown = [f"{name}={value!r}" for name, value, default in pairs if name not in optional or value != default]
    return f"{type(one).__name__}({', '.join(shown)})"


class Items(Protocol):
    """The items of a split, made of records or generated."""

    name: str
    """Names data set and split; the ids of the items begin with it."""
    num_items: int
    """Number of items; valid indices are ``0 .. num_items - 1``."""

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout ``shuffle_seed``; the same in every process.

        Raises:
            IndexError: ``index`` is outside ``0 .. num_items - 1``; the message gives the valid range.
        """
        ...
