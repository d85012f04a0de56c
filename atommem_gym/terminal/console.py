"""The console of all commands: as wide as its terminal, unbounded in a pipe."""

from __future__ import annotations

import codecs
import io
import os
import sys
from collections.abc import Callable, Iterable
from threading import RLock
from typing import TYPE_CHECKING, Any, TextIO

from rich.console import Console, ConsoleOptions, Group, RenderableType
from rich.live import Live
from rich.segment import Segment
from rich.text import Text

from atommem_gym.terminal.texts import UNBOUNDED, printable, wrapped

if TYPE_CHECKING:
    from rich.progress import Progress

DUMB_WIDTH = 80
"""Columns of a terminal that tells nothing about itself."""
_CODE_PAGES = sys.platform == "win32"
"""Whether pipes and files have a code page by default, which lacks most of what documents hold; terminals have not."""


def make_streams_encodable() -> None:
    r"""Let standard output and error take every character, whatever the encoding of the system.

    Into a pipe or a file Windows gets UTF-8, unless ``PYTHONIOENCODING`` names something else. A character that an
    encoding lacks is written by its number (``\u2500``): nothing raises, and nothing is lost.
    """
    for stream in (sys.stdout, sys.stderr):
        if not isinstance(stream, io.TextIOWrapper) or stream.closed:
            continue
        if _CODE_PAGES and not stream.isatty() and not os.environ.get("PYTHONIOENCODING"):
            stream.reconfigure(encoding="utf-8")
        if stream.errors == "strict" and codecs.lookup(stream.encoding).name != "utf-8":
            stream.reconfigure(errors="backslashreplace")


def terminal_width(file: TextIO) -> int | None:
    """Columns of the terminal that a file is; ``None`` for a pipe or a real file, where nothing is wrapped."""
    try:
        if not file.isatty():
            return None
    except ValueError:  # closed
        return None
    told = os.environ.get("COLUMNS", "")
    if told.isdigit() and int(told):
        return int(told)
    try:
        return os.get_terminal_size(file.fileno()).columns or DUMB_WIDTH
    except (OSError, ValueError):
        return DUMB_WIDTH


class SafeConsole(Console):
    """A console that keeps to the width policy, and prints control characters as U+FFFD, whoever prints what.

    Args:
        stderr: Print to standard error.
        width: Columns, in place of those that the file has.
        **keywords: Of ``rich.console.Console``.
    """

    def __init__(self, *, stderr: bool = False, width: int | None = None, **keywords: Any) -> None:
        file = keywords.get("file") or (sys.stderr if stderr else sys.stdout)
        found = terminal_width(file)
        if width is None and (found is None or os.environ.get("TERM", "") in ("dumb", "unknown")):
            width = UNBOUNDED if found is None else found
        self.printing = RLock()
        # Elsewhere the width is asked for at every print: windows change.
        super().__init__(stderr=stderr, width=width, highlight=False, **keywords)

    def print(self, *objects: Any, **options: Any) -> None:
        """See ``Console.print``; what would wrap or cut otherwise than the policy has it is not an option."""
        for name in ("soft_wrap", "crop", "overflow", "no_wrap"):
            options.pop(name, None)
        with self.printing:
            super().print(*objects, crop=False, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See ``Console.render``; texts break between words."""
        options = options or self.options
        if isinstance(renderable, str):
            renderable = self.render_str(renderable, markup=options.markup, highlight=options.highlight)
        if isinstance(renderable, Text) and not options.no_wrap:
            renderable = wrapped(renderable, options.max_width)
            options = options.update(no_wrap=True, overflow="ignore")
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=printable(segment.text))


class SafeLive(Live):
    """Lines at the foot of a terminal, redrawn four times a second and erased at the end.

    Args:
        draw: Returns what these lines show now.
        console: Where they stand; what it prints meanwhile appears above them.
    """

    def __init__(self, draw: Callable[[], RenderableType], console: SafeConsole) -> None:
        super().__init__(get_renderable=draw, console=console, refresh_per_second=4, transient=True)
        # With a lock of its own, a redraw could wait for a print that waits for the redraw.
        self._lock = console.printing


def under_one_lock(progress: Progress, console: SafeConsole) -> Progress:
    """The bars with the lock of the console that they stand in, as :class:`SafeLive` has it."""
    progress._lock = progress.live._lock = console.printing
    return progress


def drawn(*parts: RenderableType) -> str:
    """What these look like on standard output, with ANSI colours."""
    file, width = io.StringIO(), terminal_width(sys.stdout) or UNBOUNDED
    console = SafeConsole(file=file, width=width, force_terminal=True, color_system="standard", legacy_windows=False)
    console.print(Group(*parts))
    return file.getvalue()
