"""An endpoint that embeds, and one that misbehaves."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support.openai_server import OpenAIServer, Reply, Request, server
from support.stores.vectors import AWKWARD

from atommem_gym.embedders.loading import load_embedder
from atommem_gym.embedders.openai_embedder import QWEN_QUERY_INSTRUCTION, EndpointEmbedder
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import Embedder

__all__ = ["server"]


def vector_of(text: str) -> list[float]:
    return [float(len(text)), 1.0, -2.0]


def embeds(request: Request, number: int) -> Reply:
    if request.path == "/v1/models":
        return Reply({"data": [{"id": "tiny-embed"}]})
    data = [{"index": i, "embedding": vector_of(text)} for i, text in enumerate(request.body["input"])]
    return Reply({"data": data, "model": request.body["model"]})


def after_start(answer: Callable[[Request, int], Reply]) -> Callable[[Request, int], Reply]:
    """Answers as it should while the embedder is made (models, probe), then as the test wants."""
    return lambda request, number: embeds(request, number) if number < 2 else answer(request, number - 2)


def connect(server: OpenAIServer, **given_settings: Any) -> EndpointEmbedder:
    return EndpointEmbedder(server.url, **({"tries": 3, "backoff": 0.01, "timeout": 5.0} | given_settings))


def unit(text: str) -> list[float]:
    vector = np.array(vector_of(text))
    return (vector / np.linalg.norm(vector)).astype(np.float32).tolist()  # type: ignore[no-any-return]


def test_endpoint_embeds_in_batches_and_keeps_the_order(server: OpenAIServer) -> None:
    server.answer = embeds
    embedder = connect(server, batch_size=3)
    assert isinstance(embedder, Embedder)
    assert (embedder.name, embedder.dim) == ("endpoint:tiny-embed", 3)
    texts = ["x" * i for i in range(1, 11)]
    server.requests.clear()
    assert embedder.embed(texts, "document").tolist() == [unit(text) for text in texts]
    assert sorted(len(request.body["input"]) for request in server.requests) == [1, 3, 3, 3]
    assert embedder.embed([], "query").shape == (0, 3)


def test_endpoint_by_name_through_load_embedder(server: OpenAIServer, monkeypatch: pytest.MonkeyPatch) -> None:
    server.answer = embeds
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    embedder = load_embedder(f"{server.url}#other-model")
    assert embedder.name == "endpoint:other-model"
    assert embedder.embed(["a", "a"], "query").tolist() == [unit("a")] * 2
    assert [request.path for request in server.requests] == ["/v1/models", *["/v1/embeddings"] * 2]
    assert {request.body["model"] for request in server.requests[1:]} == {"other-model"}
    assert server.requests[0].headers["authorization"] == "Bearer sesame"
    assert server.requests[-1].body["input"] == ["a"]


def test_endpoint_sorts_shuffled_answers(server: OpenAIServer) -> None:
    def shuffled(request: Request, number: int) -> Reply:
        reply = embeds(request, number)
        if "embeddings" in request.path:
            reply.body["data"].reverse()
        return reply

    server.answer = shuffled
    assert connect(server).embed(["a", "bbb"], "document").tolist() == [unit("a"), unit("bbb")]


@pytest.mark.parametrize(
    ("model", "instruction", "sent"),
    [
        ("Qwen/Qwen3-Embedding-0.6B", None, QWEN_QUERY_INSTRUCTION + "who?"),
        ("Qwen/Qwen3-Embedding-0.6B", "", "who?"),
        ("tiny-embed", None, "who?"),
        ("tiny-embed", "query: ", "query: who?"),
    ],
)
def test_endpoint_instructs_queries(server: OpenAIServer, model: str, instruction: str | None, sent: str) -> None:
    server.answer = embeds
    embedder = connect(server, model=model, query_instruction=instruction)
    embedder.embed(["who?"], "query")
    assert server.requests[-1].body["input"] == [sent]
    embedder.embed(["who?"], "document")
    assert server.requests[-1].body["input"] == ["who?"]
    assert embedder.tells_queries == (sent != "who?")
    assert embedder.name.startswith(f"endpoint:{model}")
    assert (":query-" in embedder.name) == embedder.tells_queries


def test_endpoint_that_is_down_is_named_when_it_is_made(server: OpenAIServer) -> None:
    server.stop()
    with pytest.raises(EmbedderError, match=r"failed 3 times.*ConnectError.*running and reachable") as caught:
        connect(server)
    assert server.url in str(caught.value)


def test_endpoint_with_several_models_wants_a_name(server: OpenAIServer) -> None:
    server.answer = lambda request, number: Reply({"data": [{"id": "one"}, {"id": "two"}]})
    with pytest.raises(ConfigError, match=r"2 models \(one, two\); name one as .*#MODEL"):
        connect(server)


@pytest.mark.parametrize("status", [429, 500, 503])
def test_endpoint_tries_again(server: OpenAIServer, status: int) -> None:
    server.answer = after_start(
        lambda request, number: Reply({"error": {"message": "busy"}}, status) if number < 2 else embeds(request, number)
    )
    embedder = connect(server)
    assert embedder.embed(["a"], "document").tolist() == [unit("a")]
    assert len(server.requests) == 5


def test_endpoint_that_keeps_failing_raises(server: OpenAIServer) -> None:
    server.answer = after_start(lambda request, number: Reply({"error": {"message": "out of memory"}}, 500))
    embedder = connect(server)
    with pytest.raises(EmbedderError, match=r"/embeddings failed 3 times.*HTTP 500: out of memory"):
        embedder.embed(["a"], "document")
    assert len(server.requests) == 5


def test_endpoint_that_refuses_is_not_asked_again(server: OpenAIServer) -> None:
    server.answer = after_start(lambda request, number: Reply({"error": {"message": "input too long"}}, 400))
    embedder = connect(server)
    with pytest.raises(EmbedderError, match="HTTP 400: input too long"):
        embedder.embed(["a"], "document")
    assert len(server.requests) == 3


def test_endpoint_that_is_slow_raises(server: OpenAIServer) -> None:
    release = threading.Event()

    def slow(request: Request, number: int) -> Reply:
        release.wait(10)
        return embeds(request, number)

    server.answer = after_start(slow)
    embedder = connect(server, timeout=0.2, tries=2)
    with pytest.raises(EmbedderError, match="no whole reply within"):
        embedder.embed(["a"], "document")
    release.set()


def row(index: int, embedding: Any) -> dict[str, Any]:
    return {"index": index, "embedding": embedding}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ([row(0, [1, 2, 3])], r"1 embeddings with indices \[0\] for 2 texts"),
        ([row(0, [1, 2, 3]), row(0, [1, 2, 3])], "2 embeddings with indices"),
        ([row(0, [1, 2, 3]), row(2, [1, 2, 3])], r"indices \[0, 2\]"),
        ([row(0, [1, 2, 3]), row(1, [1, 2, 3]), row(1, [1, 2, 3])], "3 embeddings"),
        ([row(0, [1, 2]), row(1, [1, 2])], r"embeddings of 2 numbers .*equally long, 3"),
        ([row(0, []), row(1, [])], r"embeddings of 0 numbers .*equally long, 3"),
        ([row(0, [1, 2, 3]), row(True, [1, 2, 3])], "indices"),
        ([row(0, [1, 2, 3]), row("1", [1, 2, 3])], "indices"),
        ([row(0, [1, 2, 3]), row(1, [1, True, 3])], "equally long"),
        ([row(0, [1, 2, 3]), row(1, [1, "2", 3])], "equally long"),
        ([row(0, [1, 2, 3]), row(1, {"0": 1})], "equally long"),
        ([row(0, [1, 2, 3]), row(1, [1, 10**400, 3])], "too large"),
        ([row(0, [1, 2, 3]), row(1, [1e308, 1e308, 1e308])], "beyond the range"),
        ([row(0, [1, 2, 3]), row(1, [1e-320, 0, 0])], "beyond the range"),
        ([row(0, [1, 2, 3]), row(1, [1, 2])], "equally long"),
        ([row(0, [1, 2, 3]), row(1, "base64")], "equally long"),
        ([row(0, [1, 2, 3]), {"index": 1}], "equally long"),
        ([row(0, [1, 2, 3]), row(1, [1, float("nan"), 3])], "NaN is no number in JSON"),
        ([row(0, [1, 2, 3]), row(1, [1, float("inf"), 3])], "Infinity is no number in JSON"),
        ([row(0, [1, 2, 3]), row(1, [1, None, 3])], "equally long"),
        ([row(0, [1, 2, 3]), [1, [1, 2, 3]]], "equally long"),
        ({"0": [1, 2, 3]}, "equally long"),
        (None, "equally long"),
    ],
)
def test_endpoint_checks_what_it_gets(server: OpenAIServer, data: Any, message: str) -> None:
    server.answer = after_start(lambda request, number: Reply({"data": data}))
    embedder = connect(server)
    with pytest.raises(EmbedderError, match=rf"sent 3 replies that cannot be used.*{message}"):
        embedder.embed(["a", "b"], "document")
    assert len(server.requests) == 5
    server.answer = after_start(
        lambda request, number: Reply({"data": data}) if number < 1 else embeds(request, number)
    )
    server.requests.clear()
    # Once may be an accident.
    assert connect(server).embed(["a", "b"], "document").tolist() == [unit("a"), unit("b")]


def test_endpoint_bounds_its_requests_under_way(server: OpenAIServer) -> None:
    together = threading.Barrier(2)

    def answer(request: Request, number: int) -> Reply:
        together.wait(10)
        return embeds(request, number)

    server.answer = after_start(answer)
    embedder = connect(server, batch_size=1, concurrency=2, timeout=20.0)
    assert embedder.embed(["x" * i for i in range(8)], "document").shape == (8, 3)
    assert server.most_at_once == 2


def test_endpoint_takes_any_text(server: OpenAIServer) -> None:
    server.answer = embeds
    vectors = connect(server).embed(AWKWARD, "query")
    assert vectors.shape == (len(AWKWARD), 3)
    assert np.isfinite(vectors).all()


@pytest.mark.parametrize("given_settings", [{"batch_size": 0}, {"tries": 0}, {"timeout": 0}, {"concurrency": 0}])
def test_endpoint_settings_out_of_range(server: OpenAIServer, given_settings: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(given_settings))):
        connect(server, **given_settings)
