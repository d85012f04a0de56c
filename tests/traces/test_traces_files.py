"""Records survive files: every text, every suffix, a kill in the middle of a write, hands that edited them."""

from __future__ import annotations

import datetime
import gzip
import json
import logging
import subprocess
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields, replace
from support.made_traces import SMALL, played

from atommem_gym.testing.hostile import HOSTILE_TEXTS
from atommem_gym.traces import EpisodeTrace, TraceError, TraceWriter, count_traces, read_traces, write_traces
from atommem_gym.traces.codec import dumps, loads, plain
from atommem_gym.traces.examples import example_trace
from atommem_gym.traces.record import SINCE_2, TRACE_VERSION

SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


@pytest.fixture(scope="module")
def trace() -> EpisodeTrace:
    return example_trace()


def said(trace: EpisodeTrace, text: str) -> EpisodeTrace:
    """The record with a text wherever a text of somebody else can stand."""
    first = replace(trace.steps[0], action=text, response=text, messages=[{"role": "user", "content": text}])
    question = replace(trace.questions[0], question=text, answer=text)
    return replace(
        trace, item=text, questions=(question,), steps=(first, *trace.steps[1:]), final_observation={"chunk": text}
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_all_suffixes_give_back_the_same_records(trace: EpisodeTrace, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"traces{suffix}"
    traces = [replace(trace, index=i) for i in range(5)]
    with TraceWriter(path) as writer:
        for one in traces[:3]:
            writer.write(one)
    with TraceWriter(path) as writer:
        for one in traces[3:]:
            writer.write(one)
        assert writer.written == 2
    assert list(read_traces(path)) == traces
    assert count_traces(path) == 5


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_hostile_texts_survive(trace: EpisodeTrace, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"traces{suffix}"
    hostile = [said(trace, plain(text)) for text in (*HOSTILE_TEXTS, "x\u2028" * 1_000_000)]
    assert write_traces(path, hostile) == len(hostile)
    for read, meant in zip(read_traces(path), hostile, strict=True):
        assert read == meant


@given(st.text(st.characters(codec=None, categories=None)))
@settings(max_examples=60)
def test_any_text_survives_and_stays_on_one_line_of_ascii(text: str) -> None:
    trace = said(example(), plain(text))
    line = dumps(trace)
    assert line.isascii()
    assert "\n" not in line
    assert loads(line) == trace


_EXAMPLE: list[EpisodeTrace] = []


def example() -> EpisodeTrace:
    if not _EXAMPLE:
        _EXAMPLE.append(example_trace())
    return _EXAMPLE[0]


def test_text_is_changed_only_where_json_has_no_words_for_it() -> None:
    assert plain("\ud800 alone, \udc00 alone, \0, \u2028") == "\ud800 alone, \udc00 alone, \0, \u2028"
    assert plain("\ud83d\ude00") == "\U0001f600"


def test_what_json_has_not_is_refused(trace: EpisodeTrace) -> None:
    with pytest.raises(TraceError, match="finite"):
        plain({"reward": float("nan")})
    with pytest.raises(TraceError, match="key 1"):
        plain({1: 2})
    with pytest.raises(TraceError, match="object"):
        plain(object())


@pytest.mark.parametrize("keep", [1, 40, -20, -100])
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_torn_last_record_is_skipped_then_cut_away(
    trace: EpisodeTrace, tmp_path: Path, suffix: str, keep: int, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / f"traces{suffix}"
    write_traces(path, [trace])
    whole = path.read_bytes()
    write_traces(path, [trace, trace])
    torn = path.read_bytes()[len(whole) :]
    path.write_bytes(whole + torn[:keep])
    with caplog.at_level(logging.WARNING):
        assert list(read_traces(path)) == [trace]
        assert count_traces(path) == 1
    with TraceWriter(path) as writer:
        assert writer.torn_bytes > 0
        assert path.read_bytes() == whole
        writer.write(replace(trace, index=7))
    assert [one.index for one in read_traces(path)] == [trace.index, 7]
    assert "torn" in caplog.text


@pytest.mark.parametrize("missing", range(1, 9))
def test_a_gzip_member_that_lacks_its_checksum_has_lost_nothing(
    trace: EpisodeTrace, tmp_path: Path, missing: int
) -> None:
    path = tmp_path / "traces.jsonl.gz"
    write_traces(path, [trace, trace])
    path.write_bytes(path.read_bytes()[:-missing])
    assert count_traces(path) == 2
    with TraceWriter(path) as writer:
        assert writer.torn_bytes == 0
        writer.write(trace)
    assert list(read_traces(path)) == [trace] * 3
    assert gzip.decompress(path.read_bytes()).count(b"\n") == 3


def test_records_packed_into_one_gzip_member_are_read_and_saved(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl.gz"
    packed = gzip.compress(f"{dumps(trace)}\n".encode() * 3)
    path.write_bytes(packed)
    assert list(read_traces(path)) == [trace] * 3
    path.write_bytes(packed[:-40])
    assert count_traces(path) == 2
    with TraceWriter(path) as writer:
        assert writer.torn_bytes > 0
        writer.write(trace)
    assert list(read_traces(path)) == [trace] * 3


def test_a_last_line_that_only_lacks_its_end_is_whole(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    path.write_text(f"\n{dumps(trace)}\n\n{dumps(trace)}")
    assert len(list(read_traces(path))) == 2
    with TraceWriter(path) as writer:
        writer.write(trace)
    assert list(read_traces(path)) == [trace] * 3


def test_a_killed_writer_loses_nothing_that_was_written(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl.gz"
    code = (
        "import os, sys\nfrom atommem_gym.traces import TraceWriter\n"
        "from atommem_gym.traces.examples import example_trace\n"
        "writer, trace = TraceWriter(sys.argv[1]), example_trace()\n"
        "for _ in range(3): writer.write(trace)\nos.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(path)], timeout=60).returncode == -9
    assert count_traces(path) == 3
    with TraceWriter(path) as writer:
        assert writer.torn_bytes == 0


def test_a_full_disk_leaves_whole_records(trace: EpisodeTrace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "traces.jsonl"
    with TraceWriter(path) as writer:
        writer.write(trace)

        class Full:
            def __init__(self, file: object) -> None:
                self.file = file

            def __getattr__(self, name: str) -> object:
                return getattr(self.file, name)

            def write(self, data: memoryview) -> int:
                if len(data) < 2000:
                    raise OSError(28, "No space left on device")
                return self.file.write(data[:1500])  # type: ignore[attr-defined,no-any-return]

        monkeypatch.setattr(writer._lines, "_file", Full(writer._lines._file))
        with pytest.raises(TraceError, match="No space left"):
            writer.write(trace)
    assert path.read_bytes().endswith(b"\n")
    assert list(read_traces(path)) == [trace]


def test_one_writer_a_file(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    with TraceWriter(path), pytest.raises(TraceError, match="being written"):
        TraceWriter(path)
    with TraceWriter(path) as writer:
        writer.write(trace)
    with pytest.raises(TraceError, match="closed"):
        writer.write(trace)


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_file_of_something_else_is_left_alone(trace: EpisodeTrace, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"notes{suffix}"
    for notes in (b"my notes\nwithout an end", b'{"question": "x"}\n'):
        path.write_bytes(gzip.compress(notes) if suffix.endswith("gz") else notes)
        before = path.read_bytes()
        with pytest.raises(TraceError, match="something else"):
            TraceWriter(path)
        assert path.read_bytes() == before


def test_a_file_that_is_no_gzip_or_no_parquet_says_so(tmp_path: Path) -> None:
    for name, words in (("a.jsonl.gz", "no gzip file"), ("a.parquet", "not a complete Parquet")):
        (tmp_path / name).write_bytes(b"hello")
        with pytest.raises(TraceError, match=words):
            list(read_traces(tmp_path / name))
        with pytest.raises(TraceError, match=words):
            TraceWriter(tmp_path / name)
    with pytest.raises(TraceError, match=r"suffixes \.jsonl"):
        TraceWriter(tmp_path / "a.txt")
    with pytest.raises(TraceError, match="there is no file"):
        list(read_traces(tmp_path / "b.jsonl"))
    with pytest.raises(TraceError, match="cannot be written"):
        TraceWriter(tmp_path / "no" / "folder.jsonl")


def test_an_unknown_version_raises_and_says_what_helps(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    later = json.loads(dumps(trace)) | {"version": TRACE_VERSION + 1}
    path.write_text(f"{dumps(trace)}\n{json.dumps(later)}\n")
    reader = read_traces(path)
    assert next(reader) == trace
    with pytest.raises(TraceError, match=rf"record 2 has version {TRACE_VERSION + 1}.*install the release"):
        next(reader)
    path.write_text(json.dumps(later) + "\n")
    with pytest.raises(TraceError, match="name another file"):
        TraceWriter(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda v: v.pop("seed"), "Object missing required field `seed`"),
        (lambda v: v.update(colour=1), "Object contains unknown field `colour`"),
        (lambda v: v["questions"][0]["evidence"][0].update(colour=1), r"evidence\[0\]: .* unknown field `colour`"),
        (lambda v: v["steps"][1].update(reward="high"), r"steps\[1\].reward = 'high': Expected `float`, got `str`"),
        (lambda v: v["steps"][0]["operations"][0].update(outcome="lost"), r"operations\[0\].outcome = 'lost': Invalid"),
        (lambda v: v.update(index=True), "index = 'True': Expected `int`, got `bool`"),
        (lambda v: v.update(index=1.0), "index = '1.0': Expected `int`, got `float`"),
        (lambda v: v.update(seconds=10**400), r"seconds = '10{59}': .*[Rr]ange"),
        (lambda v: v.update(questions={}), "questions: Expected `array`, got `object`"),
        (lambda v: v.update(env=None), "env = 'None': Expected `object`, got `null`"),
        (lambda v: v["steps"][0].pop("memory"), r"steps\[0\]: Object missing required field `memory`"),
        (
            lambda v: v["steps"][2]["memory"].update(created=[{"id": 1, "text": 2}]),
            r"created\[0\].text = '2': Expected",
        ),
        (lambda v: v["steps"][0].update(messages=[{"role": 1}]), r"steps\[0\].messages\[0\]\[...\]: Expected `str`"),
        (lambda v: v.update({"x" * 9_999: 1}), "unknown field `x{50,200}; was it"),
        (lambda v: v.update(seed="\ud800"), "is not a record of version 2: .*surrogates not allowed"),
        (lambda v: v.update(version=9, versions={"atommem_gym": "x" * 9_999}), r"that wrote it \(x{40}\), or record"),
        (lambda v: v.update(metrics={}), "lacks what every played episode has .metrics: .*`answers`"),
        (lambda v: v["metrics"].update(answers=[]), "lacks what .*1 questions, 0 metrics.answers, 1 causes"),
        (lambda v: v["metrics"].update(em="1"), r"lacks what .*metrics: Expected `float \| null`, got `str`"),
        (lambda v: v["metrics"]["answers"][0].update(score=None), r"lacks what .*`\$.answers\[0\].score`"),
        (lambda v: v["metrics"]["answers"][0].pop("closed"), "lacks what .*field `closed`"),
        (lambda v: v["steps"][1].update(observation={}), r"lacks what .*steps\[1\].observation: .*`phase`"),
        (
            lambda v: v["steps"][0]["observation"].update(chunk=7),
            r"lacks what .*steps\[0\].observation: Expected `str`",
        ),
        (lambda v: v.update(questions=[]), "lacks what .*0 questions, 1 metrics.answers"),
    ],
)
def test_a_damaged_record_names_the_field(trace: EpisodeTrace, change: object, words: str) -> None:
    value = json.loads(dumps(trace))
    change(value)  # type: ignore[operator]
    with pytest.raises(TraceError, match=words):
        loads(json.dumps(value), "traces.jsonl, record 1")


DEEP = 100_000


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[" * DEEP, "record 7 is not JSON"),
        ('{"a":' * DEEP + "1" + "}" * DEEP, "record 7 is not JSON"),
        ("9" * 10_000, "record 7 is not JSON .*digits"),
        ("NaN", "record 7 is not JSON .NaN is not a JSON number"),
        ("-Infinity", "record 7 is not JSON .-Infinity is not a JSON number"),
        ("1e999", "record 7 is not JSON .1e999 is too large for a number"),
        ('{"a": 1, "a": 2}', "record 7 is not JSON .an object has the key 'a' twice"),
    ],
    ids=["lists", "objects", "integer", "nan", "infinity", "large", "twice"],
)
def test_what_no_json_reader_should_take_is_refused_with_its_place(trace: EpisodeTrace, text: str, words: str) -> None:
    line = dumps(trace).replace('"reset_info":{', f'"reset_info":{{"hostile":{text},', 1)
    with pytest.raises(TraceError, match=words):
        loads(line, "traces.jsonl, record 7")


def deep() -> dict[str, Any]:
    found: dict[str, Any] = {}
    inner = found
    for _ in range(DEEP):
        inner["a"] = {}
        inner = inner["a"]
    return found


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "finite"),
        (float("inf"), "finite"),
        ({1: 2}, "the key 1 is not a string"),
        ({"a": [{None: 2}]}, "the key None is not a string"),
        (object(), "object"),
        (b"bytes", "bytes"),
        (datetime.datetime(2026, 1, 1), "datetime"),
        (deep(), "nested too deeply"),
    ],
    ids=["nan", "infinity", "key", "inner key", "object", "bytes", "date", "deep"],
)
def test_a_record_of_what_json_has_not_is_not_written(trace: EpisodeTrace, value: object, words: str) -> None:
    with pytest.raises(TraceError, match=words):
        dumps(replace(trace, reset_info={"hostile": value}))


def test_numpy_s_numbers_are_written_as_python_s(trace: EpisodeTrace) -> None:
    written = replace(
        trace, reset_info={"n": np.int64(3), "f": np.float64(0.5), "a": np.array([1, 2]), "s": np.str_("x")}
    )
    assert loads(dumps(written)).reset_info == {"n": 3, "f": 0.5, "a": [1, 2], "s": "x"}


def test_a_number_that_no_column_holds_is_refused_before_it_is_written(trace: EpisodeTrace, tmp_path: Path) -> None:
    with TraceWriter(tmp_path / "x.parquet") as writer:
        writer.write(trace)
        with pytest.raises(TraceError, match="seed of the record is too large for a column"):
            writer.write(replace(trace, seed=2**63))
    assert list(read_traces(tmp_path / "x.parquet")) == [trace]


def test_other_files_of_this_package_are_told_apart() -> None:
    for line in ("[]", '{"version": 1}', "{", '{"episodes": []}'):
        with pytest.raises(TraceError, match=r"the record is no"):
            loads(line)


def test_records_are_json_values_only(trace: EpisodeTrace) -> None:
    value = json.loads(dumps(trace), parse_constant=lambda name: pytest.fail(name))
    assert list(value) == [field.name for field in fields(EpisodeTrace) if field.name not in SINCE_2["episode"]]
    assert value["steps"][0]["observation"]["progress"] == [0, value["steps"][0]["observation"]["progress"][1]]


def test_reading_holds_one_episode_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl.gz"
    [big] = played("keep_all", [0], num_docs=100, store="numpy")
    write_traces(path, (replace(big, index=i) for i in range(80)))
    tracemalloc.start()
    assert [one.index for one in read_traces(path)] == list(range(80))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 80 * len(dumps(big)) / 3


def stopping(trace: EpisodeTrace) -> Iterator[EpisodeTrace]:
    yield trace
    raise RuntimeError("stop")


def test_writing_over_the_file_that_is_read(trace: EpisodeTrace, tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces(path, [trace, trace])
    assert write_traces(path, (replace(one, seed=9) for one in read_traces(path))) == 2
    assert [one.seed for one in read_traces(path)] == [9, 9]
    with pytest.raises(RuntimeError, match="stop"):
        write_traces(path, stopping(trace))
    assert count_traces(path) == 2
    assert [one.name for one in tmp_path.iterdir()] == ["traces.jsonl"]


def test_parquet_has_columns_to_sort_by(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "traces.parquet"
    write_traces(path, played("silent", range(3), **SMALL))
    table = pq.read_table(path)
    assert table["agent"].to_pylist() == ["silent"] * 3
    assert table["index"].to_pylist() == [0, 1, 2]
    assert set(table["causes"][0].as_py()) <= {None, "never stored"}
