"""The async pool: equal to plain environments (SPEC M15), whatever runs beside them; places, misuse, close."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.error import AlreadyPendingCallError, ClosedEnvironmentError, ResetNeeded
from gymnasium.error import Error as GymnasiumError
from gymnasium.utils.env_checker import data_equivalence
from support.fixed_items import OneItem
from support.pools import ENV_ID, SMALL, gated, living_threads, make_plain, make_pool, run, sampler, ticks, until
from support.servers import MilvusServer, milvus_server  # noqa: F401  (a fixture)

from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.envs import AtomMemEnv, AtomMemPool, MemoryCost, PoolEnv
from atommem_gym.episode import Episode
from atommem_gym.errors import ConfigError, StepFailedError, StoreError
from atommem_gym.records.layout import stable_rng

WAITS_S = 60.0
"""Only so that a call that hangs fails its test."""


def plain_trajectory(env: AtomMemEnv, index: int, steps: int) -> list[Any]:
    action = sampler(env.config, index)
    seen: list[Any] = [env.reset(seed=index)]
    while len(seen) <= steps and not (len(seen) > 1 and (seen[-1][2] or seen[-1][3])):
        seen.append(env.step(action()))
    return seen


async def pool_trajectory(env: PoolEnv, index: int, steps: int) -> list[Any]:
    action, rng = sampler(env.config, index), stable_rng("pauses", index)
    seen: list[Any] = [await env.areset(seed=index)]
    while len(seen) <= steps and not (len(seen) > 1 and (seen[-1][2] or seen[-1][3])):
        await asyncio.sleep(float(rng.uniform(0, 0.003)))
        seen.append(await env.astep(action()))
    return seen


async def trajectories(pool: AtomMemPool, count: int, steps: int) -> list[list[Any]]:
    async def one(index: int) -> list[Any]:
        async with pool.env() as env:
            return await pool_trajectory(env, index, steps)

    async with pool:
        return await asyncio.gather(*(one(index) for index in range(count)))


@pytest.mark.parametrize(
    "keywords",
    [
        {},
        {"store": "milvus"},
        {"store": "milvus", "store_reads": "milvus"},
        {"store": "milvus://{tmp}/kept.db"},
        {"max_wait_ms": 0, "max_batch": 5},
    ],
    ids=str,
)
def test_M15_sixty_four_coroutines_equal_plain_environments(keywords: dict[str, Any], tmp_path: Path) -> None:
    if "store" in keywords:
        keywords = {**keywords, "store": keywords["store"].format(tmp=tmp_path)}
    plain = make_plain(questions_per_episode=2)
    pool = make_pool(64, questions_per_episode=2, **keywords)
    for index, found in enumerate(run(trajectories(pool, 64, 12))):
        assert repr(found) == repr(plain_trajectory(plain, index, 12)), f"episode {index}"
    assert pool.stats.embedding.mean_batch > 1


def test_M15_on_a_milvus_server(milvus_server: MilvusServer) -> None:  # noqa: F811
    plain = make_plain()
    for index, found in enumerate(run(trajectories(make_pool(8, store=milvus_server.url), 12, 6))):
        assert repr(found) == repr(plain_trajectory(plain, index, 6)), f"episode {index}"


def test_M15_released_semantics_with_a_standing_query() -> None:
    keywords = {"preset": "released", "questions_per_episode": 2}
    plain = make_plain(**keywords)
    for index, found in enumerate(run(trajectories(make_pool(6, **keywords), 12, 20))):
        assert repr(found) == repr(plain_trajectory(plain, index, 20)), f"episode {index}"


def test_real_records_and_an_agent_that_plays_them_to_the_end(shared_data: Path) -> None:
    keywords = {"source": str(shared_data / "hotpotqa.jsonl"), "split": "validation", "num_docs": 60}
    plain = gym.make("AtomMem-HotpotQA-v0", **keywords, store="numpy")

    async def episode(pool: AtomMemPool, index: int) -> tuple[float, float, int]:
        async with pool.env() as env:
            agent = make_agent("tidy")
            observation, info = await env.areset(options={"index": index})
            seed = stable_rng("play", agent.name, 0, index, 0).integers(2**31)
            agent.reset(env.episode, int(seed))
            over, reward = False, 0.0
            while not over:
                observation, reward, terminated, truncated, info = await env.astep(agent.act(observation))
                over = terminated or truncated
        metrics = info["episode_metrics"]
        return reward, metrics["evidence_recall"], metrics["peak_entries"]

    async def main() -> list[tuple[float, float, int]]:
        async with AtomMemPool("AtomMem-HotpotQA-v0", 6, store="milvus", **keywords) as pool:
            return await asyncio.gather(*(episode(pool, index) for index in range(12)))

    for index, found in enumerate(run(main())):
        record = play_episode(plain, make_agent("tidy"), index)
        assert found == (record.reward, record.evidence_recall, record.peak_entries)


def test_seeds_go_on_drawing_as_gymnasiums_do() -> None:
    async def main() -> list[str]:
        async with make_pool() as pool, pool.env() as env:
            first = (await env.areset(seed=5))[1]["item"]
            with pytest.raises(ConfigError, match="unknown reset option"):
                await env.areset(options={"indx": 3})
            with pytest.raises(IndexError):
                await env.areset(options={"index": -1})
            return [first, (await env.areset())[1]["item"], (await env.areset())[1]["item"]]

    plain = make_plain()
    assert run(main()) == [plain.reset(seed=5)[1]["item"], plain.reset()[1]["item"], plain.reset()[1]["item"]]


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"seed": -1}, GymnasiumError),
        ({"seed": 1.5}, GymnasiumError),
        ({"seed": "0"}, GymnasiumError),
        ({"options": 3}, TypeError),
    ],
)
def test_a_reset_with_an_invalid_seed_raises_and_leaves_the_environment_usable(
    bad: dict[str, Any], error: type[Exception]
) -> None:
    async def main() -> None:
        async with make_pool(capacity=1) as pool:
            async with pool.env() as env:
                with pytest.raises(error):
                    await env.areset(**bad)
                first = await asyncio.wait_for(env.areset(seed=0), WAITS_S)
                await env.astep("<create>a</create>")
                with pytest.raises(error):
                    await env.areset(**bad)
                # The episode goes on, and the next reset is as if nothing had been asked.
                await asyncio.wait_for(env.astep(""), WAITS_S)
                assert data_equivalence(await asyncio.wait_for(env.areset(seed=0), WAITS_S), first)
                with pytest.raises(error):
                    await env.areset(**bad)
                await asyncio.wait_for(env.aclose(), WAITS_S)
            # The place is free again.
            async with pool.env() as env:
                assert data_equivalence(await asyncio.wait_for(env.areset(seed=0), WAITS_S), first)
            pool.async_reset([0], seed=-1)
            with pytest.raises(StepFailedError):
                await asyncio.wait_for(pool.recv(), WAITS_S)
            await asyncio.wait_for(pool.aclose(), WAITS_S)

    run(main())


def test_shaping_adds_what_the_wrapper_adds() -> None:
    wrapped = MemoryCost(gym.make(ENV_ID, **SMALL), per_entry=0.01, per_operation=0.1)
    wrapped.reset(seed=1)
    actions = ["<create>bees</create><create>boats</create>", "<delete id='1'/>", "<read>bees</read>"]

    async def main() -> list[float]:
        shaping = {"MemoryCost": {"per_entry": 0.01, "per_operation": 0.1}}
        async with make_pool(shaping=shaping) as pool, pool.env() as env:
            await env.areset(seed=1)
            return [(await env.astep(action))[1] for action in actions]

    assert run(main()) == [wrapped.step(action)[1] for action in actions]


def test_items_of_ones_own() -> None:
    items = make_plain().items

    async def main() -> str:
        async with AtomMemPool(None, 2, items=items, store="numpy", chunk_tokens=800) as pool, pool.env() as env:
            assert (pool.items, env.num_items, env.config) == (items, items.num_items, pool.config)
            observation, _ = await env.areset(options={"index": 3})
            assert env.item.index == 3
            return str(observation["chunk"])

    assert run(main()) == make_plain().reset(options={"index": 3})[0]["chunk"]


def test_a_place_is_waited_for_first_come_first_served() -> None:
    served: list[int] = []

    async def visit(pool: AtomMemPool, number: int, leave: asyncio.Event) -> None:
        async with pool.env():
            served.append(number)
            assert len(pool._taken) <= 2
            await leave.wait()

    async def main() -> None:
        async with make_pool(2) as pool:
            leave = asyncio.Event()
            visits = []
            for number in range(8):
                visits.append(asyncio.create_task(visit(pool, number, leave)))
                await ticks(3)
            assert served == [0, 1], "the others wait"
            visits[3].cancel()
            await ticks()
            leave.set()
            await asyncio.gather(*visits, return_exceptions=True)

    run(main())
    assert served == [0, 1, 2, 4, 5, 6, 7]


def test_a_place_given_to_someone_who_is_cancelled_at_that_moment_is_passed_on() -> None:
    async def main() -> None:
        async with make_pool(1) as pool:
            first = pool.env()
            await first.__aenter__()
            second = asyncio.create_task(pool.env().__aenter__())
            third = asyncio.create_task(pool.env().__aenter__())
            await ticks()
            pool._places.give()
            second.cancel()
            await asyncio.gather(second, return_exceptions=True)
            assert second.cancelled()
            assert isinstance(await third, PoolEnv)

    run(main())


def test_misuse_says_what_is_wrong() -> None:
    async def main() -> PoolEnv:
        async with make_pool() as pool:
            async with pool.env() as env:
                with pytest.raises(ResetNeeded):
                    await env.astep("")
                await env.areset(seed=0)
                with pytest.raises(TypeError, match="an action is a str"):
                    await env.astep(3)  # type: ignore[arg-type]
                one = asyncio.create_task(env.astep("<create>bees</create>"))
                await ticks(1)
                with pytest.raises(AlreadyPendingCallError, match="environment of its own"):
                    await env.astep("<create>boats</create>")
                with pytest.raises(AlreadyPendingCallError):
                    await env.areset()
                assert (await one)[4]["entries"] == 1
            with pytest.raises(ClosedEnvironmentError, match="was left"):
                await env.astep("")
            lease = pool.env()
            async with lease as other:
                with pytest.raises(RuntimeError, match="entered before"):
                    await lease.__aenter__()
                await other.areset(seed=0)
        with pytest.raises(ClosedEnvironmentError, match="pool is closed"):
            await other.areset()
        with pytest.raises(ClosedEnvironmentError, match="pool is closed"):
            async with pool.env():
                pass
        with pytest.raises(ClosedEnvironmentError, match="pool is closed"):
            async with pool:
                pass
        return env

    run(main())


def test_a_pool_belongs_to_one_event_loop() -> None:
    pool = make_pool()

    async def use() -> None:
        async with pool.env() as env:
            await env.areset(seed=0)

    run(use())
    with pytest.raises(RuntimeError, match="another event loop"):
        run(use())


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"capacity": 0}, "capacity=0"),
        ({"max_batch": True}, "max_batch=True"),
        ({"max_wait_ms": -1}, "max_wait_ms=-1"),
        ({"max_wait_ms": float("nan")}, "max_wait_ms=nan"),
        ({"topk": 3}, "did you mean 'top_k'"),
        ({"shaping": {"MemoryCst": {}}}, "did you mean 'MemoryCost'"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_when_the_pool_is_made(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pool(**keywords)


def test_only_environments_of_this_family() -> None:
    with pytest.raises(ConfigError, match="CartPole-v1' is not an AtomMem environment"):
        AtomMemPool("CartPole-v1")
    with pytest.raises(gym.error.NameNotFound):
        AtomMemPool("AtomMem-Hotpot-v0")
    with pytest.raises(ConfigError, match="env_id=None needs items"):
        AtomMemPool(None)


def test_close_waits_for_what_is_under_way_and_sends_the_others_away() -> None:
    async def main() -> None:
        pool = make_pool(2, max_wait_ms=0)
        embedder = gated(pool)
        async with pool.env() as env, pool.env() as other:
            await env.areset(seed=0)
            await other.areset(seed=0)
            step = asyncio.create_task(env.astep("<create>slow</create>"))
            await until(lambda: embedder.inside == 1)
            queued = asyncio.create_task(other.astep("<create>never begun</create>"))
            waiting = asyncio.create_task(pool.env().__aenter__())
            await ticks()
            closing = asyncio.create_task(pool.aclose())
            again = asyncio.create_task(pool.aclose())
            await ticks()
            assert not closing.done()
            closing.cancel()
            embedder.gate.set()
            assert (await step)[4]["entries"] == 1
            for gone in (queued, waiting):
                with pytest.raises(ClosedEnvironmentError):
                    await gone
            await again
            await pool.aclose()
            assert living_threads(pool) == 0
            assert len(embedder.calls) == 1

    run(main())


def test_a_thousand_episodes_leave_nothing_behind() -> None:
    async def main() -> None:
        items = OneItem(make_plain().items.item(0))
        async with make_pool(32, chunk_tokens=100_000, items=items) as pool:
            store: Any = pool._backend.store
            alive = []

            async def episode(index: int) -> None:
                async with pool.env() as env:
                    await env.areset(options={"index": 0})
                    await env.astep("<create>bees</create><scratchpad>x</scratchpad>")
                    if index % 3:  # others are left while they run
                        await env.astep("<answer>x</answer>")

            for batch in range(5):
                await asyncio.gather(*(episode(i) for i in range(200 * batch, 200 * batch + 200)))
                gc.collect()
                alive.append(sum(isinstance(thing, (Episode, PoolEnv)) for thing in gc.get_objects()))
            assert alive[-1] <= alive[0]
            assert store.episodes() == []
            assert store._mirror.episodes() == []
            assert not pool._taken
            assert pool.stats.resets == 1000
            assert len(asyncio.all_tasks()) == 2, "this one, and the guard of `run`"

    run(main())


def test_M13_a_kept_memory_goes_on_in_one_environment_only(tmp_path: Path) -> None:
    async def main() -> None:
        async with make_pool(4, store=f"milvus://{tmp_path}/kept.db", chunk_tokens=100_000) as pool:
            async with pool.env() as env:
                await env.areset(seed=0)
                await env.astep("<create>bees</create>")
                key = env.memory_key
                assert (await env.areset(options={"memory": key}))[1]["entries"] == 1, "its own, while it runs"
                async with pool.env() as other:
                    with pytest.raises(StoreError, match="in use by another environment"):
                        await other.areset(options={"memory": key})
                await env.astep("")
                assert (await env.astep("<answer>x</answer>"))[2]
            async with pool.env() as one, pool.env() as two:
                calls = (env.areset(options={"memory": key}) for env in (one, two))
                found = await asyncio.gather(*calls, return_exceptions=True)
                assert sum(isinstance(result, StoreError) for result in found) == 1
            async with pool.env() as env:
                assert (await env.areset(options={"memory": key}))[1]["entries"] == 1

    run(main())


def test_M13_two_pools_cannot_go_on_with_one_kept_memory(tmp_path: Path) -> None:
    """Also not if both ask at the same time, or spell the path in two ways."""
    (tmp_path / "to").mkdir()
    options: dict[str, Any] = {}

    async def main() -> None:
        one = make_pool(1, store=f"milvus://{tmp_path}/kept.db")
        two = make_pool(1, store=f"milvus://{tmp_path}/to/../kept.db")
        async with one, two:
            async with one.env() as env:
                await env.areset(seed=0)
                options["memory"] = env.memory_key
            for _ in range(5):
                async with one.env() as a, two.env() as b:
                    both = (a.areset(options=options), b.areset(options=options))
                    refused = [
                        isinstance(each, StoreError) for each in await asyncio.gather(*both, return_exceptions=True)
                    ]
                    assert sorted(refused) == [False, True]
            # What a reset that failed was to go on with is free again.
            async with one.env() as a, two.env() as b:
                with pytest.raises(StoreError, match="no memory 'unknown'"):
                    await a.areset(options={"memory": "unknown"})
                with pytest.raises(StoreError, match="no memory 'unknown'"):
                    await b.areset(options={"memory": "unknown"})

    run(main())


def test_M13_a_failed_reset_over_its_own_memory_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(writes: Any) -> None:
        raise StoreError("no space")

    async def main() -> None:
        async with make_pool(2, store=f"milvus://{tmp_path}/kept.db") as pool, pool.env() as env, pool.env() as other:
            await env.areset(seed=0)
            await env.astep("<create>bees</create>")
            mine = {"memory": env.memory_key}
            with monkeypatch.context() as patch:
                patch.setattr(pool._backend.store, "write", refused)
                with pytest.raises(StoreError, match="no space"):
                    await env.areset(options=mine)
            with pytest.raises(StoreError, match="in use by another environment"):
                await other.areset(options=mine)
            assert (await env.astep("<create>boats</create>"))[4]["entries"] == 2
            assert (await env.areset(options=mine))[1]["entries"] == 2

    run(main())


def test_a_pool_that_is_never_closed_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import asyncio, gc, os, tempfile, threading, time\nimport atommem_gym\n"
        "from atommem_gym.envs import AtomMemPool\n"
        "async def main(stepping):\n"
        f"    pool = AtomMemPool({ENV_ID!r}, 4, **{ {**SMALL, 'store': 'milvus'}!r})\n"
        "    env = await pool.env().__aenter__()\n"
        "    await env.areset(seed=0)\n"
        "    await env.astep('<create>bees</create>')\n"
        "    if stepping:\n"
        "        asyncio.create_task(env.astep('<create>boats</create>'))\n"
        "        await asyncio.sleep(0)\n"
        "def left():\n"
        "    gc.collect()\n"
        "    folders = [name for name in os.listdir(tempfile.gettempdir()) if name.startswith('atommem-gym-')]\n"
        "    return folders + [one.name for one in threading.enumerate() if one.name.startswith('atommem-pool')]\n"
        "for stepping in (False, True):\n"
        "    asyncio.run(main(stepping))\n"
        "    for _ in range(1000):\n"  # a thread that has handed over its result needs a moment to let go of it
        "        if not left(): break\n"
        "        time.sleep(0.01)\n"
        "    assert not left(), left()\n"
    )
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=environ)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_the_examples_of_the_documentation_run() -> None:
    text = (Path(__file__).resolve().parents[3] / "docs" / "async_pool.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/async_pool.md", "exec"), names)
    assert len(names["rewards"]) == 64
