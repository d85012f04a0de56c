"""One step of a team as coloured text for a terminal: what each agent did and sees, and the memory that they share."""

from __future__ import annotations

import io
from collections.abc import Mapping

from rich.console import Console, Group
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from atommem_gym.envs.render import WIDTH, printable
from atommem_gym.envs.team.episode import TeamEpisode, TeamStep
from atommem_gym.step import Phase, StepResult

MAX_CHANGES = 12
"""Changed entries that are shown."""


def render_team(
    team: TeamEpisode, actions: Mapping[str, str], step: TeamStep, results: Mapping[str, StepResult]
) -> str:
    """The step that just ended, as text with ANSI colours.

    Args:
        team: The episode after the step.
        actions: Those of the agents; empty for the reset.
        step: What was decided.
        results: What it returned, by agent.
    """
    end = results[team.answerer.name]
    table = Table(box=None, expand=True, pad_edge=False)
    for column, ratio in (("agent", 3), ("sees", 2), ("action", 6), ("feedback", 5), ("reads", 6)):
        table.add_column(column, ratio=ratio, overflow="fold")
    for name, result in results.items():
        observation = result.observation
        read, chunks = observation["progress"]
        found = ", ".join(f"[{memory['id']}] by {memory['author'] or '?'}" for memory in observation["memories"])
        asked = f"{_line(observation['query'], 60)} → {found or 'nothing'}" if observation["query"] else ""
        table.add_row(
            name,
            f"{read}/{chunks}" if name != team.answerer.name else "memory",
            Text(_line(actions.get(name, ""), 120), style="cyan"),
            Text(_line(observation["feedback"], 120), style="yellow"),
            Text(asked, style="blue"),
        )
    parts: list[Table | Text] = [table, _changes(team, step, int(end.info["entries"]))]
    metrics = end.info.get("episode_metrics")
    if metrics is None:
        parts.append(Text(f"question: {_line(end.observation['question'], 400)}", style="magenta"))
    else:
        for answer in metrics["answers"]:
            said = _line(answer["answer"], 120) or "(no answer)"
            asked, gold = _line(answer["question"], 160), _line(answer["gold"][0], 80)
            parts.append(Text(f"{asked}\n  → {said}  [gold: {gold}]  EM {answer['em']:.0f}", style="bold"))
    phase = "reading" if team.phase is Phase.READING else "answering"
    title = f"round {team.answerer.state.steps} · {phase} · reward {end.reward:.2f}"
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", width=WIDTH, legacy_windows=False
    )
    console.print(Panel(Group(*parts), title=title, title_align="left", border_style="green" if metrics else "white"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _line(text: str, limit: int) -> str:
    """A text on one line of at most ``limit`` characters."""
    text = " ".join(printable(text).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _changes(team: TeamEpisode, step: TeamStep, entries: int) -> Text:
    draft = step.draft
    lines = [(f"- [{entry}] deleted by {draft.changed[entry]}", "red") for entry in draft.deletes]
    lines += [
        (f"+ [{entry}] {draft.changed[entry]}: {_line(written.text, 70)}", "green")
        for entry, written in draft.writes.items()
    ]
    lines += [
        (f"! [{c.entry}] {c.operation} of {c.rejected} rejected, {c.kept} came first", "red") for c in draft.conflicts
    ]
    text = Text(f"memory: {entries} entries", style="bold")
    for line, style in lines[:MAX_CHANGES]:
        text.append(f"\n{line}", style=f"not bold {style}")
    if len(lines) > MAX_CHANGES:
        text.append(f"\n… and {len(lines) - MAX_CHANGES} more", style="not bold dim")
    return text
