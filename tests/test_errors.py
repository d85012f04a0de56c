"""What many errors say alike: the name that was meant, and what an integer is."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

import atommem_gym  # noqa: F401
from atommem_gym.agents import AGENTS
from atommem_gym.agents.players.language_model import Sampling
from atommem_gym.config import EnvConfig
from atommem_gym.envs import CurriculumSchedule
from atommem_gym.errors import ConfigError, check_integer, is_integer, suggestion
from atommem_gym.evaluation.plan import Plan
from atommem_gym.registration import resolve_env_id
from atommem_gym.worlds.drift.options import DriftOptions
from atommem_gym.worlds.needle.options import NeedleOptions

ROOT = Path(__file__).resolve().parents[1]
NO_INTEGERS = (True, False, np.True_, 1.0, np.float64(1), "1", None, [1], float("nan"))


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_what_is_no_integer(value: object) -> None:
    assert not is_integer(value)
    with pytest.raises(ConfigError, match=re.escape(f"n={value!r} must be an integer of at least 0")):
        check_integer("n", value, 0)


@pytest.mark.parametrize("value", [0, -7, 10**30, np.int64(5), np.uint8(0)])
def test_what_is_an_integer_comes_back_as_pythons(value: Any) -> None:
    assert type(check_integer("n", value, numpy=True)) is int
    assert check_integer("n", value, numpy=True) == value


@pytest.mark.parametrize("value", NO_INTEGERS)
def test_numpy_has_other_things_than_integers(value: object) -> None:
    with pytest.raises(ConfigError, match="must be an integer"):
        check_integer("n", value, numpy=True)


def test_an_integer_out_of_range_names_the_range() -> None:
    assert [check_integer("n", n, 1, 3) for n in (1, 2, 3)] == [1, 2, 3]
    for n in (0, 4):
        with pytest.raises(ConfigError, match=f"^n={n} must be an integer from 1 to 3$"):
            check_integer("n", n, 1, 3)
    with pytest.raises(ConfigError, match=r"^n=0 must be an integer of at least 1, or None$"):
        check_integer("n", 0, 1, or_else=", or None")


@pytest.mark.parametrize(
    "make",
    [
        lambda one: DriftOptions(changes_per_fact=one),
        lambda one: DriftOptions(distance=one),
        lambda one: NeedleOptions(length=[one]),
        lambda one: NeedleOptions(kind="multi_value", needles=one),
        lambda one: Sampling(top_k=one),
        lambda one: Sampling(seed=one),
        lambda one: CurriculumSchedule(window=one),
        lambda one: Plan.from_values({"envs": "Synthetic", "agents": "tidy", "episodes": one}),
    ],
)
def test_what_is_kept_as_json_must_be_pythons_own(make: Callable[[Any], object]) -> None:
    make(3)
    for one in (np.int64(3), True, 3.0, "3"):
        with pytest.raises(ConfigError, match=re.escape(repr(one)) + " must be an integer"):
            make(one)


def test_a_generator_may_choose_the_item() -> None:
    rng = np.random.default_rng(0)
    assert type(EnvConfig.from_keywords({"num_docs": rng.integers(5, 9)}).num_docs) is int
    with gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy") as env:
        env.reset(options={"index": rng.integers(5), "shuffle_seed": rng.integers(5)})


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Hotpot", "unknown environment 'Hotpot'; did you mean 'AtomMem-HotpotQA-v0'?"),
        ("atommem-drift", "did you mean 'AtomMem-Drift-v0'?"),
        ("§", "known are AtomMem-HotpotQA-v0, AtomMem-2WikiMultiHopQA-v0"),
    ],
)
def test_an_unknown_environment_is_proposed_by_its_id(name: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        resolve_env_id(name)


def test_an_unknown_keyword_lists_the_tasks_own_too() -> None:
    with pytest.raises(ConfigError, match=r"known are addressing, .*, top_k; and of this task .*haystack"):
        gym.make("AtomMem-Needle-v0", **{"§": 1})  # type: ignore[arg-type]


def test_a_name_of_several_spellings_is_listed_once() -> None:
    spellings = {"a": "First", "b": "First", "c": "Second"}
    assert suggestion("zzz", spellings, meant=spellings) == "known are First, Second"


def test_names_may_be_the_keys_of_anything() -> None:
    assert suggestion("tidi", AGENTS) == "did you mean 'tidy'?"
    assert suggestion("zzz", {"a": object, "b": 2}) == "known are a, b"


def test_these_rules_have_one_definition() -> None:
    sources = {
        path: path.read_text(encoding="utf-8")
        for top in ("atommem_gym", "envs", "agents")
        for path in (ROOT / top).rglob("*.py")
    }
    for needle, places in (
        ("get_close_matches", {"errors.py"}),
        ("is held by another process;", {"engine.py"}),
        ("is not an AtomMem environment; make", {"base.py"}),
        ("must be an integer", {"errors.py", "operations.py", "paragraphs.py", "memory.py", "wrong.py"}),
        ("must be one of", {"errors.py"}),
        ("must be a whole number", set()),
        ("fcntl.flock", {"verify.py"}),
        ("def between", {"layout.py", "dice.py"}),
    ):
        assert {path.name for path, text in sources.items() if needle in text} == places, needle
