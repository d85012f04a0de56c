"""Wrappers have one name in both rooms, say which room is meant, and former names still work."""

from __future__ import annotations

import asyncio
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


READERS = ("ChatObservation", "PromptObservation")


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("below", READERS)
def test_finding_6_3_a_wrapper_that_reads_observations_refuses_changed_ones(name: str, below: str) -> None:
    said = rf"^{name} reads the observations of .* put {name} on the inner side of the wrapper that changes them"
    with closing(gym.make(ENV_ID, **SMALL)) as env, pytest.raises(ConfigError, match=said):
        getattr(wrappers, name)(getattr(wrappers, below)(env))
    with closing(gym.make_vec(ENV_ID, num_envs=2, **SMALL)) as made, pytest.raises(ConfigError, match=said):
        getattr(vector, name)(getattr(vector, below)(made))


def test_finding_6_3_wrappers_of_gymnasium_that_change_what_is_read_or_sent_are_named() -> None:
    with closing(gym.make(ENV_ID, **SMALL)) as env:
        some = gym.wrappers.FilterObservation(env, ["question", "chunk"])
        macro = MacroActions(env)
        coded = gym.wrappers.TransformAction(env, lambda action: "", gym.spaces.Discrete(2))
        for refused, around in (
            ("PromptObservation", lambda: wrappers.PromptObservation(some)),
            ("MacroActions", lambda: MacroActions(some)),
            ("MacroActions", lambda: MacroActions(wrappers.PromptObservation(env))),
            ("MacroActions", lambda: MacroActions(macro)),
            ("MacroActions", lambda: MacroActions(coded)),
            ("EmbeddingObservation", lambda: EmbeddingObservation(wrappers.ChatObservation(macro))),
            ("EmbeddingObservation", lambda: EmbeddingObservation(EmbeddingObservation(macro))),
            ("PromptObservation", lambda: wrappers.PromptObservation(EmbeddingObservation(macro))),
        ):
            with pytest.raises(ConfigError, match=rf"^{refused} .*put {refused} on the inner side"):
                around()
        # Fields that were added disturb nobody.
        limited = gym.wrappers.TimeLimit(env, 100)
        prompt, _ = wrappers.PromptObservation(gym.wrappers.TimeAwareObservation(limited, flatten=False)).reset(seed=0)
        assert "Document 1:" in prompt


@pytest.mark.parametrize("name", ARGUMENTS)
def test_finding_6_3_wrappers_of_gymnasium_that_hide_episodes_go_outside(name: str) -> None:
    with closing(gym.make(ENV_ID, **SMALL)) as env:
        with pytest.raises(ConfigError, match=rf"Autoreset belongs outside .* put Autoreset around {name}$"):
            getattr(wrappers, name)(gym.wrappers.Autoreset(env), **ARGUMENTS[name])
        gym.wrappers.Autoreset(getattr(wrappers, name)(env, **ARGUMENTS[name])).reset(seed=0)
    with closing(gym.make_vec(ENV_ID, num_envs=2, **SMALL)) as made:
        listed: Any = gym.wrappers.vector.DictInfoToList(made)
        with pytest.raises(ConfigError, match=rf"DictInfoToList belongs outside .* put DictInfoToList around {name}$"):
            getattr(vector, name)(listed, **ARGUMENTS[name])


def test_finding_6_3_a_pool_and_a_team_say_what_they_take_in_place_of_wrappers() -> None:
    pool = envs.AtomMemPool(ENV_ID, **SMALL)
    for name, room in (("MemoryCost", wrappers), ("MemoryCost", vector)):
        for inner in (pool, pool.env()):
            with pytest.raises(ConfigError, match=rf"^{name} wraps .* a pool takes shaping= and credit="):
                getattr(room, name)(inner, per_entry=0.1)
    asyncio.run(pool.aclose())


def test_finding_6_3_a_team_says_that_it_takes_other_wrappers() -> None:
    pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
    for form in (envs.team.parallel_env, envs.team.env, envs.team.raw_env):
        with closing(form(ENV_ID, **SMALL)) as team:
            for room in (wrappers, vector):
                with pytest.raises(ConfigError, match="a team takes the wrappers of PettingZoo alone"):
                    room.PromptObservation(team)


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
