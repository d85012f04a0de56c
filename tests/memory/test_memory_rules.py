"""SPEC M, rule by rule, on hand-made episodes."""

from __future__ import annotations

import pytest
from support.game import DOCUMENTS, QUESTIONS, Game

from atommem_gym.config import EnvConfig
from atommem_gym.envs.backend import Backend
from atommem_gym.errors import ConfigError, StoreError


def test_M1_ids_count_from_one_and_are_never_used_again() -> None:
    game = Game(chunks=4)
    game.step("<create>a</create><create>b</create>")
    game.step('<delete id="2"/><create>c</create>')
    game.step('<delete id="3"/><delete id="1"/>')
    game.step("<create>d</create>")
    assert game.entries == {4: "d"}


def test_M1_an_entry_deleted_in_its_own_action_uses_its_id_up() -> None:
    game = Game(chunks=4)
    game.step('<create>a</create><delete id="1"/><create>b</create>')
    assert game.entries == {2: "b"}


def test_M2_operations_run_in_order_and_a_rejected_one_stops_nothing() -> None:
    game = Game(chunks=4)
    game.step('<create>a</create><update id="9">x</update><update id="1">b</update><delete id="7"/><create>c</create>')
    assert game.entries == {1: "b", 2: "c"}
    assert game.reasons == [("update", 2, "unknown_id"), ("delete", 4, "unknown_id")]
    assert game.result.info["applied"]["create"] == 2
    assert game.result.info["applied"]["update"] == 1
    assert game.result.info["applied"]["delete"] == 0


def test_M3_identical_texts_may_exist_twice() -> None:
    game = Game(chunks=4)
    game.step("<create>bees</create><create>bees</create><read>bees</read>")
    assert game.entries == {1: "bees", 2: "bees"}
    assert game.shown == [1, 2]


def test_M4_read_is_visible_one_step_later() -> None:
    game = Game(chunks=4)
    game.step("<create>Ada keeps bees</create>")
    assert game.shown == []
    assert game.seen["query"] == ""
    game.step("<read>bees</read>")
    assert game.shown == [1]
    assert game.seen["query"] == "bees"
    game.step("")
    assert game.shown == []
    assert game.seen["query"] == ""


def test_M5_a_read_sees_all_writes_of_its_step_also_those_written_after_it() -> None:
    game = Game(chunks=4)
    game.step("<create>bees one</create><create>bees two</create>")
    game.step('<read>bees</read><create>bees three</create><delete id="1"/><update id="2">bees four</update>')
    assert [(m["id"], m["text"]) for m in game.seen["memories"]] == [(2, "bees four"), (3, "bees three")] or [
        (m["id"], m["text"]) for m in game.seen["memories"]
    ] == [(3, "bees three"), (2, "bees four")]


def test_M6_a_read_shows_the_top_k_best_first_and_ties_by_id() -> None:
    game = Game(chunks=4, top_k=3)
    game.step("".join(f"<create>{text}</create>" for text in ("boats", "honey bees", "boats", "honey", "boats")))
    game.step("<read>honey bees</read>")
    assert game.shown[:2] == [2, 4]
    assert len(game.shown) == 3
    scores = [float(m["score"]) for m in game.seen["memories"]]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] == 1.0
    game.step("<read>boats</read>")
    assert game.shown == [1, 3, 5]


def test_M6_all_entries_are_shown_if_fewer_than_top_k_exist() -> None:
    game = Game(chunks=4, top_k=6)
    game.step("<create>a</create><create>b</create><read>zzz</read>")
    assert sorted(game.shown) == [1, 2]


def test_M7_the_last_of_several_reads_wins() -> None:
    game = Game(chunks=4, top_k=1)
    game.step("<create>bees</create><create>boats</create><read>bees</read><read>boats</read>")
    assert game.shown == [2]
    assert game.result.info["applied"]["read"] == 2


def test_M7_a_sticky_query_is_evaluated_again_at_every_step_until_it_is_replaced() -> None:
    game = Game(chunks=4, top_k=1, sticky_query=True)
    game.step("<create>bees</create><read>honey bees</read>")
    game.step("<create>honey bees</create>")
    assert game.shown == [2]
    assert game.seen["query"] == "honey bees"
    game.step("<create>boats</create><read>boats</read>")
    assert game.shown == [3]
    game.step("")
    assert game.shown == [3]


def test_M8_update_keeps_the_id_and_replaces_text_and_embedding() -> None:
    game = Game(chunks=4, top_k=1)
    game.step("<create>bees</create><create>boats</create>")
    game.step('<update id="2">bees and honey</update><read>bees and honey</read>')
    assert game.entries == {1: "bees", 2: "bees and honey"}
    assert game.shown == [2]


def test_M8_with_addressing_visible_only_shown_entries_can_be_named() -> None:
    game = Game(chunks=4, addressing="visible", top_k=1)
    game.step("<create>bees</create><create>boats</create><read>boats</read>")
    game.step('<update id="1">x</update><delete id="2"/><delete id="5"/>')
    assert game.reasons == [("update", 1, "not_visible"), ("delete", 3, "unknown_id")]
    assert game.entries == {1: "bees"}


def test_M9_the_scratchpad_is_replaced_whole_and_always_visible() -> None:
    game = Game(chunks=4)
    game.step("<scratchpad>one</scratchpad>")
    assert game.seen["scratchpad"] == "one"
    game.step("<scratchpad>two</scratchpad>")
    game.step("")
    assert game.seen["scratchpad"] == "two"


def test_M10_texts_over_their_limit_are_cut_and_reported() -> None:
    game = Game(chunks=4, max_entry_tokens=3, max_scratchpad_tokens=2)
    game.step("<create>one two three four five</create><scratchpad>a b c</scratchpad>")
    assert game.entries == {1: "one two three"}
    assert game.seen["scratchpad"] == "a b"
    assert game.reasons == [("create", 1, "cut"), ("scratchpad", 2, "cut")]
    assert "created 1" in game.seen["feedback"]
    assert game.result.info["applied"]["create"] == 1
    game.step('<update id="1">nine eight seven six</update>')
    assert game.entries == {1: "nine eight seven"}
    assert game.reasons == [("update", 1, "cut")]


def test_M10_a_text_of_many_bytes_is_cut_in_every_store_alike() -> None:
    game = Game(chunks=4, max_entry_tokens=200_000, max_memory_tokens=200_000, max_action_chars=10**6)
    game.step(f"<create>{'é' * 60_000}</create>")
    assert len(game.entries[1].encode()) == 65_534
    assert game.reasons == [("create", 1, "cut")]


def test_M10_a_create_over_max_entries_is_rejected() -> None:
    game = Game(chunks=4, max_entries=2)
    game.step('<create>a</create><create>b</create><create>c</create><delete id="1"/><create>d</create>')
    assert game.entries == {2: "b", 3: "d"}
    assert game.reasons == [("create", 3, "memory_full")]


def test_M10_a_read_drops_whole_entries_from_its_end() -> None:
    game = Game(chunks=4, max_entry_tokens=4, max_memory_tokens=9)
    game.step("<create>bees a b c</create><create>bees d e f</create><create>bees g h i</create><read>bees</read>")
    assert len(game.shown) == 2
    assert all(len(m["text"].split()) == 4 for m in game.seen["memories"])


def test_M10_an_entry_limit_above_the_read_limit_raises() -> None:
    with pytest.raises(ConfigError, match="max_entry_tokens=5000 contradicts max_memory_tokens=4096"):
        EnvConfig.from_keywords({"max_entry_tokens": 5000})


def test_M11_feedback_has_one_line_for_each_rejection_and_each_create() -> None:
    game = Game(chunks=4)
    game.step('<create>a</create><create></create><delete id="4"/><creat>x</creat><update>t</update><create>open')
    lines = game.seen["feedback"].split("\n")
    assert lines[0] == "created 1"
    assert [line.split(":")[0] for line in lines[1:]] == [
        "operation 2 (create) rejected",
        "operation 3 (delete) rejected",
        "operation 4 (create) rejected",
        "operation 5 (update) rejected",
        "operation 6 (create) rejected",
    ]
    assert [reason for _, _, reason in game.reasons] == ["empty", "unknown_id", "unknown_tag", "bad_id", "unclosed"]
    game.step("")
    assert game.seen["feedback"] == ""
    assert game.reasons == []


@pytest.mark.parametrize("removed", ["create", "read", "update", "delete"])
def test_M12_an_operation_that_is_switched_off_is_rejected_and_nothing_else_changes(removed: str) -> None:
    kept = [name for name in ("create", "read", "update", "delete") if name != removed]
    game = Game(chunks=4, operations=kept)
    action = (
        '<create>bees</create><read>bees</read><update id="1">boats</update><delete id="1"/><scratchpad>s</scratchpad>'
    )
    game.step(action)
    assert [(kind, reason) for kind, _, reason in game.reasons if reason == "disabled"] == [(removed, "disabled")]
    assert removed not in game.result.info["applied"]
    assert game.seen["scratchpad"] == "s"


def test_M12_without_scratchpad_or_storage() -> None:
    game = Game(chunks=4, scratchpad=False)
    game.step("<scratchpad>x</scratchpad><create>a</create>")
    assert game.reasons == [("scratchpad", 1, "disabled")]
    assert game.seen["scratchpad"] == ""
    game = Game(chunks=4, storage=False)
    game.step("<create>a</create><read>a</read><scratchpad>x</scratchpad>")
    assert game.reasons == [("create", 1, "disabled"), ("read", 2, "disabled")]
    assert game.seen["scratchpad"] == "x"
    assert game.backend.store is None


def test_M13_two_episodes_over_one_store_never_see_each_other() -> None:
    backend = Backend(EnvConfig.from_keywords({"store": "milvus", "chunk_tokens": 15}))
    try:
        from atommem_gym.records.record import Item

        item = Item("game/0", 0, 0, QUESTIONS[:1], DOCUMENTS)
        one, two = backend.new_episode(item), backend.new_episode(item)
        for running in (one, two):
            backend.run([(running, running.episode.open())])
        backend.run([(one, one.episode.begin("<create>bees</create>"))])
        backend.run([(two, two.episode.begin("<create>bees</create><create>boats</create>"))])
        backend.run([(one, one.episode.begin('<delete id="1"/>'))])
        seen = backend.run([(two, two.episode.begin("<read>bees</read>"))])[0].observation
        assert [m["id"] for m in seen["memories"]] == [1, 2]
        assert one.episode.state.memory.entries == {}
    finally:
        backend.close()


class _FailingStore:
    """Wraps a store so that the next write or search fails."""

    def __init__(self, store: object) -> None:
        self.store = store
        self.fail = ""

    def __getattr__(self, name: str) -> object:
        if name == self.fail:
            raise StoreError(f"{name} failed on purpose")
        return getattr(self.store, name)


@pytest.mark.parametrize("where", ["write", "candidates"])
def test_a_step_whose_store_fails_changes_nothing_and_can_be_repeated(where: str) -> None:
    game, untouched = Game(chunks=4), Game(chunks=4)
    failing = _FailingStore(game.backend.store)
    game.backend.store = failing  # type: ignore[assignment]
    action = '<create>bees</create><create>boats</create><delete id="1"/><read>boats</read><scratchpad>s</scratchpad>'
    failing.fail = where
    with pytest.raises(StoreError, match="on purpose"):
        game.step(action)
    assert game.entries == {}
    assert game.episode.state.steps == 0
    failing.fail = ""
    assert repr(game.step(action)) == repr(untouched.step(action))
    assert repr(game.step("<read>bees</read>")) == repr(untouched.step("<read>bees</read>"))
