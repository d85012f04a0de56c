"""Whether texts hold a question's evidence, exactly or by a lenient heuristic (SPEC E12)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache

from atommem_gym.records.record import Evidence, Record
from atommem_gym.scoring import normalize


@lru_cache(maxsize=4096)
def _padded(text: str) -> str:
    """The normalised text between spaces, so that containment respects words; raw lower case if nothing is left."""
    return f" {normalize(text) or text.casefold().strip()} "


def holds(evidence: Evidence, text: str) -> bool:
    """Exact: the normalised evidence is contained in the normalised text. What the oracle reader goes by."""
    return _padded(evidence.text) in _padded(text)


def held(evidence: Sequence[Evidence], text: str) -> list[bool]:
    """:func:`holds` for many pieces and one long text, such as a prompt, of which no copy stays in memory."""
    padded = _padded.__wrapped__(text)
    return [_padded(piece.text) in padded for piece in evidence]


def suggests(evidence: Evidence, text: str) -> bool:
    """Lenient: title and hop answer both occur in the text. A heuristic for policies that paraphrase."""
    padded = _padded(text)
    return _padded(evidence.title) in padded and bool(evidence.hop_answer) and _padded(evidence.hop_answer) in padded


def all_visible(question: Record, texts: Iterable[str]) -> bool:
    """Whether each piece of the question's evidence is held by one of the texts (exactly)."""
    visible = list(texts)
    return all(any(holds(evidence, text) for text in visible) for evidence in question.evidence)
