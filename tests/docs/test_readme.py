"""The README's Python examples run as they stand, and it is short; the page on the command line names every command."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(README), "exec"), names)
    assert "'create'" in capsys.readouterr().out
    observations = names["observations"]
    assert isinstance(observations, dict)
    assert len(set(observations["question"])) == 8


def test_it_is_read_in_four_minutes() -> None:
    assert len(README.read_text().split()) <= 900, "move what only some need to a page in docs/"


def test_it_names_every_environment() -> None:
    from atommem_gym.registration import TASKS

    assert set(re.findall(r"`(AtomMem-\w+-v0)`", README.read_text())) == {task.env_id for task in TASKS.values()}


def test_the_page_on_the_command_line_names_every_command_and_no_other() -> None:
    section = (README.parent / "docs" / "command_line.md").read_text(encoding="utf-8")
    words = re.findall(r"^atommem ([a-z][^#\n]+)", section, re.MULTILINE)
    named = {choice.split()[0] for line in words for choice in line.split(" | ")}
    assert named == set(re.findall(r'subcommand\("(\w+)"\)', (README.parent / "atommem_gym/cli.py").read_text()))
