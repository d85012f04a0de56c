"""The one width policy of all that is printed (docs/command_line.md, *Width*).

In a terminal no line is wider than the terminal, texts break between words, and what a person copies (a number, an id,
a path) is never broken or cut: a word wider than the terminal stands alone on its line. Tables leave out columns in a
stated order and say which. Into a pipe or a file nothing is wrapped, cut or left out. Nothing that is printed can steer
the terminal: file names, labels and texts come from strangers.
"""

from __future__ import annotations

from atommem_gym.terminal.console import (
    SafeConsole,
    SafeLive,
    drawn,
    make_streams_encodable,
    terminal_width,
    under_one_lock,
)
from atommem_gym.terminal.table import Column, Table
from atommem_gym.terminal.texts import UNBOUNDED, Excerpt, Heading, Line, on_one_line, printable, wrapped

__all__ = [
    "UNBOUNDED",
    "Column",
    "Excerpt",
    "Heading",
    "Line",
    "SafeConsole",
    "SafeLive",
    "Table",
    "drawn",
    "make_streams_encodable",
    "on_one_line",
    "printable",
    "terminal_width",
    "under_one_lock",
    "wrapped",
]
