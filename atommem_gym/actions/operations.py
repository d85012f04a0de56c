"""The vocabulary of actions: six operations, and what becomes of text that meant to be one (SPEC A1, A3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import ClassVar, Literal, TypeAlias

Kind = Literal["create", "read", "update", "delete", "scratchpad", "answer"]
"""The name of an operation."""
KINDS: tuple[Kind, ...] = ("create", "read", "update", "delete", "scratchpad", "answer")
"""All names of operations, in the order in which prompts and tables list them."""
STORAGE_KINDS: tuple[Kind, ...] = ("create", "read", "update", "delete")
"""The operations on the vector store; ``operations=`` switches them off one by one (SPEC M12)."""

MAX_ID_DIGITS = 18
"""Longer numbers are no ids: they would not fit a store's 64-bit field."""


@dataclass(frozen=True, slots=True)
class Create:
    """Add an entry (SPEC M3)."""

    kind: ClassVar[Kind] = "create"
    text: str


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for the entries most similar to a query; they are shown one step later (SPEC M4)."""

    kind: ClassVar[Kind] = "read"
    query: str


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the text of an entry (SPEC M8). ``id`` is a position in the memories shown in dialect ``released``."""

    kind: ClassVar[Kind] = "update"
    id: int
    text: str


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an entry (SPEC M8). ``id`` is a position in the memories shown in dialect ``released``."""

    kind: ClassVar[Kind] = "delete"
    id: int


@dataclass(frozen=True, slots=True)
class Scratchpad:
    """Replace the scratchpad whole (SPEC M9)."""

    kind: ClassVar[Kind] = "scratchpad"
    text: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Close the open question with an answer (SPEC E3), or with an empty one, which abstains (SPEC A1, R5)."""

    kind: ClassVar[Kind] = "answer"
    text: str


Operation: TypeAlias = Create | Read | Update | Delete | Scratchpad | Answer
"""What a well-formed part of an action becomes."""

Reason = Literal["empty", "unclosed", "unknown_tag", "bad_id", "bad_json"]


@dataclass(frozen=True, slots=True)
class Invalid:
    """Text that meant to be an operation and is none; it is rejected and reported (SPEC M11, A3)."""

    kind: Kind
    """The operation that was meant, as far as can be told."""
    reason: Reason
    detail: str
    """One short sentence for the policy: what is wrong and what is right."""


def operation(kind: Kind, text: str, address: int | None) -> Operation | Invalid:
    """Build an operation from what a dialect found in its syntax.

    Args:
        kind: The operation's name.
        text: Its text or query; stripped here. Unused by ``delete``.
        address: The id (or position) it names, ``None`` if missing or malformed. Used by ``update`` and ``delete``.
    """
    text = text.strip()
    if kind in ("update", "delete") and address is None:
        return _invalid(kind, "bad_id", f"{kind} needs an integer id")
    if kind == "delete":
        assert address is not None
        return Delete(address)
    if not text and kind != "answer":
        return _invalid(kind, "empty", f"{kind} needs a text")
    if kind == "update":
        assert address is not None
        return Update(address, text)
    if kind == "create":
        return Create(text)
    if kind == "read":
        return Read(text)
    if kind == "scratchpad":
        return Scratchpad(text)
    return Answer(text)


def unclosed(kind: Kind, tag: str) -> Invalid:
    """What becomes of an operation whose tag is never closed."""
    return _invalid(kind, "unclosed", f"<{tag}> is never closed by </{tag}>")


@lru_cache(maxsize=64)
def _invalid(kind: Kind, reason: Reason, detail: str) -> Invalid:
    """One object for all alike: an action may hold millions of them."""
    return Invalid(kind, reason, detail)


def text_of(op: Operation) -> str | None:
    """The text of the operation ``op``, its query if it is a read, ``None`` if it is a delete."""
    if isinstance(op, Delete):
        return None
    return op.query if isinstance(op, Read) else op.text


def check_formattable(op: Operation) -> None:
    """Raise unless the operation can be written in a dialect at all (SPEC A6).

    Raises:
        TypeError: it is no operation, its text no string or its id no integer.
        ValueError: its text is empty (but for an answer's) or has white space around it, or its id is too long.
    """
    if not isinstance(op, (Create, Read, Update, Delete, Scratchpad, Answer)):
        raise TypeError(f"{op!r} is no operation that can be written; use {', '.join(KINDS)}")
    text: object = text_of(op)
    if text is not None and not isinstance(text, str):
        raise TypeError(f"{op.kind} text {text!r} must be a string")
    if text is not None and (text != text.strip() or not (text or isinstance(op, Answer))):
        raise ValueError(f"{op.kind} text {text[:60]!r} must be non-empty and without white space around it")
    if isinstance(op, (Update, Delete)):
        number: object = op.id
        if isinstance(number, bool) or not isinstance(number, Integral):
            raise TypeError(f"{op.kind} id {number!r} must be an integer")
        if abs(op.id) >= 10**MAX_ID_DIGITS:
            raise ValueError(f"{op.kind} id has more than {MAX_ID_DIGITS} digits; ids are counted from 1")
