"""A kept database's ledger: its bytes, what a cut-off call leaves possible, what a rewriting keeps (SPEC M17)."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Write
from atommem_gym.stores.lite.ledger import LEDGER, Contents, Ledger, checksum, checksum_of_text


def write(key: str, ids: list[int], deletes: list[int], state: str | None = None) -> Write:
    vectors = np.array([[entry, 1] for entry in ids], np.float32).reshape(len(ids), 2)
    return Write(key, ids, [f"text {entry}" for entry in ids], vectors, deletes, state)


def carry_out(ledger: Ledger, call: Any, what: Any, cut: bool = False) -> None:
    if not cut:
        with call(what):
            pass
        return
    with pytest.raises(KeyboardInterrupt), call(what):
        raise KeyboardInterrupt


def contents(*ids: int, state: str | None = None) -> Contents:
    sums = {entry: checksum("a", entry, f"text {entry}", [entry, 1]) for entry in ids}
    return Contents(sums, None if state is None else checksum_of_text(state))


def read(folder: Path) -> Ledger:
    found = Ledger.read(str(folder))
    assert found is not None
    return found


def line(mark: str, body: str) -> str:
    return f"{mark}{zlib.crc32(body.encode()):08x} {body}\n"


def test_M17_the_bytes_of_a_ledger_are_those_of_format_2(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path), {})
    carry_out(ledger, ledger.describing, "about")
    carry_out(ledger, ledger.writing, [write("a", [1], [], "s")])
    carry_out(ledger, ledger.writing, [write("a", [2], [1])], cut=True)
    carry_out(ledger, ledger.dropping, ["a", "never there"])
    one, two = (checksum("a", entry, f"text {entry}", [entry, 1]) for entry in (1, 2))
    about, state = zlib.crc32(b"about"), zlib.crc32(b"s")
    assert one == zlib.crc32(b"a:1\ntext 1" + np.array([1, 1], "<f4").tobytes())
    assert (tmp_path / LEDGER).read_text() == "".join(
        [
            line("+", '["format",2]'),
            line("+", f'["meta",{about}]'),
            line("+", f'["writes",[["a",[1],[{one}],[],{state}]]]'),
            line("~", f'["writes",[["a",[2],[{two}],[1],null]]]'),
            line("+", '["drops",["a"]]'),
        ]
    )
    carry_out(ledger, ledger.writing, [write("a", [1], [], "s")])
    carry_out(ledger, ledger.writing, [write("a", [2], [1])], cut=True)
    (tmp_path / "part").write_bytes(b"abc")
    ledger.seal()
    assert (tmp_path / LEDGER).read_text() == "".join(
        [
            line("+", '["format",2]'),
            line("+", f'["meta",{about}]'),
            line("+", f'["holds","a",{{"1":{one}}},{state}]'),
            line("~", f'["writes",[["a",[2],[{two}],[1],{state}]]]'),
            line("+", f'["sealed",{{"part":[3,{zlib.crc32(b"abc")}]}}]'),
        ]
    )


def test_M17_after_a_cut_off_call_a_memory_is_as_before_or_as_after_and_a_rewriting_keeps_both(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path), {})
    carry_out(ledger, ledger.writing, [write("a", [1], [], "s"), write("b", [1], [])])
    carry_out(ledger, ledger.writing, [write("a", [2], [1])], cut=True)
    carry_out(ledger, ledger.writing, [write("a", [3], [], "t")], cut=True)
    b = ledger.memories["b"]
    possible = [contents(1, state="s"), contents(2, state="s"), contents(1, 3, state="t"), contents(2, 3, state="t")]
    assert ledger.memories == {"a": possible, "b": b}
    assert read(tmp_path).memories == ledger.memories
    ledger.seal()
    again = read(tmp_path).memories
    assert again["b"] == b
    assert all(found in again["a"] for found in possible)
    ledger = read(tmp_path)
    carry_out(ledger, ledger.dropping, ["a", "b"], cut=True)
    assert all(found in ledger.memories["a"] for found in [*possible, Contents()])
    assert ledger.memories["b"] == [*b, Contents()]
    assert read(tmp_path).memories == ledger.memories
    assert ledger.settle({"a": contents(2, 3, state="t")}) == ""
    assert ledger.memories == {"a": [contents(2, 3, state="t")], "b": [Contents()]}


def test_M17_any_flipped_bit_of_a_ledger_is_noticed(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path), {})
    carry_out(ledger, ledger.writing, [write("a", [1], [], "s")])
    carry_out(ledger, ledger.writing, [write("a", [2], [1])])
    ledger.seal()
    path = tmp_path / LEDGER
    data, whole = path.read_bytes(), read(tmp_path)
    refusals: list[str] = []
    for at in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[at] ^= 1 << bit
            path.write_bytes(flipped)
            try:
                found = read(tmp_path)
            except StoreError as error:
                refusals.append(str(error))
                continue
            # The blank is no part of what is read, a letter of the checksum may change its case, and a last line
            # without its end was never finished.
            last = at == len(data) - 1
            assert found.memories == whole.memories, (at, bit)
            assert found.sealed == (None if last else whole.sealed), (at, bit)
            assert last or data[at : at + 1] == b" " or bytes(flipped).lower() == data, (at, bit)
    assert len(refusals) > 6 * len(data)
    assert all("is damaged: line" in refusal for refusal in refusals)


@pytest.mark.parametrize("data", [b"", b"+6d0", b"no end of a line"])
def test_M17_a_ledger_without_a_whole_line_is_damaged(tmp_path: Path, data: bytes) -> None:
    (tmp_path / LEDGER).write_bytes(data)
    with pytest.raises(
        StoreError, match=rf"is damaged: its {LEDGER} is empty; nothing was written; save what is intact"
    ):
        read(tmp_path)
