"""Checks that the dates of a stream are readable, complete and in order (SPEC D7)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime

from atommem_gym.errors import RecordError
from atommem_gym.records.record import Document

_ISO = re.compile(r"\d{4}-\d{2}-\d{2}(?:T\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})?)?", re.ASCII)


def check_dated(documents: Sequence[Document]) -> None:
    """Check that no document has a date, or that all have one and are in the order of time.

    Two dates are compared by day if one of them has no time.

    >>> check_dated([Document("One", "…", "2023-05-08"), Document("Two", "…", "2023-05-07")])
    Traceback (most recent call last):
    atommem_gym.errors.RecordError: document 2 is dated 2023-05-07, before document 1 of 2023-05-08; sort them by date

    Raises:
        RecordError: a date is missing, not ISO 8601, or earlier than the one before; a document has speakers and no
            date, or a speaker's name is invalid.
    """
    if not any(document.date or document.speakers for document in documents):
        return
    earlier = ""
    for number, document in enumerate(documents, 1):
        if not document.date:
            raise RecordError(
                f"document {number} ({document.title[:60]!r}) has no date; in a stream of dates or speakers every "
                "document has its date"
            )
        _check_speakers(number, document.speakers)
        try:
            moment = moment_of(document.date)
        except RecordError as error:
            raise RecordError(f"document {number}: {error}") from None
        if earlier and _before(moment, document.date, earlier):
            raise RecordError(
                f"document {number} is dated {document.date}, before document {number - 1} of {earlier}; sort them by "
                "date"
            )
        earlier = document.date


def moment_of(date: str) -> datetime:
    """The ``datetime`` of a date, without its offset; midnight if it has no time.

    Raises:
        RecordError: it is not an ISO 8601 date.
    """
    try:
        if not _ISO.fullmatch(date):
            raise ValueError("it must be such as 2023-05-08 or 2023-05-08T13:56")
        return datetime.fromisoformat(date.replace("Z", "+00:00")).replace(tzinfo=None)
    except ValueError as error:
        raise RecordError(f"the date {date[:60]!r} is not in ISO 8601 format: {error}") from None


def _before(moment: datetime, date: str, earlier: str) -> bool:
    before = moment_of(earlier)
    if "T" in date and "T" in earlier:
        return moment < before
    return moment.date() < before.date()


def _check_speakers(number: int, speakers: Sequence[str]) -> None:
    if isinstance(speakers, str) or not all(isinstance(name, str) and name.strip() == name for name in speakers):
        raise RecordError(f"document {number}: speakers must be a list of names, they are {speakers!r}")
    for name in speakers:
        # The head of a document is one line.
        if len(name.splitlines()) != 1:
            raise RecordError(f"document {number}: the speaker {name[:60]!r} must be a name on one line")
