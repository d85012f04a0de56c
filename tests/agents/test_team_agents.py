"""Scripted teams: what readers store, what the answerer does, and that teams of any size play to the end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from atommem_gym.agents.play import play_episode
from atommem_gym.errors import ConfigError

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
from atommem_gym.agents.team import TEAMS, make_team
from atommem_gym.agents.team_play import play_team
from atommem_gym.envs.team.team import parallel_env

SMALL: dict[str, Any] = {"num_docs": 40, "chunk_tokens": 300, "store": "numpy"}


@pytest.mark.parametrize("readers", [1, 2, 5])
def test_oracle_teams_of_any_size_answer_everything(readers: int) -> None:
    env = parallel_env(readers=readers, questions_per_episode=2, **SMALL)
    records = [play_team(env, make_team("oracle", readers), "oracle", index) for index in range(4)]
    assert [record.em for record in records] == [1.0] * 4
    assert not any(record.truncated or record.rejected for record in records)


@pytest.mark.parametrize("team", ["keep_all", "tidy", "oracle"])
def test_one_reader_and_the_answerer_do_what_the_single_agent_does(team: str) -> None:
    import gymnasium as gym

    from atommem_gym.agents import make_agent

    single, env = gym.make("AtomMem-Synthetic-v0", **SMALL), parallel_env(readers=1, **SMALL)
    for index in range(4):
        alone = play_episode(single, make_agent(team), index)
        record = play_team(env, make_team(team, 1), team, index)
        compared = ("em", "operations", "rejected", "peak_entries", "evidence_recall", "evidence_recall_exact", "steps")
        assert [getattr(record, name) for name in compared] == [getattr(alone, name) for name in compared]


@pytest.mark.parametrize("team", TEAMS)
@pytest.mark.parametrize("parts", ["contiguous", "round_robin"])
@pytest.mark.parametrize("keywords", [{}, {"advance": "on_write"}, {"dialect": "tools", "max_action_chars": 900}])
def test_teams_play_by_any_rules_without_a_rejected_operation(team: str, parts: str, keywords: dict[str, Any]) -> None:
    env = parallel_env(readers=3, parts=parts, **SMALL, **keywords)
    record = play_team(env, make_team(team, 3), team, index=1)
    assert record.rejected == 0
    if not keywords:
        assert {m.state.applied["create"] > 0 for m in env.episode.readers} == {True} or team == "oracle"
    assert env.episode.answerer.state.applied["create"] == 0


def test_keep_all_readers_store_every_document_once_whatever_their_number() -> None:
    for readers in (1, 3, 7):
        env = parallel_env(readers=readers, **SMALL)
        record = play_team(env, make_team("keep_all", readers), "keep_all", index=0)
        assert record.final_entries == 40
        assert {entry["author"] for entry in env.state()["entries"]} == {f"reader_{i}" for i in range(readers)}


def test_tidy_readers_share_one_budget() -> None:
    env = parallel_env(readers=4, **(SMALL | {"num_docs": 120}), max_entries=16)
    record = play_team(env, make_team("tidy", 4), "tidy", index=0)
    assert record.peak_entries <= 16
    assert record.rejected == 0
    by_author = [entry["author"] for entry in env.state()["entries"]]
    assert max(map(by_author.count, set(by_author))) <= 4


def test_more_readers_need_fewer_rounds() -> None:
    rounds = [
        play_team(parallel_env(readers=readers, **SMALL), make_team("keep_all", readers), "keep_all", index=0).steps
        for readers in (1, 2, 4)
    ]
    assert rounds[0] > rounds[1] > rounds[2]


def test_an_unknown_team_is_named() -> None:
    with pytest.raises(ConfigError, match="'keepall'"):
        make_team("keepall", 2)


def test_teams_read_real_records(shared_data: Path) -> None:
    env = parallel_env(
        "HotpotQA",
        readers=4,
        source=str(shared_data / "hotpotqa.jsonl"),
        split="validation",
        num_docs=100,
        store="numpy",
    )
    team = make_team("oracle", 4)
    assert [play_team(env, team, "oracle", index).em for index in range(3)] == [1.0] * 3
