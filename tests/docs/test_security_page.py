"""SECURITY.md and the pages say which files may come from strangers, and what they say is what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from atommem_gym import trust
from atommem_gym.commands.eval import Eval
from atommem_gym.exchange import LARGEST_REPLY, MEBIBYTE

ROOT = Path(__file__).parents[2]
SECURITY = " ".join((ROOT / "SECURITY.md").read_text().split())


@pytest.mark.parametrize(
    ("page", "words"),
    [
        ("ask.md", "may come from strangers"),
        ("custom_task.md", "may come from strangers"),
        ("traces.md", "Traces of others"),
        ("evaluation.md", "Plans of others"),
        ("train_your_own.md", "Rows may come from others"),
        ("llm_agents.md", "SECURITY.md"),
    ],
)
def test_finding_1_4_each_page_says_which_files_may_come_from_strangers(page: str, words: str) -> None:
    assert words in " ".join((ROOT / "docs" / page).read_text().split())


def test_finding_1_4_the_promises_name_all_that_a_file_may_name() -> None:
    table = SECURITY[SECURITY.index("| a file names") : SECURITY.index("A command writes only")]
    words = {
        "embedder": "embedder",
        "tokenizer": "tokenizer",
        "model": "language model",
        "template": "prompt template",
        "text": "`text=`",
        "store": "`store=",
        "reader": "frozen reader",
        "reward": "`reward`",
    }
    assert words.keys() == trust._KEYWORDS.keys() | {"reward"}, "a keyword that opens something has a line"
    assert [name for name, word in words.items() if word not in table] == []
    assert f"at most {LARGEST_REPLY // MEBIBYTE} MiB" in SECURITY


def test_finding_1_4_what_is_code_is_listed() -> None:
    code = SECURITY[SECURITY.index("## What is code") :]
    for word in ("--import", "module:function", "pickled", "Stable-Baselines3", "keyword arguments"):
        assert word in code


def test_finding_1_4_the_options_that_it_names_exist() -> None:
    options = set(re.findall(r"`--([a-z-]+)", SECURITY))
    fields = {name.replace("_", "-") for name in Eval.__dataclass_fields__}
    known = fields | {"set", "import", "trust", "embedder", "agent"}
    assert options <= known | {"template"}
