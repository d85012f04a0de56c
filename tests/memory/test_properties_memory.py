"""SPEC M1 to M12 as properties: for any actions, on every store."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import Databases, Play, best, databases, milvus_server  # noqa: F401

from atommem_gym.actions import (
    KINDS,
    STORAGE_KINDS,
    Create,
    Delete,
    Kind,
    Operation,
    Read,
    Scratchpad,
    Update,
    format_action,
)
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.memory.protocols import Rows
from atommem_gym.memory.ranking import rank
from atommem_gym.step import REASONS
from atommem_gym.testing import budget, operations, texts
from atommem_gym.tokenizers import load_tokenizer

WRITES: tuple[Kind, ...] = ("create", "update", "delete", "scratchpad")
BEFORE = (Create("river"), Create("bees"), Create("Ada"), Create("bees"))
"""What memory holds already, so that operations meet old entries as well as new ones."""
writes = st.lists(operations(kinds=WRITES, max_id=6), max_size=8)
actions = st.lists(st.lists(operations(kinds=(*WRITES, "read")), max_size=5), min_size=1, max_size=6)
words = load_tokenizer("words")


def created(play: Play) -> list[int]:
    """The ids that the feedback confirms."""
    return [int(line.split()[1]) for line in play.seen["feedback"].split("\n") if line.startswith("created ")]


@given(st.lists(st.lists(st.just(Create("x")) | st.builds(Delete, st.integers(1, 5)), max_size=8), max_size=4))
@budget(60)
def test_M1_ids_count_from_one_and_are_never_used_again(databases: Databases, played: list[list[Operation]]) -> None:  # noqa: F811
    with Play(databases.backend()) as play:
        confirmed: list[int] = []
        for action in played:
            play.do(*action)
            confirmed += created(play)
            assert set(play.entries) <= set(confirmed)
        assert confirmed == list(range(1, len(confirmed) + 1))


@given(writes, st.lists(st.tuples(st.integers(0, 6), st.sampled_from([Delete(99), Update(99, "x")])), max_size=4))
@budget(60)
def test_M2_a_rejected_operation_changes_nothing_and_stops_nothing(
    databases: Databases,  # noqa: F811
    good: list[Operation],
    bad: list[tuple[int, Operation]],
) -> None:
    mixed: list[Operation] = list(good)
    for place, op in bad:
        mixed.insert(min(place, len(mixed)), op)
    with Play(databases.backend()) as clean, Play(databases.backend()) as disturbed:
        for play in (clean, disturbed):
            play.do(*BEFORE)
        clean.do(*good)
        disturbed.do(*mixed)
        assert disturbed.entries == clean.entries
        assert disturbed.seen["scratchpad"] == clean.seen["scratchpad"]
        assert disturbed.result.info["applied"] == clean.result.info["applied"]
        places = {position for _, position, _ in disturbed.reasons}
        assert places >= {i for i, op in enumerate(mixed, 1) if getattr(op, "id", 0) == 99}


@given(writes)
@budget(60)
def test_M2_one_action_does_what_its_operations_do_one_by_one(databases: Databases, ops: list[Operation]) -> None:  # noqa: F811
    with Play(databases.backend()) as at_once, Play(databases.backend(chunk_tokens=5)) as in_turn:
        for play in (at_once, in_turn):
            play.do(*BEFORE)
        at_once.do(*ops)
        for op in ops:
            in_turn.do(op)
        assert at_once.entries == in_turn.entries
        assert at_once.seen["scratchpad"] == in_turn.seen["scratchpad"]
        assert at_once.episode.state.memory.next_id == in_turn.episode.state.memory.next_id


@given(st.lists(st.sampled_from(["bees", "boats"]), max_size=8))
@budget(30)
def test_M3_identical_texts_are_entries_of_their_own(databases: Databases, stored: list[str]) -> None:  # noqa: F811
    with Play(databases.backend()) as play:
        play.do(*map(Create, stored))
        assert list(play.entries.values()) == stored


@given(actions)
@budget(10)
def test_M4_M5_M6_M7_an_observation_shows_what_the_last_read_of_its_own_step_finds_after_all_writes(
    databases: Databases,  # noqa: F811
    played: list[list[Operation]],
) -> None:
    with Play(databases.backend(top_k=3)) as play:
        assert play.shown == []
        for action in played:
            play.do(*action)
            queries = [op.query for op in action if isinstance(op, Read)]
            assert play.seen["query"] == (queries[-1] if queries else "")
            assert play.shown == (play.best(queries[-1]) if queries else [])
            assert all(memory["text"] == play.entries[memory["id"]] for memory in play.seen["memories"])


@given(actions)
@budget(10)
def test_M7_a_sticky_query_is_evaluated_again_at_every_step(
    databases: Databases,  # noqa: F811
    played: list[list[Operation]],
) -> None:
    standing = ""
    with Play(databases.backend(top_k=3, sticky_query=True)) as play:
        for action in played:
            play.do(*action)
            standing = next((op.query for op in reversed(action) if isinstance(op, Read)), standing)
            assert play.seen["query"] == standing
            assert play.shown == (play.best(standing) if standing else [])


@given(
    st.lists(st.sampled_from(["bees", "bees bees", "boats", "Bees", "bees boats"]), min_size=8, max_size=40),
    st.sets(st.integers(1, 40), max_size=20),
    st.integers(1, 7),
)
@budget(10)
def test_M6_ties_at_the_cut_go_to_the_lower_ids(
    databases: Databases,  # noqa: F811
    stored: list[str],
    deleted: set[int],
    k: int,
) -> None:
    with Play(databases.backend(top_k=k)) as play:
        play.do(*map(Create, stored))
        # Deletes move rows about in a store, and an update writes one again: neither may change the order.
        play.do(*map(Delete, sorted(deleted)))
        lowest = min(play.entries, default=1)
        play.do(Update(lowest, play.entries.get(lowest, "x")), Read("bees"))
        assert play.shown == play.best("bees")


_small = st.integers(-3, 3)


@given(
    st.lists(st.lists(_small, min_size=3, max_size=3), min_size=1, max_size=12),
    st.lists(_small, min_size=3, max_size=3),
    st.integers(1, 12),
    st.randoms(use_true_random=False),
)
def test_M6_ranking_depends_on_nothing_but_ids_and_vectors(
    rows: list[list[int]], query: list[int], k: int, random: Any
) -> None:
    import numpy as np

    ids = list(range(1, len(rows) + 1))
    shuffled = random.sample(ids, len(ids))
    wanted = np.array(query, np.float32)

    def ranked(order: Sequence[int]) -> tuple[list[int], list[float]]:
        vectors = np.array([rows[i - 1] for i in order], np.float32)
        return rank(wanted, Rows(np.array(order, np.int64), vectors), k)

    assert ranked(shuffled) == ranked(ids)
    found, scores = ranked(ids)
    assert found == [i for _, i in sorted(zip([-s for s in ranked_all(rows, query)], ids, strict=True))][:k]
    assert scores == sorted(scores, reverse=True)


def ranked_all(rows: list[list[int]], query: list[int]) -> list[float]:
    """Cosines of small integers, so that nothing but the last division rounds."""
    import math

    scores = []
    for row in rows:
        squares = sum(x * x for x in row) * sum(x * x for x in query)
        scores.append(sum(a * b for a, b in zip(row, query, strict=True)) / math.sqrt(squares) if squares else 0.0)
    return scores


@given(texts(), texts(), st.integers(1, 4))
@budget(10)
def test_M8_an_update_replaces_text_and_embedding_and_keeps_the_id(
    databases: Databases,  # noqa: F811
    old: str,
    new: str,
    number: int,
) -> None:
    with Play(databases.backend()) as play:
        play.do(Create("river"), Create(old), Create("honey"), Create("boats"))
        before = play.entries
        play.do(Update(number, new), Read(new))
        assert play.entries == {**before, number: new}
        assert list(play.entries) == [1, 2, 3, 4]
        assert play.shown == play.best(new)
        play.do(Delete(number), Read(new))
        assert number not in play.shown
        assert sorted(play.shown) == sorted({1, 2, 3, 4} - {number})


@given(actions)
@budget(40)
def test_M8_visible_addressing_reaches_only_what_the_observation_shows(
    databases: Databases,  # noqa: F811
    played: list[list[Operation]],
) -> None:
    with Play(databases.backend(addressing="visible", top_k=2)) as play:
        for action in played:
            visible, before = set(play.shown), play.entries
            play.do(*action)
            gone = {i for i in before if i not in play.entries}
            changed = {i for i in before if i in play.entries and play.entries[i] != before[i]}
            assert gone | changed <= visible
            named = {op.id for op in action if isinstance(op, (Update, Delete))} - visible
            reported = {r["detail"].split()[-1] for r in play.result.info["rejected"]}
            assert {str(i) for i in named} <= reported


@given(actions)
@budget(40)
def test_M9_the_scratchpad_is_the_last_text_written(databases: Databases, played: list[list[Operation]]) -> None:  # noqa: F811
    written = ""
    with Play(databases.backend()) as play:
        for action in played:
            written = next((op.text for op in reversed(action) if isinstance(op, Scratchpad)), written)
            play.do(*action)
            assert play.seen["scratchpad"] == written


@given(actions, st.integers(1, 4), st.integers(4, 9), st.integers(0, 3))
@budget(60)
def test_M10_no_limit_is_ever_exceeded_and_every_cut_is_reported(
    databases: Databases,  # noqa: F811
    played: list[list[Operation]],
    entry_tokens: int,
    memory_tokens: int,
    most: int,
) -> None:
    limits = {"max_entry_tokens": entry_tokens, "max_memory_tokens": memory_tokens, "max_entries": most}
    with Play(databases.backend(**limits, max_scratchpad_tokens=2)) as play:
        for action in played:
            play.do(*action)
            assert len(play.entries) <= most
            assert all(words.count(text) <= entry_tokens for text in play.entries.values())
            assert words.count(play.seen["scratchpad"]) <= 2
            shown = [memory["text"] for memory in play.seen["memories"]]
            assert sum(map(words.count, shown)) <= memory_tokens
            if play.seen["query"]:
                found = play.best(play.seen["query"])
                assert play.shown == found[: len(play.shown)]
                rest = found[len(play.shown) :]
                room = memory_tokens - sum(map(words.count, shown))
                assert not rest or words.count(play.entries[rest[0]]) > room
            for position, op in enumerate(action, 1):
                reasons = {reason for _, at, reason in play.reasons if at == position}
                if isinstance(op, (Create, Update)) and not reasons & {"memory_full", "unknown_id"}:
                    assert ("cut" in reasons) == (words.count(op.text) > entry_tokens)
                if isinstance(op, Scratchpad):
                    assert ("cut" in reasons) == (words.count(op.text) > 2)


@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
@given(data=st.data())
@budget(30)
def test_M11_every_rejection_has_one_line_one_record_and_a_known_reason(
    databases: Databases,  # noqa: F811
    dialect: str,
    data: st.DataObject,
) -> None:
    ops = operations(dialect)
    with Play(databases.backend(dialect=dialect, max_entries=2, max_entry_tokens=2)) as play:
        for _ in range(3):
            action = data.draw(st.lists(ops, max_size=6))
            play.do(*action)
            info = play.result.info
            creates = info["applied"]["create"]
            lines = play.seen["feedback"].split("\n") if play.seen["feedback"] else []
            assert len(lines) == len(info["rejected"]) + creates
            assert len(created(play)) == creates
            for record in info["rejected"]:
                assert record["reason"] in REASONS
                assert action[record["position"] - 1].kind == record["operation"]
            refused = sum(record["reason"] != "cut" for record in info["rejected"])
            assert sum(info["applied"].values()) + refused == len(action)


@given(actions, st.sets(st.sampled_from(STORAGE_KINDS)), st.booleans())
@budget(60)
def test_M12_an_ablation_does_what_leaving_the_operations_out_does(
    databases: Databases,  # noqa: F811
    played: list[list[Operation]],
    kept: set[Kind],
    scratchpad: bool,
) -> None:
    present = {*kept, "answer", *(["scratchpad"] if scratchpad else [])}
    rules = {"operations": [kind for kind in STORAGE_KINDS if kind in kept], "scratchpad": scratchpad}
    with Play(databases.backend(**rules)) as ablated, Play(databases.backend()) as whole:
        for action in played:
            ablated.do(*action)
            whole.do(*(op for op in action if op.kind in present))
            assert ablated.entries == whole.entries
            for name in ("scratchpad", "query", "memories"):
                assert ablated.seen[name] == whole.seen[name]
            disabled = [position for _, position, reason in ablated.reasons if reason == "disabled"]
            assert disabled == [i for i, op in enumerate(action, 1) if op.kind not in present]
            assert set(ablated.result.info["applied"]) == {kind for kind in KINDS if kind in present}


@given(actions)
@budget(30)
def test_M12_without_storage_only_the_scratchpad_is_left(
    databases: Databases,  # noqa: F811
    played: list[list[Operation]],
) -> None:
    with Play(databases.backend(storage=False)) as bare, Play(databases.backend(operations=[])) as ablated:
        for action in played:
            text = format_action(action)
            assert repr(bare.step(text)) == repr(ablated.step(text))
            assert bare.entries == {}


def test_M6_the_brute_force_of_these_tests_tells_orders_apart() -> None:
    """The yardstick itself: it must be able to say no."""
    entries = {1: "boats", 2: "bees", 3: "bees and honey", 4: "bees"}
    assert best(entries, "bees", 3) == [2, 4, 3]
    assert best({}, "bees", 3) == []
    assert HashingEmbedder().embed(["bees"], "document").any()
