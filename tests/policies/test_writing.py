"""What scripted agents write where there is nothing to do (finding 4.8)."""

from __future__ import annotations

from typing import Any

import pytest
from support.game import Game

from atommem_gym.actions import Answer, Create, Read, Scratchpad, parse
from atommem_gym.policies.writing import MOVE_ON, SILENCE, ActionWriter


def write(wanted: Any, phase: int = 0, **keywords: Any) -> str:
    game = Game(**keywords)
    return ActionWriter(game.config).write(wanted, {**game.seen, "phase": phase})


@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
def test_finding_4_8_a_reading_step_without_operations_says_so_in_words(dialect: str) -> None:
    assert write([], dialect=dialect) == SILENCE
    assert parse(SILENCE, dialect) == []
    assert write([Create("a")], operations=["read"], dialect=dialect) == SILENCE
    assert write([Scratchpad("a")], scratchpad=False, dialect=dialect) == SILENCE
    for op in (Create("a"), Read("a"), Scratchpad("a")):
        assert SILENCE not in write([op], dialect=dialect)


def test_finding_4_8_silence_is_for_reading_alone_and_for_actions_that_hold_it() -> None:
    assert write([], phase=1) == ""
    assert write([Answer("a")], phase=1) == "<answer>a</answer>"
    assert write([], max_action_chars=len(SILENCE)) == SILENCE
    assert write([], max_action_chars=len(SILENCE) - 1) == ""
    assert write([], advance="on_write") == f"<create>{MOVE_ON}</create>"


def test_finding_4_8_words_change_nothing_but_the_action() -> None:
    spelt, empty = Game(chunks=3), Game(chunks=3)
    for _ in range(3):
        assert repr(spelt.step(SILENCE)) == repr(empty.step(""))
