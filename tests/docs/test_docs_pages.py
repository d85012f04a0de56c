"""The page on custom tasks is followed to the letter; the world of the page on worlds says what does not fit."""

from __future__ import annotations

import asyncio
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from atommem_gym.cli import main
from atommem_gym.commands.imports import import_modules
from atommem_gym.errors import ConfigError
from atommem_gym.registration import TASKS

DOCS = Path(__file__).resolve().parents[2] / "docs"
CUSTOM, ADD = ((DOCS / name).read_text(encoding="utf-8") for name in ("custom_task.md", "plugins/world.md"))
_FENCE = r"```{}\n(.*?)```"


def blocks(page: str, language: str) -> list[str]:
    return re.findall(_FENCE.format(language), page, re.DOTALL)


def files(page: str) -> dict[str, str]:
    """The files that a page has one write: the name in the sentence before a block, and the block."""
    found = re.findall(r"`([\w/]+\.(?:py|j2|jsonl))`[^`]*(?:`[^`\n]+`[^`]*)*?\n\n```\w+\n(.*?)```", page, re.DOTALL)
    return dict(found)


def write_files(page: str, folder: Path) -> list[str]:
    for name, text in files(page).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return sorted(files(page))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory; what is registered and imported in it is forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("COLUMNS", "160")
    known, ids, modules = dict(TASKS), dict(gym.registry), set(sys.modules)
    yield tmp_path
    for registry, before in ((TASKS, known), (gym.registry, ids)):
        registry.clear()
        registry.update(before)
    for name in set(sys.modules) - modules:
        if name.split(".")[0] in ("recipes", "tally"):
            del sys.modules[name]


def commands(page: str) -> list[list[str]]:
    return [shlex.split(line, comments=True) for block in blocks(page, "bash") for line in block.splitlines()]


def test_the_custom_task_is_written_played_evaluated_and_replayed_as_the_page_says(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert write_files(CUSTOM, folder) == ["kitchen.jsonl", "recipes.j2", "recipes.py"]
    task, play = blocks(CUSTOM, "python")
    assert len([line for line in task.splitlines() if line.strip()]) <= 20, "the page promises twenty lines"
    outputs = []
    for program, *arguments in commands(CUSTOM):
        assert program == "atommem"
        assert main(arguments) == 0, (arguments, capsys.readouterr())
        outputs.append(capsys.readouterr().out)
    played, evaluated, replayed, checked = outputs
    assert re.search(r"oracle\W+1\.00", played), played
    assert "keep_all" in evaluated
    assert "all as recorded" in replayed
    assert "all records are well-formed" in checked
    names: dict[str, Any] = {}
    exec(compile(play, "docs/custom_task.md", "exec"), names)
    asyncio.run(names["pool"].aclose())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"deliveries": 0}, "deliveries=0 must be"),
        ({"source": "hub"}, "leave source"),
        ({"num_docs": 2}, "num_docs=2 must be"),
        ({"delivery": 2}, "deliveries"),
        ({"difficulty": 2}, "difficulty=2"),
    ],
)
def test_the_page_s_environment_says_what_does_not_fit(folder: Path, keywords: dict[str, Any], message: str) -> None:
    assert write_files(ADD, folder) == ["play.py", "tally.py"]
    import_modules(["tally"])
    with pytest.raises(ConfigError, match=message):
        gym.make("AtomMem-Tally-v0", **keywords)
