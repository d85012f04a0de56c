"""Finds the first place at which two JSON values differ, and shows it in one line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atommem_gym.traces.record import Json

CONTEXT = 40
"""Characters shown on either side of the place where two texts begin to differ."""
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """A value that differs between the recorded and the replayed episode."""

    step: int
    """The step, from 1; 0 for the reset and everything that belongs to no step."""
    path: str
    """The place of the value, for example ``info.applied.create``."""
    recorded: str
    """The recorded value, or the part of it that differs, as text."""
    replayed: str
    """The same of the replayed value."""

    @property
    def line(self) -> str:
        """The difference in one line."""
        where = f"step {self.step}" if self.step else "the beginning"
        return f"{where}: {self.path}: recorded {self.recorded}, replayed {self.replayed}"


def first_difference(
    recorded: Json, replayed: Json, *, step: int = 0, path: str = "", tolerance: float = 0.0
) -> Difference | None:
    """The first difference between two JSON values; ``None`` if there is none.

    >>> first_difference({"n": 1, "notes": ["new", "old"]}, {"n": 1, "notes": ["new", "odd"]}, step=2).line
    "step 2: notes[1]: recorded 'old' (from character 1), replayed 'odd' (from character 1)"

    Args:
        recorded: The recorded value.
        replayed: The replayed value.
        step: The ``step`` of the difference.
        path: The path of these values, with which the path of the difference begins.
        tolerance: The largest difference between two floats that counts as equal.
    """
    found = next(_differences(recorded, replayed, path, tolerance), None)
    if found is None:
        return None
    where, one, other = found
    return Difference(step, where, *_shown(one, other))


def _differences(one: Any, other: Any, path: str, tolerance: float) -> Iterator[tuple[str, Any, Any]]:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in dict.fromkeys([*one, *other]):
            here = f"{path}.{name}" if path else name
            yield from _differences(one.get(name, _ABSENT), other.get(name, _ABSENT), here, tolerance)
    elif isinstance(one, (list, tuple)) and isinstance(other, (list, tuple)):
        for i, pair in enumerate(zip(one, other, strict=False)):
            yield from _differences(*pair, f"{path}[{i}]", tolerance)
        if len(one) != len(other):
            i = min(len(one), len(other))
            first, second = (values[i] if i < len(values) else _ABSENT for values in (one, other))
            yield f"{path}[{i}]", first, second
    elif isinstance(one, float) and isinstance(other, float):
        # Written so that NaN differs from everything.
        if not (one == other or abs(one - other) <= tolerance):
            yield path, one, other
    elif type(one) is not type(other) or one != other:
        yield path, one, other


def _shown(one: Any, other: Any) -> tuple[str, str]:
    if not (isinstance(one, str) and isinstance(other, str)):
        return _short(one), _short(other)
    parting = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, parting - CONTEXT)
    return tuple(  # type: ignore[return-value]
        f"{'…' if start else ''}{text[start : parting + CONTEXT]!r}{'…' if len(text) > parting + CONTEXT else ''}"
        f"{f' (from character {parting})' if parting else ''}"
        for text in (one, other)
    )


def _short(value: Any) -> str:
    if value is _ABSENT:
        return "nothing"
    text = repr(value)
    return text if len(text) <= 3 * CONTEXT else f"{text[: 3 * CONTEXT]}…"
