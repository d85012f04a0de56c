"""SPEC E, the small print: every key of an observation, an info and the metrics, and what the feedback says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from support.game import DOCUMENTS, QUESTIONS, Game

from atommem_gym.episode import Episode
from atommem_gym.evidence import all_visible, holds, suggests
from atommem_gym.memory.memory import Entry, Memory
from atommem_gym.records.record import Item


def test_E10_an_observation_of_reading_and_one_of_answering_in_full() -> None:
    game = Game(questions=2, chunks=2, top_k=1, max_steps=9)
    start = dict(game.seen)
    assert start.pop("progress").tolist() == [0, 2]
    assert start == {
        "phase": 0,
        "question": f"1. {QUESTIONS[0].question}\n2. {QUESTIONS[1].question}",
        "chunk": game.episode.stream.core(0),
        "scratchpad": "",
        "query": "",
        "memories": (),
        "feedback": "",
        "reads_left": 3,
        "steps_left": 9,
    }
    game.step("<create>bees</create><scratchpad>note</scratchpad>")
    game.step("<read>bees</read><delete id='7'/>")
    seen = dict(game.seen)
    assert seen.pop("progress").tolist() == [2, 2]
    assert seen == {
        "phase": 1,
        "question": QUESTIONS[0].question,
        "chunk": "",
        "scratchpad": "note",
        "query": "bees",
        "memories": ({"id": 1, "text": "bees", "score": np.array(1.0)},),
        "feedback": "operation 2 (delete) rejected: unknown_id: there is no entry 7",
        "reads_left": 3,
        "steps_left": 7,
    }


def test_E11_an_info_counts_what_was_applied_and_names_what_was_rejected() -> None:
    game = Game(chunks=2)
    game.step("<create>a</create><create>b</create><read>a</read><update>x</update>")
    assert game.result.info == {
        "applied": {"create": 2, "read": 1, "update": 0, "delete": 0, "scratchpad": 0, "answer": 0},
        "rejected": [
            {"operation": "update", "position": 4, "reason": "bad_id", "detail": "update needs an integer id"}
        ],
        "entries": 2,
        "item": "game/0",
    }


def test_E11_the_metrics_of_an_episode_in_full() -> None:
    game = Game(questions=2, chunks=1)
    evidence = "".join(f"<create>{piece.text}</create>" for piece in QUESTIONS[0].evidence)
    game.step(f"{evidence}<create>x</create><delete id='3'/><delete id='3'/>")
    game.step("<read>Ada Bern</read>")
    game.step("<answer>the Aar</answer>")
    game.step("<answer>Mur river</answer>")
    assert (game.result.terminated, game.result.truncated) == (True, False)
    assert game.result.reward == 0.5
    f1_of_second = pytest.approx(2 / 3)
    assert game.result.info["episode_metrics"] == {
        "em": 0.5,
        "f1": pytest.approx((1 + 2 / 3) / 2),
        "answers": [
            {
                "id": "q1",
                "question": QUESTIONS[0].question,
                "type": "bridge",
                "gold": ["Aare", "the Aar"],
                "answer": "the Aar",
                "closed": "answered",
                "score": 1.0,
                "em": 1.0,
                "f1": 1.0,
            },
            {
                "id": "q2",
                "question": QUESTIONS[1].question,
                "type": "bridge",
                "gold": ["Mur"],
                "answer": "Mur river",
                "closed": "answered",
                "score": 0.0,
                "em": 0.0,
                "f1": f1_of_second,
            },
        ],
        "operations": {"create": 3, "read": 1, "update": 0, "delete": 1, "scratchpad": 0, "answer": 2},
        "rejected": 1,
        "peak_entries": 2,
        "final_entries": 2,
        "evidence_recall": 0.5,
        "evidence_recall_exact": 0.5,
        "steps": 4,
    }


def test_E12_evidence_that_was_found_once_hides_none_that_comes_later() -> None:
    game = Game(chunks=1, top_k=1)
    game.step("".join(f"<create>{piece.text}</create>" for piece in QUESTIONS[0].evidence))
    first, second = QUESTIONS[0].evidence
    game.step(f"<read>{first.text}</read>")
    assert game.episode.evidence_recall == 0.5
    game.step(f"<read>{second.text}</read>")
    game.step("<answer>x</answer>")
    metrics = game.result.info["episode_metrics"]
    assert (metrics["evidence_recall"], metrics["evidence_recall_exact"]) == (1.0, 1.0)


def test_E12_a_paraphrase_counts_for_the_lenient_recall_alone() -> None:
    game = Game(chunks=1)
    game.step("<scratchpad>Ada: Bern</scratchpad>")
    assert game.episode.evidence_recall == 0.5
    game.step("<scratchpad>Ada: Bern, Aare</scratchpad>")
    game.step("<answer>x</answer>")
    metrics = game.result.info["episode_metrics"]
    assert (metrics["evidence_recall"], metrics["evidence_recall_exact"]) == (1.0, 0.0)


def test_E12_the_recall_of_questions_without_evidence_is_one() -> None:
    game = Game(chunks=1)
    bare = Item("bare", 0, 0, (replace(QUESTIONS[0], evidence=()),), DOCUMENTS)
    game.running = game.backend.new_episode(bare)
    game.episode = game.running.episode
    game.step("")
    game.step("<answer>x</answer>")
    metrics = game.result.info["episode_metrics"]
    assert (metrics["evidence_recall"], metrics["evidence_recall_exact"]) == (1.0, 1.0)


def test_R1_a_scorer_is_given_the_answer_the_accepted_answers_and_the_question() -> None:
    seen: list[tuple[str, tuple[str, ...], str]] = []

    def reward(prediction: str, answers: tuple[str, ...], question: str) -> float:
        seen.append((prediction, answers, question))
        return 0.25

    game = Game(chunks=1, questions=2, reward=reward)
    game.step("")
    game.step("<answer>x</answer>")
    game.step("<answer>y</answer>")
    assert seen == [
        ("x", ("Aare", "the Aar"), QUESTIONS[0].question),
        ("y", ("Mur",), QUESTIONS[1].question),
    ]
    assert game.result.reward == 0.25


@pytest.mark.parametrize(("room", "shown"), [(9, [1, 2]), (8, [1, 2]), (7, [1]), (4, [1])])
def test_M10_entries_that_fill_their_room_exactly_are_shown(room: int, shown: list[int]) -> None:
    game = Game(chunks=2, max_entry_tokens=4, max_memory_tokens=room)
    game.step("<create>bees a b c</create><create>bees d e f</create><read>bees a b c</read>")
    assert game.shown == shown


def test_E10_after_the_only_question_none_is_shown() -> None:
    game = Game(chunks=4, early_answer=True)
    game.step("<answer>Aare</answer>")
    assert game.result.terminated
    assert (game.seen["phase"], game.seen["question"]) == (0, "")
    game = Game(chunks=1)
    game.step("")
    game.step("<answer>Aare</answer>")
    assert (game.seen["phase"], game.seen["question"]) == (1, "")


@pytest.mark.parametrize(
    ("keywords", "actions", "feedback"),
    [
        (
            {},
            ["<answer>x</answer>"],
            "operation 1 (answer) rejected: not_yet: questions are answered after the last chunk",
        ),
        (
            {"max_action_chars": 5},
            ["<create>x</create>"],
            "action cut: too_long: an action may have 5 characters; the last 13 were not read",
        ),
        (
            {"operations": ["read"]},
            ["<create>x</create>"],
            "operation 1 (create) rejected: disabled: this environment has no create",
        ),
        ({}, ["<create>x</create><create>y</create>"], "created 1\ncreated 2"),
        (
            {"addressing": "visible"},
            ["<create>x</create>", '<delete id="1"/><delete id="2"/>'],
            "operation 1 (delete) rejected: not_visible: the current observation does not show entry 1\n"
            "operation 2 (delete) rejected: unknown_id: there is no entry 2",
        ),
        (
            {"questions": 2},
            ["", "", "<answer>x</answer><answer>y</answer><read>z</read>"],
            "operation 2 (answer) rejected: question_closed: an action closes at most one question, and this one has\n"
            "operation 3 (read) rejected: question_closed: an action closes at most one question, and this one has",
        ),
        (
            {"questions": 2, "max_reads_per_question": 0},
            ["", "", "<read>z</read>"],
            "operation 1 (read) rejected: read_limit: a question allows 0 reads; it is closed unanswered",
        ),
    ],
    ids=["not yet", "too long", "disabled", "created", "addressing", "closed", "limit"],
)
def test_M11_the_feedback_says_what_happened_and_why(
    keywords: dict[str, Any], actions: list[str], feedback: str
) -> None:
    game = Game(chunks=2, **keywords)
    for action in actions:
        game.step(action)
    assert game.seen["feedback"] == feedback


def test_E7_a_step_after_the_end_and_an_action_that_is_no_text_say_what_to_do() -> None:
    game = Game(chunks=1)
    with pytest.raises(TypeError) as wrong:
        game.step(b"x")  # type: ignore[arg-type]
    assert str(wrong.value) == "the action b'x' is a bytes; an action is a str, see env.action_space"
    game.step("")
    game.step("<answer>Aare</answer>")
    with pytest.raises(ResetNeeded) as over:
        game.episode.begin("")
    assert str(over.value) == "the episode is over; call reset() before the next step()"


def test_E12_evidence_is_held_word_by_word_and_all_of_it_must_be_visible() -> None:
    first, second = QUESTIONS[0].evidence
    assert holds(first, "I note: ADA was born in Bern!")
    assert not holds(first, "Nevada was born in Bern")
    assert not holds(first, "Ada was born in Berne")
    assert suggests(first, "In Bern, Ada.")
    assert not suggests(first, "Ada of Berne")
    assert not suggests(first, "Canada, Bern")
    assert all_visible(QUESTIONS[0], iter([second.text, "x", first.text]))
    assert not all_visible(QUESTIONS[0], [first.text, first.text])


# -- evidence (E12)


def told(question: int) -> str:
    """An operation that writes all evidence of a question to the scratchpad."""
    return f"<scratchpad>{' '.join(piece.text for piece in QUESTIONS[question].evidence)}</scratchpad>"


def recall(game: Game) -> float:
    return game.episode.evidence_recall


def test_E12_what_the_scratchpad_holds_when_a_question_is_closed_counts_also_while_reading() -> None:
    game = Game(questions=2, chunks=4, early_answer=True)
    game.step(told(1) + "<answer>x</answer>")
    assert recall(game) == 0.0
    game.step(told(1) + "<answer>x</answer>")
    assert recall(game) == 0.5
    game = Game(questions=2, chunks=4, early_answer=True)
    game.step(told(1) + "<answer>x</answer>")
    game.step("<scratchpad>-</scratchpad><answer>x</answer>")
    assert recall(game) == 0.0


def test_E12_the_end_of_the_steps_closes_all_questions_with_what_the_scratchpad_holds() -> None:
    game = Game(questions=2, chunks=4, max_steps=2)
    game.step(told(1))
    assert recall(game) == 0.0
    game.step("")
    assert game.result.truncated
    metrics = game.result.info["episode_metrics"]
    assert metrics["evidence_recall"] == 0.5
    assert [answer["closed"] for answer in metrics["answers"]] == ["unanswered", "unanswered"]
    assert metrics["peak_entries"] == 0


def test_E12_what_is_seen_after_a_question_was_closed_no_longer_counts_for_it() -> None:
    game = Game(questions=2, chunks=1)
    game.step("".join(f"<create>{piece.text}</create>" for piece in QUESTIONS[0].evidence))
    game.step("<answer>x</answer>")
    game.step("<read>Ada Bern</read>")
    assert game.shown == [1, 2]
    assert recall(game) == 0.0
    game.step(told(0) + "<answer>x</answer>")
    assert recall(game) == 0.0


def test_E12_the_state_says_what_recall_a_step_gained() -> None:
    game = Game(questions=2, chunks=1)
    gained = []
    for action in ("", told(0), "", told(1), "<answer>x</answer>"):
        game.step(action)
        gained.append(game.episode.state.recall_gained)
    assert gained == [0.0, 0.5, 0.0, 0.5, 0.0]


def test_M12_without_scratchpad_a_kept_one_is_neither_shown_nor_counted() -> None:
    game = Game(chunks=1, scratchpad=False)
    game.episode.state.memory.scratchpad = " ".join(piece.text for piece in QUESTIONS[0].evidence)
    game.step("")
    assert game.seen["scratchpad"] == ""
    game.step("<answer>x</answer>")
    assert recall(game) == 0.0


# -- beginnings and limits


def test_E11_the_peak_begins_with_the_entries_of_a_kept_memory() -> None:
    game = Game(chunks=1)
    kept = Memory({4: Entry("a", 1), 6: Entry("b", 1)}, 7)
    episode = Episode(game.config, game.running.episode.item, game.episode.stream, game.backend.tokenizer, kept)
    assert episode.state.peak_entries == 2
    assert episode.state.memory is kept
    assert game.episode.state.peak_entries == 0


def test_A7_an_action_of_exactly_the_longest_length_is_read_whole() -> None:
    action = "<create>x</create>"
    game = Game(chunks=2, max_action_chars=len(action))
    game.step(action)
    assert (game.entries, game.reasons) == ({1: "x"}, [])
    game.step(action + "<")
    assert game.reasons == [("action", 0, "too_long")]


def test_A3_lone_surrogates_are_replaced_and_pairs_joined_in_every_operation() -> None:
    game = Game(chunks=4, early_answer=True)
    broken, whole = "a\ud800b \ud83d\ude00", "a\ufffdb 😀"
    game.step(f"<create>{broken}</create><create>x</create><scratchpad>{broken}</scratchpad><read>{broken}</read>")
    game.step(f'<update id="2">{broken}</update>')
    assert game.entries == {1: whole, 2: whole}
    assert game.seen["scratchpad"] == whole
    game.step(f"<read>{broken}</read>")
    assert game.seen["query"] == whole
    game.step(f"<answer>{broken}</answer>")
    assert game.result.info["episode_metrics"]["answers"][0]["answer"] == whole


# -- preset="released"


def released(**keywords: Any) -> Game:
    return Game(preset="released", **{"chunks": 4, "chunk_overlap": 0, **keywords})


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
    assert lines(game) == [
        "operation 2 (delete_memory) rejected: unknown_id: entry 1 was deleted before",
        "operation 3 (modify_memory) cut: cut: a text may have 2 tokens; the last 6 of its 13 characters are gone",
        "operation 4 (delete_memory) rejected: unknown_id: there was no Memory 9 among the 2 shown",
        "operation 5 (modify_memory) rejected: unknown_id: there was no Memory 0 among the 2 shown",
    ]
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
    assert lines(game) == [
        "created 1",
        "operation 2 (delete_memory) rejected: bad_id: delete_memory names its entry as 'Memory i'",
        "operation 3 (add_memory) rejected: aborted: a malformed operation before it ended the action",
        "operation 4 (update_query) rejected: aborted: a malformed operation before it ended the action",
    ]
    assert game.seen["progress"][0] == 0
    game.step("<add_memory></add_memory>")
    assert lines(game) == ["operation 1 (add_memory) rejected: empty: create needs a text"]
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
    assert lines(game) == [
        "operation 1 (update) rejected: unknown_id: there is no entry 9",
        "created 1",
        "operation 4 (delete) rejected: unknown_id: there is no entry 8",
    ]
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
        ("<update_memory></update_memory>", False),
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
        assert lines(game)[-2:] == [
            "operation 2 (update_query) rejected: question_closed: no question is open",
            "operation 3 (final_answer) rejected: question_closed: no question is open",
        ]
        closed = [answer["closed"] for answer in game.result.info["episode_metrics"]["answers"]]
        assert closed == ["read_limit", "unscored"]


def test_released_15_without_early_answer_an_answer_waits_for_the_last_chunk() -> None:
    game = released(early_answer=False)
    game.step(r"<final_answer>\boxed{Aare}</final_answer>")
    assert game.reasons == [("answer", 1, "not_yet")]
    assert lines(game) == ["operation 1 (final_answer) rejected: not_yet: questions are answered after the last chunk"]
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
