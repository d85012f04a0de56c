"""Where commands print: results to stdout, progress and errors to stderr; tables stay wide without a terminal."""

from __future__ import annotations

import os
import sys

from rich.console import Console

PIPED_WIDTH = 160
"""Columns of output that goes into a pipe or a file."""


def output() -> Console:
    """Standard output; without colours and wide enough for tables if it is not a terminal."""
    return Console(width=None if sys.stdout.isatty() or "COLUMNS" in os.environ else PIPED_WIDTH, highlight=False)


def messages() -> Console:
    """Standard error."""
    return Console(stderr=True, highlight=False)
