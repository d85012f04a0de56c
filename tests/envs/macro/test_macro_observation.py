"""EmbeddingObservation: its layout, what its numbers mean, and the checkers of Gymnasium and Stable-Baselines3."""

from __future__ import annotations

import warnings
from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from atommem_gym.envs.macro.embedding_observation import FEATURES, SCALARS, EmbeddingObservation
from atommem_gym.envs.macro.macro_actions import KEEP, READ_QUESTION, SKIP, MacroActions
from atommem_gym.envs.macro.relevance import SIMILARITY_WEIGHT, Products, chain_relevance
from atommem_gym.errors import ConfigError

TASK: dict[str, Any] = {
    "num_docs": 20,
    "chunk_tokens": 300,
    "max_entries": 4,
    "max_entry_tokens": 160,
    "store": "numpy",
}


def make(vectors: int | None = 16, slots: int = 4, **changes: Any) -> EmbeddingObservation:
    env = gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **{**TASK, **changes})
    return EmbeddingObservation(MacroActions(env, slots=slots), vectors=vectors)


@pytest.mark.parametrize(("vectors", "size"), [(0, 0), (16, 6 * 16), (None, 6 * 1024)])
def test_the_layout_covers_the_vector(vectors: int | None, size: int) -> None:
    with closing(make(vectors)) as env:
        parts = env.layout
        assert [parts["scalars"].start, parts["documents"].start, parts["embeddings"].start] == [
            0,
            len(SCALARS),
            len(SCALARS) + 4 * len(FEATURES),
        ]
        assert env.observation_space.shape == (parts["embeddings"].stop,)
        assert parts["embeddings"].stop - parts["embeddings"].start == size
        observation, _ = env.reset(seed=0)
        assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    "changes", [{}, {"question_visible": "end"}, {"max_entries": None}, {"questions_per_episode": 3}, {"slots": 1}]
)
def test_every_observation_of_random_play_is_in_the_space(changes: dict[str, Any]) -> None:
    with closing(make(**changes)) as env:
        env.action_space.seed(2)
        for index in range(3):
            observation, _ = env.reset(options={"index": index})
            over = False
            while not over:
                assert env.observation_space.contains(observation)
                assert np.isfinite(observation).all()
                observation, _, over, _, _ = env.step(env.action_space.sample())


def test_gold_documents_stand_out() -> None:
    """The signal that a learner needs is there: relevance tells gold documents from others, on average."""
    gold, rest = [], []
    with closing(make(0, max_entries=20)) as env:
        for index in range(20):
            observation, _ = env.reset(options={"index": index})
            titles = {d.title for q in env.unwrapped.item.questions for d in q.gold_documents}  # type: ignore[attr-defined]
            over = False
            while not over:
                offered = env.get_wrapper_attr("macro_state").offered
                values = env.named(observation)["documents"]["relevance"]
                for piece, value in zip(offered, values, strict=False):
                    (gold if piece.title in titles else rest).append(float(value))
                observation, _, over, _, _ = env.step([KEEP] * 4 + [0, READ_QUESTION])
    assert np.mean(gold) > 1.5 * np.mean(rest)


def test_the_numbers_say_what_their_names_say() -> None:
    with closing(make(0)) as env:
        observation, _ = env.reset(options={"index": 1})
        named = env.named(observation)
        assert named["documents"]["offered"].tolist() == [1.0] * 4
        assert named["scalars"]["entries"] == named["scalars"]["answering"] == named["scalars"]["shown"] == 0
        assert named["documents"]["mergeable"].tolist() == [0.0] * 4
        observation, *_ = env.step([KEEP, KEEP, SKIP, SKIP, 0, READ_QUESTION])
        named = env.named(observation)
        assert named["scalars"]["entries"] == pytest.approx(2 / 4)
        assert named["scalars"]["shown"] == pytest.approx(2 / 6)
        assert named["scalars"]["unasked"] == 1
        progress = env.unwrapped.episode.stream.num_chunks  # type: ignore[attr-defined]
        assert named["scalars"]["progress"] == pytest.approx(1 / progress)
        assert named["documents"]["mergeable"].tolist() == [1.0] * len(named["documents"]["offered"].nonzero()[0])
        assert (named["documents"]["to_mergeable"] <= named["documents"]["to_stored"] + 1e-6).all()


def test_the_numbers_are_those_of_the_embedder() -> None:
    with closing(make(0)) as env:
        env.reset(options={"index": 1})
        observation, *_ = env.step([KEEP, KEEP, KEEP, SKIP, 0, READ_QUESTION])
        state = env.get_wrapper_attr("macro_state")
        measures, named = state.measures(), env.named(observation)
        stored = [piece for entry in state.stored.values() for piece in entry.pieces]
        offered = state.offered
        for o, new in enumerate(offered):
            for s, old in enumerate(stored):
                names = new.vector @ old.title_vector / (old.title_vector @ old.title_vector)
                named_by = old.vector @ new.title_vector / (new.title_vector @ new.title_vector)
                assert measures.names_stored[o, s] == pytest.approx(np.clip(names, 0, 1))
                assert measures.named_by_stored[o, s] == pytest.approx(np.clip(named_by, 0, 1))
        relevance = measures.offered
        best, least = relevance.max(), min(value for _, value in measures.by_entry())
        assert named["scalars"]["best_offered"] == pytest.approx(best / 2)
        assert named["scalars"]["gain"] == pytest.approx((best - least) / 2)
        assert named["documents"]["margin"][: len(offered)] == pytest.approx(relevance - least, abs=1e-6)
        assert named["documents"]["among_offered"][int(relevance.argmax())] == 1.0
        assert named["documents"]["among_offered"][int(relevance.argmin())] == 0.0


def test_free_slots_are_zero_and_come_last() -> None:
    with closing(make(0, chunk_tokens=180)) as env:
        env.reset(options={"index": 1})
        fewer, over = False, False
        while not over:
            observation, _, over, _, _ = env.step([SKIP] * 4 + [0, READ_QUESTION])
            count = len(env.get_wrapper_attr("macro_state").offered)
            block = observation[env.layout["documents"]].reshape(4, -1)
            assert block[:, 0].tolist() == [1.0] * count + [0.0] * (4 - count)
            assert not block[count:].any()
            fewer |= 0 < count < 4
        assert fewer


def test_projected_embeddings_keep_similarities_roughly() -> None:
    with closing(make(None)) as whole, closing(make(512)) as projected:
        rows = []
        for env in (whole, projected):
            observation, _ = env.reset(options={"index": 1})
            vectors = observation[env.layout["embeddings"]].reshape(6, -1)
            rows.append(vectors @ vectors.T)
        assert np.allclose(np.diag(rows[0])[[0, 2, 3, 4, 5]], 1.0, atol=1e-5)
        assert np.abs(rows[0] - rows[1]).max() < 0.25


def test_chain_relevance_follows_names_and_decays() -> None:
    names = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    chain = chain_relevance(np.array([1.0, 0.0, 0.0]), names, np.array([0.5, 0.0, 0.0]))
    assert chain.tolist() == pytest.approx([1.0 + SIMILARITY_WEIGHT / 2, 0.9, 0.81])
    backwards = chain_relevance(np.array([0.0, 0.0, 1.0]), names, np.zeros(3))
    assert backwards.tolist() == pytest.approx([0.81, 0.9, 1.0])
    assert chain_relevance(np.zeros(0), np.zeros((0, 0)), np.zeros(0)).shape == (0,)


def test_zero_vectors_are_similar_to_nothing() -> None:
    products = Products(np.array([[0.0, 0.0], [3.0, 4.0]], np.float32))
    assert products.cosines(slice(0, 2), slice(1, 2)).tolist() == [[0.0], [1.0]]
    assert products.named(slice(1, 2), slice(0, 2)).tolist() == [[0.0, 1.0]]


@pytest.mark.parametrize("vectors", [-1, 1.5, True, "all"])
def test_wrong_dimensions_are_named(vectors: Any) -> None:
    with pytest.raises(ConfigError, match="vectors="):
        make(vectors)


def test_it_needs_macro_actions_below() -> None:
    with pytest.raises(ConfigError, match="has no MacroActions"):
        EmbeddingObservation(gym.make("AtomMem-Synthetic-v0", **TASK))


def test_gymnasiums_check_env_passes() -> None:
    with closing(make()) as env, warnings.catch_warnings():
        # It prefers the environment without wrappers, which tests/envs/test_env.py gives it.
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version.*")
        check_env(env, skip_render_check=True)


def test_it_is_rebuilt_from_its_spec_and_batched_by_gymnasium() -> None:
    with closing(make(8, slots=2)) as env:
        assert env.spec is not None
        with closing(gym.make(env.spec)) as again:
            assert again.observation_space == env.observation_space
            assert np.array_equal(again.reset(seed=4)[0], env.reset(seed=4)[0])
    wrappers = [MacroActions, EmbeddingObservation]
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=3, vectorization_mode="sync", wrappers=wrappers, **TASK)
    with closing(envs):
        observations, _ = envs.reset(seed=0)
        assert observations.shape == (3, envs.single_observation_space.shape[0])
        envs.action_space.seed(0)
        for _ in range(30):
            observations, _, _, truncations, _ = envs.step(envs.action_space.sample())
            assert not truncations.any()
