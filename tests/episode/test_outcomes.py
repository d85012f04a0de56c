"""What became of each operation is decided once, in the episode; whatever tells of it says the same (SPEC M2, M11)."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.game import Game, released

from atommem_gym.actions import Create, Delete, Read, Update, parse
from atommem_gym.actions.dialects import format_action
from atommem_gym.testing import budget, hostile_texts, operations

RULES: list[dict[str, Any]] = [
    {},
    {"dialect": "tools", "addressing": "visible", "max_entries": 3},
    {"dialect": "released", "early_answer": True, "operations": ["create", "read", "delete"]},
    {"preset": "released", "max_entry_tokens": 2},
    {"preset": "released", "max_entries": 2, "early_answer": True},
]
rules = pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(map(str, rules.values())) or "default")


def few_texts(dialect: str) -> st.SearchStrategy[str]:
    """Actions whose texts and ids recur, so that operations hit the same entries, twins among them."""
    text, number = st.sampled_from(["one two", "one two three"]), st.integers(1, 2)
    kinds = st.builds(Create, text) | st.builds(Delete, number) | st.builds(Update, number, text)
    return st.lists(kinds, min_size=1, max_size=6).map(lambda ops: format_action(ops, dialect))


def any_texts(dialect: str) -> st.SearchStrategy[str]:
    """Well-formed actions and hostile ones."""
    mixed = st.lists(operations(dialect), max_size=4).map(lambda ops: format_action(ops, dialect))
    return few_texts(dialect) | mixed | hostile_texts()


def plays(rules: dict[str, Any], data: st.DataObject, actions: Any = any_texts) -> Any:
    """A game after each of some actions, with the action and the entries before it; entries are shown in between."""
    game = Game(questions=3, chunks=3, chunk_overlap=0, **rules)
    dialect = game.config.dialect
    for action in data.draw(st.lists(actions(dialect), min_size=2, max_size=5)):
        if game.episode.state.over:
            return
        before = game.entries
        game.step(action)
        yield game, action, before
        if game.entries and not game.episode.state.over:
            read = format_action([Read("one two")], dialect)
            before = game.entries
            game.step(read)
            yield game, read, before


@rules
@given(data=st.data())
@budget(25)
def test_M2_every_operation_has_one_outcome_at_its_place(rules: dict[str, Any], data: st.DataObject) -> None:
    for game, action, _ in plays(rules, data):
        outcomes = [one for one in game.episode.outcomes if one.position]
        assert [one.position for one in outcomes] == list(range(1, len(outcomes) + 1))
        if len(action) <= game.config.max_action_chars:
            parsed = parse(action, game.config.dialect)
            assert [one.kind for one in game.episode.outcomes] == [op.kind for op in parsed]
        for one in outcomes:
            assert one.applied or one.reports, "a rejected operation is reported"
            assert one.applied or one.entry_id is None
            assert one.became == ("rejected" if not one.applied else "cut" if one.reports else "applied")


@rules
@given(data=st.data())
@budget(25)
def test_M11_counts_reports_and_feedback_say_what_the_outcomes_say(rules: dict[str, Any], data: st.DataObject) -> None:
    total: Counter[str] = Counter()
    rejected = 0
    for game, _, _ in plays(rules, data):
        outcomes, info = game.episode.outcomes, game.result.info
        counts = Counter(one.kind for one in outcomes if one.applied and one.position)
        assert {kind: count for kind, count in info["applied"].items() if count} == counts
        reports = [report for one in outcomes for report in one.reports]
        assert game.reasons == [(report.operation, report.position, report.reason) for report in reports]
        lines = game.seen["feedback"].split("\n") if game.seen["feedback"] else []
        created = [f"created {one.entry_id}" for one in outcomes if one.kind == "create" and one.applied]
        assert sorted(lines) == sorted(created + [report.line for report in reports])
        total.update(counts)
        rejected += len(reports)
        if game.episode.state.over:
            metrics = info["episode_metrics"]
            assert {kind: count for kind, count in metrics["operations"].items() if count} == total
            assert metrics["rejected"] == rejected


@rules
@given(data=st.data())
@budget(60)
def test_finding_4_6_the_entry_of_an_outcome_is_the_one_that_memory_changed(
    rules: dict[str, Any], data: st.DataObject
) -> None:
    for game, _, before in plays(rules, data, few_texts):
        live = set(before)
        gone = 0
        for one in game.episode.outcomes:
            if not one.applied or one.kind not in ("create", "update", "delete"):
                assert one.entry_id is None
                continue
            assert one.entry_id is not None
            if one.kind == "delete":
                live.remove(one.entry_id)
            elif one.kind == "create" or game.config.preset == "released":
                # The released code's update deletes an entry and creates another.
                gone += one.kind == "update"
                assert one.entry_id not in live
                live.add(one.entry_id)
            else:
                assert one.entry_id in live
        assert game.entries.keys() <= live
        assert len(live) - len(game.entries) <= gone


def test_finding_4_6_the_second_delete_of_a_twin_that_was_cut_hits_the_twin() -> None:
    game = released(max_entry_tokens=2, max_memory_tokens=64)
    game.step("<add_memory>one two</add_memory><update_query>one two</update_query>")
    assert game.shown == [1]
    game.step(
        "<delete_memory>Memory 1</delete_memory><add_memory>one two three</add_memory>"
        "<delete_memory>Memory 1</delete_memory>"
    )
    assert [(one.kind, one.became, one.entry_id) for one in game.episode.outcomes] == [
        ("delete", "applied", 1),
        ("create", "cut", 2),
        ("delete", "applied", 2),
    ]
    assert game.entries == {}


def test_outcomes_are_those_of_the_last_step_alone() -> None:
    game = Game()
    assert game.episode.outcomes == ()
    game.step("<create>one</create>")
    assert len(game.episode.outcomes) == 1
    game.step("")
    assert game.episode.outcomes == ()


def test_E11_info_holds_no_more_than_it_did() -> None:
    game = Game()
    game.step("<create>one</create><create></create>")
    assert set(game.result.info) == {"applied", "rejected", "entries", "item"}
    assert set(game.result.info["rejected"][0]) == {"operation", "position", "reason", "detail"}
