"""A world is one folder: its task, its items, its options and its difficulty; registering costs nothing."""

from __future__ import annotations

import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

from atommem_gym import worlds
from atommem_gym.commands.envs import Envs
from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError
from atommem_gym.records.layout import GeneratorDraws, draw_questions, stable_rng
from atommem_gym.registration import TASKS, load_items
from atommem_gym.task import load_attribute

FOLDERS = sorted(one.name for one in pkgutil.iter_modules(worlds.__path__) if one.ispkg)


def test_every_world_is_in_the_family() -> None:
    assert {"conversation", "drift", "forget", "needle", "synthetic"} <= set(FOLDERS)
    tasks = {importlib.import_module(f"atommem_gym.worlds.{folder}").TASK.name for folder in FOLDERS}
    assert tasks == {name for name, task in TASKS.items() if task.dataset is None and task.entry_point.count(".envs:")}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_world_names_nothing_but_what_its_own_folder_holds(folder: str) -> None:
    task = importlib.import_module(f"atommem_gym.worlds.{folder}").TASK
    assert TASKS[task.name] is task
    for named in (task.items, task.options, task.difficulty):
        if named is not None:
            assert named.startswith(f"atommem_gym.worlds.{folder}."), named
            assert load_attribute(named, "attribute").__module__.startswith(f"atommem_gym.worlds.{folder}.")


def test_importing_the_package_loads_no_generator() -> None:
    code = "import sys, atommem_gym; print([n for n in sys.modules if n.startswith('atommem_gym.worlds.')])"
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert sorted(eval(said)) == [f"atommem_gym.worlds.{folder}" for folder in FOLDERS]


@pytest.mark.parametrize("name", ["Synthetic", "Needle", "Drift", "Forget", "Conversation"])
def test_a_world_takes_no_records(name: str) -> None:
    with pytest.raises(ConfigError, match=f"source='hub' contradicts AtomMem-{name}-v0"):
        load_items(name, TASKS[name].config({"source": "hub"}))


@pytest.mark.parametrize("name", ["Synthetic", "Needle", "Drift", "Forget", "Conversation"])
def test_envs_names_the_splits_that_a_world_takes_and_no_other_is_taken(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert Envs().run() == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(f"AtomMem-{name}-v0 ")]
    told = re.search(r"generated: (\w+(?:, \w+)*)", line)
    assert told is not None, line
    assert told[1] == "train, validation, test"
    firsts = {load_items(name, TASKS[name].config({"split": split})).item(0).id for split in told[1].split(", ")}
    assert len(firsts) == 3
    with pytest.raises(ConfigError, match="split='dev' must be one of"):
        load_items(name, TASKS[name].config({"split": "dev"}))


@pytest.mark.parametrize("given", [1, (2, 5), "released"])
def test_E4_the_number_of_questions_is_drawn_from_what_was_given(given: int | tuple[int, int] | str) -> None:
    questions = EnvConfig.from_keywords({"questions_per_episode": given}).questions_per_episode
    drawn = [draw_questions(questions, GeneratorDraws(stable_rng("number", i))) for i in range(400)]
    wanted = {1: {1}, (2, 5): {2, 3, 4, 5}, "released": set(range(1, 11))}[given]
    assert set(drawn) == wanted
    if given == "released":
        assert 150 < drawn.count(1) < 250
