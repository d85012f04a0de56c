"""The vector wrappers against Gymnasium's vector forms over plain environments with plain wrappers (SPEC M15)."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, VectorEnv

from atommem_gym.envs import AtomMemVectorEnv, wrappers
from atommem_gym.envs.wrappers import vector as vector_wrappers
from atommem_gym.errors import ConfigError

ENV_ID = "AtomMem-Synthetic-v0"
SMALL: dict[str, Any] = {"num_docs": 48, "chunk_tokens": 1500, "store": "numpy", "max_steps": 5}
MODES = list(AutoresetMode)
SPEC = {
    "MemoryCost": {"per_entry": 0.013, "per_operation": 0.1},
    "EvidenceReward": {"weight": 0.7},
    "FormatPenalty": {"penalty": 0.3},
}

Wrap = Callable[[Any, Any], Any]
"""Puts wrappers of one module (plain or vector) around an environment."""

WRAPS: dict[str, Wrap] = {
    "nothing": lambda kind, env: env,
    "prompts": lambda kind, env: kind.PromptObservation(env),
    "chats": lambda kind, env: kind.ChatObservation(env),
    "memory cost": lambda kind, env: kind.MemoryCost(env, per_entry=0.013, per_operation=0.1),
    "evidence": lambda kind, env: kind.EvidenceReward(env, weight=0.7),
    "format": lambda kind, env: kind.FormatPenalty(env, penalty=0.3, reasons=("unclosed", "bad_id")),
    "a spec": lambda kind, env: kind.ShapedReward(env, SPEC),
    "several": lambda kind, env: kind.PromptObservation(
        kind.FormatPenalty(kind.EvidenceReward(kind.MemoryCost(env, 0.013, 0.1), 0.7))
    ),
    "prompts below": lambda kind, env: kind.MemoryCost(kind.ChatObservation(env), per_operation=0.1),
}


def plain(value: Any) -> Any:
    """Nested containers as comparable Python values."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) or (isinstance(value, np.ndarray) and value.dtype == object):
        return [plain(item) for item in value]
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def action(number: int, dice: np.random.Generator) -> str:
    """Operations of every kind, some of them malformed, some of them that hold words of the documents."""
    operations = [
        f"<create>note {number}: the mayor of the town was born there</create>",
        "<read>Who was born in the town?</read>",
        "<update id='1'>the note is now longer</update>",
        f"<delete id='{int(dice.integers(1, 4))}'/>",
        f"<scratchpad>seen {number}</scratchpad>",
        "<create>never closed",
        "<delete id='x'/>",
        "<answer>yes</answer>",
    ]
    return " ".join(operations[int(i)] for i in dice.integers(len(operations), size=int(dice.integers(4))))


def play(envs: VectorEnv[Any, Any, Any], mode: AutoresetMode, steps: int = 13) -> list[Any]:
    """Reset and step; with autoreset disabled, finished episodes are reset by mask."""
    dice = np.random.default_rng(5)
    seen: list[Any] = [envs.reset(seed=11)]
    for number in range(steps):
        result = envs.step([action(number, dice) for _ in range(envs.num_envs)])
        seen.append(result)
        over = result[2] | result[3]
        if mode is AutoresetMode.DISABLED and over.any():
            seen.append(envs.reset(options={"reset_mask": over}))
    envs.close()
    return seen


def ours(num_envs: int, mode: AutoresetMode, wrap: Wrap, **keywords: Any) -> Any:
    made = gym.make_vec(ENV_ID, num_envs=num_envs, autoreset_mode=mode, **{**SMALL, **keywords})
    return wrap(vector_wrappers, made)


def theirs(num_envs: int, mode: AutoresetMode, wrap: Wrap, form: str, **keywords: Any) -> Any:
    return gym.make_vec(
        ENV_ID,
        num_envs=num_envs,
        vectorization_mode=form,
        vector_kwargs={"autoreset_mode": mode, **({"shared_memory": False} if form == "async" else {})},
        wrappers=[lambda env: wrap(wrappers, env)],
        **{**SMALL, **keywords},
    )


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.value)
@pytest.mark.parametrize("wrap", WRAPS)
def test_M15_wrapped_it_equals_a_sync_vector_env_of_wrapped_ones(wrap: str, mode: AutoresetMode) -> None:
    expected = play(theirs(3, mode, WRAPS[wrap], "sync"), mode)
    seen = play(ours(3, mode, WRAPS[wrap]), mode)
    for step, (one, two) in enumerate(zip(expected, seen, strict=True)):
        assert plain(one) == plain(two), f"step {step}"


@pytest.mark.parametrize(
    ("wrap", "mode"),
    [("nothing", AutoresetMode.SAME_STEP), ("several", AutoresetMode.NEXT_STEP), ("several", AutoresetMode.SAME_STEP)],
)
def test_M15_wrapped_it_equals_an_async_vector_env_of_wrapped_ones(wrap: str, mode: AutoresetMode) -> None:
    expected = play(theirs(2, mode, WRAPS[wrap], "async"), mode, steps=8)
    assert plain(play(ours(2, mode, WRAPS[wrap]), mode, steps=8)) == plain(expected)


def test_the_observations_are_in_the_space_of_the_wrapper() -> None:
    for name in ("prompts", "chats"):
        envs = ours(2, AutoresetMode.SAME_STEP, WRAPS[name])
        observations, _ = envs.reset(seed=1)
        assert observations in envs.observation_space
        assert observations[0] in envs.single_observation_space
        # Gymnasium's own form has the same spaces.
        sync = theirs(2, AutoresetMode.SAME_STEP, WRAPS[name], "sync")
        assert sync.observation_space == envs.observation_space
        for one in (envs, sync):
            one.close()


def test_R4_the_step_that_ends_an_episode_is_shaped_by_that_episode() -> None:
    """The trap of same-step autoreset: when the wrapper sees the step, another episode has already begun."""
    envs = gym.make_vec(
        ENV_ID, num_envs=2, num_docs=20, chunk_tokens=100_000, store="numpy", autoreset_mode=AutoresetMode.SAME_STEP
    )
    envs = vector_wrappers.EvidenceReward(vector_wrappers.MemoryCost(envs, per_entry=0.01), weight=0.5)
    envs.reset(options={"index": [0, 1]})
    base = envs.unwrapped
    assert isinstance(base, AtomMemVectorEnv)
    envs.step(["", "<create>a</create>"])
    evidence = [stepped.episode.item.questions[0].evidence for stepped in base.stepped if stepped is not None]
    note = " ".join(piece.text for piece in evidence[0])
    _, rewards, terminations, _, infos = envs.step([f"<scratchpad>{note}</scratchpad><answer>?</answer>", ""])
    assert terminations.tolist() == [True, False]
    assert rewards == pytest.approx([0.5, -0.01])
    assert infos["entries"].tolist() == [0, 1]
    assert infos["final_info"]["episode_metrics"]["evidence_recall"][0] == 1.0
    envs.close()


def test_R4_a_step_that_only_resets_is_not_shaped() -> None:
    envs = ours(2, AutoresetMode.NEXT_STEP, lambda kind, env: kind.MemoryCost(env, per_entry=1.0), max_steps=1)
    envs.reset(seed=0)
    assert envs.step(["<create>a</create>", ""])[1].tolist() == [-1.0, 0.0]
    assert envs.step(["<create>a</create>", ""])[1].tolist() == [0.0, 0.0]
    assert envs.unwrapped.stepped == (None, None)
    envs.close()


def test_a_failed_same_step_autoreset_is_repeated_with_the_same_shaping(monkeypatch: pytest.MonkeyPatch) -> None:
    wrap = WRAPS["a spec"]
    envs = ours(2, AutoresetMode.SAME_STEP, wrap, max_steps=1)
    calm = ours(2, AutoresetMode.SAME_STEP, wrap, max_steps=1)
    for one in (envs, calm):
        one.reset(seed=0)
    backend = envs.unwrapped._backend
    run, calls = backend.run, []

    def fail_second(batch: Any) -> Any:
        calls.append(len(batch))
        if len(calls) == 2:
            raise OSError("on purpose")
        return run(batch)

    monkeypatch.setattr(backend, "run", fail_second)
    actions = ["<create>a</create><create>b", "<create>a</create>"]
    with pytest.raises(OSError, match="on purpose"):
        envs.step(actions)
    for _ in range(2):
        assert plain(envs.step(actions)) == plain(calm.step(actions))


def test_make_vec_refuses_wrappers_and_the_vector_wrappers_refuse_other_environments() -> None:
    with pytest.raises(gym.error.Error, match="wrappers"):
        gym.make_vec(ENV_ID, num_envs=2, wrappers=[wrappers.PromptObservation], **SMALL)
    other = gym.make_vec("CartPole-v1", num_envs=2)
    for wrap in WRAPS.values():
        if wrap is not WRAPS["nothing"]:
            with pytest.raises(ConfigError, match="not an AtomMem vector environment"):
                wrap(vector_wrappers, other)
    other.close()


def test_a_users_own_shaping_and_a_wrapper_of_gymnasiums_fit_in() -> None:
    envs = gym.make_vec(ENV_ID, num_envs=3, **SMALL)
    own = vector_wrappers.ShapedReward(envs, [lambda info, episode: info["entries"] + 0.5 * episode.state.steps])
    counted = gym.wrappers.vector.RecordEpisodeStatistics(own)
    counted.reset(seed=0)
    assert counted.step(["<create>a</create>", "", ""])[1].tolist() == [1.5, 0.5, 0.5]
    assert math.isclose(counted.step(["", "", ""])[1][0], 2.0)
    counted.close()
