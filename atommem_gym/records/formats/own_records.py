"""Custom records in the simplest format: a question, its answer, and documents of which the gold ones are marked."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from atommem_gym.errors import RecordError, suggestion
from atommem_gym.records.formats.fields import Raw, answer_text, array, document, encodable, objects, shown, text
from atommem_gym.records.formats.mentions import hop_answer, options
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.scoring import is_abstention

NAME = "own"
FIELDS = ("question", "answer", "documents", "id", "aliases", "type", "options", "answerable", "trap", "context")
DOCUMENT_FIELDS = ("title", "text", "gold", "evidence", "date", "speakers")


def parse(raw: Raw) -> Record:
    """Parse a record: ``question``, ``answer``, ``documents``; optionally ``id``, ``aliases``, ``type``, ``options``.

    A document has a ``title`` and a ``text``. ``"gold": true`` says that the question needs it, ``"evidence"`` (a
    substring of its text, or a list of them) which part of it; without ``evidence`` the whole text counts. ``date``
    (ISO 8601; all documents of a record have one, in the order of time, or none has) and ``speakers`` (names) appear
    in the head line of the document. A question that the documents do not answer has ``"answerable": false`` and no
    answer (SPEC R5), and may have a ``trap``, the wrong answer that it invites. A number is read as its text. Records
    with the same ``context`` ask about one stream and have the same documents (SPEC E14).

    >>> harbour = {"title": "Harbour", "text": "Ships come. The cat eats herring.", "evidence": "The cat eats herring."}
    >>> station = {"title": "Station", "text": "Trains come and go."}
    >>> record = parse({"question": "What does the cat eat?", "answer": "herring", "documents": [harbour, station]})
    >>> record.gold, record.evidence
    ((0,), (Evidence(title='Harbour', text='The cat eats herring.', hop_answer='herring'),))

    Raises:
        RecordError: a field is missing, unknown or malformed (the message names it), or no document is gold although
            the question is answerable.
    """
    _check_names(raw, FIELDS, "the record")
    question, answerable = text(raw, "question"), _answerable(raw)
    answer = answer_text(raw, "answer") if answerable else ""
    documents: list[Document] = []
    pieces: list[tuple[int, str]] = []
    for position, entry in enumerate(objects(raw, "documents")):
        where = f"field 'documents', document {position}"
        _check_names(entry, DOCUMENT_FIELDS, where)
        documents.append(_document(entry, where))
        pieces += [(position, piece) for piece in _evidence(entry, documents[-1], where)]
    gold = tuple(dict.fromkeys(position for position, _ in pieces))
    if not gold and answerable:
        raise RecordError(
            "field 'documents' has no gold document; mark those that the answer needs with \"gold\": true (all of "
            "them, if you do not know which), so that no episode leaves them out"
        )
    kind = text(raw, "type") if raw.get("type") else ""
    titles = [documents[position].title for position in gold]
    offered = _strings(raw, "options") or options(question, answer, kind, titles)
    return Record(
        id=text(raw, "id") if raw.get("id") is not None else _identity(question, answer),
        question=question,
        answer=answer,
        documents=tuple(documents),
        gold=gold,
        evidence=tuple(_piece(documents[position], piece, answer, titles) for position, piece in pieces),
        aliases=tuple(alias for alias in _strings(raw, "aliases") if alias != answer),
        type=kind,
        options=offered,
        answerable=answerable,
        trap=_trap(raw, answerable),
        context=text(raw, "context") if raw.get("context") is not None else "",
    )


def _answerable(raw: Raw) -> bool:
    given = raw.get("answerable")
    if not (given is None or isinstance(given, bool)):
        raise RecordError(f"field 'answerable' must be true or false, it is {shown(given)}")
    if given is False and any(raw.get(name) not in (None, "", []) for name in ("answer", "aliases")):
        raise RecordError("field 'answerable' is false, but there is an answer; leave one of the two out")
    return given is not False


def _trap(raw: Raw, answerable: bool) -> str:
    if raw.get("trap") is None:
        return ""
    if answerable:
        raise RecordError("field 'trap' belongs to a question with \"answerable\": false")
    found = answer_text(raw, "trap")
    return "" if is_abstention(found) else found


def _document(entry: Raw, where: str) -> Document:
    found = document(entry.get("title"), entry.get("text"), where)
    date = text(entry, "date") if entry.get("date") is not None else ""
    return replace(found, date=date, speakers=_strings(entry, "speakers", f"{where}: 'speakers'"))


def _check_names(raw: Raw, known: tuple[str, ...], where: str) -> None:
    """Refuse unknown fields: a document with a misspelt ``"gold"`` must not become a distractor."""
    unknown = [name for name in raw if name not in known]
    if unknown:
        raise RecordError(f"{where} has the unknown field {shown(unknown[0])}; {suggestion(unknown[0], known)}")


def _evidence(entry: Raw, found: Document, where: str) -> list[str]:
    """The pieces of a document that the answer needs; none if it is a distractor."""
    gold, given = entry.get("gold"), entry.get("evidence")
    if not (gold is None or isinstance(gold, bool)):
        raise RecordError(f"{where}: 'gold' must be true or false, it is {shown(gold)}")
    pieces = [given] if isinstance(given, str) else _strings(entry, "evidence", where)
    for piece in pieces:
        if not piece.strip() or piece.strip() not in found.text:
            raise RecordError(f"{where}: the evidence {shown(piece)} is not part of the document's text")
    if pieces and gold is False:
        raise RecordError(f'{where} has evidence, but "gold": false; leave one of the two out')
    if gold and not pieces and not found.text:
        raise RecordError(f"{where} is gold, but its text is empty")
    return [piece.strip() for piece in pieces] or ([found.text] if gold else [])


def _piece(found: Document, piece: str, answer: str, gold_titles: list[str]) -> Evidence:
    others = [title for title in gold_titles if title != found.title]
    return Evidence(found.title, piece, hop_answer(piece, answer, others))


def _strings(raw: Raw, name: str, where: str = "") -> tuple[str, ...]:
    if raw.get(name) is None:
        return ()
    values = array(raw, name)
    if not all(isinstance(value, str) and value.strip() for value in values):
        raise RecordError(f"{where or f'field {name!r}'} must be a list of non-empty strings, it is {shown(values)}")
    return tuple(dict.fromkeys(encodable(value.strip(), where or f"field {name!r}") for value in values))


def _identity(question: str, answer: str) -> str:
    """An id that does not depend on the order of records."""
    return hashlib.blake2b(f"{len(question)}:{question}{answer}".encode(), digest_size=6).hexdigest()
