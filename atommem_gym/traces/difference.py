"""The first place at which two JSON values differ, so that a person sees it at once in pages of text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from atommem_gym.traces.record import Json

CONTEXT = 40
"""Characters shown on either side of the place where two texts part."""
_ABSENT = object()


@dataclass(frozen=True, slots=True)
class Difference:
    """One value, as it was recorded and as it is now."""

    step: int
    """From 1; 0 for the reset and for what does not belong to a step."""
    path: str
    """Where, such as ``info.applied.create``."""
    recorded: str
    """The part that differs, as text."""
    replayed: str

    @property
    def line(self) -> str:
        """One line for a log."""
        where = f"step {self.step}" if self.step else "the beginning"
        return f"{where}: {self.path}: recorded {self.recorded}, replayed {self.replayed}"


def first_difference(
    recorded: Json, replayed: Json, *, step: int = 0, path: str = "", tolerance: float = 0.0
) -> Difference | None:
    """Where two JSON values differ first, ``None`` if nowhere.

    >>> first_difference({"n": 1, "notes": ["new", "old"]}, {"n": 1, "notes": ["new", "odd"]}, step=2).line
    "step 2: notes[1]: recorded 'old' (from character 1), replayed 'odd' (from character 1)"

    Args:
        recorded: The one.
        replayed: The other.
        step: Goes into the difference.
        path: Of these values, the start of the difference's path.
        tolerance: How far two numbers with a fraction may be apart.
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
        # Written so that what is no number at all differs from everything.
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
