"""The Python examples of docs/team.md run as they stand, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")

PAGE = Path(__file__).resolve().parents[2] / "docs" / "team.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == 4
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    assert printed[0].startswith("{'create': ")
    assert printed[1].endswith("rounds")
    assert printed[2].endswith("0.0")


def test_the_table_of_arguments_has_the_defaults_of_the_class() -> None:
    import inspect

    from atommem_gym.envs.team.team import TeamEnv

    rows = re.findall(r"^\| `(\w+)` \| `(.*?)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    defaults = {name: str(parameter.default) for name, parameter in inspect.signature(TeamEnv).parameters.items()}
    assert rows
    for name, default in rows:
        assert defaults[name] == default.strip('"'), name
