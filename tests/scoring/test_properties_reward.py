"""SPEC R3 and R4 as properties: a judge that fails changes nothing, and shaping adds what it says and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fixed_items import OneItem
from support.game import STREAM_TOKENS
from support.openai_server import OpenAIServer, Reply, Request, server

from atommem_gym.envs import AtomMemEnv
from atommem_gym.envs.shaping import FORMAT_REASONS
from atommem_gym.envs.wrappers import EvidenceReward, FormatPenalty, MemoryCost
from atommem_gym.errors import JudgeError
from atommem_gym.records.record import Item
from atommem_gym.scoring.judge import JudgeScorer
from atommem_gym.testing import actions as crud_actions
from atommem_gym.testing import budget, episodes, items

__all__ = ["server"]
DIALECTS = ("crud", "tools", "released")


def made(item: Item, **keywords: Any) -> AtomMemEnv:
    keywords = {"store": "numpy", "chunk_tokens": STREAM_TOKENS // 6, **keywords}
    return AtomMemEnv(items=OneItem(item), source="synthetic", **keywords)


def played(env: Any, actions: Sequence[str]) -> Iterator[tuple[Any, float, bool, bool, dict[str, Any]]]:
    env.reset(seed=0)
    for action in actions:
        result = env.step(action)
        yield result
        if result[2] or result[3]:
            break


class Whimsical:
    """A judge that answers right or fails, as the example says; it can tell whether an answer was ever made up."""

    def __init__(self, failures: list[bool], how: str) -> None:
        self.failures = failures
        self.how = how
        self.failed = 0

    def __call__(self, request: Request, number: int) -> Reply:
        if self.failures and self.failures.pop(0):
            self.failed += 1
            if self.how == "busy":
                return Reply("busy", 503)
            return Reply({"choices": [] if self.how == "off" else [said("Hard to say.")]})
        data = json.loads(request.body["messages"][1]["content"])
        right = data["candidate_answer"].strip().casefold() in [
            gold.strip().casefold() for gold in data["gold_answers"]
        ]
        return Reply({"choices": [said(json.dumps({"correct": right}))]})


def said(text: str) -> dict[str, Any]:
    return {"message": {"content": text}, "finish_reason": "stop"}


@given(
    task=items(),
    runs=st.lists(st.integers(0, 4), min_size=1, max_size=4),
    how=st.sampled_from(["busy", "off", "chatter"]),
    data=st.data(),
)
@budget(30)
def test_R3_a_judge_that_fails_changes_nothing_and_the_repeated_step_gives_what_it_would_have_given(
    server: OpenAIServer,
    task: Item,
    runs: list[int],
    how: str,
    data: st.DataObject,
) -> None:
    failures = [fails for run in runs for fails in (*[True] * run, False)]
    actions = [data.draw(crud_actions()), "<create>one chunk is all there is</create>"]
    for question in task.questions:
        said = data.draw(st.sampled_from([*question.answers, question.answer, "something else"]))
        also = data.draw(st.sampled_from(["", "<read>bees</read>", '<delete id="1"/>']))
        actions.append(f"{also}<answer>{said}</answer>")
    judge = JudgeScorer(server.url, "grader", tries=2, backoff=0.0, timeout=5.0)
    whimsical = Whimsical([], how)
    server.answer = whimsical
    calm = made(task, reward=judge, chunk_tokens=4000)
    expected = list(played(calm, actions))
    env = made(task, reward=judge, chunk_tokens=4000)
    env.reset(seed=0)
    whimsical.failures = list(failures)
    for action, result in zip(actions, expected, strict=False):
        for _ in range(len(failures) + 1):
            before = repr(env.snapshot())
            try:
                found = env.step(action)
                break
            except JudgeError:
                assert repr(env.snapshot()) == before
        assert repr(found) == repr(result)
    assert env.item == task
    judge.close()


@pytest.mark.parametrize("dialect", DIALECTS)
@given(data=st.data())
@budget(20)
def test_R4_shaping_adds_what_it_says_to_the_reward_and_changes_nothing_else(dialect: str, data: st.DataObject) -> None:
    plan = data.draw(episodes(dialect, hostile=True))
    price, rent, weight, penalty = (data.draw(st.integers(0, 8)) / 8 for _ in range(4))
    bare = made(plan.item, dialect=dialect)
    shaped: Any = MemoryCost(made(plan.item, dialect=dialect), per_entry=rent, per_operation=price)
    shaped = FormatPenalty(EvidenceReward(shaped, weight=weight), penalty=penalty)
    seen = 0.0
    for plain, with_shaping in zip(played(bare, plan.actions), played(shaped, plan.actions), strict=True):
        _, reward, terminated, truncated, info = plain
        assert repr((plain[0], *plain[2:])) == repr((with_shaping[0], *with_shaping[2:]))
        gained = bare.episode.state.recall_gained
        cost = rent * info["entries"] + price * sum(n for kind, n in info["applied"].items() if kind != "answer")
        malformed = sum(record["reason"] in FORMAT_REASONS for record in info["rejected"])
        assert with_shaping[1] == pytest.approx(reward - cost + weight * gained - penalty * malformed)
        seen += gained
        if terminated or truncated:
            assert seen == pytest.approx(info["episode_metrics"]["evidence_recall"])
