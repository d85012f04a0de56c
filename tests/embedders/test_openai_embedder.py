"""An endpoint that embeds, and one that misbehaves."""

from __future__ import annotations

import os
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
        ([row(0, [1, 2, 3]), row(1, [1, float("nan"), 3])], "NaN is not a JSON number"),
        ([row(0, [1, 2, 3]), row(1, [1, float("inf"), 3])], "Infinity is not a JSON number"),
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


# -- texts that are too long, options, aliases (SPEC M18, findings 3.2, 3.3)


def one_byte_a_token(request: Request, limit: int, words: Callable[[int, int], str]) -> Reply:
    """A server that refuses a request in which a text has more than so many bytes."""
    if request.path == "/v1/models":
        return Reply({"data": [{"id": "tiny-embed"}]})
    longest = max(len(text.encode()) for text in request.body["input"])
    if longest > limit:
        return Reply({"error": {"message": words(longest, limit), "type": "BadRequestError", "code": 400}}, 400)
    return embeds(request, 0)


REFUSALS: dict[str, Callable[[int, int], str]] = {
    "vllm": lambda n, limit: (
        f"This model's maximum context length is {limit} tokens. However, you requested {n} tokens in the input for "
        "embedding generation. Please reduce the length of the input."
    ),
    "tei": lambda n, limit: f"`inputs` must have less than {limit} tokens. Given: {n}",
    "no numbers": lambda n, limit: "the input is too long",
    "llama.cpp": lambda n, limit: "input is too large to process. increase the physical batch size",
}


@pytest.mark.parametrize("words", REFUSALS.values(), ids=REFUSALS)
def test_M18_a_text_that_a_server_refuses_is_sent_shorter(
    server: OpenAIServer, words: Callable[[int, int], str]
) -> None:
    server.answer = lambda request, number: one_byte_a_token(request, 512, words)
    embedder = connect(server)
    texts = ["short", "x" * 5000, "é" * 300, "y" * 512, "", "z" * 513]
    vectors, in_part = embedder.embed_in_part(texts, "document")
    assert sorted(in_part) == [1, 2, 5]
    for place, text in enumerate(texts):
        read = text[: in_part.get(place, len(text))]
        assert vectors[place].tolist() == unit(read)
        if place in in_part:
            # All that fits, but for a twentieth.
            assert 512 * 0.9 < len(read.encode()) <= 512
    assert embedder.embed(texts, "document").tolist() == vectors.tolist()


def test_M18_how_much_is_read_does_not_depend_on_what_was_embedded_before(server: OpenAIServer) -> None:
    server.answer = lambda request, number: one_byte_a_token(request, 512, REFUSALS["vllm"])
    texts = ["a" * 3000, "b" * 700, "é" * 400, "short"]
    fresh = [connect(server).embed_in_part([text], "document").in_part.get(0) for text in texts]
    embedder = connect(server)
    together = embedder.embed_in_part(texts, "document").in_part
    backwards = embedder.embed_in_part(texts[::-1], "document").in_part
    assert [together.get(i) for i in range(4)] == fresh
    assert [backwards.get(3 - i) for i in range(4)] == fresh
    assert fresh[3] is None
    assert embedder.max_tokens == 512


def test_M18_texts_that_are_too_long_cost_few_requests_and_fail_no_other(server: OpenAIServer) -> None:
    server.answer = lambda request, number: one_byte_a_token(request, 512, REFUSALS["vllm"])
    embedder = connect(server)
    # Wherever the long ones stand: they are gathered in one request.
    texts = [f"{i} {'x' * 600 if i % 16 == 5 else 'short'}" for i in range(64)]
    server.requests.clear()
    assert sorted(embedder.embed_in_part(texts, "document").in_part) == [5, 21, 37, 53]
    first = len(server.requests)
    assert first <= 22
    server.requests.clear()
    # What was learned: so long a text goes alone, and no batch is refused because of it.
    embedder.embed_in_part([f"again {text}" for text in texts], "document")
    assert len(server.requests) <= 1 + 4 * 2


def test_M18_the_instruction_is_never_cut(server: OpenAIServer) -> None:
    server.answer = lambda request, number: one_byte_a_token(request, 60, REFUSALS["no numbers"])
    embedder = connect(server, query_instruction="find: ")
    _, in_part = embedder.embed_in_part(["q" * 200], "query")
    assert 40 <= in_part[0] <= 54
    sent = [request.body["input"][0] for request in server.requests if request.path == "/v1/embeddings"][2:]
    assert all(text.startswith("find: q") for text in sent)
    with pytest.raises(EmbedderError, match=r"input is too long; not even .* 'ff.* shorter instruction"):
        connect(server, query_instruction="f" * 70).embed(["q"], "query")


def test_M18_a_server_says_how_much_it_reads(server: OpenAIServer) -> None:
    listed = [{"id": "one", "max_model_len": 512}, {"id": "two", "max_model_len": "many"}, {"id": "three"}]
    server.answer = lambda request, number: (
        Reply({"data": listed}) if request.path == "/v1/models" else embeds(request, number)
    )
    assert [connect(server, model=name).max_tokens for name in ("one", "two", "three", "four")] == [
        512,
        None,
        None,
        None,
    ]


def test_M18_a_server_that_cuts_in_silence_is_caught_by_its_usage(server: OpenAIServer) -> None:
    def cuts(request: Request, number: int) -> Reply:
        if request.path == "/v1/models":
            return embeds(request, number)
        read = [text[:100] for text in request.body["input"]]
        data = [{"index": i, "embedding": vector_of(text)} for i, text in enumerate(read)]
        return Reply({"data": data, "usage": {"prompt_tokens": sum(map(len, read))}})

    server.answer = cuts
    embedder = connect(server, max_tokens=100)
    assert (embedder.max_tokens, embedder.name) == (100, "endpoint:tiny-embed:reads-100")
    vectors, in_part = embedder.embed_in_part(["x" * 99, "y" * 1000, "z"], "document")
    assert list(in_part) == [1]
    assert 80 <= in_part[1] < 100
    assert vectors[1].tolist() == unit("y" * in_part[1])
    # The short ones share a request, since they surely fit.
    server.answer = embeds
    with pytest.raises(EmbedderError, match=r"reports no usage\.prompt_tokens.*max_tokens=100"):
        embedder.embed(["x" * 99], "document")
    # A count that no text has is none.
    for count in (10**400, -1, True, 1e9, "99"):
        server.answer = lambda *asked, count=count: Reply({**cuts(*asked).body, "usage": {"prompt_tokens": count}})
        with pytest.raises(EmbedderError, match=r"reports no usage\.prompt_tokens"):
            embedder.embed(["x" * 99], "document")
    server.answer = embeds
    assert embedder.embed(["x" * 90, "y"], "document").shape == (2, 3)


@pytest.mark.parametrize("named", [True, False])
def test_finding_3_3_an_alias_of_qwen3_embedding_is_found_by_its_root(server: OpenAIServer, named: bool) -> None:
    rows = [{"id": "embed", "root": "/models/Qwen3-Embedding-0.6B", "max_model_len": 8192}]
    server.answer = lambda request, number: (
        Reply({"data": rows}) if request.path == "/v1/models" else embeds(request, number)
    )
    embedder = EndpointEmbedder(server.url + ("#embed" if named else ""))
    embedder.embed(["who?"], "query")
    assert server.requests[-1].body["input"] == [QWEN_QUERY_INSTRUCTION + "who?"]
    assert embedder.name.startswith("endpoint:embed:query-")
    assert load_embedder(server.url + "#embed", {"instruction": ""}).name == "endpoint:embed"


@pytest.mark.parametrize("listing", [Reply({"error": "no"}, 404), Reply({"data": "none"}), Reply("hello")])
def test_finding_3_3_a_named_model_needs_no_list_of_models(server: OpenAIServer, listing: Reply) -> None:
    server.answer = lambda request, number: listing if request.path == "/v1/models" else embeds(request, number)
    if listing.body == "hello":
        # No JSON at all is no server of this kind.
        with pytest.raises(EmbedderError, match="no JSON"):
            connect(server, model="any")
    else:
        assert connect(server, model="any").name == "endpoint:any"


def test_finding_3_3_dimensions_are_asked_of_the_server(server: OpenAIServer) -> None:
    def sized(request: Request, number: int) -> Reply:
        reply = embeds(request, number)
        for row in reply.body["data"] if request.path != "/v1/models" else ():
            row["embedding"] = row["embedding"][: request.body.get("dimensions")]
        return reply

    server.answer = sized
    embedder = load_embedder(server.url, {"dimensions": 2})
    assert (embedder.dim, embedder.name) == (2, "endpoint:tiny-embed:dimensions-2")
    assert server.requests[-1].body["dimensions"] == 2
    assert load_embedder(server.url).dim == 3
    server.answer = embeds
    with pytest.raises(EmbedderError, match=r"embeddings of 3 numbers.*, 2.*embedding model that takes dimensions=2"):
        connect(server, dimensions=2)


@pytest.mark.parametrize(
    ("embedding", "message"),
    [
        ([0, 0, 0], "an embedding of zeros alone"),
        ([1e308, 1e308, 0], "beyond the range"),
        ([1e-320, 0, 0], "beyond the range"),
        ([1e39, 0, 0], "beyond the range"),
        ([1e-39, 1e-40, 0], "beyond the range"),
        ([-0.0, 0.0, 0], "zeros alone"),
    ],
)
def test_finding_3_3_an_embedding_without_a_direction_is_refused(
    server: OpenAIServer, embedding: list[float], message: str
) -> None:
    server.answer = after_start(lambda request, number: Reply({"data": [row(0, [1, 2, 3]), row(1, embedding)]}))
    with pytest.raises(EmbedderError, match=rf"{message}.*, for model 'tiny-embed' and the text 'the second'"):
        connect(server).embed(["a", "the second"], "document")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
def test_finding_3_1_an_embedding_server_is_reached_from_a_forked_child(server: OpenAIServer) -> None:
    server.answer = embeds
    embedder = connect(server)
    reader, writer = os.pipe()
    # As if another thread of the parent were opening a connection at the moment of the fork.
    with embedder._endpoint._client._lock:
        child = os.fork()
        if child == 0:
            try:
                said = repr(embedder.embed(["a", "bb"], "document").tolist())
            except BaseException as error:
                said = repr(error)
            os.write(writer, said.encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().decode() == repr([unit("a"), unit("bb")])
    os.waitpid(child, 0)
