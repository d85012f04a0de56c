"""What the pool coalesces and what it must not: bounds, no head-of-line blocking, errors only for the guilty."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.openai_server import OpenAIServer, Reply, Request, server  # noqa: F401  (a fixture)
from support.pools import GatedEmbedder, gated, make_plain, make_pool, run, ticks, until

from atommem_gym.envs import AtomMemPool, PoolEnv
from atommem_gym.errors import EmbedderError, StoreError
from atommem_gym.scoring import ScoreRequest


@contextlib.asynccontextmanager
async def opened(pool: AtomMemPool, number: int, **reset: Any) -> AsyncIterator[list[PoolEnv]]:
    """``number`` environments of a pool in episodes of their own; the pool is closed with them."""
    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(pool)
        envs = [await stack.enter_async_context(pool.env()) for _ in range(number)]
        await asyncio.gather(*(env.areset(options={"index": i, **reset}) for i, env in enumerate(envs)))
        yield envs


def steps(envs: Sequence[PoolEnv], actions: Sequence[str]) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(env.astep(action)) for env, action in zip(envs, actions, strict=True)]


def test_what_waits_while_a_thread_is_busy_becomes_one_batch() -> None:
    async def main() -> None:
        pool = make_pool(9, max_wait_ms=0)
        embedder = gated(pool)
        async with opened(pool, 9) as envs:
            first = steps(envs[:1], ["<create>slow</create>"])
            await until(lambda: embedder.inside == 1)
            others = steps(envs[1:], [f"<create>bees {i}</create><create>both</create>" for i in range(8)])
            await ticks()
            embedder.gate.set()
            await asyncio.gather(*first, *others)
            assert [len(call) for call in embedder.calls] == [1, 16]
            assert pool.stats.embedding.largest == 8
            assert pool.stats.steps == 9
            assert pool.stats.embedding.mean_batch == 4.5
            assert pool.stats.embedding.waited > 0

    run(main())


def test_a_batch_holds_max_batch_steps_at_most() -> None:
    async def main() -> None:
        pool = make_pool(10, max_batch=4)
        embedder = gated(pool)
        async with opened(pool, 10) as envs:
            await asyncio.gather(*steps(envs, [f"<create>bees {i}</create>" for i in range(10)]))
            assert [len(call) for call in embedder.calls] == [4, 4, 2]
            assert pool.stats.storing.largest <= 4

    run(main())


def test_a_full_batch_and_one_that_nobody_else_can_join_do_not_wait() -> None:
    async def main() -> None:
        pool = make_pool(4, max_batch=3, max_wait_ms=3_600_000)
        embedder = gated(pool)
        async with opened(pool, 4) as envs:
            await asyncio.gather(*steps(envs[:3], ["<create>bees</create>"] * 3))  # full
            await asyncio.gather(*steps(envs, ["<create>boats</create>"] * 4))  # full, and then all that are out
            assert [len(call) for call in embedder.calls] == [3, 3, 1]
            late = []
            for env in envs[:2]:  # one after the other: the second finds the first waiting, and two that are idle
                late += steps([env], ["<create>honey</create>"])
                await ticks()
            assert not any(step.done() for step in late)
            await asyncio.gather(*late, *steps(envs[2:3], ["<create>honey</create>"]))
            assert [len(call) for call in embedder.calls[3:]] == [3]

    run(main())


def test_whoever_comes_last_of_all_ends_the_waiting() -> None:
    async def main() -> None:
        pool = make_pool(4, max_wait_ms=3_600_000)
        async with opened(pool, 2) as envs:
            first = steps(envs[:1], ["<create>bees</create>"])
            await ticks()
            assert not first[0].done()
            await asyncio.gather(*first, *steps(envs[1:], ["<create>boats</create>"]))
            assert pool.stats.embedding.batches == 1

    run(main())


def test_a_step_waits_for_others_and_no_longer_than_max_wait() -> None:
    async def main() -> None:
        pool = make_pool(4, max_wait_ms=50)
        embedder = gated(pool)
        async with opened(pool, 4) as envs:
            first = steps(envs[:1], ["<create>bees</create>"])
            await ticks(50)
            second = steps(envs[1:2], ["<create>boats</create>"])
            await asyncio.gather(*first, *second)
            assert [len(call) for call in embedder.calls] == [2]

    run(main())


def test_a_slow_embedding_holds_up_nobody_who_needs_none() -> None:
    async def main() -> None:
        pool = make_pool(8, max_wait_ms=0, store="milvus", chunk_tokens=100_000)
        embedder = gated(pool)
        async with opened(pool, 4) as envs:
            await asyncio.gather(*steps(envs, ["<create>bees</create>"] * 4))
            slow = steps(envs[:1], ["<create>slow</create>"])
            await until(lambda: embedder.inside == 1)
            nothing, deleting, answering = steps(envs[1:], ["thinking", '<delete id="1"/>', "<answer>x</answer>"])
            assert (await nothing)[4]["entries"] == 1
            assert (await deleting)[4]["entries"] == 0
            assert (await answering)[2]
            async with pool.env() as another:
                await another.areset(options={"index": 9})
                assert (await another.astep("<scratchpad>x</scratchpad>"))[0]["scratchpad"] == "x"
            assert not slow[0].done()
            embedder.gate.set()
            await slow[0]

    run(main())


class GatedScorer:
    """Scores 0.5, and stops at answers that hold ``slow`` until the gate opens; fails at those that hold ``poison``."""

    name = "gated"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.calls: list[int] = []

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        self.calls.append(len(requests))
        if any("slow" in request.prediction for request in requests):
            assert self.gate.wait(60)
        if any("poison" in request.prediction for request in requests):
            return []
        return [0.5] * len(requests)


def test_a_slow_judge_holds_up_nobody_who_does_not_answer() -> None:
    async def main() -> None:
        scorer = GatedScorer()
        pool = make_pool(3, max_wait_ms=0, chunk_tokens=100_000, reward=scorer)
        async with opened(pool, 2) as envs:
            await asyncio.gather(*steps(envs, ["<create>bees</create>"] * 2))
            slow = steps(envs[:1], ["<create>boats</create><answer>slow</answer>"])
            await until(lambda: scorer.calls == [1])
            assert (await envs[1].astep("<create>boats</create><read>bees</read>"))[4]["entries"] == 2
            assert not slow[0].done()
            scorer.gate.set()
            assert (await slow[0])[1] == 0.5

    run(main())


def test_an_embedding_server_is_asked_by_several_batches_at_a_time(server: OpenAIServer) -> None:  # noqa: F811
    gate = threading.Event()

    def answer(request: Request, number: int) -> Reply:
        if request.path.endswith("/models"):
            return Reply({"data": [{"id": "toy"}]})
        texts = request.body["input"]
        if any("slow" in text for text in texts):
            gate.wait(60)
        return Reply({"data": [{"index": i, "embedding": [1.0, len(text)]} for i, text in enumerate(texts)]})

    server.answer = answer

    async def main() -> None:
        pool = make_pool(2, max_wait_ms=0, embedder=server.url)
        async with opened(pool, 2) as envs:
            slow = steps(envs[:1], ["<create>slow</create>"])
            await until(lambda: server.most_at_once == 1 and any("slow" in str(r.body) for r in server.requests))
            assert (await envs[1].astep("<create>bees</create><read>bees</read>"))[0]["memories"][0]["text"] == "bees"
            assert not slow[0].done()
            gate.set()
            assert (await slow[0])[4]["entries"] == 1

    run(main())


async def batch_with_a_guilty_one(pool: AtomMemPool, guilty: int, action: str, error: type[Exception]) -> None:
    """Eight steps in one batch, of which one fails; everyone else must not notice, and the guilty one may go on."""
    plains = [make_plain(chunk_tokens=100_000) for _ in range(8)]
    for index, plain in enumerate(plains):
        plain.reset(options={"index": index})
    async with opened(pool, 8) as envs:
        for round_ in range(2):
            good = [f"<create>bees {round_} {i}</create><read>bees</read>" for i in range(8)]
            chosen = [action if i == guilty else good[i] for i in range(8)]
            results = await asyncio.gather(*steps(envs, chosen), return_exceptions=True)
            for i, (result, plain) in enumerate(zip(results, plains, strict=True)):
                if i == guilty:
                    assert isinstance(result, error), result
                    assert envs[i].episode.state.steps == round_
                    result = await envs[i].astep(good[i])
                assert repr(result) == repr(plain.step(good[i]))
        assert pool.stats.embedding.alone + pool.stats.storing.alone + pool.stats.scoring.alone == 16


@pytest.mark.parametrize("guilty", [0, 5])
def test_only_the_guilty_one_sees_an_embedders_error(guilty: int) -> None:
    pool = make_pool(8, chunk_tokens=100_000)
    gated(pool)
    run(batch_with_a_guilty_one(pool, guilty, "<create>poison</create>", EmbedderError))


class PoisonedStore:
    """A store that writes a batch and then fails, if one of its texts holds ``poison`` or it is told to fail."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.failing = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def write(self, writes: Any) -> None:
        self._store.write(writes)
        if self.failing or any("poison" in text for write in writes for text in write.texts):
            raise StoreError("poison on purpose")


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_only_the_guilty_one_sees_a_stores_error_and_no_row_of_it_is_found_later(store: str) -> None:
    pool = make_pool(8, chunk_tokens=100_000, store=store)
    pool._backend.store = PoisonedStore(pool._backend.store)  # type: ignore[assignment]
    run(batch_with_a_guilty_one(pool, 3, "<create>poison bees</create><create>bees poison</create>", StoreError))


def test_only_the_guilty_one_sees_a_scorers_error() -> None:
    async def main() -> None:
        scorer = GatedScorer()
        pool = make_pool(4, chunk_tokens=100_000, reward=scorer)
        async with opened(pool, 4) as envs:
            await asyncio.gather(*steps(envs, [""] * 4))
            actions = ["<answer>x</answer>", "<create>bees</create><answer>poison</answer>"] * 2
            results = await asyncio.gather(*steps(envs, actions), return_exceptions=True)
            assert [type(result).__name__ for result in results] == ["tuple", "ValueError"] * 2
            assert scorer.calls == [4, 1, 1, 1, 1]
            again = await envs[1].astep("<answer>x</answer>")
            assert (again[1], again[4]["entries"]) == (0.5, 0)

    run(main())


def test_a_reset_whose_store_fails_changes_nothing_and_can_be_repeated(tmp_path: Path) -> None:
    async def main() -> None:
        pool = make_pool(2, store=f"milvus://{tmp_path}/kept.db")
        store = PoisonedStore(pool._backend.store)
        pool._backend.store = store  # type: ignore[assignment]
        async with pool, pool.env() as env:
            plain = make_plain()
            for one in (await env.areset(seed=1), await env.astep("<create>bees</create>")):
                expected = plain.reset(seed=1) if len(one) == 2 else plain.step("<create>bees</create>")
                assert repr(one) == repr(expected)
            key, store.failing = env.memory_key, True
            with pytest.raises(StoreError):
                await env.areset()
            store.failing = False
            assert env.memory_key == key
            assert (await env.astep("<read>bees</read>"))[0]["memories"][0]["text"] == "bees"
            assert repr(await env.areset()) == repr(plain.reset())
            assert (await env.areset(options={"memory": key}))[1]["entries"] == 1
            store.failing = True
            with pytest.raises(StoreError, match="on purpose"):
                await env.areset(options={"memory": key})
            store.failing = False
            async with pool.env() as other:
                with pytest.raises(StoreError, match="in use by another environment"):
                    await other.areset(options={"memory": key})

    run(main())


@pytest.mark.parametrize("error", [StopIteration("empty"), asyncio.CancelledError(), GeneratorExit()], ids=repr)
def test_whatever_is_raised_in_a_thread_arrives_and_nobody_waits_for_ever(error: BaseException) -> None:
    """A future refuses a StopIteration, and a CancelledError would say that the caller was cancelled."""

    async def main() -> None:
        async with make_pool(2) as pool, opened(pool, 2) as envs:
            embedder = gated(pool)
            inner = embedder._inner

            def embed(texts: Sequence[str], kind: str) -> Any:
                if any("poison" in text for text in texts):
                    raise error
                return inner.embed(texts, kind)  # type: ignore[arg-type]

            embedder.embed = embed  # type: ignore[method-assign]
            steps = [env.astep(f"<create>{text}</create>") for env, text in zip(envs, ("poison", "bees"), strict=True)]
            failed, done = await asyncio.wait_for(asyncio.gather(*steps, return_exceptions=True), 20)
            assert isinstance(failed, RuntimeError | GeneratorExit)
            assert error in (failed, failed.__cause__)
            assert isinstance(done, tuple)
            assert await envs[0].settle() is None, "the call is over, it was not cancelled"
            assert (await envs[0].astep("<create>bees</create>"))[4]["entries"] == 1

    run(main())


def test_where_no_thread_can_be_started_the_call_fails_and_can_be_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    """As under a limit on processes; the executor keeps what it could not begin, and must not begin it later."""
    start = threading.Thread.start

    def refused(self: threading.Thread) -> None:
        if self.name.startswith("atommem-pool"):
            raise RuntimeError("can't start new thread")
        start(self)

    async def main() -> None:
        unexpected: list[Any] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, context: unexpected.append(context))
        async with make_pool(1) as pool, pool.env() as env:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", refused)
                with pytest.raises(RuntimeError, match="new thread"):
                    await asyncio.wait_for(env.areset(seed=1), 20)
            plain = make_plain()
            assert repr(await env.areset(seed=0)) == repr(plain.reset(seed=0))
            assert repr(await env.astep("<create>a</create>")) == repr(plain.step("<create>a</create>"))
            assert pool.stats.resets == 1
        assert unexpected == []

    run(main())


def test_the_gated_embedder_embeds_as_the_real_one_does() -> None:
    embedder = GatedEmbedder()
    real = make_plain()._backend.embedder
    assert real is not None
    assert (embedder.embed(["bees"], "query") == real.embed(["bees"], "query")).all()
