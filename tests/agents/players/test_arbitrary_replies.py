"""Of whatever a server sends, no other error comes out than the project's own (SPEC A9; replies of every shape)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.agents.replies import (
    X,
    bodies,
    choice,
    complete,
    embedded,
    headers,
    part,
    short_waits,
    statuses,
    values,
)
from support.openai_server import OpenAIServer, Reply, server

from atommem_gym.actions import parse
from atommem_gym.chat_reply import ENDINGS, ending, read_chat
from atommem_gym.embedders.openai_embedder import EndpointEmbedder, read_embeddings
from atommem_gym.endpoints import OddReplyError
from atommem_gym.errors import EmbedderError, LanguageModelError
from atommem_gym.testing import budget

__all__ = ["server", "short_waits"]
FULL = {
    "choices": [
        choice(
            [part("thinking", thinking=[part("text", text="hm")]), X],
            message={
                "reasoning_content": [part("text", text="h")],
                "refusal": None,
                "tool_calls": [{"type": "function", "function": {"name": "create", "arguments": '{"text": "a"}'}}],
            },
            stop_reason=None,
        )
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3},
}


@given(bodies(FULL))
@budget(300)
def test_A9_a_generated_reply_counts_only_if_its_server_ended_it(body: Any) -> None:
    """Whatever else is changed in it, its finish reason is looked at, and no other error comes out."""
    try:
        reply = read_chat(body)
    except OddReplyError:
        return
    found = body["choices"][0]
    assert reply.ended == ending(found["finish_reason"]) in ("stop", "length", "tool_calls")
    assert not found.get("error")
    assert isinstance(reply.content, str)
    assert isinstance(reply.reasoning, str)


@given(st.sampled_from(sorted(ENDINGS)) | values, st.none() | values)
@budget(300)
def test_A9_a_generated_finish_reason_or_error_is_never_acted_on(reason: Any, error: Any) -> None:
    good = {"choices": [choice("<create>half</create>", finish_reason=reason, error=error)]}
    counts = ending(reason) is not None and not error
    try:
        assert counts == (read_chat(good).content == "<create>half</create>")
    except OddReplyError:
        assert not counts


@given(body=bodies(FULL), status=statuses, extra=headers)
@budget(100)
def test_finding_2_1_nothing_but_the_project_s_own_errors_leaves_complete(
    server: OpenAIServer, body: Any, status: int, extra: dict[str, str]
) -> None:
    server.answer = lambda request, number: Reply(body, status, dict(extra))
    try:
        # No second try, so that no Retry-After is waited for.
        completion = complete(server, patience=0.0)
    except LanguageModelError:
        return
    assert isinstance(completion.text, str)
    assert isinstance(completion.reasoning, str)
    assert completion.finish_reason in ("stop", "length", "tool_calls")
    assert completion.prompt_tokens >= 0 <= completion.completion_tokens
    parse(completion.text, "tools")
    if isinstance(body, dict):
        found = body["choices"][0]
        assert ending(found["finish_reason"])
        assert not body.get("error")
        assert not found.get("error")
        content = found["message"].get("content")
        assert content is None or isinstance(content, (str, list))
        assert not isinstance(content, str) or completion.text.startswith(content)


@given(bodies(embedded(["a", "bb"])), statuses, headers)
@budget(100)
def test_finding_2_1_nothing_but_the_project_s_own_errors_leaves_embed(
    server: OpenAIServer, body: Any, status: int, extra: dict[str, str]
) -> None:
    server.answer = lambda request, number: Reply(
        embedded(request.body["input"]) if request.method == "POST" else {"data": [{"id": "e"}]}
    )
    embedder = EndpointEmbedder(server.url, "e", tries=2, backoff=0.0)
    server.answer = lambda request, number: Reply(body, status, dict(extra))
    try:
        vectors = embedder.embed(["a", "bb"], "document")
    except EmbedderError:
        pass
    else:
        assert vectors.shape == (2, 3)
        assert all(abs(length - 1) < 1e-5 for length in (vectors.astype(float) ** 2).sum(1))
        # Only a right body gets here, in whatever order.
        assert [type(row["index"]) for row in body["data"]] == [int, int]
    finally:
        embedder.close()


@given(values)
@budget(300)
def test_a_reply_that_holds_no_embeddings_is_odd(body: Any) -> None:
    with pytest.raises(OddReplyError):
        read_embeddings(body, 2)
