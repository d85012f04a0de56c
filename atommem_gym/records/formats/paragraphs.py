"""What HotpotQA and 2WikiMultiHopQA share: paragraphs of sentences, and gold sentences named by number."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass

from atommem_gym.errors import RecordError, is_integer
from atommem_gym.records.formats.fields import Raw, document, is_list, rows, shown
from atommem_gym.records.record import Document


@dataclass(frozen=True, slots=True)
class Paragraph:
    """A paragraph as a document and as sentences."""

    document: Document
    """Title and text; the text is the sentences joined as in the release."""
    sentences: tuple[str, ...]
    """Stripped; each is a substring of the document's text."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One piece of evidence: a gold sentence, or the whole paragraph if no sentence number is valid."""

    position: int
    """The position of its paragraph in the record."""
    text: str
    """The sentence or paragraph."""


def paragraphs(raw: Raw, joiner: str) -> list[Paragraph]:
    """Read the paragraphs of the field ``context``.

    Args:
        raw: The record.
        joiner: Joins the sentences of a paragraph as the release does.

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

    The official releases name some sentences that do not exist. A title without any valid sentence number
    contributes its whole paragraph. With ``numbered=False`` no number is trusted, and all evidence is paragraphs.

    Of several paragraphs with a gold title (namesakes), gold is the one in which most of the title's sentence numbers
    are valid, that is, name a sentence that is not empty; of equals the earliest. Numbers that are valid only in
    another namesake make that one gold, too. If none is valid anywhere, gold is the first namesake with a text.
    Untrusted numbers still choose among namesakes; :func:`undecided` lists where they leave a choice.

    Args:
        raw: The record.
        context: Its :func:`paragraphs`.
        numbered: Whether the sentence numbers are official.

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
    """Gold titles of several different paragraphs between which the sentence numbers do not decide.

    Raises:
        RecordError: see :func:`paragraphs` and :func:`gold_facts`.
    """
    context = paragraphs(raw, joiner=" ")
    positions = _positions(context)
    found = []
    for title, numbers in _supporting(raw, positions).items():
        # Of equal paragraphs either is right; an empty one never is.
        texts = {context[place].document.text: len(_valid(context[place], numbers)) for place in positions[title]}
        counts = [count for text, count in texts.items() if text]
        if counts.count(max(counts, default=0)) > 1:
            found.append(title)
    return found


def _positions(context: Sequence[Paragraph]) -> dict[str, list[int]]:
    """Title to the ascending positions of its paragraphs."""
    positions: dict[str, list[int]] = {}
    for position, paragraph in enumerate(context):
        positions.setdefault(paragraph.document.title, []).append(position)
    return positions


def _supporting(raw: Raw, known: Container[str]) -> dict[str, list[int]]:
    """Gold title to its sentence numbers, each once, in the order of the supporting facts."""
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
    """The positions of the gold namesakes, at least one, to the sentence numbers that are valid in each."""
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
    """The numbers of sentences that exist in the paragraph and are not empty."""
    sentences = paragraph.sentences
    return [number for number in numbers if 0 <= number < len(sentences) and sentences[number]]


def _facts(paragraph: Paragraph, position: int, numbers: Sequence[int], numbered: bool) -> list[Fact]:
    valid = [paragraph.sentences[number] for number in _valid(paragraph, numbers)] if numbered else []
    whole = [paragraph.document.text] if paragraph.document.text else []
    return [Fact(position, text) for text in valid or whole]
