"""Where records come from, and what is said when they do not (SPEC D1, D2, D6)."""

from __future__ import annotations

import json
import os
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest
from support.records.files import Make, expected, fresh, records, write_lines  # noqa: F401

from atommem_gym.errors import ConfigError, DatasetUnavailableError, RecordError
from atommem_gym.records import sources
from atommem_gym.records.hub import HUB, read_hub
from atommem_gym.records.sources import load_split
from atommem_gym.trust import command_line

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
    with pytest.raises(ConfigError, match=r"dataset='squad' must be one of .*'musique'"):
        load_split("squad", "hub", "train")
    with pytest.raises(
        ConfigError,
        match="split='training' must be one of 'train', 'validation', 'test', or 'dev'; did you mean 'train'",
    ):
        load_split("hotpotqa", "hub", "training")


def test_D1_a_missing_path_says_how_to_get_the_file(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailableError) as caught:
        records(tmp_path / "nothing.json")
    for part in ("nothing.json", "does not exist", "hotpot_train_v1.1.json", "curl", 'source="path/to/'):
        assert part in str(caught.value)
    with command_line([]), pytest.raises(DatasetUnavailableError) as caught:
        records(tmp_path / "nothing.json")
    remedy = str(caught.value).splitlines()[-1]
    assert remedy == "then pass its path: --set source=PATH (atommem eval: --source ENV=PATH)"


def test_what_helps_without_the_hub_is_said_as_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DatasetUnavailableError) as caught:
        list(read_hub("hotpotqa", "train"))
    assert str(caught.value).endswith('Or generated records: source="synthetic"')
    with command_line([]), pytest.raises(DatasetUnavailableError) as caught:
        list(read_hub("hotpotqa", "train"))
    assert str(caught.value).endswith("Or generated records: --set source=synthetic")


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
        ("x.jsonl", b'{"id": "\xff"}\n', r"x\.jsonl, line 1: not valid JSON \(it is no UTF-8 text"),
        ("x.jsonl", b"[1]\n[2]\n", r"x\.jsonl, record 1: a record must be an object with fields, it is 1"),
        ("x.jsonl", b'"a"\n', r"x\.jsonl, line 1: a record must be an object with fields, it is 'a'"),
        ("x.json", b'[{"id": 1}', r"x\.json, record 1: field 'answer' is missing"),
        ("x.json", b'[{"id": 1, ]', r"x\.json, record 1: not valid JSON"),
        ("x.json", b"[[[[" * 50_000, r"x\.json, record 1: not valid JSON"),
        ("x.json", b'[{"id": ' + b"1" * 5_000 + b"}]", r"x\.json, record 1: not valid JSON \(Exceeds the limit"),
        ("x.jsonl", b'{"id": ' + b"1" * 5_000 + b"}", r"x\.jsonl, line 1: not valid JSON \(Exceeds"),
        ("x.jsonl", b'{"id": 1, "id": 2}', r"x\.jsonl, line 1: not valid JSON \(an object has the key 'id' twice"),
        ("x.json", b'[{"id": 1, "id": 2}]', r"x\.json, record 1: not valid JSON \(an object has the key 'id' twice"),
        ("x.json", b"[\xff", r"x\.json is not a readable \.json file: it is no UTF-8 text"),
        ("x.parquet", b"PAR1 and then nothing", r"x\.parquet is not a readable \.parquet file"),
        ("x.arrow", b"ARROW1 and then nothing", r"x\.arrow is not a readable \.arrow file"),
    ],
)
def test_D2_what_is_no_record_names_file_and_place(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(RecordError, match=message):
        records(tmp_path / name)


def test_D2_a_table_of_texts_that_are_no_UTF_8_is_refused(tmp_path: Path) -> None:
    texts = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff"))
    pa.parquet.write_table(pa.table({"question": texts}), tmp_path / "x.parquet")
    with pytest.raises(RecordError, match=r"x\.parquet is not a readable \.parquet file: it is no UTF-8 text"):
        records(tmp_path / "x.parquet")


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


@pytest.mark.parametrize("dataset", [name for name, source in HUB.items() if source.splits])
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
    assert set(HUB) == set(sources.DATASETS) - {"own"}  # records of one's own are on no hub
    for name, source in HUB.items():
        if name in sources.CONTEXTS:
            # One file each, and no revision that is known.
            assert set(source.files) == {"train"}
            assert source.revision is None
        else:
            assert set(source.splits) == set(source.files) == {"train", "validation"}
        assert source.revision is None or re.fullmatch(r"[0-9a-f]{40}", source.revision)
