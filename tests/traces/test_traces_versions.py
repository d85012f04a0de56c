"""Records of every version that was ever written can be read, written, replayed, exported and shown (``golden``)."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from atommem_gym.cli import main
from atommem_gym.scoring import load_scorer
from atommem_gym.traces import EpisodeTrace, TraceError, TraceWriter, read_traces, write_traces
from atommem_gym.traces.codec import dumps, loads
from atommem_gym.traces.examples import example_trace
from atommem_gym.traces.record import READ_VERSIONS, SINCE_2, TRACE_VERSION, BranchTrace
from atommem_gym.traces.replay import Replayer
from atommem_gym.traces.rescore import rescore
from atommem_gym.traces.training.sft import Selection, Tally, examples
from atommem_gym.viewer import write_page

FOLDER = Path(__file__).parent / "golden"
VERSIONS = sorted(READ_VERSIONS)
every_version = pytest.mark.parametrize("version", VERSIONS)


def golden(version: int) -> Path:
    return FOLDER / f"version_{version}.jsonl.gz"


def lines(version: int) -> list[str]:
    return gzip.decompress(golden(version).read_bytes()).decode("ascii").splitlines()


def test_every_version_that_is_read_has_a_file() -> None:
    assert sorted(path.name for path in FOLDER.glob("*.gz")) == [golden(version).name for version in VERSIONS]
    assert VERSIONS[-1] == TRACE_VERSION


@every_version
def test_records_are_read_and_written_byte_for_byte(version: int) -> None:
    for line in lines(version):
        trace = loads(line)
        assert trace.version == version
        assert dumps(trace) == line


@every_version
@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".parquet"])
def test_files_of_every_suffix_hold_every_version(version: int, suffix: str, tmp_path: Path) -> None:
    traces = list(read_traces(golden(version)))
    path = tmp_path / f"traces{suffix}"
    write_traces(path, traces)
    with TraceWriter(path) as writer:
        writer.write(example_trace())
    assert [trace.version for trace in read_traces(path)] == [version] * len(traces) + [TRACE_VERSION]
    assert list(read_traces(path))[:-1] == traces


@every_version
def test_every_version_replays_as_recorded(version: int) -> None:
    with Replayer() as replayer:
        for number, trace in enumerate(read_traces(golden(version))):
            assert replayer.check(trace) is None
            wrong = [(one.step, one.path, one.recorded, one.replayed) for one in replayer.wrong_ids]
            assert wrong == ([(2, "operations[2].entry_id", "1", "2")] if (version, number) == (1, 1) else [])


def with_entry_id(trace: EpisodeTrace, step: int, place: int, entry_id: int) -> EpisodeTrace:
    steps = list(trace.steps)
    operations = list(steps[step].operations)
    operations[place] = replace(operations[place], entry_id=entry_id)
    steps[step] = replace(steps[step], operations=tuple(operations))
    return replace(trace, steps=tuple(steps))


def test_finding_4_6_only_version_1_of_the_released_preset_may_name_another_entry() -> None:
    [paper, released, _] = read_traces(golden(1))
    later = list(read_traces(golden(2)))[1]
    edited = released.steps[1].operations[0]
    with Replayer() as replayer:
        for trace, step, place in ((paper, 0, 0), (later, 1, 2)):
            difference = replayer.check(with_entry_id(trace, step, place, 7))
            assert difference is not None
            assert difference.path == f"operations[{place}].entry_id"
            assert replayer.wrong_ids == []
        # Beside another entry, nothing else may differ.
        changed = replace(edited, text="x", entry_id=7)
        steps = (released.steps[0], replace(released.steps[1], operations=(changed,)), *released.steps[2:])
        difference = replayer.check(replace(released, steps=steps))
        assert difference is not None
        assert difference.path == "operations[0].text"


def test_finding_4_6_the_command_says_which_ids_it_did_not_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["replay", str(golden(1)), str(golden(2)), "--check"]) == 0
    said = capsys.readouterr().out
    assert "all as recorded" in said
    assert "1 entry id is not as recorded, which is no difference" in said
    assert main(["replay", str(golden(1)), "--episode", "1"]) == 0
    assert "1 entry id is not as recorded" in capsys.readouterr().out
    assert main(["replay", str(golden(2)), "--check"]) == 0
    assert "entry id" not in capsys.readouterr().out


@every_version
def test_every_version_is_exported_rescored_and_shown(version: int, tmp_path: Path) -> None:
    traces = list(read_traces(golden(version)))
    kept = [len(list(examples(trace, Selection(threshold=0.0, reading_share=0.0), Tally()))) for trace in traces]
    assert kept == [9, 4, 5]
    scored = list(rescore(traces, load_scorer("released")))
    assert [trace.version for trace in scored] == [version] * 3
    assert scored[2].rescores[0] == traces[2].rescores[0]
    write_page(traces, tmp_path / "page.html")
    assert traces[0].item in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_version_2_holds_what_it_added() -> None:
    first, _, branch = read_traces(golden(2))
    assert first.id == "5f1d2c7a"
    assert first.context == "synthetic/context-0"
    assert first.dates[:2] == ("2023-05-08T13:56", None)
    assert len(first.dates) == len(first.documents)
    assert branch.branch == BranchTrace(parent="5f1d2c7a", step=2)
    [said] = branch.steps[-1].reader
    assert said.question == branch.questions[0].question
    assert said.completions[0].completion_tokens == 4


def test_what_is_absent_is_left_out_of_the_line() -> None:
    trace = example_trace()
    value = json.loads(dumps(trace))
    assert not value.keys() & set(SINCE_2["episode"])
    for part in ("questions", "steps"):
        assert all(not one.keys() & set(SINCE_2[part]) for one in value[part])
    dated = replace(trace, questions=tuple(replace(one, date="2023-05-30") for one in trace.questions), id="a")
    value = json.loads(dumps(dated))
    assert (value["id"], value["questions"][0]["date"]) == ("a", "2023-05-30")
    assert "context" not in value
    assert loads(dumps(dated)) == dated
    # What a line says, it may say in full.
    assert loads(json.dumps(value | {"context": None, "dates": []})) == dated


@pytest.mark.parametrize(
    ("change", "name"),
    [
        (lambda v: v.update(context="c"), "context"),
        (lambda v: v.update(id=None), "id"),
        (lambda v: v["questions"][0].update(date="2023"), "date"),
        (lambda v: v["steps"][1].update(reader=[]), "reader"),
    ],
)
def test_version_1_has_no_field_of_version_2(change: Callable[[Any], None], name: str) -> None:
    value = json.loads(lines(1)[0])
    change(value)
    with pytest.raises(TraceError, match=f"record 4 is not a record of version 1: it has the field '{name}'"):
        loads(json.dumps(value), "record 4")
    with pytest.raises(TraceError, match="it has the field 'context', which came with version 2; give it version=2"):
        dumps(replace(loads(lines(1)[0]), context="c"))


@pytest.mark.parametrize("version", ["true", "1.0", '"1"', "null", "[]", "3", "0", "9" * 3_000])
def test_a_version_is_one_of_the_known_numbers(version: str) -> None:
    line = lines(1)[0].replace('{"version":1,', f'{{"version":{version},', 1)
    with pytest.raises(
        TraceError, match=r"has version .{1,22}, this package reads 1 and 2; install the release"
    ) as seen:
        loads(line)
    assert len(str(seen.value)) < 300
