"""Reads the fields of a raw record; errors name the field and its rule."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from atommem_gym.errors import RecordError
from atommem_gym.records.record import Document

Raw: TypeAlias = Mapping[str, Any]
"""A record as its file has it."""


def is_list(value: object) -> bool:
    """Whether ``value`` is a JSON array; a string is not."""
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def shown(value: object, most: int = 60) -> str:
    """``value`` for an error message, cut to so many characters."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} with too many digits, or nested too deeply"
    return text if len(text) <= most else f"{text[: most - 3]}..."


def required(raw: Raw, *names: str) -> Any:
    """The value of the first of ``names`` that ``raw`` has.

    Raises:
        RecordError: it has none of them.
    """
    for name in names:
        if raw.get(name) is not None:
            return raw[name]
    wanted = " or ".join(map(shown, names))
    raise RecordError(f"field {wanted} is missing; the record has {shown(sorted(map(str, raw)), 200)}")


def text(raw: Raw, *names: str) -> str:
    """The non-empty string under the first of ``names``, stripped.

    Raises:
        RecordError: it is missing, not a string, or empty.
    """
    value = required(raw, *names)
    if not isinstance(value, str):
        raise RecordError(f"field {names[0]!r} must be a string, it is {shown(value)}")
    if not value.strip():
        raise RecordError(f"field {names[0]!r} must not be empty")
    return encodable(value.strip(), f"field {names[0]!r}")


def optional_text(raw: Raw, name: str) -> str:
    """The string under ``name``, stripped; empty if it is missing.

    >>> optional_text({"type": "bridge "}, "type"), optional_text({"type": None}, "type")
    ('bridge', '')

    Raises:
        RecordError: it is something else than a string.
    """
    value = raw.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RecordError(f"field {name!r} must be a string, or be left out; it is {shown(value)}")
    return encodable(value.strip(), f"field {name!r}")


def answer_text(raw: Raw, *names: str) -> str:
    """An answer: a non-empty string, or a finite number as its text (SPEC R6).

    >>> answer_text({"answer": 2022}, "answer")
    '2022'

    Raises:
        RecordError: it is missing, empty, or neither a string nor a finite number.
    """
    value = required(raw, *names)
    if isinstance(value, int | float) and not isinstance(value, bool):
        if isinstance(value, float) and not math.isfinite(value):
            raise RecordError(f"field {names[0]!r} must be a string or a finite number, it is {shown(value)}")
        try:
            return str(value)
        except ValueError as error:
            raise RecordError(f"field {names[0]!r} is no number that can be written ({error})") from None
    return text(raw, *names)


def array(raw: Raw, *names: str) -> Sequence[Any]:
    """The list under the first of ``names``.

    Raises:
        RecordError: it is missing or not a list.
    """
    value = required(raw, *names)
    if not is_list(value):
        raise RecordError(f"field {shown(names[0])} must be a list, it is {shown(value)}")
    result: Sequence[Any] = value
    return result


def rows(raw: Raw, name: str, columns: Sequence[str | tuple[str, ...]]) -> list[tuple[Any, ...]]:
    """The rows of a table field, whether it is written as rows (official JSON) or as columns (hub form).

    Accepted are ``[[a, b], ...]``, ``[{"x": a, "y": b}, ...]`` and ``{"x": [a, ...], "y": [b, ...]}``; a column may
    have several names, the first of which stands in messages.

    Raises:
        RecordError: another shape, a row of another length, or columns of different lengths.
    """
    names = [(column,) if isinstance(column, str) else column for column in columns]
    value = required(raw, name)
    if isinstance(value, Mapping):
        try:
            found = [array(value, *column) for column in names]
        except RecordError as error:
            raise RecordError(f"field {name!r}: {error}") from None
        if len({len(column) for column in found}) > 1:
            lengths = {column[0]: len(values) for column, values in zip(names, found, strict=True)}
            raise RecordError(f"field {name!r} has columns of different lengths: {shown(lengths, 200)}")
        return list(zip(*found, strict=True))
    if not is_list(value):
        raise RecordError(f"field {name!r} must be a list of rows or a table of columns, it is {shown(value)}")
    return [_row(name, number, row, names) for number, row in enumerate(value)]


def objects(raw: Raw, name: str) -> list[Raw]:
    """The objects of a list field, whether it is written as objects (JSON) or as columns (hub form).

    Raises:
        RecordError: another shape, or columns of different lengths.
    """
    value = required(raw, name)
    if isinstance(value, Mapping):
        columns = list(value)
        return [dict(zip(columns, row, strict=True)) for row in rows(raw, name, columns)]
    if not is_list(value):
        raise RecordError(f"field {name!r} must be a list of objects, it is {shown(value)}")
    for number, row in enumerate(value):
        if not isinstance(row, Mapping):
            raise RecordError(f"field {name!r}, row {number} must be an object, it is {shown(row)}")
    return list(value)


def _row(name: str, number: int, row: object, names: Sequence[tuple[str, ...]]) -> tuple[Any, ...]:
    if isinstance(row, Mapping):
        try:
            return tuple(required(row, *column) for column in names)
        except RecordError as error:
            raise RecordError(f"field {name!r}, row {number}: {error}") from None
    if isinstance(row, Sequence) and not isinstance(row, str | bytes) and len(row) == len(names):
        return tuple(row)
    wanted = ", ".join(column[0] for column in names)
    raise RecordError(f"field {name!r}, row {number} must be [{wanted}], it is {shown(row)}")


def document(title: object, body: object, where: str) -> Document:
    """Make a ``Document`` of a title and a text, both stripped.

    Args:
        title: The title.
        body: The text.
        where: The place in the record, for messages.

    Raises:
        RecordError: one of them is not a string, or the title is empty.
    """
    if not isinstance(title, str) or not title.strip():
        raise RecordError(f"{where}: the title must be a non-empty string, it is {shown(title)}")
    if not isinstance(body, str):
        raise RecordError(f"{where}: the text must be a string, it is {shown(body)}")
    return Document(encodable(title.strip(), where), encodable(body.strip(), where))


def encodable(value: str, where: str) -> str:
    """A text that can be written as UTF-8.

    Args:
        value: The text.
        where: Its place in the record, for messages.

    Raises:
        RecordError: it holds half a surrogate pair.
    """
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RecordError(f"{where} holds half a character (a lone surrogate) at position {error.start}") from None
    return value
