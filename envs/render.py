"""One step as coloured text for a terminal: action, memory after it, feedback, and what is seen next."""

from __future__ import annotations

import io
import re

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.text import Text

from atommem_gym.episode import Episode
from atommem_gym.step import Phase, Step, StepResult

WIDTH = 100
MAX_ENTRIES = 8
_UNSAFE = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str, limit: int | None = None) -> str:
    r"""Text without control characters, so that nothing can steer a terminal; cut to ``limit`` characters.

    >>> printable("\x1b[31mred")
    '�[31mred'
    """
    text = _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)
    if limit is not None and len(text) > limit:
        text = f"{text[:limit].rstrip()} … (+{len(text) - limit} characters)"
    return text


def render_step(episode: Episode, action: str, step: Step, result: StepResult) -> str:
    """The step that just ended, as text with ANSI colours.

    Args:
        episode: The episode after the step.
        action: Its action; empty for the reset.
        step: What was decided.
        result: What it returned.
    """
    observation, metrics = result.observation, result.info.get("episode_metrics")
    read, chunks = observation["progress"]
    parts: list[RenderableType] = []
    if not step.opening:
        parts.append(_section("action", Text(printable(action, 400) or "(nothing)", style="cyan")))
    if step.draft.writes or step.draft.deletes:
        parts.append(_section(f"memory after it · {result.info['entries']} entries", _memory(episode, step)))
    if step.applied.get("scratchpad"):
        parts.append(_section("scratchpad", Text(printable(observation["scratchpad"], 240), style="magenta")))
    if observation["feedback"]:
        parts.append(_section("feedback", _feedback(observation["feedback"])))
    if observation["query"]:
        lines = [f"[{m['id']}] {m['score']:+.2f} {_line(m['text'], 80)}" for m in observation["memories"]]
        found = Text("\n".join(lines) or "(nothing found)", style="blue")
        parts.append(_section(f"read: {printable(observation['query'], 120)}", found))
    if metrics is None:
        if step.opening or step.closings or episode.phase is Phase.ANSWERING:
            parts.append(_section("question", Text(printable(observation["question"], 400), style="yellow")))
        if observation["chunk"]:
            parts.append(_section("chunk", Text(printable(observation["chunk"], 320), style="dim")))
    else:
        answers = [
            f"{_line(a['question'], 160)}\n  → {_line(a['answer'], 120) or '(no answer)'}  "
            f"[gold: {_line(a['gold'][0], 80)}]  EM {a['em']:.0f}"
            for a in metrics["answers"]
        ]
        parts.append(_section("end of the episode", Text("\n".join(answers), style="bold")))
    phase = "reading" if observation["phase"] == Phase.READING else "answering"
    title = (
        f"step {episode.state.steps} · {phase} · chunk {min(read + 1, chunks)}/{chunks} · reward {result.reward:.2f}"
    )
    console = Console(
        file=io.StringIO(), force_terminal=True, color_system="standard", width=WIDTH, legacy_windows=False
    )
    console.print(Panel(Group(*parts), title=title, title_align="left", border_style="green" if metrics else "white"))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def _section(title: str, body: Text) -> Text:
    return Text.assemble((f"{title}\n", "bold"), body)


def _line(text: str, limit: int) -> str:
    """A text on one line of at most ``limit`` characters."""
    text = " ".join(printable(text).split())
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def _memory(episode: Episode, step: Step) -> Text:
    """What the step changed, marked, then the newest other entries."""
    entries = episode.state.memory.entries
    text = Text()
    for entry_id in step.draft.deletes:
        text.append(f"- [{entry_id}] deleted\n", style="red")
    for entry_id, entry in step.draft.writes.items():
        text.append(f"+ [{entry_id}] {_line(entry.text, 86)}\n", style="green")
    others = [i for i in entries if i not in step.draft.writes]
    shown = others[-max(0, MAX_ENTRIES - len(step.draft.writes)) :] if len(step.draft.writes) < MAX_ENTRIES else []
    for entry_id in shown:
        text.append(f"  [{entry_id}] {_line(entries[entry_id].text, 86)}\n", style="dim")
    if len(others) > len(shown):
        text.append(f"  … and {len(others) - len(shown)} older\n", style="dim")
    text.rstrip()
    return text if text else Text("(empty)", style="dim")


def _feedback(feedback: str) -> Text:
    text = Text()
    for line in feedback.split("\n"):
        text.append(f"{printable(line, 200)}\n", style="green" if line.startswith("created ") else "red")
    text.rstrip()
    return text
