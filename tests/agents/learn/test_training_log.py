"""The log of a training: one folder holds one, and whatever fails leaves nothing open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents.learn.session_log import METRICS, SESSIONS
from atommem_gym.agents.learn.training_log import TRACES, TrainingLog
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.errors import AtomMemError


def make_envs() -> AtomMemVectorEnv:
    made: Any = gym.make_vec("AtomMem-Synthetic-v0", num_envs=2, num_docs=8, chunk_tokens=4000, store="numpy")
    assert isinstance(made, AtomMemVectorEnv)
    return made


def logged(folder: Path) -> None:
    """A training of one iteration."""
    log: Any = TrainingLog(make_envs(), folder, "model", 2, 1)
    log.reset(seed=0)
    for _ in range(3):
        log.step(["<answer>x</answer>"] * 2)
    log.write({"iteration": 1, "loss": float("nan")}, [0.0, 0.0])
    log.close()


def test_a_folder_holds_the_log_of_one_training(tmp_path: Path) -> None:
    logged(tmp_path)
    files = {name: (tmp_path / name).read_bytes() for name in (METRICS, SESSIONS, TRACES)}
    assert all(files.values())
    envs = make_envs()
    with pytest.raises(AtomMemError, match=r"is the log of another training.*name another folder as log"):
        TrainingLog(envs, tmp_path, "model", 2, 1)
    envs.close()
    assert {name: (tmp_path / name).read_bytes() for name in files} == files


def test_a_training_that_failed_before_its_first_iteration_may_be_started_again(tmp_path: Path) -> None:
    TrainingLog(make_envs(), tmp_path, "model", 2, 1).close()
    logged(tmp_path)


def test_the_environment_is_closed_also_if_a_file_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    envs = make_envs()
    log = TrainingLog(envs, tmp_path, "model", 2, 1)

    def broken() -> None:
        raise OSError("no close on purpose")

    kept = log._metrics.close
    monkeypatch.setattr(log._metrics, "close", broken)
    with pytest.raises(OSError, match="on purpose"):
        log.close()
    kept()
    assert not envs._finalizer.alive


def test_a_log_that_cannot_be_opened_leaves_no_environment_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("transformers", reason="needs transformers: pip install 'atommem-gym[llm]'")
    from atommem_gym.agents.learn import grpo

    logged(tmp_path)
    made = [make_envs()]

    def make(*_: Any, **__: Any) -> AtomMemVectorEnv:
        return made[0]

    monkeypatch.setattr(gym, "make_vec", make)
    with pytest.raises(AtomMemError, match="another training"):
        next(grpo.train(grpo.Options(model="none", log=tmp_path)))
    assert not made[0]._finalizer.alive
