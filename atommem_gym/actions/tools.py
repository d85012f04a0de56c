"""Dialect ``tools``: Hermes/Qwen ``<tool_call>`` blocks, and the function schemas that go with them (SPEC A5)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from atommem_gym.actions.operations import (
    KINDS,
    MAX_ID_DIGITS,
    Delete,
    Invalid,
    Kind,
    Operation,
    Read,
    Update,
    check_formattable,
    operation,
    text_of,
    unclosed,
)
from atommem_gym.actions.spelling import near_miss
from atommem_gym.actions.tags import scan
from atommem_gym.errors import is_integer
from atommem_gym.replies.thinking import TAG, Pairs, delimiters

tag_names: Mapping[str, str] = {}
"""Empty: each function has the name of its operation."""
_CALL = "tool_call"
_NAMES: dict[str, Kind] = {kind: kind for kind in KINDS}
_NAMED = re.compile(r"""["']name["']\s*:\s*["']([A-Za-z0-9_-]{1,40})["']""")
_NO_KIND: Kind = "answer"
"""The kind of a call that names no operation. No ablation switches answers off, so the reason is always reported."""
_INTEGER = re.compile(rf"-?[0-9]{{1,{MAX_ID_DIGITS}}}")
_DESCRIPTIONS: dict[Kind, str] = {
    "create": "Store a new entry in long-term memory. Its id is reported in the next observation.",
    "read": "Search long-term memory. The most similar entries are shown in the next observation.",
    "update": "Replace the text of a stored entry; its id stays the same.",
    "delete": "Remove a stored entry for good.",
    "scratchpad": "Replace the scratchpad, a short note that is always visible.",
    "answer": "Give the final answer to the open question.",
}
_PARAMETERS: dict[Kind, dict[str, dict[str, str]]] = {
    "create": {"text": {"type": "string", "description": "The fact to store, understandable on its own."}},
    "read": {"query": {"type": "string", "description": "What to look for."}},
    "update": {
        "id": {"type": "integer", "description": "The entry's id."},
        "text": {"type": "string", "description": "The new text."},
    },
    "delete": {"id": {"type": "integer", "description": "The entry's id."}},
    "scratchpad": {"text": {"type": "string", "description": "The whole new scratchpad."}},
    "answer": {"text": {"type": "string", "description": "The answer, as short as possible."}},
}


def tool_schemas(kinds: Sequence[Kind] = KINDS) -> list[dict[str, Any]]:
    """OpenAI function schemas of the operations, as chat templates take them under ``tools``.

    Args:
        kinds: The enabled operations, such as ``env.unwrapped.config.kinds``; one schema each, in this order.

    >>> [schema["function"]["name"] for schema in tool_schemas(["create", "answer"])]
    ['create', 'answer']
    """
    return [
        {
            "type": "function",
            "function": {
                "name": kind,
                "description": _DESCRIPTIONS[kind],
                "parameters": {
                    "type": "object",
                    "properties": {name: dict(schema) for name, schema in _PARAMETERS[kind].items()},
                    "required": list(_PARAMETERS[kind]),
                },
            },
        }
        for kind in kinds
    ]


def parse(text: str, thinking: Pairs | None = None) -> list[Operation | Invalid]:
    """Read an action; see :func:`atommem_gym.actions.parse`."""
    return [
        unclosed(_meant(element.begun), _CALL) if element.text is None else _call(element.text)
        for element in scan(text, (_CALL,), thinking=delimiters(thinking), keep_begun=True)
    ]


def _call(body: str) -> Operation | Invalid:
    try:
        call = _decode(body)
        arguments = call.get("arguments", {}) if isinstance(call, dict) else {}
        if isinstance(arguments, str):
            arguments = _decode(arguments)
    except (ValueError, RecursionError):
        return Invalid(_meant(body), "bad_json", f'<{_CALL}> holds no JSON object {{"name": …, "arguments": {{…}}}}')
    name = call.get("name") if isinstance(call, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, dict):
        return Invalid(_meant(body), "bad_json", f'<{_CALL}> needs a "name" and an object of "arguments"')
    kind = _NAMES.get(name.lower())
    if kind is None:
        return Invalid(near_miss(name.lower()) or _NO_KIND, "unknown_tag", f"{name[:40]!r} is no function")
    text = arguments.get("query" if kind == "read" else "text", "")
    if kind == "answer" and text is None:
        text = ""
    if kind != "delete" and not isinstance(text, str):
        return Invalid(kind, "bad_json", f"{kind} needs its text as a JSON string")
    return operation(kind, text if isinstance(text, str) else "", _integer(arguments.get("id")))


def _parse_int(digits: str) -> int | None:
    """``None`` for numbers too long for an id: to read one takes quadratic time, or raises in newer Pythons."""
    return int(digits) if _INTEGER.fullmatch(digits) else None


_decode = json.JSONDecoder(parse_int=_parse_int).decode


def _meant(body: str) -> Kind:
    """The operation that a malformed or unclosed call names, even misspelt."""
    named = _NAMED.search(body)
    name = named[1].lower() if named else ""
    return _NAMES.get(name) or near_miss(name) or _NO_KIND


def _integer(value: object) -> int | None:
    if is_integer(value):
        return value
    digits = value.strip() if isinstance(value, str) else ""
    return int(digits) if _INTEGER.fullmatch(digits) else None


def format_operations(operations: Sequence[Operation]) -> str:
    """Write operations; see :func:`atommem_gym.actions.format_action`."""
    return "\n".join(_format(op) for op in operations)


def _format(op: Operation) -> str:
    check_formattable(op)
    text = text_of(op)
    arguments: dict[str, int | str] = {}
    if isinstance(op, (Update, Delete)):
        arguments["id"] = int(op.id)
    if text is not None:
        arguments["query" if isinstance(op, Read) else "text"] = text
    body = json.dumps({"name": op.kind, "arguments": arguments}, ensure_ascii=False)
    for match in TAG.finditer(body):
        if match.group(2).lower() == _CALL:
            raise ValueError(f"{op.kind} text holds the delimiter {match.group()[:40]!r} of dialect 'tools'")
    return f"<{_CALL}>\n{body}\n</{_CALL}>"
