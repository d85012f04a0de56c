"""What the feedback of a step, and an error of the episode, says (SPEC M11, E7)."""

from __future__ import annotations

from typing import Any

import pytest
from gymnasium.error import ResetNeeded
from support.game import Game
from support.messages import say, says


@pytest.mark.parametrize(
    ("keywords", "actions", "lines"),
    [
        ({}, ["<answer>x</answer>"], [("operation 1", "answer", "rejected", "not_yet", "after the last chunk")]),
        (
            {"max_action_chars": 5},
            ["<create>x</create>"],
            [("action cut", "too_long", "5 characters", "last 13 were not read")],
        ),
        (
            {"operations": ["read"]},
            ["<create>x</create>"],
            [("operation 1", "create", "rejected", "disabled", "no create")],
        ),
        ({}, ["<create>x</create><create>y</create>"], [("created 1",), ("created 2",)]),
        (
            {"addressing": "visible"},
            ["<create>x</create>", '<delete id="1"/><delete id="2"/>'],
            [
                ("operation 1", "delete", "rejected", "not_visible", "does not show entry 1"),
                ("operation 2", "delete", "rejected", "unknown_id", "no entry 2"),
            ],
        ),
        (
            {"questions": 2},
            ["", "", "<answer>x</answer><answer>y</answer><read>z</read>"],
            [
                ("operation 2", "answer", "rejected", "question_closed", "at most one question"),
                ("operation 3", "read", "rejected", "question_closed", "at most one question"),
            ],
        ),
        (
            {"questions": 2, "max_reads_per_question": 0},
            ["", "", "<read>z</read>"],
            [("operation 1", "read", "rejected", "read_limit", "0 reads", "closed unanswered")],
        ),
    ],
    ids=["not yet", "too long", "disabled", "created", "addressing", "closed", "limit"],
)
def test_M11_the_feedback_says_what_happened_and_why(
    keywords: dict[str, Any], actions: list[str], lines: list[tuple[str, ...]]
) -> None:
    game = Game(chunks=2, **keywords)
    for action in actions:
        game.step(action)
    say(game.seen["feedback"].split("\n"), *lines)


def test_E7_a_step_after_the_end_and_an_action_that_is_no_text_say_what_to_do() -> None:
    game = Game(chunks=1)
    with pytest.raises(TypeError) as wrong:
        game.step(b"x")  # type: ignore[arg-type]
    says(wrong.value, "b'x'", "bytes", "str", "env.action_space")
    game.step("")
    game.step("<answer>Aare</answer>")
    with pytest.raises(ResetNeeded) as over:
        game.episode.begin("")
    says(over.value, "over", "reset()")
