"""LongMemEval in its published format: a question over a history of chat sessions, not in order (SPEC D8)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from atommem_gym.errors import RecordError
from atommem_gym.records.formats.contexts import ParsedContext
from atommem_gym.records.formats.fields import (
    Raw,
    answer_text,
    array,
    document,
    is_list,
    optional_text,
    shown,
    text,
)
from atommem_gym.records.formats.mentions import YES_NO, occurs, plain
from atommem_gym.records.record import Document, Evidence, Record

NAME = "longmemeval"
_DATE = re.compile(r"(\d{4})/(\d{1,2})/(\d{1,2})(?:\s*\([A-Za-z]+\))?(?:\s+(\d{1,2}):(\d{2}))?")
_ABSTAINS = "_abs"


@dataclass(frozen=True, slots=True)
class _Session:
    date: str
    id: str
    lines: tuple[str, ...]
    marked: tuple[str, ...]
    """Lines that the data set marks as holding the answer."""
    speakers: tuple[str, ...]


def parse(raw: Raw) -> ParsedContext:
    """Parse one question and its history: sessions sorted by date, one line per turn, the question with its date.

    Evidence is the turns that are marked as holding the answer, or else the sessions that are named. A question whose
    id ends in ``_abs`` has no answer.

    Raises:
        RecordError: a field is missing or malformed, or a session has no date.
    """
    identity = text(raw, "question_id")
    sessions = sorted(_sessions(raw), key=lambda session: session.date)
    documents = tuple(_document(number, session) for number, session in enumerate(sessions, 1))
    answerable = not identity.endswith(_ABSTAINS)
    answer = answer_text(raw, "answer") if answerable else ""
    named = _ids(raw, "answer_session_ids") or []
    pieces = _pieces(sessions, documents, named) if answerable else []
    known = {session.id for session in sessions}
    record = Record(
        id=identity,
        question=_dated(text(raw, "question"), raw.get("question_date")),
        answer=answer,
        documents=documents,
        gold=tuple(sorted({position for position, _ in pieces})),
        evidence=tuple(
            Evidence(documents[position].title, piece, answer if _says(piece, answer) else "")
            for position, piece in pieces
        ),
        type=optional_text(raw, "question_type"),
        options=YES_NO if plain(answer) in YES_NO else (),
        answerable=answerable,
        context=identity,
    )
    return ParsedContext((record,), tuple(f"{identity}: {one}" for one in named if one not in known))


def _sessions(raw: Raw) -> list[_Session]:
    sessions, dates = array(raw, "haystack_sessions"), array(raw, "haystack_dates")
    given = _ids(raw, "haystack_session_ids")
    ids = [""] * len(sessions) if given is None else given
    if not len(sessions) == len(dates) == len(ids):
        raise RecordError(
            f"there are {len(sessions)} haystack_sessions, {len(dates)} haystack_dates and {len(ids)} "
            "haystack_session_ids; each session needs its date and its id"
        )
    found = []
    for number, (session, date, identity) in enumerate(zip(sessions, dates, ids, strict=True)):
        where = f"field 'haystack_sessions', session {number}"
        if not is_list(session) or not all(isinstance(turn, Mapping) for turn in session):
            raise RecordError(f"{where} must be a list of turns, it is {shown(session)}")
        if session:
            moment = _moment(date, where)
            try:
                roles = [text(turn, "role") for turn in session]
                lines = tuple(
                    f"{role}: {optional_text(turn, 'content')}".strip()
                    for role, turn in zip(roles, session, strict=True)
                )
            except RecordError as error:
                raise RecordError(f"{where}: {error}") from None
            marked = tuple(line for line, turn in zip(lines, session, strict=True) if turn.get("has_answer") is True)
            found.append(_Session(moment, identity, lines, marked, tuple(dict.fromkeys(roles))))
    if not found:
        raise RecordError("field 'haystack_sessions' has no session with turns")
    return found


def _ids(raw: Raw, name: str) -> list[str] | None:
    """The ids of sessions under ``name``, texts or numbers; ``None`` if there are none."""
    return None if raw.get(name) is None else [answer_text({name: one}, name) for one in array(raw, name)]


def _document(number: int, session: _Session) -> Document:
    # Not the data set's ids, which tell which sessions hold the answer.
    found = document(f"Session {number}", "\n".join(session.lines), f"session {number}")
    return replace(found, date=session.date, speakers=session.speakers)


def _moment(given: object, where: str) -> str:
    match = _DATE.fullmatch(given.strip()) if isinstance(given, str) else None
    if match is None:
        raise RecordError(
            f"{where} has no date that can be read: it must be such as '2023/05/20 (Sat) 02:21', it is {shown(given)}"
        )
    year, month, day, hour, minute = (int(part or 0) for part in match.groups())
    try:
        moment = datetime(year, month, day, hour, minute)
    except ValueError as error:
        raise RecordError(f"{where} has the date {shown(given)}, which does not exist ({error})") from None
    return moment.isoformat("T", "minutes") if match[4] else moment.date().isoformat()


def _dated(question: str, date: object) -> str:
    """The question with the day on which it is asked, without which "last week" means nothing."""
    return question if date in (None, "") else f"{question} (asked on {_moment(date, 'question_date')})"


def _pieces(sessions: list[_Session], documents: tuple[Document, ...], named: list[str]) -> list[tuple[int, str]]:
    marked = [(position, line) for position, session in enumerate(sessions) for line in session.marked]
    if marked:
        return list(dict.fromkeys(marked))
    return [(position, documents[position].text) for position, session in enumerate(sessions) if session.id in named]


def _says(piece: str, answer: str) -> bool:
    return plain(answer) not in YES_NO and occurs(answer, piece)
