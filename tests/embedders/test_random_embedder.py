"""The ablation of retrieval: vectors that say nothing, equal to the bit everywhere (SPEC M15, M18)."""

from __future__ import annotations

import hashlib
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from support.stores.vectors import AWKWARD

from atommem_gym.cli import main
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.embedders.random_embedder import RandomEmbedder
from atommem_gym.errors import ConfigError
from atommem_gym.memory.protocols import TextKind
from atommem_gym.stores.kept import embedder_keyword
from atommem_gym.testing import check_embedder
from atommem_gym.traces import read_traces
from atommem_gym.trust import reaches_out

COLOURS = ("red", "blue", "green", "grey")
TEXTS = [f"Fact {i} about {name}." for i in range(40) for name in ("Ada", "Bob", "Cyd")]


def test_the_random_embedder_is_an_embedder() -> None:
    check_embedder(RandomEmbedder, examples=10)


def test_M15_random_vectors_are_what_they_were() -> None:
    for kind, recorded in (("document", "b52ca0295dca768c"), ("query", "956857d42ff97d90")):
        drawn = RandomEmbedder().embed(["", "Ada", "東京", "\ud800"], kind)
        assert hashlib.sha256(drawn.astype("<f4").tobytes()).hexdigest()[:16] == recorded


@pytest.mark.parametrize("kind", ["document", "query"])
def test_M6_random_vectors_have_length_one(kind: TextKind) -> None:
    drawn = RandomEmbedder().embed([*TEXTS, *AWKWARD, ""], kind)
    assert drawn.dtype == np.float32
    assert np.allclose(np.linalg.norm(drawn.astype(np.float64), axis=1), 1, atol=1e-6)
    assert RandomEmbedder().embed([], kind).shape == (0, 256)


def test_a_query_finds_the_entry_of_its_own_text_no_sooner_than_any_other() -> None:
    entries, queries = RandomEmbedder().embed(TEXTS, "document"), RandomEmbedder().embed(TEXTS, "query")
    ranks = [int((row > row[own]).sum()) for own, row in enumerate(queries @ entries.T)]
    # Each rank is uniform over 0 to 119: its mean over 120 queries has a standard deviation of 3.2.
    assert abs(np.mean(ranks) - 59.5) < 13


def test_a_read_of_an_environment_shows_entries_at_random() -> None:
    env = gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy", embedder="random", top_k=2)
    shown = []
    for seed in range(6):
        env.reset(seed=seed)
        texts = [f"Room {seed} {i} is painted {colour}." for i, colour in enumerate(COLOURS * 5)]
        env.step("".join(f"<create>{text}</create>" for text in texts))
        observation, *_ = env.step(f"<read>{texts[7]}</read>")
        shown.append([entry["id"] for entry in observation["memories"]])
    env.close()
    assert all(len(ids) == 2 for ids in shown)
    assert len({tuple(ids) for ids in shown}) > 3
    assert sum(8 in ids for ids in shown) < 4


def test_M18_the_random_embedder_reads_all_and_knows_dimensions_alone() -> None:
    assert load_embedder("random").max_tokens is None
    assert load_embedder("random", {"dimensions": 7}).name == "random-v1-7"
    for option in ({"instruction": "Find:"}, {"max_tokens": 8}):
        with pytest.raises(ConfigError, match=rf"{next(iter(option))}=.* is none of embedder='random'"):
            load_embedder("random", option)


def test_a_kept_memory_of_the_random_embedder_is_found_again_and_reaches_out_to_nobody() -> None:
    assert embedder_keyword(RandomEmbedder().name) == "random"
    assert not reaches_out("random")


def test_an_evaluation_takes_the_random_embedder_by_set(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ["--docs", "20", "--episodes", "2", "--agent", "keep_all", "--set", "embedder=random", "store=numpy"]
    assert main(["eval", "Synthetic", *arguments, "-o", str(folder)]) == 0
    [first, *_] = read_traces(folder / "traces.jsonl")
    assert first.env.keywords["embedder"] == "random"
