"""Wrappers have one name in both rooms, say which room is meant, and former names still work."""

from __future__ import annotations

import importlib
from contextlib import closing
from typing import Any

import gymnasium as gym
import pytest

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym import envs
from atommem_gym.envs import wrappers
from atommem_gym.envs.macro import EmbeddingObservation, MacroActions
from atommem_gym.envs.wrappers import vector
from atommem_gym.errors import ConfigError

ENV_ID = "AtomMem-Synthetic-v0"
SMALL: dict[str, Any] = {"num_docs": 20, "store": "numpy"}
ARGUMENTS: dict[str, dict[str, Any]] = {
    "ChatObservation": {},
    "Curriculum": {"start": 0.2},
    "EvidenceReward": {},
    "FormatPenalty": {},
    "HindsightCredit": {},
    "MemoryCost": {"per_entry": 0.1},
    "PromptObservation": {},
    "RecordTraces": {"path": "traces.jsonl"},
    "ShapedReward": {"shaping": {"MemoryCost": {}}},
}


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_finding_6_3_every_wrapper_has_one_name_in_both_rooms() -> None:
    assert {name for name in dir(vector) if name[0].isupper()} == set(ARGUMENTS)
    assert {name for name in dir(wrappers) if name[0].isupper()} == {*ARGUMENTS, "CurriculumSchedule"}
    for name in ARGUMENTS:
        assert getattr(envs, name) is getattr(wrappers, name) is not getattr(vector, name)
        modules = [getattr(room, name).__module__.rpartition(".")[2] for room in (wrappers, vector)]
        assert modules[0] == modules[1]


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("below", [[], ["MemoryCost"]], ids=["bare", "wrapped"])
def test_finding_6_3_a_plain_wrapper_on_a_vector_environment_names_its_twin(name: str, below: list[str]) -> None:
    with closing(gym.make_vec(ENV_ID, num_envs=2, **SMALL)) as made:
        inner: Any = made
        for one in below:
            inner = getattr(vector, one)(inner)
        with pytest.raises(ConfigError, match=rf"take atommem_gym\.envs\.wrappers\.vector\.{name}$"):
            getattr(wrappers, name)(inner, **ARGUMENTS[name])
        # It is still open, and the advice works.
        twin = getattr(vector, name)(inner, **ARGUMENTS[name])
        twin.reset(seed=0)
        twin.step(["", ""])


@pytest.mark.parametrize("name", ARGUMENTS)
def test_finding_6_3_a_vector_wrapper_on_a_plain_environment_names_its_twin(name: str) -> None:
    with closing(gym.make(ENV_ID, **SMALL)) as env:
        with pytest.raises(ConfigError, match=rf"take atommem_gym\.envs\.wrappers\.{name}$"):
            getattr(vector, name)(env, **ARGUMENTS[name])
        with pytest.raises(ConfigError, match=rf"take atommem_gym\.envs\.wrappers\.{name}$"):
            getattr(vector, name)(wrappers.MemoryCost(env), **ARGUMENTS[name])
        twin = getattr(wrappers, name)(env, **ARGUMENTS[name])
        twin.reset(seed=0)
        twin.step("")
        twin.close()


@pytest.mark.parametrize("name", ARGUMENTS)
def test_finding_6_3_gymnasiums_own_vector_forms_take_the_plain_wrappers_inside(name: str) -> None:
    with closing(gym.make_vec(ENV_ID, num_envs=2, vectorization_mode="sync", **SMALL)) as envs_:
        with pytest.raises(ConfigError, match=rf"vectorization_mode='sync', wrappers=\[{name}\]"):
            getattr(wrappers, name)(envs_, **ARGUMENTS[name])
        with pytest.raises(ConfigError, match=rf"put atommem_gym\.envs\.wrappers\.{name} into each environment"):
            getattr(vector, name)(envs_, **ARGUMENTS[name])


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("other", [None, "text", ENV_ID])
def test_finding_6_3_what_is_no_environment_is_named(name: str, other: object) -> None:
    with pytest.raises(ConfigError, match=f"{other} is not an AtomMem environment"):
        getattr(wrappers, name)(other, **ARGUMENTS[name])
    with pytest.raises(ConfigError, match=f"{other} is not an AtomMem vector environment"):
        getattr(vector, name)(other, **ARGUMENTS[name])


def test_finding_6_3_a_class_derived_from_a_wrapper_names_the_twin_of_its_base() -> None:
    class Dear(wrappers.MemoryCost):
        pass

    with (
        closing(gym.make_vec(ENV_ID, num_envs=2, **SMALL)) as made,
        pytest.raises(
            ConfigError, match=r"^Dear wraps single .* take atommem_gym\.envs\.wrappers\.vector\.MemoryCost$"
        ),
    ):
        Dear(made)


@pytest.mark.parametrize("wrapper", [MacroActions, EmbeddingObservation])
def test_finding_6_3_a_wrapper_without_a_vector_form_goes_inside(wrapper: Any) -> None:
    with (
        closing(gym.make_vec(ENV_ID, num_envs=2, **SMALL)) as made,
        pytest.raises(ConfigError, match=rf"vectorization_mode='sync', wrappers=\[{wrapper.__name__}\]"),
    ):
        wrapper(made)


@pytest.mark.parametrize(
    ("former", "now"),
    [
        ("VectorCurriculum", "wrappers.vector.Curriculum"),
        ("RecordVectorTraces", "wrappers.vector.RecordTraces"),
        ("vector_wrappers", "wrappers.vector"),
    ],
)
def test_former_names_work_and_name_the_new_ones(former: str, now: str) -> None:
    room, _, last = f"atommem_gym.envs.{now}".rpartition(".")
    with pytest.warns(
        DeprecationWarning, match=rf"atommem_gym\.envs\.{former} is now called {room}\.{last}$"
    ) as caught:
        found = getattr(envs, former)
    assert found is getattr(importlib.import_module(room), last)
    assert caught[0].filename == __file__
    assert former not in dir(envs)
    with pytest.warns(DeprecationWarning, match="is now called") as caught:
        exec(f"from atommem_gym.envs import {former}", {})
    assert caught[0].filename == "<string>"


def test_unknown_names_are_unknown() -> None:
    with pytest.raises(AttributeError, match="VectorRecord"):
        envs.VectorRecord  # noqa: B018
