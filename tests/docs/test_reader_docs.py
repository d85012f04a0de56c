"""docs/reader.md, other_memories.md, reporting.md: examples run, commands play, options and protocols are named."""

from __future__ import annotations

import re
import shlex
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from atommem_gym.cli import main
from atommem_gym.evaluation.folder import read_run
from atommem_gym.evaluation.protocols.protocol import FREE, known_protocols
from atommem_gym.readers.options import ReaderOptions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reader.md"
TEXT = PAGE.read_text(encoding="utf-8")
OTHER = (Path(__file__).resolve().parents[2] / "docs" / "other_memories.md").read_text(encoding="utf-8")
AGENT, PLAY = re.findall(r"```python\n(.*?)```", OTHER, re.DOTALL)


def test_E13_the_example_runs_and_prints_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    [block] = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(block, str(PAGE), "exec"), {})
    said = re.findall(r"print\(.*\)  # (.*True)", block)
    assert said == capsys.readouterr().out.splitlines()[:1]


def test_E13_the_commands_run_as_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL)
    for command in block.strip().splitlines():
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert "gain: B" in capsys.readouterr().out
    assert (tmp_path / "runs" / "gain" / "closed_book.jsonl").is_file()


def test_E13_every_option_is_on_the_page() -> None:
    named = re.findall(r"^\| `(\w+)` \|", TEXT.split("## A server")[1], re.MULTILINE)
    assert named == [field.name for field in fields(ReaderOptions)]


def test_the_page_on_reporting_names_every_protocol_and_what_is_free() -> None:
    text = " ".join((PAGE.parent / "reporting.md").read_text(encoding="utf-8").split())
    assert re.findall(r"\| `([\w-]+)` \|", text) == known_protocols()
    free = text[text.index("these settings") : text.index("`plan.yaml` and")]
    assert set(re.findall(r"`(\w+)`", free)) == FREE


def test_E13_the_example_remembers_enough_for_the_reader() -> None:
    names: dict[str, Any] = {}
    for block in (AGENT, PLAY):
        exec(compile(block, "docs/other_memories.md", "exec"), names)
    assert f"# {names['rewards'].count(1.0) / 12:.2f}" in PLAY
    assert len([line for line in AGENT.splitlines() if line]) <= 30


def test_the_command_line_plays_it_beside_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_memory.py").write_text(AGENT, encoding="utf-8")
    (command,) = re.findall(r"`atommem (eval [^`]*)`", OTHER)
    arguments = ["12" if word == "20" else word for word in shlex.split(command)]
    assert main([*arguments, "--episodes", "2", "-o", "run"]) == 0, capsys.readouterr().err
    assert "gain" in capsys.readouterr().out
    assert {one.agent for one in read_run(tmp_path / "run").results} == {"my_memory:WordsAgent", "tidy"}


def test_what_was_tried_is_what_is_pinned() -> None:
    setup = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    (pinned,) = re.findall(r'^mem0 = \["mem0ai==([\d.]+)"\]', setup, re.MULTILINE)
    assert f"mem0ai {pinned}" in OTHER
