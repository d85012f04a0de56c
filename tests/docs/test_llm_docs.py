"""docs/llm_agents.md runs: its Python against a loopback server, its commands with small models and made-up records."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from support.openai_server import OpenAIServer, Reply, server
from support.tiny_model import one_thread, tiny_model

from atommem_gym.agents.players.roles import ROLES
from atommem_gym.cli import main

__all__ = ["one_thread", "server", "tiny_model"]

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "llm_agents.md").read_text(encoding="utf-8")
URL = "http://localhost:8000/v1"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)


def evals() -> list[list[str]]:
    """The arguments of every `atommem eval` on the page."""
    text = "\n".join(blocks("bash")).replace("\\\n", " ")
    return [shlex.split(line)[1:] for line in text.splitlines() if line.startswith("atommem eval")]


@pytest.fixture
def answering(server: OpenAIServer) -> OpenAIServer:
    def answer(request: Any, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "AtomMem-8B", "max_model_len": 32768}]})
        text = "<create>a fact</create><answer>yes</answer>"
        usage = {"prompt_tokens": 10, "completion_tokens": 5}
        return Reply({"choices": [{"message": {"content": text}, "finish_reason": "stop"}], "usage": usage})

    server.answer = answer
    return server


def test_the_python_blocks_run_one_after_the_other(answering: OpenAIServer, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks("python"):
        assert "http" not in block.replace(URL, "")
        exec(compile(block.replace(URL, answering.url), "docs/llm_agents.md", "exec"), names)
    assert len(names["rewards"]) == 4
    assert "Usage(calls=" in capsys.readouterr().out


def test_the_first_command_plays_every_player(answering: OpenAIServer, tmp_path: Path) -> None:
    arguments = evals()[0]
    played = set(ROLES) - {"mem0"}  # which is not always installed
    assert played < set(arguments)
    changed = [
        {URL: answering.url, "HotpotQA=hotpot_dev_distractor_v1.json": "HotpotQA=synthetic", "200": "12"}.get(
            word, word
        )
        for word in arguments
    ]
    changed[changed.index("-o") + 1] = str(tmp_path / "run")
    changed[changed.index("--set") : changed.index("--set") + 1] = ["--set", "store=numpy"]
    assert main([*changed, "--episodes", "1"]) == 0
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == len(played) + 1


def test_the_released_command_plays(answering: OpenAIServer, tmp_path: Path) -> None:
    """Without the checkpoint, its tokenizer and prompt, and with stand-ins for both servers."""
    line = next(block for block in blocks("bash") if "benchmarks/released.sh" in block).split()
    assert line == ["benchmarks/released.sh", *line[1:4], "runs/atommem-8b"]
    template = tmp_path / "released_prompt.j2"
    template.write_text(blocks("jinja")[0], encoding="utf-8")
    vllm = tmp_path / "bin" / "vllm"
    vllm.parent.mkdir()
    embeddings = f'exec "{sys.executable}" -m atommem_verl_cpu.embedding_server "{tmp_path / "clients"}" "$@"'
    vllm.write_text(f'#!/bin/sh\ncase "$*" in *pooling*) {embeddings} ;; *) exec sleep 600 ;; esac\n')
    vllm.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    environment = {
        **os.environ,
        "PATH": f"{vllm.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT / "verl_configs" / "cpu"),
        "PORT": str(urlsplit(answering.url).port),
        "EMBEDDING_PORT": str(free),
        "EMBEDDING_HOST": "127.0.0.1",
        "EPISODES": "1",
        "DOCS": "30",
    }
    command = [str(ROOT / line[0]), "words", "synthetic", str(template), str(tmp_path / "run")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == 1
    assert (tmp_path / "clients").read_text().strip() == "127.0.0.1"


def test_the_local_command_plays(tiny_model: Path, one_thread: None, tmp_path: Path) -> None:
    replaced = {"smollm2": str(tiny_model), "runs/smollm2": str(tmp_path / "run"), "max_tokens=64": "max_tokens=8"}
    arguments = [replaced.get(word, word) for word in evals()[1]]
    arguments[arguments.index("4")] = "1"
    assert main(arguments) == 0
