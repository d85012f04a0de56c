"""Where commands print: results to stdout, progress and errors to stderr; :mod:`atommem_gym.terminal` says how wide.

Log lines show no password; what else is printed is masked by whoever prints it.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from atommem_gym.terminal import SafeConsole, under_one_lock
from atommem_gym.trust import masked

if TYPE_CHECKING:
    from rich.progress import Progress


def output() -> SafeConsole:
    """Standard output."""
    return SafeConsole()


def messages() -> SafeConsole:
    """Standard error."""
    return SafeConsole(stderr=True)


def progress_bar() -> Progress:
    """A bar on standard error with the time that is left; nothing where that is not a terminal."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = messages()
    # Otherwise what is not a terminal gets an empty line.
    shown = console.is_terminal
    bar = Progress(*columns, TimeRemainingColumn(), console=console, transient=True, disable=not shown)
    return under_one_lock(bar, console)


def print_json(value: Any) -> None:
    """A JSON value on standard output, straight to its file: what a program reads is never wrapped, and it is ASCII."""
    output().file.write(json.dumps(value, ensure_ascii=True, indent=1) + "\n")


@contextlib.contextmanager
def safe_warnings() -> Iterator[None]:
    """Within the context log lines go to standard error as safe as all other output, unless a program logs itself."""
    logger = logging.getLogger()
    if logger.handlers:
        yield
        return
    handler = _SafeHandler(logging.WARNING)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


class _SafeHandler(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        try:
            messages().print(masked(self.format(record)), markup=False)
        except Exception:  # as every handler of the standard library does
            self.handleError(record)
