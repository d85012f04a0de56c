"""Teams over one memory: PettingZoo's own tests, who sees what, who wrote what, and conflicts (issue 7, SPEC E, M)."""

from __future__ import annotations

import dataclasses
import importlib
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from support.fixed_items import OneItem

from atommem_gym.errors import ConfigError
from atommem_gym.records.documents import PoolDocuments
from atommem_gym.records.items import RecordItems
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.records.sources import load_split
from atommem_gym.records.stream import LazyDocuments, Stream
from atommem_gym.tokenizers import load_tokenizer

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
from pettingzoo.test import (
    api_test,
    max_cycles_test,
    parallel_api_test,
    parallel_seed_test,
    render_test,
    seed_test,
)

from atommem_gym.envs.team import team
from atommem_gym.envs.team.episode import PARTS, part_of

SMALL: dict[str, Any] = {"num_docs": 20, "chunk_tokens": 250, "store": "numpy"}
DOCUMENTS = tuple(Document(f"Title {i}", f"Text of document {i}.") for i in range(6))
QUESTION = Record(
    "q1", "Where is it?", "here", DOCUMENTS[:1], (0,), (Evidence("Title 0", "Text of document 0.", "here"),)
)


def fixed(readers: int = 2, **keywords: Any) -> team.TeamEnv:
    """A team over six documents, two of which are a chunk."""
    items = OneItem(Item("fixed/0", 0, 0, (QUESTION,), DOCUMENTS))
    keywords = {"items": items, "store": "numpy", "chunk_tokens": 20, **keywords}
    found = team.parallel_env(readers=readers, **keywords)
    found.reset()
    return found


def act(env: team.TeamEnv, **actions: str) -> tuple[Any, ...]:
    """A step in which the agents that are not named do nothing (``reader_0`` is written ``r0``, the answerer ``a``)."""
    names = {"a": "answerer_0", **{f"r{i}": f"reader_{i}" for i in range(9)}}
    given = {names[short]: action for short, action in actions.items()}
    return env.step({agent: given.get(agent, "") for agent in env.agents})


# -- PettingZoo's own tests


@pytest.mark.filterwarnings("ignore:Observation:UserWarning", "ignore:Agent:UserWarning")
@pytest.mark.filterwarnings("ignore:The class of action:UserWarning", "ignore:Action space for:UserWarning")
class TestPettingZoo:
    @pytest.mark.parametrize("readers", [1, 3])
    def test_api(self, readers: int) -> None:
        api_test(team.env(readers=readers, **SMALL), num_cycles=30)

    def test_api_of_the_unwrapped_form(self) -> None:
        api_test(team.raw_env(readers=2, **SMALL), num_cycles=30)

    @pytest.mark.parametrize("keywords", [{}, {"dialect": "tools"}, {"storage": False, "scratchpad": False}])
    def test_parallel_api(self, keywords: dict[str, Any]) -> None:
        parallel_api_test(team.parallel_env(readers=3, **SMALL, **keywords), num_cycles=30)

    def test_seeds(self) -> None:
        seed_test(lambda: team.env(readers=2, **SMALL), num_cycles=15)
        parallel_seed_test(lambda: team.parallel_env(readers=2, **SMALL), num_cycles=15)

    def test_max_cycles_of_the_module_as_it_is(self) -> None:
        max_cycles_test(team)

    @pytest.mark.parametrize("readers", [1, 2, 7])
    def test_max_cycles_of_teams_of_any_size(self, readers: int) -> None:
        class Module:
            """What the test wants: a module with both forms."""

            @staticmethod
            def parallel_env(**keywords: Any) -> Any:
                return team.parallel_env(readers=readers, **SMALL, **keywords)

            @staticmethod
            def env(**keywords: Any) -> Any:
                return team.env(readers=readers, **SMALL, **keywords)

        max_cycles_test(Module)

    def test_render(self, capsys: pytest.CaptureFixture[str]) -> None:
        render_test(lambda **keywords: team.env(readers=2, **SMALL, **keywords))
        assert "round 1 · reading" in capsys.readouterr().out


def test_random_play_lasts_for_max_steps_also_when_all_has_been_read_for_long() -> None:
    env = team.parallel_env(readers=2, max_steps=60, **SMALL)
    env.reset(seed=4)
    for i, agent in enumerate(env.agents):
        env.action_space(agent).seed(i)
    rounds = 0
    while env.agents:
        *_, terminations, truncations, _ = env.step({a: env.action_space(a).sample() for a in env.agents})
        rounds += 1
    assert rounds == 60
    assert all(truncations.values())
    assert not any(terminations.values())


def test_without_pettingzoo_the_message_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "atommem_gym.envs.team.team")
    monkeypatch.setitem(sys.modules, "pettingzoo", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'atommem-gym\[team\]'"):
        importlib.import_module("atommem_gym.envs.team.team")


# -- who sees what


@pytest.mark.parametrize("parts", ["contiguous", "round_robin"])
@pytest.mark.parametrize("readers", [1, 2, 4, 6, 8])
def test_every_document_is_read_by_exactly_one_reader(parts: str, readers: int) -> None:
    env = fixed(readers, parts=parts)
    seen: dict[str, str] = dict.fromkeys(env.possible_agents, "")
    observations = {name: member.observation() for name, member in env.episode.members.items()}
    while env.agents:
        for agent, observation in observations.items():
            seen[agent] += observation["chunk"]
        observations, *_ = act(env)
    found = {agent: [int(i) for i in re.findall(r"Title (\d)", text)] for agent, text in seen.items()}
    assert found.pop("answerer_0") == []
    assert sorted(number for numbers in found.values() for number in numbers) == list(range(6))
    assert max(map(len, found.values())) - min(map(len, found.values())) <= 1
    if parts == "contiguous":
        assert [number for numbers in found.values() for number in numbers] == list(range(6))
    else:
        assert all(number % readers == i for i, numbers in enumerate(found.values()) for number in numbers)


@pytest.mark.parametrize("parts", PARTS)
@pytest.mark.parametrize("readers", [1, 2, 3, 11])
def test_parts_of_documents_that_are_made_when_they_are_read_and_of_those_of_a_pool(
    parts: str, readers: int, tmp_path: Path, hotpot_raw: Callable[..., dict[str, Any]]
) -> None:
    class Counted(LazyDocuments):
        """Ten documents that notice how many of them are made."""

        made = 0

        def __len__(self) -> int:
            return 10

        def __getitem__(self, index: Any) -> Any:
            self.made += 1
            return Document(f"Title {range(10)[index]}", "Text.")

    path = tmp_path / "records.json"
    path.write_text(json.dumps([hotpot_raw(0)]), encoding="utf-8")
    split = load_split("hotpotqa", str(path), "train")
    pooled = RecordItems(split, num_docs=10, questions_per_episode=1, order="shuffled").item(0).documents
    assert isinstance(pooled, PoolDocuments)
    lazy = Counted()
    expected = [part_of(tuple(pooled), reader, readers, parts) for reader in range(readers)]
    assert [tuple(part_of(pooled, reader, readers, parts)) for reader in range(readers)] == expected
    lazy_parts = [part_of(lazy, reader, readers, parts) for reader in range(readers)]
    assert lazy.made == 0
    titles = [[document.title for document in part] for part in lazy_parts]
    assert titles == [list(part_of([f"Title {i}" for i in range(10)], r, readers, parts)) for r in range(readers)]  # type: ignore
    assert list(map(len, lazy_parts)) == list(map(len, expected))
    words = load_tokenizer("words")
    for reader, part in enumerate(expected):
        in_pool = Stream(part_of(pooled, reader, readers, parts), words, 20)
        assert (in_pool.text, in_pool.num_chunks) == (Stream(part, words, 20).text, Stream(part, words, 20).num_chunks)
        assert Stream(lazy_parts[reader], words, 20).text.count("Title") == len(part)
    if readers == 2:
        assert [document.title for document in lazy_parts[1][1:3]] == titles[1][1:3]


def test_the_needle_family_is_read_by_a_team_block_by_block() -> None:
    env = team.parallel_env("Needle", readers=3, store="numpy")
    env.reset(seed=0)
    assert all(isinstance(reader.stream.documents, LazyDocuments) for reader in env.episode.readers)
    text = "".join(reader.stream.text for reader in env.episode.readers)
    assert all(evidence.text in text for evidence in env.item.questions[0].evidence)


@pytest.mark.parametrize("longer", [0, 1])
def test_answering_begins_when_the_last_reader_has_read_its_part(longer: int) -> None:
    documents = [Document("Short", "A few words."), Document("Short", "A few words.")]
    documents[longer] = Document("Long", "Many more words than the other one has. " * 4)
    env = fixed(2, chunk_tokens=10, items=OneItem(Item("fixed/0", 0, 0, (QUESTION,), tuple(documents))))
    chunks = [reader.stream.num_chunks for reader in env.episode.readers]
    shorter = 1 - longer
    assert chunks[longer] > chunks[shorter]
    assert env.episode.max_steps == chunks[longer] + 4
    for read in range(chunks[longer]):
        observations = {name: member.observation() for name, member in env.episode.members.items()}
        assert {observation["phase"] for observation in observations.values()} == {0}
        done = observations[f"reader_{shorter}"]
        assert done["progress"].tolist() == [min(read, chunks[shorter]), chunks[shorter]]
        assert (done["chunk"] == "") == (read >= chunks[shorter])
        assert observations["answerer_0"]["progress"].tolist() == [read + min(read, chunks[shorter]), sum(chunks)]
        _, _, _, _, infos = act(env, a="<answer>here</answer>")
        assert [record["reason"] for record in infos["answerer_0"]["rejected"]] == ["not_yet"]
    observations, rewards, terminations, *_ = act(env, a="<answer>here</answer>")
    assert rewards == dict.fromkeys(env.possible_agents, 1.0)
    assert all(terminations.values())
    assert env.agents == []


def test_a_reader_that_is_done_goes_on_working_and_its_reads_do_not_count() -> None:
    env = fixed(2, chunk_tokens=1000, max_reads_per_question=1)
    act(env)
    for _ in range(3):
        observations, _, terminations, _, infos = act(env, r0="<create>late</create><read>late</read>")
        assert not any(terminations.values())
        assert observations["reader_0"]["reads_left"] == 1
    assert infos["reader_0"]["entries"] == 3


def test_E3_the_answerers_reads_count_and_close_the_question() -> None:
    env = fixed(1, chunk_tokens=1000, max_reads_per_question=1)
    act(env, a="<read>free while reading</read>")
    observations, *_ = act(env, a="<read>one</read>")
    assert observations["answerer_0"]["reads_left"] == 0
    _, rewards, terminations, _, infos = act(env, a="<read>two</read>")
    assert all(terminations.values())
    assert set(rewards.values()) == {0.0}
    assert infos["reader_0"]["episode_metrics"]["answers"][0]["closed"] == "read_limit"


def test_a_readers_answer_is_rejected_and_changes_nothing() -> None:
    env = fixed(1, chunk_tokens=1000)
    act(env)
    _, _, terminations, _, infos = act(env, r0="<answer>here</answer>")
    assert [record["reason"] for record in infos["reader_0"]["rejected"]] == ["disabled"]
    assert not any(terminations.values())


def test_scratchpads_are_everybodys_own() -> None:
    env = fixed(2)
    observations, *_ = act(env, r0="<scratchpad>mine</scratchpad>", a="<scratchpad>to do</scratchpad>")
    seen = {agent: observation["scratchpad"] for agent, observation in observations.items()}
    assert seen == {"reader_0": "mine", "reader_1": "", "answerer_0": "to do"}


def test_M4_M5_a_read_sees_what_all_did_in_the_same_step_and_is_shown_to_who_asked() -> None:
    env = fixed(2)
    observations, *_ = act(env, r0="<read>a boat</read>", r1="<create>a boat</create>")
    assert [m["text"] for m in observations["reader_0"]["memories"]] == ["a boat"]
    assert observations["reader_1"]["memories"] == observations["answerer_0"]["memories"] == ()
    observations, *_ = act(env, r1="<delete id='1'/>", a="<read>a boat</read>")
    assert observations["reader_0"]["memories"] == observations["answerer_0"]["memories"] == ()


# -- authors and conflicts


def test_every_memory_shows_who_wrote_its_present_text() -> None:
    env = fixed(2)
    act(env, r0="<create>bees</create>", r1="<create>boats</create>")
    observations, *_ = act(env, r0="<update id='2'>boats and ships</update>", a="<read>boats bees</read>")
    shown = {m["id"]: (m["text"], m["author"]) for m in observations["answerer_0"]["memories"]}
    assert shown == {1: ("bees", "reader_0"), 2: ("boats and ships", "reader_0")}
    assert observations["answerer_0"] in env.observation_space("answerer_0")
    assert env.state()["entries"][1] == {"id": 2, "text": "boats and ships", "author": "reader_0"}


def test_M1_ids_are_the_teams_in_the_order_of_the_agents() -> None:
    env = fixed(2)
    observations, *_ = act(env, a="<create>c</create>", r1="<create>b</create>", r0="<create>a</create>")
    assert [o["feedback"] for o in observations.values()] == ["created 1", "created 2", "created 3"]


def test_M10_the_limit_of_entries_is_the_teams() -> None:
    env = fixed(2, max_entries=1)
    _, _, _, _, infos = act(env, r0="<create>a</create>", r1="<create>b</create>")
    assert infos["reader_0"]["rejected"] == []
    assert [record["reason"] for record in infos["reader_1"]["rejected"]] == ["memory_full"]


@pytest.mark.parametrize("first", ["<update id='1'>new</update>", "<delete id='1'/>"])
@pytest.mark.parametrize("second", ["<update id='1'>other</update>", "<delete id='1'/>"])
@pytest.mark.parametrize(("early", "late"), [("r0", "r1"), ("r1", "a"), ("r0", "a")])
def test_the_first_agents_change_stands_and_both_are_told(first: str, second: str, early: str, late: str) -> None:
    env = fixed(2)
    act(env, r1="<create>old</create>")
    observations, _, _, _, infos = act(env, **{late: second, early: first})
    left = {} if "delete" in first else {1: "new"}
    assert {entry: kept.text for entry, kept in env.episode.memory.entries.items()} == left
    names = {"r0": "reader_0", "r1": "reader_1", "a": "answerer_0"}
    operation = "delete" if "delete" in second else "update"
    record = {"entry": 1, "kept": names[early], "rejected": names[late], "operation": operation}
    for agent in env.possible_agents:
        told = [record] if agent in (names[early], names[late]) else []
        assert infos[agent]["conflicts"] == told
    assert [r["reason"] for r in infos[names[late]]["rejected"]] == ["conflict"]
    assert infos[names[early]]["rejected"] == []
    assert f"{names[early]} changed entry 1 in this step" in observations[names[late]]["feedback"]
    assert (
        f"conflict on entry 1: your change stands, the {operation} of {names[late]} was rejected"
        in (observations[names[early]]["feedback"])
    )


def test_an_entry_that_another_agent_creates_in_the_same_step_cannot_be_named_but_ones_own_can() -> None:
    env = fixed(2)
    _, _, _, _, infos = act(
        env, r0="<create>a</create><update id='1'>mine</update>", r1="<update id='1'>guessed</update>"
    )
    assert infos["reader_0"]["rejected"] == []
    assert [record["reason"] for record in infos["reader_1"]["rejected"]] == ["conflict"]
    assert env.episode.memory.entries[1].text == "mine"


def test_a_rejected_operation_does_not_take_an_entry() -> None:
    env = fixed(2)
    act(env, r0="<create>old</create>")
    _, _, _, _, infos = act(env, r0="<update id='1'></update>", r1="<update id='1'>new</update>")
    assert infos["reader_1"]["rejected"] == infos["reader_1"]["conflicts"] == []
    assert env.episode.memory.entries[1].text == "new"


# -- rewards, metrics, resets and settings


def test_R1_all_get_the_episodes_reward_once_and_metrics_count_the_operations_of_all() -> None:
    env = fixed(2, chunk_tokens=1000)
    _, rewards, *_ = act(env, r0="<create>a</create>", r1="<create>b</create><create>c</create><delete id='9'/>")
    assert set(rewards.values()) == {0.0}
    _, rewards, _, _, infos = act(env, a="<create>d</create><answer>here</answer>")
    assert rewards == dict.fromkeys(env.possible_agents, 1.0)
    metrics = infos["reader_1"]["episode_metrics"]
    assert metrics["operations"]["create"] == 4
    assert metrics["rejected"] == 1
    assert {name: agent["operations"]["create"] for name, agent in metrics["agents"].items()} == {
        "reader_0": 1,
        "reader_1": 2,
        "answerer_0": 1,
    }
    assert (metrics["steps"], metrics["final_entries"], metrics["peak_entries"]) == (2, 4, 4)


def test_readers_see_the_open_question_and_their_samples_hold_no_answer() -> None:
    second = dataclasses.replace(QUESTION, id="q2", question="And when?")
    env = fixed(1, chunk_tokens=1000, items=OneItem(Item("fixed/0", 0, 0, (QUESTION, second), DOCUMENTS)))
    act(env)
    observations, *_ = act(env, a="<answer>here</answer>")
    assert {observation["question"] for observation in observations.values()} == {"And when?"}
    assert not any("<answer>" in env.action_space("reader_0").sample() for _ in range(50))


def test_E12_evidence_is_what_the_answerer_was_shown() -> None:
    for reader in ("r0", "a"):
        env = fixed(1, chunk_tokens=1000)
        act(env, r0="<create>Text of document 0.</create>")
        act(env, **{reader: "<read>document 0</read>"})
        _, _, _, _, infos = act(env, a="<answer>here</answer>")
        assert infos["reader_0"]["episode_metrics"]["evidence_recall_exact"] == float(reader == "a")


def test_E7_no_step_before_the_first_reset_and_after_the_end() -> None:
    env = team.parallel_env(readers=2, max_cycles=1, **SMALL)
    with pytest.raises(ResetNeeded):
        env.step({})
    with pytest.raises(ResetNeeded):
        env.state()
    env.reset()
    act(env)
    with pytest.raises(ResetNeeded):
        env.step({})
    env.reset()
    assert env.agents == env.possible_agents


def test_E8_the_same_item_as_the_single_environment() -> None:
    import gymnasium as gym

    single = gym.make("AtomMem-Synthetic-v0", **SMALL)
    env = team.parallel_env(readers=3, **SMALL)
    for seed in range(3):
        single.reset(seed=seed)
        env.reset(seed=seed)
        assert env.item == single.unwrapped.item  # type: ignore[attr-defined]
    env.reset(options={"index": 5, "shuffle_seed": 2})
    single.reset(options={"index": 5, "shuffle_seed": 2})
    assert env.item == single.unwrapped.item  # type: ignore[attr-defined]
    with pytest.raises(IndexError):
        env.reset(options={"index": env.num_items})
    with pytest.raises(ConfigError, match="indx"):
        env.reset(options={"indx": 1})
    assert env.item.index == 5
    env.reset(options={"difficulty": 0.0})
    assert len(env.item.documents) < 20
    assert env.episode.config.difficulty == 0.0


@pytest.mark.parametrize(
    ("keywords", "named"),
    [
        ({"readers": 0}, "readers=0"),
        ({"readers": True}, "readers=True"),
        ({"parts": "thirds"}, "parts='thirds'"),
        ({"task": "Hotpot"}, "Hotpot"),
        ({"preset": "released"}, "preset='released'"),
        ({"max_cycles": 3, "max_steps": 4}, "max_cycles=3"),
        ({"max_cycles": 0}, "max_steps=0"),
        ({"render_mode": "rgb_array"}, "rgb_array"),
        ({"topk": 3}, "top_k"),
    ],
)
def test_wrong_settings_are_named(keywords: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(named)):
        team.parallel_env(**keywords)


@pytest.mark.parametrize(
    ("actions", "error"),
    [
        ({"reader_0": "", "answerer_0": ""}, "no action for 'reader_1'"),
        ({"reader_0": "", "reader_1": "", "answerer_0": "", "reader_2": ""}, "the unknown agent 'reader_2'"),
    ],
)
def test_a_step_needs_an_action_of_everyone(actions: dict[str, str], error: str) -> None:
    with pytest.raises(ValueError, match=error):
        fixed(2).step(actions)
    with pytest.raises(TypeError, match="None is a NoneType"):
        act(fixed(2), r1=None)  # type: ignore[arg-type]


def test_max_cycles_set_later_holds_from_the_next_reset() -> None:
    env = fixed(1, max_steps=9)
    assert env.max_cycles == 9
    env.max_cycles = 2
    assert env.episode.max_steps == 9
    observations, _ = env.reset()
    assert env.episode.max_steps == observations["reader_0"]["steps_left"] == 2
    env.max_cycles = 0
    with pytest.raises(ConfigError, match="max_cycles=0"):
        env.reset()


def test_rendering_shows_authors_and_conflicts_and_lets_nothing_steer_the_terminal() -> None:
    env = fixed(2, render_mode="ansi")
    act(env, r0="<create>a\x1b[2Jb</create>")
    frame = env.render()
    assert frame is not None
    assert "\x1b[2J" not in frame
    act(env, r0="<update id='1'>x</update>", r1="<delete id='1'/>", a="<read>x</read>")
    plain = re.sub(r"\x1b\[[\d;]*m", "", str(env.render()))
    assert "delete of reader_1 rejected, reader_0 came first" in plain
    assert "[1] by" in plain


def test_observations_are_in_their_spaces_at_every_step() -> None:
    env = fixed(3, initial_query="Text")
    done = False
    while not done:
        observations, _, terminations, truncations, _ = act(
            env, r0="<create>Text</create><read>Text</read>", a="<scratchpad>s</scratchpad>"
        )
        for agent, observation in observations.items():
            assert observation in env.observation_space(agent)
            assert isinstance(observation["progress"], np.ndarray)
        done = all(terminations.values()) or all(truncations.values())
