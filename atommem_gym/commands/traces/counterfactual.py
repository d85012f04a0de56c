"""``atommem counterfactual``: what a recorded episode would have earned without some of its operations."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import tyro
from rich.console import Console
from rich.text import Text

from atommem_gym.agents import make_agent
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.commands.consoles import output, print_json, progress_bar
from atommem_gym.commands.run import parse_settings
from atommem_gym.commands.traces.replay import find_episode
from atommem_gym.errors import ConfigError, counted
from atommem_gym.readers.protocol import POLICY
from atommem_gym.terminal import Column, Table, on_one_line, printable
from atommem_gym.traces import EpisodeTrace, TraceError
from atommem_gym.traces.counterfactual import Counterfactual, Edit, Ending, Player, counterfactuals
from atommem_gym.traces.counterfactual_file import RECORDED, counterfactual_json
from atommem_gym.traces.intervention import all_operations
from atommem_gym.traces.replay import Replayer

Repeated: TypeAlias = tuple[tuple[str, ...], ...]


@dataclass
class CounterfactualCommand:
    """Play a recorded episode again without one operation, or with it changed, and show what that does to the reward.

    Without --step, each operation of the episode is left out in turn. Updates and deletes still change the entries that
    they changed in the record. The recorded answers stay as they are; only a frozen reader (reader=…) or another agent
    (--continuation) can answer differently.

    Example: atommem counterfactual traces.jsonl --episode 3 --continuation tidy

    Example: atommem counterfactual traces.jsonl --episode 3 --step 4 --operation 1 --change '{"text": "a fact"}'
    """

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A file of traces: .jsonl, .jsonl.gz or .parquet."""
    episode: Annotated[str, tyro.conf.arg(metavar="K|ITEM")] = "0"
    """Which episode: its number in the file, from 0, or its item's id."""
    step: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Only the operations of this step; steps count from 1, as in `atommem replay`."""
    operation: Annotated[int | None, tyro.conf.arg(metavar="N")] = None
    """Only this operation of the step; operations count from 1."""
    without: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Leave the operation out. This is the default."""
    change: Annotated[str | None, tyro.conf.arg(metavar="JSON")] = None
    """Change the operation instead: a JSON object with new values for kind, text, query or id."""
    continuation: Annotated[str, tyro.conf.arg(metavar="NAME")] = RECORDED
    """What plays the steps after the change: recorded (the recorded actions), a scripted agent such as tidy, or an
    agent of yours, package.module:name."""
    settings: Annotated[Repeated, tyro.conf.UseAppendAction, tyro.conf.arg(name="set", metavar="KEY=VALUE…")] = ()
    """Keyword arguments of the environment in place of the recorded ones, such as source=PATH or reader=URL."""
    tolerance: Annotated[float, tyro.conf.arg(metavar="X")] = 0.0
    """How far recorded and replayed similarity scores may differ; neural embedders differ between machines by about
    1e-6."""
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json")] = False
    """Print JSON instead of a table; `atommem view --counterfactual FILE` shows it."""

    def run(self) -> int:
        """Play, and print what was found; the exit status."""
        self._check()
        agent = self._agent()
        number, trace = find_episode(self.file, self.episode)
        edits = self._edits(trace)
        with Replayer(parse_settings(list(chain.from_iterable(self.settings))), self.tolerance) as replayer:
            found = _played(trace, edits, replayer, agent)
        if self.as_json:
            print_json(counterfactual_json(trace, number, self.continuation, found))
            return 0
        console = output()
        heading = f"episode {number} · item {trace.item} · {trace.agent.name} · {counted(len(trace.steps), 'step')}"
        console.print(Text(printable(f"{heading} · reward {trace.reward:.3f}")))
        if self.operation is not None:
            _show_one(console, trace, found[0])
        else:
            console.print(_table(found))
        self._notes(console, trace, found)
        return 0

    def _check(self) -> None:
        if self.operation is not None and self.step is None:
            raise ConfigError(f"--operation {self.operation} needs the step that it belongs to: add --step N")
        if self.change is not None and self.operation is None:
            raise ConfigError("--change changes one operation: add --step N --operation N")
        if self.change is not None and self.without:
            raise ConfigError("--change contradicts --without; leave one out")
        if not self.tolerance >= 0:
            raise ConfigError(f"--tolerance {self.tolerance} must be a number of at least 0")

    def _agent(self) -> Callable[[], Player] | None:
        name = self.continuation
        if name == RECORDED:
            return None
        if name in ROLES:
            raise ConfigError(
                f"--continuation {name} is a role of language models, of which every branch would be a conversation; "
                "name a scripted agent, or one of your own, package.module:name"
            )
        make_agent(name)
        return partial(make_agent, name)

    def _edits(self, trace: EpisodeTrace) -> list[Edit]:
        """The operations in question."""
        if self.step is not None and self.operation is not None:
            return [Edit(self.step, self.operation, None if self.change is None else _change(self.change))]
        every = all_operations(trace)
        if self.step is None:
            return every
        if not 1 <= self.step <= len(trace.steps):
            raise TraceError(f"the episode has no step {self.step}; its steps are 1 to {len(trace.steps)}")
        return [edit for edit in every if edit.step == self.step]

    def _notes(self, console: Console, trace: EpisodeTrace, found: Sequence[Counterfactual]) -> None:
        """What the numbers do not say by themselves."""
        notes = [] if found else ["there are no operations"]
        kept = self.continuation == RECORDED and trace.env.keywords.get("reader", POLICY) == POLICY
        if found and kept and not any(one.difference for one in found if one.kind != "answer"):
            notes.append(
                "The recorded answers stay what they were, whatever memory holds: see --continuation, or record with a "
                "frozen reader."
            )
        if found and not any(one.difference != 0 for one in found):
            notes.append("None of these operations changes the reward.")
        unknown = {one.unknown: None for each in found for one in (each.kept, each.other) if one.unknown}
        notes += [f"unknown: {why}" for why in unknown]
        for note in notes:
            console.print(Text(printable(note), style="dim"))


def _change(text: str) -> dict[str, Any]:
    try:
        change: object = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--change {text!r} is no JSON; write for instance '{_EXAMPLE}'") from error
    if not isinstance(change, dict) or not change:
        raise ConfigError(f"--change {text!r} must be an object that names a field; write for instance '{_EXAMPLE}'")
    return change


_EXAMPLE = '{"text": "another text"}'


def _played(
    trace: EpisodeTrace, edits: Sequence[Edit], replayer: Replayer, agent: Callable[[], Player] | None
) -> list[Counterfactual]:
    found = []
    with (
        closing(counterfactuals(trace, edits, replayer=replayer, agent=agent)) as following,
        progress_bar() as progress,
    ):
        task = progress.add_task("operations", total=len(edits))
        for one in following:
            found.append(one)
            progress.advance(task)
    return found


def _table(found: Sequence[Counterfactual]) -> Table:
    table = Table(
        [
            Column("step", "right"),
            Column("op.", "right"),
            Column("kind"),
            Column("what it said", kind="line"),
            Column("with", "right"),
            Column("without", "right"),
            Column("difference", "right"),
        ]
    )
    for one in found:
        numbers = (_number(one.kept.reward), _number(one.other.reward), _number(one.difference, "+.3f"))
        cells = (f"{one.step}", f"{one.operation}", one.kind, _said(one), *numbers)
        style = "" if one.difference == 0 else "yellow" if one.difference is None else "bold"
        table.add_row(*(Text(printable(cell), style=style) for cell in cells))
    return table


def _said(one: Counterfactual) -> str:
    named = [] if one.id is None else [f"[{one.id}]"]
    rejected = ["(rejected)"] if one.outcome == "rejected" else []
    return on_one_line(" ".join([*named, one.text or "", *rejected]))


def _show_one(console: Console, trace: EpisodeTrace, one: Counterfactual) -> None:
    done = "left out" if one.change is None else f"changed by {json.dumps(one.change, ensure_ascii=False)}"
    console.print(Text(printable(f"step {one.step}, operation {one.operation}, {one.outcome}, {done}")))
    console.print(Text.assemble((f"{printable(one.kind)}  ", "cyan"), _said(one)))
    console.print(
        Text(
            f"reward {_number(one.kept.reward)} with it, {_number(one.other.reward)} "
            f"{'without it' if one.change is None else 'as changed'}: difference {_number(one.difference, '+.3f')}",
            style="bold",
        )
    )
    for place, question in enumerate(trace.questions):
        console.print(Text(printable(f"question  {question.question}"), style="yellow"))
        for name, ending in (("with", one.kept), ("without" if one.change is None else "changed", one.other)):
            console.print(Text(printable(f"  {name:<8}{_answer(ending, place)}")))


def _answer(ending: Ending, place: int) -> str:
    if not ending.answers:
        return "?"
    _, answer, score = ending.answers[place]
    return f"{_number(score)}  {' '.join(answer.split()) or '(none)'}"


def _number(value: float | None, form: str = ".3f") -> str:
    return "?" if value is None else format(value + 0.0, form)
