"""The batched vector environment: equal to single environments and to Gymnasium's own forms (SPEC M15)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemVectorEnv
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.registration import TASKS, Task

FAMILY = tuple(
    task for task in TASKS.values() if task.entry_point.startswith("atommem_gym.envs:") and not task.contexts
)
SMALL = {"source": "synthetic", "num_docs": 48, "chunk_tokens": 1500, "store": "numpy"}


def make_vec(num_envs: int, **keywords: Any) -> AtomMemVectorEnv:
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=num_envs, **{**SMALL, **keywords})
    assert isinstance(envs, AtomMemVectorEnv)
    return envs


def play(envs: gym.vector.VectorEnv, steps: int, seed: int = 3) -> list[Any]:
    envs.action_space.seed(seed)
    seen: list[Any] = [envs.reset(seed=seed)]
    seen += [envs.step(envs.action_space.sample()) for _ in range(steps)]
    return seen


def plain(value: Any) -> Any:
    """Nested containers as comparable Python values."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


@pytest.mark.parametrize("store", ["numpy", "milvus"])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_it_equals_gymnasiums_sync_vector_env(preset: str, mode: AutoresetMode, store: str) -> None:
    keywords = {**SMALL, "preset": preset, "questions_per_episode": 2, "max_steps": 5}
    sync = gym.make_vec(
        "AtomMem-Synthetic-v0",
        num_envs=3,
        vectorization_mode="sync",
        vector_kwargs={"autoreset_mode": mode},
        **keywords,
    )
    ours = make_vec(3, **{**keywords, "store": store}, autoreset_mode=mode)
    for step, (one, two) in enumerate(zip(play(sync, 14), play(ours, 14), strict=True)):
        assert plain(one) == plain(two), f"step {step}"
    ours.close()


@pytest.mark.parametrize("num_envs", [1, 2, 7])
def test_M15_a_member_equals_a_single_environment(num_envs: int) -> None:
    envs = make_vec(num_envs)
    single = gym.make("AtomMem-Synthetic-v0", **SMALL)
    member = num_envs - 1
    observations, _ = envs.reset(seed=10)
    observation, _ = single.reset(seed=10 + member)
    rng = np.random.default_rng(0)
    for _ in range(8):
        assert {name: plain(value[member]) for name, value in observations.items()} == plain(observation)
        n = int(rng.integers(100))
        actions = [f"<create>fact {n + i}</create><read>fact {n}</read><answer>{i}</answer>" for i in range(num_envs)]
        observations, rewards, terminations, truncations, _ = envs.step(actions)
        observation, reward, terminated, truncated, _ = single.step(actions[member])
        assert (rewards[member], terminations[member], truncations[member]) == (reward, terminated, truncated)
        if terminated or truncated:
            break


def test_observations_and_actions_are_in_the_batched_spaces() -> None:
    envs = make_vec(3, questions_per_episode=2)
    for result in play(envs, 9):
        assert result[0] in envs.observation_space
    assert envs.action_space.sample() in envs.action_space


def test_a_group_gets_the_same_episode() -> None:
    envs = make_vec(4)
    observations, infos = envs.reset(options={"index": [3, 3, 5, 5], "shuffle_seed": 2})
    assert [item.rsplit("/")[-1] for item in infos["item"]] == ["3", "3", "5", "5"]
    assert observations["chunk"][0] == observations["chunk"][1] != observations["chunk"][2]


def test_disabled_autoreset_needs_a_reset_mask() -> None:
    envs = make_vec(3, autoreset_mode=AutoresetMode.DISABLED, chunk_tokens=100_000)
    envs.reset(seed=0)
    envs.step([""] * 3)
    _, _, terminations, _, infos = envs.step(["<answer>x</answer>", "", "<answer>y</answer>"])
    assert terminations.tolist() == [True, False, True]
    assert infos["_episode_metrics"].tolist() == [True, False, True]
    with pytest.raises(ResetNeeded):
        envs.step([""] * 3)
    observations, infos = envs.reset(options={"reset_mask": terminations})
    assert observations["phase"].tolist() == [0, 1, 0]
    assert infos["_item"].tolist() == [True, False, True]
    envs.step([""] * 3)


def test_same_step_autoreset_keeps_what_the_episode_ended_with() -> None:
    envs = make_vec(2, autoreset_mode="SameStep", chunk_tokens=100_000)
    envs.reset(seed=0)
    envs.step(["", ""])
    observations, _, terminations, _, infos = envs.step(["<answer>x</answer>", ""])
    assert terminations.tolist() == [True, False]
    assert observations["phase"].tolist() == [0, 1]
    assert infos["final_obs"][0]["phase"] == 1
    assert infos["final_info"]["episode_metrics"]["steps"][0] == 2


def test_entries_never_cross_from_one_member_to_another() -> None:
    envs = make_vec(3, store="milvus")
    envs.reset(seed=0)
    envs.step(["<create>bees</create>", "<create>bees</create><create>bees</create>", ""])
    observations, *_ = envs.step(["<read>bees</read><delete id='1'/>", "<read>bees</read>", "<read>bees</read>"])
    assert [[m["id"] for m in memories] for memories in observations["memories"]] == [[], [1, 2], []]
    envs.close()


def test_a_vector_step_whose_store_fails_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    envs, untouched = make_vec(3, max_steps=2), make_vec(3, max_steps=2)
    for one in (envs, untouched):
        one.reset(seed=0)
        one.step(["<create>bees</create>"] * 3)
        one.step([""] * 3)
    assert envs._backend.store is not None
    actions = ["<create>boats</create>"] * 3  # ignored by NEXT_STEP: all three are due for a reset
    write = envs._backend.run

    def fail(*_: Any) -> None:
        raise StoreError("on purpose")

    monkeypatch.setattr(envs._backend, "run", fail)
    with pytest.raises(StoreError):
        envs.step(actions)
    monkeypatch.setattr(envs._backend, "run", write)
    assert plain(envs.step(actions)) == plain(untouched.step(actions))


def test_bad_input() -> None:
    envs = make_vec(2)
    with pytest.raises(ResetNeeded):
        envs.step(["", ""])
    envs.reset(seed=0)
    with pytest.raises(ValueError, match="1 actions for 2"):
        envs.step([""])
    with pytest.raises(TypeError, match="an action is a str"):
        envs.step(["", 3])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="3 seeds for 2"):
        envs.reset(seed=[1, 2, 3])
    with pytest.raises(ValueError, match="reset_mask"):
        envs.reset(options={"reset_mask": np.zeros(2, np.bool_)})
    with pytest.raises(ValueError, match="option index has 3 values"):
        envs.reset(options={"index": [1, 2, 3]})
    with pytest.raises(ConfigError, match="num_envs=0"):
        make_vec(0)
    with pytest.raises(ConfigError, match="did you mean 'top_k'"):
        make_vec(2, topk=3)


def test_async_vector_env_works_without_shared_memory() -> None:
    envs = gym.make_vec(
        "AtomMem-Synthetic-v0", num_envs=2, vectorization_mode="async", vector_kwargs={"shared_memory": False}, **SMALL
    )
    ours = make_vec(2)
    assert plain(play(envs, 4)) == plain(play(ours, 4))
    envs.close()


def test_a_same_step_autoreset_that_fails_can_be_repeated(tmp_path: Path) -> None:
    keywords = {"max_steps": 1, "autoreset_mode": AutoresetMode.SAME_STEP, "store": f"milvus://{tmp_path}/kept.db"}
    envs, calm = make_vec(2, **keywords), make_vec(2, **{**keywords, "store": "numpy"})
    for one in (envs, calm):
        one.reset(seed=0)
    run, calls = envs._backend.run, []

    def fail_second(batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 2:
            raise StoreError("on purpose")
        return run(batch)

    envs._backend.run = fail_second  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        envs.step(["<create>a</create>", ""])
    for _ in range(2):
        assert plain(envs.step(["<create>a</create>", ""])) == plain(calm.step(["<create>a</create>", ""]))
    envs.close()


def test_episodes_that_end_together_are_deleted_in_one_call(monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_vec(8, store="milvus", max_steps=1)
    envs.reset(seed=0)
    store, calls = envs._backend.store, []
    assert store is not None
    monkeypatch.setattr(store, "drop", lambda keys: calls.append(len(keys)))
    envs.step(["<create>a</create>"] * 8)
    assert calls == [8]
    monkeypatch.undo()
    envs.close()


def test_two_members_cannot_go_on_with_one_memory(tmp_path: Path) -> None:
    envs = make_vec(2, store=f"milvus://{tmp_path}/kept.db")
    envs.reset(seed=0)
    key = envs.memory_keys[0]
    envs.reset(seed=1)
    with pytest.raises(ConfigError, match="cannot go on with one memory"):
        envs.reset(options={"memory": key})
    assert envs.reset(options={"memory": [key, None]})[1]["entries"].tolist() == [0, 0]
    envs.close()


def test_the_first_reset_takes_no_mask() -> None:
    with pytest.raises(ResetNeeded, match="no episode yet"):
        make_vec(2).reset(options={"reset_mask": np.array([True, False])})


@pytest.mark.parametrize("tells_queries", [False, True])
def test_a_step_embeds_everything_in_one_call_unless_queries_are_told_from_documents(
    monkeypatch: pytest.MonkeyPatch, tells_queries: bool
) -> None:
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=3, num_docs=20, store="numpy")
    embedder = envs._backend.embedder
    calls: list[tuple[int, str]] = []

    def counting(texts: Any, kind: Any) -> Any:
        calls.append((len(texts), kind))
        return type(embedder).embed_in_part(embedder, texts, kind)

    monkeypatch.setattr(embedder, "embed_in_part", counting)
    monkeypatch.setattr(embedder, "tells_queries", tells_queries)
    envs.reset(seed=0)
    envs.step([f"<create>bees {i}</create><read>bees and boats {i}</read>" for i in range(3)])
    assert calls == ([(3, "document"), (3, "query")] if tells_queries else [(6, "document")])
    envs.close()


@pytest.mark.parametrize("task", FAMILY, ids=lambda task: task.name)
def test_one_class_serves_every_id_and_its_spec_is_json(task: Task) -> None:
    keywords = {"source": "synthetic", "num_docs": 40, "store": "numpy"}
    envs = gym.make_vec(task.env_id, num_envs=2, **keywords)
    assert type(envs) is AtomMemVectorEnv
    assert (envs.task, envs.config.as_keywords()) == (task.name, task.config(keywords).as_keywords())
    assert str(envs) == f"AtomMemVectorEnv({task.env_id}, num_envs=2)"
    _, infos = envs.reset(seed=0)
    assert envs.spec is not None
    spec = gym.envs.registration.EnvSpec.from_json(envs.spec.to_json())
    assert spec.kwargs["task"] == task.name
    again = gym.make_vec(task.env_id, num_envs=2, **keywords)
    assert again.reset(seed=0)[1]["item"].tolist() == infos["item"].tolist()
    single = gym.make(task.env_id, **keywords)
    assert single.reset(seed=0)[1]["item"] == infos["item"][0]
    for one in (envs, again, single):
        one.close()
