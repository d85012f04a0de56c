"""Whether a function takes time in proportion to the length of its text (SPEC A3), by its own processor time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHORT, LONG = 4_000, 40_000
"""Characters of the texts that are compared."""
_ENOUGH_S = 0.1
"""Below this nothing is measured reliably, and nothing is slow either."""
_MOST = 40.0
"""A text ten times as long may take so many times as long; were the time quadratic, it would take a hundred times."""
_TRIES = 5
"""A text is measured so many times, or until it is seen to be quick: what the machine does besides only adds time."""


def check_linear(function: Callable[[str], object], pieces: dict[str, str], what: str) -> None:
    """Call a function with long texts made of one piece each.

    Args:
        function: What is measured.
        pieces: Texts that are repeated, by what they are.
        what: The function's name in messages.

    Raises:
        AssertionError: a text takes more than its share of time.
    """
    for name, piece in pieces.items():
        short = max(min(_until(0.0, function, piece * (SHORT // len(piece)))), 1e-4)
        most = max(_ENOUGH_S, _MOST * short)
        long = min(_until(most, function, piece * (LONG // len(piece))))
        assert long < most, (
            f"A3: {what} takes {long:.2f} s for {LONG} characters of {name} ({piece[:30]!r} again and again), and "
            f"{short:.3f} s for {SHORT}: time must be linear in the length"
        )


def _until(enough: float, function: Callable[[str], object], text: str) -> Iterator[float]:
    """Measure until once it took less than enough seconds, or often enough."""
    for _ in range(_TRIES):
        yield (seconds := _seconds(function, text))
        if seconds < enough:
            return


def _seconds(function: Callable[[str], object], text: str) -> float:
    with _no_collector():
        begin = time.thread_time()
        function(text)
        return time.thread_time() - begin


@contextmanager
def _no_collector() -> Iterator[None]:
    """A collection costs as much as the whole process has objects, which is not the function's time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
