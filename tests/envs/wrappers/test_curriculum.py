"""Difficulty: one number for every task, one episode at another one, and a curriculum that moves it with success."""

from __future__ import annotations

import json
import pickle
import re
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv, Curriculum, CurriculumSchedule
from atommem_gym.envs.wrappers import vector
from atommem_gym.errors import ConfigError, SnapshotError
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.registration import TASKS, Task, register_task, task_of
from atommem_gym.traces.recorder import TraceRecorder
from atommem_gym.traces.replay import Replayer

SMALL = {"source": "synthetic", "store": "numpy", "num_docs": 60}
NEEDLE = {"store": "numpy", "haystack": "noise"}
FAMILY = tuple(
    task for task in TASKS.values() if task.entry_point.startswith("atommem_gym.envs:") and not task.contexts
)


def answer(env: Any, right: bool) -> tuple[float, dict[str, Any]]:
    """Play an episode to its end; the reward of it and the last info."""
    total, over, info = 0.0, False, {}
    while not over:
        text = env.unwrapped.item.questions[env.unwrapped.episode.open_question].answer if right else "no idea"
        _, reward, terminated, truncated, info = env.step(f"<answer>{text}</answer>")
        total, over = total + reward, terminated or truncated
    return total, info


@pytest.mark.parametrize("task", FAMILY, ids=lambda task: task.name)
def test_difficulty_1_is_the_default_length_and_0_is_shorter(task: Task) -> None:
    lengths = []
    for difficulty in (0.0, 0.3, 1.0):
        env = gym.make(task.env_id, **SMALL, difficulty=difficulty)
        observation, _ = env.reset(options={"index": 0})
        assert observation in env.observation_space
        lengths.append(len(env.unwrapped.item.documents))
        env.close()
    assert lengths == sorted(lengths)
    assert lengths[0] < lengths[-1]
    assert lengths[-1] == 60 or task.name == "Needle"


def test_what_is_given_wins_over_the_difficulty() -> None:
    env = gym.make("AtomMem-Drift-v0", store="numpy", difficulty=0.0, changes_per_fact=3, turnover=1.0)
    config = env.unwrapped.config
    assert (config.options.changes_per_fact, config.options.turnover, config.options.sources) == (3, 1.0, 1)
    assert config.as_keywords()["changes_per_fact"] == 3
    env = gym.make("AtomMem-Needle-v0", **NEEDLE, difficulty=0.9, length=2_000)
    assert env.unwrapped.config.options.length == 2_000


def test_only_items_differ_in_an_episode_at_another_difficulty() -> None:
    env = gym.make("AtomMem-Drift-v0", store="numpy").unwrapped
    env.reset(options={"index": 3, "difficulty": 0.2})
    easy = env.episode.config
    assert (easy.difficulty, easy.max_entries, easy.chunk_tokens) == (0.2, 12, 500)
    same = gym.make("AtomMem-Drift-v0", store="numpy", difficulty=0.2).unwrapped
    same.reset(options={"index": 3})
    assert same.item == env.item
    env.reset(options={"index": 3})
    assert env.item != same.item
    assert env.episode.config is env.config


def test_M14_a_snapshot_remembers_the_difficulty_of_its_episode() -> None:
    env = gym.make("AtomMem-Drift-v0", store="numpy").unwrapped
    observation, _ = env.reset(options={"index": 3, "difficulty": 0.2})
    snapshot = pickle.loads(pickle.dumps(env.snapshot()))
    other = gym.make("AtomMem-Drift-v0", store="numpy").unwrapped
    assert repr(other.restore(snapshot)) == repr(observation)
    assert other.item == env.item
    with pytest.raises(SnapshotError, match="changes_per_fact=4"):
        gym.make("AtomMem-Drift-v0", store="numpy", changes_per_fact=3).unwrapped.restore(snapshot)


def test_M15_a_vector_gives_each_member_its_own_difficulty() -> None:
    envs = gym.make_vec("AtomMem-Drift-v0", num_envs=3, store="numpy")
    observations, _ = envs.reset(options={"index": 5, "difficulty": [0.0, 0.5, 1.0]})
    for i, difficulty in enumerate((0.0, 0.5, 1.0)):
        alone = gym.make("AtomMem-Drift-v0", store="numpy")
        observation, _ = alone.reset(options={"index": 5, "difficulty": difficulty})
        assert observations["chunk"][i] == observation["chunk"]


def test_a_trace_remembers_the_difficulty_of_its_episode_and_is_replayed_at_it() -> None:
    keywords = {"store": "numpy", "changes_per_fact": 3}
    env = gym.make("AtomMem-Drift-v0", **keywords)
    recorder = TraceRecorder("AtomMem-Drift-v0", keywords, "nobody")
    observation, info = env.reset(options={"index": 3, "difficulty": 0.2})
    recorder.reset(env.unwrapped.episode, observation, info)
    action = "<create>a fact</create><answer>unknown</answer>"
    while not recorder.over:
        recorder.step(action, *env.step(action))
    trace = recorder.finish()
    assert trace.env.keywords == {**keywords, "difficulty": 0.2}
    with Replayer() as replayer:
        assert replayer.check(trace) is None


@pytest.mark.parametrize("difficulty", ["hard", -0.1, 1.1, True])
def test_a_wrong_difficulty_raises(difficulty: object) -> None:
    env = gym.make("AtomMem-Needle-v0", **NEEDLE)
    with pytest.raises(ConfigError, match="must be a number from 0 to 1"):
        env.reset(options={"difficulty": difficulty})


def test_items_of_ones_own_have_no_difficulty() -> None:
    env = AtomMemEnv(items=gym.make("AtomMem-Needle-v0", **NEEDLE).unwrapped.items, store="numpy")
    with pytest.raises(ConfigError, match="items of one's own"):
        env.reset(options={"difficulty": 0.5})
    with pytest.raises(ConfigError, match="this environment has none"):
        AtomMemEnv(items=env.items, store="numpy", difficulty=0.5)


def test_a_curriculum_gets_harder_with_success_and_easier_without() -> None:
    env = Curriculum(gym.make("AtomMem-Needle-v0", **NEEDLE), window=2, step=0.2, start=0.4, target=(0.3, 0.7))
    assert env.difficulty == 0.4
    for right, level in ((True, 0.4), (True, 0.6), (False, 0.6), (True, 0.6), (False, 0.6), (False, 0.4), (False, 0.4)):
        _, info = env.reset(seed=1)
        assert info["curriculum"]["difficulty"] == env.difficulty == env.unwrapped.episode.config.difficulty
        _, info = answer(env, right)
        assert info["curriculum"]["level"] == level, info["curriculum"]
    for _ in range(8):
        env.reset()
        answer(env, False)
    assert env.difficulty == 0.0


def test_an_episode_at_a_difficulty_of_ones_own_does_not_count() -> None:
    env = Curriculum(gym.make("AtomMem-Needle-v0", **NEEDLE), window=1)
    _, info = env.reset(options={"difficulty": 0.3})
    assert info["curriculum"] == {"difficulty": 0.3, "review": True, "level": 0.0, "mean": None, "episodes": 0}
    answer(env, True)
    assert env.difficulty == 0.0


def test_reviews_are_seeded_and_never_harder_than_the_level() -> None:
    def drawn(seed: int) -> list[float]:
        env = Curriculum(gym.make("AtomMem-Needle-v0", **NEEDLE), review=0.5, start=0.2, window=100)
        env.reset(seed=seed)
        return [env.reset()[1]["curriculum"]["difficulty"] for _ in range(12)]

    assert drawn(1) == drawn(1) != drawn(2)
    assert max(drawn(1)) == 0.2
    assert 2 < sum(one < 0.2 for one in drawn(1)) < 11


def test_a_curriculum_goes_on_from_its_state() -> None:
    def fresh() -> Curriculum:
        return Curriculum(gym.make("AtomMem-Needle-v0", **NEEDLE), window=3, step=0.1, review=0.3)

    env = fresh()
    for i in range(5):
        env.reset(seed=i)
        answer(env, True)
    state = json.loads(json.dumps(env.state_dict()))
    other = fresh()
    other.load_state_dict(state)
    for _ in range(4):
        infos = []
        for one in (env, other):
            _, info = one.reset(seed=3)
            answer(one, True)
            infos.append(info["curriculum"])
        assert infos[0] == infos[1]
    with pytest.raises(ConfigError, match="the state is of schedule"):
        Curriculum(gym.make("AtomMem-Needle-v0", **NEEDLE), window=4).load_state_dict(state)


@pytest.mark.parametrize("mode", list(AutoresetMode)[:2])
def test_a_vector_curriculum_moves_for_all_autoresets_included(mode: AutoresetMode) -> None:
    envs = gym.make_vec("AtomMem-Needle-v0", num_envs=3, **NEEDLE, autoreset_mode=mode, early_answer=True)
    envs = vector.Curriculum(envs, window=3, step=0.25)
    _, infos = envs.reset(seed=0)
    assert [told["difficulty"] for told in infos["curriculum"]] == [0.0] * 3
    seen = []
    for _ in range(8):
        texts = [episode.item.questions[0].answer for episode in envs.unwrapped.episodes]
        *_, infos = envs.step([f"<answer>{text}</answer>" for text in texts])
        seen.append([episode.config.difficulty for episode in envs.unwrapped.episodes])
    assert envs.difficulty == 1.0
    assert seen[-1] == [1.0] * 3
    assert np.all(infos["_curriculum"])
    again = vector.Curriculum(gym.make_vec("AtomMem-Needle-v0", num_envs=3, **NEEDLE), window=3, step=0.25)
    again.load_state_dict(json.loads(json.dumps(envs.state_dict())))
    assert again.difficulty == 1.0
    envs.close()


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"windw": 3}, "unknown curriculum setting 'windw'"),
        ({"window": 0}, "window=0"),
        ({"start": 0.9, "bounds": (0.0, 0.5)}, "start=0.9 must lie within"),
        ({"target": (0.7, 0.4)}, "the smaller number first"),
        ({"step": 0.0}, "step=0.0 must be above 0"),
        ({"bounds": 0.5}, "bounds=0.5 must be two numbers"),
    ],
)
def test_a_wrong_schedule_raises(schedule: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Curriculum(gym.make("AtomMem-Needle-v0", **NEEDLE), **schedule)
    assert CurriculumSchedule().bounds == (0.0, 1.0)


class OneQuestion:
    """A task of somebody else's."""

    name = "mine"
    num_items = 3

    def __init__(self, colour: str) -> None:
        self.colour = colour

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        document = Document("Door", f"The door is {self.colour}.")
        evidence = (Evidence("Door", document.text, self.colour),)
        record = Record(f"mine/{index}", "What colour is the door?", self.colour, (document,), (0,), evidence)
        return Item(f"mine/{index}", index, shuffle_seed, (record,), (document,))


def test_a_task_of_ones_own_joins_the_family() -> None:
    from dataclasses import dataclass

    @dataclass(frozen=True)
    class Options:
        colour: str = "red"

        def __post_init__(self) -> None:
            if not self.colour:
                raise ConfigError("colour='' must name one")

    task = Task(
        "TestDoor",
        lambda config: OneQuestion(config.options.colour),
        options=Options,
        defaults={"chunk_tokens": 50},
        difficulty=lambda difficulty, config: {"colour": "grey" if difficulty > 0.5 else "white"},
    )
    try:
        assert register_task(task) == register_task(task) == "AtomMem-TestDoor-v0"
        assert task_of("AtomMem-TestDoor-v0") is task
        env = gym.make("AtomMem-TestDoor-v0", store="numpy", colour="blue")
        observation, _ = env.reset(seed=0)
        assert "The door is blue." in observation["chunk"]
        assert env.unwrapped.config.chunk_tokens == 50
        hard = gym.make_vec("AtomMem-TestDoor-v0", num_envs=2, store="numpy", difficulty=1.0)
        assert hard.reset()[0]["chunk"] == ("Document 1:\nDoor\nThe door is grey.",) * 2
        with pytest.raises(ConfigError, match="did you mean 'colour'"):
            gym.make("AtomMem-TestDoor-v0", store="numpy", color="blue")
        with pytest.raises(ConfigError, match="must name one"):
            gym.make("AtomMem-TestDoor-v0", store="numpy", colour="")
    finally:
        TASKS.pop("TestDoor", None)
        gym.registry.pop("AtomMem-TestDoor-v0", None)


def test_a_taken_or_unfit_name_raises() -> None:
    with pytest.raises(ConfigError, match="is taken by AtomMem-Drift-v0"):
        register_task(Task("Drift", OneQuestion))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="must be letters"):
        register_task(Task("My task", OneQuestion))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="cannot be loaded"):
        Task("Gone", "no.such.module:items").load_items(TASKS["Synthetic"].config({}))


@pytest.mark.parametrize("page", ["curriculum", "drift", "needle"])
def test_the_python_of_the_pages_runs(page: str, capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / f"{page}.md").read_text(encoding="utf-8")
    found = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert found
    for block in found:
        exec(compile(block, page, "exec"), {})
