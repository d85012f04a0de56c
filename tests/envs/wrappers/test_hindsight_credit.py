"""``HindsightCredit`` in every form: plain, vector in each autoreset mode, pool; in forks, snapshots, traces (R7)."""

from __future__ import annotations

import math
import pickle
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode
from msgspec.structs import replace
from support.pools import run

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemPool, HindsightCredit, MemoryCost, RecordTraces, wrappers
from atommem_gym.envs.wrappers import vector
from atommem_gym.records.layout import stable_rng
from atommem_gym.traces import read_traces
from atommem_gym.traces.counterfactual import counterfactuals
from atommem_gym.traces.replay import Replayer

ENV_ID = "AtomMem-Drift-v0"
SMALL: dict[str, Any] = {
    "num_docs": 48,
    "chunk_tokens": 400,
    "questions_per_episode": 2,
    "store": "numpy",
    "max_entries": 6,
    "max_steps": 22,
}
MODES = list(AutoresetMode)
FACTS_ID = "AtomMem-Synthetic-v0"
FACTS: dict[str, Any] = {"num_docs": 8, "chunk_tokens": 4000, "store": "numpy"}


def facts_read_answer(item: Any) -> tuple[str, str, str]:
    """Three actions that store the evidence of an item's question, read it, and answer right."""
    question = item.questions[0]
    facts = "".join(f"<create>{piece.text}</create>" for piece in question.evidence)
    return facts, f"<read>{question.question}</read>", f"<answer>{question.answer}</answer>"


def action(item: Any, number: int, *seed: object) -> str:
    """Seeded operations of all kinds around the evidence and the answers of an item."""
    rng = stable_rng("credit", item.id, number, *seed)
    pieces = [piece.text for question in item.questions for piece in question.evidence]
    known = [question.answer for question in item.questions]
    choices = [
        *(f"<create>{piece}</create>" for piece in pieces),
        f"<update id='{rng.integers(1, 9)}'>{' '.join(pieces)}</update>",
        f"<delete id='{rng.integers(1, 9)}'/>",
        "<create>rain</create><create>never closed",
    ]
    # So that something is earned: all evidence at first, and at the end what to look for and the right answer.
    if number == 0:
        return "".join(choices[: len(pieces)])
    if number >= 14:
        which = (number - 14) // 2 % len(known)
        return f"<answer>{known[which]}</answer>" if number % 2 else f"<read>{' '.join(pieces)}</read>"
    return "".join(str(choices[i]) for i in rng.integers(len(choices), size=4))


def plain_credits(episodes: int) -> list[dict[str, Any]]:
    """What one plain environment says at the end of each of its episodes, which follow one seed."""
    env = HindsightCredit(gym.make(ENV_ID, **SMALL))
    found = []
    with closing(env):
        env.reset(seed=5)
        for _ in range(episodes):
            over, number, rewards = False, 0, 0.0
            while not over:
                _, reward, terminated, truncated, info = env.step(action(env.unwrapped.item, number))  # type: ignore[attr-defined]
                over, number, rewards = terminated or truncated, number + 1, rewards + reward
                assert ("credit" in info) is over
            assert math.isclose(sum(info["credit"]["by_step"]), rewards, abs_tol=1e-12)
            found.append(info["credit"])
            env.reset()
    assert any(one["credit"] for credit in found for one in credit["operations"])
    return found


@pytest.mark.parametrize("mode", MODES)
def test_R7_a_vector_says_what_plain_environments_say_in_every_autoreset_mode(mode: AutoresetMode) -> None:
    expected = plain_credits(3)
    envs = vector.HindsightCredit(gym.make_vec(ENV_ID, num_envs=2, autoreset_mode=mode, **SMALL))
    # Both slots play the same, the second with what outer wrappers see of it.
    found: list[list[dict[str, Any]]] = [[], []]
    with closing(envs):
        envs.reset(seed=[5, 5])
        numbers = [0, 0]
        while min(map(len, found)) < 3:
            base = envs.unwrapped
            texts = [action(episode.item, n) for episode, n in zip(base.episodes, numbers, strict=True)]  # type: ignore[attr-defined]
            _, rewards, terminations, truncations, infos = envs.step(texts)
            over = terminations | truncations
            for i in range(2):
                stepped = base.stepped[i]  # type: ignore[attr-defined]
                if stepped is None:
                    continue
                numbers[i] += 1
                if over[i]:
                    where = infos["final_info"] if mode is AutoresetMode.SAME_STEP else infos
                    assert where["_credit"][i]
                    told = {name: where["credit"][name][i] for name in ("operations", "by_step", "begun")}
                    assert told == stepped.info["credit"]
                    assert math.isclose(sum(told["by_step"]), rewards[i], abs_tol=1e-12)
                    found[i].append(told)
                    numbers[i] = 0
                else:
                    assert "credit" not in stepped.info
            if mode is AutoresetMode.DISABLED and over.any():
                envs.reset(options={"reset_mask": over})
    assert found == [expected, expected]


def test_R7_a_pool_says_what_plain_environments_say_also_of_cancelled_steps() -> None:
    import asyncio

    expected = plain_credits(2)

    async def main() -> list[dict[str, Any]]:
        async with AtomMemPool(ENV_ID, capacity=3, credit=True, **SMALL) as pool, pool.env() as env:
            await env.areset(seed=5)
            found = []
            for _ in range(2):
                over, number = False, 0
                while not over:
                    if number == 3:
                        async with await pool.fork(env, 1) as (fork,):
                            await fork.astep(action(env.item, 99))
                    call = asyncio.ensure_future(env.astep(action(env.item, number)))
                    await asyncio.sleep(0)
                    if number == 2:
                        call.cancel()
                        await asyncio.gather(call, return_exceptions=True)
                        result: Any = await env.settle()
                        result = result or await env.astep(action(env.item, number))
                    else:
                        result = await call
                    over, number = result[2] or result[3], number + 1
                found.append(result[4]["credit"])
                await env.areset()
            return found

    assert run(main()) == expected


def test_R7_forks_and_snapshots_take_along_what_is_known_of_the_past() -> None:
    env = HindsightCredit(gym.make(ENV_ID, **SMALL))
    envs = vector.HindsightCredit(gym.make_vec(ENV_ID, num_envs=1, autoreset_mode="Disabled", **SMALL))
    base: Any = env.unwrapped
    env.reset(seed=5)
    for number in range(4):
        env.step(action(base.item, number))
    fork = HindsightCredit(base.fork(1)[0])
    saved = pickle.loads(pickle.dumps(base.snapshot()))
    restored = HindsightCredit(gym.make(ENV_ID, **SMALL))
    restored.reset(seed=1)
    restored.unwrapped.restore(saved)  # type: ignore[attr-defined]
    envs.reset(seed=2)
    envs.unwrapped.restore(0, saved)  # type: ignore[attr-defined]
    ends, item = [], base.item
    for one in (env, fork, restored, envs):
        number, over = 4, False
        while not over:
            text = action(item, number)
            result: Any = one.step([text] if one is envs else text)  # type: ignore[arg-type]
            over, number = bool(result[2] or result[3]), number + 1
        stepped = envs.unwrapped.stepped[0].info if one is envs else result[4]  # type: ignore[attr-defined]
        ends.append(stepped["credit"])
        one.close()
    assert ends == [ends[0]] * 4
    assert any(one["step"] < 4 and one["credit"] for one in ends[0]["operations"])


def test_R7_steps_that_the_wrapper_was_not_told_of_are_not_known() -> None:
    env = HindsightCredit(gym.make(ENV_ID, **SMALL))
    env.reset(seed=5)
    env.step(action(env.unwrapped.item, 0))  # type: ignore[attr-defined]
    env.unwrapped.step(action(env.unwrapped.item, 1))  # type: ignore[attr-defined]
    over = False
    while not over:
        _, reward, terminated, truncated, info = env.step(action(env.unwrapped.item, 2))  # type: ignore[attr-defined]
        over = terminated or truncated
    assert math.isclose(sum(info["credit"]["by_step"]), reward, abs_tol=1e-12)
    assert all(one["step"] >= 2 for one in info["credit"]["operations"] if one["operation"] != "answer")
    env.close()


def test_R7_the_credit_is_of_the_environments_reward_and_shaping_stays_apart() -> None:
    rewards = []
    for wrap in (lambda e: HindsightCredit(MemoryCost(e, 0.1)), lambda e: MemoryCost(HindsightCredit(e), 0.1)):
        env: Any = wrap(gym.make(ENV_ID, **SMALL))
        env.reset(seed=5)
        over, total, number = False, 0.0, 0
        while not over:
            _, reward, terminated, truncated, info = env.step(action(env.unwrapped.item, number))
            over, total, number = terminated or truncated, total + reward, number + 1
        rewards.append((total, sum(info["credit"]["by_step"])))
        env.close()
    assert rewards[0] == rewards[1]
    assert rewards[0][0] < rewards[0][1]


def test_E7_before_a_reset_and_after_the_end_a_step_raises_as_without() -> None:
    env = HindsightCredit(gym.make(ENV_ID, **SMALL))
    with pytest.raises(ResetNeeded):
        env.step("")
    env.reset(seed=5)
    while not any(env.step("")[2:4]):
        pass
    with pytest.raises(ResetNeeded):
        env.step("")
    env.close()


@pytest.mark.parametrize("failing", [False, True])
def test_R7_a_wrapper_that_raises_after_the_step_loses_nothing(failing: bool) -> None:
    def bonus(info: dict[str, Any], episode: Any) -> float:
        if failing and episode.state.steps == 1:
            raise RuntimeError("no bonus on purpose")
        return 0.0

    env = HindsightCredit(wrappers.ShapedReward(gym.make(FACTS_ID, **FACTS), [bonus]))
    env.reset(options={"index": 0})
    facts, read, answer = facts_read_answer(env.unwrapped.item)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match="on purpose") if failing else nullcontext():
        env.step(facts)
    env.step(read)
    *_, info = env.step(answer)
    assert [(one["operation"], one["credit"]) for one in info["credit"]["operations"]] == [("create", 0.5)] * 2
    env.close()


@pytest.mark.parametrize("failing", [False, True])
def test_R7_a_vector_step_that_is_repeated_after_its_autoreset_failed_loses_nothing(failing: bool) -> None:
    made = gym.make_vec(FACTS_ID, num_envs=2, autoreset_mode="SameStep", **FACTS)
    failures = ["once"] if failing else []

    def options(i: int) -> dict[str, Any]:
        if failures:
            failures.pop()
            raise OSError("no options on purpose")
        return {}

    made.unwrapped.autoreset_options = options  # type: ignore[attr-defined]
    envs = vector.HindsightCredit(made)
    envs.reset(options={"index": [0, 0]})
    facts, read, answer = facts_read_answer(envs.unwrapped.episodes[0].item)  # type: ignore[attr-defined]
    envs.step([facts, facts])
    ending = ["<answer>x</answer>", read]
    if failing:
        with pytest.raises(OSError, match="on purpose"):
            envs.step(ending)
    assert envs.step(ending)[4]["final_info"]["_credit"].tolist() == [True, False]
    told = envs.step(["", answer])[4]["final_info"]["credit"]["operations"][1]
    assert [(one["operation"], one["credit"]) for one in told] == [("create", 0.5)] * 2
    envs.close()


@pytest.mark.parametrize("form", ["plain", "vector"])
def test_R7_traces_hold_the_credit_and_replay_it(form: str, tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    kind: Any = wrappers if form == "plain" else vector
    made = gym.make(ENV_ID, **SMALL) if form == "plain" else gym.make_vec(ENV_ID, num_envs=1, **SMALL)
    env: Any = kind.RecordTraces(kind.HindsightCredit(made), file)
    env.reset(seed=5)
    over, number = np.False_, 0
    while not np.any(over):
        item = env.unwrapped.item if form == "plain" else env.unwrapped.episodes[0].item
        text = action(item, number)
        result = env.step(text if form == "plain" else [text])
        over, number = result[2] | result[3], number + 1
    env.close()
    (trace,) = read_traces(file)
    credit = trace.steps[-1].info["credit"]
    assert math.isclose(sum(one["credit"] for one in credit["operations"]), trace.reward, abs_tol=1e-12)
    assert trace.reward > 0
    with Replayer() as replayer:
        assert replayer.check(trace) is None
        changed = {**trace.steps[-1].info, "credit": {**credit, "by_step": [0.0] * len(trace.steps)}}
        steps = (*trace.steps[:-1], replace(trace.steps[-1], info=changed))
        assert "credit" in replayer.check(replace(trace, steps=steps)).path


def test_R7_a_record_whose_ledger_began_late_replays_and_has_counterfactuals(tmp_path: Path) -> None:
    parent = RecordTraces(gym.make(FACTS_ID, **{**FACTS, "chunk_tokens": 400}), tmp_path / "a.jsonl")
    parent.reset(options={"index": 0})
    facts, read, answer = facts_read_answer(parent.unwrapped.item)  # type: ignore[attr-defined]
    parent.step(facts)
    fork = parent.unwrapped.fork(1)[0]  # type: ignore[attr-defined]
    branch = RecordTraces(HindsightCredit(fork), tmp_path / "b.jsonl")
    over = False
    while not over:
        seen = fork.episode.observation()
        *_, terminated, truncated, info = branch.step(
            "" if seen["phase"] == 0 else answer if seen["memories"] else read
        )
        over = terminated or truncated
    branch.close()
    parent.close()
    assert info["credit"]["begun"] == 1
    assert [one["operation"] for one in info["credit"]["operations"]] == ["answer"]
    (trace,) = read_traces(tmp_path / "b.jsonl")
    with Replayer() as replayer:
        assert replayer.check(trace) is None
        # What does not depend on when the ledger began is still compared.
        changed = {**trace.steps[-1].info, "applied": {}}
        steps = (*trace.steps[:-1], replace(trace.steps[-1], info=changed))
        assert "applied" in replayer.check(replace(trace, steps=steps)).path
    assert [one.kind for one in counterfactuals(trace)] == ["create", "create", "read", "answer"]


def test_R7_the_trace_of_a_branch_credits_its_whole_past(tmp_path: Path) -> None:
    parent = RecordTraces(HindsightCredit(gym.make(ENV_ID, **SMALL)), tmp_path / "a.jsonl")
    parent.reset(seed=5)
    for number in range(4):
        parent.step(action(parent.unwrapped.item, number))  # type: ignore[attr-defined]
    branch = RecordTraces(HindsightCredit(parent.unwrapped.fork(1)[0]), tmp_path / "b.jsonl")  # type: ignore[attr-defined]
    item = parent.unwrapped.item  # type: ignore[attr-defined]
    for one in (parent, branch):
        number, over = 4, False
        while not over:
            *_, terminated, truncated, _ = one.step(action(item, number))
            over, number = terminated or truncated, number + 1
        one.close()
    (first,), (second,) = read_traces(tmp_path / "a.jsonl"), read_traces(tmp_path / "b.jsonl")
    assert first.steps[-1].info["credit"] == second.steps[-1].info["credit"]
