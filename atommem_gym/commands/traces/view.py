"""``atommem view``: runs and traces as one HTML page, opened in the browser, or served to it."""

from __future__ import annotations

import webbrowser
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from os.path import realpath
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.text import Text

from atommem_gym.commands.consoles import output
from atommem_gym.commands.traces.comparison import runs_compared
from atommem_gym.commands.traces.runs import page_runs
from atommem_gym.errors import ConfigError, check_integer, counted
from atommem_gym.evaluation.folder import PLAN
from atommem_gym.terminal import printable
from atommem_gym.viewer.counterfactual import with_counterfactuals
from atommem_gym.viewer.library import Library
from atommem_gym.viewer.page import MEBIBYTE, PageRun, PageSize, write_runs
from atommem_gym.viewer.server import PageServer
from atommem_gym.viewer.training import training_fronts

MOST_MIB = 64
"""A page of so many MiB is still opened in a second or two, and can be sent to somebody."""


@dataclass
class View:
    """Look at recorded episodes, or at a training, in the browser.

    Writes one HTML file that holds everything: it needs no network and no server, and can be sent to somebody. With
    --serve nothing is written, and episodes are loaded when you look at them. Press ? in the page for its keys.

    Example: atommem view runs/base runs/trained

    Example: atommem view --training runs/grpo
    """

    traces: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[RUNS…]")]
    """Folders of evaluations, and files of traces (.jsonl, .jsonl.gz, .parquet). Their episodes form one list."""
    training: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """The folder of a training (sessions.jsonl, metrics.jsonl): shows its curves and the sessions of each step."""
    counterfactual: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="FILE")] = ()
    """A file that atommem counterfactual --json wrote about one of these episodes."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="FILE")] = None
    """The page to write; by default beside the first file, with the suffix .html, or view.html in the first folder."""
    open: bool = True
    """Open it in the browser."""
    limit_mib: Annotated[int | None, tyro.conf.arg(metavar="MIB")] = None
    """The most MiB of a page; a larger one is not written. 64 by default."""
    serve: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Serve the page to the browser of this machine until Ctrl-C, for thousands of episodes; write nothing."""
    port: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """The port to serve the page at; by default any free one."""

    def run(self) -> int:
        """Write or serve the page and open it; the exit status."""
        if not self.traces and self.training is None:
            raise ConfigError("no RUNS given; name folders of evaluations or files of traces: atommem view runs/first")
        shown = self.traces if self.training is None else (*self.traces, self.training)
        runs = with_counterfactuals(page_runs(self.traces, self.training), self.counterfactual)
        title = printable(title_of(runs))
        if self.serve:
            return self._serve(runs, title)
        if self.port is not None:
            raise ConfigError("--port is for a served page; add --serve, or leave it out")
        fronts = self._fronts(runs)
        page = self.output or page_beside(shown[0])
        check_page(page, (*shown, *self.counterfactual))
        if self.output is None:
            check_default(page)
        most = check_integer("--limit-mib", MOST_MIB if self.limit_mib is None else self.limit_mib, 1) * MEBIBYTE
        size = write_runs(runs, page, title=title, fronts=fronts, most_bytes=most)
        say_size(size, page)
        if self.open:
            open_page(page.resolve().as_uri(), "open the file yourself")
        return 0

    def _fronts(self, runs: Sequence[PageRun]) -> dict[str, Any]:
        """The training, and the comparison of two evaluations."""
        fronts = {} if self.training is None else training_fronts(self.training)
        if len(self.traces) != 2 or not all(path.is_dir() for path in self.traces):
            return fronts
        return {**fronts, "comparison": runs_compared(self.traces[0], self.traces[1], (runs[0].name, runs[1].name))}

    def _serve(self, runs: Sequence[PageRun], title: str) -> int:
        if self.output is not None:
            raise ConfigError("--serve writes no page; leave out -o, or --serve")
        if self.limit_mib is not None:
            raise ConfigError("--limit-mib bounds a page that is written, and --serve writes none; leave one out")
        port = check_integer("--port", self.port or 0, 0, 65_535)
        with (
            closing(Library(runs, title, partial(self._fronts, runs))) as library,
            PageServer(library, port) as server,
        ):
            output().print(
                Text(f"{counted(len(library.rows), 'episode')} at {server.url} (Ctrl-C ends it)"), soft_wrap=True
            )
            if self.open:
                open_page(server.url, "open the address yourself")
            try:
                server.serve()
            except KeyboardInterrupt:
                return 0
        return 0


def title_of(runs: Sequence[PageRun]) -> str:
    """The names of a few runs, or how many there are."""
    names = [run.name for run in runs]
    return ", ".join(names) if len(names) <= 2 else f"{names[0]} and {len(names) - 1} more"


def page_beside(first: Path) -> Path:
    """Where the page goes by default.

    >>> page_beside(Path("runs/first/traces.jsonl.gz")).as_posix()
    'runs/first/traces.html'
    """
    if first.is_dir():
        return first / "view.html"
    return first.with_name(first.name.removesuffix(".gz")).with_suffix(".html")


def check_page(page: Path, shown: Sequence[Path], option: str = "-o") -> None:
    """Refuse a place where no page can be.

    Raises:
        ConfigError: it is a folder, one of the files to be shown, or might be a file of an evaluation.
    """
    if page.is_dir():
        raise ConfigError(f"{option} {page} is a folder; name the page itself, as in {option} {page / 'page.html'}")
    place, places = Path(realpath(page)), [Path(realpath(path)) for path in shown]
    if place in places:
        raise ConfigError(f"{option} {page} is one of the files to be shown; name another one")
    if place.suffix != ".html" and (place.parent in places or (place.parent / PLAN).is_file()):
        raise ConfigError(f"{option} {page} lies in the folder of a run and might be a file of it; name it .html")


def check_default(page: Path) -> None:
    """Refuse to write over a file that nobody named, and that is no page.

    Raises:
        ConfigError: it is there, and begins as no page does.
    """
    if page.is_file():
        with page.open("rb") as file:
            if not file.read(len(_DOCTYPE)).lower() == _DOCTYPE:
                raise ConfigError(
                    f"{page} is there and is not a page of the viewer; name another place with -o PAGE.html"
                )


_DOCTYPE = b"<!doctype html>"


def say_size(size: PageSize, page: Path) -> None:
    """Say what went into the page, and where it is."""
    output().print(
        Text(
            f"{counted(size.episodes, 'episode')}, {counted(size.steps, 'step')}, "
            f"{_size_text(size.trace_bytes)} of traces in a page of {_size_text(size.page_bytes)}: "
            f"{printable(str(page))}"
        ),
        soft_wrap=True,
    )


def _size_text(size: int) -> str:
    return f"{size / MEBIBYTE:.1f} MiB" if size >= MEBIBYTE else f"{size / 1024:.0f} KiB"


def open_page(address: str, otherwise: str) -> None:
    """Open an address in the browser, or say what to do."""
    if not webbrowser.open(address):
        output().print(Text(f"No browser could be started; {otherwise}, or use --no-open."), soft_wrap=True)
