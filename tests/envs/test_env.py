"""The Gymnasium face: its checker, spaces, seeds, options, snapshots, rendering, and bad input."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv, ChatObservation, MemoryCost, PromptObservation
from atommem_gym.errors import AtomMemError, ConfigError, DatasetUnavailableError, SnapshotError, StoreError
from atommem_gym.registration import TASKS

IDS = [task.env_id for task in TASKS.values() if not task.contexts]  # contexts come from files
SMALL = {"source": "synthetic", "num_docs": 48, "chunk_tokens": 1200}


def make(env_id: str = "AtomMem-Synthetic-v0", **keywords: Any) -> AtomMemEnv:
    env = gym.make(env_id, **{**SMALL, "store": "numpy", **keywords}).unwrapped
    assert isinstance(env, AtomMemEnv)
    return env


def trajectory(env: gym.Env[Any, str], steps: int = 12, actions: int = 5, **reset: Any) -> list[Any]:
    """Everything that an episode of seeded random actions returns."""
    env.action_space.seed(actions)
    seen: list[Any] = [env.reset(**reset)]
    for _ in range(steps):
        seen.append(env.step(env.action_space.sample()))
        if seen[-1][2] or seen[-1][3]:
            break
    return seen


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("env_id", IDS)
def test_check_env_passes_without_a_warning(env_id: str, preset: str) -> None:
    env = make(env_id, preset=preset, store="milvus")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(env)
    env.close()


@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
def test_E10_every_observation_is_in_the_space_and_every_sample_is_an_action(dialect: str) -> None:
    env = make(dialect=dialect, questions_per_episode=2)
    for result in trajectory(env, steps=30, actions=1):
        assert result[0] in env.observation_space
    assert env.observation_space.sample() in env.observation_space


@pytest.mark.parametrize("env_id", IDS)
def test_the_spec_survives_json(env_id: str) -> None:
    env = gym.make(env_id, **SMALL, store="numpy", operations=["create", "read"], questions_per_episode=[1, 3])
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    again = gym.make(spec)
    assert again.unwrapped.config == env.unwrapped.config
    assert repr(trajectory(again, options={"index": 3})) == repr(trajectory(env, options={"index": 3}))


def test_wrapped_environments_survive_json() -> None:
    env = PromptObservation(MemoryCost(gym.make("AtomMem-Synthetic-v0", **SMALL, store="numpy"), per_operation=0.1))
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert isinstance(again, PromptObservation)
    assert repr(trajectory(again, seed=3, options={"index": 1})) == repr(trajectory(env, seed=3, options={"index": 1}))


@pytest.mark.parametrize(
    "other",
    [{"store": "milvus"}, {"store": "milvus", "store_reads": "milvus"}, {"store": "milvus://{tmp}/kept.db"}],
    ids=str,
)
@pytest.mark.parametrize("preset", ["paper", "released"])
def test_M15_a_trajectory_is_the_same_on_every_store(other: dict[str, str], preset: str, tmp_path: Path) -> None:
    other = {name: value.format(tmp=tmp_path) for name, value in other.items()}
    keywords = {"preset": preset, "questions_per_episode": 3}
    one, two = make(**keywords), make(**keywords, **other)
    for seed in range(3):
        assert repr(trajectory(one, 40, seed, seed=seed)) == repr(trajectory(two, 40, seed, seed=seed))
    one.close()
    two.close()


def test_E7_a_step_before_the_first_reset_raises() -> None:
    env = make()
    with pytest.raises(ResetNeeded, match=r"call reset\(\)"):
        env.step("")
    with pytest.raises(ResetNeeded):
        _ = env.item


def test_E8_items_by_index_and_by_seed() -> None:
    env = make("AtomMem-HotpotQA-v0")
    assert env.num_items > 100
    observation, info = env.reset(options={"index": 7})
    assert info["item"].endswith("/7")
    same, _ = env.reset(options={"index": 7})
    assert repr(same) == repr(observation)
    other_layout, _ = env.reset(options={"index": 7, "shuffle_seed": 1})
    assert other_layout["question"] == observation["question"]
    assert other_layout["chunk"] != observation["chunk"]
    drawn = {env.reset(seed=seed)[1]["item"] for seed in range(5)}
    assert len(drawn) > 1
    assert env.reset(seed=3)[1]["item"] == env.reset(seed=3)[1]["item"]
    items = {env.reset()[1]["item"] for _ in range(5)}
    assert len(items) > 1


@pytest.mark.parametrize("index", [-1, 10**9])
def test_E8_an_index_outside_raises_with_the_valid_range(index: int) -> None:
    env = make()
    env.reset(options={"index": 0})
    key = env.memory_key
    with pytest.raises(IndexError, match=str(env.num_items - 1)):
        env.reset(options={"index": index})
    assert env.memory_key == key, "a reset that failed leaves the episode as it is"
    env.step("")


def test_reset_options_are_checked() -> None:
    env = make()
    with pytest.raises(ConfigError, match="unknown reset option 'idx'"):
        env.reset(options={"idx": 1})
    with pytest.raises(ConfigError, match="index='1' must be an integer"):
        env.reset(options={"index": "1"})
    assert env.reset(options={"index": np.int64(2)})[1]["item"].endswith("/2")


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_doc": 10}, "unknown keyword argument 'num_doc'; did you mean 'num_docs'"),
        ({"num_docs": 0}, "num_docs=0 must be an integer of at least 1"),
        ({"num_docs": True}, "num_docs=True"),
        ({"dialect": "xml"}, "dialect='xml' must be one of 'crud'"),
        ({"preset": "relased"}, "preset='relased' must be one of"),
        ({"chunk_tokens": 50, "chunk_overlap": 50}, "chunk_overlap=50 contradicts chunk_tokens=50"),
        ({"storage": False, "operations": ["read"]}, "contradicts storage=False"),
        ({"operations": ["creat"]}, "'creat'; did you mean 'create'"),
        ({"operations": "create"}, "must be a list"),
        ({"dialect": "released", "addressing": "id"}, "addressing='id' contradicts dialect='released'"),
        ({"store": "numpy", "store_reads": "milvus"}, "store_reads='milvus' contradicts store='numpy'"),
        ({"store": "milvus", "keep_memory": True}, "keep_memory=True contradicts store='milvus'"),
        ({"store": "redis"}, "redis"),
        ({"source": "hub"}, "source='hub' contradicts AtomMem-Synthetic-v0"),
        ({"questions_per_episode": [3, 2]}, r"questions_per_episode=\[3, 2\]"),
        ({"tokenizer": ""}, "tokenizer='' must be a non-empty string"),
        ({"scratchpad": 1}, "scratchpad=1 must be True or False"),
        ({"reward": "package.nowhere:function"}, "package.nowhere"),
        ({"split": "trian"}, "trian"),
        ({"num_docs": 1}, "num_docs=1"),
        ({"num_docs": 10**400, "difficulty": 0.5}, r"num_docs=10{39} is too large"),
        ({"difficulty": 10**400}, r"difficulty=10{199} must be a number from 0 to 1"),
        ({"top_k": "x" * 10**6}, r"top_k='x{199} must be an integer"),
    ],
)
def test_bad_keywords_raise_at_make_and_are_named(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises((AtomMemError, ValueError), match=message):
        gym.make("AtomMem-Synthetic-v0", **{**SMALL, "store": "numpy", **keywords})


@pytest.mark.filterwarnings("ignore:.*rgb_array.*")
def test_an_unknown_render_mode_raises() -> None:
    with pytest.raises(ConfigError, match="render_mode='rgb_array' must be"):
        gym.make("AtomMem-Synthetic-v0", **SMALL, store="numpy", render_mode="rgb_array")


def test_a_missing_source_raises_and_says_what_helps(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnavailableError, match=r"nowhere\.jsonl"):
        gym.make("AtomMem-HotpotQA-v0", source=str(tmp_path / "nowhere.jsonl"), store="numpy")


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_M14_a_snapshot_at_any_step_leads_to_the_same_future(store: str) -> None:
    env, other = make(store=store, questions_per_episode=2), make(questions_per_episode=2)
    rng = np.random.default_rng(0)
    for seed in range(4):
        env.action_space.seed(seed)
        env.reset(seed=seed)
        for _ in range(int(rng.integers(6))):
            env.step(env.action_space.sample())
        state = pickle.loads(pickle.dumps(env.snapshot()))
        actions = [env.action_space.sample() for _ in range(6)]
        future = []
        for action in actions:
            future.append(env.step(action))
            if future[-1][2] or future[-1][3]:
                break
        for restored in (env, other):
            restored.restore(copy.deepcopy(state))
            assert repr([restored.step(action) for action in actions[: len(future)]]) == repr(future)
        assert repr(env.reset()) == repr(other.reset())
    env.close()


def test_M14_a_snapshot_goes_on_in_another_process(tmp_path: Path) -> None:
    env = make(store="milvus")
    env.action_space.seed(1)
    env.reset(seed=1)
    env.step("<create>bees</create><create>boats</create><scratchpad>s</scratchpad>")
    (tmp_path / "state.pickle").write_bytes(pickle.dumps(env.snapshot()))
    program = (
        "import pickle, sys, gymnasium as gym, atommem_gym\n"
        f"env = gym.make('AtomMem-Synthetic-v0', store='numpy', **{SMALL!r}).unwrapped\n"
        "env.restore(pickle.load(open(sys.argv[1], 'rb')))\n"
        "print(repr([env.step('<read>bees</read>'), env.step('<delete id=\"1\"/><read>boats</read>'), env.reset()]))\n"
    )
    there = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "state.pickle")], capture_output=True, text=True, check=True
    )
    here = [env.step("<read>bees</read>"), env.step('<delete id="1"/><read>boats</read>'), env.reset()]
    assert there.stdout.strip() == repr(here)
    env.close()


def test_M14_branches_of_one_snapshot_do_not_disturb_each_other() -> None:
    one, two = make(store="milvus"), make(store="milvus")
    one.reset(seed=1)
    one.step("<create>bees</create>")
    state = one.snapshot()
    two.restore(state)
    one.step('<delete id="1"/><create>boats</create>')
    observation = two.step("<read>bees</read>")[0]
    assert [m["text"] for m in observation["memories"]] == ["bees"]
    one.restore(state)
    assert [m["text"] for m in one.step("<read>bees</read>")[0]["memories"]] == ["bees"]
    one.close()
    two.close()


def test_a_snapshot_of_another_configuration_is_refused() -> None:
    env = make()
    env.reset(seed=1)
    with pytest.raises(SnapshotError, match="top_k=6"):
        make(top_k=3).restore(env.snapshot())
    with pytest.raises(SnapshotError, match="version"):
        env.restore({})


def test_M13_only_the_memory_option_goes_on_with_an_old_memory(tmp_path: Path) -> None:
    store = f"milvus://{tmp_path}/memory.db"
    env = make(store=store)
    env.reset(seed=1)
    env.step('<create>bees</create><create>boats</create><delete id="2"/><scratchpad>notes</scratchpad>')
    key = env.memory_key
    env.close()
    env = make(store=store)
    observation, info = env.reset(seed=2)
    assert info["entries"] == 0
    observation, info = env.reset(seed=2, options={"memory": key})
    assert info["entries"] == 1
    assert observation["scratchpad"] == "notes"
    assert env.memory_key == key
    observation = env.step("<create>birds</create><read>bees</read>")[0]
    assert observation["feedback"] == "created 3"
    assert [m["id"] for m in observation["memories"]] == [1, 3]
    with pytest.raises(StoreError, match="there is no memory 'nobody'"):
        env.reset(options={"memory": "nobody"})
    env.close()


def test_M13_a_temporary_store_forgets_at_the_end_of_the_episode() -> None:
    env = make(store="milvus", chunk_tokens=100_000)
    env.reset(seed=1)
    env.step("<create>bees</create>")
    store = env._backend.store
    assert store is not None
    assert env.memory_key in store.episodes()
    env.step("<answer>x</answer>")
    assert env.memory_key not in store.episodes()
    env.reset(seed=1)
    env.step("<create>bees</create>")
    key = env.memory_key
    env.reset(seed=2)
    assert key not in store.episodes()
    with pytest.raises(StoreError, match="deleted when they end"):
        env.reset(options={"memory": key})
    env.close()


def test_a_kept_database_of_another_dimension_is_refused(tmp_path: Path) -> None:
    from atommem_gym.stores.loading import open_store

    store = open_store(f"milvus://{tmp_path}/memory.db", 8, embedder="tiny")
    store.close()
    with pytest.raises(StoreError, match="8"):
        make(store=f"milvus://{tmp_path}/memory.db")


def test_close_twice_and_use_without_close() -> None:
    env = make(store="milvus")
    env.reset(seed=0)
    env.close()
    env.close()
    make(store="milvus").reset(seed=0)


def test_rendering_shows_the_step_and_nothing_can_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    env = make(render_mode="ansi")
    env.reset(seed=0)
    assert "chunk 1/" in str(env.render())
    env.step("<create>bees \x1b[2J[bold]</create><delete id='5'/>")
    frame = str(env.render())
    for part in ("created 1", "unknown_id", "bees", "[bold]"):
        assert part in frame
    assert "\x1b[2J" not in frame
    human = make(render_mode="human")
    human.reset(seed=0)
    assert "chunk 1/" in capsys.readouterr().out


def test_chat_and_prompt_observations_are_in_their_spaces() -> None:
    for wrapper in (PromptObservation, ChatObservation):
        env = wrapper(gym.make("AtomMem-Synthetic-v0", **SMALL, store="numpy"))
        observation, _ = env.reset(seed=0)
        assert observation in env.observation_space
        env.close()


def test_a_fresh_process_finds_the_rooms_of_the_package() -> None:
    """``import atommem_gym`` alone is enough for the names that the README uses, and loads no room beforehand."""
    code = (
        "import sys, atommem_gym\n"
        "assert 'atommem_gym.envs' not in sys.modules and 'pyarrow' not in sys.modules\n"
        "assert atommem_gym.envs.HotpotQAEnv.task == 'HotpotQA'\n"
        "assert callable(atommem_gym.testing.check_memory_env)\n"
        "assert {'envs', 'testing'} <= set(dir(atommem_gym)) and 'AtomMemPool' in dir(atommem_gym.envs)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
