"""SPEC M14: forks of a plain environment share the past and nothing else, and the last one closes the database."""

from __future__ import annotations

import copy
import gc
import itertools
from dataclasses import fields
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ClosedEnvironmentError, ResetNeeded
from support.pools import SMALL, make_plain
from support.stores.flaky_store import FlakyStore

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv, MemoryCost
from atommem_gym.envs.generators import twin_of
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.memory.protocols import Write
from atommem_gym.readers.protocol import ReaderCosts
from atommem_gym.step import EpisodeState
from atommem_gym.stores.numpy_store import NumpyStore

LONG: dict[str, Any] = {"num_docs": 24, "chunk_tokens": 100}
CREATE = "<create>Ada was born in Bern</create>"


def started(**keywords: Any) -> AtomMemEnv:
    env = make_plain(**{**LONG, **keywords})
    env.reset(seed=7)
    env.action_space.seed(7)
    env.step(CREATE)
    env.step("<create>Zoe was born in Graz</create><read>Graz</read><scratchpad>s</scratchpad>")
    return env


def future(env: Any) -> str:
    """What the next actions give, a reset and the samples of the action space among them."""
    sampled = [env.action_space.sample() for _ in range(4)]
    results: list[Any] = [sampled]
    for action in (CREATE, "<read>Ada</read><update id='1'>Ada</update>", *sampled):
        results.append(env.step(action))
    return repr([*results, env.reset(), env.step("<read>Ada</read>")])


def rows(env: AtomMemEnv) -> list[str]:
    """Keys under which the environment's database holds something."""
    store = env._backend.store
    assert store is not None
    return store.episodes()


def flaky(env: AtomMemEnv) -> FlakyStore:
    store = FlakyStore(env._backend.store)
    env._backend.store = store  # type: ignore[assignment]
    return store


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_M14_forks_go_on_as_the_environment_does(store: str) -> None:
    env = started(store=store)
    expected_key, forks = env.memory_key, env.fork(3)
    assert len({expected_key, *(fork.memory_key for fork in forks)}) == 4
    assert {type(fork) for fork in forks} == {type(env)}
    grandchild = forks[0].fork(1)[0]
    assert len({future(each) for each in (*forks, env, grandchild)}) == 1
    for each in (env, *forks, grandchild):
        each.close()


def test_M14_forks_share_what_never_changes_and_nothing_that_does() -> None:
    env = started()
    one, other = env.fork(2)
    for each in (one, other):
        assert each.items is env.items
        assert each._backend is env._backend
        assert each.observation_space is env.observation_space
        assert each.episode.stream is env.episode.stream
    assert one.action_space == env.action_space
    before = repr(env.snapshot())
    one.step("<delete id='1'/><create>new</create><scratchpad>mine</scratchpad>")
    other.reset(seed=1)
    one.action_space.sample()
    assert repr(env.snapshot()) == before
    for each in (env, one, other):
        each.close()


def test_M14_a_fork_copies_every_part_of_the_state_that_can_change() -> None:
    env = started()
    env.episode.state.reader = ReaderCosts([0], 1, 2, 3)
    twin = env.episode.fork()
    assert twin.state == copy.deepcopy(env.episode.state)
    frozen = (str, int, float, bool, tuple, type(None))
    shared = [
        field.name
        for whole, part in ((twin.state, env.episode.state), (twin.state.memory, env.episode.state.memory))
        for field in fields(whole)
        if getattr(whole, field.name) is getattr(part, field.name)
        and not isinstance(getattr(whole, field.name), frozen)
    ]
    assert shared == []
    twin.state.reader.answered.append(1)
    assert env.episode.state.reader.answered == [0]
    changing = {name for name, value in vars(twin).items() if isinstance(value, (list, dict, set, EpisodeState))}
    assert changing <= {"state", "identity"}, "an episode's fork shares all that is not in its state"
    env.close()


def test_M14_a_fork_shows_the_last_step_and_renders_its_own() -> None:
    env = started(render_mode="ansi")
    (fork,) = env.fork(1)
    assert fork.render() == env.render() != ""
    fork.step(CREATE)
    assert fork.render() != env.render()
    env.close()
    fork.close()


@pytest.mark.parametrize("n", [0, -1, 1.0, True, None])
def test_M14_a_number_of_forks_is_an_integer_from_1(n: Any) -> None:
    env = started()
    with pytest.raises(ConfigError, match="n="):
        env.fork(n)
    assert len(rows(env)) == 1
    env.close()


def test_M14_there_is_nothing_to_fork_before_the_first_reset_after_the_end_and_after_close() -> None:
    env = make_plain()
    with pytest.raises(ResetNeeded, match="no episode yet"):
        env.fork(1)
    env.reset(seed=1)
    while not env.step("<answer>no idea</answer>")[2]:
        pass
    with pytest.raises(ResetNeeded, match="over, so its forks could not go on"):
        env.fork(1)
    env.reset()
    env.close()
    with pytest.raises(ResetNeeded):
        env.fork(1)


def test_M14_after_a_failed_step_forks_are_before_it() -> None:
    env = started()
    twin = started()
    store = flaky(env)
    store.failing = "candidates"
    # The write of this step has succeeded.
    with pytest.raises(StoreError):
        env.step("<create>left behind</create><delete id='1'/><read>Bern</read>")
    store.failing = ""
    (fork,) = env.fork(1)
    assert store.load(fork.memory_key).ids.tolist() == [1, 2]
    assert future(fork) == future(env) == future(twin)
    for each in (env, fork, twin):
        each.close()


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_M14_a_fork_that_fails_leaves_nothing_behind(store: str) -> None:
    env, twin = started(store=store), started()
    broken = flaky(env)
    broken.failing = "copy_episode" if store == "numpy" else "write"
    with pytest.raises(StoreError, match="on purpose"):
        env.fork(3)
    broken.failing = ""
    assert rows(env) == [env.memory_key]
    assert future(env) == future(twin)
    env.close()
    twin.close()


def test_M14_what_a_failed_fork_could_not_delete_is_deleted_later(caplog: pytest.LogCaptureFixture) -> None:
    env = started()

    class Halfway(NumpyStore):
        broken = True

        def copy_episode(self, episode: str, copies: Any) -> None:
            super().copy_episode(episode, copies[:1])
            if self.broken:
                raise StoreError("halfway on purpose")

        def drop(self, episodes: Any) -> None:
            if self.broken:
                raise StoreError("drop fails on purpose")
            super().drop(episodes)

    store = env._backend.store
    assert store is not None
    store.__class__ = Halfway
    with pytest.raises(StoreError, match="halfway"):
        env.fork(2)
    assert "deleted later" in caplog.text
    assert len(rows(env)) == 2
    store.broken = False  # type: ignore[attr-defined]
    env.reset()
    env.step(CREATE)
    assert rows(env) == [env.memory_key]
    env.close()


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_M14_the_last_of_forks_and_environment_closes_the_database(order: tuple[int, ...]) -> None:
    env = started()
    members = [env, *env.fork(2)]
    store = env._backend.store
    for left, number in enumerate(order):
        assert store is not None
        assert len(store.episodes()) == 3 - left
        members[number].close()
        members[number].close()
    with pytest.raises(StoreError, match="closed"):
        store.episodes()


def test_M14_a_temporary_database_goes_with_the_last_fork() -> None:
    env = started(store="milvus")
    (fork,) = env.fork(1)
    folder = Path(env._backend.store._database.path)  # type: ignore[union-attr]
    env.close()
    fork.step("<read>Ada</read>")
    assert folder.exists()
    fork.close()
    assert not folder.exists()


def test_M14_forgotten_forks_neither_close_the_database_nor_keep_their_rows() -> None:
    env = started()
    for _ in range(3):
        env.fork(4)
    gc.collect()
    assert len(rows(env)) > 1, "a finalizer only notes what has to be deleted"
    env.step(CREATE)
    assert rows(env) == [env.memory_key]
    (fork,) = env.fork(1)
    store = env._backend.store
    del env
    gc.collect()
    fork.step(CREATE)
    assert store is not None
    assert store.episodes() == [fork.memory_key]
    del fork
    gc.collect()
    with pytest.raises(StoreError, match="closed"):
        store.episodes()


def test_M14_a_closed_environment_begins_no_episode_in_the_database_of_its_forks() -> None:
    env = started()
    saved = env.snapshot()
    (fork,) = env.fork(1)
    env.close()
    with pytest.raises(ClosedEnvironmentError, match="its forks still use its database"):
        env.reset()
    with pytest.raises(ClosedEnvironmentError, match="its forks still use its database"):
        env.restore(saved)
    assert len(rows(fork)) == 1
    fork.close()


def test_M14_an_exception_while_closing_still_gives_the_backend_back() -> None:
    env = started()
    (fork,) = env.fork(1)
    backend = env._backend

    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    backend.release = interrupted  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        env.close()
    del backend.release
    fork.close()
    assert not backend.shared
    with pytest.raises(StoreError, match="closed"):
        rows(fork)


def test_M14_a_fork_of_a_kept_memory_is_kept_under_its_own_key(tmp_path: Path) -> None:
    where = {"store": f"milvus://{tmp_path}/kept.db"}
    env = started(**where)
    (fork,) = env.fork(1)
    fork.step("<create>only in the fork</create>")
    keys = env.memory_key, fork.memory_key
    with pytest.raises(StoreError, match="in use"):
        env.reset(options={"memory": keys[1]})
    env.close()
    fork.close()
    again = make_plain(**{**LONG, **where})
    entries = []
    for key in keys:
        again.reset(options={"memory": key})
        entries.append(list(again.episode.state.memory.entries))
    again.close()
    assert entries == [[1, 2], [1, 2, 3]]


def test_M14_wrapped_environments_are_forked_unwrapped_and_wrapped_again() -> None:
    env = MemoryCost(gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **SMALL), per_operation=0.5)
    env.reset(seed=1)
    assert not hasattr(env, "fork")
    (fork,) = env.unwrapped.fork(1)  # type: ignore[attr-defined]
    assert "env.unwrapped" in " ".join((AtomMemEnv.fork.__doc__ or "").split())
    wrapped = MemoryCost(fork, per_operation=0.5)
    assert repr(wrapped.step(CREATE)) == repr(env.step(CREATE))
    assert env.step(CREATE)[1] == -0.5
    wrapped.close()
    env.close()


def test_M14_forks_of_an_environment_without_a_store_or_of_the_released_preset() -> None:
    for keywords in ({"storage": False}, {"preset": "released"}):
        env = make_plain(**{"num_docs": 40, **keywords})
        env.reset(seed=2)
        (fork,) = env.fork(1)
        assert repr([fork.step(CREATE), fork.reset()]) == repr([env.step(CREATE), env.reset()])
        env.close()
        fork.close()


def test_M14_a_numpy_store_copies_an_episode_whole() -> None:
    store = NumpyStore(4)
    vectors = np.arange(4 * 40, dtype=np.float32).reshape(40, 4) + 1
    store.write([Write("a", range(1, 41), [f"t{i}" for i in range(40)], vectors, [], "state")])
    store.write([Write("a", deletes=[3, 40])])
    store.copy_episode("a", ["b", "c"])
    store.copy_episode("unknown", ["d"])
    first = store.load("a")
    for key in ("b", "c"):
        copied = store.load(key)
        assert first is not None
        assert copied is not None
        assert copied.ids.tolist() == first.ids.tolist()
        assert (copied.texts, copied.state) == (first.texts, first.state)
        assert np.array_equal(copied.vectors, first.vectors)
    store.write([Write("b", [1], ["new"], np.ones((1, 4), np.float32), [2])])
    assert store.load("c").texts == first.texts == store.load("a").texts  # type: ignore[union-attr]
    store.drop(["a"])
    assert store.episodes() == ["b", "c"]
    assert store.load("c").ids.tolist() == [i for i in range(1, 40) if i != 3]  # type: ignore[union-attr]


@pytest.mark.parametrize("kind", [np.random.PCG64, np.random.MT19937, np.random.Philox, np.random.SFC64])
def test_M14_a_twin_draws_what_its_generator_will_draw_and_leaves_it_alone(kind: Any) -> None:
    generator = np.random.Generator(kind(5))
    generator.normal(size=3)
    before = repr(generator.bit_generator.state)
    twin = twin_of(generator)
    drawn = [twin.random(4).tolist(), twin.integers(2**60, size=4).tolist()]
    assert repr(generator.bit_generator.state) == before
    assert drawn == [generator.random(4).tolist(), generator.integers(2**60, size=4).tolist()]


def test_M14_a_snapshot_of_the_item_that_is_played_does_not_make_it_again(monkeypatch: pytest.MonkeyPatch) -> None:
    env = started()
    saved = env.snapshot()
    expected = future(env)
    made: list[int] = []
    item = type(env.items).item
    monkeypatch.setattr(type(env.items), "item", lambda *a, **k: (made.append(1), item(*a, **k))[1])
    env.restore(saved)
    assert made == [1], "the future ended in another item"
    env.step(CREATE)
    env.restore(saved)
    assert made == [1]
    assert future(env) == expected
    env.close()
