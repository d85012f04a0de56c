"""Order ``given`` (SPEC E9), and documents with dates and speakers, whose heads no cut tears (SPEC D7)."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.cli import main
from atommem_gym.config import EnvConfig
from atommem_gym.custom import CustomTask
from atommem_gym.errors import ConfigError, RecordError
from atommem_gym.policies.documents import DocumentReader, entries
from atommem_gym.records.corpus import from_records
from atommem_gym.records.dates import check_dated
from atommem_gym.records.documents import heading
from atommem_gym.records.formats.own_records import parse
from atommem_gym.records.identity import documents_hash
from atommem_gym.records.items import RecordItems
from atommem_gym.records.layout import ORDERS
from atommem_gym.records.record import Document, Record
from atommem_gym.records.stream import KEPT_AFTER_HEAD, LazyDocuments, Stream
from atommem_gym.registration import TASKS
from atommem_gym.testing import budget
from atommem_gym.tokenizers import load_tokenizer
from atommem_gym.worlds.synthetic import SyntheticItems

WORDS = load_tokenizer("words")
SESSIONS = (
    Document("Session 1", "Ada: I moved to Leeds yesterday.\nBen: How nice!", "2023-05-08T13:56", ("Ada", "Ben")),
    Document("Session 2", "Ben: Are you still in Leeds?\nAda: No, in York.", "2023-06-01T09:00", ("Ada", "Ben")),
    Document("Session 3", "Ada: I have a dog now.", "2023-07-15", ()),
)
HEAD = re.compile(r"Document \d+ \(\d{4}-[^\n]*\):")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers is unknown to the next."""
    known, ids = dict(TASKS), dict(gym.registry)
    yield
    for registry, before in ((TASKS, known), (gym.registry, ids)):
        registry.clear()
        registry.update(before)


def diary(number: int, **changes: Any) -> dict[str, Any]:
    """A record over dated documents, the second of which is gold."""
    days = [
        {"title": f"Diary {number}", "text": f"Day {day} of {number}: rain {number}-{day}.", "date": f"2023-05-0{day}"}
        for day in (1, 2, 3)
    ]
    days[1] |= {"gold": True, "speakers": ["Ada", "Ben"]}
    return {"question": f"Which rain on day 2 of {number}?", "answer": f"{number}-2", "documents": days} | changes


# -- E9: order="given"


def plain(number: int) -> Record:
    texts = [Document(f"{number}{letter}", f"text {number}{letter}") for letter in "abcd"]
    return parse(
        {
            "question": f"q{number}",
            "answer": f"text {number}c",
            "documents": [{"title": d.title, "text": d.text, "gold": d.title.endswith("c")} for d in texts],
        }
    )


def test_E9_given_is_the_records_own_order_one_question_after_the_other_then_the_other_distractors() -> None:
    split = from_records("mine", "train", [plain(number) for number in range(6)])
    items = RecordItems(split, num_docs=11, questions_per_episode=2, order="given")
    for index in range(items.num_items):
        for seed in (0, 1):
            item = items.item(index, seed)
            titles = [document.title for document in item.documents]
            own = [document.title for question in item.questions for document in question.documents]
            assert titles[:8] == own
            assert len(titles) == len(set(titles)) == 11
            assert not set(titles[8:]) & set(own)


def test_E9_given_keeps_the_order_of_the_own_distractors_that_there_is_room_for() -> None:
    split = from_records("mine", "train", [plain(0)])
    drawn = set()
    for seed in range(20):
        documents = RecordItems(split, num_docs=3, questions_per_episode=1, order="given").item(0, seed).documents
        titles = [document.title for document in documents]
        assert titles == sorted(titles)
        assert "0c" in titles
        drawn.add(tuple(titles))
    assert len(drawn) == 3


def test_E9_a_document_of_two_records_stands_where_the_first_of_them_has_it() -> None:
    records = [plain(0), Record("r", "q?", "text 0c", plain(0).documents[::-1], (1,), plain(0).evidence)]
    item = RecordItems(from_records("mine", "train", records), num_docs=4, questions_per_episode=2, order="given").item(
        0
    )
    assert tuple(item.documents) == item.questions[0].documents


def test_E9_synthetic_documents_stand_as_their_records_have_them() -> None:
    items = SyntheticItems(num_docs=40, questions_per_episode=2, order="given")
    shuffled = SyntheticItems(num_docs=40, questions_per_episode=2)
    for index in range(5):
        item = items.item(index)
        own = list(dict.fromkeys(document for question in item.questions for document in question.documents))
        assert list(item.documents[: len(own)]) == own
        assert set(item.documents) == set(shuffled.item(index).documents)
        assert len(item.documents) == 40


def test_E9_worlds_whose_order_is_their_own_take_given_and_say_the_same() -> None:
    for name in ("Drift", "Needle"):
        with gym.make(f"AtomMem-{name}-v0", num_docs=40, store="numpy") as env:
            env.reset(options={"index": 3})
            expected = env.get_wrapper_attr("item")
        with gym.make(f"AtomMem-{name}-v0", num_docs=40, store="numpy", order="given") as env:
            env.reset(options={"index": 3})
            assert env.get_wrapper_attr("item").documents[:] == expected.documents[:]
        with pytest.raises(ConfigError, match="gold_last"):
            gym.make(f"AtomMem-{name}-v0", num_docs=40, order="gold_last")


def test_E9_given_goes_through_every_face_of_the_family() -> None:
    for env_id in ("AtomMem-Synthetic-v0", "AtomMem-HotpotQA-v0", "AtomMem-MuSiQue-v0"):
        envs = gym.make_vec(env_id, num_envs=2, source="synthetic", num_docs=40, store="numpy", order="given")
        envs.reset(seed=3)
        envs.close()
    assert "given" in ORDERS


# -- D7: dates and speakers


def test_D7_a_dated_head_names_date_and_speakers() -> None:
    text = Stream(SESSIONS, WORDS, 1000).text
    assert text.startswith("Document 1 (2023-05-08T13:56; Ada, Ben):\nSession 1\nAda: I moved")
    assert "\n\nDocument 3 (2023-07-15):\nSession 3\n" in text


names = st.text("abcé東 -.", min_size=1, max_size=8).map(str.strip).filter(bool)
dated = st.builds(
    Document,
    st.text(max_size=6),
    st.text(max_size=40) | st.sampled_from(["", "x" * 90, "a b " * 30, "東京" * 9, "Document 2 (2023-01-01):\nx"]),
    st.dates().map(lambda day: day.isoformat()) | st.datetimes().map(lambda when: when.isoformat("T", "minutes")),
    st.lists(names, max_size=3).map(tuple),
)


def heads(documents: list[Document]) -> list[tuple[int, int]]:
    """Where each document begins, and where what must not be cut off its head ends."""
    found, at = [], 0
    for number, document in enumerate(documents, 1):
        head = heading(number, document)
        found.append((at, at + len(head) + 12))
        at += len(f"{head}\n{document.title}\n{document.text}\n\n")
    return found


@given(st.lists(dated, min_size=1, max_size=5), st.integers(1, 70), st.integers(0, 15))
@budget(150)
def test_D7_chunks_joined_are_the_stream_and_no_head_is_torn(
    documents: list[Document], size: int, overlap: int
) -> None:
    overlap = min(overlap, size - 1)
    stream = Stream(documents, WORDS, size, overlap)
    text = "\n\n".join(f"{heading(i, d)}\n{d.title}\n{d.text}" for i, d in enumerate(documents, 1))
    cores = [stream.core(i) for i in range(stream.num_chunks)]
    assert stream.text == text
    assert "".join(cores) == text
    assert all(cores)
    at, kept = 0, heads(documents)
    for i, core in enumerate(cores):
        chunk = stream.chunk(i)
        assert WORDS.count(core) <= size or HEAD.match(core), "only a head makes a chunk longer"
        begins = [n for n in range(at + 1) if text.startswith(chunk, at - n) and len(chunk) >= n + len(core)]
        assert begins, "a chunk is its core and what stands around it"
        if overlap == 0:
            assert chunk == core
        edges = {at, at + len(core), at - begins[0], at - begins[0] + len(chunk)} - {len(text)}
        if len(begins) == 1:
            assert not [edge for edge in edges for begin, end in kept if begin < edge < end]
        at += len(core)


def test_D7_the_cut_moves_before_the_head_and_that_chunk_is_shorter() -> None:
    whole = Stream(SESSIONS, WORDS, 1000).text
    first, second, _ = heads(list(SESSIONS))
    second_token = WORDS.count(whole[: second[0]])
    torn = []
    for size in range(second_token - 3, second_token + 40):
        stream = Stream(SESSIONS, WORDS, size)
        plain_cut = len(WORDS.cut(whole, size))
        if second[0] < plain_cut < second[1]:
            torn.append(size)
            assert stream.core(0) == whole[: second[0]]
            assert stream.core(1).startswith("Document 2 (2023-06-01T09:00; Ada, Ben):\nSession 2\nBe")
    assert len(torn) > 10, "some of these sizes cut within the head"
    assert first[0] == 0


def test_D7_the_twelve_characters_after_a_head_stay_with_it_and_the_thirteenth_need_not() -> None:
    documents = [Document("x", "word " * 20, "2023-01-01"), Document("abcdefgh", "i j k l m", "2023-01-02")]
    begin, end = heads(documents)[1]
    whole = Stream(documents, WORDS, 1000).text
    assert whole[end - KEPT_AFTER_HEAD : end] == "\nabcdefgh\ni "
    up_to = WORDS.count(whole[:end])
    assert Stream(documents, WORDS, up_to).core(0) == whole[:end]
    assert Stream(documents, WORDS, up_to - 1).core(0) == whole[:begin]


def test_D7_a_head_that_is_longer_than_a_chunk_stands_whole_in_a_longer_one() -> None:
    stream = Stream(SESSIONS, WORDS, 2)
    cores = [stream.core(i) for i in range(stream.num_chunks)]
    assert [core for core in cores if core.startswith("Document")] == [
        "Document 1 (2023-05-08T13:56; Ada, Ben):\nSession 1\nAda",
        "Document 2 (2023-06-01T09:00; Ada, Ben):\nSession 2\nBen",
        "Document 3 (2023-07-15):\nSession 3\nAda",
    ]
    assert max(WORDS.count(core) for core in cores if not core.startswith("Document")) <= 2


def test_D7_a_chunk_that_begins_inside_a_document_does_not_repeat_the_head() -> None:
    stream = Stream(SESSIONS, WORDS, 30)
    assert sum(len(HEAD.findall(stream.chunk(i))) for i in range(stream.num_chunks)) == 3


def test_D7_undated_streams_are_cut_as_they_were() -> None:
    documents = [Document(d.title, d.text) for d in SESSIONS]
    stream = Stream(documents, WORDS, 7)
    assert stream._cuts is None
    assert stream.num_chunks == -(-stream.num_tokens // 7)


def test_D7_documents_made_when_they_are_read_may_be_dated() -> None:
    class Lazy(LazyDocuments):
        dated = True

        def __len__(self) -> int:
            return len(SESSIONS)

        def __getitem__(self, i: Any) -> Any:
            return SESSIONS[i]

    lazy, held = Stream(Lazy(), WORDS, 20), Stream(SESSIONS, WORDS, 20)
    assert [lazy.core(i) for i in range(lazy.num_chunks)] == [held.core(i) for i in range(held.num_chunks)]


def test_D7_dates_and_speakers_survive_the_tables_and_count_in_hashes() -> None:
    record = Record("r", "q?", "York", SESSIONS, (1,), ())
    twin = Record("s", "q?", "York", (Document(SESSIONS[0].title, SESSIONS[0].text, "2024-01-01"),), (0,), ())
    split = from_records("mine", "train", [record, twin])
    assert split.record(0).documents == SESSIONS
    assert split.record(1).documents == twin.documents
    documents = split.pool.documents(split.document_order(0))
    assert pickle.loads(pickle.dumps(documents)) == SESSIONS
    assert documents_hash(documents) == documents_hash(SESSIONS)
    changed = [SESSIONS[0], Document(SESSIONS[1].title, SESSIONS[1].text, "2023-06-02", ("Ada", "Ben")), SESSIONS[2]]
    assert documents_hash(changed) != documents_hash(SESSIONS)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([Document("a", "x", "2023-05-08"), Document("b", "y")], "document 2 .* has no date"),
        ([Document("a", "x", "", ("Ada",))], "document 1 .* has no date"),
        ([Document("a", "x", "8 May 2023")], "document 1: the date '8 May 2023' is not in ISO 8601 format"),
        ([Document("a", "x", "2023-02-30")], "document 1: the date '2023-02-30' is not in ISO 8601 format"),
        ([Document("a", "x", "2023-05-08"), Document("b", "y", "2023-05-07T23:00")], "document 2 .* before document 1"),
        ([Document("a", "x", "2023-05-08", ("A\nB",))], "speaker"),
        ([Document("a", "x", "2023-05-08", ("",))], "speaker"),
    ],
)
def test_D7_a_document_without_date_or_a_date_that_goes_back_is_an_error(
    documents: list[Document], message: str
) -> None:
    with pytest.raises(RecordError, match=message):
        check_dated(documents)


def test_D7_dates_of_one_day_with_and_without_time_are_in_order() -> None:
    check_dated(
        [Document("a", "", "2023-05-08T13:56"), Document("b", "", "2023-05-08"), Document("c", "", "2023-05-08")]
    )
    check_dated([Document("a", "", "2023-05-08T13:56:01.5Z"), Document("b", "", "2023-05-08T13:57+02:00")])


def test_D7_own_records_bring_dates_and_speakers(tmp_path: Path) -> None:
    path = tmp_path / "diary.jsonl"
    path.write_text("".join(json.dumps(diary(number)) + "\n" for number in range(3)))
    env_id = CustomTask(name="Diary", records=path, defaults={"num_docs": 3, "order": "given"}).register()
    with gym.make(env_id, store="numpy") as env:
        chunk = env.reset(options={"index": 0})[0]["chunk"]
    assert HEAD.findall(chunk) == [
        "Document 1 (2023-05-01):",
        "Document 2 (2023-05-02; Ada, Ben):",
        "Document 3 (2023-05-03):",
    ]
    assert main(["data", "check", str(path)]) == 0


def test_D7_a_dated_stream_takes_no_order_but_given(tmp_path: Path) -> None:
    env_id = CustomTask(name="Diary", records=[diary(0)], defaults={"num_docs": 3}).register()
    for order in set(ORDERS) - {"given"}:
        with pytest.raises(ConfigError, match=f"order='{order}' contradicts Diary/train, whose documents are dated"):
            gym.make(env_id, store="numpy", order=order)
    gym.make(env_id, store="numpy", order="given").close()


@pytest.mark.parametrize("dates", [("2023-05-03", "2023-05-02", "2023-05-04"), ("2023-05-01", None, "2023-05-04")])
def test_D7_bad_dates_fail_data_check_and_make(dates: tuple[str | None, ...], tmp_path: Path, capsys: Any) -> None:
    record = diary(0)
    for document, date in zip(record["documents"], dates, strict=True):
        document["date"] = date
    path = tmp_path / "diary.jsonl"
    path.write_text(json.dumps(record) + "\n")
    assert main(["data", "check", str(path)]) == 1
    assert "line 1: document 2" in capsys.readouterr().out.replace("\n", " ")
    for records in (path, [record]):
        env_id = CustomTask(name="Diary", records=records, defaults={"num_docs": 3, "order": "given"}).register()
        with pytest.raises(RecordError, match="document 2"):
            gym.make(env_id, store="numpy")


# -- agents


@given(st.integers(5, 60))
@budget(20)
def test_D7_agents_read_dated_documents_out_of_chunks(size: int) -> None:
    stream = Stream(SESSIONS, WORDS, size)
    reader = DocumentReader(EnvConfig())
    found = []
    for i in range(stream.num_chunks):
        found += reader.read({"phase": 0, "progress": (i, stream.num_chunks), "chunk": stream.chunk(i)})
    assert tuple(found) == SESSIONS


def test_D7_agents_keep_the_date_with_every_piece_of_a_session() -> None:
    assert entries(SESSIONS[2], WORDS, 100) == ["2023-07-15: Session 3\nAda: I have a dog now."]
    pieces = entries(SESSIONS[0], WORDS, 22)
    assert len(pieces) > 1
    assert all(piece.startswith("2023-05-08T13:56: ") and WORDS.count(piece) <= 22 for piece in pieces)
