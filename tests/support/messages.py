"""What a message must say, whatever its wording: the value, the rule and the remedy."""

from __future__ import annotations

import re
from collections.abc import Sequence


def says(message: object, *parts: str) -> None:
    """Fail unless a message, or an error's, holds every part, each of whole words and in the order given."""
    told, place = str(message), 0
    assert parts, "name what the message must say"
    for part in parts:
        # A number or a name must not be the beginning of a longer one; a part may end in a sign.
        before, after = (r"(?<!\w)" if part[0].isalnum() else ""), (r"(?!\w)" if part[-1].isalnum() else "")
        found = re.compile(before + re.escape(part) + after).search(told, place)
        assert found, f"{told!r} does not say {part!r} where it should"
        place = found.end()


def say(messages: Sequence[object], *wanted: Sequence[str]) -> None:
    """Fail unless there is a message for each of ``wanted`` and no other, and each `says` its parts."""
    assert len(messages) == len(wanted), f"{len(wanted)} messages are wanted: {messages}"
    for message, parts in zip(messages, wanted, strict=True):
        says(message, *parts)
