"""``preset="released"``: the numbered facts about the paper's code (its section 1), on hand-made episodes."""

from __future__ import annotations

from support.game import QUESTIONS, released


def test_1_2_windows_share_the_overlap_of_both_sides() -> None:
    game = released(chunk_overlap=3)
    stream, starts = game.episode.stream, game.backend.tokenizer.starts(game.episode.stream.text).tolist()
    size = game.config.chunk_tokens
    assert stream.chunk(0) == stream.text[: starts[size + 3]]
    assert stream.chunk(1) == stream.text[starts[size - 3] : starts[2 * size + 3]]
    assert stream.chunk(3) == stream.text[starts[3 * size - 3] :]


def test_1_4_all_questions_are_visible_unnumbered() -> None:
    assert released(questions=2).seen["question"] == f"{QUESTIONS[0].question}\n{QUESTIONS[1].question}"


def test_1_7_the_initial_query_stands_and_is_executed() -> None:
    game = released()
    assert game.seen["query"] == "no query yet"
    game.step("<add_memory>bees</add_memory>")
    assert game.shown == [1]


def test_1_8_a_read_is_a_standing_query_across_the_phases() -> None:
    game = released(top_k=1)
    game.step("<update_query>boats</update_query><add_memory>bees</add_memory>")
    game.step("<add_memory>boats</add_memory>")
    assert game.shown == [2]
    while game.seen["phase"] == 0:
        game.step("<add_memory>more bees</add_memory>")
    assert game.seen["query"] == "boats"
    assert game.shown == [2]


def test_1_9_the_memories_shown_are_cut_as_text_and_all_can_be_named() -> None:
    game = released(max_entry_tokens=6, max_memory_tokens=8)
    game.step("<add_memory>bees a b c d e</add_memory><add_memory>bees f g h i j</add_memory>")
    game.step("<update_query>bees a b c d e</update_query>")
    assert [m["text"] for m in game.seen["memories"]] == ["bees a b c d e", "bees f"]
    game.step("<delete_memory>Memory 2</delete_memory>")
    assert game.entries == {1: "bees a b c d e"}


def test_1_10_an_index_is_a_rank_frozen_for_the_whole_response() -> None:
    game = released()
    game.step("<add_memory>boats</add_memory><add_memory>bees</add_memory><update_query>bees</update_query>")
    assert game.shown == [2, 1]
    game.step("<delete_memory>Memory 1</delete_memory><delete_memory>Memory 2</delete_memory>")
    assert game.entries == {}


def test_1_11_operations_in_other_tags_and_in_think_are_inert() -> None:
    game = released()
    game.step("<plan><add_memory>a</add_memory></plan><think><add_memory>b</add_memory></think><foo>")
    assert game.entries == {}
    assert game.reasons == []


def test_1_12_update_deletes_and_adds_under_a_new_id() -> None:
    game = released()
    game.step("<add_memory>bees</add_memory><update_query>bees</update_query>")
    game.step("<modify_memory>Memory 1: boats</modify_memory>")
    assert game.entries == {2: "boats"}


def test_1_12_delete_is_by_content_the_first_twin_goes() -> None:
    game = released()
    game.step("<add_memory>bees</add_memory><add_memory>bees</add_memory><update_query>bees</update_query>")
    game.step("<delete_memory>Memory 2</delete_memory>")
    assert game.entries == {2: "bees"}


def test_D6_two_updates_of_one_index_leave_two_entries_and_update_after_delete_creates_again() -> None:
    game = released()
    game.step("<add_memory>bees</add_memory><update_query>bees</update_query>")
    game.step("<modify_memory>Memory 1: one</modify_memory><modify_memory>Memory 1: two</modify_memory>")
    assert game.entries == {2: "one", 3: "two"}
    game = released()
    game.step("<add_memory>bees</add_memory><update_query>bees</update_query>")
    game.step("<delete_memory>Memory 1</delete_memory><modify_memory>Memory 1: again</modify_memory>")
    assert game.entries == {2: "again"}


def test_1_12_an_index_out_of_range_changes_nothing_but_advances() -> None:
    game = released()
    game.step("<modify_memory>Memory 9: x</modify_memory>")
    assert game.entries == {}
    assert game.reasons == [("update", 1, "unknown_id")]
    assert game.seen["progress"][0] == 1


def test_never_D5_memory_zero_is_out_of_range() -> None:
    game = released()
    game.step("<add_memory>bees</add_memory><add_memory>boats</add_memory>")
    game.step("<delete_memory>Memory 0</delete_memory><modify_memory>Memory 0: x</modify_memory>")
    assert game.entries == {1: "bees", 2: "boats"}
    assert [reason for _, _, reason in game.reasons] == ["unknown_id", "unknown_id"]


def test_1_13_only_add_and_well_formed_modify_advance() -> None:
    game = released()
    for action in ("", "<update_memory>x</update_memory>", "<update_query>x</update_query>", "<answer>x</answer>"):
        game.step(action)
        assert game.seen["progress"][0] == 0, action
    game.step("<add_memory></add_memory>")
    assert game.seen["progress"][0] == 1


def test_D4_a_malformed_operation_ends_the_action_and_the_chunk_stays() -> None:
    game = released()
    game.step("<add_memory>a</add_memory><delete_memory>the first</delete_memory><add_memory>b</add_memory>")
    assert game.entries == {1: "a"}
    assert game.reasons == [("delete", 2, "bad_id"), ("create", 3, "aborted")]
    assert game.seen["progress"][0] == 0


def test_1_14_the_fourth_consecutive_read_gives_the_question_up() -> None:
    game = released(questions=2)
    for query in "abc":
        game.step(f"<update_query>{query}</update_query>")
    assert game.seen["reads_left"] == 0
    game.step("<update_query>d</update_query>")
    assert game.reasons == [("read", 1, "read_limit")]
    assert game.episode.open_question == 1
    assert game.seen["query"] == "c"


def test_D7_the_fourth_read_while_reading_ends_a_single_question_episode() -> None:
    game = released()
    for query in "abcd":
        game.step(f"<update_query>{query}</update_query>")
    assert game.result.terminated
    assert game.result.reward == 0.0


def test_1_14_other_operations_reset_the_count_in_text_order() -> None:
    game = released()
    for _ in range(6):
        game.step("<update_memory>x</update_memory><update_query>a</update_query>")
        assert game.seen["reads_left"] == 2
    for _ in range(2):
        game.step("<update_query>a</update_query>")
    game.step("<update_query>a</update_query><update_memory>x</update_memory>")
    assert game.result.terminated


def test_1_15_answers_are_honoured_while_reading() -> None:
    game = released(questions=2)
    game.step(r"<final_answer>\boxed{Aare}</final_answer>")
    game.step(r"<final_answer>\boxed{mur}</final_answer>")
    assert game.result.terminated
    assert game.result.reward == 1.0


def test_1_16_an_episode_has_41_steps() -> None:
    game = released()
    for _ in range(40):
        game.step("")
        assert not game.result.truncated
    assert game.step("").truncated


def test_1_18_only_the_sole_boxed_answer_of_a_response_is_scored_for_its_own_question() -> None:
    game = released(questions=3)
    game.step(r"<final_answer>\boxed{Aare}</final_answer><final_answer>\boxed{Mur}</final_answer>")
    assert game.episode.open_question == 2
    game.step("<final_answer>no</final_answer>")
    metrics = game.result.info["episode_metrics"]
    assert game.result.reward == 0.0
    assert [answer["score"] for answer in metrics["answers"]] == [0.0, 0.0, 0.0]


def test_never_D13_a_right_answer_to_another_question_scores_nothing() -> None:
    game = released(questions=2)
    game.step(r"<final_answer>\boxed{Mur}</final_answer>")
    game.step(r"<final_answer>\boxed{Aare}</final_answer>")
    assert game.result.reward == 0.0


def test_never_D14_boxes_outside_of_answers_earn_nothing() -> None:
    game = released(questions=1)
    for _ in range(3):
        assert game.step(r"\boxed{Aare} <add_memory>\boxed{Aare}</add_memory>").reward == 0.0
    game.step(r"<final_answer>\boxed{Aare}</final_answer>")
    assert game.result.reward == 1.0


def test_ids_instead_of_positions_are_no_way_to_crash_it() -> None:
    game = released(dialect="crud", addressing="id")
    game.step('<update id="99">x</update><create>q</create><delete id="1"/><delete id="7"/>')
    assert game.entries == {}
    assert [reason for _, _, reason in game.reasons] == ["unknown_id", "unknown_id"]


def test_several_answers_in_a_response_score_nothing_in_the_metrics_either() -> None:
    game = released(questions=2)
    game.step(r"<final_answer>\boxed{Aare}</final_answer><final_answer>\boxed{Mur}</final_answer>")
    metrics = game.result.info["episode_metrics"]
    assert (game.result.reward, metrics["em"]) == (0.0, 0.0)
    assert [answer["closed"] for answer in metrics["answers"]] == ["unscored", "unscored"]


def test_feedback_speaks_the_dialect() -> None:
    game = released()
    game.step("<modify_memory>Memory 4: x</modify_memory>")
    assert game.seen["feedback"].startswith("operation 1 (modify_memory) rejected: unknown_id")


def test_ablations_leave_out_what_has_no_sense_without_them() -> None:
    game = released(storage=False)
    assert game.seen["query"] == ""
    game.step("")
    assert game.seen["progress"][0] == 1
