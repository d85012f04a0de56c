"""Episodes, commands and the public surface are as recorded (README.md)."""

from __future__ import annotations

import copy
import json

import pytest

from net import masks
from net.commands import SESSIONS, STOPPED, Session, apart, transcript
from net.forms import play
from net.recordings import (
    FOLDER,
    difference,
    episodes_difference,
    read_episodes,
    read_text,
    transcripts_difference,
)
from net.scenarios import SCENARIOS, STORES


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_episode_is_as_recorded(name: str) -> None:
    recorded, now = read_episodes()[name], play(name, SCENARIOS[name])
    if recorded != now:
        pytest.fail(episodes_difference(name, recorded, now), pytrace=False)


@pytest.mark.parametrize("name", SESSIONS)
def test_commands_say_and_write_what_is_recorded(name: str) -> None:
    recorded = read_text(f"command_{name}.txt")
    now, lines = transcript(name)
    if recorded != now:
        pytest.fail(transcripts_difference(name, recorded, now, lines), pytrace=False)


def test_ids_keywords_options_and_signatures_are_as_recorded() -> None:
    code = "from net.recordings import read_text; from net.surface import surface"
    done = apart(f"{code}; print(surface(read_text('command_help.txt')))")
    assert done.returncode == 0, done.stderr.decode("utf-8")
    recorded, now = read_text("surface.json"), done.stdout.decode("utf-8").rstrip()
    if recorded != now:
        pytest.fail(difference("surface.json", recorded, now), pytrace=False)


def test_the_scenarios_are_those_recorded_and_cover_every_pair() -> None:
    assert list(read_episodes()) == sorted(SCENARIOS)
    assert len(SCENARIOS) == 40
    scenarios = SCENARIOS.values()
    forms, dialects = ("single", "vector", "pool", "team"), ("crud", "released", "tools")
    assert {(one.form, one.dialect) for one in scenarios} >= {(form, dialect) for form in forms for dialect in dialects}
    assert {(one.form, one.store) for one in scenarios} >= {(form, store) for form in forms for store in STORES}
    presets = {(one.form, one.dialect, one.preset) for one in scenarios if one.form in forms[:3]}
    assert presets == {(form, dialect, p) for form in forms[:3] for dialect in dialects for p in ("paper", "released")}


def test_the_recorded_episodes_hold_every_kind_of_rejection_and_end() -> None:
    """A net with wide meshes would pass whatever happened."""
    reasons, closings, ends, operations = set(), set(), set(), set()
    for scenario in read_episodes().values():
        for line in scenario["traces"]:
            trace = json.loads(line)
            closings |= {(one["closed"], one["score"] > 0) for one in trace["metrics"]["answers"]}
            ends.add(trace["steps"][-1]["terminated"])
            for step in trace["steps"]:
                reasons |= {one["reason"] for one in step["info"]["rejected"]}
                operations |= {(one["kind"], one["outcome"]) for one in step["operations"]}
        reasons |= {"conflict"} & {word for line in scenario["returned"] for word in line.split('"')}
    assert reasons >= {
        *("too_long", "cut", "empty", "unclosed", "unknown_tag", "bad_id", "bad_json", "disabled", "unknown_id"),
        *("not_visible", "memory_full", "not_yet", "question_closed", "read_limit", "conflict", "aborted"),
    }
    assert closings >= {("answered", True), ("answered", False), ("read_limit", False), ("unanswered", False)}
    assert ends == {True, False}
    kinds = ("create", "read", "update", "delete", "scratchpad", "answer")
    assert operations >= {(kind, outcome) for kind in kinds for outcome in ("applied", "rejected")}


def test_the_recordings_are_small_and_hold_nothing_of_one_machine() -> None:
    files = sorted(FOLDER.iterdir())
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for file in files:
        if file.suffix == ".txt":
            text = file.read_text(encoding="utf-8")
            assert "/tmp/" not in text
            assert str(FOLDER.parent.parent.parent) not in text


def test_a_change_of_one_word_is_shown_where_it_is() -> None:
    name = next(iter(SCENARIOS))
    recorded = read_episodes()[name]
    changed = copy.deepcopy(recorded)
    changed["traces"][0] = changed["traces"][0].replace("created 1", "made 1", 1)
    shown = episodes_difference(name, recorded, changed)
    assert len(shown.splitlines()) < 20
    assert [line for line in shown.splitlines()[3:] if line.startswith("-") and "created 1" in line]
    assert [line for line in shown.splitlines()[3:] if line.startswith("+") and "made 1" in line]


def test_another_spelling_of_the_same_json_is_a_difference() -> None:
    name = next(iter(SCENARIOS))
    recorded = read_episodes()[name]
    changed = copy.deepcopy(recorded)
    changed["traces"][0] = changed["traces"][0].replace('"reward":0.0', '"reward": 0.0', 1)
    assert changed != recorded
    assert "in another spelling" in episodes_difference(name, recorded, changed)


def test_a_session_that_stops_is_a_difference_and_not_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def stops(session: Session) -> None:
        session.run("replay", "no-such-file.jsonl")
        session.show("never-written.txt")

    monkeypatch.setitem(SESSIONS, "stops", stops)
    text, _ = transcript("stops")
    assert "error: there is no file no-such-file.jsonl" in text
    assert f"=== {STOPPED}\nFileNotFoundError" in text
    assert all(STOPPED not in read_text(f"command_{name}.txt") for name in SESSIONS if name != "stops")


def test_masks_touch_no_text() -> None:
    line = rb'{"action":"\"seconds\":3 \"versions\":{} 0.5 s","seconds":{"agent":1.5e-05,"env":2},"started":"2026"}'
    masked = r'{"action":"\"seconds\":3 \"versions\":{} 0.5 s","seconds":{"agent":0,"env":0},"started":"<time>"}'
    assert masks.trace_line(line) == masked
