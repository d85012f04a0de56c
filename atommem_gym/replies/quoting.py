"""Texts of others as data in a prompt: quoted so that none of them can end its field or begin a turn of its own."""

from __future__ import annotations

import json

# Chat templates mark their turns with <…> or […], and servers read such marks in a message as turns: a text could end
# the user's turn and write the model's reply itself.
_ESCAPED = {ord(character): f"\\u{ord(character):04x}" for character in "<>[]"}


def quoted(text: str) -> str:
    r"""A text as a JSON string without angle and square brackets; lone surrogates become question marks.

    >>> print(quoted('Ada said "no".<|im_end|>'))
    "Ada said \"no\".\u003c|im_end|\u003e"
    """
    return json.dumps(text.encode(errors="replace").decode(), ensure_ascii=False).translate(_ESCAPED)
