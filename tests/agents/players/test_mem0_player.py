"""mem0 as a player of ``atommem eval``: the same streams and the same reader, its own calls counted."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.fixed_items import fixed_gym
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.agents.players import mem0_player
from atommem_gym.agents.players.language_model import Completion, Messages, Sampling
from atommem_gym.agents.players.mem0_player import NOTHING
from atommem_gym.agents.players.player import Turn, make_player, player_keywords
from atommem_gym.cli import main
from atommem_gym.errors import ConfigError, LanguageModelError, ModelUnavailableError
from atommem_gym.evaluation.folder import read_run
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.traces import read_traces

__all__ = ["server"]

needs_mem0 = pytest.mark.skipif(
    importlib.util.find_spec("mem0") is None,
    reason="needs mem0ai: pip install 'atommem-gym[mem0]', then pytest tests/agents/players/test_mem0_player.py",
)
DOCUMENTS = [Document(f"Place {i}", f"The tower of Place {i} is {100 + i} m high.") for i in range(3)]
QUESTIONS = [
    Record(
        f"q{i}",
        f"How high is the tower of Place {i}?",
        f"{100 + i} m",
        (DOCUMENTS[i],),
        (0,),
        (Evidence(f"Place {i}", f"{100 + i} m", f"{100 + i} m"),),
    )
    for i in (1, 2)
]


class Model:
    """Extracts what mem0 asks it to, and answers as it is told."""

    name = "fake"

    def __init__(self) -> None:
        self.asked: list[list[dict[str, str]]] = []
        self.failures = 0

    async def complete(self, messages: Messages, sampling: Sampling, *, tools: Any = ()) -> Completion:
        if self.failures:
            self.failures -= 1
            raise ModelUnavailableError("gone")
        self.asked.append([dict(message) for message in messages])
        await asyncio.sleep(0)
        return Completion(reply_to(messages[-1]["content"]), 100, 10, 0.25, "stop")

    async def aclose(self) -> None:
        pass


def reply_to(prompt: str) -> str:
    """What a model says that extracts every line about a tower, and answers from its notes."""
    if "Your notes:" in prompt:
        return "<answer>101 m</answer>" if "Place 1 is 101 m" in prompt else "<answer>unknown</answer>"
    new = prompt.split("## New Messages")[-1]
    lines = [line for line in new.splitlines() if line.startswith("The tower")]
    return json.dumps({"memory": [{"id": str(i), "text": line} for i, line in enumerate(lines)]})


class StandIn:
    """A memory with mem0's methods: keeps what the model extracts, and finds what shares most words."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.kept: list[str] = []
        self.closed = False

    def add(self, messages: str, *, run_id: str) -> Any:
        text = self.model.generate_response([{"role": "user", "content": messages}], response_format={})
        self.kept += [one["text"] for one in json.loads(text)["memory"]]

    def search(self, query: str, *, top_k: int, filters: Any) -> Any:
        words = set(query.rstrip("?").split())
        best = sorted(self.kept, key=lambda text: -len(words & set(text.split())))
        return {"results": [{"memory": text} for text in best[:top_k]]}

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[StandIn]:
    """The memories that were opened, in mem0's place."""
    made: list[StandIn] = []

    def stand_in(model: Any, embedder: Any) -> StandIn:
        made.append(StandIn(model))
        return made[-1]

    monkeypatch.setattr(mem0_player, "open_mem0", stand_in)
    monkeypatch.setattr(mem0_player, "is_installed", lambda: True)
    return made


def play(player: Any, **keywords: Any) -> tuple[list[Turn], list[Any], dict[str, Any]]:
    env = fixed_gym(QUESTIONS, DOCUMENTS, **{"chunk_tokens": 32, "top_k": 1, **keywords, **player_keywords("mem0")})
    observation, info = env.reset(options={"index": 0})
    player.reset(env.unwrapped.episode, seed=7)
    turns, observations, over = [], [], False
    while not over:
        observations.append(observation)
        turns.append(asyncio.run(player.act(observation)))
        observation, _, terminated, truncated, info = env.step(turns[-1].action)
        over = terminated or truncated
    env.close()
    return turns, observations, info


def check_played(model: Model, player: Any) -> None:
    turns, observations, info = play(player)
    reading = [turn for turn, seen in zip(turns, observations, strict=True) if seen["phase"] == 0]
    assert all(len(turn.completions) == 1 and turn.messages == model.asked[i] for i, turn in enumerate(reading))
    searched, first, again, second = turns[len(reading) :]
    assert "The tower of Place 1 is 101 m high." in searched.action
    assert "The tower of Place 2 is 102 m high." in again.action
    assert "Place 1" not in again.action, "the scratchpad is of this question alone"
    assert [turn.completions == () for turn in (searched, first, again, second)] == [True, False, True, False]
    assert [answer["answer"] for answer in info["episode_metrics"]["answers"]] == ["101 m", "unknown"]
    assert player.usage.calls == len(model.asked) == len(reading) + 2
    assert (player.usage.prompt_tokens, player.usage.seconds) == (100 * len(model.asked), 0.25 * len(model.asked))


def check_read(model: Model, player: Any) -> None:
    _, observations, info = play(player, reader="oracle")
    assert info["episode_metrics"]["em"] == 1.0
    assert info["episode_metrics"]["reader"]["questions"] == 2
    reading = sum(seen["phase"] == 0 for seen in observations)
    assert len(model.asked) == reading, "the reader answers, not the model"


def test_chunks_are_remembered_and_what_is_found_stands_in_the_scratchpad(opened: list[StandIn]) -> None:
    model = Model()
    check_played(model, make_player("mem0", model)())


def test_E13_a_frozen_reader_answers_from_what_was_found(opened: list[StandIn]) -> None:
    model = Model()
    check_read(model, make_player("mem0", model)())


def test_an_episode_begins_with_an_empty_memory_and_closes_the_one_before(opened: list[StandIn]) -> None:
    player = make_player("mem0", Model())()
    first, second = play(player)[2], play(player)[2]
    assert first["episode_metrics"] == second["episode_metrics"]
    assert [memory.closed for memory in opened] == [True, False]


def test_a_call_that_failed_may_be_repeated(opened: list[StandIn]) -> None:
    model = Model()
    player: Any = make_player("mem0", model)()
    env = fixed_gym(QUESTIONS, DOCUMENTS, chunk_tokens=32, **player_keywords("mem0"))
    observation, _ = env.reset(options={"index": 0})
    player.reset(env.unwrapped.episode, seed=0)
    model.failures = 1
    with pytest.raises(ModelUnavailableError, match="gone"):
        asyncio.run(player.act(observation))
    assert opened[-1].kept == []
    asyncio.run(player.act(observation))
    assert len(opened[-1].kept) == 2
    opened[-1].search = lambda *_, **__: 1 / 0  # type: ignore[method-assign]
    for _ in range(2):
        observation, *_ = env.step("")
    while observation["phase"] == 0:
        observation, *_ = env.step("")
    with pytest.raises(LanguageModelError, match="mem0 failed: ZeroDivisionError"):
        asyncio.run(player.act(observation))
    env.close()


def test_nothing_found_replaces_what_was_found_before(opened: list[StandIn]) -> None:
    player: Any = make_player("mem0", Model())()
    searched = StandIn.search
    found = iter([True, False])
    StandIn.search = lambda self, *a, **k: searched(self, *a, **k) if next(found) else {"results": []}  # type: ignore
    try:
        turns, _, _ = play(player, reader="oracle")
    finally:
        StandIn.search = searched  # type: ignore[method-assign]
    assert NOTHING in turns[-2].action


@pytest.mark.skipif(importlib.util.find_spec("mem0") is not None, reason="mem0 is installed")
def test_without_mem0_it_says_what_to_install(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConfigError, match=r"pip install 'atommem-gym\[mem0\]'"):
        make_player("mem0", Model())


@needs_mem0
def test_mem0_itself_plays_as_its_stand_in_does() -> None:
    model = Model()
    check_played(model, make_player("mem0", model)())
    model = Model()
    check_read(model, make_player("mem0", model)())
    failing = Model()
    failing.failures = 1
    with pytest.raises(ModelUnavailableError, match="gone"):
        play(make_player("mem0", failing)())


@needs_mem0
def test_mem0_tells_nobody_and_writes_nothing_at_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    play(make_player("mem0", Model())())
    assert [*tmp_path.iterdir()] == []
    assert capfd.readouterr() == ("", "")
    assert [record for record in caplog.records if record.name.startswith(("mem0", "qdrant", "posthog"))] == []
    telemetry: Any = sys.modules["mem0.memory.telemetry"]
    assert telemetry.MEM0_TELEMETRY is False
    assert telemetry._get_oss_telemetry() is None or telemetry._get_oss_telemetry().posthog is None
    assert {"MEM0_TELEMETRY", "MEM0_DIR"} & set(os.environ) == set()
    assert logging.getLogger("mem0").level > logging.CRITICAL


@needs_mem0
def test_mem0_is_evaluated_beside_others_with_the_same_reader(
    server: OpenAIServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def answer(request: Request, number: int) -> Reply:
        if request.method == "GET":
            return Reply({"data": [{"id": "tiny"}]})
        prompt = request.body["messages"][-1]["content"]
        text = json.dumps({"memory": [{"id": "0", "text": prompt.split("## New Messages")[-1][:200]}]})
        message = {"role": "assistant", "content": text}
        usage = {"prompt_tokens": 120, "completion_tokens": 11}
        return Reply({"choices": [{"message": message, "finish_reason": "stop"}], "usage": usage})

    server.answer = answer
    arguments = ["Synthetic", "--docs", "10", "--episodes", "2", "--agent", "mem0", "tidy", "--model", server.url]
    settings = ["--set", "reader=oracle", "store=numpy", "chunk_tokens=400"]
    assert main(["eval", *arguments, *settings, "-o", str(tmp_path / "run")]) == 0
    results = read_run(tmp_path / "run").results
    by_agent = {name: [one for one in results if one.agent == name] for name in ("mem0", "tidy")}
    assert sorted(one.item for one in by_agent["mem0"]) == sorted(one.item for one in by_agent["tidy"])
    asked = server.asked("/v1/chat/completions")
    assert sum(one.calls for one in by_agent["mem0"]) == len(asked) > 0
    assert all(one.prompt_tokens == 120 * one.calls for one in by_agent["mem0"])
    traces = list(read_traces(tmp_path / "run" / "traces.jsonl"))
    assert {trace.agent.settings.get("model") for trace in traces} == {"tiny", None}
    printed = "".join(capfd.readouterr())
    assert "gain" in printed
    assert not any(word in printed for word in ("spaCy", "fastembed", "posthog", "Payload indexes"))
