"""``atommem run``: what one episode raises is its failure; what each would raise stops the run with one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, server

from atommem_gym.agents.scripted.silent import SilentAgent
from atommem_gym.cli import FAILED, main

__all__ = ["server"]

RUN = ["run", "Synthetic", "--episodes", "4", "--set", "num_docs=5", "store=numpy", "--agent", "silent"]
ERRORS = [
    RecursionError,
    KeyError,
    MemoryError,
    AssertionError,
    UnicodeDecodeError,
    SystemExit,
    BrokenPipeError,
    OSError,
]


def failing(monkeypatch: pytest.MonkeyPatch, error: type[BaseException], *, episodes: int) -> None:
    """Let the first acts of the agent raise, one an episode."""
    act = SilentAgent.act
    raised: list[BaseException] = []

    def broken(self: Any, observation: Any) -> str:
        if len(raised) < episodes:
            raised.append(
                UnicodeDecodeError("utf-8", b"", 0, 1, "x") if error is UnicodeDecodeError else error("o\x1bh")
            )
            raise raised[-1]
        return act(self, observation)

    monkeypatch.setattr(SilentAgent, "act", broken)


@pytest.mark.parametrize("error", ERRORS)
def test_finding_2_1_whatever_an_episode_raises_is_that_episode_s_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[BaseException]
) -> None:
    failing(monkeypatch, error, episodes=2)
    assert main([*RUN, "--json", str(tmp_path / "out.json")]) == 1
    printed = capsys.readouterr().out
    assert "2 of 4 episodes failed and count in no mean" in printed
    assert "2 of them failed with a programming error" in printed
    assert "in broken" in printed, "its traceback"
    assert "\x1b" not in printed
    written = json.loads((tmp_path / "out.json").read_text())
    assert (len(written["records"]), len(written["failures"])) == (2, 2)
    assert [(one["error"], one["bug"]) for one in written["failures"]] == [(error.__name__, True)] * 2
    assert "in broken" in written["failures"][0]["traceback"]


def test_many_failures_in_a_row_stop_the_run_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    failing(monkeypatch, ZeroDivisionError, episodes=99)
    assert main(RUN) == FAILED
    said = capsys.readouterr()
    assert said.err.strip() == "error: 3 episodes failed one after the other, the last with ZeroDivisionError: o�h"
    assert "in broken" in said.out


def test_ctrl_c_passes(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt, episodes=1)
    assert main(RUN) == 130
    assert "interrupted after 0 of 4 episodes" in capsys.readouterr().out


@pytest.mark.parametrize("status", [401, 403, 404])
def test_finding_2_9_a_refusal_at_the_first_call_stops_the_run_with_one_line(
    server: OpenAIServer,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    server.answer = lambda request, number: Reply({"error": {"message": "no such model"}}, status)
    assert main([*RUN[:-2], f"embedder={server.url}#m", "--agent", "keep_all"]) == FAILED
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 1
    assert f"HTTP {status}" in said.err
    assert said.out == ""
    # What the model's name stands for, and the first text.
    assert [request.path for request in server.requests] == ["/v1/models", "/v1/embeddings"]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_finding_2_9_ask_ends_with_one_line_at_a_refusal(
    server: OpenAIServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: int,
) -> None:
    def answer(request: Any, number: int) -> Reply:
        listed = request.path.endswith("/models")
        return Reply({"data": [{"id": "m"}]} if listed else {"error": {"message": "no"}}, 200 if listed else status)

    server.answer = answer
    (tmp_path / "notes.txt").write_text("The bridge is red.")
    assert main(["ask", str(tmp_path / "notes.txt"), "-q", "Which?", "--model", server.url]) == FAILED
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error:")]
    assert len(errors) == 1
    assert f"HTTP {status}" in errors[0]
    assert len(server.asked("/v1/chat/completions")) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_finding_2_9_a_judge_that_refuses_the_first_call_stops_the_run_with_one_line(
    server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], status: int
) -> None:
    monkeypatch.setenv("ATOMMEM_JUDGE_URL", server.url)
    monkeypatch.setenv("ATOMMEM_JUDGE_MODEL", "m")
    server.answer = lambda request, number: Reply({"error": {"message": "no such model"}}, status)
    monkeypatch.setattr(SilentAgent, "act", lambda self, observation: "<answer>x</answer>")
    assert main([*RUN[:-2], "reward=judge", "--agent", "silent"]) == FAILED
    said = capsys.readouterr()
    assert len(said.err.strip().splitlines()) == 1
    assert f"HTTP {status}" in said.err
    assert said.out == ""
    assert len(server.requests) == 1
