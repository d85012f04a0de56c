"""``atommem view``: traces as one HTML page, opened in the browser."""

from __future__ import annotations

import webbrowser
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.text import Text

from atommem_gym.commands.consoles import output
from atommem_gym.errors import ConfigError
from atommem_gym.terminal import printable
from atommem_gym.traces.files import read_traces
from atommem_gym.traces.record import EpisodeTrace
from atommem_gym.viewer.page import write_page

MEBIBYTE = 1 << 20


@dataclass
class View:
    """Look at recorded episodes in the browser: atommem view traces.jsonl

    Writes one HTML file that holds everything: it needs no network and no server, and may be sent to somebody. Press ?
    in the page for its keys.
    """

    traces: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="TRACES…")]
    """Files of traces (.jsonl, .jsonl.gz, .parquet); several are shown as one list."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """The page; by default beside the first file, with the suffix .html."""
    open: bool = True
    """Open it in the browser."""

    def run(self) -> int:
        """Write the page and open it; the exit status."""
        if not self.traces:
            raise ConfigError("no TRACES given; name files of traces, as in: atommem view runs/first/traces.jsonl")
        page = self.output or page_beside(self.traces[0])
        if page.is_dir():
            raise ConfigError(f"-o {page} is a folder; name the page itself, as in -o {page / 'page.html'}")
        if any(page.resolve() == path.resolve() for path in self.traces):
            raise ConfigError(f"-o {page} is one of the files to be shown; name another one")
        title = (
            self.traces[0].name if len(self.traces) == 1 else f"{self.traces[0].name} and {len(self.traces) - 1} more"
        )
        size = write_page(_read(self.traces), page, title=printable(title))
        console = output()
        console.print(
            Text(
                f"{size.episodes:,} episodes, {size.steps:,} steps, {size.trace_bytes / MEBIBYTE:.1f} MiB of traces in "
                f"a page of {size.page_bytes / MEBIBYTE:.1f} MiB: {printable(str(page))}"
            ),
            soft_wrap=True,
        )
        if self.open and not webbrowser.open(page.resolve().as_uri()):
            console.print(
                Text("No browser could be started; open the file yourself, or use --no-open."), soft_wrap=True
            )
        return 0


def page_beside(traces: Path) -> Path:
    """Where the page of a file of traces goes by default.

    >>> page_beside(Path("runs/first/traces.jsonl.gz")).as_posix()
    'runs/first/traces.html'
    """
    return traces.with_name(traces.name.removesuffix(".gz")).with_suffix(".html")


def _read(paths: tuple[Path, ...]) -> Iterator[EpisodeTrace]:
    for path in paths:
        yield from read_traces(path)
