"""Tool calls: JSON of every ugliness, and the schemas that ask for it (SPEC A5)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.game import Game

from atommem_gym.actions import (
    KINDS,
    Answer,
    Create,
    Delete,
    Invalid,
    Operation,
    Read,
    Scratchpad,
    Update,
    format_action,
    tool_schemas,
)
from atommem_gym.actions import parse as parse_dialect


def parse(text: str) -> list[Operation | Invalid]:
    return parse_dialect(text, "tools")


def block(body: str) -> str:
    return f"<tool_call>\n{body}\n</tool_call>"


def brief(*bodies: str) -> list[object]:
    found = parse("\n".join(map(block, bodies)))
    return [f"{op.kind}:{op.reason}" if isinstance(op, Invalid) else op for op in found]


def call(name: object, **arguments: object) -> str:
    return json.dumps({"name": name, "arguments": arguments})


def test_A5_the_six_calls() -> None:
    bodies = [
        call("create", text=" a "),
        call("read", query="q"),
        call("update", id=3, text="b"),
        call("delete", id=4),
        call("scratchpad", text="s"),
        call("answer", text="yes"),
    ]
    assert brief(*bodies) == [Create("a"), Read("q"), Update(3, "b"), Delete(4), Scratchpad("s"), Answer("yes")]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ('{"name":"create","arguments":"{\\"text\\": \\"a\\"}"}', Create("a")),
        ('{"name":"CREATE","arguments":{"text":"a"}}', Create("a")),
        ('{"arguments":{"text":"a"},"name":"create","id":"call_1"}', Create("a")),
        ('{"name":"create","arguments":{"text":"a","score":NaN,"extra":[1,{"b":{}}],"id":"x"}}', Create("a")),
        ('{"name":"create","arguments":{"text":"{\\"a\\": {\\"b\\": \\"}}\\"}}"}}', Create('{"a": {"b": "}}"}}')),
        ('{"name":"read","name":"create","arguments":{"text":"a","text":"b"}}', Create("b")),
        ('{"name":"create","arguments":{"text":"\\ud800 \\u0000 \\ud83d\\ude00"}}', Create("\ud800 \x00 😀")),
        ('{"name":"create","arguments":{"text":"<think>x</think></create>"}}', Create("<think>x</think></create>")),
        ('{"name":"create","arguments":{"text":"\\u003c/tool_call\\u003e"}}', Create("</tool_call>")),
        ('{"name":"delete","arguments":{"id":"3"}}', Delete(3)),
        ('{"name":"delete","arguments":{"id":" -3 ","text":5}}', Delete(-3)),
        ('{"name":"delete","arguments":{"id":999999999999999999}}', Delete(10**18 - 1)),
        ("", "answer:bad_json"),
        ("{}", "answer:bad_json"),
        ("[]", "answer:bad_json"),
        ("null", "answer:bad_json"),
        ("NaN", "answer:bad_json"),
        ('"create"', "answer:bad_json"),
        ("{'name': 'create'}", "create:bad_json"),
        ('{"name":"creat","arguments":{"text":"a"}', "create:bad_json"),
        ('{"name":"raed","arguments":3}', "read:bad_json"),
        ('{"name":"search","arguments":{"query":"a"}', "answer:bad_json"),
        ('{"name":null,"arguments":{}}', "answer:bad_json"),
        ('{"name":["create"],"arguments":{}}', "answer:bad_json"),
        ('{"name":"create","arguments":{"text":"a"}', "create:bad_json"),
        ('{"name": "Read","arguments":{"query":"a"}} trailing', "read:bad_json"),
        ('{"name":"read","arguments":{"query":"a"}}{"name":"read","arguments":{"query":"b"}}', "read:bad_json"),
        ('{"name":"create","arguments":null}', "create:bad_json"),
        ('{"name":"create","arguments":[]}', "create:bad_json"),
        ('{"name":"create","arguments":"text"}', "create:bad_json"),
        ('{"name":"create","arguments":"[1]"}', "create:bad_json"),
        ('{"name":"create","arguments":{"text":3}}', "create:bad_json"),
        ('{"name":"create","arguments":{"text":null}}', "create:bad_json"),
        ('{"name":"create","arguments":{"text":"a\nb"}}', "create:bad_json"),
        ('{"name":"create","arguments":{"text":"\\ud8"}}', "create:bad_json"),
        ('{"name":"create"}', "create:empty"),
        ('{"name":"create","arguments":{}}', "create:empty"),
        ('{"name":"create","arguments":{"text":" "}}', "create:empty"),
        ('{"name":"create","arguments":{"query":"a"}}', "create:empty"),
        ('{"name":"read","arguments":{"text":"a"}}', "read:empty"),
        ('{"name":"update","arguments":{"id":3}}', "update:empty"),
        ('{"name":"update","arguments":{"text":"a"}}', "update:bad_id"),
        ('{"name":"creat","arguments":{"text":"a"}}', "create:unknown_tag"),
        ('{"name":"search","arguments":{"query":"a"}}', "answer:unknown_tag"),
    ],
)  # fmt: skip
def test_A5_calls_good_and_bad_and_the_rest_still_counts(body: str, expected: object) -> None:
    assert brief(body, call("read", query="q")) == [expected, Read("q")]


@pytest.mark.parametrize(
    "number",
    ["null", "true", "3.0", "3.5", "NaN", "-Infinity", "1e3", "[3]", '{"id":3}', '""', '"x"', '"3.0"', '"٣"', '"1_0"',
     "1" + "0" * 18, "9" * 4000, "9" * 5000, "-" + "9" * 100_000, '"' + "9" * 19 + '"', '"' + "9" * 100_000 + '"'],
)  # fmt: skip
def test_A3_a_missing_or_non_integer_id_is_rejected(number: str) -> None:
    body = f'{{"name":"delete","arguments":{{"id":{number}}}}}'
    assert brief(body, call("read", query="q")) == ["delete:bad_id", Read("q")]


@pytest.mark.parametrize("opening", ["[", '{"a":', '{"name":"create","arguments":[', '"', "{", "9", "-", "\\u"])
def test_A3_deep_and_endless_json_raises_nothing(opening: str) -> None:
    (op,) = parse(block(opening * 100_000))
    assert isinstance(op, Invalid)
    assert op.reason == "bad_json"


def test_A3_deep_json_in_an_argument_string_raises_nothing() -> None:
    (op,) = parse(block(json.dumps({"name": "create", "arguments": "[" * 100_000})))
    assert isinstance(op, Invalid)
    assert (op.kind, op.reason) == ("create", "bad_json")


def test_A3_tags_around_calls() -> None:
    good = block(call("read", query="q"))
    assert parse(f"<tool_call>{good}")[1:] == [Read("q")]
    assert parse(f"<think>{good}</think>{good.replace('tool_call', 'TOOL_CALL')}") == [Read("q")]
    assert parse(f"{good}</think>{good}") == [Read("q")]
    assert parse(f"<create>{good}</create><b>{good}</b>") == [Read("q")] * 2
    assert parse("<create>a</create><creat>") == []
    assert parse("<tool_calls>{}</tool_calls><tool_call-x>{}</tool_call-x>") == []
    (unclosed,) = parse("<tool_call>{}")
    assert isinstance(unclosed, Invalid)
    assert unclosed.reason == "unclosed"
    (empty,) = parse("<tool_call/>")
    assert isinstance(empty, Invalid)
    assert empty.reason == "bad_json"


@pytest.mark.parametrize(
    ("action", "kinds"),
    [
        ('<tool_call>{"name": "create", "arguments": {"text": "a"}}', ["create"]),
        ('<tool_call>\n{"name":"Create","arguments":{"text":"a', ["create"]),
        ("<tool_call>{'name': 'scratchpad', 'arguments'", ["scratchpad"]),
        ('<tool_call>{"arguments": {"id": 3}, "name" : "delete"}</tool_cal>', ["delete"]),
        ('<tool_call>{"name": "creat", "arguments": {"text": "a"}}', ["create"]),
        ('<tool_call>{"name": "search", "arguments": {"query": "a"}}', ["answer"]),
        ("<tool_call>", ["answer"]),
        ("<tool_call>create", ["answer"]),
        ('<tool_call>{"name": "create"}<tool_call>{"name": "read"}', ["create", "read"]),
        ('<tool_call>{}<tool_call>{"name": "read"}', ["answer", "read"]),
        ('<tool_call><b>{"name": "update"}</b> x < y', ["update"]),
        ('<think><tool_call>{"name": "create"}</think><tool_call>{"name": "read"}', ["read"]),
    ],
)
def test_finding_4_7_an_unclosed_call_is_reported_as_what_it_names(action: str, kinds: list[str]) -> None:
    found = parse(action)
    assert [(op.kind, op.reason) for op in found if isinstance(op, Invalid)] == [(kind, "unclosed") for kind in kinds]
    assert len(found) == len(kinds)


def test_finding_4_7_what_an_unclosed_call_names_ends_at_the_next_call() -> None:
    good = block(call("read", query="q"))
    unclosed, read = parse(f"<tool_call>{good}")
    assert isinstance(unclosed, Invalid)
    assert (unclosed.kind, unclosed.detail) == ("answer", "<tool_call> is never closed by </tool_call>")
    assert read == Read("q")
    game = Game(dialect="tools", chunks=1)
    game.step('<tool_call>{"name": "create", "arguments": {"text": "a"}}')
    assert game.reasons == [("create", 1, "unclosed")]
    game = Game(dialect="tools", chunks=1, operations=["read", "update", "delete"])
    game.step('<tool_call>{"name": "create", "arguments": {"text": "a"}}')
    assert game.reasons == [("create", 1, "disabled")]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["id", "text", "query", "a"]), inner),
    max_leaves=6,
)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([*KINDS, "x"]) | JSON, JSON, st.booleans())
def test_A3_no_json_whatever_raises(name: Any, arguments: Any, nested: bool) -> None:
    body = json.dumps({"name": name, "arguments": json.dumps(arguments) if nested else arguments})
    (op,) = parse(block(body.replace("<", "\\u003c")))
    assert op.kind in KINDS
    if name == "create" and isinstance(arguments, dict):
        text = arguments.get("text")
        stripped = text.strip() if isinstance(text, str) else ""
        assert stripped == "" if isinstance(op, Invalid) else op == Create(stripped)


def test_A5_schemas_are_openai_functions_and_describe_what_is_parsed() -> None:
    schemas = tool_schemas()
    assert [schema["function"]["name"] for schema in schemas] == list(KINDS)
    assert json.loads(json.dumps(schemas)) == schemas
    samples = {"string": "some text", "integer": 3}
    made = []
    for schema in schemas:
        function = schema["function"]
        assert schema["type"] == "function"
        assert function["description"]
        parameters = function["parameters"]
        assert parameters["type"] == "object"
        assert parameters["required"] == list(parameters["properties"])
        made.append(call(function["name"], **{k: samples[v["type"]] for k, v in parameters["properties"].items()}))
    text = "some text"
    assert brief(*made) == [Create(text), Read(text), Update(3, text), Delete(3), Scratchpad(text), Answer(text)]


def test_A5_schemas_of_some_operations_and_no_shared_state() -> None:
    (schema,) = tool_schemas(["read"])
    schema["function"]["parameters"]["properties"]["query"]["type"] = "integer"
    assert tool_schemas(["read"])[0]["function"]["parameters"]["properties"]["query"]["type"] == "string"
    assert tool_schemas([]) == []


def test_A5_a_written_call_is_one_json_object_in_a_block() -> None:
    action = format_action([Update(3, 'a "b"\nc')], "tools")
    lines = action.split("\n")
    assert (lines[0], lines[2:]) == ("<tool_call>", ["</tool_call>"])
    assert json.loads(lines[1]) == {"name": "update", "arguments": {"id": 3, "text": 'a "b"\nc'}}
    # Letters stay letters: a model that is trained on the action need not learn to write escapes.
    assert "Orléans, 東京" in format_action([Create("Orléans, 東京")], "tools")


def test_A5_the_schemas_say_what_each_function_takes() -> None:
    schemas = tool_schemas()
    assert [schema["function"]["name"] for schema in schemas] == list(KINDS)
    for schema in schemas:
        assert set(schema) == {"type", "function"}
        assert schema["type"] == "function"
        function = schema["function"]
        assert set(function) == {"name", "description", "parameters"}
        parameters = function["parameters"]
        assert set(parameters) == {"type", "properties", "required"}
        assert parameters["type"] == "object"
        wanted = {
            "read": {"query": "string"},
            "update": {"id": "integer", "text": "string"},
            "delete": {"id": "integer"},
        }
        found = {name: kind["type"] for name, kind in parameters["properties"].items()}
        assert found == wanted.get(function["name"], {"text": "string"})
        assert parameters["required"] == list(parameters["properties"])
    schemas[0]["function"]["parameters"]["properties"]["text"]["type"] = "changed"
    assert tool_schemas()[0]["function"]["parameters"]["properties"]["text"]["type"] == "string"
