"""The README's Python examples run as they stand, and it is short; the page on the command line names every command."""

from __future__ import annotations

import re
import shlex
from collections import defaultdict
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


def test_a_folder_belongs_to_one_plan_on_whatever_page_it_is_played() -> None:
    """Who copies the commands of one page after another's plays no other plan into the same folder."""
    plans: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    for page in (README, *(README.parent / "docs").rglob("*.md")):
        for block in re.findall(r"```bash\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                words = shlex.split(line, comments=True)
                if words[:2] == ["atommem", "eval"] and not {"--resume", "--report-only"} & set(words):
                    where = words.index("-o")
                    if words[where + 1].startswith("runs/"):
                        plans[words[where + 1]].add(tuple(words[:where] + words[where + 2 :]))
    assert len(plans) > 5
    assert {folder: said for folder, said in plans.items() if len(said) > 1} == {}
