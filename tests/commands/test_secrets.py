"""Keys and passwords are sent and nowhere else; control characters reach no terminal (findings 1.3 and 1.5)."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from rich.text import Text
from support.evaluations import play, small_plan
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.cli import main
from atommem_gym.commands.ask.ask import Ask
from atommem_gym.commands.ask.memory import Memory
from atommem_gym.commands.consoles import SafeConsole, safe_warnings
from atommem_gym.commands.memory import _listing
from atommem_gym.embedders.openai_embedder import EndpointEmbedder
from atommem_gym.endpoints import http_url
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.tables import _no_formula
from atommem_gym.testing import budget
from atommem_gym.traces.recorder import json_keywords
from atommem_gym.trust import checked_key, masked, secret, without_secrets

__all__ = ["server"]

STEERING = "\x1b]0;owned\x07\x1b[31m\u202e\x9b2J\r"


def chat(request: Request, number: int) -> Reply:
    if request.method == "GET":
        return Reply({"data": [{"id": "m"}]})
    if request.path.endswith("/embeddings"):
        rows = [{"index": i, "embedding": [1.0, float(len(text))]} for i, text in enumerate(request.body["input"])]
        return Reply({"data": rows})
    return Reply({"choices": [{"message": {"content": "<answer>x</answer>"}, "finish_reason": "stop"}]})


@pytest.mark.parametrize("key", ["sk-1\r\n", " sk-1\n", "\tsk-1"])
def test_finding_1_3_a_key_is_stripped(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    server.answer = chat
    monkeypatch.setenv("OPENAI_API_KEY", key)
    EndpointEmbedder(server.url).close()
    assert {request.headers["authorization"] for request in server.requests} == {"Bearer sk-1"}


@pytest.mark.parametrize("key", ["sk-\r\nX-Other: 1", "sk-é", "sk\x00tail", "sk secret", "sk-\ud800", "***"])
def test_finding_1_3_a_key_that_is_none_is_an_error_that_does_not_show_it(
    monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        checked_key(key, "api_key")
    assert key not in str(caught.value) or key == "***"
    with pytest.raises(ConfigError):
        EndpointEmbedder("http://127.0.0.1:9/v1", "m", api_key=key)
    if "\x00" not in key and "\ud800" not in key:
        monkeypatch.setenv("OPENAI_API_KEY", key)
        with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
            secret("OPENAI_API_KEY", "http://127.0.0.1:9/v1")


def everything(folder: Path) -> str:
    return "\n".join(path.read_bytes().decode(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_finding_1_3_no_key_and_no_password_is_in_a_run_s_folder_or_output(
    server: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = chat
    monkeypatch.setenv("OPENAI_API_KEY", "sk-topsecret\n")
    url = server.url.replace("http://", "http://me:topsecret@")
    model: dict[str, Any] = {"url": url, "name": "m", "options": {"api_key": "sk-topsecret", "timeout": 30}}
    changes: dict[str, Any] = {"agents": ["crud"], "docs": [5], "seeds": [0], "episodes": 1}
    plan = small_plan(model=model, settings={"store": "numpy", "embedder": url}, **changes)
    run, _ = play(tmp_path / "run", plan)
    assert run.results
    assert "topsecret" not in everything(tmp_path)
    assert "http://***@" in everything(tmp_path)
    again, quiet = play(tmp_path / "run", plan, resume=True)
    assert (again.results, quiet.results) == (run.results, []), "the same plan is known again"
    server.answer = lambda request, number: Reply({"error": "no"}, 400)
    arguments = ["eval", "Synthetic", "--agent", "crud", "--model", url, "--model-name", "m", "--docs", "5"]
    assert main([*arguments, "--episodes", "1", "-o", str(tmp_path / "other")]) != 0
    assert main([*arguments, "--set", f"embedder={url}#x", "-o", str(tmp_path / "third")]) != 0
    assert main(["run", "Synthetic", "--set", f"embedder={url}#y", "--episodes", "1"]) != 0
    printed = capfd.readouterr()
    assert "topsecret" not in everything(tmp_path) + printed.out + printed.err
    assert "topsecret" not in str(json_keywords({"embedder": url, "store": "http://root:topsecret@db:19530"}))


def test_the_password_of_a_memory_or_a_model_is_not_printed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "http://root:topsecret@db:19530"
    monkeypatch.setattr("atommem_gym.commands.ask.ask.find_memory", lambda *given, **named: Memory())
    (tmp_path / "notes.txt").write_text("The bridge is red.", encoding="utf-8")
    for more in ([], ["--json"]):
        assert main(["ask", str(tmp_path / "notes.txt"), "-q", "Which?", "--memory", url, *more]) == 0
        assert "http://***@db:19530" in capfd.readouterr().out
    nameless: Any = SimpleNamespace(agent=SimpleNamespace(settings={}))
    assert Ask(model=url, agent="crud")._model_shown(nameless) == "http://***@db:19530"
    monkeypatch.setattr("atommem_gym.commands.memory.purge", lambda *given: 2)
    assert main(["memory", "purge", url, "--yes"]) == 0
    assert "2 memories are deleted from http://***@db:19530" in capfd.readouterr().out
    database: Any = SimpleNamespace(where=url, embedder="hashing", changed=None, dim=4, list_keys=list)
    value, table = _listing(database)
    assert "topsecret" not in json.dumps(value) + table.title


def test_finding_1_3_a_masked_url_is_not_called() -> None:
    with pytest.raises(ConfigError, match="was not written down"):
        http_url("http://***@127.0.0.1:9/v1")


userinfo = st.text(
    st.characters(exclude_characters="/?#@'\" \t\n\r\x0b\x0c", exclude_categories=("Z", "C")), min_size=1
)


@given(userinfo, st.sampled_from(["http://{}@h:1/v1", 'say "https://{}@h" now', "a HTTP://u:{}@h", "milvus://{}@h"]))
@example("pass@word", "http://{}@h/v1")
@budget(200)
def test_finding_1_3_no_password_survives_the_mask(password: str, form: str) -> None:
    secret_text = f"zq{password}qz"
    text = form.format(secret_text)
    assert secret_text not in masked(text)
    assert masked(masked(text)) == masked(text)
    assert secret_text not in str(without_secrets({"a": [{"b": text}], "api_key": secret_text, "x_token": secret_text}))
    assert without_secrets({"max_tokens": 5, "tokenizer": "words"}) == {"max_tokens": 5, "tokenizer": "words"}


COMMANDS = [
    ["eval", "--report-only", "-o", "{}"],
    ["eval", "--config", "{}"],
    ["eval", "Synthetic", "--source", "Synthetic={}", "--agent", "silent", "-o", "{}"],
    ["compare", "{}", "{}"],
    ["replay", "{}"],
    ["rescore", "{}", "--scorer", "em"],
    ["export", "{}", "-o", "{}"],
    ["view", "{}"],
    ["memory", "ls", "{}"],
    ["data", "check", "{}"],
    ["ask", "{}", "--question", "x"],
    ["run", "{}"],
    ["run", "HotpotQA", "--set", "source={}", "--episodes", "1"],
    ["run", "Synthetic", "--set", "embedder={}"],
]


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: " ".join(command[:3]).replace("{}", "PATH"))
def test_finding_1_5_no_command_prints_the_control_characters_of_a_path(
    command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = f"a{STEERING}b.jsonl"
    Path(name).write_text('{"torn')
    try:
        status = main([part.format(name) for part in command])
    except SystemExit as error:
        status = int(str(error.code))
    printed = capfd.readouterr()
    assert status or command[0] == "ask", "what is not a record is still a text to ask about"
    assert "\x1b]" not in printed.out + printed.err
    assert not set("\x07\x9b\u202e") & set(printed.out + printed.err)


def test_finding_1_5_a_console_and_the_log_are_safe_whoever_prints(capfd: pytest.CaptureFixture[str]) -> None:
    SafeConsole(force_terminal=True, width=80).print(Text(STEERING + "x", style="red"))
    SafeConsole(width=80).print(STEERING, markup=False)
    logger = logging.getLogger()
    before = logger.handlers[:]
    logger.handlers.clear()
    try:
        with safe_warnings():
            logging.getLogger("atommem_gym").warning("torn %s http://me:pw@h/v1", STEERING)
        assert not logger.handlers
    finally:
        logger.handlers[:] = before
    printed = capfd.readouterr()
    assert "\x1b[31mx" in printed.out or "\x1b[31m" in printed.out, "colours stay"
    assert "\x1b]" not in printed.out + printed.err
    assert "\x9b" not in printed.out + printed.err
    assert "pw" not in printed.err


@given(
    st.text(max_size=8)
    | st.sampled_from(["=", "+", "-", "@", "\t", "\r", " ="]).map(lambda start: f"{start}cmd|'/C'!A0")
)
@budget(100)
def test_finding_1_5_no_field_of_a_table_is_a_formula(label: str) -> None:
    text = _no_formula(label)
    assert not text.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r"))
    assert text in (label, f"'{label}")
