"""The built-in embedder, to the bit (SPEC M6, M15), and what it finds of real questions."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.stores.vectors import AWKWARD, cosine

from atommem_gym.embedders import hashing_embedder as hashing
from atommem_gym.embedders.hashing_embedder import HashingEmbedder

HASHING = HashingEmbedder()
anything = st.text(max_size=60) | st.sampled_from(AWKWARD)


def similarity(one: str, other: str) -> float:
    first, second = HASHING.embed([one, other], "document")
    return cosine(first, second)


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
