"""The needle family (SPEC D4): needles where they are said to be, in streams that never stand in memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import gymnasium as gym
import pytest

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.grids import expand, find_grids
from atommem_gym.evaluation.plan import EnvPlan
from atommem_gym.records.record import Document, Item
from atommem_gym.records.stream import Stream, as_streamed
from atommem_gym.scoring import exact_match
from atommem_gym.tokenizers import load_tokenizer
from atommem_gym.worlds.needle import HAYSTACKS, NEEDLE_KINDS, TASK, VALUE_TYPES, NeedleItems, NeedleOptions
from atommem_gym.worlds.needle.options import at_difficulty

WORDS = load_tokenizer("words")


def make(**options: object) -> NeedleItems:
    return NeedleItems(WORDS, options=NeedleOptions(**options), num_docs=40)  # type: ignore[arg-type]


def stream_of(item: Item, chunk_tokens: int = 500) -> Stream:
    return Stream(item.documents, WORDS, chunk_tokens)


@pytest.mark.parametrize("value_type", VALUE_TYPES)
@pytest.mark.parametrize("kind", NEEDLE_KINDS)
def test_D4_every_needle_stands_once_in_the_stream_and_answers_its_question(kind: str, value_type: str) -> None:
    items = make(kind=kind, value_type=value_type)
    for index in range(5):
        item = items.item(index)
        text = stream_of(item).text
        assert len(item.questions) == (4 if kind == "multi_query" else 1)
        for record in item.questions:
            assert len(record.evidence) == (4 if kind == "multi_value" else 1)
            for piece in record.evidence:
                assert text.count(piece.text) == 1
                assert any(piece.text in d.text and d.title == piece.title for d in record.gold_documents)
                assert piece.hop_answer in piece.text
            values = [piece.hop_answer for piece in record.evidence]
            assert exact_match(", ".join(sorted(values)), record.answers)
            assert not exact_match(", ".join(sorted(values)[:-1]) or "none", record.answers)
        assert text.count("access code of the ") == (4 if kind in ("multi_key", "multi_query") else kind == "single")


def test_D4_distractors_resemble_the_key_and_never_share_a_value() -> None:
    item = make(kind="multi_key", distractors=30).item(2)
    text = stream_of(item).text
    sentences = [part.split(".")[0] for part in text.split("The access code of the ")[1:]]
    keys, values = zip(*(sentence.split(" is ") for sentence in sentences), strict=True)
    assert len(set(keys)) == len(set(values)) == 31
    asked = item.questions[0].question.removeprefix("What is the access code of the ").rstrip("?")
    assert sum(bool(set(key.split()) & set(asked.split())) for key in keys) == 31


@pytest.mark.parametrize("haystack", ["synthetic", "noise"])
@pytest.mark.parametrize("depth", [0.0, 0.25, 0.5, 0.75, 1.0])
def test_D4_a_needle_stands_at_its_depth(depth: float, haystack: str) -> None:
    for index in range(3):
        item = make(depth=depth, haystack=haystack, length=6000).item(index)
        stream = stream_of(item)
        before = stream.text.index(item.questions[0].evidence[0].text)
        assert WORDS.count(stream.text[:before]) / stream.num_tokens == pytest.approx(depth, abs=0.05)
        assert (depth == 0.0) == (before < 200)


def test_D4_several_needles_stand_side_by_side_at_a_depth_and_anywhere_without_one() -> None:
    def places(item: Item) -> list[int]:
        needles = [piece.text for record in item.questions for piece in record.evidence]
        return [i for i, document in enumerate(item.documents) for n in needles if n in document.text]

    for depth in (0.0, 0.6, 1.0):
        found = places(make(kind="multi_value", depth=depth).item(0))
        assert len(found) == 4
        assert found[-1] - found[0] <= 4
        assert len(set(found)) >= 3, "side by side, not in one document"
    spread = [places(make(kind="multi_value").item(index)) for index in range(5)]
    assert all(found[-1] - found[0] > 4 for found in spread)


@pytest.mark.parametrize("length", [1, 200, 5_000, 40_000])
def test_D4_length_counts_tokens_to_the_nearest_document(length: int) -> None:
    for haystack in ("synthetic", "noise"):
        tokens = stream_of(make(length=length, haystack=haystack).item(1)).num_tokens
        assert abs(tokens - length) <= 150


def test_D4_lists_make_a_grid_over_the_items() -> None:
    items = make(depth=[0, 1], length=[1_000, 4_000], haystack="noise")
    sizes = [len(items.item(index).documents) for index in range(8)]
    assert sizes[0] == sizes[1] < sizes[2] == sizes[3]
    assert sizes[:4] == sizes[4:]
    assert items.item(0).questions[0].evidence[0].text in items.item(0).documents[0].text
    assert items.item(1).questions[0].evidence[0].text in items.item(1).documents[-1].text


def test_D4_the_haystack_may_be_a_text_of_the_users(tmp_path: Path) -> None:
    path = tmp_path / "novel.txt"
    path.write_text(
        "\n\n".join(f"Chapter {i}. The {i}. day began. It ended late." for i in range(60)), encoding="utf-8"
    )
    items = make(haystack="text", text=str(path), length=3_000)
    item = items.item(0)
    assert item.documents[0].title.startswith("novel, part ")
    assert item.questions[0].evidence[0].text in stream_of(item).text
    assert items.item(1).documents[0] != item.documents[0], "another item begins somewhere else"
    with pytest.raises(ConfigError, match="cannot be read"):
        make(haystack="text", text=str(tmp_path / "none.txt"))


def test_E1_chunks_of_a_lazy_stream_are_those_of_the_same_documents_in_memory() -> None:
    for haystack in ("synthetic", "noise"):
        item = make(kind="multi_query", haystack=haystack, length=12_000).item(4)
        lazy = Stream(item.documents, WORDS, 700, 60)
        whole = Stream(tuple(item.documents), WORDS, 700, 60)
        assert lazy.num_chunks == whole.num_chunks
        assert [lazy.chunk(i) for i in range(lazy.num_chunks)] == [whole.chunk(i) for i in range(whole.num_chunks)]
        assert "".join(lazy.core(i) for i in range(lazy.num_chunks)) == "".join(
            as_streamed(i + 1, d, last=i == len(item.documents) - 1) for i, d in enumerate(item.documents)
        )


def test_E8_items_depend_on_index_and_shuffle_seed_alone() -> None:
    one, two = make(kind="multi_key"), make(kind="multi_key")
    assert tuple(one.item(3, 1).documents) == tuple(two.item(3, 1).documents)
    assert one.item(3, 1).questions == two.item(3, 1).questions
    other = one.item(3, 2)
    assert other.questions[0].question == one.item(3, 1).questions[0].question
    assert tuple(other.documents) != tuple(one.item(3, 1).documents)
    assert one.item(4).questions != one.item(3).questions


def test_documents_are_a_sequence() -> None:
    documents = make().item(0).documents
    assert len(documents) == 40
    assert documents[-1] == documents[39]
    assert list(documents[38:]) == [documents[38], documents[39]]
    assert isinstance(documents[0], Document)
    with pytest.raises(IndexError, match="valid are 0 to 39"):
        documents[40]


def read_through(length: int) -> int:
    """Peak memory in bytes of making an item and reading it, chunk by chunk."""
    items = make(haystack="noise", length=length)
    items.item(1)
    tracemalloc.start()
    try:
        stream = Stream(items.item(0).documents, WORDS, 4000)
        for i in range(stream.num_chunks):
            stream.chunk(i)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_D4_memory_is_bounded_however_long_the_stream_is() -> None:
    short, long = read_through(20_000), read_through(200_000)
    # What is kept is eight bytes a document and a place a chunk; the text itself has 900,000 characters more.
    assert long < short + 150_000


@pytest.mark.slow
def test_D4_a_million_tokens_take_no_more_memory() -> None:
    assert read_through(1_000_000) < read_through(20_000) + 500_000


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"kind": "multikey"}, "kind='multikey' must be one of 'single'"),
        ({"haystack": "text"}, "give haystack='text' and text='FILE'"),
        ({"text": "a.txt"}, "text='a.txt' contradicts haystack='synthetic'"),
        ({"depth": 1.5}, "depth=1.5 must be a number from 0 to 1"),
        ({"depth": []}, r"depth=\[\] must be"),
        ({"length": 0}, "length=0 must be an integer from 1"),
        ({"needles": 3}, "needles=3 contradicts kind='single'"),
        ({"kind": "multi_key", "distractors": 0}, "distractors=0 contradicts kind='multi_key'"),
        ({"kind": "multi_query", "questions_per_episode": 2}, "questions_per_episode=2 contradicts kind='multi_query'"),
        ({"order": "gold_last"}, "order='gold_last' contradicts AtomMem-Needle-v0"),
        ({"source": "hub"}, "source='hub' contradicts"),
        ({"dept": 0.5}, "did you mean 'depth'"),
    ],
)
def test_wrong_keywords_say_what_helps(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gym.make("AtomMem-Needle-v0", store="numpy", **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", NEEDLE_KINDS)
def test_every_difficulty_can_be_played(kind: str) -> None:
    config = TASK.config({"kind": kind})
    lengths = [at_difficulty(tenth / 10, config)["length"] for tenth in range(11)]
    assert lengths == sorted(lengths)
    assert (lengths[0], lengths[-1]) == (1_000, 128_000)
    env = gym.make("AtomMem-Needle-v0", store="numpy", kind=kind, difficulty=0.1)
    easy, _ = env.reset(options={"index": 0, "difficulty": 0.0})
    harder, _ = env.reset(options={"index": 0, "difficulty": 0.4})
    assert easy["progress"][1] == 1 < harder["progress"][1]
    env.close()


@pytest.mark.parametrize("haystack", [name for name in HAYSTACKS if name != "text"])
@pytest.mark.parametrize("kind", NEEDLE_KINDS)
def test_the_oracle_finds_all_needles(kind: str, haystack: str) -> None:
    env = gym.make("AtomMem-Needle-v0", store="numpy", kind=kind, haystack=haystack, length=8_000, chunk_tokens=2000)
    assert [record.em for record in play(env, make_agent("oracle"), 3)] == [1.0, 1.0, 1.0]
    env.close()


def test_a_grid_of_an_evaluation_gives_a_heat_map(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib; run pip install 'atommem-gym[plots]'")
    from atommem_gym.cli import main

    words = "eval Needle --grid depth=0,1 length=1000,3000 --agent oracle --episodes 1 --set haystack=noise store=numpy"
    assert main([*words.split(), "-o", str(tmp_path)]) == 0
    assert (tmp_path / "grid-AtomMem-Needle-v0.png").is_file()
    assert "Needle depth=1 length=3000" in (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "grid-AtomMem-Needle-v0.png" in (tmp_path / "report.md").read_text(encoding="utf-8")


def test_grids_are_found_by_what_differs() -> None:
    def envs(grid: dict[str, list[object]], **settings: object) -> list[EnvPlan]:
        return [EnvPlan(**env) for env in expand([{"id": "Needle", "settings": settings}], grid)]

    (found,) = find_grids(envs({"length": [4000, 1000], "depth": [0, 0.5, 1]}, haystack="noise"))
    assert (found.x, found.y, found.xs, found.ys) == ("length", "depth", [1000.0, 4000.0], [0.0, 0.5, 1.0])
    assert found.labels[1000.0, 0.5] == "Needle length=1000 depth=0.5"
    assert find_grids(envs({"depth": [0, 1]})) == []
    assert find_grids(envs({"depth": [0, 1], "kind": ["single", "multi_key"]})) == []
    assert find_grids(envs({"length": [4000, 1000], "depth": [0, 1]})[:3]) == [], "one cell is missing"
    with pytest.raises(ConfigError, match=r"--grid depth and depth=0\.5 contradict"):
        envs({"depth": [0, 1]}, depth=0.5)
