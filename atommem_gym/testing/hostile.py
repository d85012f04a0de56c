"""Texts that break parsers, stores, templates and terminals, as a fixed corpus and as a strategy (SPEC A3)."""

from __future__ import annotations

from hypothesis import strategies as st

HOSTILE_TEXTS: tuple[str, ...] = (
    "",
    "\0",
    "\x00<create>\x00</create>",
    "<",
    "<" * 5_000,
    "</think>" * 50 + "<think>" * 50,
    "<create>" * 400,
    "<create>" * 50 + "deep" + "</create>" * 50,
    "<create>\ud800</create><read>\udfff</read><answer>\ud83d</answer>",
    "<create>\x1b[2J\x1b]0;title\x07</create>",
    '<create>" or episode != ""</create><read>\' or 1 == 1 --</read>',
    "<create>{{ 7 * 7 }}{% raw %}</create><scratchpad>${jndi:x}</scratchpad>",
    "<create><script>alert(1)</script></create>",
    '<delete id="99999999999999999999999999"/><delete id="-1"/><delete id="0"/><delete id="1e3"/><delete id="٣"/>',
    '<update id="1"></update><update>no id</update><update id=>x</update>',
    "<CREATE>\u202eright to left\u202c and \u200bnothing</CREATE>",
    "<create>" + "é" * 3_000 + "</create><create>" + "🦉" * 1_000 + "</create>",
    "<creat>x</creat><reads>x</reads><anwser>x</anwser>",
    "<read>" + "x " * 3_000 + "</read>",
    "<add_memory>x</add_memory><delete_memory>Memory 0</delete_memory><modify_memory>Memory 99: x</modify_memory>",
    "<final_answer>\\boxed{" + "{" * 500 + "</final_answer>",
    '<tool_call>{"name": "create", "arguments": ' + "[" * 3_000 + "</tool_call>",
    '<tool_call>{"name": "delete", "arguments": {"id": ' + "9" * 5_000 + "}}</tool_call>",
    "<tool_call>null</tool_call><tool_call></tool_call><tool_call>",
    "\r\n\t\x0b\x0c\x85\u2028\u2029",
    "\ufeff<create>\ufeff</create>\uffff",
)
"""Actions that must not make ``step`` raise, in any dialect. The longest has some 6,000 characters."""

_NAMES = (
    *("create", "read", "update", "delete", "scratchpad", "answer", "think", "creat", "b", "tool_call"),
    *("add_memory", "update_query", "modify_memory", "delete_memory", "update_memory", "final_answer"),
)
_ATTRIBUTES = ("", ' id="1"', " id=2", ' id="x"', " id", ' id="', "/", ' id="3"/', " \0")
_PIECES = (
    *("Memory 1: x", "Memory 0", r"\boxed{x}", r"\boxed{", "}", "<", ">", "</", "/>", "\ud800", "\0", "\x1b[31m"),
    *('{"name": "create", "arguments": {"text": "x"}}', '{"name": "read"}', '"', "'", "\\", "\n", "🦉", " ", "x"),
)


def _opening(name: str, attributes: str) -> str:
    return f"<{name}{attributes}>"


def hostile_texts() -> st.SearchStrategy[str]:
    """Actions that try to break something: tags of all dialects in any order, broken JSON, any characters."""
    any_text = st.text(st.characters(exclude_categories=()), max_size=40)
    names = st.sampled_from(_NAMES)
    opening = st.builds(_opening, names, st.sampled_from(_ATTRIBUTES))
    closing = names.map("</{}>".format)
    piece = st.one_of(opening, closing, st.sampled_from(_PIECES), any_text)
    return st.one_of(st.lists(piece, max_size=12).map("".join), any_text, st.sampled_from(HOSTILE_TEXTS))
