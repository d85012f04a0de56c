"""SPEC A, the small print: what every message says, which names are slips, what samples are made of."""

from __future__ import annotations

import json
import re
from collections import Counter
from string import ascii_lowercase
from typing import Any

import pytest

from atommem_gym.actions import (
    DIALECTS,
    KINDS,
    ActionText,
    Answer,
    Create,
    Delete,
    Invalid,
    Kind,
    Operation,
    Read,
    Scratchpad,
    UnicodeText,
    Update,
    format_action,
    parse,
    tool_schemas,
)
from atommem_gym.actions.operations import check_formattable, operation, text_of
from atommem_gym.actions.spelling import near_miss
from atommem_gym.actions.tags import Element, scan
from atommem_gym.errors import ConfigError

BIGGEST = 10**18 - 1
JSON_OBJECT = '<tool_call> holds no JSON object {"name": …, "arguments": {…}}'
KINDS_THERE_ARE = "use create, read, update, delete, scratchpad, answer"
BARE = "must be non-empty and without white space around it"
JSON_PARTS = '<tool_call> needs a "name" and an object of "arguments"'


def tool(name: object, arguments: object) -> str:
    return f"<tool_call>{json.dumps({'name': name, 'arguments': arguments})}</tool_call>"


# -- what is rejected, and what the policy is told (M11)


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


# -- forms


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


# -- tags


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


def test_A3_an_unclosed_or_self_closing_tag_encloses_nothing() -> None:
    assert scan("<b x>", ("b",))[0]._asdict() == {"name": "b", "attributes": "", "text": None}
    assert scan("<b x/>", ("b",))[0]._asdict() == {"name": "b", "attributes": " x", "text": ""}
    assert scan("<b/ >x</b>", ("b",)) == [Element("b", "/ ", "x")]


# -- slips


def slips(name: str) -> set[str]:
    """All that is a letter missing, a letter too many, a wrong letter or two neighbours swapped away."""
    found = set()
    for i in range(len(name) + 1):
        found |= {name[:i] + letter + name[i:] for letter in ascii_lowercase}
        found |= {name[:i] + letter + name[i + 1 :] for letter in ascii_lowercase if i < len(name)}
        found.add(name[:i] + name[i + 1 :])
        found.add(name[:i] + name[i : i + 2][::-1] + name[i + 2 :])
    return found - {name}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "read"])
def test_A3_every_single_slip_is_a_near_miss(kind: Kind) -> None:
    assert {near_miss(slip) for slip in slips(kind)} == {kind}


def test_A3_of_a_short_name_no_wrong_letter_and_no_other_first_letter_is_a_slip() -> None:
    meant = {slip for slip in slips("read") if near_miss(slip) == "read"}
    assert meant == {
        slip for slip in slips("read") if slip[0] == "r" and (len(slip) != 4 or sorted(slip) == sorted("read"))
    }
    assert {near_miss(slip) for slip in slips("read") - meant} == {None}


@pytest.mark.parametrize("kind", KINDS)
def test_A3_two_slips_are_no_near_miss(kind: Kind) -> None:
    single = {slip for name in KINDS for slip in slips(name)} | set(KINDS)
    for i in range(len(kind) - 1):
        twice = f"{kind[:i]}q{kind[i : i + 1]}q{kind[i + 1 :]}"
        assert twice not in single
        assert near_miss(twice) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_create", "create"), ("create-1", "create"),
        ("c.r.e.a.t.e", "create"), ("scratch_pads", "scratchpad"), ("re_ad", "read"),
        ("answer" + "_" * 26, "answer"), ("answer" + "_" * 27, None), ("re", None), ("red", "read"), ("ea", None),
        ("scratch", "scratchpad"), ("CREAT", None), ("", None), ("___", None),
    ],
)  # fmt: skip
def test_A3_signs_count_for_nothing_in_names_of_3_to_32_characters(name: str, kind: str | None) -> None:
    assert near_miss(name) == kind


# -- samples


def test_A7_a_sample_has_one_to_three_operations_with_one_to_five_words_and_ids_from_one_to_eight() -> None:
    space = ActionText(10_000, seed=0)
    ops = [parse(space.sample()) for _ in range(600)]
    numbers = Counter(map(len, ops))
    assert set(numbers) == {1, 2, 3}
    assert max(numbers.values()) < 250
    every = [op for found in ops for op in found]
    assert {op.id for op in every if isinstance(op, Update | Delete)} == set(range(1, 9))
    words = {len(op.query.split()) for op in every if isinstance(op, Read)}
    assert words == {1, 2, 3, 4, 5}
    vocabulary = {word for op in every if isinstance(op, Create) for word in op.text.split()}
    assert {"amber", "prairie", "river", "zephyr"} < vocabulary
    assert len(vocabulary) == 25
    assert all(word.isalpha() for word in vocabulary)


def test_A7_a_sample_fills_its_length_to_the_last_character() -> None:
    operations = {
        kind: len(format_action([made], "crud"))
        for kind in KINDS
        if not isinstance(made := operation(kind, "kiln", 1), Invalid)
    }
    assert operations["read"] == 17
    for kind, length in operations.items():
        space = ActionText(length, kinds=[kind], seed=0)
        samples = {space.sample() for _ in range(50)}
        assert "" not in samples
        assert max(map(len, samples)) == length
        assert ActionText(length - 1, kinds=[kind], seed=0).sample() == ""
    pair = ActionText(2 * operations["delete"] + 1, kinds=["delete"], seed=0)
    assert {len(pair.sample()) for _ in range(60)} == {operations["delete"], pair.max_length}


def test_A7_where_only_one_word_fits_every_operation_that_fits_is_drawn() -> None:
    space = ActionText(23, seed=1)
    kinds = {op.kind for _ in range(300) for op in parse(space.sample())}
    assert kinds == {"read", "delete", "create", "answer"}


def test_A7_unicode_text_samples_one_to_five_words_up_to_its_length() -> None:
    space = UnicodeText(200, seed=0)
    assert {len(space.sample().split(" ")) for _ in range(100)} == {1, 2, 3, 4, 5}
    short = UnicodeText(3, seed=0)
    assert {len(short.sample()) for _ in range(20)} == {3}
    assert UnicodeText(0, seed=0).sample() == ""


@pytest.mark.parametrize("make", [UnicodeText, ActionText])
@pytest.mark.parametrize("asked", [{"mask": ()}, {"probability": ()}])
def test_A7_a_mask_is_refused_by_name(make: type[UnicodeText], asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neither mask nor probability") as caught:
        make(10).sample(**asked)
    assert str(caught.value) == (
        f"{make.__name__}.sample takes neither mask nor probability: its strings have no charset"
    )


@pytest.mark.parametrize("kinds", [(), ("search",), ("read", "search")])
def test_A7_bad_kinds_are_named_with_those_there_are(kinds: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ActionText(10, kinds=kinds)
    assert str(caught.value) == (
        f"kinds={kinds!r} must be at least one of create, read, update, delete, scratchpad, answer and nothing else"
    )


def test_A7_a_space_shows_what_it_is() -> None:
    assert repr(UnicodeText(7)) == "UnicodeText(7)"
    assert repr(ActionText(7, dialect="tools", kinds=["read"])) == "ActionText(7, dialect='tools', kinds=('read',))"
    assert UnicodeText(7) == UnicodeText(7)
    assert UnicodeText(7) != UnicodeText(8)
    assert UnicodeText(7).is_np_flattenable is False


@pytest.mark.parametrize("dialect", DIALECTS)
def test_A1_an_empty_action_has_no_operations(dialect: str) -> None:
    assert parse("", dialect) == []
    assert format_action([], dialect) == ""
