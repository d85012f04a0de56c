"""HotpotQA, distractor setting: one raw record to a ``Record`` (Yang et al. 2018, arXiv 1809.09600)."""

from __future__ import annotations

from atommem_gym.records.formats.fields import Raw, answer_text, optional_text, text
from atommem_gym.records.formats.mentions import hop_answer, options
from atommem_gym.records.formats.paragraphs import gold_facts, paragraphs
from atommem_gym.records.record import Evidence, Record

NAME = "hotpotqa"
FIELDS = ("id or _id", "question", "answer", "type", "level", "supporting_facts", "context")


def parse(raw: Raw) -> Record:
    """Parse a record in the official JSON form (``context`` as pairs) or the hub form (``context`` as columns).

    Sentences carry their own leading spaces, so a paragraph's text is their plain concatenation. Evidence is the gold
    sentences; the answer of a hop is the answer if its paragraph contains it, else another gold title that it contains.

    Raises:
        RecordError: a field is missing or malformed; the message names it.
    """
    answer = answer_text(raw, "answer")
    context = paragraphs(raw, joiner="")
    gold, facts = gold_facts(raw, context, numbered=True)
    titles = [context[position].document.title for position in gold]
    evidence = []
    for fact in facts:
        document = context[fact.position].document
        others = [title for title in titles if title != document.title]
        evidence.append(Evidence(document.title, fact.text, hop_answer(document.text, answer, others)))
    question = text(raw, "question")
    kind = optional_text(raw, "type")
    return Record(
        id=text(raw, "_id", "id"),
        question=question,
        answer=answer,
        documents=tuple(paragraph.document for paragraph in context),
        gold=gold,
        evidence=tuple(evidence),
        type=kind,
        options=options(question, answer, kind, titles),
    )
