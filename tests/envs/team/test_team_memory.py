"""What a team's memory promises when something fails midway, in a database, and next to other teams (SPEC M13, R3)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from support.stores.flaky_store import FlakyStore

from atommem_gym.errors import EmbedderError, JudgeError, StoreError
from atommem_gym.memory.memory import Entry, Limits, Memory
from atommem_gym.tokenizers import load_tokenizer

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
from atommem_gym.envs.team import team
from atommem_gym.envs.team.memory import TeamDraft, TeamMemory

SMALL: dict[str, Any] = {"readers": 2, "num_docs": 20, "chunk_tokens": 250}
STORES = ["numpy", "milvus", "milvus://{tmp}/kept.db"]
FIRST = {"reader_0": "<create>bees</create>", "reader_1": "<create>boats</create>", "answerer_0": ""}
BROKEN = {
    "reader_0": "<create>ghost</create><scratchpad>lost</scratchpad>",
    "reader_1": '<update id="1">changed</update><read>ghost</read>',
    "answerer_0": '<delete id="2"/><read>bees</read>',
}
NEXT = {"reader_0": "<create>new</create>", "reader_1": "<read>new bees</read>", "answerer_0": "<read>boats</read>"}


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("failing", ["write", "candidates"])
def test_a_step_that_fails_changes_nothing_and_leaves_nothing(store: str, failing: str, tmp_path: Path) -> None:
    env = team.parallel_env(store=store.format(tmp=tmp_path), **SMALL)
    calm = team.parallel_env(store="numpy", **SMALL)
    broken = FlakyStore(env._backend.store)
    env._backend.store = broken  # type: ignore[assignment]
    for one in (env, calm):
        one.reset(seed=1)
        one.step(FIRST)
    before = repr((env.state(), [member.observation() for member in env.episode.members.values()]))
    for _ in range(2):
        broken.failing = failing
        with pytest.raises(StoreError):
            env.step(BROKEN)
        broken.failing = ""
        assert repr((env.state(), [member.observation() for member in env.episode.members.values()])) == before
    assert repr(env.step(NEXT)) == repr(calm.step(NEXT))
    assert repr(env.step(BROKEN)) == repr(calm.step(BROKEN))
    assert repr(env.state()) == repr(calm.state())
    env.close()


@pytest.mark.parametrize("store", STORES)
def test_a_reset_that_fails_leaves_the_old_episode_and_draws_the_same_item_again(store: str, tmp_path: Path) -> None:
    env = team.parallel_env(store=store.format(tmp=tmp_path), initial_query="river", **SMALL)
    env.reset(seed=1)
    env.step(FIRST)
    expected = team.parallel_env(store="numpy", initial_query="river", **SMALL)
    expected.reset(seed=1)
    expected.reset()
    item, key = env.item, env.memory_key
    working = env._backend.write_and_search

    def fails(jobs: object) -> None:
        raise StoreError("on purpose")

    env._backend.write_and_search = fails  # type: ignore[method-assign]
    with pytest.raises(StoreError):
        env.reset()
    env._backend.write_and_search = working  # type: ignore[method-assign]
    assert (env.item, env.memory_key) == (item, key)
    assert {m["text"] for m in env.step(NEXT)[0]["answerer_0"]["memories"]} == {"bees", "boats", "new"}
    env.reset()
    assert env.item == expected.item
    env.close()


def test_R3_an_embedder_or_judge_that_fails_may_be_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    verdicts: list[float | Exception] = [JudgeError("busy"), 0.5]

    class Judge:
        name = "judge"

        def score(self, requests: Any) -> list[float]:
            verdict = verdicts.pop(0)
            if isinstance(verdict, Exception):
                raise verdict
            return [verdict] * len(requests)

    def down(texts: Any, kind: Any) -> Any:
        raise EmbedderError("down")

    env = team.parallel_env(store="numpy", reward=Judge(), num_docs=20, readers=1, chunk_tokens=100_000)
    env.reset(seed=0)
    assert env._backend.embedder is not None
    monkeypatch.setattr(env._backend.embedder, "embed_in_part", down)
    with pytest.raises(EmbedderError):
        env.step({"reader_0": "<create>bees</create>", "answerer_0": ""})
    assert env.state()["entries"] == []
    monkeypatch.undo()
    env.step({"reader_0": "<create>bees</create>", "answerer_0": ""})
    last = {"reader_0": "<create>boats</create>", "answerer_0": "<answer>x</answer>"}
    with pytest.raises(JudgeError):
        env.step(last)
    assert len(env.state()["entries"]) == 1
    assert env.step(last)[1] == {"reader_0": 0.5, "answerer_0": 0.5}


def test_a_step_of_a_team_costs_one_embedding_call_a_kind_and_one_write(monkeypatch: pytest.MonkeyPatch) -> None:
    env = team.parallel_env(store="numpy", **SMALL)
    embedder, store = env._backend.embedder, env._backend.store
    assert embedder is not None
    assert store is not None
    texts: list[list[str]] = []
    written: list[int] = []
    embed, write = embedder.embed_in_part, store.write

    def embeds(some: Any, kind: Any) -> Any:
        texts.append(list(some))
        return embed(some, kind)

    def writes(some: Any) -> None:
        written.append(len(some))
        write(some)

    monkeypatch.setattr(embedder, "embed_in_part", embeds)
    monkeypatch.setattr(store, "write", writes)
    env.reset(seed=0)
    assert texts == written == []
    env.step({agent: f"<create>entry of {agent}</create><read>query of {agent}</read>" for agent in env.agents})
    assert len(texts) <= 2
    assert sum(map(len, texts)) == 6
    assert written == [1]


# -- databases


def test_M13_teams_in_one_database_never_see_each_other(tmp_path: Path) -> None:
    path = f"milvus://{tmp_path}/kept.db"
    one, other = (team.parallel_env(store=path, **SMALL) for _ in range(2))
    for env in (one, other):
        env.reset(seed=3)
    one.step(FIRST)
    seen = other.step(NEXT)[0]["answerer_0"]["memories"]
    assert [memory["text"] for memory in seen] == ["new"]
    one.close()
    other.close()


def test_M13_a_kept_memory_goes_on_with_entries_authors_and_scratchpads(tmp_path: Path) -> None:
    path = f"milvus://{tmp_path}/kept.db"
    env = team.parallel_env(store=path, **SMALL)
    env.reset(seed=3)
    env.step({**FIRST, "answerer_0": "<scratchpad>so far</scratchpad>"})
    env.step({"reader_0": '<update id="2">ships</update>', "reader_1": '<delete id="1"/>', "answerer_0": ""})
    state, key = env.state(), env.memory_key
    env.close()
    again = team.parallel_env(store=path, **SMALL)
    observations, _ = again.reset(options={"memory": key})
    assert again.memory_key == key
    assert again.state()["entries"] == state["entries"] == [{"id": 2, "text": "ships", "author": "reader_0"}]
    assert observations["answerer_0"]["scratchpad"] == "so far"
    assert again.step(FIRST)[0]["reader_0"]["feedback"] == "created 3"
    with pytest.raises(StoreError, match="in use"):
        team.parallel_env(store=path, **SMALL).reset(options={"memory": key})
    again.reset(options={"memory": key})
    assert len(again.state()["entries"]) == 3
    again.close()


def test_M13_a_team_and_a_single_agent_may_go_on_with_each_others_memory(tmp_path: Path) -> None:
    path = f"milvus://{tmp_path}/kept.db"
    single = gym.make("AtomMem-Synthetic-v0", num_docs=20, chunk_tokens=250, store=path)
    single.reset(seed=0)
    single.step("<create>bees</create>")
    key = single.unwrapped.memory_key  # type: ignore[attr-defined]
    single.close()
    env = team.parallel_env(store=path, **SMALL)
    env.reset(options={"memory": key})
    seen = env.step({"reader_0": "", "reader_1": "<create>boats</create>", "answerer_0": "<read>x</read>"})[0]
    assert [(m["id"], m["author"]) for m in seen["answerer_0"]["memories"]] == [(1, ""), (2, "reader_1")]
    env.close()
    single = gym.make("AtomMem-Synthetic-v0", num_docs=20, chunk_tokens=250, store=path)
    single.reset(options={"memory": key})
    assert {m["text"] for m in single.step("<read>x</read>")[0]["memories"]} == {"bees", "boats"}
    single.close()


def test_M13_a_reset_that_fails_leaves_the_kept_memory_to_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"milvus://{tmp_path}/kept.db"
    env, other = (team.parallel_env(store=path, **SMALL) for _ in range(2))
    env.reset(seed=3)
    env.step(FIRST)
    key = env.memory_key
    env.reset(seed=4)

    def fail(jobs: object) -> None:
        raise StoreError("on purpose")

    monkeypatch.setattr(env._backend, "write_and_search", fail)
    with pytest.raises(StoreError, match="on purpose"):
        env.reset(options={"memory": key})
    other.reset(options={"memory": key})
    assert other.memory_key == key
    env.close()
    other.close()


def test_a_temporary_database_holds_nothing_of_an_episode_that_is_over(tmp_path: Path) -> None:
    env = team.parallel_env(store="milvus", max_cycles=1, **SMALL)
    env.reset(seed=3)
    env.step(FIRST)
    assert env._backend.store is not None
    assert env._backend.store.episodes() == []
    env.reset()
    env.close()
    env.close()


def test_the_kept_state_of_a_team_is_read_back_and_that_of_a_single_agent_has_no_authors() -> None:
    memory = TeamMemory({}, 4, "", {3: "reader_1"}, {"reader_0": 'a "quoted" text'})
    state = memory.kept_state("hashing")
    assert json.loads(state)["next_id"] == 4
    assert TeamMemory.from_single(Memory({}, 4), state) == memory
    assert TeamMemory.from_single(Memory({}, 4), Memory({}, 4).kept_state("hashing")).authors == {}
    for odd in (
        None,
        7,
        [],
        {"authors": 7},
        {"authors": {"a": "A"}},
        {"authors": {"1": 7}},
        {"scratchpads": {"A": None}},
    ):
        with pytest.raises(StoreError, match=r"team that cannot be read \(.*nothing was written"):
            TeamMemory.from_single(Memory({}, 4), json.dumps({"next_id": 4, "team": odd}))


def test_an_agents_draft_sees_what_the_agents_before_it_did_and_counts_only_its_own_as_its_own() -> None:
    tokenizer = load_tokenizer("words")
    memory = TeamMemory({1: Entry("bees", 1), 2: Entry("boats", 1)}, 3)
    shared = TeamDraft(memory, Limits(9, 9, None), tokenizer)
    first, second = (shared.of_member(name, memory.of_member(name)) for name in ("reader_0", "reader_1"))
    assert first.create("rain").id == 3
    assert first.create("sun").id == 4
    assert first.delete(1).applied
    assert second.update(2, "ships").applied
    assert len(first) == len(second) == len(shared) == 3
    assert (second.find("rain"), second.find("bees"), first.find("ships")) == (3, None, 2)
    assert (list(first.writes), first.deletes) == ([3, 4], [1])
    assert (list(second.writes), second.deletes) == ([2], [])
    assert memory.entries.keys() == {1, 2}
    shared.commit()
    assert {entry: kept.text for entry, kept in memory.entries.items()} == {2: "ships", 3: "rain", 4: "sun"}
    assert memory.authors == {2: "reader_1", 3: "reader_0", 4: "reader_0"}


@pytest.mark.parametrize("store", STORES[:2])
def test_M6_each_of_many_readers_finds_what_it_asked_for(store: str) -> None:
    env = team.parallel_env(**{**SMALL, "readers": 9, "num_docs": 60, "top_k": 1}, store=store)
    words = ["bees", "boats", "clocks", "towers", "queens", "storms", "lemons", "poems", "banks"]
    env.reset(seed=0)
    for number in range(3):
        facts = {f"reader_{i}": f"<create>{word} {number}</create>" for i, word in enumerate(words)}
        observations, *_ = env.step({agent: facts.get(agent, "") for agent in env.agents})
    reads = {f"reader_{i}": f"<read>{word} 1</read>" for i, word in enumerate(words)}
    observations, *_ = env.step({agent: reads.get(agent, "") for agent in env.agents})
    shown = [observations[f"reader_{i}"]["memories"] for i in range(len(words))]
    assert [memories[0]["text"] for memories in shown] == [f"{word} 1" for word in words]
    env.close()
