"""What an environment promises when something fails midway, and what it leaves behind (SPEC M13, M14, R1, R3)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from support.stores.flaky_store import FlakyStore
from test_env import SMALL, make

from atommem_gym.envs import AtomMemEnv, EvidenceReward
from atommem_gym.errors import JudgeError, StoreError


def flaky(env: AtomMemEnv) -> FlakyStore:
    store = FlakyStore(env._backend.store)
    env._backend.store = store  # type: ignore[assignment]
    return store


@pytest.mark.parametrize("store", ["numpy", "milvus", "milvus://{tmp}/kept.db"])
def test_what_a_failed_step_left_in_the_store_is_put_right_by_any_next_action(store: str, tmp_path: Path) -> None:
    env, calm = make(store=store.format(tmp=tmp_path)), make()
    broken = flaky(env)
    for one in (env, calm):
        one.reset(seed=1)
        one.step("<create>bees</create><create>boats</create>")
    broken.failing = "candidates"
    with pytest.raises(StoreError):
        env.step('<create>ghost</create><update id="1">changed</update><delete id="2"/><read>ghost</read>')
    broken.failing = ""
    snapshot = env.snapshot()
    assert repr(env.step("<read>boats</read>")) == repr(calm.step("<read>boats</read>"))
    assert repr(env.step("<create>new</create><read>new bees</read>")) == repr(
        calm.step("<create>new</create><read>new bees</read>")
    )
    env.restore(snapshot)
    assert [m["text"] for m in env.step("<read>boats</read>")[0]["memories"]] == ["boats", "bees"]
    env.close()


def test_a_release_that_is_made_up_for_leaves_alone_a_memory_that_goes_on_elsewhere(tmp_path: Path) -> None:
    """Unloaded between the write and the search of another thread's step, it would look empty."""
    kept = f"milvus://{tmp_path}/kept.db"
    env, other = make(store=kept), make(store=kept)
    broken, released = flaky(env), []
    env.reset(seed=1)
    env.step("<create>bees</create>")
    memory = env.memory_key
    broken.failing = "release"
    env.reset(seed=2)
    broken.failing = ""
    assert other.reset(options={"memory": memory})[1]["entries"] == 1
    broken.release = released.extend  # type: ignore[attr-defined]
    left = env.memory_key
    env.reset(seed=3)
    assert released == [left]
    del broken.release  # type: ignore[attr-defined]
    env.close()
    other.close()


def test_a_reset_that_failed_leaves_the_memory_it_was_to_go_on_with_to_others(tmp_path: Path) -> None:
    kept = f"milvus://{tmp_path}/kept.db"
    env, other = make(store=kept), make(store=kept)
    env.reset(seed=1)
    memory = env.memory_key
    env.reset(seed=2)
    broken = flaky(env)
    broken.failing = "write"
    with pytest.raises(StoreError, match="write fails"):
        env.reset(options={"memory": memory})
    broken.failing = ""
    other.reset(options={"memory": memory})
    with pytest.raises(StoreError, match="in use by another"):
        env.reset(options={"memory": memory})
    other.close()
    env.reset(options={"memory": memory})
    assert env.memory_key == memory
    env.close()


def test_a_finished_step_does_not_fail_because_its_rows_cannot_be_deleted(caplog: pytest.LogCaptureFixture) -> None:
    env = make(store="milvus", chunk_tokens=100_000)
    broken = flaky(env)
    env.reset(seed=1)
    env.step("<create>bees</create>")
    key = env.memory_key
    broken.failing = "release"
    assert env.step("<answer>x</answer>")[2]
    assert "deleted later" in caplog.text
    assert key in broken.episodes()
    broken.failing = ""
    env.reset(seed=1)
    env.reset(seed=1)
    assert key not in broken.episodes()
    env.close()


def test_M13_a_memory_in_use_cannot_be_gone_on_with_elsewhere(tmp_path: Path) -> None:
    one, two = make(store=f"milvus://{tmp_path}/kept.db"), make(store=f"milvus://{tmp_path}/kept.db")
    one.reset(seed=1)
    one.step("<create>bees</create>")
    key = one.memory_key
    two.reset(seed=1)
    with pytest.raises(StoreError, match="in use by another environment"):
        two.reset(options={"memory": key})
    two.step("<create>still running</create>")
    assert one.reset(options={"memory": key})[1]["entries"] == 1, "its own memory it may go on with"
    one.reset(seed=2)
    assert two.reset(options={"memory": key})[1]["entries"] == 1
    one.close()
    two.close()


def test_a_kept_database_frees_the_memory_of_episodes_that_are_over(tmp_path: Path) -> None:
    env = make(store=f"milvus://{tmp_path}/kept.db")
    for seed in range(5):
        env.reset(seed=seed)
        env.step("<create>bees</create>")
    mirror = env._backend.store._table._mirror  # type: ignore[union-attr]
    assert len(list(mirror.episodes())) == 1
    assert len(env._backend.store.episodes()) == 5  # type: ignore[union-attr]
    env.close()


def test_a_failed_reset_may_be_repeated_and_draws_the_same_item() -> None:
    env, calm = make(), make()
    for one in (env, calm):
        one.reset(seed=4)
    with pytest.raises(StoreError):
        env.reset(options={"memory": "nobody"})
    assert repr(env.reset()) == repr(calm.reset())


def test_M14_a_restored_environment_can_be_stepped_and_shown_without_a_reset() -> None:
    env = gym.make("AtomMem-Synthetic-v0", **SMALL, store="numpy")
    env.reset(seed=1)
    observation = env.step("<create>bees</create><read>bees</read>")[0]
    fresh = gym.make("AtomMem-Synthetic-v0", **SMALL, store="numpy")
    assert repr(fresh.unwrapped.restore(env.unwrapped.snapshot())) == repr(observation)
    assert repr(fresh.step("<read>bees</read>")) == repr(env.step("<read>bees</read>"))


def test_M14_a_snapshot_of_an_ended_episode_is_kept_by_a_kept_store(tmp_path: Path) -> None:
    env = make(chunk_tokens=100_000)
    env.reset(seed=1)
    env.step("<create>bees</create>")
    env.step("<answer>x</answer>")
    kept = make(chunk_tokens=100_000, store=f"milvus://{tmp_path}/kept.db")
    kept.restore(env.snapshot())
    key = kept.memory_key
    assert kept.reset(options={"memory": key})[1]["entries"] == 1
    assert [m["text"] for m in kept.step("<read>bees</read>")[0]["memories"]] == ["bees"]
    kept.close()


class _WrongScorer:
    name = "wrong"

    def __init__(self, scores: list[float]) -> None:
        self.scores = scores

    def score(self, requests: Any) -> list[float]:
        return self.scores


@pytest.mark.parametrize("scores", [[], [float("nan")], [7.0], [0.5, 0.5]])
def test_R1_a_scorer_that_returns_no_score_raises_and_changes_nothing(scores: list[float]) -> None:
    env = make(reward=_WrongScorer(scores), chunk_tokens=100_000)
    env.reset(seed=1)
    env.step("")
    with pytest.raises(ValueError, match=r"'wrong' returned .* for 1 answer"):
        env.step("<answer>x</answer>")
    assert env.episode.state.steps == 1


def test_R3_a_judge_that_fails_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    env, calm = make(chunk_tokens=100_000), make(chunk_tokens=100_000)
    for one in (env, calm):
        one.reset(seed=1)
        one.step("<create>bees</create>")
    score = env._backend.scorer.score

    def down(requests: Any) -> list[float]:
        raise JudgeError("the judge is down")

    monkeypatch.setattr(env._backend.scorer, "score", down)
    with pytest.raises(JudgeError):
        env.step("<create>boats</create><answer>x</answer>")
    monkeypatch.setattr(env._backend.scorer, "score", score)
    again = "<read>bees</read><answer>y</answer>"
    assert repr(env.step(again)) == repr(calm.step(again))


def test_evidence_reward_survives_a_restore() -> None:
    env = EvidenceReward(
        gym.make("AtomMem-Synthetic-v0", **{**SMALL, "chunk_tokens": 100_000}, store="numpy"), weight=1.0
    )
    env.reset(seed=1)
    env.step("")
    snapshot = env.unwrapped.snapshot()
    action = f"<scratchpad>{' '.join(e.text for e in env.unwrapped.item.questions[0].evidence)}</scratchpad>"
    assert env.step(action)[1] == 1.0
    env.unwrapped.restore(snapshot)
    assert env.step("")[1] == 0.0
    assert env.step(action)[1] == 1.0


def test_environments_that_are_never_closed_leave_quietly() -> None:
    program = (
        "import gymnasium as gym, atommem_gym\n"
        f"envs = [gym.make('AtomMem-Synthetic-v0', **{SMALL!r}, store=s) for s in ('numpy', 'milvus', 'milvus')]\n"
        "for env in envs:\n    env.reset(seed=0)\n    env.step('<create>bees</create>')\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ran.stderr == ""
