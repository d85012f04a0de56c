"""What a question with its documents is, whatever data set it comes from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Protocol

from msgspec import Struct


@dataclass(frozen=True, slots=True)
class Document:
    """A title and a text (no leading or trailing white space), and when and between whom it was said (SPEC D7)."""

    title: str
    text: str
    date: str = ""
    """ISO 8601, such as ``2023-05-08T13:56``; empty if it has none."""
    speakers: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """The fields, date and speakers only where there are any."""
        return _shown(self, ("date", "speakers"))


class Evidence(Struct, frozen=True, forbid_unknown_fields=True):
    """One piece that is needed to answer a question (SPEC E12): a gold sentence, or a whole gold paragraph."""

    title: str
    """Title of the document that holds it."""
    text: str
    """The sentence or paragraph, a substring of the document's text."""
    hop_answer: str
    """What this hop contributes to the answer; may be empty where the data set does not say."""


@dataclass(frozen=True, slots=True)
class Record:
    """A question, its answers, its documents and which of them are gold."""

    id: str
    question: str
    answer: str
    documents: Sequence[Document]
    """The question's own documents, gold and distractors, in the order of the data set: a tuple, or what behaves as
    one."""
    gold: tuple[int, ...]
    """Ascending positions of the gold documents in ``documents``."""
    evidence: tuple[Evidence, ...]
    aliases: tuple[str, ...] = ()
    """Other accepted answers."""
    type: str = ""
    """The data set's own question type, such as ``bridge`` or ``comparison``."""
    options: tuple[str, ...] = ()
    """Answers that the question itself offers (``yes``/``no``, or the two things compared); empty if it offers none."""
    answerable: bool = True
    """``False``: the documents hold no answer, ``answer`` is empty, and the right one is an abstention (SPEC R5)."""
    trap: str = ""
    """What somebody who guesses at a question without an answer is likely to say."""
    context: str = ""
    """The name of the stream whose documents these are all, if many questions are asked about it (SPEC E14)."""

    def __repr__(self) -> str:
        """The fields; that there is an answer goes without saying."""
        return _shown(self, ("answerable", "trap", "context"))

    @property
    def answers(self) -> tuple[str, ...]:
        """The answer and its aliases; none of a question that has no answer."""
        return (self.answer, *self.aliases) if self.answerable else ()

    @property
    def gold_documents(self) -> tuple[Document, ...]:
        """The gold documents, in the order of the data set."""
        return tuple(self.documents[i] for i in self.gold)


@dataclass(frozen=True, slots=True)
class Item:
    """One episode's task (SPEC E8): its questions and its documents, in the order in which they are streamed."""

    id: str
    index: int
    shuffle_seed: int
    questions: tuple[Record, ...]
    documents: Sequence[Document]
    """A tuple, or what behaves as one."""
    erased: tuple[str, ...] = ()
    """Codes that the documents ask to be erased: no question counts while memory keeps one of them (SPEC D9)."""

    def __repr__(self) -> str:
        """The fields, what is erased only where there is any."""
        return _shown(self, ("erased",))


def _shown(one: Document | Record | Item, optional: Sequence[str]) -> str:
    """As a dataclass is shown, without those of the ``optional`` fields that are at their defaults."""
    pairs = [(field.name, getattr(one, field.name), field.default) for field in fields(one)]
    shown = [f"{name}={value!r}" for name, value, default in pairs if name not in optional or value != default]
    return f"{type(one).__name__}({', '.join(shown)})"


class Items(Protocol):
    """The items of a split, from records or generated."""

    name: str
    num_items: int

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout of ``shuffle_seed``; the same in every process.

        Raises:
            IndexError: ``index`` is outside ``0 .. num_items - 1``; the message holds the valid range.
        """
        ...
