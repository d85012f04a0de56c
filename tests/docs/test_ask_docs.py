"""The commands of docs/ask.md and docs/viewer.md run as they stand, and say what the pages show."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from atommem_gym.cli import main
from atommem_gym.viewer.page import SCRIPTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ASK, VIEWER = ((DOCS / name).read_text(encoding="utf-8") for name in ("ask.md", "viewer.md"))


def commands(page: str) -> list[list[str]]:
    """The arguments of every `atommem` command in the page's shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("atommem ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def test_ask_s_commands_run_one_after_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for name, text in re.findall(r"`([\w.]+)`:\n\n```\w+\n(.*?)```", ASK, re.DOTALL):
        (tmp_path / name).write_text(text)
    assert {path.name for path in tmp_path.iterdir()} == {"diary.md", "minutes.txt"}
    outputs = []
    for arguments in commands(ASK):
        # A server is not at hand; what it does is tested in test_ask.py.
        if "http://localhost:8000/v1" in arguments:
            continue
        # What a shell does with a redirection.
        if ">" in arguments:
            arguments = arguments[: arguments.index(">")]
        # The page's key is an example; the memory has another.
        if "KEY" in arguments:
            [exported] = json.loads(outputs[-1])
            arguments[arguments.index("KEY")] = exported["key"][:4]
        assert main(arguments) == 0, arguments
        outputs.append(capsys.readouterr().out)
    [shown] = re.findall(r"```console\n(.*?)```", ASK, re.DOTALL)
    assert len(outputs) == 12
    for line in shown.splitlines():
        assert line == "…" or line in outputs[0], line
    assert "opened in 1931" in outputs[1]
    assert "medal" in outputs[2]
    assert (tmp_path / "asked.html").is_file()


def test_the_viewer_s_commands_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    monkeypatch.setattr("atommem_gym.viewer.server.PageServer.serve", lambda server: None)
    training = tmp_path / "runs" / "grpo"
    training.mkdir(parents=True)
    (training / "metrics.jsonl").write_text('{"iteration": 1, "reward": 0.5}\n')
    for arguments in commands(VIEWER):
        # What a shell does with a pattern, and with what is written into a file.
        typed, _, file = (" ".join(arguments)).partition(" > ")
        expanded = [str(p) for a in typed.split() for p in (sorted(tmp_path.glob(a)) if "*" in a else [a])]
        capsys.readouterr()
        assert main(expanded) == 0, typed
        if file:
            (tmp_path / file).write_text(capsys.readouterr().out)
    assert (tmp_path / "runs" / "base" / "traces.html").is_file()
    assert (tmp_path / "all.html").is_file()
    assert (tmp_path / "runs" / "base" / "view.html").is_file()


def test_the_viewer_s_keys_are_all_described() -> None:
    source = (Path(__file__).resolve().parents[2] / "atommem_gym" / "viewer" / SCRIPTS[-1]).read_text()
    [actions] = re.findall(r"const ACTIONS = \{(.*?)\n\};", source, re.DOTALL)
    keys = {key.strip('"') for key in re.findall(r'^  ("?[^\s":]+"?): ', actions, re.MULTILINE)}
    assert len(keys) > 10
    described = re.findall(r"^\| ((?:`[^`]+` ?)+)\|", VIEWER, re.MULTILINE)
    names = {"→": "ArrowRight", "←": "ArrowLeft"}
    told = {names.get(key, key) for row in described for key in re.findall(r"`([^`]+)`", row)}
    assert told == keys - {"ArrowUp", "ArrowDown"}


@pytest.mark.parametrize("command", ["ask", "memory", "view"])
def test_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    assert f"usage: atommem {command}" in capsys.readouterr().out
