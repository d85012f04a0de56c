"""``preset="released"``, step by step: the feedback, the counts, and the limits at their very edge."""

from __future__ import annotations

import pytest
from support.game import QUESTIONS, Game, released
from support.messages import say


def lines(game: Game) -> list[str]:
    return str(game.seen["feedback"]).split("\n")


def test_released_M11_every_rejection_has_its_operation_its_place_and_its_reason() -> None:
    game = released(max_entry_tokens=2)
    game.step("<add_memory>bees</add_memory><add_memory>boats</add_memory><update_query>bees</update_query>")
    assert game.shown == [1, 2]
    game.step(
        "<delete_memory>Memory 1</delete_memory><delete_memory>Memory 1</delete_memory>"
        "<modify_memory>Memory 2: one two three</modify_memory><delete_memory>Memory 9</delete_memory>"
        "<modify_memory>Memory 0: x</modify_memory>"
    )
    say(
        lines(game),
        ("operation 2", "delete_memory", "rejected", "unknown_id", "entry 1", "deleted before"),
        ("operation 3", "modify_memory", "cut", "2 tokens", "last 6", "13 characters"),
        ("operation 4", "delete_memory", "rejected", "unknown_id", "no Memory 9", "2 shown"),
        ("operation 5", "modify_memory", "rejected", "unknown_id", "no Memory 0", "2 shown"),
    )
    assert game.reasons == [
        ("delete", 2, "unknown_id"),
        ("update", 3, "cut"),
        ("delete", 4, "unknown_id"),
        ("update", 5, "unknown_id"),
    ]
    assert game.entries == {3: "one two"}
    assert game.result.info["applied"] == {
        "create": 0,
        "read": 0,
        "update": 1,
        "delete": 1,
        "scratchpad": 0,
        "answer": 0,
    }


def test_released_12_every_delete_and_read_and_answer_of_an_action_is_counted() -> None:
    game = released(questions=3)
    game.step("<add_memory>a</add_memory><add_memory>b</add_memory><update_query>a</update_query>")
    game.step("<delete_memory>Memory 1</delete_memory><delete_memory>Memory 2</delete_memory>")
    assert game.result.info["applied"]["delete"] == 2
    game.step("<update_query>a</update_query><update_query>b</update_query>")
    assert game.result.info["applied"]["read"] == 2
    assert game.seen["query"] == "b"
    game.step(r"<final_answer>\boxed{Aare}</final_answer><final_answer>\boxed{Mur}</final_answer>")
    assert game.result.info["applied"]["answer"] == 2
    assert game.seen["question"] == "\n".join(question.question for question in QUESTIONS)
    game.step(r"<final_answer>\boxed{no}</final_answer>")
    assert game.result.terminated
    answers = game.result.info["episode_metrics"]["answers"]
    assert [(a["answer"], a["closed"], a["score"], a["em"], a["f1"]) for a in answers] == [
        ("Aare", "unscored", 0.0, 0.0, 0.0),
        ("Mur", "unscored", 0.0, 0.0, 0.0),
        ("no", "answered", 1.0, 1.0, 1.0),
    ]
    assert game.result.reward == pytest.approx(1 / 3)


def test_released_D4_a_malformed_operation_ends_the_action_and_stays_on_the_chunk() -> None:
    game = released()
    game.step("<add_memory>a</add_memory><delete_memory>x</delete_memory><add_memory>b</add_memory><update_query>q")
    assert game.entries == {1: "a"}
    say(
        lines(game),
        ("created 1",),
        ("operation 2", "delete_memory", "rejected", "bad_id", "delete_memory", "'Memory i'"),
        ("operation 3", "add_memory", "rejected", "aborted", "malformed operation before it"),
        ("operation 4", "update_query", "rejected", "aborted", "malformed operation before it"),
    )
    assert game.seen["progress"][0] == 0
    game.step("<add_memory></add_memory>")
    say(lines(game), ("operation 1", "add_memory", "rejected", "empty", "create", "text"))
    assert game.seen["progress"][0] == 1


def test_released_D4_a_malformed_operation_at_the_end_stays_on_the_chunk_too() -> None:
    game = released()
    game.step("<add_memory>a</add_memory><modify_memory>x</modify_memory>")
    assert (game.entries, game.seen["progress"][0]) == ({1: "a"}, 0)
    game.step("<add_memory>b</add_memory><add_memory>")
    assert (game.entries, game.seen["progress"][0]) == ({1: "a", 2: "b"}, 1)


def test_released_12_by_id_an_unknown_entry_is_rejected_with_its_number() -> None:
    game = released(dialect="crud", addressing="id")
    game.step('<update id="9">x</update><create>a</create><update id="1">b</update><delete id="8"/>')
    say(
        lines(game),
        ("operation 1", "update", "rejected", "unknown_id", "no entry 9"),
        ("created 1",),
        ("operation 4", "delete", "rejected", "unknown_id", "no entry 8"),
    )
    assert game.entries == {2: "b"}


READ = "<update_query>q</update_query>"


@pytest.mark.parametrize(
    ("between", "resets"),
    [
        ("<add_memory>a</add_memory>", True),
        ("<add_memory></add_memory>", True),
        ("<modify_memory>Memory 9: a</modify_memory>", True),
        ("<delete_memory>Memory 9</delete_memory>", True),
        ("<update_memory>s</update_memory>", True),
        ("<update_memory></update_memory>", True),
        ("", False),
    ],
)
def test_released_14_reads_count_while_nothing_else_is_written_between_them(between: str, resets: bool) -> None:
    game = released(questions=2)
    game.step(READ * 3)
    assert game.seen["reads_left"] == 0
    game.step(between + READ)
    assert game.seen["reads_left"] == (2 if resets else 3)
    assert game.result.info["applied"]["read"] == int(resets)
    refused = "operation {} (update_query) rejected: read_limit: 3 reads in a row are allowed; the question is given up"
    assert (refused.format(1 + bool(between)) in lines(game)) is not resets
    if not resets:
        game.step(r"<final_answer>\boxed{Mur}</final_answer>" + READ + r"<final_answer>\boxed{x}</final_answer>")
        assert game.result.terminated
        say(
            lines(game)[-2:],
            ("operation 2", "update_query", "rejected", "question_closed", "no question is open"),
            ("operation 3", "final_answer", "rejected", "question_closed", "no question is open"),
        )
        closed = [answer["closed"] for answer in game.result.info["episode_metrics"]["answers"]]
        assert closed == ["read_limit", "unscored"]


def test_released_15_without_early_answer_an_answer_waits_for_the_last_chunk() -> None:
    game = released(early_answer=False)
    game.step(r"<final_answer>\boxed{Aare}</final_answer>")
    assert game.reasons == [("answer", 1, "not_yet")]
    say(lines(game), ("operation 1", "final_answer", "rejected", "not_yet", "after the last chunk"))
    game = released(early_answer=False, chunks=1)
    game.step("<add_memory>a</add_memory>")
    game.step(r"<final_answer>\boxed{Aare}</final_answer>")
    assert game.result.reward == 1.0


@pytest.mark.parametrize(
    ("room", "texts"),
    [
        (7, ["bees a b", "bees c d", "x"]),
        (6, ["bees a b", "bees c d"]),
        (5, ["bees a b", "bees c"]),
        (4, ["bees a b", "bees"]),
        (3, ["bees a b"]),
    ],
)
def test_released_9_the_text_shown_is_cut_to_its_room_and_all_can_be_named(room: int, texts: list[str]) -> None:
    game = released(max_entry_tokens=3, max_memory_tokens=room)
    game.step("<add_memory>bees a b</add_memory><add_memory>bees c d</add_memory><add_memory>x</add_memory>")
    game.step("<update_query>bees a b</update_query>")
    assert [m["text"] for m in game.seen["memories"]] == texts
    scores = [float(m["score"]) for m in game.seen["memories"]]
    assert scores[0] == 1.0
    assert scores == sorted(scores, reverse=True)
    game.step("<delete_memory>Memory 3</delete_memory><delete_memory>Memory 2</delete_memory>")
    assert game.entries == {1: "bees a b"}


def test_released_4_questions_are_hidden_while_reading_only_if_asked() -> None:
    game = released(questions=2, question_visible="end", early_answer=False, chunks=1)
    assert game.seen["question"] == ""
    game.step("<add_memory>a</add_memory>")
    assert game.seen["question"] == QUESTIONS[0].question
