"""Checks that a function's time is linear in the length of its text (SPEC A3), by its processor time."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SHORT, LONG = 4_000, 40_000
"""Lengths in characters of the texts that are compared."""
_ENOUGH_S = 0.1
"""Seconds below which a call is never judged slow; shorter times cannot be measured reliably."""
_MOST = 40.0
"""How many times longer a text of ten times the length may take; quadratic time would take a hundred times longer."""
_TRIES = 5
"""Measurements of a text at most; the fastest counts, because other load of the machine only adds time."""


def check_linear(function: Callable[[str], object], pieces: dict[str, str], what: str) -> None:
    """Check that a function takes linear time on long texts that repeat one piece each.

    Args:
        function: The function to measure.
        pieces: Non-empty texts to repeat, by a name for messages.
        what: Name of the function in messages.

    Raises:
        AssertionError: a long text takes more than linear time.
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
    """Measure repeatedly until a call takes less than ``enough`` seconds, at most ``_TRIES`` times."""
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
    """Turn off garbage collection, whose time depends on all objects of the process."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
