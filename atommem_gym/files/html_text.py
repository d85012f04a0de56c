"""The text of an HTML page, in blocks that know which lines of the file they stand on."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html.parser import HTMLParser

_BLOCK = re.compile(
    "address|article|aside|blockquote|body|caption|dd|details|dialog|div|dl|dt|fieldset|figcaption|figure|footer|form|"
    "h[1-6]|head|header|hr|html|legend|li|main|menu|nav|ol|option|p|pre|search|section|summary|table|tbody|td|tfoot|th|"
    "thead|title|tr|ul"
)
"""Tags that begin and end a block of text."""
_UNSEEN = frozenset(("script", "style", "template", "noscript", "svg", "math", "object", "iframe", "canvas"))
"""Tags whose text nobody reads in a page."""
_HEADINGS = frozenset(("title", "h1", "h2", "h3", "h4", "h5", "h6"))


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, a heading, a cell of a table or the like."""

    first: int
    """Its first line in the file, from 1."""
    last: int
    """Its last line."""
    text: str
    """Its text, with single spaces."""
    heading: bool = False
    """Whether it is a heading or the title of the page."""


def blocks_of(page: str) -> Iterator[Block]:
    r"""The blocks of text of a page, in their order; scripts and styles are left out, broken markup is forgiven.

    >>> [(one.first, one.text) for one in blocks_of("<h1>Diary</h1>\n<p>It <b>rained</b>\nall day.<script>1")]
    [(1, 'Diary'), (2, 'It rained all day.')]
    """
    reader = _Reader()
    reader.feed(page)
    reader.close()
    reader.end_block()
    yield from reader.blocks


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.blocks: list[Block] = []
        self._text: list[str] = []
        self._first = self._last = 1
        self._unseen: list[str] = []
        self._heading = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in _UNSEEN:
            self._unseen.append(tag)
        elif _BLOCK.fullmatch(tag):
            self.end_block()
            self._heading = tag in _HEADINGS
        elif tag == "br":
            self._text.append(" ")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in _UNSEEN:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._unseen:
            # What is left open inside ends with it.
            del self._unseen[self._unseen.index(tag) :]
        elif _BLOCK.fullmatch(tag):
            self.end_block()

    def handle_data(self, data: str) -> None:
        if self._unseen:
            return
        line = self.getpos()[0]
        if data.strip():
            if not "".join(self._text).strip():
                self._first = line + data[: len(data) - len(data.lstrip())].count("\n")
            self._last = line + data.rstrip().count("\n")
        self._text.append(data)

    def end_block(self) -> None:
        """What was read so far is a block of its own."""
        text = " ".join("".join(self._text).split())
        if text:
            self.blocks.append(Block(self._first, self._last, text, self._heading))
        self._text, self._heading = [], False
