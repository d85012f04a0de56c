"""What is rejected or refused, and what is said of it: the value, the rule and the remedy (SPEC M11, A5, A6)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.messages import say, says

from atommem_gym.actions import (
    DIALECTS,
    KINDS,
    ActionText,
    Answer,
    Create,
    Delete,
    Invalid,
    Operation,
    Read,
    Scratchpad,
    Update,
    format_action,
    parse,
)
from atommem_gym.errors import ConfigError

JSON_OBJECT = ("<tool_call>", '{"name": …, "arguments": {…}}')
JSON_PARTS = ("<tool_call>", '"name"', "object", '"arguments"')
BARE = ("non-empty", "white space")


def tool(name: object, arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.mark.parametrize(
    ("dialect", "action", "kind", "reason", "parts"),
    [
        ("crud", "<create></create>", "create", "empty", ("create", "text")),
        ("crud", "<read/>", "read", "empty", ("read", "text")),
        ("crud", "<scratchpad> </scratchpad>", "scratchpad", "empty", ("scratchpad", "text")),
        ("crud", '<update id="3"> </update>', "update", "empty", ("update", "text")),
        ("crud", "<update>x</update>", "update", "bad_id", ("update", "integer id")),
        ("crud", "<update></update>", "update", "bad_id", ("update", "integer id")),
        ("crud", "<delete/>", "delete", "bad_id", ("delete", "integer id")),
        ("crud", "<READ>x", "read", "unclosed", ("<read>", "</read>")),
        ("crud", "<Creat>", "create", "unknown_tag", ("<creat>", "<create>")),
        ("released", "<add_memory>x", "create", "unclosed", ("<add_memory>", "</add_memory>")),
        ("released", "<modify_memory>3: x</modify_memory>", "update", "bad_id", ("modify_memory", "'Memory i'")),
        ("released", "<delete_memory>3</delete_memory>", "delete", "bad_id", ("delete_memory", "'Memory i'")),
        (
            *("released", "<modify_memory>Memory 3 x</modify_memory>", "update", "bad_id"),
            ("modify_memory", "'Memory i: new text'"),
        ),
        ("tools", "<tool_call>{}", "answer", "unclosed", ("<tool_call>", "</tool_call>")),
        ("tools", "<tool_call>{</tool_call>", "answer", "bad_json", JSON_OBJECT),
        ("tools", '<tool_call>{"name": "READ"</tool_call>', "read", "bad_json", JSON_OBJECT),
        ("tools", tool(3, {}), "answer", "bad_json", JSON_PARTS),
        ("tools", tool("delete", 3), "delete", "bad_json", JSON_PARTS),
        ("tools", tool("update", {"id": 1, "text": 3}), "update", "bad_json", ("update", "text", "JSON string")),
        ("tools", tool("raed", {}), "read", "unknown_tag", ("'raed'", "no function")),
        ("tools", tool("Raed", {}), "read", "unknown_tag", ("'Raed'", "no function")),
        ("tools", tool("s" * 50, {}), "answer", "unknown_tag", (f"'{'s' * 40}'", "no function")),
        ("tools", tool("update", {"text": "x"}), "update", "bad_id", ("update", "integer id")),
    ],
)
def test_M11_a_rejected_operation_says_what_is_wrong_and_what_is_right(
    dialect: str, action: str, kind: str, reason: str, parts: tuple[str, ...]
) -> None:
    (found,) = parse(action, dialect)
    assert isinstance(found, Invalid)
    assert (found.kind, found.reason) == (kind, reason)
    says(found.detail, *parts)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("op", "error", "parts"),
    [
        ("x", TypeError, ("'x'", "not an operation", *KINDS)),
        (Invalid("read", "empty", "x"), TypeError, ("Invalid(", "not an operation", *KINDS)),
        (Create(3), TypeError, ("create", "text", "3", "string")),  # type: ignore[arg-type]
        (Read(""), ValueError, ("read", "text", "''", *BARE)),
        (Answer(" a"), ValueError, ("answer", "text", "' a'", *BARE)),
        (Scratchpad("a" * 70 + " "), ValueError, ("scratchpad", "text", f"'{'a' * 60}'", *BARE)),
        (Delete("3"), TypeError, ("delete", "id", "'3'", "integer")),  # type: ignore[arg-type]
        (Update(True, "a"), TypeError, ("update", "id", "True", "integer")),
        (Update(10**18, "a"), ValueError, ("update", "id", "18 digits", "counted from 1")),
        (Delete(-(10**18)), ValueError, ("delete", "id", "18 digits", "counted from 1")),
    ],
)
def test_A6_what_is_no_valid_operation_raises_and_says_why(
    dialect: str, op: Any, error: type[Exception], parts: tuple[str, ...]
) -> None:
    with pytest.raises(error) as caught:
        format_action([Create("fine"), op], dialect)
    says(caught.value, *parts)


@pytest.mark.parametrize(
    ("dialect", "op", "parts"),
    [
        ("crud", Create(f"a <READ {'b' * 50}>"), ("create", "text", f"'<READ {'b' * 34}'", "'crud'")),
        (
            "released",
            Scratchpad(f"</Add_Memory {'b' * 50}>"),
            ("scratchpad", "text", f"'</Add_Memory {'b' * 27}'", "'released'"),
        ),
        ("tools", Create(f"<TOOL_CALL {'b' * 50}>"), ("create", "text", f"'<TOOL_CALL {'b' * 29}'", "'tools'")),
        ("released", Delete(-1), ("delete", "id", "-1", "negative", "'released'", "from 1")),
        ("released", Answer("{" + "a" * 70), ("answer", f"'{{{'a' * 59}'", "boxed", "braces", "balance", r"\boxed{")),
    ],
)
def test_A6_what_a_dialect_cannot_hold_raises_and_says_why(dialect: str, op: Operation, parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^(create|scratchpad|delete|answer) ") as caught:
        format_action([Create("fine"), op], dialect)
    says(caught.value, *parts)


@pytest.mark.parametrize(
    "call", [lambda: parse("", "xml"), lambda: format_action([], "xml"), lambda: ActionText(9, dialect="xml")]
)
def test_A5_an_unknown_dialect_is_named_with_those_there_are(call: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    says(caught.value, "'xml'", *DIALECTS)


def test_a_message_that_lacks_its_value_its_rule_or_its_remedy_is_found_out() -> None:
    says("top_k=30 is too large; use 20 at the most", "top_k=30", "large", "20")
    for lacking in (("top_k=3",), ("small",), ("20", "large"), ("top_k=30", "2"), ()):
        with pytest.raises(AssertionError):
            says("top_k=30 is too large; use 20 at the most", *lacking)
    for lacking in ((), (("a",), ("b",), ("c",)), (("a",), ("a",))):
        with pytest.raises(AssertionError):
            say(["a", "b"], *lacking)
