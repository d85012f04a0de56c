"""What the feedback of a step, and an error of the episode, says (SPEC M11, E7)."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium.error import ResetNeeded
from support.game import Game


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
