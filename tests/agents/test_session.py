"""Sessions of a policy that answers with text: the seam on which bridges to other stacks are built."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
from support.pools import make_plain, make_pool, run

from atommem_gym.agents.session import TOTALS, Messages, Policy, Reply, Session, SessionStep, play_session
from atommem_gym.errors import ConfigError, ContextLengthError, LanguageModelError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.record import Item


def saying(*texts: str, stop_reason: Any = "stop", **reply: Any) -> Policy:
    """A policy that says these texts, the last one again and again; it remembers the prompts."""
    seen: list[Messages] = []

    async def policy(messages: Messages) -> Reply:
        seen.append(messages)
        return Reply(texts[min(len(seen), len(texts)) - 1], stop_reason, **reply)

    policy.seen = seen  # type: ignore[attr-defined]
    return policy


def play(policy: Policy, index: int = 0, *, keywords: Any = None, **more: Any) -> Session:
    async def go() -> Session:
        async with make_pool(1, **(keywords or {})) as pool, pool.env() as env:
            return await play_session(env, index, policy, **more)

    return run(go())


def gold(index: int = 0) -> Item:
    env = make_plain()
    item = env.items.item(index)
    env.close()
    return item


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_M15_a_session_equals_the_plain_environment(store: str) -> None:
    texts = (
        "<create>the town has a charter</create><read>charter</read>",
        "<create>b</create>",
        "<answer>1295</answer>",
    )
    session = play(saying(*texts), 3, keywords={"store": store}, shuffle_seed=2)
    env = make_plain(store=store)
    prompt = PromptTemplate(env.config)
    observation, info = env.reset(options={"index": 3, "shuffle_seed": 2})
    rewards = []
    for step in session.steps:
        assert step.messages == prompt.messages(observation)
        observation, reward, terminated, truncated, info = env.step(step.reply.text)
        assert step.reward == reward
        rewards.append(reward)
    assert terminated or truncated
    assert session.reward == math.fsum(rewards)
    assert session.metrics == info["episode_metrics"]
    env.close()


def test_every_prompt_is_a_fresh_context_of_two_messages() -> None:
    policy = saying("<create>a fact</create>")
    session = play(policy)
    assert [step.messages for step in session.steps] == policy.seen  # type: ignore[attr-defined]
    for messages in policy.seen:  # type: ignore[attr-defined]
        assert [message["role"] for message in messages] == ["system", "user"]
        assert all(isinstance(message["content"], str) for message in messages)
    assert len({messages[1]["content"] for messages in policy.seen}) == len(session.steps)  # type: ignore[attr-defined]


def test_a_right_answer_is_rewarded_and_stands_in_the_metrics() -> None:
    chunks = sum(step.facts["phase"] == 0 for step in play(saying("")).steps)
    answer = gold().questions[0].answer
    session = play(saying(*[""] * chunks, f"<answer>{answer}</answer>"))
    assert (session.reward, session.totals["em"], session.totals["f1"]) == (1.0, 1.0, 1.0)
    assert session.metrics["answers"][0]["answer"] == answer
    assert [step.reward for step in session.steps] == [0.0] * chunks + [1.0]


def test_tokens_are_counted_where_the_caller_knows_them_and_unknown_elsewhere() -> None:
    known = play(saying("", prompt_tokens=7, response_tokens=2))
    assert known.totals["prompt_tokens"] == 7 * len(known.steps)
    assert known.totals["response_tokens"] == 2 * len(known.steps)
    unknown = play(saying(""))
    assert tuple(unknown.totals) == TOTALS
    for name in ("prompt_tokens", "response_tokens", "cached_tokens"):
        assert math.isnan(unknown.totals[name])
    assert all(not step.reply.prompt_ids and not step.reply.token_ids for step in unknown.steps)


@pytest.mark.parametrize("reason", ["length", "max_tokens", "LENGTH"])
def test_a_reply_at_the_length_limit_is_acted_on_and_counted(reason: str) -> None:
    session = play(saying("<create>a fact</create>", stop_reason=reason))
    assert session.totals["responses_cut"] == session.totals["steps"] == session.totals["op_create"]


@pytest.mark.parametrize("reason", ["error", "abort", "content_filter", "", None, 3, "unheard of"])
def test_A9_a_reply_that_was_not_ended_properly_ends_the_session(reason: Any) -> None:
    policy = saying("<create>half a", stop_reason=reason)
    with pytest.raises(LanguageModelError, match=r"stop_reason=.*acted on"):
        play(policy)
    assert len(policy.seen) == 1  # type: ignore[attr-defined]


def limited(characters: int, says: Callable[[Messages], str] = lambda _: "") -> Policy:
    """A policy whose context holds so many characters, and that does not say how many it was given."""

    async def policy(messages: Messages) -> Reply:
        if sum(len(message["content"]) for message in messages) > characters:
            raise ContextLengthError("too long", None, None)
        return Reply(says(messages), "stop")

    return policy


def length(messages: Messages) -> int:
    return sum(len(message["content"]) for message in messages)


def test_a_prompt_that_the_policy_refuses_as_too_long_is_shortened_and_counted() -> None:
    whole = play(saying(""))
    limit = max(length(step.messages) for step in whole.steps) - 100
    session = play(limited(limit))
    shortened = [step.facts["prompt_shortened"] for step in session.steps]
    assert shortened == [length(step.messages) > limit for step in whole.steps]
    assert session.totals["prompts_shortened"] == sum(shortened) > 0
    assert all(length(step.messages) <= limit for step in session.steps)
    with pytest.raises(ContextLengthError):
        play(limited(limit), overlong_prompt="error")
    with pytest.raises(ContextLengthError):
        play(limited(10))


def test_what_happens_with_long_prompts_is_one_of_two() -> None:
    with pytest.raises(ConfigError, match="'shorten' or 'error'"):
        play(saying(""), overlong_prompt="cut")


def test_who_is_interrupted_still_has_the_steps_and_the_place_is_free_again() -> None:
    async def refused(messages: Messages) -> Reply:
        if len(steps) == 2:
            raise RuntimeError("no more turns")
        return Reply("<create>a fact</create>", "stop")

    steps: list[SessionStep] = []

    async def go() -> Session:
        async with make_pool(1) as pool:
            with pytest.raises(RuntimeError, match="no more turns"):
                async with pool.env() as env:
                    await play_session(env, 0, refused, on_step=steps.append)
            async with pool.env() as env:
                return await play_session(env, 0, saying("<create>a fact</create>"))

    session = run(go())
    assert len(steps) == 2
    assert [(step.messages, step.reply) for step in steps] == [
        (step.messages, step.reply) for step in session.steps[:2]
    ]


def test_an_item_that_is_not_there_is_an_error() -> None:
    with pytest.raises(IndexError):
        play(saying(""), 10**9)
