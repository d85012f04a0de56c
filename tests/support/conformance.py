"""What all bridges must do alike: through the real framework, an episode is what the plain environment says it is.

A scripted OpenAI-compatible server answers every prompt by a rule, and the plain environment is played by the same one:
prompts, replies, rewards and metrics must be equal to the bit.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from support.openai_server import OpenAIServer, Reply, Request

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.prompts import PromptTemplate

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "use_from.md"
ENV_ID = "AtomMem-Synthetic-v0"
KEYWORDS: dict[str, Any] = {"num_docs": 24, "chunk_tokens": 800, "store": "numpy"}
"""Of the episodes that are compared: some four steps."""
MODEL = "scripted"
WAITS_S = 300.0
GIVEN_UP_S = 1200.0
"""Only so that a framework that hangs fails its test."""

Messages = list[dict[str, str]]


def require(name: str, module: str) -> None:
    """Skip the test module where the framework is not installed: it has an environment of its own."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"needs {module}: make bridges BRIDGES={name}", allow_module_level=True)


# -- the rule


def question_of(user: str) -> str:
    """The question in a user message."""
    return user.split("Question:\n", 1)[1].split("\n", 1)[0]


def action(messages: Messages, answers: Mapping[str, str]) -> str:
    """What the scripted model says to a prompt, which alone it depends on.

    It stores the beginning of every chunk and looks for the question, then searches once and answers: rightly if a hash
    of the prompt is even.

    Args:
        messages: A system and a user message.
        answers: The right answer to each question.
    """
    assert [message["role"] for message in messages] == ["system", "user"]
    user = messages[1]["content"]
    question = question_of(user)
    if "The chunk:" in user:
        chunk = re.sub(r"[<>]", " ", user.split("<<<\n", 1)[1].rsplit("\n>>>", 1)[0])
        return f'I keep it.\n<create>{chunk[:200].strip()}</create><read>{question}</read><delete id="999"/>'
    if "Searches left: 0" not in user and f"Searched for: who or what: {question}" not in user:
        return f"<read>who or what: {question}</read>"
    even = hashlib.sha256(user.encode()).digest()[0] % 2 == 0
    return f"<answer>{answers[question] if even else 'nobody knows'}</answer>"


@dataclass
class Played:
    """An episode, as the plain environment or a framework has it."""

    prompts: list[Messages] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    rewards: list[float] = field(default_factory=list)
    metrics: dict[str, Any] = field(default_factory=dict)
    item: str = ""

    @property
    def reward(self) -> float:
        return math.fsum(self.rewards)


class Reference:
    """The plain environment, and the right answers of its items."""

    def __init__(self, indices: Sequence[int], **keywords: Any) -> None:
        self.env: Any = gym.make(ENV_ID, **{**KEYWORDS, **keywords}).unwrapped
        self.prompt = PromptTemplate(self.env.config)
        self.indices = indices
        self.answers = {
            question.question: question.answer for index in indices for question in self.env.items.item(index).questions
        }
        self._played: dict[int, Played] = {}

    def play(self, index: int) -> Played:
        """An item played by the rule."""
        if index not in self._played:
            self._played[index] = self._play(index)
        return self._played[index]

    def right(self, number: int) -> list[int]:
        """The first items that the rule answers rightly."""
        return [index for index in self.indices if self.play(index).reward == 1.0][:number]

    def _play(self, index: int) -> Played:
        observation, info = self.env.reset(options={"index": index, "shuffle_seed": 0})
        played = Played(item=info["item"])
        over = False
        while not over:
            played.prompts.append(self.prompt.messages(observation))
            played.actions.append(action(played.prompts[-1], self.answers))
            observation, reward, terminated, truncated, info = self.env.step(played.actions[-1])
            played.rewards.append(reward)
            over = terminated or truncated
        played.metrics = as_json(info["episode_metrics"])
        return played


@pytest.fixture(scope="module")
def reference() -> Iterator[Reference]:
    """The plain environment over 64 items."""
    made = Reference(range(64))
    yield made
    made.env.close()


def as_json(value: Any) -> Any:
    """As it comes back from a file of JSON; floats keep every bit."""
    return json.loads(json.dumps(value))


def assert_same(found: Played, expected: Played) -> None:
    """A framework's episode is the plain environment's."""
    assert found.item == expected.item
    assert found.prompts == expected.prompts
    assert found.actions == expected.actions
    assert found.rewards == expected.rewards
    assert found.metrics == expected.metrics


def serve(
    server: OpenAIServer, answers: Mapping[str, str], *, killed_after: int | None = None, together: int = 1
) -> None:
    """Let a server answer by the rule.

    Args:
        server: A scripted server.
        answers: The right answer to each question.
        killed_after: Replies after which the server is gone: connections are cut and further ones refused.
        together: The first reply waits for so many requests at a time, for some seconds.
    """
    enough = threading.Event()

    def answer(request: Request, number: int) -> Reply:
        if request.path == "/v1/models":
            return Reply({"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "x"}]})
        assert request.path == "/v1/chat/completions", request.path
        if server.most_at_once >= together:
            enough.set()
        assert enough.wait(WAITS_S), f"only {server.most_at_once} requests at a time in {WAITS_S} s"
        if killed_after is not None and number >= killed_after:
            if number == killed_after:
                threading.Thread(target=server.stop, daemon=True).start()
            raise ConnectionAbortedError("the server is gone")
        return Reply(completion(action(request.body["messages"], answers)))

    server.answer = answer


def completion(text: str, finish_reason: str = "stop") -> dict[str, Any]:
    """A chat completion in OpenAI's form."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": MODEL,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    }


# -- the page


def commands(name: str) -> list[str]:
    """The commands of the section of this bridge in docs/use_from.md, continuation lines joined."""
    section = PAGE.read_text(encoding="utf-8").split(f"\n## {name}\n", 1)[1].split("\n## ", 1)[0]
    blocks = re.findall(r"```bash\n(.*?)```", section, re.DOTALL)
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    return [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("#")]


def run_command(line: str, url: str, folder: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Type a command of the page in a folder of its own; ``http://localhost:8000/v1`` stands for the server's URL."""
    words = shlex.split(line.replace("http://localhost:8000/v1", url))
    variables = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        variables[name] = value
    program = Path(sys.executable).parent / words[0]
    assert program.exists(), f"{words[0]} is not installed beside {sys.executable}"
    return subprocess.run(
        [str(program), *words[1:]],
        cwd=folder,
        env={**clean_environment(), **variables, **environment},
        capture_output=True,
        text=True,
        timeout=GIVEN_UP_S,
        check=False,
    )


def clean_environment() -> dict[str, str]:
    """The environment variables without keys and settings of servers."""
    secret = re.compile(r"API_KEY|BASE_URL|INSPECT_|VF_|PRIME_")
    kept = {name: value for name, value in os.environ.items() if not secret.search(name)}
    return {**kept, "NO_PROXY": "127.0.0.1", "COLUMNS": "200"}
