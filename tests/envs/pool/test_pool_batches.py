"""Stepping a pool in the manner of EnvPool: `async_reset`, `send`, `recv`."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, NoAsyncCallError
from support.pools import gated, make_plain, make_pool, run, sampler, ticks, until

from atommem_gym.errors import ConfigError, EmbedderError, StepFailedError


def test_results_come_as_they_get_ready_and_equal_plain_environments() -> None:
    plains = [make_plain() for _ in range(6)]
    actions = [sampler(plain.config, i) for i, plain in enumerate(plains)]

    async def main() -> int:
        episodes = 0
        async with make_pool(6) as pool:
            pool.async_reset(seed=10)
            expected: dict[int, Any] = {i: plain.reset(seed=10 + i) for i, plain in enumerate(plains)}
            while episodes < 12:
                received = await pool.recv(min_envs=2)
                assert len(received.env_ids) >= 2
                sending, resetting = [], []
                for at, env_id in enumerate(received.env_ids.tolist()):
                    info = {**received.infos[at]}
                    assert info.pop("env_id") == env_id
                    wanted = expected[env_id]
                    assert repr((received.observations[at], info)) == repr((wanted[0], wanted[-1]))
                    assert len(wanted) == 2 or received.rewards[at] == wanted[1]
                    over = received.terminations[at] or received.truncations[at]
                    (resetting if over else sending).append(env_id)
                    assert bool(over) == (len(wanted) == 5 and (wanted[2] or wanted[3]))
                for env_id in resetting:
                    expected[env_id] = plains[env_id].reset()
                    episodes += 1
                chosen = [actions[env_id]() for env_id in sending]
                for env_id, action in zip(sending, chosen, strict=True):
                    expected[env_id] = plains[env_id].step(action)
                pool.async_reset(resetting)
                pool.send(chosen, sending)
        return episodes

    assert run(main()) >= 12


def test_a_slow_environment_does_not_hold_up_the_others() -> None:
    async def main() -> None:
        async with make_pool(3, max_wait_ms=0) as pool:
            embedder = gated(pool)
            pool.async_reset(options={"index": [4, 4, 5], "shuffle_seed": 2})
            received = await pool.recv(3)
            items = {
                int(i): info["item"].rsplit("/")[-1] for i, info in zip(received.env_ids, received.infos, strict=True)
            }
            assert items == {0: "4", 1: "4", 2: "5"}
            pool.send(["<create>slow</create>", "", ""], np.array([2, 0, 1]))
            assert sorted((await pool.recv(2)).env_ids.tolist()) == [0, 1]
            receiving = asyncio.create_task(pool.recv())
            await ticks()
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
            embedder.gate.set()
            received = await pool.recv(3)
            assert (received.env_ids.tolist(), received.infos[0]["entries"]) == ([2], 1), "no more are to come"

    run(main())


def test_a_failed_step_is_named_and_the_others_are_not_lost() -> None:
    async def main() -> None:
        async with make_pool(3) as pool:
            gated(pool)
            pool.async_reset(seed=0)
            await pool.recv(3)
            pool.send(["<create>bees</create>", "<create>poison</create>", "<create>boats</create>"], [0, 1, 2])
            with pytest.raises(StepFailedError, match="env_id 1 failed") as caught:
                await pool.recv(3)
            assert caught.value.env_id == 1
            assert isinstance(caught.value.__cause__, EmbedderError)
            assert sorted((await pool.recv(2)).env_ids.tolist()) == [0, 2]
            pool.send(["<create>bees</create>"], [1])
            assert (await pool.recv()).infos[0]["entries"] == 1

    run(main())


def test_misuse_says_what_is_wrong() -> None:
    async def main() -> None:
        async with make_pool(3) as pool:
            embedder = gated(pool)
            with pytest.raises(NoAsyncCallError, match="no environment is under way"):
                await pool.recv()
            with pytest.raises(ConfigError, match="env_id 1 was never reset"):
                pool.send([""], [1])
            with pytest.raises(ConfigError, match="none of 0 to 2"):
                pool.async_reset([3])
            with pytest.raises(ConfigError, match="twice"):
                pool.async_reset([1, 1])
            with pytest.raises(ConfigError, match="1 seeds for 2"):
                pool.async_reset([0, 1], seed=[1])
            with pytest.raises(ConfigError, match="3 values of option index for 2"):
                pool.async_reset([0, 1], options={"index": [1, 2, 3]})
            async with pool.env():
                with pytest.raises(ConfigError, match="env_id 2 has no place"):
                    pool.async_reset(seed=0)
            pool.async_reset(seed=0)
            with pytest.raises(AlreadyPendingCallError, match="env_id 0 is under way"):
                pool.send([""], [0])
            await pool.recv(3)
            with pytest.raises(ConfigError, match="a string for 1"):
                pool.send("<answer>x</answer>", [0])
            with pytest.raises(ConfigError, match="min_envs=0"):
                await pool.recv(0)
            pool.send(["<create>slow</create>"], [0])
            receiving = asyncio.create_task(pool.recv())
            await until(lambda: embedder.inside == 1)
            with pytest.raises(AlreadyPendingCallError, match="another coroutine waits in recv"):
                await pool.recv()
            embedder.gate.set()
            await receiving

    run(main())


def test_close_forgets_what_nobody_received() -> None:
    async def main() -> None:
        async with make_pool(4, store="milvus") as pool:
            pool.async_reset(seed=0)
            await pool.recv(4)
            pool.send(["<create>bees</create>"] * 4, range(4))
            await ticks(2)
        assert len(asyncio.all_tasks()) == 2

    run(main())


def test_whoever_receives_while_the_pool_is_closed_is_told_so() -> None:
    async def main() -> None:
        pool = make_pool(2)
        embedder = gated(pool)
        pool.async_reset(seed=0)
        await pool.recv(2)
        pool.send(["<create>slow</create>"] * 2, [0, 1])
        receiving = asyncio.create_task(pool.recv(2))
        await until(lambda: embedder.inside == 1)
        closing = asyncio.create_task(pool.aclose())
        await ticks()
        embedder.gate.set()
        with pytest.raises(ClosedEnvironmentError, match="make a new one"):
            await receiving
        await closing

    run(main())
