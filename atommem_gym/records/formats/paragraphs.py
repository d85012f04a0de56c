"""What HotpotQA and 2WikiMultiHopQA share: paragraphs cut into sentences, and gold sentences named by number."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from atommem_gym.errors import RecordError, is_integer
from atommem_gym.records.formats.fields import Raw, document, is_list, rows, shown
from atommem_gym.records.record import Document


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph as a document and as its sentences."""

    document: Document
    sentences: tuple[str, ...]
    """Stripped; each is a substring of the document's text."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One piece of evidence: a gold sentence, or the whole paragraph where no sentence number is valid."""

    position: int
    """Of its paragraph in the record."""
    text: str


def paragraphs(raw: Raw, joiner: str) -> list[Paragraph]:
    """The paragraphs of the field ``context``; the sentences of each are joined by ``joiner`` as in the release.

    Raises:
        RecordError: the field is missing, empty or of another shape.
    """
    result: list[Paragraph] = []
    for number, (title, sentences) in enumerate(rows(raw, "context", ["title", ("sentences", "content")])):
        where = f"field 'context', paragraph {number}"
        if not is_list(sentences) or not all(isinstance(sentence, str) for sentence in sentences):
            raise RecordError(f"{where}: the sentences must be a list of strings, they are {shown(sentences)}")
        stripped = tuple(sentence.strip() for sentence in sentences)
        result.append(Paragraph(document(title, joiner.join(sentences), where), stripped))
    if not result:
        raise RecordError("field 'context' must hold at least one paragraph")
    return result


def gold_facts(raw: Raw, context: Sequence[Paragraph], *, numbered: bool) -> tuple[tuple[int, ...], list[Fact]]:
    """The ascending positions of the gold paragraphs, and the evidence in the order of the supporting facts.

    The official releases name some sentences that do not exist; a title none of whose sentence numbers is valid
    contributes its whole paragraph. ``numbered=False`` says that no number can be trusted, so paragraphs it is.

    Of several paragraphs of a gold title (namesakes), the one is meant in which most of the title's sentence numbers
    are valid: such a sentence exists and is not empty. Of equals it is the earliest. Numbers that are valid in another
    namesake only make that one gold, too; if none is valid anywhere, it is the first namesake with a text. Numbers that
    cannot be trusted still choose, for want of anything better; :func:`undecided` says where they leave a choice.

    Raises:
        RecordError: the field ``supporting_facts`` is missing, empty, of another shape, names a title that is not
            in the context, or leaves no evidence text.
    """
    positions = _positions(context)
    wanted: dict[int, Sequence[int]] = {}
    for title, numbers in _supporting(raw, positions).items():
        wanted.update(_meant(context, positions[title], numbers))
    facts = [
        fact for position, numbers in wanted.items() for fact in _facts(context[position], position, numbers, numbered)
    ]
    if not facts:
        raise RecordError("no supporting fact has any text: all gold paragraphs are empty")
    return tuple(sorted(wanted)), facts


def undecided(raw: Raw) -> list[str]:
    """The gold titles of several different paragraphs whose sentence numbers are as valid in one as in another.

    Raises:
        RecordError: see :func:`paragraphs` and :func:`gold_facts`.
    """
    context = paragraphs(raw, joiner=" ")
    positions = _positions(context)
    found = []
    for title, numbers in _supporting(raw, positions).items():
        # Of paragraphs that are the same, either is right; an empty one never is.
        texts = {context[place].document.text: len(_valid(context[place], numbers)) for place in positions[title]}
        counts = [count for text, count in texts.items() if text]
        if counts.count(max(counts, default=0)) > 1:
            found.append(title)
    return found


def _positions(context: Sequence[Paragraph]) -> dict[str, list[int]]:
    """By title, the ascending positions of its paragraphs."""
    positions: dict[str, list[int]] = {}
    for position, paragraph in enumerate(context):
        positions.setdefault(paragraph.document.title, []).append(position)
    return positions


def _supporting(raw: Raw, known: Container[str]) -> dict[str, list[int]]:
    """By gold title, its sentence numbers, each once; in the order of the supporting facts."""
    wanted: dict[str, list[int]] = {}
    for row, (title, number) in enumerate(rows(raw, "supporting_facts", ["title", "sent_id"])):
        where = f"field 'supporting_facts', row {row}"
        if not isinstance(title, str) or title.strip() not in known:
            raise RecordError(f"{where}: title {shown(title)} is not in the context")
        if not is_integer(number):
            raise RecordError(f"{where}: the sentence number must be an integer, it is {shown(number)}")
        numbers = wanted.setdefault(title.strip(), [])
        if number not in numbers:
            numbers.append(number)
    if not wanted:
        raise RecordError("field 'supporting_facts' must name at least one sentence")
    return wanted


def _meant(context: Sequence[Paragraph], places: Sequence[int], numbers: Sequence[int]) -> dict[int, Sequence[int]]:
    """By position of the namesakes that are meant, at least one, the sentence numbers that mean it."""
    if len(places) == 1:
        return {places[0]: numbers}
    meant: dict[int, Sequence[int]] = {}
    left = numbers
    while left:
        best = max(places, key=lambda place: len(_valid(context[place], left)))
        valid = _valid(context[best], left)
        if not valid:
            break
        meant[best] = valid
        left = [number for number in left if number not in valid]
    if not meant:
        meant[next((place for place in places if context[place].document.text), places[0])] = numbers
    return meant


def _valid(paragraph: Paragraph, numbers: Sequence[int]) -> list[int]:
    """The numbers under which the paragraph has a sentence that is not empty."""
    sentences = paragraph.sentences
    return [number for number in numbers if 0 <= number < len(sentences) and sentences[number]]


def _facts(paragraph: Paragraph, position: int, numbers: Sequence[int], numbered: bool) -> list[Fact]:
    valid = [paragraph.sentences[number] for number in _valid(paragraph, numbers)] if numbered else []
    whole = [paragraph.document.text] if paragraph.document.text else []
    return [Fact(position, text) for text in valid or whole]
