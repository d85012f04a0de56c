"""Reasoning in other spellings than ``<think>`` is reasoning all the same (SPEC A8)."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.actions import Create, parse, without_thinking
from atommem_gym.testing import budget

SPELLINGS = ["thinking", "seed:think", "Thinking", "SEED:THINK"]
PIECES = [
    *("<think>", "</think>", "<think/>", "<create>a</create>", "<create>", "</create>", '<delete id="1"/>', "words"),
    *("<add_memory>x</add_memory>", '<tool_call>{"name": "create", "arguments": {"text": "b"}}</tool_call>'),
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_finding_2_8_operations_in_reasoning_are_not_executed(spelling: str) -> None:
    text = f"<{spelling}>I could <create>no</create></{spelling}><create>yes</create>"
    assert parse(text, "crud") == [Create("yes")]
    assert parse(f"prompt opened it <create>no</create></{spelling}><create>yes</create>", "crud") == [Create("yes")]
    assert parse(f"<create>yes</create><{spelling}>cut <create>no</create>", "crud") == [Create("yes")]
    assert parse(f"<create>a <{spelling}> b</create>", "crud") == [Create(f"a <{spelling}> b")]
    assert without_thinking(f"<{spelling}>hm</{spelling}> Rome") == "Rome"


@pytest.mark.parametrize("dialect", ["crud", "released", "tools"])
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14), spelling=st.sampled_from(SPELLINGS))
@budget(150)
def test_A8_every_spelling_means_what_think_means(dialect: str, pieces: list[str], spelling: str) -> None:
    text = "".join(pieces)
    other = text.replace("think", spelling)
    expected = [repr(operation).replace("think", spelling) for operation in parse(text, dialect)]
    assert [repr(operation) for operation in parse(other, dialect)] == expected
    assert without_thinking(other) == without_thinking(text)


def test_A8_other_names_are_none() -> None:
    for name in ("thinker", "rethink", "seed", "thinking-x", "seed:thinking"):
        assert parse(f"<{name}><create>a</create></{name}>", "crud") == [Create("a")]


def test_A3_a_long_reply_of_mixed_spellings_takes_linear_time() -> None:
    def seconds(count: int) -> float:
        text = "<thinking><create>a</seed:think><think>" * count
        started = time.perf_counter()
        parse(text, "crud")
        return time.perf_counter() - started

    seconds(1000)
    assert seconds(80_000) < 40 * max(seconds(8_000), 0.02)
