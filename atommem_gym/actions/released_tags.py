r"""Dialect ``released``: the tags of the paper's code, with positions for ids and ``\boxed{}`` answers (SPEC A4)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from atommem_gym.actions.operations import (
    MAX_ID_DIGITS,
    Answer,
    Delete,
    Invalid,
    Kind,
    Operation,
    Read,
    Scratchpad,
    Update,
    check_formattable,
    operation,
    text_of,
    unclosed,
)
from atommem_gym.actions.tags import scan
from atommem_gym.replies.thinking import TAG, Pairs, delimiters
from atommem_gym.scoring.boxed_match import BOX, boxed

_KINDS: dict[str, Kind] = {
    "add_memory": "create",
    "update_query": "read",
    "modify_memory": "update",
    "delete_memory": "delete",
    "update_memory": "scratchpad",
    "final_answer": "answer",
}
TAGS: dict[Kind, str] = {kind: tag for tag, kind in _KINDS.items()}
tag_names: Mapping[str, str] = {str(kind): tag for kind, tag in TAGS.items()}
"""The tag of each kind of operation."""
_ADDRESS = re.compile(rf"\s*memory\s*([0-9]{{1,{MAX_ID_DIGITS}}})(?!\w|[.,][0-9])\s*", re.IGNORECASE)


def parse(text: str, thinking: Pairs | None = None) -> list[Operation | Invalid]:
    """Read an action; see :func:`atommem_gym.actions.parse`.

    As in the released code, no tag counts inside a closed tag of any name, and unknown names are ignored. Unlike there,
    the box of an answer counts anywhere in the answer (docs/released.md, *Differences from the released code*). Reads,
    updates, scratchpads and answers may be empty; the episode decides what that means.
    """
    found: list[Operation | Invalid] = []
    for name, _, content, _ in scan(text, _KINDS, thinking=delimiters(thinking), others_enclose=True):
        kind = _KINDS[name]
        if content is None:
            found.append(unclosed(kind, name))
        elif kind in ("update", "delete"):
            found.append(_addressed(kind, content))
        elif kind == "answer":
            # An answer without a box still closes its question; it matches nothing.
            found.append(Answer((boxed(content) or "").strip()))
        elif kind == "read":
            found.append(Read(content.strip()))
        elif kind == "scratchpad":
            found.append(Scratchpad(content.strip()))
        else:
            found.append(operation(kind, content, None))
    return found


def _addressed(kind: Kind, text: str) -> Operation | Invalid:
    match = _ADDRESS.match(text)
    if match is None:
        return Invalid(kind, "bad_id", f"{TAGS[kind]} names its entry as 'Memory i'")
    rest = text[match.end() :]
    if kind == "update" and not rest.startswith(":"):
        return Invalid(kind, "bad_id", "modify_memory is written 'Memory i: new text'")
    position = int(match.group(1))
    return Update(position, rest[1:].strip()) if kind == "update" else Delete(position)


def format_operations(operations: Sequence[Operation]) -> str:
    """Write operations; see :func:`atommem_gym.actions.format_action`."""
    return "\n".join(_format(op) for op in operations)


def _format(op: Operation) -> str:
    check_formattable(op)
    tag = TAGS[op.kind]
    text = text_of(op)
    if text is not None:
        _check_text(op, text)
    if isinstance(op, (Update, Delete)):
        if op.id < 0:
            raise ValueError(f"{op.kind} id {op.id} is negative; dialect 'released' counts positions from 1")
        body = f"Memory {op.id}" if text is None else f"Memory {op.id}: {text}"
    elif isinstance(op, Answer):
        body = rf"\boxed{{{op.text}}}"
    else:
        body = text or ""
    return f"<{tag}>{body}</{tag}>"


def _check_text(op: Operation, text: str) -> None:
    for match in TAG.finditer(text):
        if match[2].lower() in _KINDS:
            raise ValueError(
                f"{op.kind} text holds the delimiter {match.group()[:40]!r}, which dialect 'released' reads as a tag"
            )
    if isinstance(op, Answer) and not text:
        raise ValueError("an answer without text cannot be boxed: dialect 'released' has no empty answer")
    if isinstance(op, Answer) and boxed(f"{BOX}{text}}}") != text:
        raise ValueError(
            f"answer {text[:60]!r} cannot be boxed: its braces must balance and it must hold no {BOX} of its own"
        )
