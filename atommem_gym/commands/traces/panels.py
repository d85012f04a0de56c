"""Records as text for a terminal: an episode's heading, one of its steps, and what a replay found to differ."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from atommem_gym.envs.render import printable
from atommem_gym.step import Phase
from atommem_gym.traces.difference import Difference
from atommem_gym.traces.record import EpisodeTrace, MemoryDiff, OperationTrace, StepTrace

CHUNK, PROMPT, LINE = 480, 1600, 160
"""Characters shown of a chunk, of a prompt or response, and of what stands on one line."""


def heading(trace: EpisodeTrace, number: int) -> RenderableType:
    """Who played what, the questions, and why they failed."""
    keywords = " ".join(f"{name}={value}" for name, value in trace.env.keywords.items())
    rows = {
        "episode": f"{number} · item {trace.item} · index {trace.index} · layout {trace.shuffle_seed}",
        "environment": f"{trace.env.id} {keywords}",
        "agent": f"{trace.agent.name} · seed {trace.seed}",
        "steps": f"{len(trace.steps)} in {trace.seconds:.1f} s · reward {trace.reward:.3f}",
    }
    table = Table.grid(padding=(0, 2))
    for name, value in rows.items():
        table.add_row(name, Text(_line(value)))
    for question, cause, answer in zip(trace.questions, trace.causes, trace.metrics["answers"], strict=True):
        gold = _line(question.answer) if answer.get("answerable", True) else "none, abstain"
        said = f"→ {_line(answer['answer']) or '(none)'}  [gold: {gold}]"
        verdict = (cause or "right", "red" if cause else "green")
        table.add_row("question", Text.assemble(f"{_line(question.question)}\n{said}  ", verdict))
    return Panel(table, border_style="cyan", title=Text("trace"), title_align="left")


def step_panel(trace: EpisodeTrace, number: int) -> RenderableType:
    """Step ``number``, from 1."""
    step = trace.steps[number - 1]
    seen = step.observation
    phase = "reading" if seen["phase"] == Phase.READING else "answering"
    parts: list[RenderableType] = []
    if seen["question"]:
        parts.append(_section("question", Text(printable(seen["question"], PROMPT), style="yellow")))
    if seen["chunk"]:
        parts.append(_section("chunk", Text(printable(seen["chunk"], CHUNK), style="dim")))
    if seen["scratchpad"]:
        parts.append(_section("scratchpad", Text(printable(seen["scratchpad"], CHUNK), style="magenta")))
    if seen["query"]:
        found = "\n".join(f"[{m['id']}] {m['score']:+.3f} {_line(m['text'])}" for m in seen["memories"])
        parts.append(_section(f"read: {_line(seen['query'])}", Text(found or "(nothing found)", style="blue")))
    reasoning = "\n".join(one.reasoning for one in step.completions if one.reasoning)
    if reasoning:
        parts.append(_section("reasoning, returned apart", Text(printable(reasoning, PROMPT), style="dim")))
    if step.messages is not None:
        parts.append(_section("response", Text(printable(step.response, PROMPT))))
    if step.messages is None or step.response != step.action:
        parts.append(_section("action", Text(printable(step.action, PROMPT) or "(nothing)", style="cyan")))
    parts += [_section("operations", _operations(step)), _section("memory", _memory(step.memory))]
    if step.completions:
        parts.append(Text(_cost(step), style="dim"))
    title = (
        f"step {number}/{len(trace.steps)} · {phase} · chunks read {seen['progress'][0]}/{seen['progress'][1]} · "
        f"steps left {seen['steps_left']} · reward {step.reward:+.3f}"
    )
    last = step.terminated or step.truncated
    return Panel(Group(*parts), title=Text(title), title_align="left", border_style="green" if last else "white")


def difference_panel(difference: Difference) -> RenderableType:
    """What is not as it was recorded."""
    where = f"step {difference.step}" if difference.step else "the beginning"
    text = Text.assemble(
        (f"{printable(difference.path)}\n", "bold"),
        f"recorded  {printable(difference.recorded)}\nreplayed  {printable(difference.replayed)}",
    )
    return Panel(text, title=Text(f"differs at {where}"), title_align="left", border_style="red")


def _section(title: str, body: Text) -> Text:
    return Text.assemble((f"{title}\n", "bold"), body)


def _operations(step: StepTrace) -> Text:
    text = Text()
    for operation in step.operations:
        style = {"applied": "green", "cut": "yellow", "rejected": "red"}[operation.outcome]
        text.append(f"{operation.position:>3} {_operation(operation)}\n", style=style)
    text.rstrip()
    return text if text else Text("(none)", style="dim")


def _operation(operation: OperationTrace) -> str:
    named = operation.entry_id if operation.entry_id is not None else operation.id
    what = operation.query if operation.text is None else operation.text
    parts = [
        operation.kind,
        "" if named is None else f"[{named}]",
        "" if operation.outcome == "applied" else f"{operation.outcome}: {operation.reason}: {operation.detail}",
        "" if what is None else what,
    ]
    return _line(" ".join(part for part in parts if part))


def _memory(change: MemoryDiff) -> Text:
    text = Text()
    for entry in change.deleted:
        text.append(f"- [{entry.id}] {_line(entry.text)}\n", style="red")
    for update in change.updated:
        text.append(f"~ [{update.id}] {_line(update.before)}\n", style="red")
        text.append(f"  → {_line(update.after)}\n", style="green")
    for entry in change.created:
        text.append(f"+ [{entry.id}] {_line(entry.text)}\n", style="green")
    if change.scratchpad is not None:
        text.append(f"scratchpad: {_line(change.scratchpad.after)}\n", style="magenta")
    text.rstrip()
    return text if text else Text("(as before)", style="dim")


def _cost(step: StepTrace) -> str:
    prompt = sum(completion.prompt_tokens or 0 for completion in step.completions)
    written = sum(completion.completion_tokens or 0 for completion in step.completions)
    seconds = sum(completion.seconds for completion in step.completions)
    return f"{len(step.completions)} calls · {prompt} prompt and {written} completion tokens · {seconds:.2f} s"


def _line(text: str) -> str:
    """A text on one line of at most ``LINE`` characters."""
    text = " ".join(printable(text).split())
    return text if len(text) <= LINE else f"{text[: LINE - 1]}…"
