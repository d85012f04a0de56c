"""SPEC D1, D2 and D6 as properties: what files of any kind hold is read as it stands, or the error says why not."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.errors import AtomMemError, ConfigError, DatasetUnavailableError, RecordError
from atommem_gym.records import sources
from atommem_gym.records.record import Record
from atommem_gym.records.sources import PARSERS, load_split
from atommem_gym.testing import budget
from atommem_gym.worlds.synthetic import SyntheticItems
from atommem_gym.worlds.synthetic.shapes import SHAPES

COLUMNS = {
    "context": ("title", "sentences"),
    "supporting_facts": ("title", "sent_id"),
    "evidences": ("fact", "relation", "entity"),
}
DATASETS = ("hotpotqa", "2wikimultihopqa", "musique")
datasets = pytest.mark.parametrize("dataset", DATASETS)
letters = st.characters(codec="utf-8", exclude_categories=("C", "Z"))
words = st.lists(st.text(letters, min_size=1, max_size=6), min_size=1, max_size=4).map(" ".join)


@contextmanager
def folder() -> Iterator[Path]:
    """An empty folder, and no split that was loaded before."""
    with tempfile.TemporaryDirectory() as path, mock.patch.object(sources, "_loaded", {}):
        yield Path(path)


@st.composite
def raw_records(draw: st.DrawFn, dataset: str, name: str) -> dict[str, Any]:
    """A record in the official shape of its data set, its texts in any script."""
    count = draw(st.integers(2, 5))
    titles = draw(st.lists(words, min_size=count, max_size=count, unique=True))
    gold = draw(st.lists(st.integers(0, count - 1), min_size=2, max_size=3, unique=True))
    made = {"question": draw(words), "answer": draw(words)}
    if dataset == "musique":
        texts = [draw(words) for _ in titles]
        return made | {
            "id": name,
            "paragraphs": [
                {"idx": i, "title": title, "paragraph_text": text, "is_supporting": i in gold}
                for i, (title, text) in enumerate(zip(titles, texts, strict=True))
            ],
            "question_decomposition": [
                {"id": i, "question": draw(words), "answer": draw(words), "paragraph_support_idx": i} for i in gold
            ],
            "answer_aliases": draw(st.lists(words | st.sampled_from([made["answer"], ""]), max_size=3)),
            "answerable": True,
        }
    context = [[title, draw(st.lists(words, min_size=1, max_size=3))] for title in titles]
    made |= {
        "_id": name,
        "type": draw(st.sampled_from(["bridge", "comparison"])),
        "supporting_facts": [[titles[i], draw(st.integers(0, len(context[i][1]) - 1))] for i in gold],
        "context": context,
    }
    return made | ({"level": "hard"} if dataset == "hotpotqa" else {"evidences": [[titles[gold[0]], "r", "o"]]})


def rows(dataset: str, most: int = 4) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.integers(1, most).flatmap(
        lambda n: st.tuples(*(raw_records(dataset, f"r{i}") for i in range(n))).map(list)
    )


def write(path: Path, raw: list[dict[str, Any]]) -> Path:
    if path.suffix == ".parquet":
        pa.parquet.write_table(pa.Table.from_pylist([columns(row) for row in raw]), path)
    elif path.suffix == ".json":
        path.write_text(json.dumps(raw, ensure_ascii=False, indent=1), "utf-8")
    else:
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in raw), "utf-8")
    return path


def columns(row: dict[str, Any]) -> dict[str, Any]:
    """A row as the hub has it: tables by columns, since Parquet wants one type each."""
    tables = {
        key: dict(zip(names, map(list, zip(*row[key], strict=True)), strict=True))
        for key, names in COLUMNS.items()
        if key in row
    }
    return {key.removeprefix("_"): value for key, value in row.items()} | tables


def loaded(dataset: str, path: Path, split: str = "train") -> list[Record]:
    found = load_split(dataset, str(path), split)
    return [found.record(i) for i in range(len(found))]


@st.composite
def file_names(draw: st.DrawFn) -> dict[str, str | None]:
    """Names of files, each with the split that it speaks of (none: it speaks of none, or of two)."""
    known = {
        "train.jsonl": "train",
        "hotpot_train_v1.json": "train",
        "dev.jsonl": "validation",
        "validation.parquet": "validation",
        "my-test.json": "test",
        "records.jsonl": None,
        "train_and_test.jsonl": None,
        "train.csv": None,
    }
    return {name: known[name] for name in draw(st.lists(st.sampled_from(sorted(known)), max_size=8, unique=True))}


@given(names=file_names(), split=st.sampled_from(["train", "validation", "dev", "test"]), data=st.data())
@budget(40)
def test_D1_a_folder_gives_the_split_that_was_asked_for_or_an_error_and_nothing_else(
    names: dict[str, str | None], split: str, data: st.DataObject
) -> None:
    wanted = {"dev": "validation"}.get(split, split)
    with folder() as path:
        for name in names:
            write(path / name, [data.draw(raw_records("hotpotqa", name))])
        meant = [name for name, speaks_of in names.items() if speaks_of == wanted]
        if len(meant) == 1:
            assert [record.id for record in loaded("hotpotqa", path, split)] == meant
            return
        with pytest.raises(AtomMemError) as caught:
            loaded("hotpotqa", path, split)
        said = str(caught.value)
        assert isinstance(caught.value, ConfigError if meant else DatasetUnavailableError)
        # What was tried, what there is instead, and what helps.
        assert repr(wanted) in said
        assert str(path) in said
        assert all(name in said for name in (meant or names))


@datasets
@given(data=st.data())
@budget(20)
def test_D2_a_record_is_read_as_it_stands_from_every_kind_of_file(dataset: str, data: st.DataObject) -> None:
    raw = data.draw(rows(dataset))
    with folder() as path:
        found = {kind: loaded(dataset, write(path / f"x.{kind}", raw)) for kind in ("json", "jsonl", "parquet")}
    assert found["json"] == found["jsonl"] == found["parquet"]
    for record, row in zip(found["json"], raw, strict=True):
        stated = row.get("_id", row.get("id")), row["question"].strip(), row["answer"].strip()
        assert (record.id, record.question, record.answer) == stated
        if dataset == "musique":
            texts = [(p["title"].strip(), p["paragraph_text"].strip()) for p in row["paragraphs"]]
            gold = [i for i, p in enumerate(row["paragraphs"]) if p["is_supporting"]]
            pieces = {row["paragraphs"][i]["paragraph_text"].strip() for i in gold}
            aliases = dict.fromkeys(alias.strip() for alias in row["answer_aliases"])
            assert list(record.aliases) == [alias for alias in aliases if alias not in ("", record.answer)]
        else:
            joiner = "" if dataset == "hotpotqa" else " "
            texts = [(title.strip(), joiner.join(sentences).strip()) for title, sentences in row["context"]]
            titles = [title for title, _ in row["context"]]
            gold = sorted({titles.index(title) for title, _ in row["supporting_facts"]})
            by_title = dict(row["context"])
            pieces = {by_title[title][number].strip() for title, number in row["supporting_facts"]}
        assert [(document.title, document.text) for document in record.documents] == texts
        assert list(record.gold) == gold
        assert {piece.text for piece in record.evidence} == pieces
        for piece in record.evidence:
            assert any(piece.title == d.title and piece.text in d.text for d in record.gold_documents)


@datasets
@given(data=st.data())
@budget(30)
def test_D2_a_malformed_record_names_its_file_its_line_and_its_field(dataset: str, data: st.DataObject) -> None:
    raw = data.draw(rows(dataset))
    line = data.draw(st.integers(1, len(raw)))
    needed = ["question", "answer", *(["paragraphs"] if dataset == "musique" else ["context", "supporting_facts"])]
    field = data.draw(st.sampled_from(needed))
    if data.draw(st.booleans()):
        del raw[line - 1][field]
    else:
        # A number is an answer (R6), though not one that JSON does not have.
        number = math.nan if field == "answer" else 7
        raw[line - 1][field] = data.draw(st.sampled_from([None, number, True, "", [], {}, [None], [[]]]))
    with folder() as path, pytest.raises(RecordError) as caught:
        loaded(dataset, write(path / "train.jsonl", raw))
    assert f"train.jsonl, line {line}: " in str(caught.value)
    assert field in str(caught.value)


@datasets
@given(data=st.data(), number=st.integers() | st.floats(allow_nan=False, allow_infinity=False))
@budget(15)
def test_R6_an_answer_that_is_a_number_is_read_as_its_text(
    dataset: str, data: st.DataObject, number: int | float
) -> None:
    raw = data.draw(raw_records(dataset, "r0")) | {"answer": number}
    with folder() as path:
        assert [record.answer for record in loaded(dataset, write(path / "train.jsonl", [raw]))] == [str(number)]


@pytest.mark.parametrize("shape", [*SHAPES])
@given(st.integers(0, 99), st.integers(0, 5), st.sampled_from(["train", "validation"]), st.integers(0, 99))
@budget(15)
def test_D6_a_generated_item_is_a_function_of_split_index_and_shuffle_seed(
    shape: str, index: int, seed: int, split: str, another: int
) -> None:
    def generator() -> SyntheticItems:
        return SyntheticItems(shape=shape, split=split, num_docs=14, questions_per_episode=1)

    one, two = generator(), generator()
    two.item(another, seed + 1)
    item = one.item(index, seed)
    assert item == two.item(index, seed) == one.item(index, seed)
    assert len(set(item.documents)) == 14
    if another != index:
        assert item != one.item(another, seed)


@given(data=st.data())
@budget(15)
def test_D6_a_converted_source_gives_what_the_source_gives(data: st.DataObject) -> None:
    dataset = data.draw(st.sampled_from(DATASETS))
    raw = data.draw(rows(dataset))
    with folder() as path:
        source = write(path / "train.jsonl", raw)
        with (
            mock.patch.object(sources, "CONVERT_FROM_BYTES", 0),
            mock.patch.dict("os.environ", {"ATOMMEM_CACHE": str(path / "cache")}),
        ):
            first = loaded(dataset, source)
            sources._loaded.clear()
            # The second start reads the cache: parsing anything again would raise.
            with mock.patch.dict(PARSERS, {dataset: None}):
                again = loaded(dataset, source)
    assert first == again == [PARSERS[dataset](row) for row in raw]
