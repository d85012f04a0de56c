"""Settings of a language model on the command line, limits of a run, and names of models that are misspelt."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.agents.players.language_model import load_model
from atommem_gym.cli import main
from atommem_gym.commands.eval import LIMITED
from atommem_gym.commands.options import check_places
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.evaluation.folder import read_run
from atommem_gym.files.model_hub import TOKENIZER_FILES, why_not_there
from atommem_gym.tokenizers import load_tokenizer

__all__ = ["server"]  # a fixture
Capture = pytest.CaptureFixture[str]
TINY = ("--docs", "8", "--episodes", "2", "--set", "store=numpy", "--concurrency", "1")


@pytest.fixture(autouse=True)
def _no_plots(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("atommem_gym.commands.eval.write_plots", lambda report, folder: [])


@pytest.fixture
def hub() -> ModuleType:
    """What asks the Hugging Face hub, for tests that stand in for its answers."""
    module: ModuleType = pytest.importorskip("huggingface_hub", reason="needs the hub: pip install 'atommem-gym[llm]'")
    return module


needs_models = pytest.mark.skipif(
    None in map(importlib.util.find_spec, ("sentence_transformers", "transformers")),
    reason="needs libraries that load models: pip install 'atommem-gym[embed,llm]'",
)


@pytest.fixture(autouse=True)
def _replies(server: OpenAIServer) -> None:
    def answer(request: Request, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "tiny"}]})
        message = {"role": "assistant", "content": "<create>a fact</create><answer>no idea</answer>"}
        usage = {"prompt_tokens": 120, "completion_tokens": 11}
        return Reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    server.answer = answer


def test_finding_6_4_model_options_reach_the_server_of_eval_and_ask(
    server: OpenAIServer, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "notes.txt").write_text("The ferry sank.", encoding="utf-8")
    options = ("--model", server.url, "--model-option", 'extra_body={"min_p": 0.1}', "timeout=30")
    assert main(["eval", "Synthetic", "--agent", "crud", *options, *TINY, "-o", str(tmp_path / "run")]) == 0
    assert main(["ask", str(tmp_path / "notes.txt"), "-q", "What sank?", *options]) == 0
    asked = server.asked("/v1/chat/completions")
    assert len(asked) > 3
    assert {request.body["min_p"] for request in asked} == {0.1}
    plan = read_run(tmp_path / "run").plan
    assert plan.model is not None
    assert plan.model.options == {"extra_body": {"min_p": 0.1}, "timeout": 30}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("--option timeout=3", "--option timeout=…: timeout is a setting of the model; write --model-option timeout=…"),
        ("--set temperature=1", "temperature is an option of agents with a language model; write --option"),
        ("--model-option top_p=1", "write --option top_p=…"),
        ("--option num_docs=3", "num_docs is a keyword argument of the environment; write --set num_docs=…"),
        ("--model-option timeot=3", "unknown option 'timeot' of OpenAIModel; did you mean 'timeout'?"),
        ("--set Synthetic.patience=3", "write --model-option patience=…"),
    ],
)
def test_finding_6_4_a_key_behind_the_wrong_option_is_told_its_place(
    line: str, said: str, tmp_path: Path, capsys: Capture
) -> None:
    start = ["eval", "Synthetic", "--agent", "crud", "--model", "http://localhost:9/v1", "-o", str(tmp_path / "run")]
    assert main([*start, *line.split()]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_finding_6_4_ask_says_it_too(tmp_path: Path, capsys: Capture) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("x", encoding="utf-8")
    assert main(["ask", str(file), "-q", "x", "--set", "max_tokens=3"]) == 2
    assert "write --option max_tokens=…" in capsys.readouterr().err
    assert main(["ask", str(file), "-q", "x", "--model-option", "timeout=3"]) == 2
    assert "--model-option is for a language model, and the agent 'keep_all' uses none" in capsys.readouterr().err


def test_a_key_that_nobody_knows_is_left_to_whoever_takes_it() -> None:
    check_places({"--option": ["nonsense"], "--model-option": ["nonsense"], "--set": ["nonsense"]})
    with pytest.raises(ConfigError, match="write --set store=…"):
        check_places({"--option": ["temperature", "store"]})


def test_OPENAI_BASE_URL_is_the_server_and_said(
    server: OpenAIServer, tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    assert main(["eval", "Synthetic", "--agent", "crud", *TINY, "-o", str(tmp_path / "run")]) == 0
    assert f"note: the model's server is {server.url}, from OPENAI_BASE_URL" in capsys.readouterr().err
    assert {request.headers["authorization"] for request in server.asked("/v1/chat/completions")} == {"Bearer sk-mine"}
    file = tmp_path / "notes.txt"
    file.write_text("x", encoding="utf-8")
    assert main(["ask", str(file), "-q", "x", "--agent", "crud"]) == 0
    assert "from OPENAI_BASE_URL" in capsys.readouterr().err
    asked = len(server.requests)
    assert main(["ask", str(file), "-q", "x"]) == 0, "scripted agents ask nobody"
    assert main(["eval", "Synthetic", "--agent", "tidy", *TINY, "-o", str(tmp_path / "other")]) == 0
    assert "OPENAI_BASE_URL" not in capsys.readouterr().err
    assert len(server.requests) == asked


def test_OPENAI_BASE_URL_with_white_space_gets_the_key_too(
    server: OpenAIServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", f" {server.url}\n")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-mine")
    assert main(["eval", "Synthetic", "--agent", "crud", *TINY, "-o", str(tmp_path / "run")]) == 0
    assert {request.headers["authorization"] for request in server.asked("/v1/chat/completions")} == {"Bearer sk-mine"}


def test_OPENAI_BASE_URL_without_a_scheme_is_named_where_it_is_needed(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "me:topsecret@localhost:8000/v1")
    for line in (
        ["eval", "Synthetic", "--agent", "crud", *TINY, "-o", str(tmp_path / "run")],
        ["ask", "notes.txt", "-q", "x", "--agent", "crud"],
    ):
        assert main(line) == 2
        told = " ".join(capsys.readouterr().err.split())
        assert "OPENAI_BASE_URL holds 'localhost:8000/v1', which is no URL with a scheme" in told
        assert "topsecret" not in told
    assert main(["eval", "Synthetic", "--agent", "silent", *TINY, "-o", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("limit", "said"), [("--token-limit=200", "token limit of 200"), ("--time-limit=1e-9", "time")]
)
def test_a_limit_ends_a_run_that_can_be_resumed(
    limit: str, said: str, server: OpenAIServer, tmp_path: Path, capsys: Capture
) -> None:
    run = str(tmp_path / "run")
    assert (
        main(["eval", "Synthetic", "--agent", "crud", "--model", server.url, *TINY, "-o", run, limit]) == LIMITED == 3
    )
    told = " ".join(capsys.readouterr().err.split())
    assert said in told
    played = 1 if "token" in limit else 0
    assert f"is reached: {played} of 2 episodes" in told or f"tokens: {played} of 2 episodes" in told
    assert f"go on with: atommem eval --resume -o {run}" in told
    assert len(read_run(Path(run)).results) == played
    assert main(["eval", "--resume", "-o", run, "--model", server.url]) == 0
    assert len(read_run(Path(run)).results) == 2


def test_the_time_limit_holds_while_a_server_is_waited_for(
    server: OpenAIServer, tmp_path: Path, capsys: Capture
) -> None:
    server.answer = lambda request, number: Reply({"error": "starting"}, 503)
    line = ["eval", "Synthetic", "--agent", "crud", "--model", server.url, *TINY, "-o", str(tmp_path / "run")]
    assert main([*line, "--model-option", "patience=60", "--time-limit", "0.3"]) == LIMITED
    assert "the time limit of 0.3 s is reached: 0 of 2 episodes" in " ".join(capsys.readouterr().err.split())


def test_the_token_limit_counts_frozen_readers(server: OpenAIServer, tmp_path: Path, capsys: Capture) -> None:
    reader = ("--set", f"reader={server.url}", 'reader_options={"model": "tiny"}')
    line = ["eval", "Synthetic", "--agent", "tidy", *TINY, *reader, "-o", str(tmp_path / "run")]
    # Two questions with nothing shown, and the one of the first episode.
    assert main([*line, "--token-limit", "390"]) == LIMITED
    told = " ".join(capsys.readouterr().err.split())
    assert "the token limit of 390 is reached with 393 tokens: 1 of 2 episodes" in told


def test_the_token_limit_counts_failed_episodes(server: OpenAIServer, tmp_path: Path, capsys: Capture) -> None:
    answer = server.answer

    def failing(request: Request, number: int) -> Reply:
        chats = len(server.asked("/v1/chat/completions"))
        return Reply({"error": "gone"}, 400) if request.method == "POST" and chats % 2 == 0 else answer(request, number)

    server.answer = failing
    line = ["eval", "Synthetic", "--agent", "crud", "--model", server.url, *TINY, "-o", str(tmp_path / "run")]
    assert main([*line, "--set", "chunk_tokens=64", "--token-limit", "100"]) == LIMITED
    told = " ".join(capsys.readouterr().err.split())
    assert "the token limit of 100 is reached with 131 tokens: 0 of 2 episodes" in told


def test_a_server_without_usage_is_told_to_escape_the_token_limit(
    server: OpenAIServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    answer = server.answer

    def untold(request: Request, number: int) -> Reply:
        reply = answer(request, number)
        reply.body.pop("usage", None)
        return reply

    server.answer = untold
    line = ["eval", "Synthetic", "--agent", "crud", "--model", server.url, *TINY, "-o", str(tmp_path / "run")]
    assert main([*line, "--token-limit", "1"]) == 0
    assert caplog.text.count("so --token-limit cannot count it and may not end the run; --time-limit does") == 1


def test_a_limit_that_all_was_played_under_ends_nothing(server: OpenAIServer, tmp_path: Path, capsys: Capture) -> None:
    line = ["eval", "Synthetic", "--agent", "crud", "--model", server.url, *TINY, "-o", str(tmp_path / "run")]
    assert main([*line, "--episodes", "1", "--token-limit", "1", "--time-limit", "600"]) == 0
    assert main([*line, "--token-limit", "0"]) == 2
    assert "--token-limit=0 must be an integer of at least 1" in capsys.readouterr().err


@needs_models
def test_finding_6_7_a_name_that_no_hub_has_is_said_after_one_question(
    hub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def model_info(_: Any, name: str, **keywords: Any) -> None:
        asked.append((name, keywords["timeout"] <= 10))
        raise ConnectionError("nobody there")

    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    with pytest.raises(EmbedderError, match=r"the Hugging Face hub does not answer \(ConnectionError\)"):
        load_embedder("no-such-embedder-9")
    with pytest.raises(ConfigError, match=r"the Hugging Face hub does not answer \(ConnectionError\)"):
        load_model("no-such/model-9")
    with pytest.raises(ConfigError, match=r"tokenizer='no-such-9': .*the Hugging Face hub does not answer \(Connect"):
        load_tokenizer("no-such-9")
    assert asked == [("no-such-embedder-9", True), ("no-such/model-9", True), ("no-such-9", True)]


def test_finding_6_7_a_tokenizer_in_the_cache_needs_no_model_beside_it(
    hub: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def held(name: str, file: str) -> str | None:
        return f"cache/{file}" if file == "tokenizer.json" else None

    def model_info(_: Any, name: str, **keywords: Any) -> None:
        raise ConnectionError("nobody there")

    monkeypatch.setattr(hub, "try_to_load_from_cache", held)
    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    assert why_not_there(["some/tokenizer"], TOKENIZER_FILES) is None
    assert why_not_there(["some/tokenizer"]) is not None


@needs_models
def test_finding_6_7_a_name_that_the_hub_does_not_know(hub: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def model_info(_: Any, name: str, **keywords: Any) -> None:
        asked.append(name)
        raise hub.errors.RepositoryNotFoundError("404", response=_response())

    monkeypatch.setattr(hub.HfApi, "model_info", model_info)
    with pytest.raises(EmbedderError, match="the Hugging Face hub has no model"):
        load_embedder("no-such-embedder-9")
    assert asked == ["no-such-embedder-9", "sentence-transformers/no-such-embedder-9"]
    with pytest.raises(ConfigError, match="that is no name on the Hugging Face hub"):
        load_model("a/b/c/d")


def _response() -> Any:
    from unittest.mock import MagicMock

    return MagicMock(headers={}, status_code=404)


@pytest.mark.parametrize(("name", "meant"), [("hashng", "hashing"), ("MiniLM", "minilm"), ("randm", "random")])
def test_finding_6_7_an_embedder_one_letter_from_a_known_one(name: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"unknown embedder '{name}'; did you mean '{meant}'?"):
        load_embedder(name)
