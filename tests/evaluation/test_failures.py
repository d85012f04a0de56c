"""What an episode raises is that episode's failure; what every episode would raise stops the run with one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.evaluations import play, small_plan
from support.openai_server import OpenAIServer, Reply, server

from atommem_gym.agents.players.language_model import load_model
from atommem_gym.agents.scripted.silent import SilentAgent
from atommem_gym.cli import FAILED, main
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.folder import EvaluationError, read_run
from atommem_gym.evaluation.report import make_report
from atommem_gym.evaluation.results import EpisodeResult

__all__ = ["server"]


def failures(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "failures.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "error", [RecursionError, KeyError, MemoryError, AssertionError, UnicodeDecodeError, SystemExit]
)
def test_whatever_an_episode_raises_is_its_failure_with_a_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    act = SilentAgent.act
    raised = []

    def broken(self: Any, observation: Any) -> str:
        if not raised:
            raised.append(UnicodeDecodeError("utf-8", b"", 0, 1, "x") if error is UnicodeDecodeError else error("oh"))
            raise raised[0]
        return act(self, observation)

    monkeypatch.setattr(SilentAgent, "act", broken)
    run, quiet = play(tmp_path, small_plan(agents=["silent"], docs=[5], seeds=[0]))
    assert (len(quiet.results), len(quiet.failures)) == (2, 1)
    (failure,) = failures(tmp_path)
    assert (failure["error"], failure["bug"]) == (error.__name__, True)
    assert "in broken" in failure["traceback"]
    assert any("please report" in line for line in make_report(run).warnings())
    monkeypatch.setattr(SilentAgent, "act", act)
    run, _ = play(tmp_path, resume=True, plan=run.plan)
    assert (len(run.results), run.failures) == (3, ()), "and is played again"


def test_failures_of_before_are_read(tmp_path: Path) -> None:
    play(tmp_path, small_plan(agents=["silent"], docs=[5], seeds=[0]))
    old = {"env": "AtomMem-Synthetic-v0", "docs": 5, "agent": "silent", "seed": 0, "index": 99, "shuffle_seed": 0}
    row = {**old, "steps": 1, "error": "X", "message": "m", "at": ""}
    (tmp_path / "failures.jsonl").write_text(json.dumps(row) + "\n")
    (failure,) = read_run(tmp_path).failures
    assert (failure.traceback, failure.bug) == ("", False)


@pytest.mark.parametrize(("status", "message"), [(401, "bad key"), (403, "forbidden"), (404, "no such model")])
def test_finding_2_9_a_refusal_at_the_first_call_stops_the_run_with_one_line(
    server: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], status: int, message: str
) -> None:
    refusal = Reply({"error": {"message": message}}, status)
    server.answer = lambda request, number: Reply("", 404) if request.method == "GET" else refusal
    plan = small_plan(agents=["crud"], model={"url": server.url, "name": "m"}, concurrency=1)
    with pytest.raises(EvaluationError, match=message):
        play(tmp_path / "run", plan)
    assert len(server.asked("/v1/chat/completions")) == 1
    arguments = ["eval", "Synthetic", "--agent", "crud", "--model", server.url, "--model-name", "m", "--docs", "5"]
    assert main([*arguments, "--concurrency", "1", "-o", str(tmp_path / "other")]) == FAILED
    printed = capfd.readouterr()
    assert (printed.out + printed.err).count(message) == 1


def test_finding_2_9_a_refusal_in_the_middle_is_an_episode_s_failure(server: OpenAIServer, tmp_path: Path) -> None:
    good = Reply({"choices": [{"message": {"content": "<answer>x</answer>"}, "finish_reason": "stop"}]})

    def answer(request: Any, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "m"}]})
        if len(server.asked("/v1/chat/completions")) == 40:
            return Reply({"error": "revoked"}, 401)
        return good

    server.answer = answer
    plan = small_plan(agents=["crud"], docs=[10], model={"url": server.url, "name": "m"}, concurrency=1)
    _, quiet = play(tmp_path / "run", plan)
    assert len(quiet.failures) <= 1
    assert quiet.results


def test_finding_2_9_several_models_on_a_server_are_listed(
    server: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.answer = lambda request, number: Reply({"data": [{"id": "small"}, {"id": "large"}]})
    arguments = ["eval", "Synthetic", "--agent", "crud", "--model", server.url, "--docs", "5"]
    assert main([*arguments, "-o", str(tmp_path / "run")]) == FAILED
    printed = " ".join(capfd.readouterr().err.split())
    assert "has 2 models and none is named" in printed
    assert "small, large" in printed


@pytest.mark.parametrize("url", ["localhost:8101/v1", "127.0.0.1:8000", "gpu.example.org/v1", "gpu-7:8000/v1"])
def test_finding_2_9_a_url_without_a_scheme_is_named_as_one(
    url: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match="without a scheme"):
        load_model(url)
    with pytest.raises(ConfigError, match="without a scheme"):
        load_embedder(url)
    arguments = ["eval", "Synthetic", "--agent", "crud", "--model", url, "--model-name", "m"]
    assert main([*arguments, "-o", str(tmp_path / "run")]) == FAILED
    assert f"http://{url}" in capfd.readouterr().err.replace("\n", "")


def test_an_episode_that_cannot_be_written_down_is_its_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from_trace = EpisodeResult.from_trace
    odd: list[str] = []

    def broken(trace: Any, cell: Any) -> EpisodeResult:
        odd.append(trace.item)
        if len(odd) == 1:
            raise ValueError("Out of range float values are not JSON compliant")
        return from_trace(trace, cell)

    monkeypatch.setattr(EpisodeResult, "from_trace", staticmethod(broken))
    run, _ = play(tmp_path, small_plan(agents=["silent"], docs=[5], seeds=[0]))
    assert (len(run.results), [failure.error for failure in run.failures]) == (2, ["ValueError"])
    assert failures(tmp_path)[0]["bug"] is True


def test_finding_2_9_several_models_of_an_embedding_server_are_listed(server: OpenAIServer) -> None:
    server.answer = lambda request, number: Reply({"data": [{"id": "small"}, {"id": "large"}]})
    with pytest.raises(ConfigError, match=r"has 2 models \(small, large\)"):
        load_embedder(server.url)
    assert [request.path for request in server.requests] == ["/v1/models"]


@pytest.mark.parametrize("command", ["ask", "run"])
def test_finding_2_9_several_models_are_listed_by_every_command(
    server: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], command: str
) -> None:
    server.answer = lambda request, number: Reply({"data": [{"id": "small\x1b[2J"}, {"id": "large"}]})
    (tmp_path / "notes.txt").write_text("The bridge is red.")
    arguments = {
        "ask": ["ask", str(tmp_path / "notes.txt"), "-q", "Which?", "--model", server.url],
        "run": ["run", "Synthetic", "--agent", "tidy", "--set", "num_docs=5", f"embedder={server.url}"],
    }
    assert main(arguments[command]) == FAILED
    printed = capfd.readouterr().err
    assert "has 2 models" in printed
    assert "large" in printed
    assert "\x1b[2J" not in printed
