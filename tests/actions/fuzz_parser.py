"""Fuzzes the parser by coverage with atheris: ``python tests/actions/fuzz_parser.py [SECONDS]``, part of ``make slow``.

No text may raise, take long, or be read otherwise than the rules say: what ``parse`` accepts can be written again by
``format_action`` and is then read as the same, and text that only reasons has no operations (SPEC A2, A3, A6).
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

atheris: Any = None
watched: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
missing = ""
try:
    import atheris  # type: ignore[import-untyped, no-redef]

    # The parser alone: to watch everything that is imported takes a minute before the first text.
    watched = atheris.instrument_imports(include=["atommem_gym.actions"])
except ImportError as error:
    missing = str(error)
with watched:
    from atommem_gym.actions import DIALECTS, KINDS, Invalid, format_action, parse

REASONS = {"empty", "unclosed", "unknown_tag", "bad_id", "bad_json"}
LIMIT_S = 2.0
"""Far more than 4,096 characters can take on the slowest machine."""
SEEDS = (
    b'<create>text</create><read>q</read><update id="3">t</update><delete id="3"/><answer>a</answer>',
    b"<think><create>x</create></think></think><creat>x</creat><create>a<create>b</create>",
    rb"<add_memory>x</add_memory><modify_memory>Memory 1: x</modify_memory><final_answer>\boxed{a{b}}</final_answer>",
    b'<tool_call>{"name": "update", "arguments": {"id": 1, "text": "\\ud800"}}</tool_call><tool_call>[</tool_call>',
    b"\xed\xa0\x80<scratchpad>\x00\x1b[2J</scratchpad><delete id='9999999999999999999999'/>",
)


def check(data: bytes) -> None:
    """Read some bytes as an action in every dialect.

    Raises:
        AssertionError: a rule is broken.
    """
    text = data[:4096].decode("utf-8", errors="surrogatepass" if _decodes(data[:4096]) else "replace")
    for dialect in DIALECTS:
        began = time.perf_counter()
        found = parse(text, dialect)
        assert time.perf_counter() - began < LIMIT_S, f"{dialect}: too slow"
        valid = [op for op in found if not isinstance(op, Invalid)]
        for op in found:
            assert op.kind in KINDS
            assert not isinstance(op, Invalid) or op.reason in REASONS
        for one in valid:
            try:
                written = format_action([one], dialect)
            except ValueError:
                continue
            assert parse(written, dialect) == [one], f"{dialect}: {one!r} is written as {written!r}"
        thought = text.replace("think", "")
        assert parse(f"<think>{thought}</think>", dialect) == [], f"{dialect}: reasoning has operations"


def _decodes(data: bytes) -> bool:
    try:
        data.decode("utf-8", errors="surrogatepass")
    except UnicodeDecodeError:
        return False
    return True


def main() -> int:
    """Fuzz for so many seconds (60 by default); the exit status is 0 if nothing was found, or atheris is missing."""
    if atheris is None:
        print(f"the parser was not fuzzed: {missing}; pip install atheris (Linux, CPython 3.11 to 3.13)")
        return 0
    seconds = int(sys.argv[1]) if len(sys.argv) > 1 else 60
    for seed in SEEDS:
        check(seed)
    names = (*KINDS, "creat", "think", "tool_call", "add_memory", "modify_memory", "delete_memory", "final_answer")
    tags = [f"{start}{name}>".encode() for name in names for start in ("<", "</")]
    words = [*tags, rb"\boxed{", b'id="1"', b"Memory 1:", b'{"name": "create", "arguments": {"text": "x"}}']

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        """libFuzzer's own mutations, and now and then a tag somewhere: it would not find one by chance."""
        if len(data) < 2:
            return SEEDS[seed % len(SEEDS)][:max_size]
        if seed % 2:
            return bytes(atheris.Mutate(data, max_size))
        at = seed % (len(data) + 1)
        return (data[:at] + words[seed // 2 % len(words)] + data[at:])[:max_size]

    options = [sys.argv[0], f"-max_total_time={seconds}", "-max_len=2048", "-timeout=10", "-rss_limit_mb=4096"]
    atheris.Setup(options, check, custom_mutator=mutate)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
