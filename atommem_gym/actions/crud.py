"""Dialect ``crud``, the canonical one: ``<create>text</create>`` and its siblings (SPEC A1)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache

from atommem_gym.actions.operations import (
    KINDS,
    MAX_ID_DIGITS,
    Delete,
    Invalid,
    Kind,
    Operation,
    Update,
    check_formattable,
    operation,
    text_of,
    unclosed,
)
from atommem_gym.actions.spelling import near_miss
from atommem_gym.actions.tags import scan
from atommem_gym.replies.thinking import TAG, Pairs, delimiters

_NAMES: dict[str, Kind] = {kind: kind for kind in KINDS}
tag_names: Mapping[str, str] = {}
"""Empty: each tag has the name of its operation."""
_ATTRIBUTE = re.compile(r"""([^\s=/"']+)(?:\s*=\s*("[^"]*"|'[^']*'|[^\s"']+(?=\s|$)))?""")
_INTEGER = re.compile(rf"-?[0-9]{{1,{MAX_ID_DIGITS}}}")


def parse(text: str, thinking: Pairs | None = None) -> list[Operation | Invalid]:
    """Read an action; see :func:`atommem_gym.actions.parse`."""
    found: list[Operation | Invalid] = []
    for name, attributes, content, _ in scan(
        text, _NAMES, thinking=delimiters(thinking), suspect=lambda name: near_miss(name) is not None
    ):
        kind = _NAMES.get(name)
        if kind is None:
            found.append(_misspelt(name))
        elif content is None:
            found.append(unclosed(kind, kind))
        else:
            found.append(operation(kind, content, _id(attributes) if kind in ("update", "delete") else None))
    return found


def _id(attributes: str) -> int | None:
    """The first ``id`` among a tag's attributes, in time linear in their length."""
    for attribute in _ATTRIBUTE.finditer(attributes):
        if attribute[1].lower() == "id":
            value = attribute[2] or ""
            digits = (value[1:-1] if value.startswith(('"', "'")) else value).strip()
            return int(digits) if _INTEGER.fullmatch(digits) else None
    return None


@lru_cache(maxsize=1024)
def _misspelt(name: str) -> Invalid:
    meant = near_miss(name)
    assert meant is not None
    return Invalid(meant, "unknown_tag", f"<{name}> is no tag; write <{meant}>")


def format_operations(operations: Sequence[Operation]) -> str:
    """Write operations; see :func:`atommem_gym.actions.format_action`."""
    return "\n".join(_format(op) for op in operations)


def _format(op: Operation) -> str:
    check_formattable(op)
    if isinstance(op, Delete):
        return f'<delete id="{op.id}"/>'
    text = text_of(op)
    assert text is not None
    for match in TAG.finditer(text):
        if match.group(2).lower() in _NAMES:
            raise ValueError(
                f"{op.kind} text holds the delimiter {match.group()[:40]!r}, which dialect 'crud' reads as a tag"
            )
    attributes = f' id="{op.id}"' if isinstance(op, Update) else ""
    return f"<{op.kind}{attributes}>{text}</{op.kind}>"
