"""Shows a memory as it grows: a live picture in a terminal, one line a step elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from rich.console import Group, RenderableType
from rich.text import Text

from atommem_gym.agents.players.player import Turn
from atommem_gym.episode import Episode
from atommem_gym.errors import counted
from atommem_gym.step import Observation, Phase
from atommem_gym.terminal import Excerpt, Heading, Line, SafeConsole, SafeLive, printable

BAR = 40
"""Columns of the bar."""
RECENT = 10
"""Changes of memory that stay in the picture."""
_WORDS = {"scratchpad": "scratchpad rewritten", "read": "searched", "answer": "answered"}
_SIGNS = {"created": ("+", "green"), "updated": ("~", "yellow"), "deleted": ("-", "red")}


@dataclass(slots=True)
class Growth:
    """How a memory changed from step to step."""

    entries: dict[int, str] = field(default_factory=dict)
    """The text of each entry by its id, after the last step."""
    recent: deque[tuple[str, int, str]] = field(default_factory=lambda: deque(maxlen=RECENT))
    """The last changes: what, which entry, its text."""

    def follow(self, entries: dict[int, str]) -> dict[str, int]:
        """Take note of what memory holds now; returns how many entries were created, updated, deleted."""
        changes = [("deleted", i, text) for i, text in self.entries.items() if i not in entries]
        for i, text in entries.items():
            if i not in self.entries:
                changes.append(("created", i, text))
            elif self.entries[i] != text:
                changes.append(("updated", i, text))
        self.entries = entries
        self.recent.extend(changes)
        return {kind: sum(one[0] == kind for one in changes) for kind in _SIGNS}


class Display:
    """Follows one episode; a context manager, in which the live picture is on.

    Args:
        console: Where to; a terminal gets the live picture.
        episode: Gives the running episode, whose memory is shown.
        quiet: Show nothing.
    """

    def __init__(self, console: SafeConsole, episode: Callable[[], Episode], *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._console = console
        self._episode = episode
        self._growth = Growth()
        self._started = time.monotonic()
        self._step = 0
        self._observation: Observation | None = None
        self._rejected: list[str] = []
        self._live = SafeLive(self._picture, console)

    @property
    def begun(self) -> bool:
        """Whether there is an episode."""
        return self._observation is not None

    def __enter__(self) -> Display:
        if self._console.is_terminal and not self._quiet:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._live.stop()

    def on_step(self, turn: Turn | None, observation: Observation, info: Mapping[str, Any]) -> None:
        """What ``rollout`` calls after the reset and after every step."""
        before = self._observation
        entries = {i: entry.text for i, entry in self._episode().state.memory.entries.items()}
        self._observation = observation
        if turn is None:
            self._growth.entries = entries
            return
        self._step += 1
        changes = self._growth.follow(entries)
        self._rejected = [f"{one['operation']}: {one['reason']}" for one in info["rejected"]]
        if not self._console.is_terminal and not self._quiet and before is not None:
            self._console.print(Text(self._line(before, changes, turn, info)), soft_wrap=True)

    def _line(self, before: Observation, changes: Mapping[str, int], turn: Turn, info: Mapping[str, Any]) -> str:
        """The step that just ended, on one line."""
        done = [f"{count} {kind}" for kind, count in changes.items() if count]
        done += [word for kind, word in _WORDS.items() if info["applied"].get(kind)]
        parts = [
            f"step {self._step}",
            _where(before),
            ", ".join(done) or "nothing",
            counted(len(self._growth.entries), "entry", "entries"),
        ]
        if self._rejected:
            parts.append(f"rejected {', '.join(self._rejected)}")
        if turn.dropped:
            parts.append("; ".join(one.line for one in turn.dropped))
        return printable(" · ".join(parts), 300)

    def _picture(self) -> RenderableType:
        observation = self._observation
        if observation is None:
            return Text("opening …", style="dim")
        chunk, chunks = (int(number) for number in observation["progress"])
        done = BAR * chunk // max(chunks, 1)
        parts: list[RenderableType] = [
            Heading(self._title(observation), "bold blue"),
            Text("━" * done, "blue").append("━" * (BAR - done), "dim"),
            Excerpt(str(observation["question"]), 300, "yellow"),
        ]
        for kind, entry_id, text in self._growth.recent:
            sign, style = _SIGNS[kind]
            parts.append(Line(text, style, f"{sign} [{entry_id}] "))
        if observation["scratchpad"]:
            parts.append(Line(observation["scratchpad"], "magenta", "scratchpad: "))
        if self._rejected:
            parts.append(Text(printable(f"rejected: {', '.join(self._rejected)}", 200), style="red"))
        return Group(*parts)

    def _title(self, observation: Observation) -> str:
        seconds = int(time.monotonic() - self._started)
        entries = counted(len(self._growth.entries), "entry", "entries")
        return f"{_where(observation)} · {entries} · {seconds // 60}:{seconds % 60:02}"


def _where(observation: Observation) -> str:
    if observation["phase"] == Phase.ANSWERING:
        return "answering"
    chunk, chunks = (int(number) for number in observation["progress"])
    return f"chunk {chunk + 1} of {chunks}"
