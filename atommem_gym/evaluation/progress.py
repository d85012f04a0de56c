"""Shows the progress of an evaluation: a live board in a terminal, plain lines anywhere else."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType

from rich.console import Group, RenderableType
from rich.text import Text

from atommem_gym.errors import counted
from atommem_gym.evaluation.folder import Run
from atommem_gym.evaluation.plan import Cell, Plan
from atommem_gym.evaluation.results import EpisodeResult, FailedEpisode
from atommem_gym.evaluation.summary import interval, mean_played, size_text
from atommem_gym.terminal import Column, SafeConsole, SafeLive, Table, printable

LIVE_RESAMPLES = 1000
"""Resamples of the intervals on the board, which change with every episode; a report has ten times as many."""
WINDOW = 200
"""Latest episodes from which rates and the remaining time are estimated."""
BAR = 24
"""Columns of a bar."""
EVERY = 15.0
"""Seconds between two plain lines."""


@dataclass(slots=True)
class Row:
    """The episodes of a cell so far."""

    cell: Cell
    """Environment, document count and agent."""
    results: list[EpisodeResult] = field(default_factory=list)
    """The finished episodes."""
    failed: int = 0
    """Number of failed episodes."""
    _shown: tuple[int, str] = (0, "–")
    """Number of results and EM at the last time that EM was computed for the board."""

    @property
    def size(self) -> str:
        """Documents per episode: the plan's number until an episode has been played."""
        played = mean_played(self.cell.docs, [result.sessions for result in self.results])
        return size_text(self.cell.docs, played) if self.cell.docs or played else ""

    @property
    def text(self) -> str:
        """The cell as plain lines name it."""
        documents = f"{self.size} documents" if self.cell.docs else self.size
        return ", ".join(filter(None, (self.cell.env, documents, self.cell.agent)))

    @property
    def em(self) -> str:
        """EM over all results, with its interval."""
        return interval("em", self.cell, self.results, LIVE_RESAMPLES).text()

    @property
    def em_so_far(self) -> str:
        """EM for a board that is drawn several times a second; not recomputed for each of many results."""
        count, known = len(self.results), self._shown[0]
        if count - known > known // 50:
            self._shown = (count, self.em)
        return self._shown[1]


class Board:
    """Counts finished and failed episodes; one row per cell."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.rows: dict[Cell, Row] = {}
        self.a_cell = self.total = self.done = self.failed = 0
        self._clock = clock
        self._began = clock()
        self._latest: deque[tuple[float, int]] = deque(maxlen=WINDOW)

    def begin(self, plan: Plan, earlier: Run) -> None:
        """Start counting from the episodes that were finished before."""
        rows = {cell: Row(cell) for cell in plan.cells}
        for result in earlier.results:
            rows[result.key.cell].results.append(result)
        # Another thread draws the board, so the totals must be set before the rows.
        self.a_cell, self.total = plan.episodes_a_cell, plan.episodes_in_all
        self.rows = rows
        self.done = len(earlier.results)
        self._began = self._clock()

    def finished(self, result: EpisodeResult) -> None:
        """Count a finished episode."""
        self.rows[result.key.cell].results.append(result)
        self.done += 1
        self._latest.append((self._clock(), (result.prompt_tokens or 0) + (result.completion_tokens or 0)))

    def failed_one(self, failure: FailedEpisode) -> None:
        """Count a failed episode."""
        self.rows[failure.key.cell].failed += 1
        self.failed += 1

    @property
    def rates(self) -> tuple[float, float]:
        """Episodes and tokens per second, over the latest episodes."""
        if not self._latest:
            return 0.0, 0.0
        full = len(self._latest) == WINDOW
        since = self._latest[0][0] if full else self._began
        counted = list(self._latest)[1:] if full else list(self._latest)
        seconds = max(self._clock() - since, 1e-9)
        return len(counted) / seconds, sum(tokens for _, tokens in counted) / seconds

    @property
    def status(self) -> str:
        """One line: episodes so far, rates, and the time left."""
        episodes, tokens = self.rates
        parts = [f"{self.done}/{self.total} episodes"]
        if episodes:
            parts.append(f"{episodes:.1f} episodes/s" if episodes >= 1 else f"{60 * episodes:.1f} episodes/min")
        if tokens:
            parts.append(f"{tokens:,.0f} tokens/s")
        if self.failed:
            parts.append(f"{self.failed} failed")
        left = self.total - self.done - self.failed
        if left > 0:
            parts.append(f"{_duration(left / episodes)} left" if episodes else "time left unknown")
        return " · ".join(parts)


class LiveProgress:
    """Redraws the board in a terminal while its ``with`` block runs; a ``Listener``."""

    def __init__(self, console: SafeConsole) -> None:
        self.console = console
        self.board = Board()
        self._live = SafeLive(self._draw, console)

    def begin(self, plan: Plan, earlier: Run) -> None:
        """See ``Listener``."""
        self.board.begin(plan, earlier)

    def finished(self, result: EpisodeResult) -> None:
        """See ``Listener``."""
        self.board.finished(result)

    def failed(self, failure: FailedEpisode) -> None:
        """See ``Listener``."""
        self.board.failed_one(failure)

    def __enter__(self) -> LiveProgress:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def _draw(self) -> RenderableType:
        board = self.board
        if not board.rows:
            return Text("opening …", style="bold")
        columns = [
            Column("environment", kind="words"),
            Column("docs", "right"),
            Column("agent", kind="words"),
            Column("", leave_out=2),
            Column("episodes", "right"),
            Column("EM so far"),
            Column("failed", "right", leave_out=1),
        ]
        table = Table(columns)
        visible = self._visible()
        for row in visible:
            count, cell = len(row.results), row.cell
            done = BAR * count // max(board.a_cell, 1)
            bar = Text("━" * done, "green").append("━" * (BAR - done), "dim")
            failed = Text(str(row.failed) if row.failed else "", style="red")
            table.add_row(cell.env, row.size, cell.agent, bar, f"{count}/{board.a_cell}", row.em_so_far, failed)
        hidden = len(board.rows) - len(visible)
        more = [Text(f"… and {hidden} more rows", style="dim")] if hidden else []
        done = BAR * board.done // max(board.total, 1)
        whole = Text("━" * done, "green").append("━" * (BAR - done), "dim")
        status = Text(f" {board.status}", style="bold")
        return Group(table, *more, whole.append_text(status))

    def _visible(self) -> list[Row]:
        """As many rows as the terminal has room for: first those under way, then those with most episodes."""
        rows = list(self.board.rows.values())
        room = max(3, self.console.height - 6)
        if len(rows) <= room:
            return rows
        rank = {True: 0, False: 1}
        running = [0 < len(row.results) < self.board.a_cell for row in rows]
        order = sorted(range(len(rows)), key=lambda i: (rank[running[i]], -len(rows[i].results), -i))
        return [rows[i] for i in sorted(order[:room])]


class PlainProgress:
    """Prints a line for each complete cell, for each failure, and every ``EVERY`` seconds; a ``Listener``."""

    def __init__(self, console: SafeConsole, clock: Callable[[], float] = time.monotonic) -> None:
        self.console = console
        self.board = Board(clock)
        self._clock = clock
        self._said = clock()

    def begin(self, plan: Plan, earlier: Run) -> None:
        """See ``Listener``."""
        self.board.begin(plan, earlier)
        if self.board.done == self.board.total:
            self._say(f"all {counted(self.board.total, 'episode')} are there; nothing is left to play")
        elif self.board.done:
            self._say(f"going on after {self.board.done} of {self.board.total} episodes")

    def finished(self, result: EpisodeResult) -> None:
        """See ``Listener``."""
        board = self.board
        board.finished(result)
        row = board.rows[result.key.cell]
        if len(row.results) == board.a_cell:
            self._say(f"{row.text}: {counted(board.a_cell, 'episode')}, EM {row.em}")
        elif self._clock() - self._said >= EVERY:
            self._say(board.status)

    def failed(self, failure: FailedEpisode) -> None:
        """See ``Listener``."""
        self.board.failed_one(failure)
        first = failure.message.partition("\n")[0]
        self._say(f"{self.board.rows[failure.key.cell].text}, item {failure.index}: failed ({failure.error}: {first})")

    def __enter__(self) -> PlainProgress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.board.total:
            self._say(self.board.status)

    def _say(self, line: str) -> None:
        self._said = self._clock()
        self.console.print(printable(line), markup=False, soft_wrap=True)


def progress(console: SafeConsole) -> LiveProgress | PlainProgress:
    """The progress display for a console: live in a terminal, else plain lines."""
    return LiveProgress(console) if console.is_terminal else PlainProgress(console)


def _duration(seconds: float) -> str:
    """A duration as hours, minutes and seconds.

    >>> _duration(3725)
    '1:02:05'
    """
    whole = round(seconds)
    return (
        f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}" if whole >= 3600 else f"{whole // 60}:{whole % 60:02}"
    )
