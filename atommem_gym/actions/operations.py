"""The six operations, and ``Invalid`` for text that fails to be one (SPEC A1, A3)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from numbers import Integral
from typing import ClassVar, Literal, TypeAlias

Kind = Literal["create", "read", "update", "delete", "scratchpad", "answer"]
"""The name of an operation."""
KINDS: tuple[Kind, ...] = ("create", "read", "update", "delete", "scratchpad", "answer")
"""All kinds of operations, in the order in which prompts and tables list them."""
STORAGE_KINDS: tuple[Kind, ...] = ("create", "read", "update", "delete")
"""The operations on the vector store; ``operations=`` switches them off one by one (SPEC M12)."""

MAX_ID_DIGITS = 18
"""An id with more digits is malformed: it would not fit a store's 64-bit field."""


@dataclass(frozen=True, slots=True)
class Create:
    """Add an entry (SPEC M3)."""

    kind: ClassVar[Kind] = "create"
    text: str
    """The text of the entry."""


@dataclass(frozen=True, slots=True)
class Read:
    """Ask for the entries most similar to a query; they are shown one step later (SPEC M4)."""

    kind: ClassVar[Kind] = "read"
    query: str
    """The text that entries are compared with."""


@dataclass(frozen=True, slots=True)
class Update:
    """Replace the text of an entry (SPEC M8)."""

    kind: ClassVar[Kind] = "update"
    id: int
    """The id of the entry; in dialect ``released`` its position among the memories that are shown, from 1."""
    text: str
    """The new text of the entry."""


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove an entry (SPEC M8)."""

    kind: ClassVar[Kind] = "delete"
    id: int
    """The id of the entry; in dialect ``released`` its position among the memories that are shown, from 1."""


@dataclass(frozen=True, slots=True)
class Scratchpad:
    """Replace the whole scratchpad (SPEC M9)."""

    kind: ClassVar[Kind] = "scratchpad"
    text: str
    """The new scratchpad."""


@dataclass(frozen=True, slots=True)
class Answer:
    """Close the open question (SPEC E3)."""

    kind: ClassVar[Kind] = "answer"
    text: str
    """The answer; an empty one abstains (SPEC A1, R5)."""


Operation: TypeAlias = Create | Read | Update | Delete | Scratchpad | Answer
"""Any well-formed operation."""

Reason = Literal["empty", "unclosed", "unknown_tag", "bad_id", "bad_json"]


@dataclass(frozen=True, slots=True)
class Invalid:
    """Text that is recognised as an operation and is malformed; it is rejected and reported (SPEC M11, A3)."""

    kind: Kind
    """The operation that the text most likely stands for."""
    reason: Reason
    """What is wrong, as a word that statistics count."""
    detail: str
    """One short sentence for the policy: what is wrong and what is right."""


def operation(kind: Kind, text: str, address: int | None) -> Operation | Invalid:
    """Build an operation from what a dialect found in its syntax.

    Args:
        kind: The operation's name.
        text: Its text or query; stripped here. Unused by ``delete``.
        address: Its id or position; ``None`` if missing or malformed. Used by ``update`` and ``delete``.
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
    """The ``Invalid`` of an operation whose tag is never closed."""
    return _invalid(kind, "unclosed", f"<{tag}> is never closed by </{tag}>")


@lru_cache(maxsize=64)
def _invalid(kind: Kind, reason: Reason, detail: str) -> Invalid:
    """Equal ones share one object: an action may hold millions of them."""
    return Invalid(kind, reason, detail)


def text_of(op: Operation) -> str | None:
    """The text of the operation ``op``, its query if it is a read, ``None`` if it is a delete."""
    if isinstance(op, Delete):
        return None
    return op.query if isinstance(op, Read) else op.text


def check_formattable(op: Operation) -> None:
    """Raise if no dialect can write the operation (SPEC A6).

    Raises:
        TypeError: it is not an operation, or its text is not a string or its id not an integer.
        ValueError: its text is empty (which only an answer's may be) or has white space around it, or its id is too
            long.
    """
    if not isinstance(op, (Create, Read, Update, Delete, Scratchpad, Answer)):
        raise TypeError(f"{op!r} is not an operation; use {', '.join(KINDS)}")
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
