"""The README's Python examples run as they stand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).resolve().parents[2] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)


def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, object] = {}
    for block in BLOCKS[:3]:
        exec(compile(block, str(README), "exec"), names)
    assert "'create'" in capsys.readouterr().out
    observations = names["observations"]
    assert isinstance(observations, dict)
    assert len(set(observations["question"])) == 8
    assert names["rewards"] == [0.0] * 100


def test_every_keyword_of_the_examples_exists() -> None:
    from atommem_gym.config import EnvConfig

    assert len(BLOCKS) == 4
    for line in BLOCKS[3].splitlines():
        keywords = dict(re.findall(r'(\w+)="([^"]*)"', line.split("#")[0]))
        EnvConfig.from_keywords(keywords)


def test_the_readme_names_every_command_and_no_other() -> None:
    section = README.read_text().split("## Command line")[1].split("## ")[0]
    words = re.findall(r"^atommem ([a-z][^#\n]+)", section, re.MULTILINE)
    named = {choice.split()[0] for line in words for choice in line.split(" | ")}
    assert named == set(re.findall(r'subcommand\("(\w+)"\)', (README.parent / "atommem_gym/cli.py").read_text()))
