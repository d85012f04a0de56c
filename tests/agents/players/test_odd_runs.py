"""Runs, evaluations and ``atommem ask`` among whose replies one is odd: the rest is played, and what failed is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.agents.replies import (
    DEEP,
    DIGITS,
    chat,
    embedded,
    lists_models,
    raw,
    refused,
    short_waits,
    with_calls,
)
from support.evaluations import play, small_plan
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.cli import FAILED, main
from atommem_gym.evaluation.folder import read_run
from atommem_gym.traces import read_traces

__all__ = ["server", "short_waits"]
RUNS = {
    "content of a number": chat(3),
    "a string for tool_calls": with_calls("create"),
    "an error": chat("<create>half a fac", finish_reason="error"),
    "gzip that is none": Reply(json.dumps(chat().body), headers={"Content-Encoding": "gzip"}),
    "JSON nested deeply": Reply(DEEP),
    "an error nested deeply": Reply(DEEP, 400),
    "a number of many digits": raw("here", '"prompt_tokens": 12', f'"prompt_tokens": {DIGITS}'),
    "an error inside 200": refused("no such thing"),
}


@pytest.mark.parametrize("name", RUNS)
def test_finding_2_1_an_evaluation_with_one_odd_reply_among_many_ends_with_that_episode_in_its_failures(
    server: OpenAIServer, tmp_path: Path, name: str
) -> None:
    plan = small_plan(
        agents=["crud"], model={"url": server.url, "name": "m"}, docs=10, seeds=0, episodes=6, concurrency=3
    )
    server.answer = lambda request, number: lists_models(request) or chat("<create>a</create><answer>b</answer>")
    whole, _ = play(tmp_path / "whole", plan)
    questions = {trace.index: trace.questions[0].question for trace in read_traces(whole.path / "traces.jsonl")}
    bad, question = list(questions.items())[2]

    def answer(request: Request, number: int) -> Reply:
        asked = request.body["messages"][-1]["content"] if request.body else ""
        return (
            RUNS[name] if question in asked else lists_models(request) or chat("<create>a</create><answer>b</answer>")
        )

    server.answer = answer
    run, _ = play(tmp_path / "run", plan)
    assert [failure.index for failure in run.failures] == [bad]
    assert run.failures[0].error == "LanguageModelError"
    assert len(run.results) == 5
    assert len(read_run(run.path).results) == 5


def test_a_reply_of_lone_surrogates_is_recorded(server: OpenAIServer, tmp_path: Path) -> None:
    plan = small_plan(agents=["crud"], model={"url": server.url, "name": "m"}, docs=10, seeds=0, episodes=1)
    server.answer = lambda request, number: (
        lists_models(request)
        or chat("<create>a \ud800</create><answer>\udfff</answer>", message={"reasoning": "\ud800"})
    )
    run, _ = play(tmp_path / "run", plan)
    assert (len(run.results), run.failures) == (1, ())


class OddEmbeddings:
    """Embeds, but not one text; ``spoilt`` says what it answers then."""

    def __init__(self, spoilt: Reply) -> None:
        self.spoilt = spoilt
        self.bad = "\0"
        self.seen: list[str] = []

    def __call__(self, request: Request, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "e"}]})
        self.seen += request.body["input"]
        odd = any(self.bad in text for text in request.body["input"])
        return self.spoilt if odd else Reply(embedded(request.body["input"]))


@pytest.mark.parametrize("spoilt", [Reply({"data": "x"}), Reply(DEEP), Reply("x", 200, {"Content-Encoding": "gzip"})])
def test_finding_2_1_an_evaluation_with_one_odd_embedding_ends_with_that_episode_in_its_failures(
    server: OpenAIServer, tmp_path: Path, spoilt: Reply
) -> None:
    server.answer = odd = OddEmbeddings(spoilt)
    settings = {"store": "numpy", "embedder": f"{server.url}#{tmp_path.name}"}
    plan = small_plan(agents=["keep_all"], docs=10, seeds=0, episodes=5, settings=settings, concurrency=1)
    whole, _ = play(tmp_path / "whole", plan)
    traces = list(read_traces(whole.path / "traces.jsonl"))
    odd.bad = traces[2].questions[0].question
    # A cached embedder would not ask for the same texts again.
    settings["embedder"] += "-again"
    run, _ = play(tmp_path / "run", small_plan(**{**plan_values(plan), "settings": settings}))
    assert [failure.error for failure in run.failures] == ["EmbedderError"]
    assert run.failures[0].index == traces[2].index
    assert len(run.results) == 4


def plan_values(plan: Any) -> dict[str, Any]:
    return {"agents": ["keep_all"], "docs": 10, "seeds": 0, "episodes": 5, "concurrency": 1}


def test_finding_2_1_a_run_with_one_odd_embedding_plays_the_other_episodes(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.answer = odd = OddEmbeddings(Reply({"data": [[]]}))
    arguments = ["run", "Synthetic", "--agent", "keep_all", "--episodes", "5", "--json", str(tmp_path / "r.json")]
    settings = ["--set", "store=numpy", "num_docs=10", "embedder="]
    assert main([*arguments, *settings[:-1], f"{settings[-1]}{server.url}#{tmp_path.name}"]) == 0
    queries = [text for text in odd.seen if text.endswith("?")]
    odd.bad = queries[2]
    assert main([*arguments, *settings[:-1], f"{settings[-1]}{server.url}#{tmp_path.name}-again"]) == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 5 episodes failed and count in no mean" in said
    assert "EmbedderError" in said
    written = json.loads((tmp_path / "r.json").read_text())
    assert (len(written["records"]), [one["error"] for one in written["failures"]]) == (4, ["EmbedderError"])
    odd.bad = ""
    assert main([*arguments, *settings[:-1], f"{settings[-1]}{server.url}#{tmp_path.name}-gone"]) == FAILED


@pytest.mark.parametrize("name", RUNS)
def test_finding_2_1_ask_says_what_is_odd_and_ends_without_a_traceback(
    server: OpenAIServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    server.answer = lambda request, number: lists_models(request) or RUNS[name]
    (tmp_path / "notes.txt").write_text("Piet Maas saved Ole Lind.")
    assert main(["ask", str(tmp_path / "notes.txt"), "-q", "Who?", "--model", server.url]) == FAILED
    assert "error: POST" in capsys.readouterr().err


@pytest.mark.parametrize(
    "broken",
    [{"finish_reason": "error", "error": {"code": 502, "message": "Upstream died"}}, {"finish_reason": "abort"}],
)
def test_finding_2_2_a_reply_that_its_server_marked_as_broken_is_not_scored(
    server: OpenAIServer, tmp_path: Path, broken: dict[str, Any]
) -> None:
    half = chat("<create>half a fac</create><answer>no</answer>", **broken)
    server.answer = lambda request, number: lists_models(request) or half
    plan = small_plan(agents=["crud"], docs=[5], seeds=[0], episodes=2, model={"url": server.url, "name": "m"})
    run, _ = play(tmp_path, plan)
    assert (run.results, {failure.error for failure in run.failures}) == ((), {"LanguageModelError"})
    assert all(failure.steps == 0 for failure in run.failures), "nothing was acted on"
    assert not (tmp_path / "traces.jsonl").read_text()
