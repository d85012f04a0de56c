"""A frozen reader answers alike in every form, at once or late, in batches of any size, after failures (SPEC E13)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given
from hypothesis import strategies as st
from support.plugins.readers import Echo, failing, late
from support.pools import ENV_ID, make_plain, make_pool, run

from atommem_gym.agents.session import play_session
from atommem_gym.agents.token_policy import Generated, TokenLimits, TokenPolicy
from atommem_gym.envs import AtomMemVectorEnv, PoolEnv
from atommem_gym.errors import ReaderError
from atommem_gym.records.verl_rows import references
from atommem_gym.registration import configure, load_items, task_of
from atommem_gym.testing import budget

RULES: dict[str, Any] = {"num_docs": 8, "chunk_tokens": 150, "questions_per_episode": 2, "early_answer": True}
"""Chunks and questions in which anything may happen at any time."""
OVER = "over"
PARTS = (
    "<create>Ada kept bees in {}.</create>",
    "<read>Who kept bees in {}?</read>",
    "<scratchpad>note {}</scratchpad>",
    '<update id="1">Ada kept {} bees.</update>',
    '<delete id="2"/>',
    "<answer>{}</answer>",
    "<answer/>",
    "<answer/>",
)


@st.composite
def scripts(draw: st.DrawFn) -> list[str]:
    """The actions of an episode, with more empty answers than questions, so that it ends."""
    numbers = st.integers(0, 3)
    action = st.lists(st.builds(str.format, st.sampled_from(PARTS), numbers), max_size=3).map("".join)
    return [*draw(st.lists(action, max_size=5)), "<answer/>", "<answer/>"]


def told(observation: Any, *rest: Any) -> str:
    return repr((observation, *rest))


def alone(index: int, script: Sequence[str], reader: Any = None, **keywords: Any) -> list[str]:
    """What a plain environment tells of an episode, its reader answering at once."""
    env = make_plain(**{**RULES, "reader": reader or Echo(), **keywords})
    seen = [told(*env.reset(options={"index": index}))]
    for action in script:
        result = env.step(action)
        seen.append(told(*result))
        if result[2] or result[3]:
            break
    env.close()
    return seen


@given(scripts(), st.sets(st.integers(1, 4)))
@budget(30)
def test_E13_a_repeated_step_gives_what_the_first_would_have_given(script: list[str], fails_at: set[int]) -> None:
    env = make_plain(**RULES, reader=failing(*fails_at))
    seen = [told(*env.reset(options={"index": 1}))]
    for action in script:
        while True:
            before = repr(env.episode.state)
            try:
                result = env.step(action)
            except ReaderError:
                assert repr(env.episode.state) == before
                continue
            break
        seen.append(told(*result))
        if result[2] or result[3]:
            break
    assert seen == alone(1, script)


@given(
    st.lists(scripts(), min_size=2, max_size=4), st.lists(st.sampled_from([0.0, 0.0, 0.003]), min_size=3, max_size=3)
)
@budget(15)
def test_E13_a_pool_tells_the_same_however_late_the_reader_answers(
    episodes: list[list[str]], waits: list[float]
) -> None:
    reader = late(waits)

    async def play(pool: Any, index: int, script: list[str]) -> list[str]:
        async with pool.env() as env:
            seen = [told(*await env.areset(options={"index": index}))]
            for action in script:
                result = await env.astep(action)
                seen.append(told(*result))
                if result[2] or result[3]:
                    break
            return seen

    async def main() -> list[list[str]]:
        async with make_pool(len(episodes), **RULES, reader=reader) as pool:
            return await asyncio.gather(*(play(pool, *one) for one in enumerate(episodes)))

    assert run(main()) == [alone(index, script) for index, script in enumerate(episodes)]


@given(
    st.lists(scripts(), min_size=2, max_size=4),
    st.sampled_from(["support.plugins.readers:echo", "support.plugins.readers:batched"]),
)
@budget(15)
def test_E13_a_vector_tells_the_same_and_asks_once_a_step(episodes: list[list[str]], reader: str) -> None:
    counted = Echo()
    for one in (reader, counted):
        envs = gym.make_vec(
            ENV_ID, len(episodes), **RULES, store="numpy", reader=one, autoreset_mode=AutoresetMode.SAME_STEP
        )
        assert isinstance(envs, AtomMemVectorEnv)
        envs.reset(options={"index": list(range(len(episodes)))})
        expected = [alone(index, script, one) for index, script in enumerate(episodes)]
        ended: dict[int, Any] = {}
        for step in range(max(map(len, episodes))):
            before = len(counted.batches)
            _, rewards, terminations, truncations, infos = envs.step(
                [script[step] if step < len(script) else "" for script in episodes]
            )
            assert len(counted.batches) <= before + 1
            for i in range(len(episodes)):
                if (terminations[i] or truncations[i]) and i not in ended:
                    ended[i] = rewards[i]
                    answers = infos["final_info"]["episode_metrics"]["answers"][i]
                    assert repr(answers) in expected[i][-1]
        assert ended.keys() == set(range(len(episodes)))
        envs.close()


def test_E13_a_vector_in_which_the_reader_fails_stays_as_it_is_and_may_step_again() -> None:
    trouble, calm = (
        gym.make_vec(ENV_ID, 3, **RULES, store="numpy", reader=one, autoreset_mode=AutoresetMode.SAME_STEP)
        for one in (failing(1, 3), Echo())
    )
    actions = (["<create>a</create><answer/>", "", "<answer/>"], ["<answer/>"] * 3, ["<answer/>"] * 3)
    assert repr(trouble.reset(seed=2)) == repr(calm.reset(seed=2))
    failures = 0
    for action in actions:
        while True:
            try:
                result = trouble.step(action)
            except ReaderError:
                failures += 1
                continue
            break
        assert repr(result) == repr(calm.step(action))
    assert failures == 2
    trouble.close()
    calm.close()


def test_E13_in_a_pool_only_the_episode_at_fault_fails_and_its_step_may_be_repeated() -> None:
    class Picky(Echo):
        """Fails while it is angry, and any batch in which somebody wrote ``poison``."""

        angry = True

        def read(self, requests: Any) -> Any:
            self.batches.append(len(requests))
            if self.angry and any("poison" in one.scratchpad for one in requests):
                raise ReaderError("poisoned")
            return Echo().read(requests)

    reader = Picky()

    async def begin(env: PoolEnv, note: str) -> None:
        await env.areset(options={"index": 1})
        await env.astep(f"<scratchpad>{note}</scratchpad>")

    async def main() -> None:
        async with make_pool(4, **RULES, reader=reader, max_wait_ms=50) as pool:
            async with pool.env() as one, pool.env() as two, pool.env() as three:
                await asyncio.gather(begin(one, "fine"), begin(two, "poison"), begin(three, "good"))
                answering = [env.astep("<create>x</create><answer/>") for env in (one, two, three)]
                results = await asyncio.gather(*answering, return_exceptions=True)
                assert [isinstance(result, ReaderError) for result in results] == [False, True, False]
                assert two.episode.state.steps == 1
                reader.angry = False
                await two.astep("<create>x</create><answer/>")
                assert two.episode.state.closings[0].answer.endswith('"poison"]')
            stats = pool.stats.reading
            assert (stats.items, stats.largest, stats.alone) == (4, 3, 3)

    run(main())


def test_E13_a_slow_reader_does_not_hold_up_the_others_of_a_pool() -> None:
    reader = Echo(lambda call: time.sleep(0.3))

    async def main() -> None:
        async with make_pool(2, **RULES, reader=reader) as pool, pool.env() as one, pool.env() as two:
            await asyncio.gather(one.areset(options={"index": 1}), two.areset(options={"index": 2}))
            waiting = asyncio.ensure_future(one.astep("<answer/>"))
            for number in range(3):
                await two.astep(f"<create>fact {number}</create>")
            assert not waiting.done()
            await waiting

    run(main())


def test_E13_a_cancelled_step_whose_reading_has_begun_is_carried_out() -> None:
    reader = Echo(lambda call: time.sleep(0.1))

    async def main() -> None:
        async with make_pool(1, **RULES, reader=reader) as pool, pool.env() as env:
            await env.areset(options={"index": 1})
            step = asyncio.ensure_future(env.astep("<answer/>"))
            while not reader.batches:
                await asyncio.sleep(0.001)
            step.cancel()
            with pytest.raises(asyncio.CancelledError):
                await step
            assert await env.settle() is not None
            assert env.episode.state.reader.answered == [0]

    run(main())


@pytest.mark.parametrize("reward", ["em", lambda prediction, answers, question: len(prediction) % 2])
def test_E13_what_the_reader_said_is_what_is_scored_in_every_form(reward: Any) -> None:
    script = ["<create>Ada kept bees.</create><read>bees</read>", "<answer/>", "<answer/>"]
    expected = alone(1, script, reward=reward)

    async def main() -> list[str]:
        async with make_pool(1, **RULES, reader=Echo(), reward=reward) as pool, pool.env() as env:
            seen = [told(*await env.areset(options={"index": 1}))]
            return [*seen, *[told(*await env.astep(action)) for action in script]]

    assert run(main()) == expected


# -- teams and sessions


def test_E13_a_team_asks_for_its_answerer_from_what_the_answerer_saw() -> None:
    pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
    from atommem_gym.envs.team import team

    def play(reader: Any) -> list[str]:
        env = team.parallel_env(readers=2, **{**RULES, "early_answer": False}, store="numpy", reader=reader)
        seen = [repr(env.reset(seed=3))]
        while env.agents:
            actions = dict.fromkeys(env.agents, "<create>Ada kept bees.</create><scratchpad>mine</scratchpad>")
            actions["answerer_0"] = "<scratchpad>asked</scratchpad><read>bees</read><answer/>"
            while True:
                before = repr(env.state())
                try:
                    result = env.step(actions)
                except ReaderError:
                    assert repr(env.state()) == before
                    continue
                break
            seen.append(repr(result))
        assert '"asked"]' in seen[-1]
        assert '"mine"]' not in seen[-1]
        env.close()
        return seen

    assert play(Echo()) == play(failing(1, 3)) == play(late([0.0, 0.002]))


def test_E13_a_training_session_is_read_and_its_costs_are_in_the_totals() -> None:
    keywords = {**RULES, "source": "synthetic", "store": "numpy"}
    task = task_of(ENV_ID)
    assert task is not None
    items = load_items(task.name, configure(task.name, keywords))
    reference = next(references(ENV_ID, keywords, items, [1]))[0]

    async def encode(messages: Any) -> list[int]:
        return [1]

    async def decode(ids: list[int]) -> str:
        return "<answer/>"

    async def generate(ids: list[int]) -> Generated:
        return Generated([2], "stop")

    async def main(reader: Any) -> Any:
        async with make_pool(1, **keywords, reader=reader) as pool, pool.env() as env:
            return await play_session(env, reference, TokenPolicy(encode, decode, generate, TokenLimits(99, 99)))

    at_once, slow = run(main(Echo())), run(main(late([0.001, 0.003])))
    for one in (at_once, slow):
        assert one.totals["reader_questions"] == 2
    assert (at_once.reward, at_once.totals["em"]) == (slow.reward, slow.totals["em"])
