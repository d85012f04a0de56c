"""A server that nobody started ends a command in seconds; one that is gone later is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, Request, server
from support.servers import free_port

from atommem_gym.agents.players import openai_model
from atommem_gym.cli import FAILED, main
from atommem_gym.errors import EmbedderError, StoreError, refused_for_good
from atommem_gym.evaluation.folder import read_run
from atommem_gym.evaluation.groups import Group

__all__ = ["server"]  # a fixture
Capture = pytest.CaptureFixture[str]
TINY = ("--docs", "8", "--episodes", "2", "--set", "store=numpy", "--concurrency", "1")


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atommem_gym.commands.eval.write_plots", lambda report, folder: [])
    monkeypatch.setattr(openai_model, "STARTED_S", 0.2)


def command(name: str, folder: Path, url: str) -> list[str]:
    if name == "eval":
        return ["eval", "Synthetic", "--agent", "crud", *TINY, "-o", str(folder / "run"), "--model", url]
    (folder / "notes.txt").write_text("The bridge is red.")
    return ["ask", str(folder / "notes.txt"), "-q", "Which?", "--model", url]


def chat(request: Request, failing: bool) -> Reply:
    if failing:
        return Reply({"error": {"message": "starting"}}, 503)
    if request.method == "GET":
        return Reply({"data": [{"id": "tiny"}]})
    message = {"role": "assistant", "content": "<create>a fact</create><answer>no idea</answer>"}
    return Reply({"choices": [{"message": message, "finish_reason": "stop"}]})


@pytest.mark.parametrize("name", ["eval", "ask"])
def test_a_server_that_was_never_started_is_said_in_seconds(name: str, tmp_path: Path, capsys: Capture) -> None:
    url = f"http://127.0.0.1:{free_port()}/v1"
    assert main(command(name, tmp_path, url)) == FAILED
    said = capsys.readouterr()
    error = " ".join(said.err.split()).partition("error: ")[2]
    assert error.startswith(f"the server {url} gave no answer for 0 seconds (")
    assert "ConnectError" in error
    assert "Start it, or name another with --model. " in error
    assert error.endswith("--model-option patience=900")
    assert said.out == ""
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["eval", "ask"])
def test_a_given_patience_waits_for_a_server_that_is_starting(name: str, server: OpenAIServer, tmp_path: Path) -> None:
    server.answer = lambda request, number: chat(request, number < 2)
    assert main([*command(name, tmp_path, server.url), "--model-option", "patience=60"]) == 0
    assert len(server.asked("/v1/models")) >= 3


def test_a_server_that_is_gone_for_a_while_later_is_waited_for(server: OpenAIServer, tmp_path: Path) -> None:
    server.answer = lambda request, number: chat(request, failing=2 <= number < 4)
    assert main(command("eval", tmp_path, server.url)) == 0
    run = read_run(tmp_path / "run")
    assert (len(run.results), list(run.failures)) == (2, []), "no episode has failed"


def test_an_embedder_that_nobody_started_ends_an_evaluation_at_its_first_episode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    opened: list[Any] = []
    pool = Group.pool

    async def gone(self: Group, cell: Any) -> Any:
        opened.append(cell)
        if len(opened) in wanted:
            raise EmbedderError("GET http://localhost:1/v1/models failed 5 times")
        return await pool(self, cell)

    monkeypatch.setattr(Group, "pool", gone)
    line = ["eval", "Synthetic", "--agent", "silent", *TINY, "-o", str(tmp_path / "run")]
    wanted = {1}
    assert main(line) == FAILED
    said = capsys.readouterr()
    assert "error: no episode can begin: GET http://localhost:1/v1/models failed 5 times" in said.err
    assert (len(opened), said.out, (tmp_path / "run").exists()) == (1, "", False)

    opened.clear()
    wanted = {2}
    assert main(line) == 1, "after an episode it is a failure like others"
    assert len(read_run(tmp_path / "run").results) == 1


def test_a_judge_is_asked_before_the_first_episode(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setenv("ATOMMEM_JUDGE_URL", server.url)
    monkeypatch.setenv("ATOMMEM_JUDGE_MODEL", "m")
    server.answer = lambda request, number: Reply({"error": {"message": "no such model"}}, 404)
    line = ["eval", "Synthetic", "--agent", "keep_all", *TINY, "--set", "reward=judge", "-o", str(tmp_path / "run")]
    assert main(line) == FAILED
    assert "HTTP 404" in capsys.readouterr().err
    assert len(server.requests) == 1
    assert '"candidate_answer": "Paris"' in server.requests[0].body["messages"][1]["content"]
    assert not (tmp_path / "run").exists()


def test_an_error_that_is_its_own_cause_is_judged_all_the_same() -> None:
    inner = RuntimeError("as gRPC raises it")
    inner.__cause__ = inner
    error = StoreError("the Milvus server failed")
    error.__cause__ = inner
    assert not refused_for_good(error)
