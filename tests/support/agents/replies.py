"""Replies of a chat server and of an embedding server, good and odd, for the tests of all that reads them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import strategies as st
from support.openai_server import OpenAIServer, Reply, Request

from atommem_gym.agents.players.language_model import Completion, Sampling
from atommem_gym.agents.players.openai_model import OpenAIModel

MESSAGES = [{"role": "user", "content": "Now."}]
DEEP = "[" * 200_000
DIGITS = "9" * 20_000
ANSWER = "<answer>x</answer>"


def choice(content: Any = ANSWER, **changes: Any) -> dict[str, Any]:
    """A choice; ``message`` adds to its message, the rest replaces its fields."""
    message = {"role": "assistant", "content": content, **changes.pop("message", {})}
    return {"index": 0, "message": message, "finish_reason": "stop", **changes}


def chat(content: Any = ANSWER, **changes: Any) -> Reply:
    usage = {"prompt_tokens": 12, "completion_tokens": 3}
    return Reply({"id": "c", "choices": [choice(content, **changes)], "usage": usage})


def call(name: Any = "create", arguments: Any = '{"text": "a"}', **changes: Any) -> Reply:
    calls = [{"type": "function", "function": {"name": name, "arguments": arguments}}]
    return chat(None, finish_reason="tool_calls", message={"tool_calls": calls}, **changes)


def with_calls(calls: Any) -> Reply:
    return chat(None, message={"tool_calls": calls})


def raw(text: str, old: str, new: str) -> Reply:
    """A good reply with another text in its JSON, for what no Python value can say."""
    body = json.dumps(chat(text).body)
    assert old in body
    return Reply(body.replace(old, new))


def refused(message: Any, status: int = 200, **details: Any) -> Reply:
    return Reply({"error": {"message": message, **details}}, status)


def part(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, **fields}


X = part("text", text=ANSWER)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long for a busy server; for the modules that import it."""
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._FIRST_WAIT", 0.001)
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._LONGEST_WAIT", 0.002)
    monkeypatch.setattr("atommem_gym.endpoints.LONGEST_WAIT", 0.002)


def complete(server: OpenAIServer, patience: float = 60.0, **options: Any) -> Completion:
    async def asked() -> Completion:
        model = OpenAIModel(server.url, "m", patience=patience, **options)
        try:
            return await model.complete(MESSAGES, Sampling())
        finally:
            await model.aclose()

    return asyncio.run(asked())


scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([10**30, -5, 1e308, 1e-320])
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["text", "thinking", "stop", "error", "create", "{}", "[[", ANSWER, "429", "\ud800"])
)
names = st.sampled_from(
    [
        *(
            "type",
            "text",
            "thinking",
            "reasoning",
            "function",
            "name",
            "arguments",
            "error",
            "code",
            "message",
            "content",
        ),
        *("finish_reason", "choices", "data", "index", "embedding", "refusal", "tool_calls", "status", "object"),
    ]
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=4), max_leaves=12
)
headers = st.sampled_from(
    [
        {},
        {"Content-Encoding": "gzip"},
        {"Content-Encoding": "br, deflate"},
        {"Content-Type": "text/html; charset=rot13"},
        {"Retry-After": "99999999999"},
        {"Retry-After": "-1"},
        {"Retry-After": "Wed, 99 Oct 2099"},
    ]
)
statuses = st.sampled_from([200] * 9 + [201, 302, 400, 401, 413, 422, 429, 500, 599, 999])


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """A good body in which some values, at any depth, are arbitrary."""
    body = json.loads(json.dumps(good))
    for _ in range(draw(st.integers(0, 3))):
        place, key = body, None
        for _ in range(draw(st.integers(1, 6))):
            keys = list(place) if isinstance(place, dict) else list(range(len(place)))
            key = draw(st.sampled_from(keys + (draw(st.lists(names, max_size=1)) if isinstance(place, dict) else [])))
            inner = place[key] if isinstance(place, list) else place.get(key)
            if not isinstance(inner, (dict, list)) or not inner:
                break
            last, place = place, inner
        else:
            place = last
        place[key] = draw(values)
    return draw(st.sampled_from([body] * 9 + [draw(values)]))


def bodies(good: Any) -> st.SearchStrategy[Any]:
    return changed(good) | changed(good) | st.binary(max_size=40)


def vector(text: str) -> list[float]:
    return [float(len(text)), 1.0, -2.0]


def embedded(texts: list[str]) -> dict[str, Any]:
    return {"data": [{"index": i, "embedding": vector(text)} for i, text in enumerate(texts)]}


def lists_models(request: Request) -> Reply | None:
    return Reply({"data": [{"id": "m"}]}) if request.method == "GET" else None
