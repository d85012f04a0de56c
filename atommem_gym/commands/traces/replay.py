"""``atommem replay``: steps through a recorded episode, and checks records by playing them again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, TypeAlias

import tyro
from rich.console import Console
from rich.text import Text

from atommem_gym.commands.consoles import output, progress_bar
from atommem_gym.commands.run import parse_settings
from atommem_gym.commands.traces.keys import pressed_keys
from atommem_gym.commands.traces.panels import difference_panel, heading, step_panel
from atommem_gym.errors import ConfigError, counted
from atommem_gym.terminal import printable
from atommem_gym.traces import EpisodeTrace, TraceError, count_traces, read_traces
from atommem_gym.traces.difference import Difference
from atommem_gym.traces.replay import PURE_REWARDS, Replayer

DIFFERENT = 1
"""Exit status if a replay found a difference."""
Repeated: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass
class Replay:
    """Step through a recorded episode, or check that recorded episodes can be played again.

    A check plays the recorded actions in a new environment. Operations, memory, observations, rewards and infos must be
    equal bit for bit. Keys in a terminal: n next, p previous, g first, G last, q quit.

    Example: atommem replay traces.jsonl --episode 3

    Example: atommem replay runs/*/traces.jsonl --check
    """

    files: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE…")]
    """Files of traces: .jsonl, .jsonl.gz or .parquet."""
    episode: Annotated[str, tyro.conf.arg(metavar="K|ITEM")] = "0"
    """Which episode to step through: its number in the file, from 0, or its item's id."""
    check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Check all episodes of all files, and show only what differs."""
    no_check: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Only show the episode, without playing it again; its records are not needed."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Keyword arguments of the environment in place of the recorded ones, such as source=PATH. By default the store is
    numpy."""
    tolerance: Annotated[float, tyro.conf.arg(metavar="X")] = 0.0
    """How far recorded and replayed similarity scores may differ; neural embedders differ between machines by about
    1e-6."""

    def run(self) -> int:
        """Show or check; the exit status."""
        if not self.files:
            raise ConfigError("no FILE given; name a file of traces: atommem replay traces.jsonl")
        if self.check and self.no_check:
            raise ConfigError("--check contradicts --no-check; leave one out")
        if not self.tolerance >= 0:
            raise ConfigError(f"--tolerance {self.tolerance} must be a number of at least 0")
        with Replayer(parse_settings(list(chain.from_iterable(self.settings))), self.tolerance) as replayer:
            if self.check:
                return check_files(self.files, replayer)
            if len(self.files) > 1:
                raise ConfigError(f"{len(self.files)} files are named; name one to step through, or add --check")
            number, trace = find_episode(self.files[0], self.episode)
            difference = None if self.no_check else replayer.check(trace)
            status = show(output(), trace, number, difference, checked=not self.no_check)
            _print_wrong_ids(output(), len(replayer.wrong_ids))
            return status


def find_episode(path: Path, wanted: str) -> tuple[int, EpisodeTrace]:
    """The episode of this number, or the first of this item, with its number in the file.

    Raises:
        TraceError: there is none.
    """
    last = -1
    for last, trace in enumerate(read_traces(path)):
        if wanted in (str(last), trace.item):
            return last, trace
    held = f"it holds episodes 0 to {last}" if last >= 0 else "it holds no episode"
    raise TraceError(f"{path} has no episode {wanted!r}: {held}; give a number or an item's id")


def check_files(paths: tuple[Path, ...], replayer: Replayer) -> int:
    """Check every episode of these files and print what differs; the exit status."""
    total = sum(map(count_traces, paths))
    checked, steps, different, recorded_scores, wrong_ids = 0, 0, 0, 0, 0
    console = output()
    with progress_bar() as progress:
        task = progress.add_task("replayed", total=total)
        for path, number, trace in _episodes(paths):
            difference = replayer.check(trace)
            if difference is not None:
                different += 1
                _print_difference(
                    progress.console if progress.console.is_terminal else console, path, number, difference
                )
            wrong_ids += len(replayer.wrong_ids)
            checked += 1
            steps += len(trace.steps)
            recorded_scores += trace.env.keywords.get("reward", "em") not in PURE_REWARDS
            progress.advance(task)
    found = f"{different} differ" if different else "all as recorded"
    summary = f"{counted(checked, 'episode')}, {counted(steps, 'step')}: {found}"
    console.print(Text(summary, style="bold red" if different else "bold green"))
    if recorded_scores:
        console.print(f"{recorded_scores} of them with the recorded scores: their reward is a judge or a function")
    _print_wrong_ids(console, wrong_ids)
    return DIFFERENT if different else 0


def show(console: Console, trace: EpisodeTrace, number: int, difference: Difference | None, *, checked: bool) -> int:
    """Show an episode step by step, by keys in a terminal and as a whole elsewhere; the exit status."""
    if console.is_terminal and sys.stdin.isatty():
        _browse(console, trace, number, difference)
    else:
        console.print(heading(trace, number))
        for step in range(1, len(trace.steps) + 1):
            console.print(step_panel(trace, step))
    if difference is not None:
        console.print(difference_panel(difference))
        return DIFFERENT
    done = "as recorded: every step was played again" if checked else "not checked"
    console.print(Text(done, style="bold green" if checked else "yellow"))
    return 0


def _browse(console: Console, trace: EpisodeTrace, number: int, difference: Difference | None) -> None:
    steps, position, key = len(trace.steps), 0, ""
    with pressed_keys() as press:
        while key != "q":
            console.clear()
            console.print(step_panel(trace, position) if position else heading(trace, number))
            if difference is not None and difference.step == position:
                console.print(difference_panel(difference))
            console.print("[dim]n next · p previous · g first · G last · q quit[/dim]")
            key = press()
            position = {"n": position + 1, "p": position - 1, "g": 0, "G": steps}.get(key, position)
            position = min(max(position, 0), steps)


def _episodes(paths: tuple[Path, ...]) -> Iterator[tuple[Path, int, EpisodeTrace]]:
    for path in paths:
        for number, trace in enumerate(read_traces(path)):
            yield path, number, trace


def _print_difference(console: Console, path: Path, number: int, difference: Difference) -> None:
    console.print(Text(printable(f"{path}, episode {number}: {difference.line}"), style="red"), soft_wrap=True)


def _print_wrong_ids(console: Console, count: int) -> None:
    if count:
        what = "1 entry id is" if count == 1 else f"{count} entry ids are"
        console.print(
            f"{what} not as recorded, which is no difference: version 1 of the records worked them out from the "
            'action, under preset="released" at times wrong',
            soft_wrap=True,
        )
