"""LoCoMo in its published format: dated sessions, and questions with evidence by dialogue id (SPEC D8)."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, TypeAlias

from atommem_gym.errors import ConfigError, RecordError, is_integer
from atommem_gym.records.formats.contexts import ParsedContext
from atommem_gym.records.formats.fields import (
    Raw,
    answer_text,
    array,
    document,
    is_list,
    objects,
    optional_text,
    required,
    shown,
    text,
)
from atommem_gym.records.formats.mentions import YES_NO, occurs, plain
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.scoring import is_abstention

NAME = "locomo"
TYPES = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}
"""The categories of questions; those of the fifth have no answer."""
OFFICIAL_ORDER = tuple(f"conv-{number}" for number in (26, 30, 41, 42, 43, 44, 47, 48, 49, 50))
"""The ids of the conversations in the order of the release, by which corrections refer to them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class LoCoMoOptions:
    """The keyword arguments of ``AtomMem-LoCoMo-v0`` besides those of all environments."""

    corrections: str | None = None
    """A JSON file of corrections of answers and evidence (``question_id``, ``question``, ``correct_answer``,
    ``correct_evidence``)."""

    def __post_init__(self) -> None:
        """Check the value.

        Raises:
            ConfigError: it is neither a path nor ``None``.
        """
        if not (self.corrections is None or (isinstance(self.corrections, str) and self.corrections)):
            raise ConfigError(f"corrections={self.corrections!r} must be the path of a JSON file, or None")


Corrections: TypeAlias = Mapping[tuple[int, int], Mapping[str, Any]]
"""Corrections by the numbers of conversation and question in the release."""
_Turns: TypeAlias = dict[tuple[int, int], tuple[int, str]]
"""Session and turn to the position of the document and the line."""

_N = r"([0-9]{1,9})"
_SESSION = re.compile(rf"session_{_N}")
_DIALOGUE = re.compile(rf"D:?{_N}:{_N}")
_QUESTION = re.compile(rf"locomo_{_N}_qa{_N}")
_WHEN = "%I:%M %p on %d %B, %Y"


def parse(raw: Raw, corrections: Corrections | None = None) -> ParsedContext:
    """Parse one conversation: each session is a document, each turn a line.

    A question of the fifth category has no answer, and its ``adversarial_answer`` is the trap; but an ``answer``, if
    given, wins. Evidence is the turns that are named; names of no turn are reported as ``unresolved``.

    Args:
        raw: The conversation.
        corrections: Corrected answers and evidence, from :func:`read_corrections`.

    Raises:
        RecordError: a field is missing or malformed, a session has no date, or its date cannot be read.
    """
    context = text(raw, "sample_id")
    documents, turns = _sessions(required(raw, "conversation"))
    number = OFFICIAL_ORDER.index(context) if context in OFFICIAL_ORDER else -1
    records, unresolved, contradictory = [], [], []
    for i, asked in enumerate(objects(raw, "qa")):
        identity = f"{context}-q{i}"
        try:
            asked = _corrected(asked, (corrections or {}).get((number, i)))
            record, missing = _question(asked, identity, context, documents, turns)
        except RecordError as error:
            raise RecordError(f"field 'qa', question {i}: {error}") from None
        records.append(record)
        unresolved += [f"{identity}: {one}" for one in missing]
        if asked.get("answer") is not None and asked.get("adversarial_answer") is not None:
            contradictory.append(f"{identity}: has an answer and an adversarial one; the answer wins")
    return ParsedContext(tuple(records), tuple(unresolved), (*contradictory, *_asked_twice(records)))


def read_corrections(path: str) -> Corrections:
    """Read a file of corrections: ``question_id``, ``question``, ``correct_answer``, ``correct_evidence`` each.

    Raises:
        ConfigError: the file cannot be read or has another form.
    """
    try:
        values = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"corrections={path!r} cannot be read ({error}); give a JSON list of corrections") from error
    found: dict[tuple[int, int], Mapping[str, Any]] = {}
    for number, one in enumerate(values if isinstance(values, list) else [None]):
        match = _QUESTION.fullmatch(str(one.get("question_id"))) if isinstance(one, dict) else None
        wanted = ("question", "correct_answer", "correct_evidence")
        if match is None or not all(name in one for name in wanted) or not is_list(one["correct_evidence"]):
            raise ConfigError(
                f"corrections={path!r}, entry {number} must have question_id (locomo_0_qa1), {', '.join(wanted)}; it "
                f"is {shown(one)}"
            )
        found[int(match[1]), int(match[2])] = one
    return found


def _sessions(conversation: object) -> tuple[tuple[Document, ...], _Turns]:
    if not isinstance(conversation, Mapping):
        raise RecordError(f"field 'conversation' must be an object, it is {shown(conversation)}")
    speakers = tuple(text(conversation, name) for name in ("speaker_a", "speaker_b"))
    names = sorted((int(match[1]), match[0]) for name in conversation if (match := _SESSION.fullmatch(str(name))))
    documents: list[Document] = []
    turns: _Turns = {}
    for number, name in names:
        lines = []
        for turn in objects(conversation, name) if conversation[name] else []:
            line = _line(turn)
            match = _DIALOGUE.fullmatch(text(turn, "dia_id"))
            if match is None:
                raise RecordError(f"{name}: 'dia_id' must be such as D1:3, it is {shown(turn['dia_id'])}")
            turns[int(match[1]), int(match[2])] = (len(documents), line)
            lines.append(line)
        if lines:
            found = document(f"Session {number}", "\n".join(lines), name)
            date = _date(conversation.get(f"{name}_date_time"), name)
            documents.append(replace(found, date=date, speakers=speakers))
    if not documents:
        raise RecordError("field 'conversation' has no session with turns; they are named session_1, session_2, …")
    return tuple(documents), turns


def _line(turn: Raw) -> str:
    """A turn on one line, with the caption of a picture that was shared."""
    said, caption = (" ".join(optional_text(turn, name).split()) for name in ("text", "blip_caption"))
    shows = f"[shares {caption}]" if caption else ""
    return f"{text(turn, 'speaker')}: {' '.join(part for part in (said, shows) if part)}".strip()


def _date(given: object, name: str) -> str:
    if not isinstance(given, str) or not given.strip():
        raise RecordError(f"{name} has no date; {name}_date_time must say it")
    try:
        return datetime.strptime(" ".join(given.split()), _WHEN).isoformat("T", "minutes")
    except ValueError:
        raise RecordError(f"{name}_date_time must be such as '1:56 pm on 8 May, 2023', it is {shown(given)}") from None


def _question(
    asked: Raw, identity: str, context: str, documents: tuple[Document, ...], turns: _Turns
) -> tuple[Record, list[str]]:
    """The record of a question, and the evidence that names no turn."""
    category = required(asked, "category")
    if not is_integer(category) or category not in TYPES:
        raise RecordError(f"field 'category' must be a number from 1 to 5, it is {shown(category)}")
    answerable = category != 5 or asked.get("answer") is not None
    answer = answer_text(asked, "answer") if answerable else ""
    places, missing = _evidence(asked, turns)
    pieces = [turns[place] for place in places] if answerable else []
    record = Record(
        id=identity,
        question=text(asked, "question"),
        answer=answer,
        documents=documents,
        gold=tuple(sorted({position for position, _ in pieces})),
        evidence=tuple(
            Evidence(documents[position].title, line, answer if _says(line, answer) else "")
            for position, line in pieces
        ),
        type=TYPES[category],
        options=YES_NO if plain(answer) in YES_NO else (),
        answerable=answerable,
        trap="" if answerable else _trap(asked),
        context=context,
    )
    return record, missing


def _says(line: str, answer: str) -> bool:
    return plain(answer) not in YES_NO and occurs(answer, line)


def _trap(asked: Raw) -> str:
    found = answer_text(asked, "adversarial_answer") if asked.get("adversarial_answer") not in (None, "") else ""
    return "" if is_abstention(found) else found


def _evidence(asked: Raw, turns: _Turns) -> tuple[list[tuple[int, int]], list[str]]:
    """The turns that are named, each once, and entries that name none. One may name several (``"D8:6; D9:17"``)."""
    given: Sequence[Any] = array(asked, "evidence") if asked.get("evidence") is not None else ()
    found: dict[tuple[int, int], None] = {}
    missing = []
    for entry in given:
        if not isinstance(entry, str):
            raise RecordError(f"field 'evidence' must be a list of dialogue ids, it holds {shown(entry)}")
        places = [(int(session), int(turn)) for session, turn in _DIALOGUE.findall(entry)]
        found.update(dict.fromkeys(place for place in places if place in turns))
        if not places or any(place not in turns for place in places):
            missing.append(entry)
    return list(found), missing


def _corrected(asked: Raw, correction: Mapping[str, Any] | None) -> Raw:
    if correction is None:
        return asked
    if plain(str(correction["question"])) != plain(str(asked.get("question"))):
        raise RecordError(
            f"the correction {correction['question_id']} is of another question, {shown(correction['question'])}; the "
            "corrections belong to another release"
        )
    return {**asked, "answer": correction["correct_answer"], "evidence": correction["correct_evidence"]}


def _asked_twice(records: Sequence[Record]) -> list[str]:
    """Messages on questions that occur twice in one conversation with different answers."""
    by_question: defaultdict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_question[plain(record.question)].append(record)
    return [
        f"{', '.join(one.id for one in same)}: the same question with different answers"
        for same in by_question.values()
        if len({tuple(map(plain, one.answers)) for one in same}) > 1
    ]
