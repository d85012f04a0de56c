"""Writing actions is the inverse of reading them, in every dialect and for every valid text (SPEC A6)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.actions.slow_actions import reference_tags

from atommem_gym.actions import (
    DIALECTS,
    KINDS,
    Answer,
    Create,
    Delete,
    Invalid,
    Kind,
    Operation,
    Read,
    Scratchpad,
    Update,
    format_action,
    parse,
)
from atommem_gym.actions.operations import check_formattable, operation, text_of
from atommem_gym.errors import ConfigError

ANY = st.characters(exclude_categories=())
DELIMITERS = {
    "crud": KINDS,
    "released": ("add_memory", "update_query", "modify_memory", "delete_memory", "update_memory", "final_answer"),
    "tools": ("tool_call",),
}


def holds_delimiter(text: str, dialect: str) -> bool:
    return any(name in DELIMITERS[dialect] for _, _, name, _ in reference_tags(text))


def balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += {"{": 1, "}": -1}.get(character, 0)
        if depth < 0:
            return False
    return depth == 0


def texts(dialect: str) -> st.SearchStrategy[str]:
    """Non-empty, stripped and free of delimiters, yet full of what looks like them."""
    names = (*DELIMITERS[dialect], "think", "b", "creat", "create_x")
    pieces = st.text(ANY, min_size=1, max_size=4) | st.sampled_from(
        [
            "<",
            ">",
            "/",
            "</",
            "/>",
            '"',
            "\\",
            "\\n",
            "\\u003c",
            ":",
            "Memory 1",
            "{a}",
            "<think>",
            "</think>",
            "<b>",
            "</b>",
            "\ud83d",
            "\ude00",
            "\n",
            "\x00",
            "<tool_call",
            "'",
            "&lt;",
            "\\ud800",
            "<br/>",
            '"}}',
            *names,
        ]
    )
    joined = st.lists(pieces, min_size=1, max_size=8).map(lambda parts: "".join(parts).strip())
    return joined.filter(lambda text: bool(text) and not holds_delimiter(text, dialect))


def operations(dialect: str) -> st.SearchStrategy[Operation]:
    text = texts(dialect)
    positive = dialect == "released"
    ids = st.integers(0 if positive else -(10**18) + 1, 10**18 - 1) | st.integers(0, 30)
    answer = text.filter(lambda t: balanced(t) and "\\boxed{" not in t) if positive else text
    return st.one_of(
        text.map(Create),
        text.map(Read),
        st.builds(Update, ids, text),
        ids.map(Delete),
        text.map(Scratchpad),
        answer.map(Answer),
    )


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_A6_parse_undoes_format_action(dialect: str, data: st.DataObject) -> None:
    ops = data.draw(st.lists(operations(dialect), max_size=4))
    action = format_action(ops, dialect)
    assert parse(action, dialect) == ops
    assert parse(f"I do it now: {action} Done.", dialect) == ops
    if "think>" not in action:
        assert parse(f"<think>{action}</think>{action}", dialect) == ops


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@pytest.mark.parametrize("make", [Create, Read, lambda text: Update(3, text), Scratchpad, Answer])
def test_A6_texts_that_are_not_valid_raise(dialect: str, make: type[Create]) -> None:
    bad = ["", " ", " a", "a\n", "\u3000a", "a\x1f"]
    for name in DELIMITERS[dialect]:
        bad += [f"a<{name}>b", f"a</{name}>b", f"<{name.upper()} x='1'>", f"<{name}/>", f"x</{name}\n>"]
    if make is Answer:
        bad.remove("")  # an abstention (A1)
    for text in bad:
        with pytest.raises(ValueError, match=r"must be non-empty|delimiter"):
            format_action([Create("fine"), make(text)], dialect)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_A6_a_text_with_a_delimiter_raises_and_one_without_does_not(dialect: str, data: st.DataObject) -> None:
    pieces = [part for name in DELIMITERS[dialect] for part in (f"<{name}", f"</{name}", f"<{name}_x", name)]
    text = "".join(data.draw(st.lists(st.sampled_from([*pieces, ">", "/", " ", "<", "\n", '"', "\\"]), max_size=6)))
    text = text.strip()
    if not text or holds_delimiter(text, dialect):
        with pytest.raises(ValueError, match=r"must be non-empty|delimiter"):
            format_action([Create(text)], dialect)
    else:
        assert parse(format_action([Create(text)], dialect), dialect) == [Create(text)]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_A6_what_is_no_operation_raises(dialect: str) -> None:
    wrong: list[Any] = [Invalid("create", "empty", ""), "<create>a</create>", None]
    wrong += [Create(3), Update(True, "a"), Delete("3")]  # type: ignore[arg-type]
    for op in wrong:
        with pytest.raises(TypeError, match=r"not an operation|must be"):
            format_action([op], dialect)
    with pytest.raises(ValueError, match="18 digits"):
        format_action([Delete(10**18)], dialect)


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_A6_ids_of_observations_are_numpy_integers_and_can_be_written(dialect: str) -> None:
    numbers: tuple[Any, Any] = (np.int64(3), np.int32(4))
    ops: list[Operation] = [Update(numbers[0], "a"), Delete(numbers[1])]
    assert parse(format_action(ops, dialect), dialect) == [Update(3, "a"), Delete(4)]


@pytest.mark.parametrize("dialect", sorted(DIALECTS))
def test_A6_no_operations_are_an_empty_action(dialect: str) -> None:
    assert format_action([], dialect) == ""
    assert parse("", dialect) == []


def test_A6_an_unknown_dialect_raises_and_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'xml'.*crud.*released.*tools"):
        parse("", "xml")
    with pytest.raises(ConfigError, match=r"'xml'.*crud.*released.*tools"):
        format_action([], "xml")


# -- forms


BIGGEST = 10**18 - 1


@pytest.mark.parametrize(
    ("dialect", "written"),
    [
        ("crud", '<update id="3">t</update>\n<delete id="-4"/>\n<read>q</read>'),
        ("released", "<modify_memory>Memory 3: t</modify_memory>\n<delete_memory>Memory 0</delete_memory>\n"
                     "<update_query>q</update_query>"),
        ("tools", '<tool_call>\n{"name": "update", "arguments": {"id": 3, "text": "t"}}\n</tool_call>\n'
                  '<tool_call>\n{"name": "delete", "arguments": {"id": -4}}\n</tool_call>\n'
                  '<tool_call>\n{"name": "read", "arguments": {"query": "q"}}\n</tool_call>'),
    ],
)  # fmt: skip
def test_A6_operations_are_written_one_a_line_in_the_dialects_form(dialect: str, written: str) -> None:
    ops: list[Operation] = [Update(3, "t"), Delete(0 if dialect == "released" else -4), Read("q")]
    assert format_action(ops, dialect) == written
    assert parse(written, dialect) == ops


def test_A6_the_dialect_that_is_not_named_is_the_canonical_one() -> None:
    assert format_action([Create("x")]) == "<create>x</create>"
    assert parse("<create>x</create>") == [Create("x")]


def test_A6_tools_write_any_script_as_it_is() -> None:
    assert "naïve 東京" in format_action([Create("naïve 東京")], "tools")


@pytest.mark.parametrize("dialect", ["crud", "tools"])
@pytest.mark.parametrize("number", [BIGGEST, -BIGGEST, 0])
def test_A6_ids_of_18_digits_are_the_longest(dialect: str, number: int) -> None:
    ops: list[Operation] = [Delete(number), Update(number, "a")]
    assert parse(format_action(ops, dialect), dialect) == ops


def test_A6_positions_of_18_digits_are_the_longest_and_none_is_negative() -> None:
    ops: list[Operation] = [Delete(BIGGEST), Update(0, "a")]
    assert parse(format_action(ops, "released"), "released") == ops


@pytest.mark.parametrize("kind", KINDS)
def test_A1_an_operation_is_built_from_its_kind_its_stripped_text_and_its_address(kind: Kind) -> None:
    made = operation(kind, " t ", 3)
    assert not isinstance(made, Invalid)
    expected: dict[Kind, Operation] = {
        "create": Create("t"),
        "read": Read("t"),
        "update": Update(3, "t"),
        "delete": Delete(3),
        "scratchpad": Scratchpad("t"),
        "answer": Answer("t"),
    }
    assert made == expected[kind]
    assert made.kind == kind
    assert text_of(made) == (None if kind == "delete" else "t")
    check_formattable(made)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_A1_an_empty_action_has_no_operations(dialect: str) -> None:
    assert parse("", dialect) == []
    assert format_action([], dialect) == ""
