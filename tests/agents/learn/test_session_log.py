"""The table of a session log, and the figures of a step, counted by hand."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from atommem_gym.agents.learn import session_log
from atommem_gym.errors import AtomMemError


def session(uid: str, reward: float, **changes: Any) -> dict[str, Any]:
    given = {"run": "1", "part": "train", "global_step": 1, "uid": uid, "reward": reward, "em": reward, "rejected": 1.0}
    told = {"prompt_tokens": 1000.0, "response_tokens": 50.0, "cached_tokens": 250.0, "env_s": 0.1, "session_s": 20.0}
    return {**given, **told, "op_create": 2.0, "op_read": 1.0, **changes}


GROUPS = [session("a", 1.0), session("a", 0.0), session("b", 0.25), session("b", 0.25)]


def test_finding_5_8_figures_of_a_step() -> None:
    assert session_log.figures(GROUPS) == pytest.approx(
        {"groups_without_variance": 0.5, "environment_share": 0.005, "prefix_cache_hits": 0.25}
    )


@pytest.mark.parametrize("untold", [None, float("nan")])
def test_what_a_server_or_an_old_log_does_not_tell_is_left_out(untold: float | None) -> None:
    found = session_log.figures([*GROUPS, session("c", 0.0, cached_tokens=untold)])
    assert "prefix_cache_hits" not in found
    old = [{name: value for name, value in one.items() if name not in ("env_s", "session_s")} for one in GROUPS]
    assert set(session_log.figures(old)) == {"groups_without_variance", "prefix_cache_hits"}
    assert "environment_share" not in session_log.figures([session("a", 0.0, env_s=0.0, session_s=0.0)])


def test_the_table_has_a_row_a_step_and_counts_a_step_that_was_played_again_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    again = [{**one, "run": "2", "global_step": 2} for one in GROUPS]
    validation = [session("v", 1.0, part="validation")]
    untold = [session("a", 1.0, run="2", global_step=3, cached_tokens=None)]
    before = [session("a", 1.0, global_step=2), *GROUPS]
    path = tmp_path / "sessions.jsonl"
    text = "".join(json.dumps(one) + "\n" for one in [*before, *again, *validation, *untold])
    path.write_text(text + '{"part": "tr')  # a writer was killed
    monkeypatch.setattr(sys, "argv", ["session_log", str(path)])
    assert session_log.main() == 0
    header, _, *rows = capsys.readouterr().out.splitlines()
    assert header.count("|") == 11
    assert rows == [
        "| 1 | 4 | 0.375 | 0.375 | 3.00 | 1.00 | 200 | 50.0% | 0.5% | 25.0% |",
        "| 2 | 4 | 0.375 | 0.375 | 3.00 | 1.00 | 200 | 50.0% | 0.5% | 25.0% |",
        "| 3 | 1 | 1.000 | 1.000 | 3.00 | 1.00 | 50 | 100.0% | 0.5% | – |",
    ]


@pytest.mark.parametrize("content", [None, "[]\n", '{"step": 1}\n', "no json\n"])
def test_another_file_is_named(
    tmp_path: Path, content: str | None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "metrics.jsonl"
    if content is not None:
        path.write_text(content)
    with pytest.raises(AtomMemError, match=r"metrics\.jsonl"):
        session_log.read(path)
    monkeypatch.setattr(sys, "argv", ["session_log", str(path)])
    assert session_log.main() == 1
    assert "metrics.jsonl" in capsys.readouterr().err


@pytest.mark.parametrize(
    "odd",
    [{"global_step": "1"}, {"global_step": []}, {"reward": None}, {"reward": 10**400}, {"em": True}, {"rejected": [1]},
     {"op_create": float("nan")}, {"response_tokens": "x" * 9_999}, {"prompt_tokens": {}}],
    ids=range(9),
)  # fmt: skip
def test_a_session_of_no_numbers_is_named(
    odd: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in [*GROUPS, {**session("c", 0.0), **odd}]))
    monkeypatch.setattr(sys, "argv", ["session_log", str(path)])
    assert session_log.main() == 1
    said = capsys.readouterr().err
    assert f"session 5 of {path} has {next(iter(odd))}=" in said
    assert len(said) < 500


def test_the_log_of_grpo_which_tells_no_tokens_has_a_table() -> None:
    told = ("prompt_tokens", "response_tokens", "cached_tokens", "env_s", "session_s")
    sessions = [{name: value for name, value in one.items() if name not in told} for one in GROUPS]
    assert session_log.table(sessions).splitlines()[2:] == [
        "| 1 | 4 | 0.375 | 0.375 | 3.00 | 1.00 | – | 50.0% | – | – |"
    ]
