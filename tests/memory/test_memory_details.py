"""SPEC M, the small print: drafts, kept states, the matrix behind a read and the store without a database."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from atommem_gym.errors import EmbedderError, StoreError
from atommem_gym.memory.memory import Draft, Entry, Limits, Memory, Outcome
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, Rows, Search, Vectors, Write
from atommem_gym.memory.ranking import margin, rank
from atommem_gym.stores.mirror import Allocator, EpisodeMatrix, Mirror
from atommem_gym.stores.numpy_store import NumpyStore
from atommem_gym.stores.write_checks import check_vectors
from atommem_gym.tokenizers import load_tokenizer

WORDS = load_tokenizer("words")


def draft_of(memory: Memory, entries: int | None = None, tokens: int = 512) -> Draft:
    return Draft(memory, Limits(tokens, tokens, entries), WORDS)


def memory_of(*texts: str) -> Memory:
    return Memory({i: Entry(text, WORDS.count(text)) for i, text in enumerate(texts, 1)}, len(texts) + 1)


def gaussian(seed: int, *shape: int) -> Vectors:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def matrix_of(vectors: Vectors, ids: Sequence[int] | None = None) -> EpisodeMatrix:
    matrix = EpisodeMatrix(Allocator(vectors.shape[1]))
    matrix.put(ids or range(1, len(vectors) + 1), vectors, check_vectors(vectors, *vectors.shape))
    return matrix


# -- drafts


def test_M1_M2_a_draft_counts_finds_and_lists_what_its_commit_will_leave() -> None:
    memory = memory_of("a", "b", "c")
    draft = draft_of(memory)
    assert len(draft) == 3
    assert draft.create("b") == Outcome(True, 4)
    assert draft.create("d") == Outcome(True, 5)
    assert draft.update(1, "e") == Outcome(True, 1)
    assert draft.delete(2) == Outcome(True, 2)
    assert draft.delete(4) == Outcome(True, 4)
    assert draft.delete(1) == Outcome(True, 1)
    assert len(draft) == 2
    assert draft.writes == {5: Entry("d", 1)}
    assert draft.deletes == [1, 2]
    assert [draft.entry(i) for i in range(1, 7)] == [None, None, Entry("c", 1), None, Entry("d", 1), None]
    assert [draft.find(text) for text in "abcde"] == [None, None, 3, 5, None]
    assert memory == memory_of("a", "b", "c")
    draft.commit()
    assert memory == Memory({3: Entry("c", 1), 5: Entry("d", 1)}, next_id=6)


def test_M8_of_equal_texts_the_lowest_live_id_is_found() -> None:
    draft = draft_of(memory_of("x", "y", "x"))
    draft.create("y")
    assert (draft.find("x"), draft.find("y"), draft.find("z")) == (1, 2, None)
    draft.update(2, "z")
    draft.delete(1)
    assert (draft.find("x"), draft.find("y"), draft.find("z")) == (3, 4, 2)


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_M8_an_unknown_id_is_rejected_with_its_number(operation: str) -> None:
    draft = draft_of(memory_of("a"))
    draft.delete(1)
    for entry_id in (1, 2):
        outcome = draft.update(entry_id, "x") if operation == "update" else draft.delete(entry_id)
        assert outcome == Outcome(False, None, "unknown_id", f"there is no entry {entry_id}")
    assert (draft.writes, draft.deletes) == ({}, [1])


def test_M10_a_create_into_full_memory_is_rejected_with_the_limit() -> None:
    draft = draft_of(memory_of("a"), entries=2)
    assert draft.create("b").applied
    assert draft.create("c") == Outcome(False, None, "memory_full", "memory holds its limit of 2 entries")
    assert draft.update(2, "d").applied
    assert draft.delete(1).applied
    assert draft.create("e") == Outcome(True, 3)


def test_M10_a_cut_names_the_rule_and_what_is_gone() -> None:
    draft = draft_of(memory_of("a"), tokens=2)
    detail = "a text may have 2 tokens; the last 6 of its 13 characters are gone"
    assert draft.create("one two three") == Outcome(True, 2, "cut", detail)
    assert draft.update(1, "one two three") == Outcome(True, 1, "cut", detail)
    assert draft.writes == {1: Entry("one two", 2), 2: Entry("one two", 2)}
    assert draft.write_scratchpad("one two three") == Outcome(True, None, "cut", detail)
    assert draft.scratchpad == "one two"
    assert draft.create("one two") == Outcome(True, 3)
    assert draft.write_scratchpad("four") == Outcome(True)


def test_M10_only_what_is_over_a_limit_goes_and_only_from_the_end() -> None:
    draft = draft_of(Memory(), tokens=2)
    draft.create("\n one  two three")
    assert draft.writes == {1: Entry("\n one  two", 2)}
    draft = draft_of(Memory(), tokens=8192)
    outcome = draft.create("x" * MAX_TEXT_BYTES + " over")
    assert draft.writes[1].text == "x" * MAX_TEXT_BYTES
    assert outcome.detail == "a text may have 8192 tokens; the last 5 of its 65540 characters are gone"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * MAX_TEXT_BYTES, "x" * MAX_TEXT_BYTES),
        ("x" * (MAX_TEXT_BYTES + 1), "x" * MAX_TEXT_BYTES),
        ("é" * 32_767 + "é", "é" * 32_767),
        ("x" * (MAX_TEXT_BYTES - 1) + "  x", "x" * (MAX_TEXT_BYTES - 1)),
    ],
    ids=["at the limit", "one over", "within a character", "at white space"],
)
def test_M10_a_text_may_have_65535_bytes(text: str, kept: str) -> None:
    draft = draft_of(Memory(), tokens=10**6)
    outcome = draft.create(text)
    assert draft.writes[1] == Entry(kept, WORDS.count(kept))
    gone = f"a text may have 65535 bytes; the last {len(text) - len(kept)} of its {len(text)} characters are gone"
    assert outcome == (Outcome(True, 1) if text == kept else Outcome(True, 1, "cut", gone))


@pytest.mark.parametrize(
    ("act", "changes"),
    [
        (lambda draft: draft.create("b"), True),
        (lambda draft: draft.write_scratchpad("s"), True),
        (lambda draft: draft.write_scratchpad(""), False),
        (lambda draft: draft.update(1, "b"), False),
        (lambda draft: draft.delete(1), False),
    ],
    ids=["create", "scratchpad", "same scratchpad", "update", "delete"],
)
def test_M13_only_a_next_id_or_a_scratchpad_changes_the_kept_state(
    act: Callable[[Draft], Outcome], changes: bool
) -> None:
    memory = memory_of("a")
    draft = draft_of(memory)
    assert act(draft).applied
    assert draft.changes_kept_state is changes
    assert draft.committed().entries == {}
    before, announced = memory.kept_state("e"), draft.committed().kept_state("e")
    draft.commit()
    assert memory.kept_state("e") == announced
    assert (announced != before) is changes


# -- kept memories


def test_M13_a_kept_memory_goes_on_with_its_ids_its_next_id_and_its_scratchpad() -> None:
    memory = Memory({7: Entry("b", 1), 3: Entry("a b c", 3)}, 9, "note")
    state = memory.kept_state("hashing")
    assert json.loads(state) == {"next_id": 9, "scratchpad": "note", "embedder": "hashing"}
    found = Memory.from_kept("k", [7, 3], ["b", "a b c"], state, "hashing", WORDS)
    assert found == memory
    assert list(found.entries) == [3, 7]
    draft = draft_of(found)
    assert draft.scratchpad == "note"
    assert draft.create("c").id == 9


def test_M13_another_embedder_than_the_one_it_was_written_with_is_an_error() -> None:
    state = Memory().kept_state("hashing")
    with pytest.raises(StoreError) as caught:
        Memory.from_kept("k", [], [], state, "minilm", WORDS)
    assert str(caught.value) == (
        "the memory 'k' was written with embedder 'hashing', this environment uses 'minilm': "
        "their vectors cannot be compared; make the environment with embedder 'hashing'"
    )


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        '{"scratchpad": "", "embedder": "hashing"}',
        '{"next_id": 1, "embedder": "hashing"}',
        '{"next_id": 1, "scratchpad": ""}',
        '{"next_id": "one", "scratchpad": "", "embedder": "hashing"}',
        '{"next_id": null, "scratchpad": "", "embedder": "hashing"}',
    ],
)
def test_M13_an_unreadable_state_is_an_error_that_names_the_memory(state: str | None) -> None:
    with pytest.raises(StoreError, match=r"^the memory 'k' has no readable state \(.+\); it was not written by a kept"):
        Memory.from_kept("k", [], [], state, "hashing", WORDS)


def test_M13_every_kept_id_needs_its_text() -> None:
    with pytest.raises(ValueError, match="zip"):
        Memory.from_kept("k", [1, 2], ["a"], Memory().kept_state("hashing"), "hashing", WORDS)


# -- ranking


def test_M6_the_margin_grows_with_the_roundings_of_a_product() -> None:
    assert margin(0) == 32 * 2.0**-24
    assert margin(1024) == (2 * 1024 + 32) * 2.0**-24


def test_M6_all_entries_are_ranked_in_float64() -> None:
    tiny = np.float32(1e-30)
    vectors = np.array([[tiny, 0], [0, tiny], [tiny, tiny]], np.float32)
    ids, scores = rank(np.array([tiny, 0], np.float32), Rows(np.array([1, 2, 3]), vectors), 3)
    assert ids == [1, 3, 2]
    assert scores == [1.0, pytest.approx(1 / math.sqrt(2), abs=1e-15), 0.0]


def test_M6_a_score_never_exceeds_one_however_its_sums_round() -> None:
    for x, y, factor in [(1, 8, 7), (2, 17, 5), (46, 7, 11)]:
        short = np.array([x, y], np.float32) * np.float32(0.1)
        long = np.array([x * factor, y * factor], np.float32) * np.float32(0.1)
        found = Rows(np.array([1, 2]), np.stack([long, -long]))
        assert rank(short, found, 2) == ([1, 2], [1.0, -1.0])


def test_M6_nothing_is_ranked_for_no_or_fewer_places() -> None:
    found = Rows(np.array([1]), np.ones((1, 2), np.float32))
    for k in (0, -1):
        assert rank(np.ones(2, np.float32), found, k) == ([], [])
    assert rank(np.full(2, np.nan, np.float32), found, 0) == ([], [])


def test_a_query_that_is_not_finite_is_refused_with_a_remedy() -> None:
    with pytest.raises(EmbedderError) as caught:
        rank(np.array([math.nan, 1], np.float32), Rows(np.array([1]), np.ones((1, 2), np.float32)), 1)
    assert str(caught.value) == (
        "the vector of a query holds NaN or infinity; similarity needs finite numbers: check the embedder's output"
    )


# -- the matrix


@pytest.mark.parametrize("n", [1, 15, 16, 17, 32, 33, 100])
def test_M6_a_matrix_keeps_every_row_while_it_grows(n: int) -> None:
    vectors = gaussian(n, n, 3)
    matrix = EpisodeMatrix(Allocator(3))
    for i in range(n):
        matrix.put([i + 5], vectors[i : i + 1], check_vectors(vectors[i : i + 1], 1, 3))
        assert len(matrix) == i + 1
    found = matrix.sorted_rows()
    assert found.ids.tolist() == list(range(5, n + 5))
    assert np.array_equal(found.vectors, vectors)
    assert [found.ids.dtype.name, found.vectors.dtype.name] == ["int64", "float32"]
    for query, own in zip(vectors, range(5, n + 5), strict=True):
        assert rank(query, matrix.candidates(query, 1), 1)[0] == [own]


def test_M6_of_many_rows_only_those_near_the_cut_are_proposed() -> None:
    vectors = np.eye(40, dtype=np.float32) + np.float32(0.01)
    matrix = matrix_of(vectors)
    assert matrix.candidates(vectors[7], 1).ids.tolist() == [8]
    assert matrix.candidates(vectors[7] * np.float32(1e-6), 1).ids.tolist() == [8]
    assert len(matrix.candidates(vectors[7], 2).ids) == 40


@pytest.mark.parametrize(("n", "k", "proposed"), [(12, 1, 12), (13, 1, 1), (20, 19, 19), (20, 20, 20), (20, 25, 20)])
def test_M6_all_rows_are_proposed_where_they_are_few_or_wanted(n: int, k: int, proposed: int) -> None:
    angles = np.linspace(0.0, 1.5, n)
    matrix = matrix_of(np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32))
    found = matrix.candidates(np.array([1, 0], np.float32), k)
    assert sorted(found.ids.tolist()) == list(range(1, proposed + 1))
    assert len(found.vectors) == proposed


def test_M6_a_row_within_rounding_of_the_cut_is_proposed_and_one_beyond_is_not() -> None:
    dim, n = 2, 20
    slack = 2 * margin(dim)
    below = np.array([0.0] * 2 + [0.8] + [1.2] * 17) * slack
    sines = np.sqrt(1 - (1 - below) ** 2)
    vectors = np.stack([np.sqrt(1 - sines**2), sines], axis=1).astype(np.float32)
    found = matrix_of(vectors).candidates(np.array([1, 0], np.float32), 2)
    assert len(vectors) == n
    assert sorted(found.ids.tolist()) == [1, 2, 3]


def test_M6_a_row_at_the_very_cut_is_proposed() -> None:
    lowest = 1 - 2 * margin(2)
    vectors = np.array([[1, 0]] * 2 + [[lowest, 0]] + [[lowest - 2.0**-24, 0]] * 17, np.float32)
    matrix = EpisodeMatrix(Allocator(2))
    matrix.put(range(1, 21), vectors, [1.0] * 20)
    assert sorted(matrix.candidates(np.array([1, 0], np.float32), 2).ids.tolist()) == [1, 2, 3]


def test_M6_long_and_short_vectors_of_one_direction_are_equally_near() -> None:
    lengths = np.array([1e-6, 1.0, 1e6] * 7, np.float32)
    vectors = np.stack([lengths, lengths], axis=1)
    vectors[::3, 1] *= -1
    found = matrix_of(vectors).candidates(np.array([5, 5], np.float32), 3)
    assert sorted(found.ids.tolist()) == [i for i in range(1, 22) if i % 3 != 1]


def test_M6_a_zero_vector_scores_zero_wherever_it_is() -> None:
    vectors = np.tile(np.array([[-1.0, 0.0]], np.float32), (20, 1))
    vectors[4] = 0.0
    matrix = matrix_of(vectors)
    assert matrix.candidates(np.array([1, 0], np.float32), 1).ids.tolist() == [5]
    with np.errstate(all="raise"):
        assert len(matrix.candidates(np.zeros(2, np.float32), 1).ids) == 20
    matrix.put([5], np.array([[1.0, 0.0]], np.float32), [1.0])
    matrix.put([6], np.zeros((1, 2), np.float32), [0.0])
    assert matrix.candidates(np.array([1, 0], np.float32), 1).ids.tolist() == [5]
    assert sorted(matrix.candidates(np.array([-1, 0], np.float32), 18).ids.tolist()) == [
        i for i in range(1, 21) if i not in (5, 6)
    ]


def test_M6_a_query_that_is_not_finite_proposes_every_row_so_that_ranking_complains() -> None:
    matrix = matrix_of(gaussian(0, 30, 2))
    assert len(matrix.candidates(np.array([math.nan, 1], np.float32), 1).ids) == 30


def test_M6_nothing_is_proposed_for_no_places_among_many() -> None:
    found = matrix_of(gaussian(0, 30, 2)).candidates(gaussian(1, 2), 0)
    assert found.ids.tolist() == []
    assert found.vectors.shape == (0, 2)


def test_M8_a_removed_row_takes_its_length_along() -> None:
    vectors = np.tile(np.array([[0.0, 1.0]], np.float32), (20, 1))
    vectors[0], vectors[19] = [0.0, 50.0], [3.0, 0.0]
    matrix = matrix_of(vectors)
    matrix.remove([1])
    assert sorted(matrix.ids) == list(range(2, 21))
    assert len(matrix) == 19
    found = matrix.candidates(np.array([1, 0], np.float32), 1)
    assert found.ids.tolist() == [20]
    assert found.vectors.tolist() == [[3.0, 0.0]]
    assert sorted(matrix.candidates(np.array([0, 1], np.float32), 18).ids.tolist()) == list(range(2, 20))
    matrix.remove([20, 20, 77, 2])
    assert len(matrix) == 17
    matrix.put([20], np.array([[0.0, -1.0]], np.float32), [1.0])
    assert matrix.sorted_rows().ids.tolist() == list(range(3, 21))


# -- the mirror and the store without a database


def test_M13_a_mirror_knows_its_episodes_and_nothing_of_others() -> None:
    mirror = Mirror(2)
    vectors = gaussian(0, 2, 2)
    mirror.apply(
        [Write("b", [4, 2], ["x", "y"], vectors), Write("a", deletes=[1]), Write("c")],
        [np.linalg.norm(vectors.astype(np.float64), axis=1), np.empty(0), np.empty(0)],
    )
    assert mirror.episodes() == ["b", "a", "c"]
    assert ("a" in mirror, "b" in mirror, "d" in mirror) == (True, True, False)
    assert (mirror.ids("b"), mirror.ids("a"), mirror.ids("d")) == ([4, 2], [], [])
    assert mirror.rows("b").ids.tolist() == [2, 4]
    assert np.array_equal(mirror.rows("b").vectors, vectors[::-1])
    for nothing in (mirror.rows("d"), mirror.rows("a"), *mirror.candidates([Search("d", vectors[0], 3)])):
        assert nothing.ids.shape == (0,)
        assert nothing.vectors.shape == (0, 2)
        assert [nothing.ids.dtype.name, nothing.vectors.dtype.name] == ["int64", "float32"]
    mirror.forget("b")
    mirror.forget("b")
    assert mirror.episodes() == ["a", "c"]


def test_M13_every_write_needs_its_lengths() -> None:
    with pytest.raises(ValueError, match="zip"):
        Mirror(2).apply([Write("a"), Write("b")], [[]])


def write(episode: str, *ids: int, deletes: Sequence[int] = (), state: str | None = None) -> Write:
    vectors = np.array([[i, 1] for i in ids], np.float32).reshape(len(ids), 2)
    return Write(episode, ids, [f"text {i}" for i in ids], vectors, deletes, state)


def test_M13_a_numpy_store_gives_back_what_was_written_under_a_key() -> None:
    store = NumpyStore(2)
    assert (store.name, store.dim, store.kept) == ("numpy", 2, False)
    assert store.load("a") is None
    store.write([write("a", 3, 1, state="{}"), write("b", 2)])
    store.write([write("a", 2, deletes=[3, 9])])
    found = store.load("a")
    assert found is not None
    assert (found.ids.tolist(), found.texts, found.state) == ([1, 2], ("text 1", "text 2"), "{}")
    assert found.vectors.tolist() == [[1, 1], [2, 1]]
    other = store.load("b")
    assert other is not None
    assert (other.ids.tolist(), other.texts, other.state) == ([2], ("text 2",), None)
    store.write([write("a", state="new")])
    again = store.load("a")
    assert again is not None
    assert again.state == "new"
    assert again.texts == found.texts


def test_M13_an_episode_is_there_while_it_holds_an_entry_or_a_state() -> None:
    store = NumpyStore(2)
    store.write([write("c", 1), write("b", 1, state="s"), write("a"), write("d", state="s")])
    assert store.episodes() == ["b", "c", "d"]
    store.write([write("c", deletes=[1]), write("b", deletes=[1])])
    assert store.episodes() == ["b", "d"]
    assert store.load("c") is None
    assert store.load("a") is None
    for key in ("b", "d"):
        stateful = store.load(key)
        assert stateful is not None
        assert (stateful.ids.tolist(), stateful.texts, stateful.state) == ([], (), "s")
        assert stateful.vectors.shape == (0, 2)
    store.write([write("c", 1)])
    store.drop(["b", "c", "never"])
    assert store.episodes() == ["d"]
    assert store.load("b") is None
    assert store.load("c") is None
    assert [len(rows.ids) for rows in store.candidates([Search("c", np.ones(2, np.float32), 3)])] == [0]


def test_M5_searches_are_answered_in_the_order_asked() -> None:
    store = NumpyStore(2)
    store.write([write("a", 1), write("b", 2)])
    asked = [Search(key, np.ones(2, np.float32), 3) for key in ("b", "none", "a")]
    assert [rows.ids.tolist() for rows in store.candidates(asked)] == [[2], [], [1]]


def test_M6_each_search_looks_for_its_own_vector_and_number_among_many() -> None:
    store = NumpyStore(40)
    vectors = np.eye(40, dtype=np.float32)
    store.write([Write("a", range(1, 41), ["x"] * 40, vectors)])
    asked = [Search("a", vectors[6], 1), Search("a", vectors[8], 1), Search("a", vectors[8], 40)]
    found = [rows.ids.tolist() for rows in store.candidates(asked)]
    assert found == [[7], [9], list(range(1, 41))]


def test_M13_released_episodes_are_forgotten_and_others_are_not() -> None:
    store = NumpyStore(2)
    store.write([write("a", 1, state="s"), write("b", 1), write("c", 1)])
    store.release(["a", "b", "never"])
    assert store.episodes() == ["c"]
    assert store.load("a") is None


def test_a_closed_numpy_store_refuses_everything_and_has_forgotten() -> None:
    store = NumpyStore(2)
    store.write([write("a", 1, state="s")])
    store.close()
    store.close()
    message = "^this numpy store is closed and its entries are gone; open a new one with open_store$"
    for call in (
        lambda: store.write([write("a", 1)]),
        lambda: store.candidates([]),
        lambda: store.load("a"),
        store.episodes,
        lambda: store.drop([]),
        lambda: store.release([]),
    ):
        with pytest.raises(StoreError, match=message):
            call()
