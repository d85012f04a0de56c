"""SPEC E, rule by rule, on hand-made episodes."""

from __future__ import annotations

import pytest
from gymnasium.error import ResetNeeded
from support.game import QUESTIONS, STREAM_TOKENS, Game

from atommem_gym.errors import ConfigError


def test_E2_every_step_moves_on_to_the_next_chunk() -> None:
    game = Game(chunks=4)
    cores = [game.episode.stream.core(i) for i in range(game.episode.stream.num_chunks)]
    seen = []
    while game.seen["phase"] == 0:
        assert game.seen["progress"].tolist() == [len(seen), len(cores)]
        seen.append(game.seen["chunk"])
        game.step("")
    assert seen == cores
    assert game.seen["chunk"] == ""
    assert game.seen["progress"].tolist() == [len(cores), len(cores)]


def test_E2_advance_on_write_waits_for_a_create_or_a_well_formed_update() -> None:
    game = Game(chunks=4, advance="on_write")
    still = ["", "<scratchpad>x</scratchpad>", "<read>x</read>", '<delete id="1"/>', "<update>no id</update>"]
    for action in still:
        game.step(action)
        assert game.seen["progress"][0] == 0, action
    for n, action in enumerate(["<create>x</create>", "<create></create>", '<update id="77">x</update>'], 1):
        game.step(action)
        assert game.seen["progress"][0] == n, action


def test_E3_questions_are_answered_one_after_the_other() -> None:
    game = Game(questions=3)
    game.read_through()
    for question in QUESTIONS:
        assert game.seen["question"] == question.question
        game.step(f"<answer>{question.answer}</answer>")
    assert game.result.terminated
    assert game.result.reward == 1.0


def test_E3_an_action_closes_at_most_one_question() -> None:
    game = Game(questions=3)
    game.read_through()
    game.step("<answer>Aare</answer><answer>Mur</answer><read>Graz</read><create>x</create>")
    assert game.reasons == [("answer", 2, "question_closed"), ("read", 3, "question_closed")]
    assert game.seen["question"] == QUESTIONS[1].question
    assert game.entries == {1: "x"}


def test_E3_a_read_before_the_answer_of_its_action_counts_and_is_shown() -> None:
    game = Game(questions=2)
    game.step("<create>bees</create>")
    game.read_through()
    game.step("<read>bees</read><answer>Aare</answer>")
    assert game.shown == [1]
    assert game.seen["reads_left"] == 3


def test_E3_the_read_over_the_limit_closes_the_question_unanswered() -> None:
    game = Game(questions=2, max_reads_per_question=2)
    game.read_through()
    game.step("<read>a</read><read>b</read>")
    assert game.seen["reads_left"] == 0
    game.step("<read>c</read><answer>Aare</answer>")
    assert game.reasons == [("read", 1, "read_limit"), ("answer", 2, "question_closed")]
    assert game.seen["question"] == QUESTIONS[1].question
    assert game.seen["reads_left"] == 2
    game.step("<answer>Mur</answer>")
    assert game.result.reward == 0.5
    closed = [answer["closed"] for answer in game.result.info["episode_metrics"]["answers"]]
    assert closed == ["read_limit", "answered"]


def test_E3_reads_while_reading_never_count() -> None:
    game = Game(chunks=4)
    for _ in range(4):
        game.step("<read>a</read><read>b</read>")
    assert game.seen["phase"] == 1
    assert game.seen["reads_left"] == 3


def test_E4_questions_are_visible_always_or_at_the_end() -> None:
    assert Game().seen["question"] == QUESTIONS[0].question
    several = Game(questions=2)
    assert several.seen["question"] == f"1. {QUESTIONS[0].question}\n2. {QUESTIONS[1].question}"
    hidden = Game(questions=2, question_visible="end")
    assert hidden.seen["question"] == ""
    hidden.read_through()
    assert hidden.seen["question"] == QUESTIONS[0].question


def test_E5_an_answer_while_reading_is_rejected_unless_early_answer() -> None:
    game = Game(chunks=4)
    game.step("<answer>Aare</answer>")
    assert game.reasons == [("answer", 1, "not_yet")]
    game = Game(chunks=4, questions=2, early_answer=True)
    game.step("<answer>Aare</answer>")
    assert game.seen["question"] == f"2. {QUESTIONS[1].question}"
    game.step("<answer>Mur</answer>")
    assert game.result.terminated
    assert game.result.reward == 1.0
    assert game.episode.state.steps == 2


def test_E6_truncation_scores_unanswered_questions_zero() -> None:
    game = Game(questions=2, max_steps=3, chunks=2)
    assert game.seen["steps_left"] == 3
    game.read_through()
    game.step("<answer>Aare</answer>")
    assert game.result.truncated
    assert not game.result.terminated
    assert game.result.reward == 0.5
    assert game.seen["steps_left"] == 0


def test_E6_the_default_limit_is_chunks_and_four_steps_a_question() -> None:
    game = Game(questions=3, chunks=4)
    assert game.seen["steps_left"] == 4 + 4 * 3


def test_E6_an_answer_in_the_last_step_terminates_and_does_not_truncate() -> None:
    game = Game(max_steps=2)
    game.read_through()
    game.step("<answer>the Aar</answer>")
    assert (game.result.terminated, game.result.truncated) == (True, False)
    assert game.result.reward == 1.0


def test_E7_a_step_after_the_end_raises() -> None:
    game = Game()
    game.read_through()
    game.step("<answer>x</answer>")
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        game.step("")


def test_E10_the_observation_has_exactly_its_fields() -> None:
    assert list(Game().seen) == [
        "phase",
        "progress",
        "question",
        "chunk",
        "scratchpad",
        "query",
        "memories",
        "feedback",
        "reads_left",
        "steps_left",
    ]


def test_E11_episode_metrics() -> None:
    game = Game(questions=2)
    game.step('<create>a</create><create>b</create><delete id="1"/>')
    game.step("<read>a</read>")
    assert "episode_metrics" not in game.result.info
    game.step("<answer>wrong town</answer>")
    game.step("<answer>river Mur</answer>")
    metrics = game.result.info["episode_metrics"]
    assert metrics["em"] == 0.0
    assert metrics["f1"] == pytest.approx((0 + 2 / 3) / 2)
    assert metrics["operations"] == {"create": 2, "read": 1, "update": 0, "delete": 1, "scratchpad": 0, "answer": 2}
    assert (metrics["peak_entries"], metrics["final_entries"], metrics["steps"]) == (1, 1, 4)
    assert [answer["answer"] for answer in metrics["answers"]] == ["wrong town", "river Mur"]
    assert metrics["answers"][0]["gold"] == ["Aare", "the Aar"]


def test_E12_evidence_counts_when_a_read_of_the_answering_phase_or_the_scratchpad_shows_it() -> None:
    game = Game()
    game.read_through("<create>Ada was born in Bern.</create><create>The town of Bern: Aare!</create>")
    game.step("<read>Bern</read>")
    game.step("<answer>Aare</answer>")
    metrics = game.result.info["episode_metrics"]
    assert metrics["evidence_recall_exact"] == 0.5
    assert metrics["evidence_recall"] == 1.0


def test_E12_what_is_only_stored_does_not_count() -> None:
    game = Game()
    game.read_through("<create>Ada was born in Bern.</create>")
    game.step("<answer>Aare</answer>")
    assert game.result.info["episode_metrics"]["evidence_recall"] == 0.0


def test_E12_the_scratchpad_counts() -> None:
    game = Game()
    game.read_through("<scratchpad>ada was born in BERN; Bern: (Aare)</scratchpad>")
    game.step("<answer>Aare</answer>")
    assert game.result.info["episode_metrics"]["evidence_recall_exact"] == 0.5
    assert game.result.info["episode_metrics"]["evidence_recall"] == 1.0


def test_R1_the_reward_is_zero_until_the_end_and_then_the_mean() -> None:
    game = Game(questions=3, chunks=2)
    rewards = [game.step("<create>x</create>").reward for _ in range(2)]
    rewards += [game.step(f"<answer>{a}</answer>").reward for a in ("Aare", "nope", "No.")]
    assert rewards[:-1] == [0.0] * 4
    assert rewards[-1] == pytest.approx(2 / 3)


def test_R2_an_answer_is_scored_against_its_own_question() -> None:
    game = Game(questions=2)
    game.read_through()
    game.step("<answer>Mur</answer>")
    game.step("<answer>Aare</answer>")
    assert game.result.reward == 0.0


def test_a_non_string_action_raises() -> None:
    with pytest.raises(TypeError, match="an action is a str"):
        Game().step(7)  # type: ignore[arg-type]


def test_A3_no_text_makes_a_step_raise() -> None:
    ugly = [
        "\ud800<create>\udfff\ud83d</create>",
        "\x00" * 9,
        "<" * 100_000,
        "<create>\x00\x1b[31m</create>",
        "</think>" * 99,
    ]
    game = Game(chunks=5)
    for action in ugly:
        game.step(action)
    assert game.entries == {1: "��", 2: "\x00\x1b[31m"}


def test_A7_a_longer_action_is_cut_and_reported() -> None:
    game = Game(chunks=4, max_action_chars=40)
    game.step("<create>kept</create>" + " " * 15 + "<create>gone</create>")
    assert game.entries == {1: "kept"}
    assert ("action", 0, "too_long") in game.reasons


def test_the_stream_has_the_length_that_the_tests_rely_on() -> None:
    assert Game().episode.stream.num_tokens == STREAM_TOKENS


def test_E2_waiting_for_writes_that_cannot_be_is_a_contradiction() -> None:
    with pytest.raises(ConfigError, match="advance='on_write' contradicts operations"):
        Game(advance="on_write", operations=["read", "delete"])


def test_E4_an_unseen_question_cannot_be_answered_early() -> None:
    with pytest.raises(ConfigError, match="question_visible='end' contradicts early_answer=True"):
        Game(question_visible="end", early_answer=True)


def test_E12_a_question_answered_early_counts_what_the_scratchpad_held() -> None:
    game = Game(chunks=4, early_answer=True)
    game.step("<scratchpad>Ada was born in Bern.</scratchpad>")
    game.step("<answer>Aare</answer>")
    assert game.result.info["episode_metrics"]["evidence_recall_exact"] == 0.5


def test_E12_a_read_for_one_question_counts_for_the_evidence_of_later_ones() -> None:
    game = Game(questions=3)
    game.read_through("<create>Zoe was born in Graz.</create>")
    game.step("<read>Graz</read>")
    for _ in range(3):
        game.step("<answer>x</answer>")
    assert game.result.info["episode_metrics"]["evidence_recall_exact"] == pytest.approx(2 / 6)


@pytest.mark.parametrize(("room", "shown"), [(9, [1, 2]), (8, [1, 2]), (7, [1]), (4, [1])])
def test_M10_entries_that_fill_their_room_exactly_are_shown(room: int, shown: list[int]) -> None:
    game = Game(chunks=2, max_entry_tokens=4, max_memory_tokens=room)
    game.step("<create>bees a b c</create><create>bees d e f</create><read>bees a b c</read>")
    assert game.shown == shown


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
