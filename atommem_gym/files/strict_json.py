"""Decodes JSON of others strictly: standard JSON alone, of finite numbers, and no value hidden behind another."""

from __future__ import annotations

import json
import math
from typing import Any, NoReturn

_SHOWN = 40
"""Most characters of a key or number in a message, since they may be of any length."""


def strict_json(text: str | bytes) -> Any:
    """Decode a JSON text; messages are short, whatever it holds.

    >>> strict_json('{"score": 1e999}')
    Traceback (most recent call last):
    ValueError: 1e999 is too large for a number

    Raises:
        ValueError: it is not standard JSON: no UTF-8, ``NaN`` or ``Infinity``, a number of more digits than Python
            reads or too large for a float, a key that an object has twice, nested too deeply, or not JSON at all.
    """
    try:
        return json.loads(
            text, parse_float=_finite_float, parse_constant=refuse_constant, object_pairs_hook=unique_object
        )
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _finite_float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[:_SHOWN]} is too large for a number")
    return value


def refuse_constant(name: str) -> NoReturn:
    """The ``parse_constant`` of a strict decoder."""
    raise ValueError(f"{name} is not a JSON number")


def unique_object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The ``object_pairs_hook`` of a strict decoder: one value would hide the other."""
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in made if names.count(name) > 1)
        raise ValueError(f"an object has the key {twice[:_SHOWN]!r} twice")
    return made
