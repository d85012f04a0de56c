"""Tables that leave out columns in a stated order, and break or cut nothing that a person copies."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from atommem_gym.terminal.texts import on_one_line, printable, wrapped


@dataclass(frozen=True)
class Column:
    """One column of a table.

    ``whole`` cells are never broken or cut (numbers, ids, paths); ``words`` break between words; a ``line`` is ended at
    a word. Columns with the highest ``leave_out`` are left out first, those with 0 never; one without a header is left
    out without a word.
    """

    header: str
    """Header of the column."""
    justify: Literal["left", "right"] = "left"
    """Side to which cells are aligned."""
    kind: Literal["whole", "words", "line"] = "whole"
    """How cells are fitted into the width."""
    leave_out: int = 0
    """Order in which columns are left out for lack of room, the highest first; 0 for never."""


READABLE = 20
"""Columns below which a text has too few words a line, and other columns are left out first."""
SHORTEST_LINE = 16
"""Columns below which a ``line`` tells nothing."""


@dataclass
class Table:
    """Rows under headers that keep to the width policy: see the module.

    Where not even the columns that must stay have room, each row becomes a list of ``header: cell``.
    """

    columns: Sequence[Column]
    """The columns, from left to right."""
    title: str = ""
    """Title above the table; empty for none."""
    rows: list[list[Text] | None] = field(default_factory=list)
    """``None`` is an empty line between groups."""

    def add_row(self, *cells: str | Text) -> None:
        """Add a row; texts are not read as markup, and a tab, whose width depends on its place, becomes a space."""
        texts = [cell.copy() if isinstance(cell, Text) else Text(printable(cell)) for cell in cells]
        for text in texts:
            text.plain = text.plain.replace("\t", " ")
        self.rows.append(list(texts))

    def add_section(self) -> None:
        """Begin another group of rows."""
        if self.rows:
            self.rows.append(None)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """See ``rich``."""
        width = options.max_width
        if self.title:
            yield Text(printable(self.title), style="bold")
        every = list(range(len(self.columns)))
        shown, gap = self._choose(every, width)
        if self._least(shown, gap) > width:
            yield from self._listed()
            return
        yield from self._drawn(shown, self._widths(shown, gap, width), gap)
        # A bar has no header, and says again what another column says.
        left_out = [name for i in every if i not in shown and (name := " ".join(self.columns[i].header.split()))]
        if left_out:
            yield Text(
                f"Left out at {width} columns: {', '.join(left_out)}. "
                f"A terminal of {self._least(every, 1, READABLE)} columns "
                "shows all, and so does a pipe: add | less -S",
                style="dim",
            )

    def _choose(self, columns: list[int], width: int) -> tuple[list[int], int]:
        """Which columns have room, and how far apart they stand."""
        order = sorted((i for i in columns if self.columns[i].leave_out), key=lambda i: self.columns[i].leave_out)
        shown = list(columns)
        while order and self._least(shown, 1, READABLE) > width:
            shown.remove(order.pop())
        return shown, 2 if self._least(shown, 2, READABLE) <= width else 1

    def _least(self, columns: Sequence[int], gap: int, readable: int = 0) -> int:
        return sum(self._bounds(i, readable)[0] for i in columns) + gap * (len(columns) - 1)

    def _bounds(self, column: int, readable: int = 0) -> tuple[int, int]:
        """The least width of a column, and the one at which nothing in it breaks; texts get ``readable`` columns."""
        one = self.columns[column]
        lines = [line for row in self.rows if row for line in row[column].plain.split("\n")]
        longest_word = max(map(cell_len, one.header.split()), default=0)
        natural = max([cell_len(" ".join(one.header.split())), *map(cell_len, lines)])
        if one.kind == "line":
            return max(longest_word, min(natural, SHORTEST_LINE)), natural
        parts = lines if one.kind == "whole" else [word for line in lines for word in line.split()]
        least = max([longest_word, *map(cell_len, parts)])
        return max(least, min(natural, readable)) if one.kind == "words" else least, natural

    def _widths(self, columns: Sequence[int], gap: int, width: int) -> list[int]:
        """The widths of the columns: what is left goes to texts first, then to headers, then to lines."""
        bounds = {i: self._bounds(i) for i in columns}
        widths = {i: least for i, (least, _) in bounds.items()}
        left = width - self._least(columns, gap)
        for kind in ("words", "whole", "line"):
            wanting = {i: bounds[i][1] - widths[i] for i in columns if self.columns[i].kind == kind}
            wanted = sum(wanting.values())
            for i, more in wanting.items():
                widths[i] += more if wanted <= left else more * max(left, 0) // wanted
            left = width - sum(widths.values()) - gap * (len(columns) - 1)
        return [widths[i] for i in columns]

    def _drawn(self, columns: Sequence[int], widths: Sequence[int], gap: int) -> Iterator[Text]:
        headers = [
            wrapped(Text(" ".join(self.columns[i].header.split())), w) for i, w in zip(columns, widths, strict=True)
        ]
        height = max(header.plain.count("\n") for header in headers)
        headers = [Text("\n" * (height - header.plain.count("\n"))).append_text(header) for header in headers]
        for line in self._lines(columns, widths, gap, headers):
            line.stylize("bold")
            yield line
        yield Text("─" * (sum(widths) + gap * (len(widths) - 1)))
        for row in self.rows:
            if row is None:
                yield Text("")
                continue
            cells = [self._cell(i, row[i], width) for i, width in zip(columns, widths, strict=True)]
            yield from self._lines(columns, widths, gap, cells)

    def _lines(self, columns: Sequence[int], widths: Sequence[int], gap: int, cells: Sequence[Text]) -> Iterator[Text]:
        """The lines of one row."""
        split = [cell.split("\n", allow_blank=True) for cell in cells]
        for number in range(max(map(len, split))):
            line = Text()
            for i, width, parts in zip(columns, widths, split, strict=True):
                part = parts[number] if number < len(parts) else Text("")
                space = " " * (width - cell_len(part.plain))
                line.append(" " * (gap if line.plain else 0))
                cell = Text(space).append_text(part) if self.columns[i].justify == "right" else part + Text(space)
                line.append_text(cell)
            line.rstrip()
            yield line

    def _cell(self, column: int, cell: Text, width: int) -> Text:
        kind = self.columns[column].kind
        if kind == "line" and cell_len(cell.plain) > width:
            return Text(on_one_line(cell.plain, width), style=cell.style)
        return wrapped(cell, width) if kind == "words" else cell

    def _listed(self) -> Iterator[Text]:
        for row in self.rows:
            if row is None:
                continue
            for one, cell in zip(self.columns, row, strict=True):
                header = " ".join(one.header.split())
                yield Text.assemble((f"{header}: " if header else "", "bold"), cell)
            yield Text("")
