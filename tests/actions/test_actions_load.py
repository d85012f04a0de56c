"""Actions of megabytes: linear time, bounded memory, no exception; and the speed of ordinary ones (SPEC A3)."""

from __future__ import annotations

import statistics
import time
import tracemalloc
from collections.abc import Callable

import pytest

from atommem_gym.actions import Answer, Create, Delete, Invalid, Operation, Read, Update, format_action, parse

MEGABYTE = 1_000_000


def repeat(piece: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda size: before + piece * (size // len(piece)) + after


def numbered(form: str) -> Callable[[int], str]:
    return lambda size: "".join(form.format(i) for i in range(size // (len(form) + 3)))


UGLY: dict[str, tuple[str, Callable[[int], str]]] = {
    "angles": ("crud", repeat("<")),
    "unclosed": ("crud", repeat("<create>")),
    "unclosed_names": ("crud", repeat("<create><read>x<answer>")),
    "unclosed_released": ("released", repeat("use <add_memory> x ")),
    "unclosed_calls": ("tools", repeat("<tool_call>{")),
    "unfinished": ("crud", repeat("<create ")),
    "long_name": ("crud", repeat("a", "<create", ">")),
    "endless_name": ("crud", repeat("<" + "a" * 999)),
    "long_attributes": ("crud", repeat("id ", "<update ", ">x</update>")),
    "blank_attributes": ("crud", repeat(" ", "<update id", ">x</update>")),
    "blank_value": ("crud", repeat(" ", '<update id = "', ">x</update>")),
    "equals": ("crud", repeat("id=", "<update ", ">x</update>")),
    "quotes": ("crud", repeat("""a="b' """, "<update ", ">x</update>")),
    "digits": ("crud", repeat("9", "<delete id=", "/>")),
    "nested": ("crud", repeat("<create><read>")),
    "elements": ("crud", repeat("<delete id='3'/><create>x</create>")),
    "thinks": ("crud", repeat("<create><think>")),
    "think_ends": ("crud", repeat("<create></think><read></think>")),
    "misspelt": ("crud", repeat("<creat>")),
    "distinct_names": ("crud", numbered("<creat{0}>")),
    "distinct_others": ("released", numbered("<n{0}>")),
    "distinct_nested": ("released", lambda size: numbered("<n{0}>")(size // 2) + numbered("</n{0}>")(size // 2)),
    "others_unclosed": ("released", repeat("<p> <add_memory>a</add_memory> ")),
    "address_blank": ("released", repeat(" ", "<delete_memory>Memory", "x</delete_memory>")),
    "address_digits": ("released", repeat("9", "<delete_memory>Memory ", "</delete_memory>")),
    "boxes": ("released", repeat(r"\boxed{", "<final_answer>", "</final_answer>")),
    "closed_boxes": ("released", repeat(r"\boxed{}}{", "<final_answer>", "</final_answer>")),
    "braces": ("released", repeat("{", r"<final_answer>\boxed{", "</final_answer>")),
    "json_lists": ("tools", repeat("[", "<tool_call>", "</tool_call>")),
    "json_names": ("tools", repeat('"name" : ', "<tool_call>", "</tool_call>")),
    "json_blanks": ("tools", repeat(" ", '<tool_call>"name"', "</tool_call>")),
    "json_digits": ("tools", repeat("9", '<tool_call>{"name":"delete","arguments":{"id":', "}}</tool_call>")),
    "json_decimals": ("tools", repeat("9", '<tool_call>{"name":"delete","arguments":{"id":0.', "}}</tool_call>")),
    "json_exponent": ("tools", repeat("9", '<tool_call>{"name":"delete","arguments":{"id":1e', "}}</tool_call>")),
    "json_escapes": ("tools", repeat("\\\\", '<tool_call>{"name":"create","arguments":"', '"}</tool_call>')),
    "calls": ("tools", repeat("<tool_call>{}</tool_call>")),
}


def seconds(work: Callable[[], object]) -> float:
    """Median processor time, which other programs on the machine do not add to."""
    times = []
    for _ in range(3):
        begin = time.process_time()
        work()
        times.append(time.process_time() - begin)
    return statistics.median(times)


@pytest.mark.slow  # timed, so only where the machine is quiet: `make slow`
@pytest.mark.parametrize("case", UGLY)
def test_A3_parsing_is_linear(case: str) -> None:
    """Ten times the text takes about ten times as long; were it quadratic, a hundred times."""
    dialect, make = UGLY[case]
    short, long = make(MEGABYTE // 20), make(MEGABYTE // 2)
    ratio = 0.0
    for _ in range(6):
        floor = 0.0005  # below it the clock's grain and fixed costs are measured
        ratio = seconds(lambda: parse(long, dialect)) / max(seconds(lambda: parse(short, dialect)), floor)
        if ratio <= 20:
            return
    pytest.fail(f"{case}: 10 times the text took {ratio:.0f} times as long, six times in a row")


@pytest.mark.parametrize("dialect", ["crud", "released", "tools"])
@pytest.mark.parametrize("character", ["<", "\x00", "\ud800", ">", " ", "</"])
def test_A3_ten_megabytes_of_anything_raise_nothing(dialect: str, character: str) -> None:
    tag = {"crud": "read", "released": "update_query", "tools": "tool_call"}[dialect]
    query = format_action([Read("q")], dialect)
    text = character * (10 * MEGABYTE // len(character))
    assert parse(f"{text}{query}", dialect) == [Read("q")]
    (unclosed,) = parse(f"<{tag}>{text}", dialect)
    assert isinstance(unclosed, Invalid)
    assert unclosed.reason == "unclosed"


@pytest.mark.parametrize("dialect", ["crud", "released", "tools"])
def test_A3_a_text_of_ten_megabytes_survives(dialect: str) -> None:
    ops: list[Operation] = [Create("é" + "<" * (10 * MEGABYTE))]
    assert parse(format_action(ops, dialect), dialect) == ops


@pytest.mark.parametrize(
    ("dialect", "piece"),
    [("crud", "<read>"), ("crud", "<creat>"), ("crud", "<create/>"), ("released", "<b>"), ("released", "<b></b>"),
     ("crud", "</think>"), ("crud", "<think>"), ("tools", "<tool_call>"), ("crud", "<b>")],
)  # fmt: skip
def test_A3_many_tags_take_little_memory(dialect: str, piece: str) -> None:
    """At most 40 bytes a character: 10 MB of tags stay within some hundred megabytes."""
    action = piece * (MEGABYTE // 4 // len(piece))
    parse(action[:1000], dialect)
    tracemalloc.start()
    found = parse(action, dialect)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(found) <= len(action) // len(piece)
    assert peak <= 40 * len(action)


@pytest.mark.slow  # timed, so only where the machine is quiet: `make slow`
@pytest.mark.parametrize("dialect", ["crud", "released", "tools"])
def test_A3_ordinary_actions_are_read_at_megabytes_a_second(dialect: str) -> None:
    """Some 100 MB/s on a slow core; a tenth is asked, so that only a parser gone wrong fails."""
    ops: list[Operation] = [
        Create("Ada Lovelace was born in London in 1815."),
        Update(3, "She died in 1852."),
        Read("Where?"),
    ]
    body = format_action([*ops, Delete(4), Answer("London")], dialect)
    action = "<think>" + "What the chunk says of x < 3 and Ada is new. " * 60 + "</think>\n" + body
    speed = max(len(action) / seconds(lambda: [parse(action, dialect) for _ in range(50)]) * 50 for _ in range(3))
    assert speed > 10 * MEGABYTE
