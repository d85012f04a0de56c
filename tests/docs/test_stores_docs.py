"""The page on stores is followed to the letter, in a folder of its own."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atommem_gym.cli import main
from atommem_gym.stores import export_memory

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "stores.md").read_text(encoding="utf-8")


def test_the_example_runs_and_its_commands_do_what_they_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "kept.db"
    [block] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(block.replace("/tmp/kept.db", str(path)), "docs/stores.md", "exec"), {})
    assert capsys.readouterr().out == "1\n"
    [memory] = [one for one in export_memory(str(path)) if one["entries"]]
    [commands] = re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL)
    for line in commands.splitlines():
        command = line.split("#")[0].split(">")[0].replace("/tmp/kept.db", str(path)).replace("KEY", memory["key"])
        command = command.replace("--entry 2", "--entry 1")
        assert main(command.split()[1:]) == 0, capsys.readouterr().err
    assert export_memory(str(path)) == []
