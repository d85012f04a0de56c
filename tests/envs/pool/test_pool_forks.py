"""SPEC M14 in a pool: forks take free places and give them back, whatever is cancelled or fails in between."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, ResetNeeded
from support.pools import gated, make_plain, make_pool, run, sampler, ticks, until
from support.servers import milvus_server, milvus_url  # noqa: F401
from support.stores.flaky_store import FlakyStore

from atommem_gym.envs import AtomMemPool, PoolEnv
from atommem_gym.errors import ConfigError, StoreError
from atommem_gym.records.layout import stable_rng

CREATE = "<create>Ada was born in Bern</create>"
READ = "<create>Zoe</create><read>Ada</read>"


def rows(pool: AtomMemPool) -> int:
    store = pool._backend.store
    assert store is not None
    return len(store.episodes())


def free(pool: AtomMemPool) -> int:
    return pool._places._free


async def future(env: PoolEnv) -> str:
    return repr([await env.astep(READ), await env.areset(), await env.astep(CREATE)])


async def begun(env: PoolEnv) -> None:
    await env.areset(seed=4)
    await env.astep(CREATE)


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_M14_forks_of_a_pool_go_on_as_the_environment_and_a_plain_one_do(store: str) -> None:
    plain = make_plain()
    plain.reset(seed=4)
    plain.step(CREATE)
    expected = repr([plain.step(READ), plain.reset(), plain.step(CREATE)])
    plain.close()

    async def main() -> None:
        async with make_pool(4, store=store) as pool, pool.env() as env:
            await begun(env)
            async with await pool.fork(env, 2) as forks:
                assert len({env.memory_key, *(fork.memory_key for fork in forks)}) == 3
                (grandchild,) = await pool.fork(forks[0], 1)
                futures = await asyncio.gather(*map(future, (env, *forks, grandchild)))
                assert set(futures) == {expected}
                await grandchild.aclose()
                assert free(pool) == 1
            assert free(pool) == 3
            assert rows(pool) == 1
            with pytest.raises(ClosedEnvironmentError):
                await forks[0].astep(READ)

    run(main())


def test_M14_a_fork_needs_free_places_and_does_not_wait_for_them() -> None:
    async def main() -> None:
        async with make_pool(3) as pool, pool.env() as env:
            await begun(env)
            with pytest.raises(
                ConfigError, match=r"n=3 forks need as many free places, and of the pool's 3 only 2 are"
            ):
                await pool.fork(env, 3)
            assert (free(pool), rows(pool)) == (2, 1)
            forks = await pool.fork(env, 2)
            with pytest.raises(ConfigError, match="only 0 are"):
                await pool.fork(env, 1)
            await forks.aclose()
            await forks.aclose()
            assert (free(pool), rows(pool)) == (2, 1)

    run(main())


def test_M14_what_cannot_be_forked_in_a_pool() -> None:
    async def main() -> None:
        async with make_pool(3) as pool, make_pool(3) as other, pool.env() as env:
            with pytest.raises(ResetNeeded, match="no episode yet"):
                await pool.fork(env, 1)
            await begun(env)
            for n in (0, True, 1.5):
                with pytest.raises(ConfigError, match="n="):
                    await pool.fork(env, n)  # type: ignore[arg-type]
            with pytest.raises(ConfigError, match="of another pool"):
                await other.fork(env, 1)
            while not (await env.astep("<answer>no idea</answer>"))[2]:
                pass
            with pytest.raises(ResetNeeded, match="is over"):
                await pool.fork(env, 1)
            assert free(pool) == 2
        with pytest.raises(ClosedEnvironmentError):
            await pool.fork(env, 1)

    run(main())


def test_M14_a_fork_is_refused_while_a_call_is_under_way_and_the_other_way_round() -> None:
    async def main() -> None:
        async with make_pool(4) as pool, pool.env() as env:
            await begun(env)
            forking = asyncio.ensure_future(pool.fork(env, 1))
            await asyncio.sleep(0)
            for call in (env.astep(CREATE), pool.fork(env, 1)):
                with pytest.raises(AlreadyPendingCallError):
                    await call
            await (await forking).aclose()
            stepping = asyncio.ensure_future(env.astep(CREATE))
            await asyncio.sleep(0)
            with pytest.raises(AlreadyPendingCallError):
                await pool.fork(env, 1)
            await stepping
            assert (free(pool), rows(pool)) == (3, 1)

    run(main())


def test_M14_a_fork_after_a_cancelled_step_waits_for_it() -> None:
    async def main() -> None:
        async with make_pool(4) as pool, pool.env() as env:
            await begun(env)
            embedder = gated(pool)
            stepping = asyncio.ensure_future(env.astep("<create>slow</create>"))
            await until(lambda: embedder.inside > 0)
            stepping.cancel()
            forking = asyncio.ensure_future(pool.fork(env, 1))
            await ticks()
            assert not forking.done()
            embedder.gate.set()
            async with await forking as (fork,):
                assert fork.episode.state.steps == env.episode.state.steps == 2
                assert await future(fork) == await future(env)

    run(main())


class Gate(FlakyStore):
    """Copies nothing before a test says so; then perhaps fails."""

    def __init__(self, store: Any) -> None:
        super().__init__(store)
        self.entered = False
        self.open = False

    def copy_episode(self, *args: Any) -> None:
        self.entered = True
        while not self.open:
            pass
        if self.failing == "copy_episode":
            raise StoreError("copy fails on purpose")
        self._store.copy_episode(*args)


def gate(pool: AtomMemPool) -> Gate:
    store = Gate(pool._backend.store)
    pool._backend.store = store  # type: ignore[assignment]
    return store


@pytest.mark.parametrize("failing", ["", "copy_episode"])
def test_M14_a_fork_that_is_cancelled_leaves_nothing_behind(failing: str) -> None:
    async def main() -> None:
        async with make_pool(4) as pool, pool.env() as env:
            await begun(env)
            store = gate(pool)
            forking = asyncio.ensure_future(pool.fork(env, 3))
            await until(lambda: store.entered)
            forking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await forking
            assert free(pool) == 0, "the places are in use until the copies are gone"
            store.failing, store.open = failing, True
            if failing:
                with pytest.raises(StoreError, match="on purpose"):
                    await env.settle()
            else:
                assert await env.settle() is None
            assert (free(pool), rows(pool)) == (3, 1)
            store.failing = ""
            async with await pool.fork(env, 3) as forks:
                assert len({await future(each) for each in (env, *forks)}) == 1

    run(main())


def test_M14_a_fork_that_is_cancelled_before_it_began_or_as_it_ends_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with make_pool(4) as pool, pool.env() as env:
            await begun(env)
            for turns in range(8):
                forking = asyncio.ensure_future(pool.fork(env, 3))
                await ticks(turns)
                forking.cancel()
                outcome = (await asyncio.gather(forking, return_exceptions=True))[0]
                if not isinstance(outcome, BaseException):
                    await outcome.aclose()
                await env.settle()
                await until_free(pool, 3)
                assert rows(pool) == 1
            # As it ends: the forks are made, and their caller has not gone on yet.
            forking = asyncio.ensure_future(pool.fork(env, 3))
            await asyncio.sleep(0)
            assert env._flight is not None
            env._flight.result.add_done_callback(lambda _: forking.cancel())
            with pytest.raises(asyncio.CancelledError):
                await forking
            await until_free(pool, 3)
            assert rows(pool) == 1
            await env.astep(CREATE)

    run(main())


async def until_free(pool: AtomMemPool, places: int) -> None:
    while free(pool) != places:
        await asyncio.sleep(0.001)


def test_M14_a_fork_that_fails_leaves_nothing_behind() -> None:
    async def main() -> None:
        async with make_pool(4) as pool, pool.env() as env:
            await begun(env)
            store = gate(pool)
            store.failing, store.open = "copy_episode", True
            with pytest.raises(StoreError, match="on purpose"):
                await pool.fork(env, 3)
            assert (free(pool), rows(pool)) == (3, 1)
            await env.astep(CREATE)

    run(main())


@pytest.mark.parametrize("who", ["environment", "pool"])
def test_M14_a_fork_whose_environment_or_pool_is_closed_under_it_leaves_nothing_behind(who: str) -> None:
    async def main() -> None:
        pool = make_pool(4)
        async with pool:
            async with pool.env() as env:
                await begun(env)
                store = gate(pool)
                forking = asyncio.ensure_future(pool.fork(env, 3))
                await until(lambda: store.entered)
                closing = asyncio.ensure_future(env.aclose() if who == "environment" else pool.aclose())
                await ticks()
                store.open = True
                with pytest.raises(ClosedEnvironmentError, match="before it was forked"):
                    await forking
                await closing
            if who == "environment":
                assert (free(pool), rows(pool)) == (4, 0)

    run(main())


def test_M14_a_pool_that_is_closed_gives_back_forks_that_nobody_did() -> None:
    async def main() -> None:
        pool = make_pool(4)
        async with pool:
            env = await pool.env().__aenter__()
            await begun(env)
            forks = await pool.fork(env, 2)
            await forks[0].astep(READ)
        assert not pool._taken
        with pytest.raises(ClosedEnvironmentError):
            await forks[1].astep(READ)

    run(main())


def test_M14_one_fork_is_a_context_of_its_own() -> None:
    async def main() -> None:
        async with make_pool(3) as pool, pool.env() as env:
            await begun(env)
            for fork in await pool.fork(env, 2):
                async with fork:
                    await fork.astep(READ)
            assert (free(pool), rows(pool)) == (2, 1)
            with pytest.raises(ClosedEnvironmentError):
                await fork.__aenter__()

    run(main())


@pytest.mark.parametrize("kind", ["numpy", "mirror", "milvus", "server"])
@pytest.mark.parametrize("seed", range(3))
def test_M14_forks_of_a_pool_equal_replays_whatever_is_cancelled_or_fails(
    kind: str,
    seed: int,
    milvus_url: str,  # noqa: F811
) -> None:
    """A tree of forks at random, with steps and forks that are cancelled or fail; each equals a plain replay."""
    stores = {"mirror": {"store": "milvus"}, "milvus": {"store": "milvus", "store_reads": "milvus"}}
    keywords: dict[str, Any] = {
        "chunk_tokens": 100,
        **stores.get(kind, {"store": milvus_url if kind == "server" else kind}),
    }
    rng = stable_rng("forks of a pool", seed)

    async def outcome_of(call: Any, ticks_before_cancelling: int | None) -> Any:
        """What a call gave; ``None`` if it failed, or was cancelled and never happened."""
        task = asyncio.ensure_future(call)
        if ticks_before_cancelling is not None:
            await asyncio.sleep(0.001 * ticks_before_cancelling)
            task.cancel()
        (outcome,) = await asyncio.gather(task, return_exceptions=True)
        assert not isinstance(outcome, Exception) or isinstance(outcome, StoreError)
        return None if isinstance(outcome, BaseException) else outcome

    async def main() -> list[tuple[list[str], str]]:
        async with make_pool(6, **keywords) as pool, pool.env() as root:
            store = FlakyStore(pool._backend.store)
            pool._backend.store = store  # type: ignore[assignment]
            await root.areset(seed=4)
            sample = sampler(pool.config, "forks", seed)
            histories: dict[PoolEnv, list[str]] = {root: []}
            for _ in range(16):
                env = list(histories)[rng.integers(len(histories))]
                cancelled = int(rng.integers(3)) if rng.random() < 0.4 else None
                store.failing = str(rng.choice(["write", "candidates", "load"])) if rng.random() < 0.3 else ""
                if free(pool) and rng.random() < 0.4:
                    forks = await outcome_of(pool.fork(env, int(rng.integers(1, free(pool) + 1))), cancelled)
                    for fork in forks or ():
                        histories[fork] = list(histories[env])
                    # What became of a fork whose caller was cancelled would else be told to the next call.
                    with contextlib.suppress(StoreError):
                        await env.settle()
                else:
                    action = sample().replace("<answer>", "<read>").replace("</answer>", "</read>")
                    result = await outcome_of(env.astep(action), cancelled)
                    try:
                        if result is not None or await env.settle() is not None:
                            histories[env].append(action)
                    except StoreError:
                        assert store.failing
                store.failing = ""
                if env is not root and rng.random() < 0.3:
                    await env.aclose()
                    del histories[env]
            told = [(history, repr(await env.astep(READ))) for env, history in histories.items()]
            await until_free(pool, 6 - len(histories))
            assert rows(pool) == len(histories)
            return told

    told = run(main())
    plain = make_plain(chunk_tokens=100)
    for history, last in told:
        plain.reset(seed=4)
        for action in history:
            plain.step(action)
        assert repr(plain.step(READ)) == last
    plain.close()
