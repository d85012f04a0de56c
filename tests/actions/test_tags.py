"""Which stretches of a text are tags, what their names are, and which attribute is the id (SPEC A3)."""

from __future__ import annotations

import pytest

from atommem_gym.actions import (
    Delete,
    parse,
)
from atommem_gym.actions.operations import operation
from atommem_gym.actions.tags import Element, scan

BIGGEST = 10**18 - 1


@pytest.mark.parametrize(
    ("attributes", "expected"),
    [
        ("id=3", 3), ("id='3'", 3), ('id="3"', 3), ('id = "3"', 3), ('ID="3"', 3), ('id=" 3 "', 3), ('id="-3"', -3),
        ('key="id=4" id="3"', 3), ('id="3" id="4"', 3), ('a b="c" id="3"', 3), ("id=003", 3), ('id="3"x', 3),
        ("id='3\"", None), ('id="3', None), ("id", None), ("id=", None), ('id=""', None), ("id=3.0", None),
        ('xid="3"', None), ('id2="3"', None), ('id id="3"', None), ("id=x", None), ('id="+3"', None),
        ('id="٣"', None), ("id=-", None), (f'id="{BIGGEST}"', BIGGEST), (f'id="{BIGGEST + 1}"', None),
    ],
)  # fmt: skip
def test_A3_the_first_id_among_the_attributes_counts_if_it_is_an_integer(attributes: str, expected: int | None) -> None:
    (found,) = parse(f"<delete {attributes}></delete>")
    assert found == (Delete(expected) if expected is not None else operation("delete", "", None))


@pytest.mark.parametrize("sign", ["-", ".", ":", "_", "2", "b", "B", "é", "٣", "-é", ".é", ":é", "_é", "--é"])
def test_A3_a_name_goes_on_as_far_as_letters_digits_and_signs_do(sign: str) -> None:
    assert [element.name for element in scan(f"<b{sign}>x</b{sign}>", ("b",))] == []
    assert scan(f"<b>x</b{sign}>y</b>", ("b",)) == [Element("b", "", f"x</b{sign}>y")]


@pytest.mark.parametrize("name", ["a", "Z", "_", "_b", "a.b:c-d_e2"])
def test_A3_a_name_begins_with_a_letter_or_an_underscore(name: str) -> None:
    lower = name.lower()
    assert scan(f"<{name} k>x</{name}>", (lower,)) == [Element(lower, " k", "x")]
    for sign in "-.:2é":
        assert scan(f"<{sign}{name}>x</{sign}{name}>", (lower, sign + lower)) == []


@pytest.mark.parametrize("text", ["<b", "<b <", "< b>", "<b\n", "</b>", "</b/>", "<>", "</>", "<b<b>", "b>"])
def test_A3_what_is_no_whole_tag_opens_nothing(text: str) -> None:
    found = scan(text, ("b",))
    assert found == ([Element("b")] if text == "<b<b>" else [])


@pytest.mark.parametrize(
    ("text", "begun"),
    [
        ("<b x>y", ["y"]),
        ("<b>y<c>z", ["y<c>z", "z"]),
        ("<b>y<b>z", ["y", "z"]),
        ("<b>y<b/>z<b>", ["y", "", ""]),
        ("<b>y<b>z</b>u", ["y", ""]),
        ("<think><b>y</think><b>z", ["z"]),
        ("<b>y</think><b>z", ["z"]),
        ("<c>y", ["y"]),
    ],
)
def test_A3_what_follows_an_unclosed_tag_is_kept_where_it_is_asked_for(text: str, begun: list[str]) -> None:
    assert [element.begun for element in scan(text, ("b", "c"), keep_begun=True)] == begun
    assert not any(element.begun for element in scan(text, ("b", "c")))


def test_A3_an_unclosed_or_self_closing_tag_encloses_nothing() -> None:
    assert scan("<b x>y", ("b",)) == [Element("b", "", None)]
    assert scan("<b x/>y", ("b",)) == [Element("b", " x", "")]
    assert scan("<b/ >x</b>", ("b",)) == [Element("b", "/ ", "x")]
