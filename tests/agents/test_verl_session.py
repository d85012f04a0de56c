"""Training sessions in tokens, without veRL: what was sampled is trained, the reward is the sum of steps."""

from __future__ import annotations

import asyncio
import gc
import json
import math
import weakref
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.pools import ENV_ID, SMALL, run

from atommem_gym.agents.learn.training_numbers import SessionSteps
from atommem_gym.agents.session import TOTALS, OverlongPrompt, Session, play_session
from atommem_gym.agents.shared_pools import close_pools, shared_pool
from atommem_gym.agents.token_policy import Generated, TokenLimits, TokenPolicy
from atommem_gym.cli import FAILED, main
from atommem_gym.envs import AtomMemPool
from atommem_gym.errors import ConfigError, ContextLengthError, LanguageModelError
from atommem_gym.records.record import Items
from atommem_gym.records.verl_rows import SCHEMA, ItemReference, item_hash, references
from atommem_gym.registration import configure, load_items, task_of

WIDE = TokenLimits(prompt=100_000, response=500)


def encode(text: str) -> list[int]:
    """Token ids that stand for bytes; 1,000 is a special token."""
    return [*text.encode(), 1000]


async def encode_messages(messages: list[dict[str, str]]) -> list[int]:
    return encode("\n".join(message["content"] for message in messages))


async def decode(ids: list[int]) -> str:
    return bytes(one for one in ids if one < 256).decode()


def saying(*texts: str) -> Callable[[list[int]], Awaitable[Generated]]:
    """A policy that says these texts, the last one again and again; it remembers the prompts."""
    prompts: list[list[int]] = []

    async def generate(prompt_ids: list[int]) -> Generated:
        prompts.append(prompt_ids)
        ids = encode(texts[min(len(prompts), len(texts)) - 1])
        return Generated(ids, "completed", [-0.5] * len(ids), {"global_steps": 7})

    generate.prompts = prompts  # type: ignore[attr-defined]
    return generate


def items_of(**keywords: Any) -> Items:
    task = task_of(ENV_ID)
    assert task is not None
    return load_items(task.name, configure(task.name, {**SMALL, **keywords}))


def reference(index: int = 0, **keywords: Any) -> ItemReference:
    return next(references(ENV_ID, {**SMALL, **keywords}, items_of(**keywords), [index]))[0]


async def session(
    policy: Callable[[list[int]], Awaitable[Generated]],
    *,
    shaping: dict[str, Any] | None = None,
    limits: TokenLimits = WIDE,
    overlong_prompt: OverlongPrompt = "shorten",
    shuffle_seed: int = 0,
    row: ItemReference | None = None,
    **keywords: Any,
) -> Session:
    shared = await shared_pool(ENV_ID, {**SMALL, **keywords}, shaping=shaping)
    try:
        async with shared.pool.env() as env:
            return await play_session(
                env,
                row or reference(**keywords),
                TokenPolicy(encode_messages, decode, policy, limits),
                shuffle_seed=shuffle_seed,
                prompt=shared.prompt,
                overlong_prompt=overlong_prompt,
            )
    finally:
        await close_pools()


def test_every_step_is_a_prompt_and_the_response_that_was_sampled() -> None:
    policy = saying("<create>a fact</create>")
    played = run(session(policy))
    assert len(played.steps) == played.totals["steps"] > 3
    assert [step.reply.prompt_ids for step in played.steps] == policy.prompts  # type: ignore[attr-defined]
    for step in played.steps:
        assert step.reply.token_ids == encode("<create>a fact</create>")
        assert step.reply.log_probs == [-0.5] * len(step.reply.token_ids)
        assert step.reply.extra == {"global_steps": 7}
    assert [step.facts["step"] for step in played.steps] == list(range(len(played.steps)))
    assert sum(step.facts["operations"]["create"] for step in played.steps) == played.totals["op_create"]


def test_shared_pools_of_an_event_loop_that_has_ended_are_given_up_by_the_next(tmp_path: Path) -> None:
    made: list[weakref.ref[AtomMemPool]] = []
    executors = []

    async def use(number: int) -> None:
        # A kept database is locked until its store is closed.
        shared = await shared_pool(ENV_ID, {**SMALL, "store": f"milvus://{tmp_path / 'kept'}", "top_k": 3 + number})
        async with shared.pool.env() as env:
            await env.areset(options={"index": 0})
        made.append(weakref.ref(shared.pool))
        executors.append(shared.pool._executor)

    for number in range(3):
        asyncio.run(use(number))
    asyncio.run(close_pools())
    gc.collect()
    assert [pool() for pool in made] == [None] * 3
    for executor in executors:
        with pytest.raises(RuntimeError, match="shutdown"):
            executor.submit(int)


def test_totals_have_the_same_keys_whatever_happens() -> None:
    for text in ("", "<answer>x</answer>", "<create>a</create><read>b</read>", "<create>"):
        played = run(session(saying(text)))
        assert tuple(played.totals) == TOTALS
        assert all(isinstance(value, float) for value in played.totals.values())
        assert played.totals["acc"] == played.totals["em"]


def test_finding_5_8_totals_tell_cache_hits_and_the_environments_time() -> None:
    def cached(*tokens: int | None) -> Callable[[list[int]], Awaitable[Generated]]:
        policy, told = saying("<create>a fact</create>"), iter(tokens)

        async def generate(prompt_ids: list[int]) -> Generated:
            await asyncio.sleep(0.01)
            said = await policy(prompt_ids)
            return replace(said, extra={"num_cached_tokens": next(told, 7)})

        return generate

    played = run(session(cached(16, 0)))
    assert played.totals["cached_tokens"] == 16 + 7 * (len(played.steps) - 2)
    assert math.isnan(run(session(cached(16, None))).totals["cached_tokens"])
    assert math.isnan(run(session(saying(""))).totals["cached_tokens"])
    waited = 0.01 * len(played.steps)
    assert played.totals["env_s"] > sum(step.env_s for step in played.steps) > 0  # with the reset
    assert played.totals["session_s"] >= played.totals["env_s"] + waited


def test_R4_memory_cost_changes_the_reward_that_the_trainer_sees() -> None:
    policy = "<create>a fact</create>"
    plain = run(session(saying(policy)))
    shaped = run(session(saying(policy), shaping={"MemoryCost": {"per_operation": 0.125}}))
    creates = plain.totals["op_create"]
    assert plain.reward == 0.0 == plain.totals["shaping"]
    assert shaped.reward == pytest.approx(-0.125 * creates)
    assert shaped.totals["shaping"] == pytest.approx(shaped.reward)
    assert shaped.totals["env_reward"] == plain.totals["env_reward"]


def test_right_answers_are_worth_what_R1_says() -> None:
    row = reference()
    gold = items_of().item(row.index).questions[0].answer
    chunks = sum(step.facts["phase"] == 0 for step in run(session(saying(""), row=row)).steps)
    played = run(session(saying(*[""] * chunks, f"<answer>{gold}</answer>"), row=row))
    assert (played.reward, played.totals["acc"], played.totals["truncated"]) == (1.0, 1.0, 0.0)


def test_E8_members_of_a_group_meet_the_same_episode_and_epochs_differ() -> None:
    async def prompts(shuffle_seed: int) -> list[list[int]]:
        policy = saying("<create>a fact</create>")
        await session(policy, shuffle_seed=shuffle_seed)
        return policy.prompts  # type: ignore[attr-defined,no-any-return]

    assert run(prompts(0)) == run(prompts(0)) != run(prompts(1))


@pytest.mark.parametrize(("rows", "step", "layout"), [(16, 1, 6), (16, 4, 9), (0, 99, 5)])
def test_E8_layout_changes_with_the_training_step_and_never_in_validation(rows: int, step: int, layout: int) -> None:
    row = ItemReference(ENV_ID, {}, 0, "i", "h", shuffle_seed=5, rows_an_epoch=rows)
    assert row.layout(step) == layout


def test_a_prompt_over_the_limit_is_shortened_by_rule_and_counted() -> None:
    whole = run(session(saying("<create>a fact</create>")))
    limit = max(len(step.reply.prompt_ids) for step in whole.steps) - 200
    played = run(session(saying("<create>a fact</create>"), limits=TokenLimits(limit, 500)))
    assert played.totals["prompts_shortened"] == sum(len(step.reply.prompt_ids) > limit for step in whole.steps) > 0
    for step, uncut in zip(played.steps, whole.steps, strict=True):
        assert len(step.reply.prompt_ids) <= limit
        if not step.facts["prompt_shortened"]:
            assert step.reply.prompt_ids == uncut.reply.prompt_ids
        else:  # the chunk's end is gone, question and instructions are not
            text = bytes(step.reply.prompt_ids[:-1]).decode()
            assert "Question" in text
            assert text[:200] == bytes(uncut.reply.prompt_ids[:200]).decode()


def test_a_prompt_over_the_limit_is_an_error_where_that_is_wanted() -> None:
    with pytest.raises(ContextLengthError, match=r"max_prompt_length.*chunk_tokens"):
        run(session(saying(""), limits=TokenLimits(100, 500), overlong_prompt="error"))


def test_a_prompt_that_cannot_be_made_short_enough_is_an_error() -> None:
    with pytest.raises(ContextLengthError):
        run(session(saying(""), limits=TokenLimits(100, 500)))


def test_a_response_at_its_limit_is_acted_on_and_counted() -> None:
    text = "<create>a fact</create>"
    played = run(session(saying(text), limits=TokenLimits(100_000, len(encode(text)))))
    assert played.totals["responses_cut"] == played.totals["steps"] == played.totals["op_create"]


def test_no_token_and_missing_log_probabilities_are_errors() -> None:
    async def nothing(_: list[int]) -> Generated:
        return Generated([], "completed")

    async def too_few(_: list[int]) -> Generated:
        return Generated([1, 2], "completed", [-1.0])

    for policy, message in ((nothing, "no token"), (too_few, "1 log-probabilities for 2 tokens")):
        with pytest.raises(LanguageModelError, match=message):
            run(session(policy))


@pytest.mark.parametrize("odd", [None, math.nan, -math.inf, "-1.0"])
def test_a_log_probability_that_is_no_finite_number_is_an_error(odd: Any) -> None:
    async def sampled(_: list[int]) -> Generated:
        return Generated([1, 2], "completed", [-1.0, odd])

    with pytest.raises(LanguageModelError, match=r"as a log-probability; each must be a finite number"):
        run(session(sampled))


@pytest.mark.parametrize("reason", ["aborted", "abort", "error", "content_filter", "", None, "unheard of", 7])
@pytest.mark.parametrize("step", [0, 2])
def test_A9_a_sample_that_its_server_did_not_complete_fails_the_session(reason: Any, step: int) -> None:
    calls = 0

    async def ended(_: list[int]) -> Generated:
        nonlocal calls
        calls += 1
        return Generated(encode("<create>half a"), reason if calls > step else "completed")

    with pytest.raises(LanguageModelError, match=r"stop_reason=.*trained on"):
        run(session(ended))
    assert calls == step + 1


@pytest.mark.parametrize("reason", ["completed", "stop", "length"])
def test_A9_a_sample_counts_by_each_name_that_verl_has_for_a_stop_or_the_limit(reason: str) -> None:
    async def ended(_: list[int]) -> Generated:
        return Generated(encode("<create>a fact</create>"), reason)

    assert run(session(ended)).totals["op_create"] > 0


@pytest.mark.parametrize(("reason", "told"), [("completed", "length"), ("stop", "stop"), ("length", "length")])
def test_a_response_of_the_very_limit_is_cut_unless_the_engine_says_that_it_ended(reason: str, told: str) -> None:
    text = "<create>a fact</create>"

    async def ended(_: list[int]) -> Generated:
        return Generated(encode(text), reason)

    policy = TokenPolicy(encode_messages, decode, ended, TokenLimits(10_000, len(encode(text))))
    reply = asyncio.run(policy([{"role": "user", "content": "x"}]))  # type: ignore[arg-type]
    assert reply.stop_reason == told


def test_an_index_beyond_the_items_is_an_error_of_the_row() -> None:
    row = replace(reference(), index=10**7)
    with pytest.raises(ConfigError, match=r"item 10000000 .* write the data again"):
        run(session(saying(""), row=row))


@pytest.mark.parametrize(
    "wrong",
    [
        {"env_keywords": "[1]"},
        {"env_keywords": "null"},
        {"env_keywords": "{"},
        {"env_keywords": None},
        {"index": -1},
        {"index": "x"},
        {"index": math.inf},
        {"env_keywords": "[" * 10**6},
        {"env_keywords": '{"num_docs": 1e999}'},
        {"env_keywords": '{"num_docs": 9, "num_docs": 8}'},
        {"env_keywords": "x" * 10**6},
        {"index": True},
        {"index": 10**400},
        {"index": "x" * 10**6},
        {"shuffle_seed": -1},
        {"rows_an_epoch": None},
        {"env_id": None},
        {"item": {"x": 1}},
        {"item_hash": "x" * 10**6},
    ],
    ids=range(19),
)
def test_a_row_that_is_wrong_is_a_configuration_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="names no item") as caught:
        ItemReference.from_extra_info({**reference().as_extra_info(), **wrong})
    assert len(str(caught.value)) < 1_000
    with pytest.raises(ConfigError, match="names no item"):
        ItemReference.from_extra_info([1])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("env_id", "keywords"),
    [("Foo-v0", {}), ("no such id", {}), ("CartPole-v1", {}), ("AtomMem-Synthetic-v9", {}), (ENV_ID, {"capacity": 3})],
)
def test_a_pool_that_a_row_cannot_have_is_a_configuration_error(env_id: str, keywords: dict[str, Any]) -> None:
    async def go() -> None:
        with pytest.raises(ConfigError, match="atommem envs"):
            await shared_pool(env_id, keywords)

    run(go())


def test_an_item_that_is_not_the_rows_is_an_error() -> None:
    row = reference()
    changed = ItemReference(row.env_id, row.env_keywords, row.index + 1, row.item, row.item_hash)
    with pytest.raises(ConfigError, match="atommem data verl"):
        run(session(saying(""), row=changed))


def test_sessions_share_a_pool_and_a_cancelled_one_gives_its_place_back() -> None:
    async def go() -> None:
        first, second = await asyncio.gather(*(shared_pool(ENV_ID, SMALL, capacity=1) for _ in range(2)))
        other = await shared_pool(ENV_ID, SMALL, capacity=2)
        assert first is second is not other

        async def hang(_: list[int]) -> Generated:
            await asyncio.Event().wait()
            raise AssertionError

        async def play(policy: Any) -> Session:
            async with first.pool.env() as env:
                return await play_session(
                    env, row, TokenPolicy(encode_messages, decode, policy, WIDE), prompt=first.prompt
                )

        hanging = asyncio.create_task(play(hang))
        await asyncio.sleep(0.05)
        hanging.cancel()
        await asyncio.gather(hanging, return_exceptions=True)
        assert (await play(saying("<create>a fact</create>"))).totals["op_create"] > 0
        await close_pools()

    row = reference()
    run(go())


def test_a_pool_that_cannot_be_made_is_tried_again() -> None:
    async def go() -> None:
        for _ in range(2):
            with pytest.raises(ConfigError, match="num_dogs"):
                await shared_pool(ENV_ID, {"num_dogs": 3})

    run(go())


def test_the_command_writes_references_that_verify(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    arguments = ["data", "verl", "Synthetic", "-o", str(tmp_path), "--train", "6", "--validation", "3"]
    assert main([*arguments, "--set", *settings]) == 0
    assert "6 items" in capsys.readouterr().out
    for part, count in (("train", 6), ("validation", 3)):
        table = pq.read_table(tmp_path / f"{part}.parquet")
        assert table.schema.equals(SCHEMA)
        assert table.num_rows == count
        assert table.nbytes < 600 * count  # references, no documents
        for one in table.to_pylist():
            row = ItemReference.from_extra_info(one["extra_info"])
            assert ItemReference.from_extra_info(row.as_extra_info()) == row
            assert (row.part, row.rows_an_epoch) == (part, count if part == "train" else 0)
            items = items_of(**row.env_keywords)
            item = items.item(row.index, row.layout(9))
            row.check(item)
            assert json.loads(one["reward_model"]["ground_truth"]) == [q.answer for q in item.questions]
            assert row.item_hash != item_hash(items.item(row.index + 1))
    about = json.loads((tmp_path / "verl.json").read_text())
    assert about["parts"]["validation"]["keywords"]["split"] == "validation"
    assert SessionSteps(**about["parts"]["train"]["steps"]).items == 6


def test_D3_validation_that_shares_questions_with_training_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["data", "verl", "Synthetic", "-o", str(tmp_path), "--train", "6", "--validation", "6"]
    assert main([*arguments, "--set", "num_docs=20", "--validation-set", "split=train"]) == FAILED
    assert "share 6 questions" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.parquet"))


def test_D3_validation_from_the_file_of_training_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def record(name: str, thing: str) -> dict[str, Any]:
        context = [[name, [f"{thing}."]], ["Nobody", ["nothing."]]]
        return {
            "_id": name,
            "question": f"{name}?",
            "answer": thing,
            "supporting_facts": [[name, 0]],
            "context": context,
        }

    for part, name in (("train", "Ada"), ("dev", "Ben")):
        (tmp_path / f"{part}.json").write_text(json.dumps([record(name, "lamp"), record(f"{name}2", "kite")]))
    arguments = ["data", "verl", "HotpotQA", "-o", str(tmp_path), "--train", "1", "--validation", "1"]
    assert main([*arguments, "--set", f"source={tmp_path / 'train.json'}", "num_docs=2"]) == FAILED
    assert "both drawn from" in capsys.readouterr().err
    # A folder has a file for each split.
    assert main([*arguments, "--set", f"source={tmp_path}", "num_docs=2"]) == 0


def test_a_row_of_something_else_is_named() -> None:
    with pytest.raises(ConfigError, match="atommem data verl"):
        ItemReference.from_extra_info({"index": 3})
