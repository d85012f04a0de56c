"""docs/traces.md runs from top to bottom, and names every field of a record."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from msgspec import Struct
from msgspec.structs import fields

from atommem_gym.cli import main
from atommem_gym.traces import CAUSES, EpisodeTrace, StepTrace

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "traces.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(python|bash)\n(.*?)```", PAGE, re.DOTALL)


def test_every_block_runs_in_its_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    names: dict[str, Any] = {}
    for language, block in BLOCKS:
        if language == "python":
            exec(compile(block, "docs/traces.md", "exec"), names)
            continue
        for line in block.strip().splitlines():
            command, _, file = line.partition(" > ")
            program, *arguments = shlex.split(command)
            assert program == "atommem"
            before = capsys.readouterr().out if file else ""
            assert main(arguments) == 0, capsys.readouterr().err
            if file:
                (tmp_path / file).write_text(capsys.readouterr().out)
                print(before)
    assert len(BLOCKS) == 9
    assert (tmp_path / "sft" / "train.parquet").is_file()
    assert (tmp_path / "sft_trl" / "train.jsonl").is_file()
    assert "9 episodes" in capsys.readouterr().out


def row_of(record: type, field: str) -> str:
    """The row of the table that documents a field of a record."""
    section = PAGE.split(f"\n`{record.__name__}`\n")[1].split("\n`")[0]
    rows = [row for row in section.splitlines() if row.startswith("|") and f"`{field}`" in row.split("|")[1]]
    assert len(rows) == 1, (record.__name__, field)
    return rows[0]


@pytest.mark.parametrize("record", [EpisodeTrace, StepTrace])
def test_every_field_is_documented(record: type) -> None:
    hints = get_type_hints(record)
    for field in fields(record):
        row = row_of(record, field.name)
        kinds = [one for one in (hints[field.name], *get_args(hints[field.name])) if isinstance(one, type)]
        inner = next((one for one in kinds if issubclass(one, Struct)), None)
        if inner is not None and inner is not StepTrace:
            for part in fields(inner):
                assert f"`{part.name}`" in row, (field.name, part.name)


def test_no_field_is_documented_that_is_not_there() -> None:
    for record in (EpisodeTrace, StepTrace):
        section = PAGE.split(f"\n`{record.__name__}`\n")[1].split("\n`")[0]
        named = {
            name for row in section.splitlines() if "|" in row for name in re.findall(r"`(\w+)`", row.split("|")[1])
        }
        assert named == {field.name for field in fields(record)}


def test_every_cause_is_explained() -> None:
    section = PAGE.split("## Why questions fail")[1].split("## Fields")[0]
    # In the order in which they are decided: without an answer nothing else is asked.
    assert re.findall(r"^\| `([^`]+)` \|", section, re.MULTILINE) == ["not answered", *CAUSES[:-1]]
