"""Local models through transformers, with a tiny random Qwen3: batches, seeds, limits, and whole episodes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from support.tiny_model import CONTEXT, one_thread, save_tiny_model, tiny_model

from atommem_gym.agents.players.batching import Batcher
from atommem_gym.agents.players.language_model import Completion, Sampling, load_model
from atommem_gym.agents.players.player import make_player, player_keywords
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.agents.rollout import rollout
from atommem_gym.envs.pool.pool import AtomMemPool
from atommem_gym.errors import ConfigError, ContextLengthError, LanguageModelError

__all__ = ["one_thread", "tiny_model"]

pytestmark = pytest.mark.usefixtures("one_thread")


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def complete_all(folder: Path, prompts: Sequence[str], samplings: Sequence[Sampling], **options: Any) -> list[Any]:
    """Completions or exceptions for all prompts, asked for at once; all samplings alike if there is one."""
    model = load_model(str(folder), **options)
    samplings = list(samplings) * (len(prompts) if len(samplings) == 1 else 1)

    async def run() -> list[Any]:
        calls = (model.complete(user(text), sampling) for text, sampling in zip(prompts, samplings, strict=True))
        found = await asyncio.gather(*calls, return_exceptions=True)
        await model.aclose()
        return list(found)

    return asyncio.run(run())


def test_calls_share_batches_of_mixed_lengths_and_settings(tiny_model: Path) -> None:
    prompts = ["word " * n for n in (1, 30, 4, 12)]
    samplings = [
        Sampling(max_tokens=3),
        Sampling(temperature=1.0, seed=1, max_tokens=9),
        Sampling(temperature=0.5, top_p=0.9, top_k=5, seed=2, max_tokens=6),
        Sampling(max_tokens=5),
    ]
    model = load_model(str(tiny_model), max_wait_ms=2000)

    async def run() -> list[Completion]:
        calls = (model.complete(user(text), sampling) for text, sampling in zip(prompts, samplings, strict=True))
        return list(await asyncio.gather(*calls))

    model._batcher._max_batch = 4  # type: ignore[attr-defined]
    completions = asyncio.run(run())
    assert model._batcher.batches == 1  # type: ignore[attr-defined]
    for completion, sampling in zip(completions, samplings, strict=True):
        assert completion.completion_tokens <= sampling.max_tokens
        assert completion.finish_reason == "length" or completion.completion_tokens < sampling.max_tokens
    alone = [complete_all(tiny_model, [text], [sampling])[0] for text, sampling in zip(prompts, samplings, strict=True)]
    assert [c.prompt_tokens for c in completions] == [c.prompt_tokens for c in alone]
    # In float32 the padded batch draws what each prompt draws alone.
    assert [c.text for c in completions] == [c.text for c in alone]


def test_a_seed_reproduces_and_another_does_not(tiny_model: Path) -> None:
    def draw(seed: int | None) -> str:
        text: str = complete_all(tiny_model, ["Hello"], [Sampling(temperature=1.0, max_tokens=20, seed=seed)])[0].text
        return text

    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


def test_top_k_of_one_is_greedy(tiny_model: Path) -> None:
    greedy, one, nucleus = complete_all(
        tiny_model,
        ["Hello"] * 3,
        [
            Sampling(max_tokens=12),
            Sampling(temperature=1.0, top_k=1, seed=5, max_tokens=12),
            Sampling(temperature=1.0, top_p=1e-6, seed=5, max_tokens=12),
        ],
    )
    assert greedy.text == one.text == nucleus.text


def test_draws_follow_the_softmax() -> None:
    torch = pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[llm]'")
    from atommem_gym.agents.players.sampling import RowSampler

    probabilities = torch.tensor([0.5, 0.3, 0.15, 0.05])
    draws = 4000
    samplings = [Sampling(temperature=1.0), Sampling(temperature=0.5), Sampling(temperature=1.0, top_k=2)]
    samplings.append(Sampling(temperature=1.0, top_p=0.6))
    sampler = RowSampler(samplings, [1, 2, 3, 4], "cpu")
    counts = torch.zeros(4, 4)
    for _ in range(draws):
        chosen = sampler(None, probabilities.log().repeat(4, 1)).argmax(dim=-1)
        counts[torch.arange(4), chosen] += 1
    squared = probabilities**2 / (probabilities**2).sum()
    pair = torch.tensor([0.625, 0.375, 0.0, 0.0])
    expected = torch.stack([probabilities, squared, pair, pair])
    assert torch.all((counts / draws - expected).abs() < 0.03)
    assert counts[2:, 2:].sum() == 0


def test_a_stop_string_ends_its_row_and_stays_in_the_text(tiny_model: Path) -> None:
    free = complete_all(tiny_model, ["Hello"], [Sampling(temperature=1.0, seed=3, max_tokens=30)])[0]
    middle = free.text[len(free.text) // 2]
    stopped = complete_all(tiny_model, ["Hello"], [Sampling(temperature=1.0, seed=3, max_tokens=30, stop=(middle,))])[0]
    assert stopped.text == free.text[: free.text.index(middle) + 1]
    assert stopped.finish_reason == "stop"
    assert stopped.completion_tokens < free.completion_tokens


def test_a_prompt_longer_than_the_context_raises_alone(tiny_model: Path) -> None:
    good, bad = complete_all(tiny_model, ["short", "é" * CONTEXT], [Sampling(max_tokens=2)])
    assert good.completion_tokens == 2
    assert isinstance(bad, ContextLengthError)
    assert bad.limit == CONTEXT
    assert bad.prompt_tokens is not None
    assert bad.prompt_tokens > CONTEXT


def test_a_reply_ends_where_the_context_ends(tmp_path: Path) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'atommem-gym[llm]'")
    folder = save_tiny_model(tmp_path / "short", context=64)
    short = complete_all(folder, ["Hello"], [Sampling(temperature=1.0, seed=1, max_tokens=500)])[0]
    assert short.prompt_tokens + short.completion_tokens <= 64
    assert short.finish_reason == "length" or short.completion_tokens < 500


def test_a_template_that_opens_think_gives_it_back(tiny_model: Path) -> None:
    options = {"chat_template_kwargs": {"thinking": True}}
    with_think, without = (
        complete_all(tiny_model, ["Hello"], [Sampling(max_tokens=2)], **extra)[0] for extra in (options, {})
    )
    assert with_think.text.startswith("<think>\n")
    assert not without.text.startswith("<think>")


def test_out_of_memory_halves_the_batch_and_then_names_the_remedy(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = load_model(str(tiny_model), max_wait_ms=2000, max_batch=4)
    sizes: list[int] = []
    real = model._one_batch  # type: ignore[attr-defined]

    def scarce(prompts: Any) -> Any:
        sizes.append(len(prompts))
        if len(prompts) > 1 or len(prompts[0].ids) > 100:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 TB")
        return real(prompts)

    monkeypatch.setattr(model, "_one_batch", scarce)

    async def run() -> list[Any]:
        texts = ["a", "b", "c", "word " * 200]
        calls = (model.complete(user(text), Sampling(max_tokens=2)) for text in texts)
        return list(await asyncio.gather(*calls, return_exceptions=True))

    *good, bad = asyncio.run(run())
    assert sizes == [4, 2, 1, 1, 2, 1, 1]
    assert [completion.completion_tokens for completion in good] == [2, 2, 2]
    assert isinstance(bad, LanguageModelError)
    assert "bfloat16" in str(bad)


def test_a_cancelled_call_leaves_the_batch_to_the_others(tiny_model: Path) -> None:
    model = load_model(str(tiny_model), max_wait_ms=2000, max_batch=2)

    async def run() -> Completion:
        lost = asyncio.create_task(model.complete(user("a"), Sampling(temperature=1.0, seed=1, max_tokens=400)))
        kept = asyncio.create_task(model.complete(user("b"), Sampling(max_tokens=3)))
        await asyncio.sleep(0.05)
        lost.cancel()
        with pytest.raises(asyncio.CancelledError):
            await lost
        completion = await kept
        await model.aclose()
        return completion

    assert asyncio.run(run()).completion_tokens <= 3


def test_a_closed_model_and_a_missing_one_say_so(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(str(tiny_model))

    async def run() -> None:
        await model.aclose()
        await model.aclose()
        await model.complete(user("a"), Sampling())

    with pytest.raises(LanguageModelError, match="closed"):
        asyncio.run(run())
    with pytest.raises(ConfigError, match="cannot be loaded"):
        load_model(str(tmp_path))
    with pytest.raises(ConfigError, match="max_batch=0"):
        load_model(str(tiny_model), max_batch=0)
    with pytest.raises(ConfigError, match="dtype='int3'"):
        load_model(str(tiny_model), dtype="int3")


def test_the_batcher_takes_what_waits_fails_a_batch_whole_and_ends_its_thread() -> None:
    gate, seen = threading.Event(), []

    def run(jobs: Sequence[int]) -> list[int]:
        seen.append(list(jobs))
        gate.wait(10)
        if 13 in jobs:
            raise ValueError("unlucky")
        return [job * 2 for job in jobs]

    batcher: Batcher[int, int] = Batcher(run, max_batch=3, max_wait=0.0)
    first = batcher.submit(0)
    while not seen:
        pass
    rest = [batcher.submit(job) for job in (1, 2, 3, 13, 4)]
    withdrawn = rest[1].cancel()
    gate.set()
    assert first.result(10) == 0
    assert withdrawn
    assert [rest[i].result(10) for i in (0, 2)] == [2, 6]
    for i in (3, 4):
        with pytest.raises(ValueError, match="unlucky"):
            rest[i].result(10)
    assert [len(jobs) for jobs in seen] == [1, 2, 2]
    batcher.close()
    assert not [thread for thread in threading.enumerate() if thread.name == "language model"]
    with pytest.raises(LanguageModelError, match="closed"):
        batcher.submit(1)


@pytest.mark.parametrize("name", [name for name in ROLES if name != "mem0"])
def test_whole_episodes_through_the_pool(tiny_model: Path, name: str) -> None:
    """What continuous integration runs in place of a real model: every player, several episodes under way."""
    model = load_model(str(tiny_model), max_batch=4)
    make = make_player(name, model, max_tokens=12, temperature=1.0)
    keywords = {"num_docs": 8, "chunk_tokens": 300, "store": "numpy", "max_steps": 5, **player_keywords(name)}

    async def run() -> list[Any]:
        async with AtomMemPool("AtomMem-Synthetic-v0", 3, **keywords) as pool:

            async def episode(index: int) -> Any:
                async with pool.env() as env:
                    return await rollout(env, make(), index)

            traces = await asyncio.gather(*(episode(index) for index in range(3)))
        await model.aclose()
        return list(traces)

    for trace in asyncio.run(run()):
        calls = [call for step in trace.steps for call in step.completions]
        assert calls
        assert all(call.completion_tokens for call in calls)
        assert trace.steps[-1].terminated or trace.steps[-1].truncated
        assert trace.agent.name == name
