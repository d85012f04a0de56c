"""Where records come from, and what is said when they do not (SPEC D1, D2, D6)."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from atommem_gym.errors import ConfigError, DatasetUnavailableError, RecordError
from atommem_gym.records import cache, sources
from atommem_gym.records.audit import audit
from atommem_gym.records.corpus import RECORDS_FILE
from atommem_gym.records.hub import HUB
from atommem_gym.records.record import Record
from atommem_gym.records.sources import load_split

ROOT = Path(__file__).resolve().parents[2]
Make = Callable[..., dict[str, Any]]


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setenv("ATOMMEM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def converting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Every source is converted into the cache, however small; the cache folder."""
    monkeypatch.setattr(sources, "CONVERT_FROM_BYTES", 0)
    return tmp_path / "cache"


def write_lines(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def records(source: Path | str, dataset: str = "hotpotqa", split: str = "train") -> list[Record]:
    found = load_split(dataset, str(source), split)
    return [found.record(i) for i in range(len(found))]


def expected(rows: list[dict[str, Any]], dataset: str = "hotpotqa") -> list[Record]:
    return [sources.PARSERS[dataset](row) for row in rows]


# -- formats


@pytest.mark.parametrize("dataset", ["hotpotqa", "2wikimultihopqa", "musique"])
@pytest.mark.parametrize("kind", ["json", "pretty.json", "lines.json", "jsonl", "parquet", "arrow", "saved"])
def test_D2_every_file_type_gives_the_same_records(
    dataset: str, kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    fixture = {"hotpotqa": "hotpot_raw", "2wikimultihopqa": "twowiki_raw", "musique": "musique_raw"}[dataset]
    rows = [request.getfixturevalue(fixture)(number) for number in range(9)]
    assert records(write_as(kind, rows, tmp_path), dataset) == expected(rows, dataset)


def columns_of(row: dict[str, Any]) -> dict[str, Any]:
    """A row in hub form, whose columns are each of one type."""
    names = {
        "context": ("title", "sentences"),
        "supporting_facts": ("title", "sent_id"),
        "evidences": ("fact", "relation", "entity"),
    }
    tables = {
        key: dict(zip(names[key], map(list, zip(*row[key], strict=True)), strict=True)) for key in names if key in row
    }
    return {key.removeprefix("_"): value for key, value in row.items()} | tables


def write_as(kind: str, rows: list[dict[str, Any]], folder: Path) -> Path:
    path = folder / f"records.{kind}"
    if kind == "json":
        path.write_text(json.dumps(rows), "utf-8")
    elif kind == "pretty.json":
        path.write_text("\ufeff\n " + json.dumps(rows, indent=2) + "\n", "utf-8")
    elif kind in ("jsonl", "lines.json"):
        write_lines(path, rows)
    elif kind == "parquet":
        pa.parquet.write_table(pa.Table.from_pylist([columns_of(row) for row in rows]), path)
    else:
        table = pa.Table.from_pylist([columns_of(row) for row in rows])
        if kind == "saved":
            path.mkdir()
            (path / "state.json").write_text("{}", "utf-8")
            path = path / "data-00000-of-00001.arrow"
        with pa.OSFile(str(path), "wb") as sink:
            form = pa.ipc.new_stream if kind == "saved" else pa.ipc.new_file
            with form(sink, table.schema) as writer:
                writer.write_table(table)
        path = path.parent if kind == "saved" else path
    return path


def test_D1_a_folder_that_datasets_saved(tmp_path: Path, hotpot_raw: Make) -> None:
    datasets = pytest.importorskip("datasets", reason='needs the hub extra: pip install "atommem-gym[hub]"')
    rows = [hotpot_raw(number) for number in range(5)]
    table = datasets.Dataset.from_list([columns_of(row) for row in rows])
    table.save_to_disk(tmp_path / "one")
    assert records(tmp_path / "one") == expected(rows)
    both = datasets.DatasetDict({"train": table, "validation": table.select([3, 1])})
    both.save_to_disk(tmp_path / "both")
    assert records(tmp_path / "both", split="dev") == expected([rows[3], rows[1]])


def test_D2_a_long_json_list_is_read_in_pieces(
    tmp_path: Path, hotpot_raw: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atommem_gym.records.reading._CHUNK", 97)
    rows = [hotpot_raw(number, distractors=2, answer='a "b" ] } \\ é 漢') for number in range(6)]
    path = tmp_path / "list.json"
    path.write_text(json.dumps(rows, ensure_ascii=False), "utf-8")
    assert records(path) == expected(rows)


def test_D2_line_separators_of_unicode_do_not_end_a_record(tmp_path: Path, hotpot_raw: Make) -> None:
    rows = [hotpot_raw(1, question="One\u2028two\x85three?")]
    assert records(write_lines(tmp_path / "x.jsonl", rows)) == expected(rows)


# -- which file


def test_D1_a_single_file_is_the_split_asked_for(tmp_path: Path, hotpot_raw: Make) -> None:
    path = write_lines(tmp_path / "hotpot_train.jsonl", [hotpot_raw(1)])
    for split, name in (("dev", "validation"), ("validation", "validation"), ("test", "test")):
        assert load_split("hotpotqa", str(path), split).split == name


@pytest.mark.parametrize("names", [("train.jsonl", "dev.jsonl"), ("hotpot_train_v1.1.json", "hotpot_dev_v1.json")])
def test_D1_a_folder_with_one_file_a_split(tmp_path: Path, hotpot_raw: Make, names: tuple[str, str]) -> None:
    write_lines(tmp_path / names[0], [hotpot_raw(1)])
    write_lines(tmp_path / names[1], [hotpot_raw(2)])
    (tmp_path / "README.md").write_text("train and dev", "utf-8")
    assert [record.id for record in records(tmp_path, split="train")] == ["h1"]
    assert [record.id for record in records(tmp_path, split="validation")] == ["h2"]
    with pytest.raises(DatasetUnavailableError, match=r"no file for the split 'test'.*test\.jsonl.*README\.md"):
        records(tmp_path, split="test")


def test_D1_numbered_shards_are_one_split(tmp_path: Path, hotpot_raw: Make) -> None:
    for shard in (1, 0):
        write_as("parquet", [hotpot_raw(shard)], tmp_path).rename(tmp_path / f"train-0000{shard}-of-00002.parquet")
    assert [record.id for record in records(tmp_path)] == ["h0", "h1"]


def test_D1_several_candidates_are_never_guessed(tmp_path: Path, musique_raw: Make) -> None:
    for name in ("musique_ans_train.jsonl", "musique_full_train.jsonl"):
        write_lines(tmp_path / name, [musique_raw(1)])
    with pytest.raises(ConfigError, match=r"several files .* musique_ans_train.jsonl, musique_full_train.jsonl"):
        records(tmp_path, "musique")


def test_unknown_names_raise(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"dataset='squad' is unknown: .*'musique'"):
        load_split("squad", "hub", "train")
    with pytest.raises(ConfigError, match="split='training' is unknown"):
        load_split("hotpotqa", "hub", "training")


def test_D1_a_missing_path_says_how_to_get_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailableError) as caught:
        records(tmp_path / "nothing.json")
    for part in ("nothing.json", "does not exist", "hotpot_train_v1.1.json", "curl", 'source="path/to/'):
        assert part in str(caught.value)


def test_D1_an_unknown_file_type_raises(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("id,question\n", "utf-8")
    with pytest.raises(DatasetUnavailableError, match=r"train\.csv is of no known type: .*\.parquet"):
        records(tmp_path / "train.csv")


@pytest.mark.skipif(os.geteuid() == 0 if hasattr(os, "geteuid") else True, reason="root may read every file")
def test_D1_an_unreadable_file_raises(tmp_path: Path, hotpot_raw: Make) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    path.chmod(0)
    with pytest.raises(DatasetUnavailableError, match="cannot be read"):
        records(path)


@pytest.mark.parametrize(("name", "content"), [("a.jsonl", ""), ("a.jsonl", "\n \n"), ("a.json", "[]"), ("b.json", "")])
@pytest.mark.parametrize("threshold", [0, 10**9])
def test_D1_a_split_without_records_raises(
    tmp_path: Path, name: str, content: str, threshold: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "CONVERT_FROM_BYTES", threshold)
    (tmp_path / name).write_text(content, "utf-8")
    with pytest.raises(DatasetUnavailableError, match=rf"hotpotqa/train has no records in .*{name}"):
        records(tmp_path / name)
    assert not (tmp_path / "cache").exists() or not list((tmp_path / "cache").iterdir())


# -- malformed records


def test_D2_a_malformed_record_names_file_line_and_field(tmp_path: Path, hotpot_raw: Make) -> None:
    path = tmp_path / "x.jsonl"
    good, bad = json.dumps(hotpot_raw(1)), json.dumps(hotpot_raw(2, supporting_facts=None))
    path.write_text(f"{good}\n\n{bad}\n", "utf-8")
    with pytest.raises(RecordError, match=r"x\.jsonl, line 3: field 'supporting_facts' is missing"):
        records(path)


def test_D2_a_malformed_record_of_a_list_names_its_number(tmp_path: Path, hotpot_raw: Make) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([hotpot_raw(1), hotpot_raw(2, answer="")]), "utf-8")
    with pytest.raises(RecordError, match=r"x\.json, record 2: field 'answer' must not be empty"):
        records(path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.jsonl", b'{"id": 1\n', r"x\.jsonl, line 1: not valid JSON"),
        ("x.jsonl", b'{"id": "\xff"}\n', r"x\.jsonl, line 1: not valid JSON \('utf-8'"),
        ("x.jsonl", b"[1]\n[2]\n", r"x\.jsonl, record 1: a record must be an object with fields, it is 1"),
        ("x.jsonl", b'"a"\n', r"x\.jsonl, line 1: a record must be an object with fields, it is 'a'"),
        ("x.json", b'[{"id": 1}', r"x\.json, record 1: field 'answer' is missing"),
        ("x.json", b'[{"id": 1, ]', r"x\.json, record 1: not valid JSON"),
        ("x.json", b"[[[[" * 50_000, r"x\.json, record 1: not valid JSON"),
        ("x.parquet", b"PAR1 and then nothing", r"x\.parquet is no readable \.parquet file"),
        ("x.arrow", b"ARROW1 and then nothing", r"x\.arrow is no readable \.arrow file"),
    ],
)
def test_D2_what_is_no_record_names_file_and_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=message):
        records(tmp_path / name)


def test_D2_a_list_cut_off_raises(tmp_path: Path, hotpot_raw: Make) -> None:
    whole = json.dumps([hotpot_raw(1), hotpot_raw(2)])
    for cut in (len(whole) - 1, len(whole) - 40, len(whole) // 2 + 1):
        (tmp_path / f"x{cut}.json").write_text(whole[:cut], "utf-8")
        with pytest.raises(RecordError, match="not valid JSON"):
            records(tmp_path / f"x{cut}.json")


@pytest.mark.parametrize("asked", ["hotpotqa", "2wikimultihopqa", "musique"])
@pytest.mark.parametrize("given", ["hotpot_raw", "twowiki_raw", "musique_raw"])
def test_D2_another_data_sets_file_is_recognised(
    tmp_path: Path, asked: str, given: str, request: pytest.FixtureRequest
) -> None:
    of = {"hotpot_raw": "hotpotqa", "twowiki_raw": "2wikimultihopqa", "musique_raw": "musique"}[given]
    path = write_lines(tmp_path / "x.jsonl", [request.getfixturevalue(given)(1)])
    if asked == of:
        assert len(records(path, asked)) == 1
    else:
        with pytest.raises(RecordError, match=rf"line 1: this record has the shape of {of}, not of {asked}"):
            records(path, asked)


# -- the hub


def fake_hub(rows: list[dict[str, Any]] | Exception, calls: list[Any]) -> types.ModuleType:
    module = types.ModuleType("datasets")

    def load_dataset(*args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
        calls.append((args, kwargs))
        if isinstance(rows, Exception):
            raise rows
        return iter(rows)

    module.load_dataset = load_dataset  # type: ignore[attr-defined]
    return module


def test_D1_hub_records_come_pinned_and_are_kept(
    monkeypatch: pytest.MonkeyPatch, hotpot_raw: Make, tmp_path: Path
) -> None:
    calls: list[Any] = []
    rows = [hotpot_raw(number) for number in range(4)]
    monkeypatch.setitem(sys.modules, "datasets", fake_hub([columns_of(row) for row in rows], calls))
    assert records("hub", split="dev") == expected(rows)
    options = {"split": "validation", "revision": HUB["hotpotqa"].revision}
    assert calls == [(("hotpotqa/hotpot_qa", "distractor"), options)]
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setitem(sys.modules, "datasets", fake_hub(ConnectionError("no network"), calls))
    assert records("hub", split="dev") == expected(rows)
    assert len(calls) == 1


@pytest.mark.parametrize("dataset", list(HUB))
def test_D1_hub_without_network_says_what_was_tried_and_what_helps(
    monkeypatch: pytest.MonkeyPatch, dataset: str, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", fake_hub(ConnectionError("name not resolved"), []))
    with pytest.raises(DatasetUnavailableError) as caught:
        load_split(dataset, "hub", "train")
    source = HUB[dataset]
    for part in (source.repository, str(source.revision), "name not resolved", source.files["train"], "source="):
        assert part in str(caught.value)
    assert not list((tmp_path / "cache").iterdir())


def test_D1_hub_without_its_package_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetUnavailableError, match=r'pip install "atommem-gym\[hub\]"'):
        load_split("musique", "hub", "train")


def test_D1_hub_has_no_test_answers() -> None:
    with pytest.raises(DatasetUnavailableError, match="no split 'test' of musique with answers: use one of train"):
        load_split("musique", "hub", "test")


def test_D1_hub_table_is_complete() -> None:
    assert set(HUB) == set(sources.PARSERS) - {"own"}  # records of one's own are on no hub
    for source in HUB.values():
        assert set(source.splits) == set(source.files) == {"train", "validation"}
        assert source.revision is None or re.fullmatch(r"[0-9a-f]{40}", source.revision)


# -- the cache of converted records


def test_a_split_is_loaded_once_per_process(tmp_path: Path, hotpot_raw: Make) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    assert load_split("hotpotqa", str(path), "dev") is load_split("hotpotqa", str(path), "validation")


def test_D6_a_second_start_does_not_read_the_source_again(
    tmp_path: Path, hotpot_raw: Make, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [hotpot_raw(number) for number in range(50)]
    path = write_lines(tmp_path / "x.jsonl", rows)
    assert records(path) == expected(rows)
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setattr(sources, "read", lambda path: pytest.fail("the source was read again"))
    assert records(path) == expected(rows)
    assert len(list(converting.iterdir())) == 1


def test_D6_a_changed_source_is_converted_again(tmp_path: Path, hotpot_raw: Make, converting: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    assert len(records(path)) == 1
    write_lines(path, [hotpot_raw(1), hotpot_raw(2)])
    assert len(records(path)) == 2
    write_lines(path, [hotpot_raw(1), hotpot_raw(3)])  # of the same size, so only the time tells
    os.utime(path, (1e9, 1e9))
    assert [record.id for record in records(path)] == ["h1", "h3"]


def test_D6_converted_and_parsed_records_are_equal(
    shared_data: Path, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = load_split("musique", str(shared_data / "musique.jsonl"), "validation")
    monkeypatch.setattr(sources, "_loaded", {})
    monkeypatch.setattr(sources, "CONVERT_FROM_BYTES", 10**9)
    parsed = load_split("musique", str(shared_data / "musique.jsonl"), "validation")
    assert len(mapped.pool) == len(parsed.pool)
    for i in range(0, len(mapped), 10):
        assert mapped.record(i) == parsed.record(i)
    with pytest.raises(IndexError, match="record 1063 does not exist: musique/validation has 0 to 1062"):
        mapped.record(1063)


def test_D6_an_interrupted_conversion_leaves_nothing(
    tmp_path: Path, hotpot_raw: Make, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(number) for number in range(9)])
    read = sources.read

    def interrupted(path: Path) -> Iterator[Any]:
        for number, entry in enumerate(read(path)):
            if number == 5:
                raise KeyboardInterrupt
            yield entry

    monkeypatch.setattr(sources, "read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        records(path)
    assert list(converting.iterdir()) == []
    monkeypatch.setattr(sources, "read", read)
    assert len(records(path)) == 9


def test_D6_what_a_killed_conversion_left_is_never_used_and_goes_away(
    tmp_path: Path, hotpot_raw: Make, converting: Path
) -> None:
    old = converting / ".unfinished-abc"
    old.mkdir(parents=True)
    (old / RECORDS_FILE).write_bytes(b"half")
    os.utime(old, (0, 0))
    assert len(records(write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)]))) == 1
    assert not old.exists()


def test_D6_a_full_disk_says_where_and_what_to_do(
    tmp_path: Path, hotpot_raw: Make, converting: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(sources, "write_tables", full)
    with pytest.raises(
        DatasetUnavailableError, match=r"No space left on device; free some space, or set ATOMMEM_CACHE"
    ):
        records(write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)]))
    assert list(converting.iterdir()) == []


def test_D6_damaged_cache_files_say_what_to_delete(tmp_path: Path, hotpot_raw: Make, converting: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", [hotpot_raw(1)])
    records(path)
    (folder,) = converting.iterdir()
    (folder / RECORDS_FILE).write_bytes(b"damaged")
    sources._loaded.clear()
    with pytest.raises(DatasetUnavailableError, match=f"{folder.name} are damaged .*delete that folder"):
        records(path)


def test_the_process_that_finishes_first_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fill(folder: Path) -> None:
        (folder / "file").write_text("second", "utf-8")
        final = tmp_path / "cache" / "name"
        final.mkdir()
        (final / "file").write_text("first", "utf-8")

    assert (cache.cached_folder("name", fill) / "file").read_text("utf-8") == "first"
    assert [entry.name for entry in (tmp_path / "cache").iterdir()] == ["name"]


def test_the_cache_folder_is_the_platforms(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ATOMMEM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(sys, "platform", "linux")
    assert cache.cache_folder() == tmp_path / "atommem-gym"
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert cache.cache_folder() == tmp_path / "local" / "atommem-gym"


MEASURE = """
import sys, time
def resident():  # without the pages of mapped files, which the system takes back when it needs them
    with open("/proc/self/status") as file:
        return int(next(line for line in file if line.startswith("RssAnon")).split()[1]) * 1024
from atommem_gym.records import sources
from atommem_gym.records.corpus import from_records
from atommem_gym.records.items import RecordItems
sources.CONVERT_FROM_BYTES = 0
if sys.argv[2] == "warm":
    from_records("x", "train", [sources.PARSERS["hotpotqa"](eval(sys.argv[3]))])  # so that all libraries are loaded
before, start = resident(), time.perf_counter()
split = sources.load_split("hotpotqa", sys.argv[1], "train")
items = RecordItems(split, num_docs=50, questions_per_episode=1, order="shuffled")
items.item(3)
print(len(split), resident() - before, time.perf_counter() - start)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc; run on Linux")
def test_D6_a_second_start_maps_the_records_instead_of_loading_them(
    tmp_path: Path, hotpot_raw: Make, converting: Path
) -> None:
    path = tmp_path / "train.jsonl"
    with path.open("w", encoding="utf-8") as file:
        for number in range(3000):
            raw = hotpot_raw(number)
            for _, sentences in raw["context"]:
                sentences.append(" And so it went on, as such things do." * 20)
            file.write(json.dumps(raw) + "\n")
    assert path.stat().st_size > 20e6

    def start(kind: str) -> tuple[int, int, float]:
        command = [sys.executable, "-c", MEASURE, str(path), kind, repr(hotpot_raw(1))]
        environment = os.environ | {"ATOMMEM_CACHE": str(converting)}
        output = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=ROOT, check=True).stdout
        count, grown, seconds = output.split()
        return int(count), int(grown), float(seconds)

    assert start("cold")[0] == 3000
    count, grown, seconds = start("warm")
    assert count == 3000
    assert grown < 8e6
    assert seconds < 1.0


# -- audit


def test_audit_counts_and_names_what_is_wrong(tmp_path: Path, hotpot_raw: Make) -> None:
    rows = [hotpot_raw(number) for number in range(5)]
    rows += [hotpot_raw(5, answer="nowhere"), hotpot_raw(6, answer="yes", type="comparison"), hotpot_raw(2)]
    rows += [hotpot_raw(7, supporting_facts=[["Writer 7", 1], ["Town 7", 9]])]
    path = write_lines(tmp_path / "x.jsonl", [*rows, hotpot_raw(8, context=None)])
    with path.open("a", encoding="utf-8") as file:
        file.write("{not json\n")
    report = audit(path)
    (part,) = report.parts
    assert not report.ok
    assert (part.dataset, part.records) == ("hotpotqa", 9)
    assert [re.search(r"line \d+: .{8}", one)[0] for one in part.malformed] == [
        "line 10: field 'c",
        "line 11: not vali",
    ]  # type: ignore[index]
    assert part.types == {"bridge": 8, "comparison": 1}
    assert part.gold == {2: 9}
    assert (part.documents, part.distinct_documents) == (90, 80)
    assert (part.evidence_sentences, part.evidence_paragraphs) == (17, 1)
    assert part.duplicate_ids == ["h2"]
    assert part.answer_not_in_gold == ["h5"]


def test_D3_audit_counts_documents_shared_between_splits(tmp_path: Path, hotpot_raw: Make, musique_raw: Make) -> None:
    write_lines(tmp_path / "train.jsonl", [hotpot_raw(number) for number in range(5)])
    write_lines(tmp_path / "dev.jsonl", [hotpot_raw(number) for number in range(4, 8)])
    write_lines(tmp_path / "other.jsonl", [musique_raw(1)])
    report = audit(tmp_path)
    assert report.ok
    assert list(report.shared_documents.values()) == [10]
    assert {Path(name).name for pair in report.shared_documents for name in pair} == {"train.jsonl", "dev.jsonl"}
    other = next(part for part in report.parts if part.dataset == "musique")
    assert other.gold_title_shared == ["2hop__1_2"]
    assert audit([tmp_path / "train.jsonl", tmp_path / "dev.jsonl"]).shared_documents != {}


def test_audit_never_raises_for_a_record(tmp_path: Path, musique_raw: Make) -> None:
    (tmp_path / "a.jsonl").write_text('{"some": "thing"}\n7\n', "utf-8")
    (tmp_path / "b.parquet").write_bytes(b"broken")
    write_lines(tmp_path / "c.jsonl", [musique_raw(1)])
    parts = {Path(part.name).name: part for part in audit(tmp_path, None).parts}
    assert "of no known data set" in parts["a.jsonl"].malformed[0]
    assert "it is 7" in parts["a.jsonl"].malformed[1]
    assert "no readable .parquet" in parts["b.parquet"].malformed[0]
    assert parts["c.jsonl"].records == 1
    wrong = audit(tmp_path / "c.jsonl", "hotpotqa").parts[0]
    assert "shape of musique, not of hotpotqa" in wrong.malformed[0]


def test_audit_of_nothing_raises(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailableError, match="holds no record files"):
        audit(tmp_path)
    with pytest.raises(DatasetUnavailableError, match="does not exist"):
        audit(tmp_path / "x")
    with pytest.raises(ConfigError, match="dataset='squad'"):
        audit(tmp_path, "squad")


def test_audit_of_the_real_records(shared_data: Path) -> None:
    report = audit([shared_data / f"{name}.jsonl" for name in ("hotpotqa", "2wikimultihopqa", "musique")])
    assert report.ok
    assert {part.dataset: part.records for part in report.parts} == {
        "hotpotqa": 1100,
        "2wikimultihopqa": 1538,
        "musique": 1063,
    }
    assert not any(part.duplicate_ids for part in report.parts)
    assert sum(len(part.answer_not_in_gold) for part in report.parts) < 20
