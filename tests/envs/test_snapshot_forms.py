"""SPEC M14 in every form: a slot or a pool returns to a snapshot, of its own or of another form."""

from __future__ import annotations

import asyncio
import copy
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ResetNeeded
from support.pools import SMALL, make_plain, make_pool, run
from support.stores.flaky_store import FlakyStore

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemVectorEnv
from atommem_gym.errors import ConfigError, SnapshotError, StoreError

ANSWER = "<answer>no idea</answer>"
ACTIONS = [
    "<create>Ada was born in Bern</create>",
    "<create>Zoe</create><read>Ada</read>",
    "<scratchpad>s</scratchpad>",
]


def make_vector(num_envs: int = 3, autoreset_mode: str = "NextStep", **keywords: Any) -> AtomMemVectorEnv:
    made = gym.make_vec(
        "AtomMem-Synthetic-v0",
        num_envs=num_envs,
        autoreset_mode=autoreset_mode,
        **{**SMALL, **keywords},
    ).unwrapped
    assert isinstance(made, AtomMemVectorEnv)
    return made


def one_of(batch: dict[str, Any], i: int) -> str:
    """Sub-environment ``i`` of a batched observation, as text."""
    return alone({name: values[i] for name, values in batch.items()})


def alone(observation: dict[str, Any]) -> str:
    listed = {name: np.asarray(value).tolist() for name, value in observation.items() if name != "memories"}
    return repr((sorted(listed.items()), observation["memories"]))


def test_M14_a_slot_returns_to_its_snapshot_while_the_others_go_on() -> None:
    envs, twin = make_vector(), make_vector()
    for one in (envs, twin):
        one.reset(seed=3)
        one.step([ACTIONS[0]] * 3)
    saved = envs.snapshot(1)
    sampled = envs.action_space.sample()[1]
    seen = envs.step(ACTIONS)[0]
    twin.step(ACTIONS)
    envs.step([ACTIONS[2]] * 3)
    twin.step([ACTIONS[2]] * 3)
    observation = envs.restore(1, saved)
    assert observation is not None
    assert observation["feedback"] == "created 1"
    assert envs.action_space.sample()[1] == sampled
    after, expected = envs.step([ACTIONS[0], ACTIONS[1], ACTIONS[0]])[0], twin.step([ACTIONS[0]] * 3)[0]
    assert one_of(after, 1) == one_of(seen, 1)
    assert [one_of(after, i) for i in (0, 2)] == [one_of(expected, i) for i in (0, 2)]
    envs.close()
    twin.close()


def test_M14_the_batch_of_a_reset_of_others_holds_the_restored_observation() -> None:
    envs = make_vector()
    envs.reset(seed=3)
    envs.step([ACTIONS[0]] * 3)
    saved = envs.snapshot(0)
    envs.step(ACTIONS)
    observation = envs.restore(2, saved)
    assert observation is not None
    batch, _ = envs.reset(options={"reset_mask": np.array([True, False, False])})
    assert one_of(batch, 2) == alone(observation)
    assert batch["feedback"][0] == ""
    envs.close()


def test_M14_plain_slot_and_pool_accept_each_others_snapshots() -> None:
    plain, envs = make_plain(), make_vector()
    plain.reset(seed=5)
    plain.step(ACTIONS[0])

    def played(env: Any) -> str:
        return repr([env.step(ACTIONS[1]), env.reset(), env.step(ACTIONS[0])])

    async def through_a_pool(saved: dict[str, Any]) -> tuple[dict[str, Any], str]:
        async with make_pool() as pool, pool.env() as env:
            await env.restore(saved)
            again = await env.snapshot()
            return again, repr([await env.astep(ACTIONS[1]), await env.areset(), await env.astep(ACTIONS[0])])

    envs.reset(seed=0)
    envs.restore(2, plain.snapshot())
    from_slot = envs.snapshot(2)
    expected = played(plain)
    from_pool, in_pool = run(through_a_pool(from_slot))
    assert in_pool == expected
    for saved in (from_slot, from_pool):
        plain.restore(saved)
        assert played(plain) == expected
    envs.restore(0, from_pool)
    stepped, reset, last = [], [], []
    stepped.append(envs.step([ACTIONS[1]] * 3)[0])
    reset.append(envs.reset(options={"reset_mask": np.array([True, False, False])})[0])
    last.append(envs.step([ACTIONS[0]] * 3)[0])
    plain.restore(from_slot)
    assert one_of(stepped[0], 0) == alone(plain.step(ACTIONS[1])[0])
    assert one_of(reset[0], 0) == alone(plain.reset()[0]), "the slot's own generator draws the next item"
    assert one_of(last[0], 0) == alone(plain.step(ACTIONS[0])[0])
    plain.close()
    envs.close()


def finished(envs: AtomMemVectorEnv) -> None:
    """Step until all episodes are over; only for modes that do not reset in the same step."""
    while not envs.step([ANSWER] * envs.num_envs)[2].all():
        pass


@pytest.mark.parametrize("mode", ["NextStep", "Disabled"])
def test_M14_restoring_into_a_finished_slot_cancels_its_autoreset(mode: str) -> None:
    envs = make_vector(2, mode)
    envs.reset(seed=1)
    envs.step(ACTIONS[:2])
    saved = envs.snapshot(1)
    expected = envs.step([ACTIONS[2]] * 2)[0]
    finished(envs)
    envs.restore(1, saved)
    if mode == "Disabled":
        envs.reset(options={"reset_mask": np.array([True, False])})
    observations, *_, infos = envs.step([ACTIONS[2]] * 2)
    assert one_of(observations, 1) == one_of(expected, 1)
    assert observations["progress"][0][0] == (0 if mode == "NextStep" else 1)
    assert infos["applied"]["scratchpad"].tolist() == ([0, 1] if mode == "NextStep" else [1, 1])
    envs.close()


def test_M14_a_slot_that_is_restored_to_an_episode_that_is_over_is_reset_by_the_next_step() -> None:
    envs = make_vector(2)
    envs.reset(seed=1)
    finished(envs)
    over = envs.snapshot(0)
    envs.reset(seed=1)
    envs.restore(0, over)
    observations, *_ = envs.step([ACTIONS[0]] * 2)
    assert observations["progress"][:, 0].tolist() == [0, 1]
    envs.close()
    same_step = make_vector(2, "SameStep")
    same_step.reset(seed=1)
    before = same_step.snapshot(0)
    with pytest.raises(SnapshotError, match="is over, and with autoreset_mode='SameStep'"):
        same_step.restore(0, over)
    assert repr(same_step.snapshot(0)) == repr(before)
    same_step.step([ACTIONS[0]] * 2)
    same_step.close()


def test_M14_a_slot_is_not_restored_between_a_failed_autoreset_and_its_repetition() -> None:
    envs = make_vector(2, "SameStep")
    envs.reset(seed=1)
    saved = envs.snapshot(0)

    def broken(i: int) -> dict[str, Any]:
        raise RuntimeError("no options on purpose")

    kept, envs.autoreset_options = envs.autoreset_options, broken
    with pytest.raises(RuntimeError, match="on purpose"):
        finished(envs)
    with pytest.raises(AlreadyPendingCallError, match="autoreset failed"):
        envs.restore(0, saved)
    envs.autoreset_options = kept
    assert envs.step([ANSWER] * 2)[2].any()
    envs.restore(0, saved)
    envs.close()


def test_M14_a_slot_is_named_by_a_number_that_it_has() -> None:
    envs = make_vector(2)
    envs.reset(seed=1)
    saved = envs.snapshot(np.int64(1))  # type: ignore[arg-type]
    for number in (-1, 2):
        with pytest.raises(IndexError, match=f"no sub-environment {number}; there are 2"):
            envs.restore(number, saved)
    with pytest.raises(ConfigError, match="i=True"):
        envs.snapshot(True)
    envs.close()


def test_M14_a_slot_returns_to_before_its_first_reset() -> None:
    envs = make_vector(2)
    before = envs.snapshot(0)
    first = envs.reset(seed=1)[0]
    envs.snapshot(0)
    assert envs.restore(0, before) is None
    with pytest.raises(ResetNeeded):
        envs.step([ANSWER] * 2)
    assert one_of(envs.reset(seed=1)[0], 0) == one_of(first, 0)
    envs.close()


@pytest.mark.parametrize("damage", ["np_random", "action_space", "config", "episode"])
def test_M14_a_damaged_snapshot_changes_no_slot(damage: str) -> None:
    envs = make_vector(2)
    envs.reset(seed=1)
    envs.step(ACTIONS[:2])
    saved, before = copy.deepcopy(envs.snapshot(0)), repr([envs.snapshot(i) for i in range(2)])
    saved[damage] = {"damaged": 1}
    with pytest.raises(SnapshotError):
        envs.restore(1, saved)
    assert repr([envs.snapshot(i) for i in range(2)]) == before
    envs.close()


def test_M14_a_restore_that_the_store_refuses_leaves_slot_and_store_as_they_were() -> None:
    envs = make_vector(2)
    envs.reset(seed=1)
    envs.step([ACTIONS[0]] * 2)
    store = FlakyStore(envs._backend.store)
    envs._backend.store = store  # type: ignore[assignment]
    saved, keys = envs.snapshot(0), store.episodes()
    before = repr(envs.snapshot(1))
    store.failing = "write"
    with pytest.raises(StoreError, match="on purpose"):
        envs.restore(1, saved)
    store.failing = ""
    assert repr(envs.snapshot(1)) == before
    assert store.episodes() == keys
    envs.restore(1, saved)
    assert len(store.episodes()) == 2, "the rows of the episode that was left are deleted"
    envs.close()


def test_M14_a_pool_refuses_a_second_call_while_a_snapshot_or_restore_is_under_way() -> None:
    async def main() -> None:
        async with make_pool(2) as pool, pool.env() as env:
            await env.areset(seed=1)
            saved = await env.snapshot()
            for call in (env.snapshot, lambda: env.restore(saved)):
                first = asyncio.ensure_future(call())
                await asyncio.sleep(0)
                for second in (env.snapshot(), env.restore(saved), env.astep(ANSWER)):
                    with pytest.raises(AlreadyPendingCallError):
                        await second
                await first
            await env.astep(ANSWER)

    run(main())


def test_M14_a_cancelled_restore_of_a_pool_happened_or_did_not() -> None:
    async def main() -> None:
        async with make_pool(2) as pool, pool.env() as env:
            await env.areset(seed=1)
            await env.astep(ACTIONS[0])
            saved = await env.snapshot()
            await env.astep(ACTIONS[0])
            for turns in range(6):
                before = env.episode.state.steps
                call = asyncio.ensure_future(env.restore(saved))
                for _ in range(turns):
                    await asyncio.sleep(0.0005 * turns)
                call.cancel()
                outcome = (await asyncio.gather(call, return_exceptions=True))[0]
                settled = await env.settle()
                happened = settled is not None or not isinstance(outcome, BaseException)
                assert env.episode.state.steps == (1 if happened else before)
                await env.astep(ACTIONS[0])
            assert len(pool._backend.store.episodes()) == 1  # type: ignore[union-attr]

    run(main())
