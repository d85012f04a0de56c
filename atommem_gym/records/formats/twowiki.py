"""2WikiMultiHopQA: one raw record to a ``Record`` (Ho et al. 2020, COLING, aclanthology.org/2020.coling-main.580)."""

from __future__ import annotations

from atommem_gym.records.formats.fields import Raw, answer_text, optional_text, rows, text
from atommem_gym.records.formats.mentions import find, hop_answer, occurs, options, plain, without_qualifier
from atommem_gym.records.formats.paragraphs import Fact, gold_facts, paragraphs
from atommem_gym.records.record import Document, Evidence, Record

NAME = "2wikimultihopqa"
FIELDS = ("id or _id", "question", "answer", "type", "supporting_facts", "context", "evidences")

Triple = tuple[str, str]
"""Subject and object of an evidence triple."""


def parse(raw: Raw) -> Record:
    """Parse a record in the official JSON form or the hub form (columns instead of rows).

    Evidence is the gold sentences. A record without ``evidences`` was converted from another form and its sentence
    numbers are not official, so its evidence is the gold paragraphs. The answer of a hop is the object of the evidence
    triple about the paragraph's title if the paragraph contains it; otherwise it is found as for HotpotQA.

    Raises:
        RecordError: a field is missing or malformed; the message names it.
    """
    answer = answer_text(raw, "answer")
    context = paragraphs(raw, joiner=" ")
    triples = _triples(raw)
    gold, facts = gold_facts(raw, context, numbered=bool(triples))
    titles = [context[position].document.title for position in gold]
    evidence = []
    for fact in facts:
        document = context[fact.position].document
        others = [title for title in titles if title != document.title]
        hop = _object(fact, document, triples) or hop_answer(document.text, answer, others)
        evidence.append(Evidence(document.title, fact.text, hop))
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


def _triples(raw: Raw) -> list[Triple]:
    if not raw.get("evidences"):
        return []
    found = rows(raw, "evidences", [("fact", "subject"), "relation", ("entity", "object")])
    return [(subject, thing) for subject, _, thing in found if isinstance(subject, str) and isinstance(thing, str)]


def _object(fact: Fact, document: Document, triples: list[Triple]) -> str:
    """The object of a triple about this document's title, preferably one that the gold sentence contains."""
    names = {plain(document.title), plain(without_qualifier(document.title))}
    objects = [thing for subject, thing in triples if plain(subject) in names and occurs(thing, document.text)]
    objects.sort(key=lambda thing: find(thing, fact.text) < 0)
    return objects[0] if objects else ""
