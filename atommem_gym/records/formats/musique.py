"""MuSiQue-Ans: one raw record to a ``Record`` (Trivedi et al. 2022, TACL, arXiv 2108.00573)."""

from __future__ import annotations

from atommem_gym.errors import RecordError, is_integer
from atommem_gym.records.formats.fields import (
    Raw,
    answer_text,
    document,
    encodable,
    is_list,
    objects,
    shown,
    text,
)
from atommem_gym.records.formats.mentions import YES_NO, plain
from atommem_gym.records.record import Document, Evidence, Record

NAME = "musique"
FIELDS = ("id", "question", "answer", "answer_aliases", "answerable", "paragraphs", "question_decomposition")


def parse(raw: Raw) -> Record:
    """Parse a record of MuSiQue-Ans; evidence is the gold paragraphs, the answer of a hop that of its sub-question.

    The question type is the shape in the record's id (``2hop``, ``3hop1``, ...). Evidence is in the order of the
    hops; two hops on one paragraph give two pieces.

    Raises:
        RecordError: a field is missing or malformed (the message names it), or the record is an unanswerable one of
            MuSiQue-Full.
    """
    if raw.get("answerable") is False:
        raise RecordError(
            "field 'answerable' is false: unanswerable questions belong to MuSiQue-Full, which is not supported; "
            "use a musique_ans_v1.0_*.jsonl file"
        )
    identity = text(raw, "id")
    answer = answer_text(raw, "answer")
    documents, gold, numbers = _documents(raw)
    return Record(
        id=identity,
        question=text(raw, "question"),
        answer=answer,
        documents=tuple(documents),
        gold=tuple(gold),
        evidence=tuple(_evidence(raw, documents, gold, numbers)),
        aliases=_aliases(raw, answer),
        type=identity.split("__")[0] if "__" in identity else "",
        options=YES_NO if plain(answer) in YES_NO else (),
    )


def _documents(raw: Raw) -> tuple[list[Document], list[int], dict[int, int]]:
    """The documents, the positions of the gold ones, and the position of each paragraph number."""
    documents: list[Document] = []
    gold: list[int] = []
    numbers: dict[int, int] = {}
    for position, paragraph in enumerate(objects(raw, "paragraphs")):
        where = f"field 'paragraphs', paragraph {position}"
        documents.append(document(paragraph.get("title"), paragraph.get("paragraph_text"), where))
        supporting = paragraph.get("is_supporting")
        if not isinstance(supporting, bool):
            raise RecordError(f"{where}: 'is_supporting' must be true or false, it is {shown(supporting)}")
        if supporting:
            gold.append(position)
        number = paragraph.get("idx", position)
        if not is_integer(number) or number in numbers:
            raise RecordError(f"{where}: 'idx' must be a number that no other paragraph has, it is {shown(number)}")
        numbers[number] = position
    if not gold:
        raise RecordError("field 'paragraphs' has no paragraph with 'is_supporting' true, so the question has no gold")
    return documents, gold, numbers


def _aliases(raw: Raw, answer: str) -> tuple[str, ...]:
    aliases = raw.get("answer_aliases") or ()
    if not is_list(aliases) or not all(isinstance(alias, str) for alias in aliases):
        raise RecordError(f"field 'answer_aliases' must be a list of strings, it is {shown(aliases)}")
    stripped = (encodable(alias.strip(), "field 'answer_aliases'") for alias in aliases)
    return tuple(dict.fromkeys(alias for alias in stripped if alias and alias != answer))


def _evidence(raw: Raw, documents: list[Document], gold: list[int], numbers: dict[int, int]) -> list[Evidence]:
    hops: list[tuple[int, str]] = []
    for row, hop in enumerate(objects(raw, "question_decomposition")):
        where = f"field 'question_decomposition', row {row}"
        position = _support(hop, numbers, where)
        if position is not None and position in gold:
            hops.append((position, _hop_answer(hop, where)))
    covered = {position for position, _ in hops}
    hops += [(position, "") for position in gold if position not in covered]
    return [
        Evidence(documents[position].title, documents[position].text, answer)
        for position, answer in dict.fromkeys(hops)
        if documents[position].text
    ]


def _hop_answer(hop: Raw, where: str) -> str:
    """The answer of a sub-question; empty if there is none."""
    if hop.get("answer") in (None, ""):
        return ""
    try:
        return answer_text(hop, "answer")
    except RecordError as error:
        raise RecordError(f"{where}: {error}") from None


def _support(hop: Raw, numbers: dict[int, int], where: str) -> int | None:
    number = hop.get("paragraph_support_idx")
    if number is None:
        return None
    if not is_integer(number) or number not in numbers:
        raise RecordError(f"{where}: 'paragraph_support_idx' {shown(number)} is not the number of a paragraph")
    return numbers[number]
