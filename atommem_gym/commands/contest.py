"""Several agents play the same episodes side by side, with live progress, and end in one table."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import fmean, median

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from atommem_gym.actions import Kind
from atommem_gym.agents.agent import Agent
from atommem_gym.agents.play import Env, OnStep, atommem_env, draw_items, play_episode
from atommem_gym.agents.playing import EpisodeRecord
from atommem_gym.commands.consoles import messages
from atommem_gym.errors import AtomMemError, ConfigError, refused_for_good
from atommem_gym.readers.options import ORACLE
from atommem_gym.readers.protocol import POLICY
from atommem_gym.scoring import abstention_metrics
from atommem_gym.terminal import Column, Table, printable, under_one_lock
from atommem_gym.trust import masked

GIVE_UP_AFTER = 3
"""After this many failed episodes in a row the contest gives up."""
LONGEST_TRACEBACK = 20_000
NOTE = (
    "Entries at their peak; milliseconds of the environment alone. Answers are an oracle reader's: the gold answer if "
    "and only if the evidence is visible in the last read or the scratchpad, else 'unknown'. These rows measure memory "
    "and retrieval, not language. (random and silent answer by themselves.)"
)
NOTE_ON_READER = (
    "Entries at their peak; milliseconds of the environment alone. Answers are those of the environment's frozen "
    "reader, which sees the last read and the scratchpad. (random and silent answer by themselves.)"
)


@dataclass(frozen=True, slots=True)
class FailedGame:
    """An episode that failed; no mean includes it."""

    agent: str
    """The name of the agent."""
    index: int
    """The index of the item."""
    shuffle_seed: int
    """The seed of the order of its documents."""
    error: str
    """The class of the exception."""
    message: str
    """Its message, without passwords."""
    traceback: str = ""
    """Without passwords."""
    bug: bool = False
    """Whether it is none of this package's own errors, and so a programming error."""

    @classmethod
    def of(cls, agent: str, index: int, shuffle_seed: int, error: BaseException) -> FailedGame:
        """What an episode that raised this error leaves."""
        lines = masked("".join(traceback.format_exception(type(error), error, error.__traceback__)))
        bug = not isinstance(error, AtomMemError)
        return cls(
            agent, index, shuffle_seed, type(error).__name__, masked(str(error)), lines[-LONGEST_TRACEBACK:], bug
        )


@dataclass(slots=True)
class Contest:
    """Agents, the environment that all of them play in, and the records so far."""

    env: Env
    """The environment."""
    agents: Sequence[Agent]
    """The agents, in the order in which they play."""
    episodes: int
    """Episodes per agent."""
    seed: int = 0
    """Draws the items; all agents play the same ones."""
    records: list[EpisodeRecord] = field(default_factory=list)
    """The episodes that ended."""
    failures: list[FailedGame] = field(default_factory=list)
    """The episodes that failed."""
    interrupted: bool = False
    """Whether the user interrupted the contest."""

    def run(self, on_step: OnStep | None = None) -> None:
        """Play all; Ctrl-C stops and keeps what was played. With ``on_step``, which may print, no progress is shown.

        Raises:
            ConfigError: the settings do not fit the records.
            AtomMemError: ``GIVE_UP_AFTER`` episodes failed one after the other; or a server refused the first call.
        """
        console = messages()
        columns = (
            TextColumn("{task.description:>9}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("EM {task.fields[em]}"),
            TimeRemainingColumn(),
        )
        shown = on_step is None and console.is_terminal
        with under_one_lock(Progress(*columns, console=console, disable=not shown), console) as progress:
            bars = {agent.name: progress.add_task(agent.name, total=self.episodes, em="   –") for agent in self.agents}
            try:
                for record in self._play(on_step):
                    self.records.append(record)
                    played = [other.em for other in self.records if other.agent == record.agent]
                    known = [em for em in played if em is not None]
                    progress.update(bars[record.agent], advance=1, em=f"{fmean(known):.2f}" if known else "   –")
            except KeyboardInterrupt:
                self.interrupted = True

    def _play(self, on_step: OnStep | None) -> Iterator[EpisodeRecord]:
        in_a_row = 0
        for index, shuffle_seed in draw_items(atommem_env(self.env).num_items, self.episodes, self.seed):
            for agent in self.agents:
                try:
                    record = play_episode(
                        self.env, agent, index, shuffle_seed=shuffle_seed, seed=self.seed, on_step=on_step
                    )
                except ConfigError:
                    # Wrong settings are no bad luck: every episode would fail alike.
                    raise
                except (Exception, SystemExit) as error:  # whatever one episode raises is that episode's failure
                    if refused_for_good(error) and not self.records:
                        raise
                    if on_step is not None and isinstance(error, BrokenPipeError):
                        # Whoever reads what is printed has seen enough.
                        raise
                    failed = FailedGame.of(agent.name, index, shuffle_seed, error)
                    self.failures.append(failed)
                    in_a_row += 1
                    if in_a_row >= GIVE_UP_AFTER:
                        if not failed.bug:
                            raise
                        raise AtomMemError(
                            f"{in_a_row} episodes failed one after the other, the last with {failed.error}: "
                            f"{failed.message}"
                        ) from error
                else:
                    in_a_row = 0
                    yield record

    def show(self, console: Console) -> None:
        """Print the table of what was played."""
        if self.interrupted:
            planned = self.episodes * len(self.agents)
            console.print(f"interrupted after {len(self.records)} of {planned} episodes", style="yellow")
        if self.failures:
            last = self.failures[-1]
            planned = self.episodes * len(self.agents)
            line = (
                f"{len(self.failures)} of {planned} episodes failed and count in no mean; the last, {last.agent}'s of "
                f"item {last.index}, with {last.error}: {last.message}"
            )
            console.print(Text(printable(line), style="yellow"), soft_wrap=True)
        bugs = [failure for failure in self.failures if failure.bug]
        if bugs:
            line = (
                f"{len(bugs)} of them failed with a programming error, of this package, of a task or of an agent of "
                f"your own; if it is this package's, please report it. The last one:\n{bugs[-1].traceback}"
            )
            console.print(Text(printable(line), style="yellow"), soft_wrap=True)
        if self.records:
            console.print(results_table(self.records))
            reader = atommem_env(self.env).config.reader
            console.print(NOTE if reader in (POLICY, ORACLE) else NOTE_ON_READER, style="dim")


def results_table(records: Sequence[EpisodeRecord]) -> Table:
    """One row per agent, in the order of appearance; means over its episodes."""
    columns: list[_Column | _AbstentionColumn] = list(_COLUMNS)
    if any(record.answers for record in records):
        columns[2:2] = _ABSTENTION
    shown = [Column(one.header, "right", leave_out=one.leave_out) for one in columns]
    table = Table([Column("agent"), *shown], title="Results: means per episode")
    for agent in dict.fromkeys(record.agent for record in records):
        rows = [record for record in records if record.agent == agent]
        table.add_row(agent, *(column.cell(rows) for column in columns))
    return table


@dataclass(frozen=True, slots=True)
class _Column:
    header: str
    value: Callable[[EpisodeRecord], float | None]
    """``None`` counts in no mean."""
    digits: int = 1
    leave_out: int = 0
    """See ``atommem_gym.terminal.Column``."""
    average: Callable[[Iterable[float]], float] = fmean

    def cell(self, rows: Sequence[EpisodeRecord]) -> str:
        known = [value for row in rows if (value := self.value(row)) is not None]
        if not known:
            return "–"
        mean = self.average(known)
        # A dash where nothing ever happened: zeros would hide what did.
        return "–" if self.digits == 1 and not mean else f"{mean:.{self.digits}f}"


@dataclass(frozen=True, slots=True)
class _AbstentionColumn:
    """Of all questions of an agent: means of episodes would count few questions as much as many."""

    header: str
    metric: str
    leave_out: int = 0

    def cell(self, rows: Sequence[EpisodeRecord]) -> str:
        value = abstention_metrics([answer for row in rows for answer in row.answers])[self.metric]
        return "–" if value is None else f"{value:.2f}"


_ABSTENTION = (
    _AbstentionColumn("answerable EM", "em_answerable"),
    _AbstentionColumn("abstention precision", "abstention_precision"),
    _AbstentionColumn("abstention recall", "abstention_recall"),
)


def _operation(kind: Kind) -> Callable[[EpisodeRecord], float]:
    return lambda record: record.operations.get(kind, 0)


_COLUMNS = (
    _Column("EM", lambda record: record.em, 2),
    _Column("F1", lambda record: record.f1, 2, leave_out=3),
    _Column("create", _operation("create")),
    _Column("read", _operation("read")),
    _Column("update", _operation("update")),
    _Column("delete", _operation("delete")),
    _Column("scratchpad", _operation("scratchpad"), leave_out=1),
    _Column("rejected", lambda record: record.rejected, leave_out=5),
    _Column("entries", lambda record: record.peak_entries, leave_out=2),
    _Column("entries at end", lambda record: record.final_entries, leave_out=7),
    _Column("evidence recall", lambda record: record.evidence_recall, 2),
    _Column("exact recall", lambda record: record.evidence_recall_exact, 2, leave_out=8),
    _Column("steps", lambda record: record.steps, leave_out=6),
    # A median: the first episode opens the database.
    _Column("ms a step", lambda record: record.env_ms, 2, leave_out=4, average=median),
)
