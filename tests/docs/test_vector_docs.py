"""The Python examples of docs/parallel.md and docs/forks.md run as they stand, one after the other."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "parallel.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    assert len(BLOCKS) == 9
    names: dict[str, object] = {}
    for block in BLOCKS:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "MemoryCost(per_entry=0.001, per_operation=0.0)" in capsys.readouterr().out


def test_the_examples_of_forks_run_one_after_the_other() -> None:
    page = PAGE.with_name("forks.md")
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)
    assert names["earned"] == [0.5, 2.0], "a wider search finds more of the evidence"


def test_every_wrapper_that_the_page_names_exists() -> None:
    from atommem_gym import envs
    from atommem_gym.envs.wrappers import vector

    named = set(re.findall(r"`envs\.(\w+)[`(]", PAGE.read_text(encoding="utf-8")))
    assert {"PromptObservation", "ShapedReward"} <= named
    assert all(hasattr(envs, name) and hasattr(vector, name) for name in named)
