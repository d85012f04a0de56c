"""Where commands print: results to stdout, progress and errors to stderr; tables stay wide without a terminal.

Nothing that is printed can steer the terminal: file names, labels and texts come from strangers. Log lines show no
password; what else is printed is masked by whoever prints it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterable, Iterator

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from atommem_gym.envs.render import printable
from atommem_gym.trust import masked

PIPED_WIDTH = 160
"""Columns of output that goes into a pipe or a file."""


def output() -> Console:
    """Standard output; without colours and wide enough for tables if it is not a terminal."""
    return SafeConsole(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH, highlight=False)


def messages() -> Console:
    """Standard error."""
    return SafeConsole(stderr=True, highlight=False)


class SafeConsole(Console):
    """A console that prints control characters as U+FFFD, whoever prints what."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See ``Console.render``; colours are styles and not part of the text."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


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
            print(printable(masked(self.format(record))), file=sys.stderr)
        except Exception:  # as every handler of the standard library does
            self.handleError(record)
