"""What scripted agents write where there is nothing to do (finding 4.8)."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.game import Game

from atommem_gym.actions import DIALECTS, Answer, Create, Read, Scratchpad, parse
from atommem_gym.errors import ConfigError
from atommem_gym.policies import writing
from atommem_gym.policies.documents import harmless
from atommem_gym.policies.writing import MAX_BOXED, MOVE_ON, SILENCE, ActionWriter, answer, write_action
from atommem_gym.scoring import UNKNOWN


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


@given(st.text(alphabet=st.one_of(st.sampled_from("<>{}\\ X"), st.characters()), max_size=2 * MAX_BOXED))
def test_every_answer_comes_back_from_every_dialect(text: str) -> None:
    for dialect in DIALECTS:
        said = answer(text, dialect)
        assert parse(write_action([said], dialect), dialect) == [said]
        if dialect != "released":
            assert said.text == (harmless(text) or UNKNOWN)


def test_a_boxed_answer_has_at_most_250_characters_and_loses_braces_and_backslashes_alone() -> None:
    assert answer("X" * 251, "released").text == "X" * 250
    assert answer("X" * 251, "crud").text == "X" * 251
    assert answer("{a\\}b", "released").text == "ab"
    assert answer("{a\\}b", "crud").text == "{a\\}b"
    assert answer("{}", "released").text == answer("", "crud").text == UNKNOWN


def test_creates_that_do_not_fit_wait_for_the_next_actions_and_none_is_lost() -> None:
    line = "<create>a</create>"
    for fitting in (1, 2, 3):
        game = Game(max_action_chars=fitting * (len(line) + 1))
        writer = ActionWriter(game.config)
        wanted = [Create(character) for character in "abcdefg"]
        found = [writer.write([*wanted, Read("q")], game.seen)]
        while writer.waiting:
            found.append(writer.write([], game.seen))
        actions = [parse(action, "crud") for action in found]
        assert [op for ops in actions for op in ops if isinstance(op, Create)] == wanted
        assert all(len(ops) == fitting for ops in actions[:-1])
        assert all(action.splitlines() == [f"<create>{op.text}</create>" for op in ops if isinstance(op, Create)]
                   for action, ops in zip(found, actions, strict=True))  # fmt: skip


def test_a_create_that_no_action_can_hold_is_dropped_and_keeps_nothing_waiting() -> None:
    game = Game(max_action_chars=40)
    writer = ActionWriter(game.config)
    assert writer.write([Create("a" * 100), Create("b")], game.seen) == "<create>b</create>"
    assert not writer.waiting


def test_a_dialect_of_the_users_own_gets_one_line_then_words_alone_then_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    own = "support.plugins.parts:lines"
    assert write_action([Create("Ada\n died."), Read("a\nb")], own) == "STORE: Ada died.\nFIND: a b"

    def picky(ops: list[Create], dialect: str) -> str:
        if not re.fullmatch(r"[\w ]+", ops[0].text):
            raise ValueError("no marks")
        return ops[0].text

    monkeypatch.setattr(writing, "format_action", picky)
    assert write_action([Create("Ada, (who)  died.")], own) == "Ada who died"
    assert write_action([Create("?!")], own) == UNKNOWN
    with pytest.raises(ValueError, match="no marks"):
        write_action([Create("?!")], "crud")
    monkeypatch.setattr(writing, "UNKNOWN", "?")
    with pytest.raises(ConfigError, match=r"cannot write Create\(text='\?!'\) \(no marks\), nor its words alone"):
        write_action([Create("?!")], own)
