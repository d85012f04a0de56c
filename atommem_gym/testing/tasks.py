"""Hypothesis strategies for documents, records, items, and whole episodes to play."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import strategies as st

from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.testing.strategies import actions, texts

_SENTENCES = (
    *("Ada was born in Bern.", "Ada kept bees.", "Bern lies on the Aare.", "It has a bear park.", "Zoe built boats."),
    *("She moved to Graz in 1815.", "The river is long.", "東京 is a town.", "Née Curie; see (also) <b>here</b>!"),
)
_TITLES = ("Ada", "Bern", "Zoe", "Graz", "Aare", "Mur", "Bees", "Boats")


@dataclass(frozen=True, slots=True)
class EpisodePlan:
    """An item and the actions to play on it."""

    item: Item
    """The item of the episode."""
    actions: tuple[str, ...]
    """Actions in order; more or fewer than the episode has steps."""


def documents(title: str | None = None) -> st.SearchStrategy[Document]:
    """One document of one to three sentences; its title is drawn when ``title`` is ``None``."""
    # Few draws per document, because an example has dozens of them.
    text = st.lists(st.sampled_from(_SENTENCES), min_size=1, max_size=3).map(" ".join)
    return st.builds(Document, st.just(title) if title else st.sampled_from(_TITLES), text)


@st.composite
def records(draw: st.DrawFn, name: str = "r", min_documents: int = 2, max_documents: int = 6) -> Record:
    """One record: documents with different titles and texts, some of them gold, each with one piece of evidence.

    Args:
        draw: Passed by Hypothesis; leave it out.
        name: The record's id and a part of all titles, so that records of different names share no document.
        min_documents: Fewest documents.
        max_documents: Most documents.
    """
    count = draw(st.integers(min_documents, max_documents))
    found = []
    for i in range(count):
        drawn = draw(documents(f"{_TITLES[i % len(_TITLES)]} {name}-{i}"))
        found.append(Document(drawn.title, f"{drawn.title} is known. {drawn.text}"))
    gold = sorted(draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=min(count, 3))))
    answers = draw(st.lists(texts(2), min_size=1, max_size=3))
    pieces = []
    for number in gold:
        sentences = [sentence for sentence in found[number].text.split(". ") if sentence.strip()]
        sentence = draw(st.sampled_from(sentences))
        pieces.append(Evidence(found[number].title, sentence, draw(st.sampled_from(["", answers[0]]))))
    return Record(
        id=name,
        question=f"{draw(st.sampled_from(_SENTENCES))[:-1]} ({name})?",
        answer=answers[0],
        documents=tuple(found),
        gold=tuple(gold),
        evidence=tuple(pieces),
        aliases=tuple(answers[1:]),
        type=draw(st.sampled_from(["bridge", "comparison"])),
    )


@st.composite
def items(draw: st.DrawFn, max_questions: int = 3) -> Item:
    """One item: one or more questions, and the documents of all of them in any order.

    Args:
        draw: Passed by Hypothesis; leave it out.
        max_questions: Maximum number of questions.
    """
    count = draw(st.integers(1, max_questions))
    questions = tuple(draw(records(f"q{i}")) for i in range(count))
    streamed = draw(st.permutations([document for question in questions for document in question.documents]))
    return Item("drawn/0", 0, 0, questions, tuple(streamed))


@st.composite
def episodes(
    draw: st.DrawFn, dialect: str = "crud", hostile: bool = False, max_questions: int = 3, max_actions: int = 12
) -> EpisodePlan:
    """An item with actions to play on it, more or fewer than the episode has steps.

    Args:
        draw: Passed by Hypothesis; leave it out.
        dialect: Dialect of the actions, see :func:`actions`.
        hostile: Whether half of the actions are hostile texts.
        max_questions: Maximum number of questions.
        max_actions: Maximum number of actions; there is at least one.
    """
    played = draw(st.lists(actions(dialect, hostile), min_size=1, max_size=max_actions))
    return EpisodePlan(draw(items(max_questions)), tuple(played))
