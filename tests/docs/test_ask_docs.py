"""The commands of docs/ask.md and docs/viewer.md run as they stand, and say what the pages show."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest
from support.example_traces import example_traces

from atommem_gym.cli import main
from atommem_gym.traces import TraceWriter
from atommem_gym.traces.counterfactual import counterfactuals
from atommem_gym.traces.counterfactual_file import counterfactual_json
from atommem_gym.viewer.page import SCRIPTS

DOCS = Path(__file__).resolve().parents[2] / "docs"
ASK, VIEWER = ((DOCS / name).read_text(encoding="utf-8") for name in ("ask.md", "viewer.md"))


def commands(page: str) -> list[list[str]]:
    """The arguments of every `atommem` command in the page's shell blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", page, re.DOTALL)
    return [shlex.split(line, comments=True)[1:] for block in blocks for line in block.splitlines()]


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


def test_the_viewer_s_commands_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("webbrowser.open", lambda url: True)
    monkeypatch.setattr("atommem_gym.viewer.server.PageServer.serve", lambda server: None)
    folders = [tmp_path / "runs" / name for name in ("base", "trained")]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "plan.yaml").write_text("envs: [Synthetic]\nagents: [random]\n")
    training = tmp_path / "runs" / "grpo"
    training.mkdir()
    (training / "metrics.jsonl").write_text('{"iteration": 1, "reward": 0.5}\n')
    for path in (tmp_path, *folders):
        path = path / "traces.jsonl"
        with TraceWriter(path) as writer:
            writer.write(example_traces(1)[0])
    trace = example_traces(1)[0]
    told = counterfactual_json(trace, 0, "recorded", counterfactuals(trace, []))
    (tmp_path / "worth.json").write_text(json.dumps(told))
    for arguments in commands(VIEWER):
        # What a shell does with a pattern.
        expanded = [str(p) for a in arguments for p in (sorted(tmp_path.glob(a)) if "*" in a else [a])]
        assert main(expanded) == 0
    assert (tmp_path / "traces.html").is_file()
    assert (tmp_path / "all.html").is_file()
    assert (folders[0] / "view.html").is_file()


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
