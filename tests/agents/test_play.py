"""Playing episodes: which items are drawn, what is measured, and who may play."""

from __future__ import annotations

from itertools import islice
from typing import Any

import gymnasium as gym
import pytest
from support.agents.scripted import make

import atommem_gym  # noqa: F401
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import draw_items, iterate, play
from atommem_gym.errors import ConfigError


def test_draws_repeat_no_item_before_all_were_played() -> None:
    drawn = draw_items(7, 18, seed=3)
    assert len(drawn) == 18
    assert len(set(drawn)) == 18
    assert sorted(drawn[:7]) == [(i, 0) for i in range(7)]
    assert {epoch for _, epoch in drawn[14:]} == {2}
    assert drawn[:5] == draw_items(7, 5, seed=3) or sorted(drawn[:5]) != sorted(draw_items(7, 5, seed=3))
    assert draw_items(10_000, 5, seed=1) != draw_items(10_000, 5, seed=2)


def test_play_measures_the_environment_apart_and_can_be_interrupted() -> None:
    with make() as env:
        agent = make_agent("keep_all")
        first = list(islice(iterate(env, agent, 5), 2))
        records = play(env, agent, 5)
    assert [r.item for r in records[:2]] == [r.item for r in first]
    record = records[0]
    assert record.operations["create"] == 24
    assert record.peak_entries == record.final_entries == 24
    assert record.env_ms > 0
    assert record.agent_ms > 0
    assert record.steps == sum(1 for _ in range(record.steps))
    assert 0 <= record.evidence_recall_exact <= record.evidence_recall <= 1


def test_play_refuses_other_environments() -> None:
    env: Any = gym.make("CartPole-v1")
    with pytest.raises(ConfigError, match=r"not an AtomMem environment"):
        play(env, make_agent("silent"), 1)
