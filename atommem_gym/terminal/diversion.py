"""Standard output kept for what a command itself writes, while code of others runs that may print."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def diverted_output() -> Iterator[TextIO]:
    """Within the context, what anybody prints goes to standard error, compiled libraries and child processes included.

    Yields:
        Standard output itself, as UTF-8, for what belongs there. It is not closed: a thread may still write to it.
    """
    _flush()
    # Above the standard streams, of which one may be closed.
    private = os.dup(1)
    try:
        os.dup2(2, 1)
    except OSError:  # no standard error either
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    own = os.fdopen(private, "w", encoding="utf-8", closefd=False)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield own
    finally:
        _flush()
        with contextlib.suppress(OSError, ValueError):
            own.flush()
        os.dup2(private, 1)


def _flush() -> None:
    """What was printed before a change goes where it was meant to."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        sys.stdout.flush()
