"""Whether a function takes time in proportion to the length of its text (SPEC A3), by the processor's clock."""

from __future__ import annotations

import time
from collections.abc import Callable

SHORT, LONG = 4_000, 40_000
"""Characters of the texts that are compared."""
_ENOUGH_S = 0.1
"""Below this nothing is measured reliably, and nothing is slow either."""
_MOST = 40.0
"""A text ten times as long may take so many times as long; were the time quadratic, it would take a hundred times."""


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
        long = _seconds(function, piece * (LONG // len(piece)))
        if long < _ENOUGH_S:
            continue
        short = max(_seconds(function, piece * (SHORT // len(piece))), 1e-4)
        assert long < _MOST * short, (
            f"A3: {what} takes {long:.2f} s for {LONG} characters of {name} ({piece[:30]!r} again and again), and "
            f"{short:.3f} s for {SHORT}: time must be linear in the length"
        )


def _seconds(function: Callable[[str], object], text: str) -> float:
    begin = time.process_time()
    function(text)
    return time.process_time() - begin
