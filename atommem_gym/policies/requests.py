"""What the speakers of a dialogue ask to be erased, by the words of their requests alone."""

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
    """What the documents ask to be erased, as they call it; only what somebody says is a request.

    >>> said = "Ada: Please erase the gate code of Harrow Depot from your notes."
    >>> asked_to_erase([Document("Harrow Depot", said, "2031-05-12", ("Ada",)), Document("A song", said)])
    ['gate code of Harrow Depot']
    """
    said = (document.text for document in documents if document.speakers)
    found = (_FROM_WHERE.sub("", match["what"].strip()) for text in said for match in _REQUEST.finditer(text))
    return list(dict.fromkeys(what for what in found if what))


def names(text: str, wanted: Sequence[str]) -> bool:
    """Whether a text names one of the things."""
    folded = text.casefold()
    return any(what.casefold() in folded for what in wanted)


def without(text: str, unwanted: Sequence[str]) -> str:
    """The lines of a text that name none of the things."""
    return "\n".join(line for line in text.split("\n") if not names(line, unwanted))
