"""SPEC M14 for macro-actions: forks of the wrapped environment go on as it would, and share nothing that changes."""

from __future__ import annotations

from contextlib import closing
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import EvidenceReward, HindsightCredit, RecordTraces
from atommem_gym.envs.macro.embedding_observation import EmbeddingObservation
from atommem_gym.envs.macro.macro_actions import MacroActions
from atommem_gym.errors import ConfigError

DRIFT: dict[str, Any] = {"num_docs": 30, "chunk_tokens": 160, "questions_per_episode": 2, "max_entry_tokens": 96}


def make(env_id: str = "AtomMem-Drift-v0", **changes: Any) -> EmbeddingObservation:
    env = gym.make(env_id, store="numpy", **{**DRIFT, "max_entries": 4, **changes})
    return EmbeddingObservation(MacroActions(EvidenceReward(HindsightCredit(env)), slots=3), vectors=4)


def rollout(env: EmbeddingObservation, actions: list[Any], start: int) -> list[Any]:
    found, over = [], False
    for action in actions[start:]:
        observation, reward, over, _, info = env.step(action)
        found.append(repr((observation.tolist(), reward, over, info)))
        if over:
            break
    assert over
    return found


@pytest.mark.parametrize("at", [0, 1, 4, 9])
@pytest.mark.parametrize("changes", [{}, {"chunk_overlap": 20, "question_visible": "always"}])
def test_M14_a_fork_goes_on_as_a_replay_from_the_beginning(at: int, changes: dict[str, Any]) -> None:
    with closing(make(**changes)) as env:
        rng = np.random.default_rng(at)
        actions = [rng.integers(env.action_space.nvec) for _ in range(60)]  # type: ignore[attr-defined]
        env.reset(seed=3)
        expected = rollout(env, actions, 0)
        observation, _ = env.reset(seed=3)
        for action in actions[:at]:
            observation, *_ = env.step(action)
        one, other = env.fork(2)
        assert one.current().tolist() == other.current().tolist() == observation.tolist()
        # What one does changes neither the other nor the environment.
        rollout(one, actions[::-1], 0)
        (grandchild,) = other.fork(1)
        for each in (other, env, grandchild):
            assert rollout(each, actions, at) == expected[at:]
        for each in (one, other, grandchild):
            each.close()


def test_M14_forks_need_a_running_episode_and_wrappers_without_a_state(tmp_path: Any) -> None:
    with closing(make()) as env:
        with pytest.raises(ResetNeeded):
            env.fork(1)
        env.reset(seed=1)
        with pytest.raises(ConfigError, match="n=0 must be an integer of at least 1"):
            env.fork(0)
    recorded = RecordTraces(gym.make("AtomMem-Drift-v0", store="numpy", **DRIFT), tmp_path / "traces.jsonl")
    macro = MacroActions(recorded, slots=2)
    macro.reset(seed=1)
    with pytest.raises(ConfigError, match="RecordTraces keeps a state of its own"):
        macro.fork(1)
    between = gym.wrappers.TransformReward(macro, lambda reward: reward)
    with pytest.raises(ConfigError, match="stands between"):
        EmbeddingObservation(between).fork(1)
    macro.close()
