"""Measures how fast actions are parsed, by dialect and kind of action: ``python benchmarks/parser.py``.

Times are of the processor, the quickest of several rounds. The floor beside every figure is finding the tags in the
same text with the same regular expression, ``len(TAG.findall(text))``.
"""

from __future__ import annotations

import datetime
import functools
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import tyro
from reports.machine import cpu_name
from rich.console import Console

from atommem_gym.actions import Answer, Create, Delete, Operation, Read, Scratchpad, Update, format_action, parse
from atommem_gym.replies.thinking import TAG

RESULTS = Path(__file__).resolve().parent / "results"
DIALECTS = ("crud", "released", "tools")
TARGET = 50.0
"""MB/s on ordinary actions."""
SENTENCE = "Marie Curie, who was born in Warsaw in 1867, shared the Nobel Prize in Physics with her husband in 1903. "


def prose(sentences: int) -> str:
    """Text of about 100 characters a sentence."""
    return (SENTENCE * sentences).strip()


@dataclass
class Options:
    """Measure the parser."""

    seconds: float = 0.3
    """Process time for each figure."""
    quick: bool = False
    """A few seconds in all."""
    out: Path = RESULTS
    """Folder for parser.md and parser.json."""


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast one kind of action is parsed in one dialect."""

    action: str
    dialect: str
    size: int
    """Characters."""
    mb_s: float
    floor_mb_s: float
    ordinary: bool
    """Whether the target is meant for it."""


def ordinary(dialect: str) -> dict[str, str]:
    """Actions as language models write them."""
    few: list[Operation] = [Create(prose(3)), Update(2, prose(2)), Delete(1), Read("Who was born in Warsaw?")]
    five = [*few, Scratchpad(prose(4))]
    long = [Create(prose(8)) for _ in range(5)]
    think = f"<think>{SENTENCE * 30}</think>\n"
    return {
        "one operation, 300 characters": format_action([Create(prose(3)[:290])], dialect),
        "five operations, 1 kB": format_action(five, dialect),
        "five creates, 4 kB": format_action(long, dialect),
        "reasoning of 3 kB, five operations": think + format_action(five, dialect),
        "prose of 3 kB, one answer": SENTENCE * 30 + format_action([Answer("Warsaw")], dialect),
    }


def unusual(dialect: str) -> dict[str, str]:
    """Actions that try the parser."""
    opening = {"crud": "<create>", "released": "<add_memory>", "tools": "<tool_call>"}[dialect]
    return {
        "1 MB of text in one create": format_action([Create(prose(10_000))], dialect),
        "1 MB of unclosed tags": opening * (1_000_000 // len(opening)),
        "1 MB of <": "<" * 1_000_000,
    }


def speed(work: Callable[[], object], size: int, seconds: float) -> float:
    """MB/s of the quickest of five rounds."""
    rounds, best = 1, 0.0
    while True:
        began = time.process_time()
        for _ in range(rounds):
            work()
        taken = time.process_time() - began
        if taken >= seconds / 5:
            break
        rounds *= 2
    for _ in range(5):
        began = time.process_time()
        for _ in range(rounds):
            work()
        best = max(best, rounds * size / max(time.process_time() - began, 1e-9) / 1e6)
    return best


def measure(options: Options) -> list[Speed]:
    """All figures."""
    seconds = 0.03 if options.quick else options.seconds
    found = []
    for dialect in DIALECTS:
        kinds = [(name, text, True) for name, text in ordinary(dialect).items()]
        kinds += [(name, text, False) for name, text in unusual(dialect).items()]
        for name, text, usual in kinds:
            ours = speed(functools.partial(parse, text, dialect), len(text), seconds)
            floor = speed(functools.partial(TAG.findall, text), len(text), seconds)
            found.append(Speed(name, dialect, len(text), round(ours, 1), round(floor, 1), usual))
    return found


def markdown(speeds: list[Speed], made: dict[str, str]) -> str:
    """The report as a page."""
    lines = [
        "# The parser",
        "",
        "MB/s of action text, in brackets those of finding the tags alone (`len(TAG.findall(text))`). "
        f"Target on ordinary actions: {TARGET:.0f} MB/s.",
        "",
        f"{made['date']} · {made['cpu']} · Python {made['python']} · `{made['command']}`",
        "",
        f"| action | {' | '.join(DIALECTS)} |",
        f"|---|{'--:|' * len(DIALECTS)}",
    ]
    of = {(one.action, one.dialect): one for one in speeds}
    for name in dict.fromkeys(one.action for one in speeds):
        cells = [f"{of[name, d].mb_s:,.0f} ({of[name, d].floor_mb_s:,.0f})" for d in DIALECTS]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    below = [one for one in speeds if one.ordinary and one.mb_s < TARGET]
    if below:
        lines += ["", "Below the target:", ""]
        lines += [f"- {one.action}, `{one.dialect}`: {one.mb_s:.0f} MB/s" for one in below]
    return "\n".join(lines) + "\n"


def command(options: Options) -> str:
    """The command that makes these results."""
    seconds = "" if options.seconds == Options.seconds else f" --seconds {options.seconds}"
    return f"python benchmarks/parser.py{seconds}{' --quick' if options.quick else ''}"


def main(options: Options) -> None:
    """Measure, and write table and figures."""
    made = {
        "date": datetime.date.today().isoformat(),
        "cpu": f"{cpu_name()}, {os.cpu_count()} cores",
        "python": platform.python_version(),
        "command": command(options),
    }
    speeds = measure(options)
    options.out.mkdir(parents=True, exist_ok=True)
    text = markdown(speeds, made)
    (options.out / "parser.md").write_text(text, encoding="utf-8")
    rows = ",\n".join(f"  {json.dumps(asdict(one))}" for one in speeds)
    (options.out / "parser.json").write_text(f'{{"made": {json.dumps(made)}, "speeds": [\n{rows}\n]}}\n', "utf-8")
    Console().print(text, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main(tyro.cli(Options))
