"""What Gymnasium puts around an environment, and what it cannot do with texts: it works, or says what to type."""

from __future__ import annotations

import gc
import warnings
import weakref
from contextlib import closing
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AsyncVectorEnv

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import ChatObservation, MemoryCost, PromptObservation
from atommem_gym.errors import ConfigError

ENV_ID = "AtomMem-Synthetic-v0"
SMALL: dict[str, Any] = {"num_docs": 20, "store": "numpy"}


def make(**keywords: Any) -> gym.Env[Any, Any]:
    return gym.make(ENV_ID, **{**SMALL, **keywords})


@pytest.mark.parametrize(
    "wrap", [lambda env: env, PromptObservation, ChatObservation], ids=["bare", "prompts", "chats"]
)
def test_finding_4_7_asynchronous_vectors_say_that_shared_memory_is_to_be_off(wrap: Any) -> None:
    with pytest.raises(ConfigError, match=r"AsyncVectorEnv\(\[…\], shared_memory=False\)"):
        AsyncVectorEnv([lambda: wrap(make())] * 2)
    with pytest.raises(ConfigError, match=r"vector_kwargs=\{'shared_memory': False\}"):
        gym.make_vec(ENV_ID, num_envs=2, vectorization_mode="async", wrappers=[wrap], **SMALL)


def test_finding_4_7_asynchronous_vectors_work_as_the_message_says() -> None:
    made = gym.make_vec(ENV_ID, num_envs=2, vectorization_mode="async", vector_kwargs={"shared_memory": False}, **SMALL)
    for envs in (made, AsyncVectorEnv([make, make], shared_memory=False)):
        with closing(envs):
            assert len(envs.reset(seed=0)[0]["chunk"]) == 2
            assert envs.step(["<create>a</create>", ""])[-1]["entries"].tolist() == [1, 0]


def test_finding_4_7_flattening_an_observation_raises_and_names_the_wrappers() -> None:
    with closing(make()) as env:
        with pytest.raises(ConfigError, match="MacroActions with EmbeddingObservation"):
            gym.wrappers.FlattenObservation(env)
        with pytest.raises(ConfigError, match="MacroActions with EmbeddingObservation"):
            gym.spaces.flatten_space(env.observation_space)
        with pytest.raises(ConfigError, match="cannot be flattened"):
            gym.spaces.flatten_space(env.action_space)


def test_finding_4_7_a_time_limit_of_gymnasiums_is_warned_of_once() -> None:
    with closing(make(max_episode_steps=2)) as env:
        with pytest.warns(UserWarning, match=r"max_episode_steps=2 is .* limit, max_steps=2$") as caught:
            env.reset(seed=0)
        assert [warning.filename for warning in caught] == [__file__]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            env.reset(seed=1)


def test_finding_4_7_a_time_limit_is_seen_through_other_wrappers() -> None:
    class Ours(gym.Wrapper[Any, Any, Any, Any]):
        def reset(self, **options: Any) -> Any:
            return super().reset(**options)

    env = Ours(MemoryCost(gym.wrappers.TimeLimit(PromptObservation(MemoryCost(make())), 3), per_entry=0.1))
    with closing(env), pytest.warns(UserWarning, match="max_steps=3") as caught:
        env.reset(seed=0)
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("keywords", [{}, {"max_episode_steps": -1}, {"max_episode_steps": 500}, {"max_steps": 2}])
def test_finding_4_7_limits_that_cut_nothing_are_not_warned_of(keywords: dict[str, Any]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with closing(make(**keywords)) as env:
            env.reset(seed=0)


def test_finding_4_7_looking_for_a_time_limit_keeps_no_environment_alive() -> None:
    env = make()
    env.reset(seed=0)
    gone = weakref.ref(env.unwrapped)
    del env
    gc.collect()
    assert gone() is None


def test_finding_4_7_the_batched_form_refuses_max_episode_steps() -> None:
    with pytest.raises(ConfigError, match=r"'max_episode_steps'.*max_steps"):
        gym.make_vec(ENV_ID, num_envs=2, max_episode_steps=2, **SMALL)
