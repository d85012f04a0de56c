"""docs/llm_agents.md runs: its Python against a loopback server, its commands with small models and made-up records."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, server
from support.tiny_model import one_thread, tiny_model

from atommem_gym.agents.players.roles import ROLES
from atommem_gym.cli import main

__all__ = ["one_thread", "server", "tiny_model"]

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "llm_agents.md").read_text(encoding="utf-8")
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
    assert set(ROLES) < set(arguments)
    changed = [
        {URL: answering.url, "HotpotQA=hotpot_dev_distractor_v1.json": "HotpotQA=synthetic", "200": "12"}.get(
            word, word
        )
        for word in arguments
    ]
    changed[changed.index("-o") + 1] = str(tmp_path / "run")
    changed[changed.index("--set") : changed.index("--set") + 1] = ["--set", "store=numpy"]
    assert main([*changed, "--episodes", "1"]) == 0
    assert len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == len(ROLES) + 1


def test_the_released_command_is_a_valid_plan(answering: OpenAIServer, tmp_path: Path) -> None:
    """Without the checkpoint's tokenizer, embeddings and prompt: what is left must be accepted and play."""
    arguments = evals()[1]
    template = tmp_path / "released_prompt.j2"
    template.write_text(blocks("jinja")[0], encoding="utf-8")
    replaced = {
        URL: answering.url,
        "HotpotQA=hotpot_dev_distractor_v1.json": "HotpotQA=synthetic",
        "200": "30",
        "tokenizer=/path/to/AtomMem-8B": "tokenizer=words",
        "embedder=http://localhost:8001/v1": "embedder=hashing",
        "template=released_prompt.j2": f"template={template}",
        "runs/atommem-8b": str(tmp_path / "run"),
    }
    assert set(replaced) < set(arguments)
    assert main([*(replaced.get(word, word) for word in arguments), "--episodes", "1"]) == 0


def test_the_local_command_plays(tiny_model: Path, one_thread: None, tmp_path: Path) -> None:
    replaced = {"smollm2": str(tiny_model), "runs/smollm2": str(tmp_path / "run"), "max_tokens=64": "max_tokens=8"}
    arguments = [replaced.get(word, word) for word in evals()[2]]
    arguments[arguments.index("4")] = "1"
    assert main(arguments) == 0
