"""SPEC M13 to M15 as properties: episodes never meet, snapshots lead to one future, and every store gives the same."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.properties import RULES, STORES, Databases, Play, every_database, item, milvus_server  # noqa: F401
from support.servers import milvus_url  # noqa: F401
from support.stores.flaky_store import FlakyStore

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Store
from atommem_gym.stores.loading import open_store
from atommem_gym.testing import MemoryEnvMachine, MemoryStoreMachine, actions, budget, episodes

ROOT = Path(__file__).resolve().parents[2]
SMALL: dict[str, Any] = {"num_docs": 16, "chunk_tokens": 300}
rules = pytest.mark.parametrize("rules", RULES, ids=lambda rules: "-".join(map(str, rules.values())) or "default")


def dialect_of(rules: dict[str, Any]) -> str:
    return str(rules.get("dialect", rules.get("preset", "crud")))


@rules
@given(data=st.data())
@budget(6)
def test_M15_a_trajectory_is_the_same_to_the_bit_on_every_store(
    every_database: Databases,  # noqa: F811
    rules: dict[str, Any],
    data: st.DataObject,
) -> None:
    plan = data.draw(episodes(dialect_of(rules), hostile=True))
    trajectories = {}
    for kind in STORES:
        with Play(every_database.backend(kind, **rules), plan.item) as play:
            trajectories[kind] = repr([play.result, *play.all(plan.actions)])
    for kind, trajectory in trajectories.items():
        assert trajectory == trajectories["numpy"], kind


@pytest.mark.parametrize("kind", STORES)
@given(data=st.data())
@budget(8)
def test_M13_episodes_in_one_database_never_see_each_other(
    every_database: Databases,  # noqa: F811
    kind: str,
    data: st.DataObject,
) -> None:
    backend = every_database.backend(kind, top_k=4)
    plans = [data.draw(episodes()) for _ in range(3)]
    alone = []
    for plan in plans:
        with Play(backend, plan.item) as play:
            alone.append(repr(play.all(plan.actions)))
    turns = data.draw(st.permutations([i for i, plan in enumerate(plans) for _ in plan.actions]))
    together = [Play(backend, plan.item) for plan in plans]
    left = [list(plan.actions) for plan in plans]
    seen: list[list[Any]] = [[] for _ in plans]
    for i in turns:
        action = left[i].pop(0)
        if not together[i].over:
            seen[i].append(together[i].step(action))
            # An episode that ends is dropped while others go on.
            if together[i].over:
                backend.release([together[i].running])
    backend.release([play.running for play in together])
    assert [repr(results) for results in seen] == alone


@pytest.mark.parametrize("kind", STORES)
@given(data=st.data())
@budget(8)
def test_M13_a_batch_of_episodes_gives_what_each_gives_alone(
    every_database: Databases,  # noqa: F811
    kind: str,
    data: st.DataObject,
) -> None:
    """M15 too: one write and one search for many episodes, as in a vector environment."""
    backend = every_database.backend(kind, top_k=4)
    count = data.draw(st.integers(2, 4))
    columns = [data.draw(st.lists(actions(), min_size=3, max_size=3)) for _ in range(count)]
    alone = []
    for column in columns:
        with Play(backend) as play:
            alone.append(repr(play.all(column)))
    together = [Play(backend) for _ in columns]
    results = []
    for row in zip(*columns, strict=True):
        begun = [(play.running, play.episode.begin(action)) for play, action in zip(together, row, strict=True)]
        results.append(backend.run(begun))
    backend.release([play.running for play in together])
    assert [repr(list(column)) for column in zip(*results, strict=True)] == alone


@pytest.mark.parametrize("kind", STORES)
@rules
@given(data=st.data())
@budget(4)
def test_M14_a_snapshot_at_any_step_leads_to_the_same_future_on_any_store(
    every_database: Databases,  # noqa: F811
    kind: str,
    rules: dict[str, Any],
    data: st.DataObject,
) -> None:
    plan = data.draw(episodes(dialect_of(rules), hostile=True, max_actions=8))
    at = data.draw(st.integers(0, len(plan.actions)))
    with Play(every_database.backend(**rules), plan.item) as play:
        play.all(plan.actions[:at])
        if play.over:
            return
        stored = play.backend.stored(play.running)
        vectors = None if stored is None else (stored.ids.tolist(), stored.vectors.copy())
        saved = pickle.dumps((play.episode.state, vectors))
        future = repr(play.all(plan.actions[at:]))
        state, vectors = pickle.loads(saved)
        with Play(every_database.backend(kind, **rules), plan.item, state, vectors) as restored:
            assert repr(restored.all(plan.actions[at:])) == future


@pytest.mark.parametrize("kind", STORES)
@given(data=st.data())
@budget(6)
def test_M14_forks_equal_replays_and_never_meet_whatever_fails_between(
    every_database: Databases,  # noqa: F811
    kind: str,
    data: st.DataObject,
) -> None:
    """Forks of forks too, stepped in any order, some after their parent is gone; each equals a replay."""
    rules = data.draw(st.sampled_from(RULES))
    dialect, backend = dialect_of(rules), every_database.backend(kind, **rules)
    plan = data.draw(episodes(dialect, max_actions=4))
    store = backend.store
    assert store is not None
    before, flaky = store.episodes(), FlakyStore(store)
    backend.store = flaky  # type: ignore[assignment]
    family = [Play(backend, plan.item)]
    histories: list[list[str]] = [list(plan.actions)]
    seen = [[repr(result) for result in family[0].all(plan.actions)]]
    try:
        for _ in range(data.draw(st.integers(3, 6))):
            at = data.draw(st.integers(0, len(family) - 1))
            play, action = family[at], data.draw(actions(dialect))
            if play.over:
                break
            flaky.failing = data.draw(st.sampled_from(["", "", "write", "candidates", "load", "copy_episode"]))
            try:
                if data.draw(st.booleans()):
                    family += [Play(backend, running=fork) for fork in backend.fork(play.running, 2)]
                    histories += [list(histories[at]) for _ in range(2)]
                    seen += [list(seen[at]) for _ in range(2)]
                else:
                    seen[at].append(repr(play.step(action)))
                    histories[at].append(action)
            except StoreError:
                assert flaky.failing
            flaky.failing = ""
            if len(family) > 1 and data.draw(st.integers(0, 3)) == 0:
                backend.release([family.pop(0).running])
                del histories[0], seen[0]
        for play, history, results in zip(family, histories, seen, strict=True):
            if not play.over:
                history.append("<read>Ada was born in</read>")
                results.append(repr(play.step(history[-1])))
    finally:
        flaky.failing = ""
        backend.store = store
        backend.release([play.running for play in family])
    assert store.episodes() == before, "rows of a fork are left behind"
    for history, results in zip(histories, seen, strict=True):
        with Play(every_database.backend("numpy", **rules), plan.item) as replay:
            assert [repr(result) for result in replay.all(history)] == results


@rules
@given(seed=st.integers(0, 50), at=st.integers(0, 6))
@budget(5)
def test_M14_restore_returns_the_whole_environment_with_its_generators(
    rules: dict[str, Any], seed: int, at: int
) -> None:
    keywords = {**SMALL, "questions_per_episode": 2, "store": "numpy", **rules}
    env, other = (gym.make("AtomMem-Synthetic-v0", **keywords).unwrapped for _ in range(2))
    env.reset(seed=seed)
    env.action_space.seed(seed)
    other.reset(seed=seed + 1)
    for _ in range(at):
        if any(env.step(env.action_space.sample())[2:4]):
            break
    saved = env.snapshot()  # type: ignore[attr-defined]
    futures = []
    for one in (env, other, env):
        one.restore(copy.deepcopy(saved))  # type: ignore[attr-defined]
        sampled = [one.action_space.sample() for _ in range(3)]
        over = one.episode.state.over  # type: ignore[attr-defined]
        futures.append(repr((sampled, None if over else one.step(sampled[0]), one.reset())))
    assert futures[1:] == futures[:1] * 2
    env.close()
    other.close()


def test_M14_a_snapshot_at_a_random_step_goes_on_in_another_process(tmp_path: Path) -> None:
    env = gym.make("AtomMem-Synthetic-v0", **SMALL, store="milvus", questions_per_episode=2).unwrapped
    cases = []
    for seed in range(4):
        env.reset(seed=seed)
        env.action_space.seed(seed)
        for _ in range(seed):
            env.step(env.action_space.sample())
        drawn = [env.action_space.sample() for _ in range(3)]
        saved = env.snapshot()  # type: ignore[attr-defined]
        cases.append((saved, drawn, repr([env.step(action) for action in drawn])))
    env.close()
    (tmp_path / "cases").write_bytes(pickle.dumps([case[:2] for case in cases]))
    program = (
        "import pickle, sys, gymnasium as gym, atommem_gym\n"
        f"env = gym.make('AtomMem-Synthetic-v0', store='milvus', questions_per_episode=2, **{SMALL!r}).unwrapped\n"
        "results = []\n"
        "for saved, drawn in pickle.load(open(sys.argv[1], 'rb')):\n"
        "    env.restore(saved)\n"
        "    results.append(repr([env.step(action) for action in drawn]))\n"
        "env.close()\n"
        "pickle.dump(results, open(sys.argv[2], 'wb'))\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "cases"), str(tmp_path / "results")]
    subprocess.run(command, check=True, cwd=ROOT, timeout=120)
    assert pickle.loads((tmp_path / "results").read_bytes()) == [case[2] for case in cases]


@given(st.lists(st.lists(actions(), min_size=4, max_size=4), min_size=1, max_size=3), st.integers(0, 9))
@budget(6)
def test_M15_every_member_of_a_vector_environment_equals_a_plain_one(columns: list[list[str]], seed: int) -> None:
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=len(columns), **SMALL, store="milvus")
    observations, _ = envs.reset(seed=seed)
    batches = [observations]
    for row in zip(*columns, strict=True):
        batches.append(envs.step(list(row))[0])
    envs.close()
    for i, column in enumerate(columns):
        env = gym.make("AtomMem-Synthetic-v0", **SMALL, store="numpy").unwrapped
        alone = [env.reset(seed=seed + i)[0], *(env.step(action)[0] for action in column)]
        for one, batch in zip(alone, batches, strict=True):
            for name in ("question", "chunk", "scratchpad", "query", "memories", "feedback"):
                assert repr(one[name]) == repr(batch[name][i]), name
            assert one["steps_left"] == batch["steps_left"][i]
        env.close()


@pytest.mark.parametrize("kind", ["numpy", "mirror", "milvus", "kept", "kept-milvus", "server", "kept-server"])
def test_every_store_passes_the_machine_of_the_kit(kind: str, milvus_url: str) -> None:  # noqa: F811
    from hypothesis.stateful import run_state_machine_as_test

    def open_kind(machine: MemoryStoreMachine, dim: int) -> Store:
        reads = "milvus" if kind.endswith("milvus") else "mirror"
        if "server" in kind:
            return open_store(milvus_url, dim, keep=kind == "kept-server")
        names = {"numpy": "numpy", "mirror": "milvus", "milvus": "milvus"}
        return open_store(names.get(kind, f"milvus://{machine.folder}/memory.db"), dim, store_reads=reads)

    tested = type("Machine", (MemoryStoreMachine,), {"open_store": open_kind})
    quick = kind in ("numpy", "mirror", "milvus")
    run_state_machine_as_test(tested, settings=budget(20 if quick else 4, steps=15))


@pytest.mark.parametrize("store", ["numpy", "milvus", "server"])
def test_M1_to_E11_the_environment_passes_the_machine_of_the_kit(store: str, milvus_url: str) -> None:  # noqa: F811
    from hypothesis.stateful import run_state_machine_as_test

    where = milvus_url if store == "server" else store
    keywords: dict[str, Any] = {**SMALL, "questions_per_episode": [1, 3], "store": where, "top_k": 3}

    class Machine(MemoryEnvMachine):
        def make_env(self) -> gym.Env[Any, str]:
            return gym.make("AtomMem-Synthetic-v0", **keywords)

    run_state_machine_as_test(Machine, settings=budget({"numpy": 25, "milvus": 8, "server": 4}[store], steps=12))
