"""A cancelled call of a pool never began, or is carried out to its end; never half, and nothing is left behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from support.pools import gated, living_threads, make_plain, make_pool, run, sampler, ticks, until

from atommem_gym.envs import AtomMemPool, PoolEnv
from atommem_gym.errors import EmbedderError
from atommem_gym.records.layout import stable_rng


async def cancelled(call: asyncio.Task[Any]) -> None:
    call.cancel()
    await asyncio.gather(call, return_exceptions=True)
    assert call.cancelled()


def test_a_step_cancelled_in_the_queue_never_began() -> None:
    async def main() -> None:
        async with make_pool(2, max_wait_ms=0) as pool, pool.env() as env, pool.env() as other:
            embedder = gated(pool)
            await env.areset(seed=0)
            await other.areset(seed=0)
            blocking = asyncio.create_task(other.astep("<create>slow</create>"))
            await until(lambda: embedder.inside == 1)
            step = asyncio.create_task(env.astep("<create>withdrawn</create>"))
            await ticks()
            await cancelled(step)
            assert await env.settle() is None
            assert env.episode.state.steps == 0
            embedder.gate.set()
            await blocking
            assert (await env.astep("<create>bees</create>"))[4]["entries"] == 1
            assert embedder.calls == [["slow"], ["bees"]]

    run(main())


def test_a_step_cancelled_while_its_batch_is_at_work_is_carried_out() -> None:
    async def main() -> None:
        async with make_pool(1) as pool, pool.env() as env:
            embedder = gated(pool)
            await env.areset(seed=0)
            step = asyncio.create_task(env.astep("<create>slow bees</create>"))
            await until(lambda: embedder.inside == 1)
            await cancelled(step)
            assert env.episode.state.steps == 0, "it is still under way"
            following = asyncio.create_task(env.astep("<read>bees</read>"))
            await ticks()
            assert not following.done()
            embedder.gate.set()
            observation = (await following)[0]
            assert [entry["text"] for entry in observation["memories"]] == ["slow bees"]
            assert env.episode.state.steps == 2

    run(main())


def test_settle_gives_the_result_that_a_cancelled_caller_did_not_see() -> None:
    async def main() -> None:
        async with make_pool(1) as pool, pool.env() as env:
            embedder = gated(pool)
            await env.areset(seed=0)
            step = asyncio.create_task(env.astep("<create>slow bees</create>"))
            await until(lambda: embedder.inside == 1)
            await cancelled(step)
            settling = asyncio.create_task(env.settle())
            await ticks()
            await cancelled(settling)
            embedder.gate.set()
            result = await env.settle()
            assert result is not None
            assert result[-1]["entries"] == 1
            assert await env.settle() is None, "once"
            reset = asyncio.create_task(env.areset(seed=1))
            await ticks(2)
            await cancelled(reset)
            outcome = await env.settle()
            assert outcome is None or len(outcome) == 2

    run(main())


def test_a_cancelled_step_that_fails_says_so_in_the_log_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with make_pool(1) as pool, pool.env() as env:
            embedder = gated(pool)
            await env.areset(seed=0)
            step = asyncio.create_task(env.astep("<create>slow poison</create>"))
            await until(lambda: embedder.inside == 1)
            await cancelled(step)
            embedder.gate.set()
            with pytest.raises(EmbedderError):
                await env.settle()
            assert await env.settle() is None, "a failure is told once, too"
            assert env.episode.state.steps == 0
            assert (await env.astep("<create>bees</create>"))[4]["entries"] == 1

    run(main())
    assert "whose caller was cancelled failed" in caplog.text


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_random_cancellations_leave_every_episode_equal_to_a_plain_one(store: str) -> None:
    outcomes: list[str] = []

    async def episode(pool: AtomMemPool, index: int) -> None:
        plain, rng = make_plain(), stable_rng("cancellations", index)
        action = sampler(pool.config, index)
        async with pool.env() as env:
            await env.areset(seed=index)
            plain.reset(seed=index)
            over = False
            while not over:
                chosen = action()
                result = await step(env, chosen, rng)
                if result is not None:
                    assert repr(result) == repr(plain.step(chosen)), f"episode {index}"
                    over = result[2] or result[3]
        plain.close()

    async def step(env: PoolEnv, action: str, rng: Any) -> Any:
        call = asyncio.create_task(env.astep(action))
        pause = rng.random()
        if pause < 0.6:
            await (ticks(int(rng.integers(4))) if pause < 0.2 else asyncio.sleep(float(rng.uniform(0, 0.004))))
            call.cancel()
        try:
            result = await call
        except asyncio.CancelledError:
            result = await env.settle()
            outcomes.append("withdrawn" if result is None else "carried out")
        return result

    async def main() -> None:
        async with make_pool(16, store=store) as pool:
            await asyncio.gather(*(episode(pool, index) for index in range(32)))
            await nothing_left(pool)

    run(main())
    assert set(outcomes) == {"withdrawn", "carried out"}


async def nothing_left(pool: AtomMemPool) -> None:
    store: Any = pool._backend.store
    assert store.episodes() == []
    assert not pool._taken
    assert pool._flying == 0
    ours = [task for task in asyncio.all_tasks() if "pool_env" in str(task.get_coro())]
    assert ours == []
    await pool.aclose()
    assert living_threads(pool) == 0


@pytest.mark.parametrize("pause", [0, 0.002, 0.01, 0.05])
def test_a_cancelled_crowd_leaks_nothing(pause: float) -> None:
    async def episode(pool: AtomMemPool, index: int) -> None:
        async with pool.env() as env:
            await env.areset(options={"index": index})
            while True:
                over = any((await env.astep(f"<create>bees {index}</create><read>bees</read>"))[2:4])
                if over:
                    await env.areset()

    async def main() -> None:
        async with make_pool(8, store="milvus") as pool:
            crowd = [asyncio.create_task(episode(pool, index)) for index in range(20)]
            await asyncio.sleep(pause)
            for task in crowd:
                task.cancel()
            await asyncio.gather(*crowd, return_exceptions=True)
            assert all(task.cancelled() for task in crowd)
            await nothing_left(pool)

    run(main())


def test_leaving_by_an_exception_waits_for_the_step_and_deletes_its_rows() -> None:
    async def main() -> None:
        async with make_pool(1, store="milvus") as pool:
            embedder = gated(pool)
            store: Any = pool._backend.store

            async def episode() -> None:
                async with pool.env() as env:
                    await env.areset(seed=0)
                    await env.astep("<create>bees</create>")
                    keys.append(env.memory_key)
                    asyncio.get_running_loop().call_later(0.01, embedder.gate.set)
                    await asyncio.wait_for(asyncio.shield(env.astep("<create>slow</create>")), 0.001)

            keys: list[str] = []
            with pytest.raises(asyncio.TimeoutError):
                await episode()
            assert keys[0] not in store.episodes()
            async with pool.env() as env:
                assert (await env.areset(seed=0))[1]["entries"] == 0

    run(main())


def test_a_place_comes_back_even_if_leaving_is_cancelled() -> None:
    async def main() -> None:
        async with make_pool(1) as pool:
            embedder = gated(pool)
            inside = asyncio.Event()

            async def episode() -> None:
                async with pool.env() as env:
                    await env.areset(seed=0)
                    step = asyncio.create_task(env.astep("<create>slow</create>"))
                    await until(lambda: embedder.inside == 1)
                    step.cancel()
                    inside.set()

            leaving = asyncio.create_task(episode())
            await inside.wait()
            await ticks()
            await cancelled(leaving)
            waiting = asyncio.create_task(pool.env().__aenter__())
            await ticks()
            assert not waiting.done(), "the step is still under way"
            embedder.gate.set()
            await waiting

    run(main())


def test_a_cancelled_reset_leaves_the_old_episode_or_begins_the_new_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with make_pool(2, store=f"milvus://{tmp_path}/kept.db") as pool, pool.env() as env:
            plain = make_plain()
            await env.areset(seed=0)
            plain.reset(seed=0)
            for tick in range(30):
                before = env.item.index
                reset = asyncio.create_task(env.areset())
                await (ticks(tick) if tick % 2 else asyncio.sleep(0.0005 * tick))
                reset.cancel()
                try:
                    result: Any = await reset
                except asyncio.CancelledError:
                    result = await env.settle()
                if result is None:
                    assert env.item.index == before
                else:
                    assert repr(result) == repr(plain.reset())

    run(main())
