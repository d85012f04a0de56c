"""The audit of records counts and names what is wrong with them, and never raises for a record (SPEC D3)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.records.files import Make, expected, fresh, records, write_lines  # noqa: F401

from atommem_gym.errors import ConfigError, DatasetUnavailableError
from atommem_gym.records.audit import audit


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
    assert "of no known shape" in parts["a.jsonl"].malformed[0]
    assert "it is 7" in parts["a.jsonl"].malformed[1]
    assert "not a readable .parquet" in parts["b.parquet"].malformed[0]
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
