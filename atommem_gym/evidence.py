"""Decides whether texts contain a question's evidence, exactly or by a lenient heuristic (SPEC E12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from atommem_gym.records.record import Evidence, Record
from atommem_gym.scoring import normalize


@lru_cache(maxsize=4096)
def _padded(text: str) -> str:
    """The normalised text between spaces, so that containment means whole words; raw lower case if nothing is left."""
    return f" {normalize(text) or text.casefold().strip()} "


def _verbatim(piece: str, text: str) -> bool:
    """Whether the text contains the piece literally, not within longer words.

    Needed where a data set joins sentences ("in 2002.Commonwealth"), since normalising then makes one word of two.
    """
    start = text.find(piece) if piece else -1
    while start >= 0:
        if not (_within_word(text, start) or _within_word(text, start + len(piece))):
            return True
        start = text.find(piece, start + 1)
    return False


def _within_word(text: str, place: int) -> bool:
    return 0 < place < len(text) and text[place - 1].isalnum() and text[place].isalnum()


def holds(evidence: Evidence, text: str) -> bool:
    """Exact: the text contains the evidence, as normalised words or literally; the rule of the oracle reader.

    >>> piece = Evidence("Commonwealth Bank", "Commonwealth Bank sponsored it.", "2002")
    >>> holds(piece, "It began in 2002.Commonwealth Bank sponsored it.")
    True
    """
    return _padded(evidence.text) in _padded(text) or _verbatim(evidence.text.strip(), text)


def held(evidence: Sequence[Evidence], text: str) -> list[bool]:
    """:func:`holds` for many pieces and one long text, for example a prompt, which is not cached."""
    padded = _padded.__wrapped__(text)
    return [_padded(piece.text) in padded or _verbatim(piece.text.strip(), text) for piece in evidence]


def suggests(evidence: Evidence, text: str) -> bool:
    """Lenient: the text contains title and hop answer. A heuristic for policies that paraphrase."""
    padded = _padded(text)
    return _padded(evidence.title) in padded and bool(evidence.hop_answer) and _padded(evidence.hop_answer) in padded


def all_visible(question: Record, texts: Iterable[str]) -> bool:
    """Whether each piece of the question's evidence is in one of the texts (exactly)."""
    visible = list(texts)
    return all(any(holds(evidence, text) for text in visible) for evidence in question.evidence)
