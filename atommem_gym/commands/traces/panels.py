"""Records as text for a terminal: an episode's heading, one of its steps, and what a replay found to differ."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.text import Text

from atommem_gym.errors import counted
from atommem_gym.step import Phase
from atommem_gym.terminal import Excerpt, Heading, Line, on_one_line, printable
from atommem_gym.traces.difference import Difference
from atommem_gym.traces.record import EpisodeTrace, MemoryDiff, OperationTrace, StepTrace

CHUNK, PROMPT = 480, 1600
"""Characters shown of a chunk, and of a prompt or response."""


def heading(trace: EpisodeTrace, number: int) -> RenderableType:
    """Who played what, the questions, and why they failed."""
    keywords = " ".join(f"{name}={value}" for name, value in trace.env.keywords.items())
    rows = {
        "episode": f"{number} · item {trace.item} · index {trace.index} · layout {trace.shuffle_seed}",
        "environment": f"{trace.env.id} {keywords}",
        "agent": f"{trace.agent.name} · seed {trace.seed}",
        "steps": f"{len(trace.steps)} in {trace.seconds:.1f} s · reward {trace.reward:.3f}",
    }
    parts: list[RenderableType] = [Heading("trace", "bold cyan")]
    parts += [Text.assemble((f"{name:<11}  ", "bold"), printable(value)) for name, value in rows.items()]
    for question, cause, answer in zip(trace.questions, trace.causes, trace.metrics["answers"], strict=True):
        gold = on_one_line(question.answer) if answer.get("answerable", True) else "none, abstain"
        said = f"→ {on_one_line(answer['answer']) or '(none)'}  [gold: {gold}]  "
        parts.append(Text.assemble((f"{'question':<11}  ", "bold"), on_one_line(question.question)))
        parts.append(Text.assemble("  ", said, (cause or "right", "red" if cause else "green")))
    return Group(*parts)


def step_panel(trace: EpisodeTrace, number: int) -> RenderableType:
    """Step ``number``, from 1."""
    step = trace.steps[number - 1]
    seen = step.observation
    phase = "reading" if seen["phase"] == Phase.READING else "answering"
    title = (
        f"step {number}/{len(trace.steps)} · {phase} · chunks read {seen['progress'][0]}/{seen['progress'][1]} · "
        f"steps left {seen['steps_left']} · reward {step.reward:+.3f}"
    )
    parts: list[RenderableType] = [Heading(title, "bold green" if step.terminated or step.truncated else "bold")]
    if seen["question"]:
        parts += _section("question", Excerpt(seen["question"], PROMPT, "yellow"))
    if seen["chunk"]:
        parts += _section("chunk", Excerpt(seen["chunk"], CHUNK, "dim"))
    if seen["scratchpad"]:
        parts += _section("scratchpad", Excerpt(seen["scratchpad"], CHUNK, "magenta"))
    if seen["query"]:
        found = [Line(m["text"], "blue", f"[{m['id']}] {m['score']:+.3f} ") for m in seen["memories"]]
        parts += [Line(seen["query"], "bold", "read: "), *(found or [Line("(nothing found)", "blue")])]
    reasoning = "\n".join(one.reasoning for one in step.completions if one.reasoning)
    if reasoning:
        parts += _section("reasoning, returned apart", Excerpt(reasoning, PROMPT, "dim"))
    if step.messages is not None:
        parts += _section("response", Excerpt(step.response, PROMPT))
    if step.messages is None or step.response != step.action:
        parts += _section("action", Excerpt(step.action or "(nothing)", PROMPT, "cyan"))
    parts += [*_section("operations", *_operations(step)), *_section("memory", *_memory(step.memory))]
    if step.completions:
        parts.append(Text(_cost(step), style="dim"))
    return Group(*parts)


def difference_panel(difference: Difference) -> RenderableType:
    """What is not as it was recorded."""
    where = f"step {difference.step}" if difference.step else "the beginning"
    text = Text.assemble(
        (f"{printable(difference.path)}\n", "bold"),
        f"recorded  {printable(difference.recorded)}\nreplayed  {printable(difference.replayed)}",
    )
    return Group(Heading(f"differs at {where}", "bold red"), text)


def _section(title: str, *body: RenderableType) -> list[RenderableType]:
    return [Text(title, style="bold"), *body]


def _operations(step: StepTrace) -> list[RenderableType]:
    styles = {"applied": "green", "cut": "yellow", "rejected": "red"}
    lines: list[RenderableType] = [
        Line(_operation(one), styles[one.outcome], f"{one.position:>3} ") for one in step.operations
    ]
    return lines or [Text("(none)", style="dim")]


def _operation(operation: OperationTrace) -> str:
    named = operation.entry_id if operation.entry_id is not None else operation.id
    what = operation.query if operation.text is None else operation.text
    parts = [
        operation.kind,
        "" if named is None else f"[{named}]",
        "" if operation.outcome == "applied" else f"{operation.outcome}: {operation.reason}: {operation.detail}",
        "" if what is None else what,
    ]
    return " ".join(part for part in parts if part)


def _memory(change: MemoryDiff) -> list[RenderableType]:
    lines: list[RenderableType] = [Line(entry.text, "red", f"- [{entry.id}] ") for entry in change.deleted]
    for update in change.updated:
        lines.append(Line(update.before, "red", f"~ [{update.id}] "))
        lines.append(Line(update.after, "green", "  → "))
    lines += [Line(entry.text, "green", f"+ [{entry.id}] ") for entry in change.created]
    if change.scratchpad is not None:
        lines.append(Line(change.scratchpad.after, "magenta", "scratchpad: "))
    return lines or [Text("(as before)", style="dim")]


def _cost(step: StepTrace) -> str:
    prompt = sum(completion.prompt_tokens or 0 for completion in step.completions)
    written = sum(completion.completion_tokens or 0 for completion in step.completions)
    seconds = sum(completion.seconds for completion in step.completions)
    return (
        f"{counted(len(step.completions), 'call')} · {prompt} prompt and {written} completion tokens · {seconds:.2f} s"
    )
