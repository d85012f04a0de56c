"""The canonical dialect and what all dialects share, rule by rule (SPEC A1 to A3)."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.actions.slow_actions import reference

from atommem_gym.actions import (
    DIALECTS,
    KINDS,
    Answer,
    Create,
    Delete,
    Invalid,
    Operation,
    Read,
    Scratchpad,
    Update,
    parse,
)
from atommem_gym.actions.spelling import near_miss

OTHER_TAGS = (
    "a abbr address area article aside audio b base bdi bdo blockquote body br button canvas caption center cite code "
    "col colgroup data datalist dd del details dfn dialog dir div dl dt em embed fieldset figcaption figure font "
    "footer form frame h1 h2 h3 head header hgroup hr html i iframe img input ins kbd label legend li link main map "
    "mark menu meta meter nav object ol optgroup option output p param picture pre progress q rp rt ruby s samp script "
    "search section select slot small source span strong style sub summary sup svg table tbody td template textarea "
    "tfoot th thead time title tr track u ul var video wbr date note ref lead thread bread dead real road "
    "think thinking thought reasoning plan memory document chunk question query tool_call tool_response add_memory "
    "creature creator curate delta dilate relate locate private dated uptake upgrade answering reading spread"
)


def brief(text: str, dialect: str = "crud") -> list[object]:
    """Operations as they are, what is invalid as ``kind:reason``."""
    return [f"{op.kind}:{op.reason}" if isinstance(op, Invalid) else op for op in parse(text, dialect)]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<create>Ada</create>", [Create("Ada")]),
        ("<read>who?</read>", [Read("who?")]),
        ('<update id="3">Ada</update>', [Update(3, "Ada")]),
        ('<delete id="3"/>', [Delete(3)]),
        ('<delete id="3"></delete>', [Delete(3)]),
        ('<delete id="3">the old one</delete>', [Delete(3)]),
        ("<scratchpad>note</scratchpad>", [Scratchpad("note")]),
        ("<answer>yes</answer>", [Answer("yes")]),
        ("<CREATE>A</create><Read>q</READ>", [Create("A"), Read("q")]),
        ('<UPDATE ID="3">A</uPdAtE>', [Update(3, "A")]),
        ("<create>\n  two\n lines \t\n</create>", [Create("two\n lines")]),
        ("<create>\x1f\u00a0\u2003x\u3000\x85</create>", [Create("x")]),
        ("<create >x</create\n>", [Create("x")]),
        ('<create note="why">x</create>', [Create("x")]),
        ("<create>1 < 2 > 0 & <b>bold</b> </b> <</create>", [Create("1 < 2 > 0 & <b>bold</b> </b> <")]),
        ("<create>a</create><create>a</create>", [Create("a"), Create("a")]),
        ("free <answer>b</answer> text <create>a</create>", [Answer("b"), Create("a")]),
    ],
)
def test_A1_the_canonical_forms(action: str, expected: list[Operation]) -> None:
    assert parse(action) == expected


@pytest.mark.parametrize("kind", ["create", "read", "scratchpad"])
@pytest.mark.parametrize("form", ["<{0}></{0}>", "<{0}> \n\t</{0}>", "<{0}/>", "<{0} />", "<{0}>\u3000</{0}>"])
def test_A1_an_empty_text_is_rejected(kind: str, form: str) -> None:
    assert brief(form.format(kind)) == [f"{kind}:empty"]


def test_A1_an_empty_update_is_rejected_as_empty_and_as_bad_id_without_an_id() -> None:
    assert brief('<update id="1"> </update><update id="1"/><update/>') == [
        "update:empty",
        "update:empty",
        "update:bad_id",
    ]


@pytest.mark.parametrize(
    "near",
    ["<create-x>a</create-x>", "<createé>a</createé>", "<create_>a", "<thinker>", "< create>a</create>", "</create>",
     "<create", "create>a</create", "<>", "</>", "<create <b>a</create>", "<create_entry>a</create_entry>", "<>/>"],
)  # fmt: skip
def test_A1_other_names_and_broken_tags_are_no_operations(near: str) -> None:
    assert [op for op in parse(near) if not isinstance(op, Invalid) or op.reason != "unknown_tag"] == []


@pytest.mark.parametrize(
    ("value", "number"),
    [
        ('"3"', 3), ("'3'", 3), ("3", 3), ('" 3 "', 3), ('"007"', 7), ('"-3"', -3), ("-3", -3), ('"0"', 0),
        ('"999999999999999999"', 10**18 - 1),
    ],
)  # fmt: skip
def test_A3_an_integer_id_is_read_quoted_or_not(value: str, number: int) -> None:
    action = f"<update id={value}>x</update><update  id = {value} >x</update><delete id={value}/><delete id={value} />"
    assert parse(action) == [Update(number, "x"), Update(number, "x"), Delete(number), Delete(number)]


@pytest.mark.parametrize(
    "attributes",
    ["", " ", " 3", "=3", " id", " id=", ' id=""', ' id="x"', ' id="3.0"', " id=3.0", ' id="3a"', " id=3a", " id=1e3",
     ' id="٣"', " id=٣", ' id="³"', ' id="1_000"', ' id="1,000"', ' id="+3"', ' id="--3"', ' id="- 3"', ' id="3 4"',
     ' id="3', " id=3\"", " id='3\"", ' number="3"', ' note="id=3"', ' note=" id=3 "', " grid=3", ' data-id="3"',
     ' id="1000000000000000000"', f' id="{"9" * 5000}"', " id=3/4", ' id="\u00b2"', ' id="x" id="3"', " id==3"],
)  # fmt: skip
def test_A3_a_missing_or_non_integer_id_is_rejected(attributes: str) -> None:
    action = f"<update{attributes}>x</update><delete{attributes}></delete><create>y</create>"
    assert brief(action) == ["update:bad_id", "delete:bad_id", Create("y")]


def test_A3_the_id_attribute_is_found_among_others() -> None:
    assert parse("""<update note="x id=4 y" ID='3' x=1>t</update>""") == [Update(3, "t")]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<think><create>a</create></think><read>q</read>", [Read("q")]),
        ("<THINK>a</Think ><read>q</read>", [Read("q")]),
        ("<read>q</read><think>open <create>a</create>", [Read("q")]),
        ("<think>a</think>b<think><create>c</create>", []),
        ("<think><create></think><create>a</create>", [Create("a")]),
        ("<think>a</create></think><create>b</create>", [Create("b")]),
        ("<think>a<think>b</think><read>q</read>", [Read("q")]),
        ("<think>a<think>b</think><read>q</read></think><create>x</create>", [Create("x")]),
        ("<think/><read>q</read>", [Read("q")]),
        ("<think><think/><read>q</read></think>", []),
        ("<thinking><read>q</read></thinking>", []),
        ("<thinker><read>q</read></thinker>", [Read("q")]),
        ("<think></think>", []),
    ],
)
def test_A2_reasoning_is_ignored(action: str, expected: list[Operation]) -> None:
    assert parse(action) == expected


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("I see <create>no</create></think><create>a</create>", [Create("a")]),
        ("<creat>, <create> and <update></think><create>a</create>", [Create("a")]),
        ("I may <create> it.</think><create>a</create>", [Create("a")]),
        ("I may <create> it.</think><read>q</read><create>a</create>", [Read("q"), Create("a")]),
        ("<create>no</create></think>x</think><create>a</create></think><read>q</read>", [Read("q")]),
        ("<create> <think>x</think> y </think><create>a</create>", [Create("a")]),
        ("a</think>", []),
    ],
)
def test_A3_a_closing_think_without_an_opening_one_ends_reasoning_begun_in_the_prompt(
    action: str, expected: list[Operation]
) -> None:
    assert parse(action) == expected


@pytest.mark.parametrize(
    "text",
    ["use <read>x</read> here", "<think>x</think>", "<think>", "a</think>b", "</read>", '<delete id="3"/>', "<creat>",
     "<answer>", "<think/>", "<createx>", "</ create>"],
)  # fmt: skip
def test_A3_other_tags_inside_a_text_are_part_of_it(text: str) -> None:
    assert parse(f"<create>{text}</create><read>q</read>") == [Create(text), Read("q")]


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        ("<create>a", ["create:unclosed"]),
        ("<create>a<read>q</read>", ["create:unclosed", Read("q")]),
        ("<create>a<create>b</create>", ["create:unclosed", Create("b")]),
        ("<create>a<create>b</create></create>", ["create:unclosed", Create("b")]),
        ("<create>a<create>b<create>c</create>", ["create:unclosed", "create:unclosed", Create("c")]),
        ("<create>a<read>q</read><create>b</create>", ["create:unclosed", Create("b")]),
        ("<create>a<create/>b</create>", ["create:unclosed", "create:empty"]),
        ("<create>a<read>b</create>c</read>", [Create("a<read>b")]),
        ("<read>a<create>b</read><create>c</create>", [Read("a<create>b"), Create("c")]),
        ("<create>a<think>b</think><create>c</create>", ["create:unclosed", Create("c")]),
        ("<create>a<think><create>c</create>", ["create:unclosed", Create("c")]),
        ("<create>a<think>b<read>q</read>", ["create:unclosed"]),
        ("<create>a<think>b</think><read>q</read>", ["create:unclosed", Read("q")]),
        ('<delete id="3">', ["delete:unclosed"]),
        ('<delete id="3"> <delete id="4"/>', ["delete:unclosed", Delete(4)]),
        ("<create>a</creat><read>q</read>", ["create:unclosed", Read("q")]),
        ("<create>a</create x>", [Create("a")]),
        ("<answer>a<answer>b<read>q</read>", ["answer:unclosed", "answer:unclosed", Read("q")]),
    ],
)
def test_A3_an_unclosed_tag_is_rejected_and_the_rest_still_counts(action: str, expected: list[object]) -> None:
    assert brief(action) == expected


def test_A3_an_unclosed_tag_swallows_no_operation() -> None:
    """In all dialects."""
    crud = "use <create> to store. Then: <create>X</create>"
    assert brief(crud) == ["create:unclosed", Create("X")]
    assert brief(crud.replace("create", "add_memory"), "released") == ["create:unclosed", Create("X")]
    call = '{"name": "create", "arguments": {"text": "X"}}'
    tools = f"use <tool_call> to store. Then: <tool_call>{call}</tool_call>"
    assert [op for op in parse(tools, "tools") if not isinstance(op, Invalid)] == [Create("X")]
    assert [op.reason for op in parse(tools, "tools") if isinstance(op, Invalid)] == ["unclosed"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("creat", "create"), ("craete", "create"), ("creates", "create"), ("created", "create"), ("Creatte", "create"),
        ("raed", "read"), ("reads", "read"), ("readd", "read"), ("updat", "update"), ("udpate", "update"),
        ("updates", "update"), ("delte", "delete"), ("deletes", "delete"), ("delate", "delete"), ("anwser", "answer"),
        ("answers", "answer"), ("anser", "answer"), ("scratch_pad", "scratchpad"), ("scratch-pad", "scratchpad"),
        ("scratch", "scratchpad"), ("scrathpad", "scratchpad"), ("create1", "create"), ("read_", "read"),
        ("update:", "update"),
    ],
)  # fmt: skip
def test_A3_a_near_miss_is_an_unknown_tag_and_the_rest_still_counts(name: str, kind: str) -> None:
    assert brief(f"<{name}>a<read>q</read></{name}>") == [f"{kind}:unknown_tag", Read("q")]
    (invalid,) = parse(f"<{name} id='3'/>")
    assert isinstance(invalid, Invalid)
    assert f"<{kind}>" in invalid.detail


@pytest.mark.parametrize("name", OTHER_TAGS.split())
def test_A3_other_tags_are_no_near_misses(name: str) -> None:
    """``think`` apart, which is no operation either."""
    assert near_miss(name) is None
    if name != "think":
        assert parse(f'<{name} href="x"><{name}>a</{name}><{name}/><read>q</read>') == [Read("q")]


def test_A3_known_names_are_no_near_misses() -> None:
    assert [near_miss(kind) for kind in KINDS] == [None] * len(KINDS)


def test_A3_a_lone_closing_near_miss_is_nothing() -> None:
    assert parse("a</creat>b</reads>") == []


FRAGMENTS = [
    f"<{name}>" for name in ("create", "read", "/create", "/read", "think", "/think", "think/", "create/", "creat")
] + ["</creat>", "<CREATE x>", "</Read >", "<b>", "</b>", "a", " ", "<", ">", "/", "é", "\x00", "\ud800", "<create"]


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(FRAGMENTS), max_size=14).map("".join))
@example("<create></think><read></create></think><create>")
@example("<create><think></think></think><create>a</create>")
def test_A3_the_parser_agrees_with_a_slow_obvious_one(text: str) -> None:
    real = []
    for op in parse(text):
        if isinstance(op, Invalid):
            name = "creat" if op.reason == "unknown_tag" else op.kind
            real.append((name, "" if op.reason == "empty" else None))
        else:
            assert isinstance(op, Create | Read)
            real.append((op.kind, op.query if isinstance(op, Read) else op.text))
    assert real == reference(text)


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(exclude_categories=()) | st.sampled_from("<>/ idcreatupl=\"'3{}\\:")))
def test_A3_no_text_whatever_raises(text: str) -> None:
    for dialect in DIALECTS:
        for op in parse(text, dialect):
            assert op.kind in KINDS
