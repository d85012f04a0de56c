"""What is rejected or refused, and what is said of it: the value, the rule and the remedy (SPEC M11, A5, A6)."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from atommem_gym.actions import (
    DIALECTS,
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

JSON_OBJECT = '<tool_call> holds no JSON object {"name": …, "arguments": {…}}'
KINDS_THERE_ARE = "use create, read, update, delete, scratchpad, answer"
BARE = "must be non-empty and without white space around it"
JSON_PARTS = '<tool_call> needs a "name" and an object of "arguments"'


def tool(name: object, arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


@pytest.mark.parametrize(
    ("dialect", "action", "expected"),
    [
        ("crud", "<create></create>", Invalid("create", "empty", "create needs a text")),
        ("crud", "<read/>", Invalid("read", "empty", "read needs a text")),
        ("crud", "<scratchpad> </scratchpad>", Invalid("scratchpad", "empty", "scratchpad needs a text")),
        ("crud", "<answer>\n</answer>", Invalid("answer", "empty", "answer needs a text")),
        ("crud", '<update id="3"> </update>', Invalid("update", "empty", "update needs a text")),
        ("crud", "<update>x</update>", Invalid("update", "bad_id", "update needs an integer id")),
        ("crud", "<update></update>", Invalid("update", "bad_id", "update needs an integer id")),
        ("crud", "<delete/>", Invalid("delete", "bad_id", "delete needs an integer id")),
        ("crud", "<READ>x", Invalid("read", "unclosed", "<read> is never closed by </read>")),
        ("crud", "<Creat>", Invalid("create", "unknown_tag", "<creat> is no tag; write <create>")),
        ("released", "<add_memory>x", Invalid("create", "unclosed", "<add_memory> is never closed by </add_memory>")),
        ("released", "<update_query></update_query>", Invalid("read", "empty", "read needs a text")),
        (
            "released",
            "<modify_memory>3: x</modify_memory>",
            Invalid("update", "bad_id", "modify_memory names its entry as 'Memory i'"),
        ),
        (
            "released",
            "<delete_memory>3</delete_memory>",
            Invalid("delete", "bad_id", "delete_memory names its entry as 'Memory i'"),
        ),
        (
            "released",
            "<modify_memory>Memory 3 x</modify_memory>",
            Invalid("update", "bad_id", "modify_memory is written 'Memory i: new text'"),
        ),
        ("released", "<modify_memory>Memory 3:</modify_memory>", Invalid("update", "empty", "update needs a text")),
        ("tools", "<tool_call>{}", Invalid("answer", "unclosed", "<tool_call> is never closed by </tool_call>")),
        ("tools", "<tool_call>{</tool_call>", Invalid("answer", "bad_json", JSON_OBJECT)),
        ("tools", '<tool_call>{"name": "READ"</tool_call>', Invalid("read", "bad_json", JSON_OBJECT)),
        ("tools", tool(3, {}), Invalid("answer", "bad_json", JSON_PARTS)),
        ("tools", tool("delete", 3), Invalid("delete", "bad_json", JSON_PARTS)),
        (
            "tools",
            tool("update", {"id": 1, "text": 3}),
            Invalid("update", "bad_json", "update needs its text as a JSON string"),
        ),
        ("tools", tool("raed", {}), Invalid("read", "unknown_tag", "'raed' is no function")),
        ("tools", tool("Raed", {}), Invalid("read", "unknown_tag", "'Raed' is no function")),
        ("tools", tool("s" * 50, {}), Invalid("answer", "unknown_tag", f"'{'s' * 40}' is no function")),
        ("tools", tool("update", {"text": "x"}), Invalid("update", "bad_id", "update needs an integer id")),
    ],
)  # fmt: skip
def test_M11_a_rejected_operation_says_what_is_wrong_and_what_is_right(
    dialect: str, action: str, expected: Invalid
) -> None:
    assert parse(action, dialect) == [expected]


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize(
    ("op", "error", "message"),
    [
        ("x", TypeError, f"'x' is no operation that can be written; {KINDS_THERE_ARE}"),
        (
            Invalid("read", "empty", "x"),
            TypeError,
            f"Invalid(…) is no operation that can be written; {KINDS_THERE_ARE}",
        ),
        (Create(3), TypeError, "create text 3 must be a string"),  # type: ignore[arg-type]
        (Read(""), ValueError, f"read text '' {BARE}"),
        (Answer(" a"), ValueError, f"answer text ' a' {BARE}"),
        (Scratchpad("a" * 70 + " "), ValueError, f"scratchpad text '{'a' * 60}' {BARE}"),
        (Delete("3"), TypeError, "delete id '3' must be an integer"),  # type: ignore[arg-type]
        (Update(True, "a"), TypeError, "update id True must be an integer"),
        (Update(10**18, "a"), ValueError, "update id has more than 18 digits; ids are counted from 1"),
        (Delete(-(10**18)), ValueError, "delete id has more than 18 digits; ids are counted from 1"),
    ],
)
def test_A6_what_is_no_valid_operation_raises_and_says_why(
    dialect: str, op: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        format_action([Create("fine"), op], dialect)
    assert re.sub(r"Invalid\(.*?\)", "Invalid(…)", str(caught.value)) == message


@pytest.mark.parametrize(
    ("dialect", "op", "message"),
    [
        (
            "crud",
            Create(f"a <READ {'b' * 50}>"),
            f"create text holds the delimiter '<READ {'b' * 34}', which dialect 'crud' reads as a tag",
        ),
        (
            "released",
            Scratchpad(f"</Add_Memory {'b' * 50}>"),
            f"scratchpad text holds the delimiter '</Add_Memory {'b' * 27}', which dialect 'released' reads as a tag",
        ),
        (
            "tools",
            Create(f"<TOOL_CALL {'b' * 50}>"),
            f"create text holds the delimiter '<TOOL_CALL {'b' * 29}' of dialect 'tools'",
        ),
        ("released", Delete(-1), "delete id -1 is negative; dialect 'released' counts positions from 1"),
        (
            "released",
            Answer("{" + "a" * 70),
            f"answer '{{{'a' * 59}' cannot be boxed: its braces must balance and it must hold no \\boxed{{ of its own",
        ),
    ],
)
def test_A6_what_a_dialect_cannot_hold_raises_and_says_why(dialect: str, op: Operation, message: str) -> None:
    with pytest.raises(ValueError, match=r"^(create|scratchpad|delete|answer) ") as caught:
        format_action([Create("fine"), op], dialect)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "call", [lambda: parse("", "xml"), lambda: format_action([], "xml"), lambda: ActionText(9, dialect="xml")]
)
def test_A5_an_unknown_dialect_is_named_with_those_there_are(call: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value) == "unknown dialect 'xml'; choose one of crud, released, tools"
