"""Finds requests to erase something in dialogues, by their wording alone."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from atommem_gym.records.record import Document

_REQUEST = re.compile(
    r"\b(?:please|want you to|would like you to|asks? you to)\s+(?:erase|forget|delete|remove)\s+(?:the\s+)?"
    r"(?P<what>[^.,;:!?\n]+)",
    re.IGNORECASE,
)
_FROM_WHERE = re.compile(r"\s+(?:from|in|out of)\s+(?:your|the|my|all)\s+\S+$", re.IGNORECASE)


def asked_to_erase(documents: Iterable[Document]) -> list[str]:
    """What the speakers in documents ask to be erased, in their words; documents without speakers are ignored.

    >>> said = "Ada: Please erase the gate code of Harrow Depot from your notes."
    >>> asked_to_erase([Document("Harrow Depot", said, "2031-05-12", ("Ada",)), Document("A song", said)])
    ['gate code of Harrow Depot']
    """
    said = (document.text for document in documents if document.speakers)
    found = (_FROM_WHERE.sub("", match["what"].strip()) for text in said for match in _REQUEST.finditer(text))
    return list(dict.fromkeys(what for what in found if what))


def names(text: str, wanted: Sequence[str]) -> bool:
    """Whether a text contains one of the ``wanted`` texts, whatever their case."""
    folded = text.casefold()
    return any(what.casefold() in folded for what in wanted)


def without(text: str, unwanted: Sequence[str]) -> str:
    """The text without the lines that contain one of the ``unwanted`` texts."""
    return "\n".join(line for line in text.split("\n") if not names(line, unwanted))
