"""Texts that a terminal shows: without control characters, broken between words, shortened at a word."""

from __future__ import annotations

import re
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.style import StyleType
from rich.text import Text

UNBOUNDED = 1_000_000
"""Columns of a pipe or a file: more than any line has."""
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_WORD = re.compile(r"\s*\S+\s*")


def printable(text: str, limit: int | None = None) -> str:
    r"""Text without control characters, so that nothing can steer a terminal; of at most about ``limit`` characters.

    A shortened text ends at a word and says how much is missing; a single word that is longer than the limit is cut.

    >>> printable("\x1b[31mred")
    '�[31mred'
    >>> printable("one two three", 9)
    'one two … (+6 characters)'
    """
    text = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)
    if limit is not None and len(text) > limit:
        kept = _whole_words(text, limit) or text[:limit]
        text = f"{kept} … (+{len(text) - len(kept)} characters)"
    return text


def on_one_line(text: str, limit: int | None = None) -> str:
    r"""Text without line breaks, of at most ``limit`` columns; a shortened one ends at a word.

    >>> on_one_line("one\ntwo three", 9)
    'one two …'
    """
    text = " ".join(printable(text).split())
    if limit is None or cell_len(text) <= limit:
        return text
    most = max(limit - 2, 0)
    while cell_len(text[:most]) > max(limit - 2, 0):
        most -= 1
    return f"{_whole_words(text, most)} …".lstrip()


def wrapped(text: Text, width: int) -> Text:
    """The text with line breaks between words, so that no line is wider, but for a word that is.

    Lines that begin with spaces go on indented as far.

    >>> print(wrapped(Text("  one two three"), 10).plain)
      one two
      three
    """
    if all(cell_len(line) <= width for line in text.plain.split("\n")):
        return text
    lines: list[Text] = []
    for line in text.split("\n", allow_blank=True):
        plain = line.plain
        indent = " " * min(len(plain) - len(plain.lstrip()), width // 2)
        breaks, used = [], 0
        for word in _WORD.finditer(plain):
            long = cell_len(word[0].rstrip())
            if used + long > width and word.start():
                breaks.append(word.start())
                used = len(indent)
            used += cell_len(word[0])
        for number, part in enumerate(line.divide(breaks)):
            part.rstrip()
            lines.append(Text(indent).append_text(part) if number and indent else part)
    joined = Text("\n").join(lines)
    joined.style, joined.justify, joined.end = text.style, text.justify, text.end
    return joined


@dataclass(frozen=True)
class Heading:
    """A line that begins something: its title, in a terminal with a rule to the right edge."""

    title: str
    """Text of the heading."""
    style: StyleType = ""
    """Rich style of the whole line."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See ``rich``."""
        text = Text(f"── {printable(self.title)}", style=self.style)
        left = options.max_width - cell_len(text.plain) - 1
        if options.max_width < UNBOUNDED and left > 0:
            text.append(f" {'─' * left}")
        yield text


@dataclass(frozen=True)
class Line:
    """A text on one line: in a terminal ended at a word where it does not fit, into a pipe whole."""

    text: str
    """The text; line breaks become spaces."""
    style: StyleType = ""
    """Rich style of the whole line."""
    before: str = ""
    """What stands before the text and is never cut."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See ``rich``."""
        room = None if options.max_width >= UNBOUNDED else max(options.max_width - cell_len(self.before), 1)
        yield Text(f"{self.before}{on_one_line(self.text, room)}", style=self.style)


@dataclass(frozen=True)
class Excerpt:
    """The beginning of a long text: in a terminal about ``limit`` characters, into a pipe all of it."""

    text: str
    """The whole text."""
    limit: int
    """Characters shown in a terminal."""
    style: StyleType = ""
    """Rich style of the text."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See ``rich``."""
        yield Text(printable(self.text, None if options.max_width >= UNBOUNDED else self.limit), style=self.style)


def _whole_words(text: str, limit: int) -> str:
    """The words that the first ``limit`` characters hold whole; empty if there is none."""
    kept = text[: max(limit, 0)]
    if len(text) > len(kept) and not text[len(kept)].isspace():
        words = re.match(r"(.*\s)?", kept, re.DOTALL)
        kept = words[0] if words else ""
    return kept.rstrip()
