"""Parts of one's own work wherever an environment does, and all forms of it tell the same story."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from support.plugins import parts

from atommem_gym.actions import Create, Read, Update, format_action
from atommem_gym.agents.players.player import make_player
from atommem_gym.agents.team import make_team
from atommem_gym.agents.team_play import play_team
from atommem_gym.cli import main
from atommem_gym.config import EnvConfig
from atommem_gym.envs import AtomMemEnv, AtomMemPool
from atommem_gym.envs.macro import MacroActions
from atommem_gym.envs.team import parallel_env
from atommem_gym.envs.wrappers import FormatPenalty, PromptObservation
from atommem_gym.errors import ConfigError
from atommem_gym.policies.writing import write_action
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.verl_rows import ItemReference
from atommem_gym.testing import check_memory_env
from atommem_gym.traces.codec import to_json

ID = "AtomMem-Synthetic-v0"
NAMES = {
    "store": "support.plugins.parts:Store",
    "embedder": "support.plugins.parts:Embedder",
    "tokenizer": "support.plugins.parts:Tokenizer",
    "dialect": "support.plugins.parts:lines",
    "reward": "support.plugins.parts:half",
}
KEYWORDS: dict[str, Any] = {"num_docs": 12, "chunk_tokens": 300, **NAMES}
ACTIONS = ("STORE: Ada kept bees\nSTORE: Bern lies on the Aare", "FIND: bees", "CHANGE 1: Ada kept boats", "SAY: boats")


def told(observation: Any, info: Any) -> Any:
    return json.loads(json.dumps(to_json([observation, {k: v for k, v in info.items() if k != "episode_metrics"}])))


def single() -> list[Any]:
    env = gym.make(ID, **KEYWORDS)
    story = [told(*env.reset(options={"index": 3}))]
    for action in ACTIONS:
        observation, _, terminated, truncated, info = env.step(action)
        story.append(told(observation, info))
        if terminated or truncated:
            break
    env.close()
    return story


def test_M15_vector_and_pool_equal_the_single_environment() -> None:
    expected = single()
    envs = gym.make_vec(ID, num_envs=2, **KEYWORDS)
    observations, _ = envs.reset(options={"index": [3, 3]})
    for step, action in enumerate(ACTIONS[: len(expected) - 1], 1):
        observations, *_ = envs.step([action, action])
        assert observations["feedback"][1] == expected[step][0]["feedback"]
        assert [entry["text"] for entry in observations["memories"][1]] == [
            entry["text"] for entry in expected[step][0]["memories"]
        ]
    envs.close()

    async def pooled() -> list[Any]:
        async with AtomMemPool(ID, capacity=2, **KEYWORDS) as pool, pool.env() as env:
            story = [told(*await env.areset(options={"index": 3}))]
            for action in ACTIONS[: len(expected) - 1]:
                observation, *_, info = await env.astep(action)
                story.append(told(observation, info))
            return story

    assert asyncio.run(pooled()) == expected


def test_the_family_s_battery_passes_over_parts_of_ones_own() -> None:
    env = gym.make(ID, **{**KEYWORDS, "num_docs": 48})
    check_memory_env(env)
    env.close()


def test_a_team_plays_over_parts_of_ones_own() -> None:
    env = parallel_env(readers=2, **{**KEYWORDS, "reward": "em"})
    record = play_team(env, make_team("oracle", readers=2), "oracle", index=0)
    assert (record.em, record.rejected) == (1.0, 0)
    env.close()


def test_a_snapshot_goes_on_over_parts_of_ones_own() -> None:
    env, other = (gym.make(ID, **KEYWORDS).unwrapped for _ in range(2))
    assert isinstance(env, AtomMemEnv)
    assert isinstance(other, AtomMemEnv)
    env.reset(options={"index": 3})
    env.step(ACTIONS[0])
    other.restore(env.snapshot())
    assert told(*env.step(ACTIONS[1])[::4]) == told(*other.step(ACTIONS[1])[::4])
    env.close()
    other.close()


def test_M13_a_kept_store_of_ones_own_goes_on_with_a_memory() -> None:
    keywords = {**KEYWORDS, "store": "support.plugins.kept_parts:Kept"}
    env = gym.make(ID, **keywords)
    env.reset(options={"index": 3})
    env.step(ACTIONS[0])
    key = env.unwrapped.memory_key  # type: ignore[attr-defined]
    env.close()
    again = gym.make(ID, **keywords)
    again.reset(options={"index": 4, "memory": key})
    observation = again.step("FIND: bees")[0]
    assert "Ada kept bees" in [entry["text"] for entry in observation["memories"]]
    again.close()
    with pytest.raises(ConfigError, match=r"keep_memory=False contradicts store='support\.plugins\.kept_parts:Always'"):
        gym.make(ID, **{**keywords, "store": "support.plugins.kept_parts:Always", "keep_memory": False})


def test_shaping_counts_what_the_dialect_rejects() -> None:
    env = FormatPenalty(gym.make(ID, **KEYWORDS), penalty=0.25)
    env.reset(options={"index": 0})
    assert env.step("STORE: x\nDROP\nSTORE:")[1] == pytest.approx(-0.5)
    env.close()


def test_macro_actions_write_in_the_dialect() -> None:
    env = MacroActions(gym.make(ID, **{**KEYWORDS, "max_entries": 4}))
    env.reset(seed=1)
    written = [env.step(np.ones(env.action_space.shape, np.int64))[4]["action"] for _ in range(2)]
    assert any(line.startswith("STORE: ") for action in written for line in action.splitlines()), written
    assert not any("<create>" in action for action in written)
    env.close()


def test_the_prompt_is_the_dialect_s_and_a_user_s_template_may_extend_it(tmp_path: Path) -> None:
    env = PromptObservation(gym.make(ID, **KEYWORDS))
    text, _ = env.reset(seed=1)
    assert "Write one operation a line" in text
    assert "<create>" not in text
    assert "CHANGE 3: a fact" in text
    env.close()
    (tmp_path / "mine.j2").write_text('{% extends dialect ~ ".j2" %}{% block task %}My own task.{% endblock %}')
    prompt = PromptTemplate(EnvConfig.from_keywords({"dialect": NAMES["dialect"]}), tmp_path / "mine.j2")
    assert "My own task." in prompt.system
    assert "Write one operation a line" in prompt.system


def test_finding_5_8_a_dialect_that_extends_ours_can_share_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    config = EnvConfig.from_keywords({"dialect": NAMES["dialect"], "template": "shared_prefix"})
    assert "Write one operation a line" in PromptTemplate(config).system
    monkeypatch.setattr(parts.Lines, "template", "{{ part }}")
    with pytest.raises(ConfigError, match=r"template='shared_prefix'.*does not extend it"):
        PromptTemplate(config)


def test_a_dialect_s_broken_template_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts.Lines, "template", "{% if %}")
    with pytest.raises(ConfigError, match=r"the prompt template support\.plugins\.parts:lines\.j2 cannot be used"):
        PromptTemplate(EnvConfig.from_keywords({"dialect": NAMES["dialect"]}))


def test_scripted_agents_and_players_write_what_the_dialect_can_write() -> None:
    dialect = NAMES["dialect"]
    several = "One line,\nand <another>;\tthen\n\na last one."
    with pytest.raises(ValueError, match="several lines"):
        format_action([Create(several)], dialect)
    assert write_action([Create(several), Read("bees"), Update(2, several)], dialect).split("\n") == [
        "STORE: One line, and <another>; then a last one.",
        "FIND: bees",
        "CHANGE 2: One line, and <another>; then a last one.",
    ]
    assert write_action([Create("a\n«b»!")], "support.plugins.kept_parts:words") == "STORE: a b"
    assert write_action([Create("!\n!")], "support.plugins.kept_parts:words") == "STORE: unknown"
    with pytest.raises(ConfigError, match=r"dialect='support\.plugins\.kept_parts:mute' cannot write .*check_dialect"):
        write_action([Create("Ada")], "support.plugins.kept_parts:mute")
    with pytest.raises(ValueError, match="delimiter"):
        write_action([Create("</create>")], "crud")


@pytest.mark.parametrize("name", ["keep_all", "tidy", "overwrite", "random", "oracle", "support.plugins.parts:Agent"])
def test_an_agent_has_nothing_rejected_in_a_dialect_of_ones_own(name: str) -> None:
    async def play() -> dict[str, Any]:
        player = make_player(name)()
        async with AtomMemPool(ID, capacity=1, **KEYWORDS) as pool, pool.env() as env:
            observation, info = await env.areset(options={"index": 1})
            player.reset(env.episode, 3)
            over = False
            while not over:
                observation, _, terminated, truncated, info = await env.astep((await player.act(observation)).action)
                over = terminated or truncated
            return info

    info = asyncio.run(play())
    metrics = info["episode_metrics"]
    assert sum(metrics["operations"].values()) > 0
    assert name == "random" or metrics["rejected"] == 0


def test_a_row_for_verl_imports_only_what_the_settings_name() -> None:
    reference = ItemReference.from_extra_info(ItemReference(ID, KEYWORDS, 0, "item", "hash").as_extra_info())
    reference.check_code(["support.plugins.parts"])
    reference.check_code([], overrides=NAMES)
    with pytest.raises(
        ConfigError, match=r"store='support\.plugins\.parts:Store'.*imports: \[support\.plugins\.parts\]"
    ):
        reference.check_code(["support"])


def test_rows_for_verl_hold_the_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import pyarrow.parquet as pq

    settings = [f"{name}={value}" for name, value in KEYWORDS.items()]
    arguments = ["data", "verl", "Synthetic", "-o", str(tmp_path), "--train", "2", "--validation", "1"]
    assert main([*arguments, "--set", *settings]) == 0, capsys.readouterr()
    [row, _] = pq.read_table(tmp_path / "train.parquet").to_pylist()
    held = ItemReference.from_extra_info(row["extra_info"]).env_keywords
    assert {name: held[name] for name in NAMES} == NAMES


def test_ask_reads_over_parts_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("The bridge is red. It was built in 1931.")
    ask = ["ask", "notes.txt", "-q", "When was the bridge built?"]
    own = [f"{name}={value}" for name, value in NAMES.items() if name != "reward"]
    assert main([*ask, "--set", *own, "--trace", "asked.jsonl"]) == 0, capsys.readouterr()
    assert "1931" in capsys.readouterr().out
    assert "STORE: " in (tmp_path / "asked.jsonl").read_text()
    assert main([*ask, "--agent", "support.plugins.parts:Answering"]) == 0
    printed = capsys.readouterr().out
    assert "the bridge!" in printed
    assert "answered by support.plugins.parts:Answering (no language model)" in printed
    assert (
        main(
            [
                *ask,
                "--agent",
                "support.plugins.parts:Answering",
                "--memory",
                "m.db",
                "--set",
                "store=support.plugins.parts:Store",
            ]
        )
        == 2
    )
    assert "use --memory to keep entries" in capsys.readouterr().err
    assert main([*ask, "--memory", NAMES["store"]]) == 2
    assert "a memory to go on with is a Milvus database" in capsys.readouterr().err
    assert not Path(NAMES["store"]).exists()
    assert main(["view", "asked.jsonl", "--no-open"]) == 0
