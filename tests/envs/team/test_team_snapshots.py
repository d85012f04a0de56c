"""SPEC M14 for teams: a snapshot holds the whole team, and what follows it equals a replay from the beginning."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gymnasium.error import ClosedEnvironmentError
from hypothesis import given
from hypothesis import strategies as st
from support.fixed_items import OneItem
from support.stores.flaky_store import FlakyStore

from atommem_gym.errors import SnapshotError, StoreError
from atommem_gym.records.identity import documents_hash
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.testing import actions, budget

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
from atommem_gym.envs.team import branching, episode, team

DOCUMENTS = tuple(Document(f"Title {i}", f"Text of document {i}.") for i in range(6))
QUESTIONS = tuple(
    Record(f"q{i}", f"Where is {i}?", "here", DOCUMENTS, (i,), (Evidence(f"Title {i}", DOCUMENTS[i].text, "here"),))
    for i in range(2)
)
ITEMS = OneItem(Item("fixed/0", 0, 0, QUESTIONS, DOCUMENTS))
FORMS: list[dict[str, Any]] = [
    {"store": "numpy", "readers": 2, "chunk_tokens": 20, "max_entries": 4, "max_steps": 8},
    {"store": "milvus", "readers": 3, "chunk_tokens": 12, "parts": "round_robin"},
    {
        "store": "numpy",
        "readers": 1,
        "chunk_tokens": 12,
        "sticky_query": True,
        "scratchpad": False,
        "early_answer": True,
    },
    {"readers": 2, "chunk_tokens": 20, "storage": False},
]


def make(form: int, **changes: Any) -> team.TeamEnv:
    return team.parallel_env(items=ITEMS, **{**FORMS[form], **changes})


def played(env: team.TeamEnv, joint: list[dict[str, str]]) -> list[str]:
    """What these joint actions give, up to the end of the episode and the reset after it."""
    found = []
    for each in joint:
        if not env.agents:
            break
        found.append(repr(env.step(each)))
        found.append(repr(env.state()))
    sampled = [env.action_space(agent).sample() for agent in env.possible_agents]
    return [*found, repr(sampled), repr(env.agents), repr(env.reset())]


@pytest.mark.parametrize("form", range(len(FORMS)))
@given(data=st.data())
@budget(8)
def test_M14_what_follows_a_snapshot_equals_a_replay(form: int, data: st.DataObject) -> None:
    env, other = make(form), make(form)
    agents = env.possible_agents
    joint = data.draw(
        st.lists(st.fixed_dictionaries({name: actions("crud") for name in agents}), min_size=1, max_size=9)
    )
    at = data.draw(st.integers(0, len(joint)))
    for one in (env, other):
        one.reset(seed=3)
        for agent in agents:
            one.action_space(agent).seed(3)
    expected = played(other, joint)
    seen: Any = env.reset(seed=3)[0]
    for each in joint[:at]:
        if env.agents:
            seen = env.step(each)[0]
    saved = pickle.loads(pickle.dumps(env.snapshot()))
    unchanged = copy.deepcopy(saved)
    steps = min(at, env.episode.answerer.state.steps)
    rest = expected[2 * steps :]
    assert played(env, joint[at:]) == rest  # taking it changed nothing
    for _ in range(2):
        # Into the environment that has gone on, and into one that plays something else.
        for one in (env, other):
            assert repr(one.restore(saved)) == repr(seen)
            assert played(one, joint[at:]) == rest
    assert repr(saved) == repr(unchanged)
    env.close()
    other.close()


def test_M14_a_team_branches_by_restoring_and_the_branches_share_nothing() -> None:
    env, branch = make(0), make(0)
    env.reset(seed=1)
    quiet = dict.fromkeys(env.possible_agents, "")
    env.step({**quiet, "reader_0": "<create>a</create>", "reader_1": "<create>b</create><scratchpad>s</scratchpad>"})
    saved = env.snapshot()
    assert branch.restore(saved) is not None
    env.step({**quiet, "reader_0": "<update id='2'>mine</update>", "answerer_0": "<delete id='1'/>"})
    assert [one["text"] for one in branch.state()["entries"]] == ["a", "b"]
    assert [one["author"] for one in branch.state()["entries"]] == ["reader_0", "reader_1"]
    branch.step({**quiet, "answerer_0": "<create>c</create><read>b</read>"})
    assert [one["text"] for one in env.state()["entries"]] == ["mine"]
    assert branch.state()["scratchpads"]["reader_1"] == "s"
    env.close()
    assert branch.step({**quiet, "answerer_0": "<read>c</read>"})[0]["answerer_0"]["memories"][0]["text"] == "c"
    branch.close()


def test_M14_a_snapshot_before_the_first_reset_and_one_after_the_end() -> None:
    env = make(0)
    before = env.snapshot()
    env.reset(seed=1)
    while env.agents:
        env.step(dict.fromkeys(env.agents, "<create>a</create>"))
    over = env.snapshot()
    assert env.restore(before) is None
    assert env.agents == []
    other = make(0)
    assert other.restore(over) is not None
    assert other.agents == []
    assert other.episode.over
    other.reset()
    assert other.agents == other.possible_agents
    env.close()
    other.close()


def test_M14_a_step_that_failed_is_in_no_snapshot(tmp_path: Path) -> None:
    env = make(0, store=f"milvus://{tmp_path}/kept.db")
    env.reset(seed=1)
    quiet = dict.fromkeys(env.possible_agents, "")
    env.step({**quiet, "reader_0": "<create>a</create>"})
    flaky = FlakyStore(env._backend.store)
    env._backend.store = flaky  # type: ignore[assignment]
    flaky.failing = "candidates"
    with pytest.raises(StoreError):
        env.step({**quiet, "reader_1": "<create>lost</create>", "answerer_0": "<delete id='1'/><read>lost</read>"})
    flaky.failing = ""
    other = make(0)
    other.restore(env.snapshot())
    wanted = {**quiet, "answerer_0": "<read>a</read>"}
    assert repr(other.step(wanted)) == repr(env.step(wanted))
    env.close()
    other.close()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"readers": 3}, "'readers': 2"),
        ({"parts": "round_robin"}, "'parts': 'contiguous'"),
        ({"max_entries": 5}, "max_entries=4"),
        ({"items": OneItem(Item("fixed/0", 0, 0, QUESTIONS, DOCUMENTS[:5]))}, "documents"),
        ({"items": OneItem(Item("other/0", 0, 0, QUESTIONS, DOCUMENTS))}, "'fixed/0'"),
    ],
)
def test_M14_a_snapshot_of_another_team_is_refused_and_nothing_changes(changes: dict[str, Any], says: str) -> None:
    env = make(0)
    env.reset(seed=1)
    saved = env.snapshot()
    other = team.parallel_env(**{"items": ITEMS, **FORMS[0], **changes})
    other.reset(seed=2)
    before = repr(other.snapshot())
    with pytest.raises(SnapshotError, match=says):
        other.restore(saved)
    assert repr(other.snapshot()) == before
    env.close()
    other.close()


def damaged(saved: dict[str, Any], *path: Any, value: Any = None) -> dict[str, Any]:
    copied: Any = copy.deepcopy(saved)
    where = copied
    for name in path[:-1]:
        where = where[name]
    if value is KeyError:
        del where[path[-1]]
    else:
        where[path[-1]] = value
    result: dict[str, Any] = copied
    return result


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("version",), 2),
        (("team",), KeyError),
        (("np_random",), "x"),
        (("np_random",), KeyError),
        (("action_spaces", "reader_0"), {}),
        (("action_spaces",), {}),
        (("config",), 3),
        (("action_spaces",), None),
        (("episode",), []),
        (("episode", "vectors"), KeyError),
        (("episode", "vectors"), ([1, 2], None)),
        (("episode", "memory"), {}),
        (("episode", "states"), {}),
        (("episode", "states", "reader_1"), None),
        (("episode", "index"), 7),
        (("episode", "index"), "x"),
        (("episode", "shuffle_seed"), None),
        (("episode", "difficulty"), "hard"),
        (("episode", "item"), {}),
        (("episode", "max_steps"), -1),
        (("more",), 1),
    ],
)
def test_finding_4_3_a_damaged_snapshot_of_a_team_raises_and_changes_nothing(path: tuple[Any, ...], value: Any) -> None:
    env = make(0)
    env.reset(seed=1)
    env.step(dict.fromkeys(env.possible_agents, "<create>a</create>"))
    saved = env.snapshot()
    before = repr(saved)
    with pytest.raises(SnapshotError):
        env.restore(damaged(saved, *path, value=value))
    assert repr(env.snapshot()) == before
    env.close()


def test_M14_snapshots_of_one_episode_of_a_team_hash_its_item_once(monkeypatch: pytest.MonkeyPatch) -> None:
    env, other = make(0), make(0)
    env.reset(seed=1)
    hashed: list[Any] = []

    def counted(documents: Any) -> str:
        hashed.append(documents)
        return documents_hash(documents)

    for module in (episode, branching):
        monkeypatch.setattr(module, "documents_hash", counted, raising=False)
    saved = env.snapshot()
    for _ in range(2):
        env.restore(saved)
        assert repr(env.snapshot()) == repr(saved)
    assert len(hashed) == 1
    for _ in range(2):
        other.restore(saved)
        assert repr(other.snapshot()["episode"]) == repr(saved["episode"])
    assert len(hashed) == 2
    env.close()
    other.close()


Damage = Callable[[dict[str, Any]], Any]
MEMORY: dict[str, Damage] = {
    "no authors": lambda saved: setattr(saved["memory"], "authors", None),
    "authors without the attribute": lambda saved: delattr(saved["memory"], "authors"),
    "authors by text": lambda saved: saved["memory"].authors.update({"1": "reader_0"}),
    "no scratchpads": lambda saved: setattr(saved["memory"], "scratchpads", None),
    "a scratchpad of bytes": lambda saved: saved["memory"].scratchpads.update(reader_0=b"x"),
    "over for one": lambda saved: setattr(saved["states"]["reader_0"], "over", True),
}


@pytest.mark.parametrize("name", MEMORY)
def test_M14_a_damaged_memory_of_a_team_raises_and_changes_nothing(name: str) -> None:
    env = make(0)
    env.reset(seed=1)
    quiet = dict.fromkeys(env.possible_agents, "")
    env.step(dict.fromkeys(env.possible_agents, "<create>a</create>"))
    saved = env.snapshot()
    before = repr(saved)
    MEMORY[name](saved["episode"])
    assert env._backend.store is not None
    keys = env._backend.store.episodes()
    with pytest.raises(SnapshotError, match=r"damaged: episode\.(memory|states)"):
        env.restore(saved)
    assert repr(env.snapshot()) == before
    assert env._backend.store.episodes() == keys
    env.step(quiet)
    env.close()


TURNS: dict[str, tuple[Damage, str]] = {
    "empty": (lambda turn: turn.clear(), "only one of turn and team"),
    "the environment": (lambda turn: turn.update(env=None), "its turn has 'env'"),
    "a method": (lambda turn: turn.update(step=3), "its turn has 'step'"),
    "no actions": (lambda turn: turn.pop("_actions"), "its turn has no '_actions'"),
    "no rewards": (lambda turn: turn.pop("rewards"), "its turn has no 'rewards'"),
}


@pytest.mark.parametrize("name", TURNS)
def test_M14_a_damaged_turn_raises_and_changes_nothing(name: str) -> None:
    env = team.env(items=ITEMS, **FORMS[0])
    env.reset(seed=1)
    env.step("<create>a</create>")
    before = repr(env.snapshot()["team"])
    saved = env.snapshot()
    env.step("<create>b</create>")
    agent = env.agent_selection
    damage, says = TURNS[name]
    damage(saved["turn"])
    with pytest.raises(SnapshotError, match=says):
        env.restore(saved)
    assert repr(env.snapshot()["team"]) == before
    assert env.agent_selection == agent
    env.step("")
    assert env.unwrapped.episode.answerer.state.steps == 1
    env.close()


def test_M14_a_closed_team_has_no_snapshots() -> None:
    env = make(0)
    env.reset(seed=1)
    saved = env.snapshot()
    env.close()
    with pytest.raises(ClosedEnvironmentError, match="is closed"):
        env.snapshot()
    with pytest.raises(ClosedEnvironmentError, match="is closed"):
        env.restore(saved)


def test_M14_snapshots_of_other_forms_of_a_team_say_where_they_belong() -> None:
    parallel, in_turn = make(0), team.env(items=ITEMS, **FORMS[0])
    in_turn.reset(seed=1)
    with pytest.raises(SnapshotError, match=r"whose agents act in turn \(AEC\); restore it into env"):
        parallel.restore(in_turn.snapshot())
    parallel.close()
    in_turn.close()


def test_M14_single_snapshots_are_no_teams() -> None:
    import gymnasium as gym

    single: Any = gym.make("AtomMem-Synthetic-v0", num_docs=20, store="numpy").unwrapped
    single.reset(seed=1)
    env = make(0)
    with pytest.raises(SnapshotError, match="not a snapshot of a team"):
        env.restore(single.snapshot())
    env.reset(seed=1)
    with pytest.raises(SnapshotError, match="is of a team; restore it into the same team"):
        single.restore(env.snapshot())
    single.close()
    env.close()


def turns(env: Any, joint: list[dict[str, str]], first: int, end: int) -> list[str]:
    """What agents that act in turn observe in the turns from ``first`` up to ``end``."""
    found = []
    for number in range(first, end):
        if not env.agents:
            break
        agent, told = env.agent_selection, env.last()
        found.append(repr((agent, told, env.rewards)))
        action = joint[number // len(env.possible_agents) % len(joint)][agent]
        env.step(None if told[2] or told[3] else action)
    return found


@pytest.mark.parametrize("kind", [team.env, team.raw_env])
@pytest.mark.parametrize("at", [0, 1, 2, 5, 12, 25])
def test_M14_agents_that_act_in_turn_go_on_in_the_middle_of_a_round(kind: Any, at: int) -> None:
    small = {**FORMS[0], "max_steps": 8, "items": ITEMS}
    env, other = kind(**small), kind(**small)
    joint = [
        {"reader_0": "<create>a</create>", "reader_1": "<create>b</create><read>a</read>", "answerer_0": ""},
        {"reader_0": "<update id='2'>c</update>", "reader_1": "<delete id='1'/>", "answerer_0": "<read>b</read>"},
    ]
    other.reset(seed=3)
    expected = turns(other, joint, 0, 99)
    before = other.snapshot()
    env.reset(seed=3)
    assert turns(env, joint, 0, at) == expected[:at]
    saved = pickle.loads(pickle.dumps(env.snapshot()))
    fresh = kind(**small)  # never reset
    untouched = fresh.snapshot()
    for one in (env, other, fresh):
        one.restore(saved)
        assert turns(one, joint, at, 99) == expected[at:]
    assert repr(other.snapshot()["team"]["episode"]) == repr(before["team"]["episode"])
    fresh.restore(untouched)
    with pytest.raises(AttributeError, match="before reset"):
        _ = fresh.agents
    with pytest.raises(SnapshotError, match="not a snapshot of an AEC team"):
        env.restore(saved["team"])
    with pytest.raises(SnapshotError, match="not a snapshot of a team"):
        env.unwrapped.restore(saved["turn"])
    for one in (env, other, fresh):
        one.close()
