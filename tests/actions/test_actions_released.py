r"""The released code's tags: positions for ids, ``\boxed{}`` answers, and what encloses what (SPEC A4, RELEASED)."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from atommem_gym.actions import Answer, Create, Delete, Invalid, Operation, Read, Scratchpad, Update, format_action
from atommem_gym.actions import parse as parse_dialect


def parse(text: str) -> list[Operation | Invalid]:
    return parse_dialect(text, "released")


def brief(text: str) -> list[object]:
    return [f"{op.kind}:{op.reason}" if isinstance(op, Invalid) else op for op in parse(text)]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<add_memory> a </add_memory>", [Create("a")]),
        ("<update_query>q</update_query>", [Read("q")]),
        ("<modify_memory>Memory 2: a</modify_memory>", [Update(2, "a")]),
        ("<modify_memory>\n memory 2 :\n a: b\n</modify_memory>", [Update(2, "a: b")]),
        ("<modify_memory>MEMORY 12:a</modify_memory>", [Update(12, "a")]),
        ("<delete_memory>Memory 3</delete_memory>", [Delete(3)]),
        ("<delete_memory> memory 3. It is old. </delete_memory>", [Delete(3)]),
        ("<update_memory>s</update_memory>", [Scratchpad("s")]),
        (r"<final_answer>\boxed{a}</final_answer>", [Answer("a")]),
        ("<ADD_MEMORY type='x'>a</add_memory>", [Create("a")]),
    ],
)
def test_A4_the_forms(action: str, expected: list[Operation]) -> None:
    assert parse(action) == expected


def test_A4_the_canonical_tags_mean_nothing_here_nor_these_there() -> None:
    assert parse('<create>a</create><read>q</read><delete id="3"/><creat>') == []
    assert parse_dialect("<add_memory>a</add_memory><update_query>q</update_query>", "crud") == []


@pytest.mark.parametrize(
    "address",
    ["", "3", "Memory", "Memory x", "Memory -1", "Memory 1.5", "Memory 1,5", "Memory ٣", "Memory ²", "Memory 3rd",
     "Memory 3_", "Memory 1٣", "Memory " + "9" * 19, "Memory " + "9" * 5000, "memories 3", "a Memory 3", "Memory: 3",
     "Entry 3"],
)  # fmt: skip
def test_A3_a_missing_or_non_integer_position_is_rejected_and_the_rest_still_counts(address: str) -> None:
    """In the released code one malformed operation aborts those after it."""
    action = (
        f"<modify_memory>{address}: text</modify_memory><delete_memory>{address}</delete_memory>"
        "<add_memory>a</add_memory>"
    )
    assert brief(action) == ["update:bad_id", "delete:bad_id", Create("a")]


@pytest.mark.parametrize("body", ["Memory 3 text", "Memory 3", "Memory 3 - text", "Memory 3; text"])
def test_A4_an_update_needs_a_colon(body: str) -> None:
    assert brief(f"<modify_memory>{body}</modify_memory>") == ["update:bad_id"]


def test_A4_memory_0_is_kept_as_position_0_for_the_episode_to_reject() -> None:
    """In the released code it is the last entry."""
    assert parse("<delete_memory>Memory 0</delete_memory><modify_memory>Memory 0: a</modify_memory>") == [
        Delete(0),
        Update(0, "a"),
    ]


def test_A1_an_empty_create_is_rejected_and_other_empty_texts_are_left_to_the_episode() -> None:
    assert brief("<add_memory> </add_memory><add_memory/>") == ["create:empty"] * 2
    assert parse("<update_query> </update_query><update_query/>") == [Read("")] * 2
    assert parse("<update_memory>\n</update_memory><update_memory/>") == [Scratchpad("")] * 2
    assert parse("<modify_memory>Memory 1: </modify_memory>") == [Update(1, "")]


@pytest.mark.parametrize(
    ("inside", "answer"),
    [
        (r"\boxed{ a }", "a"),
        (r"It is \boxed{a}.", "a"),
        (r"\boxed{a} or \boxed{b}", "b"),
        (r"\boxed{a} or \boxed{b", "a"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{{a}{b}}", "{a}{b}"),
        (r"\boxed{a}}", "a"),
        (r"}} \boxed{a} {", "a"),
        (r"{ \boxed{a}", "a"),
        (r"\boxed{a \boxed{b} c}", "b"),
        (r"\boxed{a \boxed{b}", "b"),
        (r"\boxed{}", ""),
        (r"\boxed{a", ""),
        (r"\boxed a", ""),
        (r"\BOXED{a}", ""),
        ("a", ""),
        ("", ""),
        ("\\boxed{two\nlines}", "two\nlines"),
    ],
)
def test_A4_the_last_whole_box_is_the_answer(inside: str, answer: str) -> None:
    assert parse(f"<final_answer>{inside}</final_answer>") == [Answer(answer)]


@pytest.mark.parametrize("length", [292, 293, 300, 5000])
def test_A6_a_long_answer_keeps_its_box(length: int) -> None:
    """In the released code it loses it."""
    ops = [Answer("x" * length)]
    assert parse(format_action(ops, "released")) == ops
    assert parse(rf"<final_answer>\boxed{{a}}{'b' * length}</final_answer>") == [Answer("a")]


@pytest.mark.parametrize("text", ["{", "}", "a}b{c", "}{", r"\boxed{a}", r"x \boxed{", "{{}", "\\boxed{"])
def test_A6_an_answer_with_unbalanced_braces_or_a_box_raises(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be boxed"):
        format_action([Answer(text)], "released")
    assert parse(format_action([Create(text)], "released")) == [Create(text)]


def test_A6_a_negative_position_raises() -> None:
    for op in (Delete(-1), Update(-1, "a")):
        with pytest.raises(ValueError, match="negative"):
            format_action([op], "released")


def test_A6_other_tags_in_a_text_can_be_written() -> None:
    ops: list[Operation] = [Create("<b>x</b>"), Create("<p>"), Update(1, ": <create>a</create>"), Read("</think>")]
    assert parse(format_action(ops, "released")) == ops


def slow_box(text: str) -> str:
    r"""The last ``\boxed{`` whose braces balance, by trying them all from the end."""
    for start in reversed([m.end() for m in re.finditer(r"\\boxed\{", text)]):
        depth = 1
        for stop in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[stop], 0)
            if depth == 0:
                return text[start:stop].strip()
    return ""


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from(["\\boxed{", "{", "}", "a", " ", "\\"]), max_size=14).map("".join))
def test_A4_the_box_agrees_with_a_slow_obvious_search(text: str) -> None:
    assert parse(f"<final_answer>{text}</final_answer>") == [Answer(slow_box(text))]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<think><add_memory>a</add_memory></think><add_memory>b</add_memory>", [Create("b")]),
        ("<plan><add_memory>a</add_memory></plan><add_memory>b</add_memory>", [Create("b")]),
        ("<plan>x<br/><plan/></plan><add_memory>b</add_memory>", [Create("b")]),
        (f"<{'n' * 40}><add_memory>a</add_memory></{'n' * 40}>", []),
        ("<add_memory><plan>a</plan></add_memory>", [Create("<plan>a</plan>")]),
        ("<add_memory>a <update_query>q</update_query></add_memory>", [Create("a <update_query>q</update_query>")]),
    ],
)
def test_released_11_only_outermost_pairs_count_whatever_their_name(action: str, expected: list[Operation]) -> None:
    assert parse(action) == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<plan> <add_memory>a</add_memory>", [Create("a")]),
        ("<p> <add_memory>a</add_memory> <p> <add_memory>b</add_memory>", [Create("a"), Create("b")]),
        ("<p> <add_memory>a</add_memory> <p>b</p>", [Create("a")]),
        ("<br> <add_memory>a</add_memory> <br/> <update_query>q</update_query>", [Create("a"), Read("q")]),
        ("</p> <add_memory>a</add_memory> </p>", [Create("a")]),
        ("<add_memory>a <add_memory>b</add_memory>", ["create:unclosed", Create("b")]),
        ("<add_memory>a <p>b</p> <update_query>q</update_query>", ["create:unclosed", Read("q")]),
        ("<p> I <add_memory> </think><add_memory>b</add_memory>", [Create("b")]),
    ],
)
def test_A3_an_unclosed_tag_hides_nothing(action: str, expected: list[object]) -> None:
    assert brief(action) == expected


@pytest.mark.parametrize("name", ["update_query_v2", "add_memory2", "add_memory-x", "add_memoryé", "update_querys"])
def test_D9_a_longer_name_is_another_name(name: str) -> None:
    assert parse(f"<{name}>a</{name}>") == []
    assert parse(f"<{name}>a</update_query><update_query>q</update_query>") == [Read("q")]
