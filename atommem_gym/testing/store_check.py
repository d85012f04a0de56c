"""Checks a custom store: a state machine over its protocol, then an episode compared with the exact store."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
from hypothesis.stateful import run_state_machine_as_test

from atommem_gym.memory.protocols import Store
from atommem_gym.plugins.loading import check_form
from atommem_gym.stores.loading import open_store
from atommem_gym.testing.profiles import budget
from atommem_gym.testing.store_machine import MemoryStoreMachine
from atommem_gym.traces.codec import to_json

_KEYWORDS: dict[str, Any] = {"num_docs": 16, "chunk_tokens": 400, "questions_per_episode": 2}
_EMBEDDER = "check_store"


def check_store(store: str | Callable[[int], Store], *, examples: int = 30, steps: int = 20) -> None:
    """Check a store: run :class:`MemoryStoreMachine`, and compare a trajectory with that of ``numpy`` (SPEC M15).

    Args:
        store: A value of ``store=``, ``"package.module:name"`` for a custom one; or a function that takes the
            dimension of the vectors and opens a store, for which no trajectory is compared.
        examples: Number of runs of the state machine.
        steps: Largest number of steps of a run.

    Raises:
        AssertionError: a rule is broken; Hypothesis prints a minimal run that breaks it.
        ConfigError: the store does not exist, or does not have the form of a store.

    >>> check_store("numpy", examples=2, steps=5)
    """

    class Machine(MemoryStoreMachine):
        def open_store(self, dim: int) -> Store:
            if isinstance(store, str):
                return open_store(store, dim, embedder=_EMBEDDER)
            opened = store(dim)
            check_form("store", getattr(store, "__qualname__", repr(store)), opened)
            return opened

    run_state_machine_as_test(Machine, settings=budget(examples, steps=steps))
    if isinstance(store, str):
        _check_trajectory(store)


def _check_trajectory(store: str) -> None:
    played = []
    for name in (store, "numpy"):
        env = gym.make("AtomMem-Synthetic-v0", store=name, **_KEYWORDS)
        try:
            env.action_space.seed(5)
            told = [to_json(env.reset(seed=3))]
            over = False
            while not over:
                observation, _, terminated, truncated, info = env.step(env.action_space.sample())
                told.append(to_json((observation, info)))
                over = terminated or truncated
            played.append(told)
        finally:
            env.close()
    for step, (own, exact) in enumerate(zip(*played, strict=False)):
        assert own == exact, f"M15: with {store!r} step {step} gives {own}, with 'numpy' {exact}"
    assert len(played[0]) == len(played[1]), f"M15: {[len(told) for told in played]} steps with {store!r} and 'numpy'"
