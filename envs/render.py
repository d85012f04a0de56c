"""Renders a step as coloured text for a terminal: action, memory after it, feedback, and the next observation."""

from __future__ import annotations

from rich.console import RenderableType
from rich.text import Text

from atommem_gym.episode import Episode
from atommem_gym.errors import counted
from atommem_gym.step import Phase, Step, StepResult
from atommem_gym.terminal import Excerpt, Heading, Line, drawn, on_one_line
from atommem_gym.terminal import printable as printable

MAX_ENTRIES = 8


def render_step(episode: Episode, action: str, step: Step, result: StepResult) -> str:
    """The last step as text with ANSI colours, as wide as the terminal; without a terminal nothing is wrapped.

    Args:
        episode: The episode after the step.
        action: Its action; empty for the reset.
        step: The step.
        result: The result of the step.
    """
    observation, metrics = result.observation, result.info.get("episode_metrics")
    read, chunks = observation["progress"]
    phase = "reading" if observation["phase"] == Phase.READING else "answering"
    title = (
        f"step {episode.state.steps} · {phase} · chunk {min(read + 1, chunks)}/{chunks} · reward {result.reward:.2f}"
    )
    parts: list[RenderableType] = [Heading(title, "bold green" if metrics else "bold")]
    if not step.opening:
        parts += _section("action", Excerpt(action or "(nothing)", 400, "cyan"))
    if step.draft.writes or step.draft.deletes:
        parts += _section(
            f"memory after it · {counted(int(result.info['entries']), 'entry', 'entries')}", *_memory(episode, step)
        )
    if step.applied.get("scratchpad"):
        parts += _section("scratchpad", Excerpt(observation["scratchpad"], 240, "magenta"))
    if observation["feedback"]:
        parts += _section("feedback", *_feedback(observation["feedback"]))
    if observation["query"]:
        found = [Line(m["text"], "blue", f"[{m['id']}] {m['score']:+.2f} ") for m in observation["memories"]]
        parts += [Line(observation["query"], "bold", "read: "), *(found or [Line("(nothing found)", "blue")])]
    if metrics is None:
        if step.opening or step.closings or episode.phase is Phase.ANSWERING:
            parts += _section("question", Excerpt(observation["question"], 400, "yellow"))
        if observation["chunk"]:
            parts += _section("chunk", Excerpt(observation["chunk"], 320, "dim"))
    else:
        answers = [
            f"{on_one_line(a['question'])}\n  → {on_one_line(a['answer']) or '(no answer)'}  "
            f"[gold: {on_one_line(a['gold'][0])}]  EM {a['em']:.0f}"
            for a in metrics["answers"]
        ]
        parts += _section("end of the episode", Text("\n".join(answers), style="bold"))
    return drawn(*parts)


def _section(title: str, *body: RenderableType) -> list[RenderableType]:
    return [Text(title, style="bold"), *body]


def _memory(episode: Episode, step: Step) -> list[RenderableType]:
    """The entries that the step changed, marked, then the newest other entries."""
    entries = episode.state.memory.entries
    lines: list[RenderableType] = [Text(f"- [{entry_id}] deleted", style="red") for entry_id in step.draft.deletes]
    for entry_id, entry in step.draft.writes.items():
        lines.append(Line(entry.text, "green", f"+ [{entry_id}] "))
    others = [i for i in entries if i not in step.draft.writes]
    shown = others[-max(0, MAX_ENTRIES - len(step.draft.writes)) :] if len(step.draft.writes) < MAX_ENTRIES else []
    lines += [Line(entries[entry_id].text, "dim", f"  [{entry_id}] ") for entry_id in shown]
    if len(others) > len(shown):
        lines.append(Text(f"  … and {len(others) - len(shown)} older", style="dim"))
    return lines or [Text("(empty)", style="dim")]


def _feedback(feedback: str) -> list[RenderableType]:
    return [Excerpt(line, 200, "green" if line.startswith("created ") else "red") for line in feedback.split("\n")]
