"""The Python examples of docs/credit.md run as they stand, one after the other, the training on fewer steps."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[rl]'")

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "credit.md"


def test_the_examples_run_one_after_the_other() -> None:
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        short = block.replace("steps=600", "steps=40").replace('["steps"] >= 600', '["steps"] >= 40')
        exec(compile(short, str(PAGE), "exec"), names)


def test_the_options_of_the_commands_exist() -> None:
    from atommem_gym.agents.learn.grpo_options import Options as Grpo
    from atommem_gym.agents.learn.ppo_episodes import Options as Ppo

    text = PAGE.read_text(encoding="utf-8")
    (command,) = re.findall(r"agents\.learn\.grpo (.*)", text)
    for name in re.findall(r"--([\w-]+)", command):
        assert name.replace("-", "_") in Grpo.__dataclass_fields__, name
    assert {"hindsight", "local_groups", "branches"} <= Ppo.__dataclass_fields__.keys()
