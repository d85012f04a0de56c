"""Reasoning in other spellings than ``<think>`` is reasoning all the same (SPEC A8)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import gymnasium
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.actions import DIALECTS, Answer, Create, Operation, format_action, parse, without_thinking
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.replies.thinking import KNOWN, Pairs, checked_pairs
from atommem_gym.testing import budget, operations
from atommem_gym.testing.linear import check_linear

CHANNELS = ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>")
DEFAULT = [*KNOWN, CHANNELS]
NAMED: Pairs = (("<reason>", "</reason>"), ("{think}", "{/think}"), ("Thoughts:", "Reply:"), ("<|thought|>", "◁end▷"))
PIECES = [
    *(
        "<think>",
        "</think>",
        "<create>a</create>",
        "<create>",
        "</create>",
        '<delete id="1"/>',
        "words",
        "[",
        "<|",
        "]",
    ),
    *("<add_memory>x</add_memory>", '<tool_call>{"name": "create", "arguments": {"text": "b"}}</tool_call>'),
]
dialects = pytest.mark.parametrize("dialect", sorted(DIALECTS))
pairs = st.one_of(
    st.sampled_from(DEFAULT).map(lambda pair: (pair, None)), st.sampled_from(NAMED).map(lambda pair: (pair, NAMED))
)
"""A pair, and what ``thinking`` is."""


@pytest.mark.parametrize(
    "reasoning",
    [
        *("<think>no</think>", "<THINKING>no</Thinking>", "<seed:think>no</seed:think>", "[THINK]no[/THINK]"),
        *("<|START_THINKING|>no<|END_THINKING|>", "◁think▷no◁/think▷", "<mm:think>no</mm:think>"),
        *("<|inner_prefix|>no<|inner_suffix|>", "<|channel|>analysis<|message|>no<|end|>"),
    ],
)
def test_A8_the_families_are_known_by_the_spelling_of_their_models(reasoning: str) -> None:
    assert without_thinking(f"a {reasoning}b") == "a b"
    assert parse(reasoning.replace("no", "<create>no</create>") + "<create>b</create>") == [Create("b")]


def test_A8_a_named_pair_is_a_tag_in_any_case() -> None:
    named = checked_pairs(["<Reason>", "</REASON>"])
    assert parse("<reason><create>no</create></reason><create>b</create>", thinking=named) == [Create("b")]


def drafts(dialect: str, *without: str) -> st.SearchStrategy[str]:
    """What a model may write while it reasons: operations, tags, delimiters of other pairs, and text."""
    strange = [text for pair in (*DEFAULT, *NAMED) for text in pair]
    pieces = st.one_of(
        st.sampled_from([*PIECES, *strange]),
        operations(dialect).map(lambda op: format_action([op], dialect)),
        st.text(),
    )
    return (
        st.lists(pieces, max_size=6)
        .map("".join)
        .filter(lambda text: not any(delimiter.lower() in text.lower() for delimiter in without))
    )


def clean(ops: Sequence[Operation], dialect: str) -> bool:
    """Whether no delimiter stands in the operations, which would be text there but is none in what is stripped."""
    text = format_action(ops, dialect).lower()
    return not any(delimiter.lower() in text for pair in (*DEFAULT, *NAMED) for delimiter in pair)


def plain_operations(dialect: str) -> st.SearchStrategy[list[Operation]]:
    return st.lists(operations(dialect), max_size=3).filter(lambda ops: clean(ops, dialect))


@pytest.mark.parametrize(("opening", "closing"), DEFAULT)
def test_finding_2_8_operations_in_reasoning_are_not_executed(opening: str, closing: str) -> None:
    assert parse(f"{opening}I could <create>no</create>{closing}<create>yes</create>") == [Create("yes")]
    assert parse(f"prompt opened it <create>no</create>{closing}<create>yes</create>") == [Create("yes")]
    assert parse(f"<create>yes</create>{opening}cut <create>no</create>") == [Create("yes")]
    assert parse(f"<create>a {opening} b</create>") == [Create(f"a {opening} b")]
    assert parse(f"<create>a {closing} b</create>") == [Create(f"a {closing} b")]
    assert without_thinking(f"{opening}hm{closing} Rome") == "Rome"


@pytest.mark.parametrize("spelling", ["Thinking", "SEED:THINK", "THINK"])
def test_A8_tags_are_read_in_any_case_and_texts_as_they_are_written(spelling: str) -> None:
    assert parse(f"<{spelling} a=1><create>no</create></{spelling}><answer>b</answer>") == [Answer("b")]
    assert parse("[think]<create>a</create>[/think]") == [Create("a")]


@dialects
@given(data=st.data(), pair=pairs)
@budget(40)
def test_A8_reasoning_is_ignored_whatever_it_holds(dialect: str, data: st.DataObject, pair: Any) -> None:
    (opening, closing), thinking = pair
    ends = ("<|end|>", "<|channel|>", "<|return|>", "<|call|>") if (opening, closing) == CHANNELS else (closing,)
    before, after = data.draw(plain_operations(dialect)), data.draw(plain_operations(dialect))
    draft = data.draw(drafts(dialect, *ends))
    written = [format_action(ops, dialect) for ops in (before, after)]
    assert parse(f"{written[0]}{opening}{draft}{closing}{written[1]}", dialect, thinking) == [*before, *after]
    assert parse(f"{written[0]}{opening}{draft}", dialect, thinking) == before
    begun = data.draw(
        drafts(dialect, *(text for each in (*DEFAULT, *NAMED) for text in each), "<|channel|>", "<create")
    )
    # An operation that is open when the reasoning ends takes what follows as its text, as with </think>.
    if not any(getattr(op, "reason", None) for op in parse(begun, dialect, ())):
        assert parse(f"{begun}{closing}{written[1]}", dialect, thinking) == after


@dialects
@given(data=st.data(), chosen=st.tuples(st.sampled_from(KNOWN), st.sampled_from(KNOWN)))
@budget(40)
def test_A8_pairs_do_not_close_each_other(
    dialect: str, data: st.DataObject, chosen: tuple[tuple[str, str], tuple[str, str]]
) -> None:
    (opening, closing), (_, other) = chosen
    ops = data.draw(plain_operations(dialect))
    action = format_action(ops, dialect)
    expected = ops if closing == other else []
    assert parse(f"{opening}hm{other}{action}", dialect) == expected
    assert parse(f"{opening}hm{other}hm{closing}{action}", dialect) == ops
    assert without_thinking(f"{opening}hm{other}x") == ("x" if closing == other else "")


@dialects
@given(pieces=st.lists(st.sampled_from(PIECES), max_size=14), pair=pairs)
@budget(40)
def test_A8_every_pair_means_what_think_means(dialect: str, pieces: list[str], pair: Any) -> None:
    (opening, closing), thinking = pair

    def other(text: str) -> str:
        return text.replace("<think>", opening).replace("</think>", closing)

    text = "".join(pieces)
    if opening == CHANNELS[0] and (text.find("</think>") < text.find("<think>") or text.count("</think>") > 1):
        return  # a channel ends the reasoning of the prompt once
    expected = [other(repr(operation)) for operation in parse(text, dialect)]
    assert [repr(operation) for operation in parse(other(text), dialect, thinking)] == expected
    assert without_thinking(other(text), thinking) == without_thinking(text)


@dialects
@given(data=st.data())
@budget(40)
def test_A6_delimiters_of_reasoning_may_stand_in_texts(dialect: str, data: st.DataObject) -> None:
    pieces = st.sampled_from([text for pair in (*DEFAULT, *NAMED) for text in pair] + ["a", " ", "."])
    texts = st.lists(pieces, min_size=1, max_size=5).map("".join).filter(lambda text: text == text.strip())
    ops = [Create(text) for text in data.draw(st.lists(texts, max_size=3))]
    if dialect == "tools" and any("<think" in op.text for op in ops):
        ops = []
    assert parse(format_action(ops, dialect), dialect) == ops
    assert parse(format_action(ops, dialect), dialect, NAMED) == ops


def test_A8_pairs_that_are_named_take_the_place_of_the_known_ones() -> None:
    named = checked_pairs(["[R]", "[/R]"])
    action = "[R]<create>no</create>[/R][THINK]<create>b</create>[/THINK]"
    assert parse(action, "crud", named) == [Create("b")]
    assert parse("[R]<create>a</create>[/R]") == [Create("a")]
    assert parse("<|channel|>analysis<|message|><create>a</create>", "crud", named) == [Create("a")]


def test_A8_other_names_are_none() -> None:
    for name in ("thinker", "rethink", "seed", "thinking-x", "seed:thinking"):
        assert parse(f"<{name}><create>a</create></{name}>", "crud") == [Create("a")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # The forms that gpt-oss writes: with and without the role, with a recipient, with a preamble.
        ("<|start|>assistant<|channel|>analysis<|message|>N<|end|><|start|>assistant<|channel|>final<|message|>Y", "Y"),
        ("<|channel|>analysis<|message|>N<|channel|>final<|message|>Y<|return|>", "Y"),
        ("<|channel|>analysis to=python code<|message|>N<|call|><|channel|>final<|message|>Y", "Y"),
        ("<|channel|>analysis<|message|>N<|end|>Y", "Y"),
        ("<|channel|>analysis<|message|>N<|end|><|channel|>commentary<|message|>Y<|end|>", "Y"),
        ("<|channel|>final<|message|>Y", "Y"),
        # Reasoning begun in the prompt ends once: what was said before further reasoning stays said.
        ("Y<|channel|>analysis<|message|>N<|end|><|start|>assistant<|channel|>final<|message|>Y", "YY"),
        ("<|channel|>commentary<|message|>Y<|end|><|start|>assistant<|channel|>final<|message|>Y", "YY"),
        ("N<|end|><|start|>assistant<|channel|>final<|message|>Y<|return|>", "Y"),
        ("<|channel|>final <|constrain|>json<|message|>Y", "Y"),
        ("<|channel|>analysis<|message|>N", ""),
        ("<|channel|>analysis", ""),
        # Other models end their turn so, and that ends no reasoning.
        ("Y<|end|>", "Y<|end|>"),
    ],
)
def test_A8_channels_of_gpt_oss(text: str, expected: str) -> None:
    yes, no = "<create>yes</create>", "<create>no</create>"
    written = text.replace("N", no).replace("Y", yes)
    assert parse(written) == [Create("yes")] * expected.count("Y")
    assert without_thinking(text) == expected


@pytest.mark.parametrize(
    "piece",
    [
        "<thinking><create>a</seed:think><think>",
        "[THINK]<create>",
        "<create>[/THINK]",
        "[/THINK]<create>",
        "<|channel|>",
        "<|channel|>analysis",
        "<|start|>assistant<|channel|>final",
        "<|channel|>final<|constrain|>",
        "<|end|><create>",
        "<|",
        "[",
        "[THINK",
    ],
)
def test_A3_a_long_reply_of_delimiters_takes_linear_time(piece: str) -> None:
    check_linear(parse, {"delimiters": piece}, "parse")
    check_linear(without_thinking, {"delimiters": piece}, "without_thinking")


@pytest.mark.parametrize(
    "value", [["<r>", "</r>"], ("<r>", "</r>"), [["<r>", "</r>"]], (("<r>", "</r>"), ["[R]", "[/R]"])]
)
def test_A8_one_pair_or_a_list_of_pairs(value: Any) -> None:
    config = EnvConfig.from_keywords({"thinking": value})
    assert config.thinking is not None
    assert config.thinking[0] == ("<r>", "</r>")
    assert EnvConfig.from_keywords(json.loads(json.dumps(config.as_keywords()))).thinking == config.thinking
    assert EnvConfig.from_keywords({}).thinking is None


@pytest.mark.parametrize(
    "value",
    [
        *("<r>", [], ["<r>"], ["<r>", "</r>", "<s>"], [["<r>"]], ["<r>", 3], [["<r>", None]], {"<r>": "</r>"}, 3, True),
        *(["", "</r>"], [" <r>", "</r>"], ["<r>\n", "</r>"], ["x", "x"], ["<r>", "<R>"], ["a" * 201, "b"]),
        *([["<r>", "</r>"], ["<s>", "</r>"]], [[f"<{i}>", f"</{i}>"] for i in range(30)]),
        *(["<create>", "</create>"], ["<r>", "<read>"], ["<Answer>", "</Answer>"], ["<creat>", "</creat>"]),
    ],
)
def test_A8_delimiters_that_cannot_be_told_apart_are_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match="thinking"):
        EnvConfig.from_keywords({"thinking": value})


def test_A8_an_operation_of_the_dialect_delimits_no_reasoning() -> None:
    with pytest.raises(ConfigError, match="reads as an operation"):
        EnvConfig.from_keywords({"thinking": ["<tool_call>", "</tool_call>"], "dialect": "tools"})
    assert EnvConfig.from_keywords({"thinking": ["<tool_call>", "</tool_call>"], "dialect": "crud"}).thinking
    with pytest.raises(ConfigError, match="reads as an operation"):
        EnvConfig.from_keywords({"thinking": ["<add_memory>", "</add_memory>"], "preset": "released"})


@dialects
def test_A8_an_environment_ignores_what_stands_between_its_delimiters(dialect: str) -> None:
    create, draft = (format_action([Create(text)], dialect) for text in ("kept", "draft"))
    env = gymnasium.make(
        "AtomMem-Synthetic-v0", num_docs=8, store="numpy", dialect=dialect, thinking=["Thoughts:", "Reply:"]
    )
    env.reset(seed=1)
    info = env.step(f"Thoughts: {draft} Reply: {create}")[4]
    assert (info["applied"]["create"], info["rejected"]) == (1, [])
    env.close()


@pytest.mark.parametrize("closing", [closing for _, closing in KNOWN])
def test_finding_2_8_reasoning_in_a_channel_ends_at_a_channel_alone_in_any_case(closing: str) -> None:
    for name in ("analysis", "ANALYSIS"):
        reply = f"<|channel|>{name}<|message|>hm {closing} no<|end|><|channel|>final<|message|>Rome"
        assert without_thinking(reply) == "Rome"
        assert without_thinking(f"<|channel|>{name}<|message|>hm {closing} no") == ""
