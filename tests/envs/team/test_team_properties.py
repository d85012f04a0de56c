"""Teams as properties: any joint actions against a small model of the memory, and one reader against one agent."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fixed_items import OneItem

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.actions import ActionText, Create, Delete, Operation, Scratchpad, Update, format_action
from atommem_gym.records.layout import stable_rng
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.step import REASONS
from atommem_gym.testing import budget, hostile_texts

pytest.importorskip("pettingzoo", reason="needs PettingZoo: pip install 'atommem-gym[team]'")
from atommem_gym.envs.team import team

DOCUMENTS = tuple(Document(f"Title {i}", f"Text of document {i}.") for i in range(6))
QUESTION = Record(
    "q1", "Where is it?", "here", DOCUMENTS[:1], (0,), (Evidence("Title 0", "Text of document 0.", "here"),)
)
ITEMS = OneItem(Item("fixed/0", 0, 0, (QUESTION,), DOCUMENTS))
MAX_ENTRIES = 5

ids = st.integers(1, 7)
words = st.sampled_from(["bees", "boats", "rain", "sun"])
writes: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Create, words), st.builds(Update, ids, words), st.builds(Delete, ids), st.builds(Scratchpad, words)
)


class Model:
    """The shared memory as the rules have it: texts, authors and scratchpads in dicts."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.authors: dict[int, str] = {}
        self.scratchpads: dict[str, str] = {}
        self.created = 0

    def step(self, operations: Mapping[str, list[Operation]]) -> dict[str, list[str]]:
        """Execute a step and return the reasons for which each agent's operations are rejected."""
        touched: dict[int, str] = {}
        reasons: dict[str, list[str]] = {agent: [] for agent in operations}
        for agent, own in operations.items():
            for op in own:
                reason = self._execute(agent, op, touched)
                if reason:
                    reasons[agent].append(reason)
        return reasons

    def _execute(self, agent: str, op: Operation, touched: dict[int, str]) -> str:
        if isinstance(op, Scratchpad):
            self.scratchpads[agent] = op.text
            return ""
        if isinstance(op, Create):
            if len(self.texts) >= MAX_ENTRIES:
                return "memory_full"
            self.created += 1
            entry = self.created
        else:
            assert isinstance(op, (Update, Delete))
            entry = op.id
            if touched.get(entry, agent) != agent:
                return "conflict"
            if entry not in self.texts:
                return "unknown_id"
        touched[entry] = agent
        if isinstance(op, Delete):
            del self.texts[entry], self.authors[entry]
        else:
            self.texts[entry], self.authors[entry] = op.text, agent
        return ""


@pytest.fixture(scope="module", params=["numpy", "milvus"])
def shared(request: pytest.FixtureRequest) -> Iterator[team.TeamEnv]:
    env = team.parallel_env(
        readers=2,
        items=ITEMS,
        chunk_tokens=20,
        store=request.param,
        max_entries=MAX_ENTRIES,
        max_steps=12,
        # The model knows no read limit; as many reads as steps never reach it.
        max_reads_per_question=12,
    )
    yield env
    env.close()


@given(data=st.data())
@budget(60)
def test_any_joint_actions_do_what_the_model_does(shared: team.TeamEnv, data: st.DataObject) -> None:
    shared.reset()
    model = Model()
    agents = shared.possible_agents
    for _ in range(data.draw(st.integers(1, 6))):
        operations = {agent: data.draw(st.lists(writes, max_size=4)) for agent in agents}
        actions = {agent: format_action(own) for agent, own in operations.items()}
        query = data.draw(words)
        asking = data.draw(st.sampled_from(agents))
        actions[asking] += f"<read>{query}</read>"
        observations, _, _, _, infos = shared.step(actions)
        expected = model.step(operations)
        state = shared.state()
        assert {entry["id"]: entry["text"] for entry in state["entries"]} == model.texts
        assert {entry["id"]: entry["author"] for entry in state["entries"]} == model.authors
        # What a kept database would be told.
        assert shared.episode.memory.authors == model.authors
        assert {name: text for name, text in shared.episode.memory.scratchpads.items() if text} == model.scratchpads
        for agent in agents:
            assert [record["reason"] for record in infos[agent]["rejected"]] == expected[agent]
            assert observations[agent]["scratchpad"] == model.scratchpads.get(agent, "")
            assert infos[agent]["entries"] == len(model.texts)
            shown = {m["id"]: (m["text"], m["author"]) for m in observations[agent]["memories"]}
            everything = {entry: (text, model.authors[entry]) for entry, text in model.texts.items()}
            assert shown == (everything if agent == asking else {})
        lost = [conflict for info in infos.values() for conflict in info["conflicts"]]
        assert len(lost) == 2 * sum(reasons.count("conflict") for reasons in expected.values())


@given(st.lists(st.lists(hostile_texts(), min_size=3, max_size=3), min_size=1, max_size=6))
@budget(60)
def test_A3_no_texts_make_a_step_raise(shared: team.TeamEnv, texts: list[list[str]]) -> None:
    shared.reset()
    for actions in texts:
        if shared.agents:
            observations, _, _, _, infos = shared.step(dict(zip(shared.possible_agents, actions, strict=True)))
            for agent, info in infos.items():
                assert {record["reason"] for record in info["rejected"]} <= set(REASONS)
                assert observations[agent] in shared.observation_space(agent)


# -- one reader and the answerer are one agent: the reader takes its actions while reading, the answerer afterwards

COMPARED = (
    {"task": "Synthetic", "num_docs": 16, "chunk_tokens": 300},
    {"task": "Synthetic", "num_docs": 16, "chunk_tokens": 300, "questions_per_episode": 3, "question_visible": "end"},
    {"task": "Synthetic", "num_docs": 16, "chunk_tokens": 200, "advance": "on_write", "max_entries": 3, "top_k": 2},
    {"task": "HotpotQA", "source": "synthetic", "num_docs": 12, "chunk_tokens": 200, "initial_query": "river"},
    {"task": "MuSiQue", "source": "synthetic", "num_docs": 12, "dialect": "tools", "max_steps": 5, "reward": "f1"},
    {"task": "Synthetic", "num_docs": 16, "chunk_tokens": 300, "operations": ["create", "read"], "chunk_overlap": 20},
)
"""Where the two are defined to be the same: without a scratchpad, which the two agents would not share, and with
entries named by their ids, since what the last read of the reading phase shows, the answerer does not see."""
HANDED_OVER = ("phase", "progress", "question", "chunk", "reads_left", "steps_left")
STAYS_BEHIND = ("query", "memories", "feedback")


@pytest.mark.parametrize("keywords", COMPARED, ids=lambda keywords: "-".join(map(str, keywords.values()))[:60])
@pytest.mark.parametrize("seed", range(4))
def test_one_reader_and_the_answerer_are_one_agent(keywords: dict[str, Any], seed: int) -> None:
    rest = {name: value for name, value in keywords.items() if name != "task"}
    rest |= {"store": "numpy", "scratchpad": False}
    single = gym.make(f"AtomMem-{keywords['task']}-v0", **rest)
    pair = team.parallel_env(task=keywords["task"], readers=1, **rest)
    space = ActionText(500, dialect=rest.get("dialect", "crud"), seed=seed)
    rng = stable_rng("one reader", seed)
    observation, info = single.reset(seed=seed)
    observations, infos = pair.reset(seed=seed)
    same(observation, alike(observations["reader_0"]))
    over, read_last = False, False
    while not over:
        acting = "answerer_0" if observation["phase"] else "reader_0"
        action = space.sample() if rng.random() < 0.8 else ""
        was_reading = observation["phase"] == 0
        observation, reward, terminated, truncated, info = single.step(action)
        silent = {agent: "" for agent in pair.agents if agent != acting}
        observations, rewards, terminations, truncations, infos = pair.step({acting: action, **silent})
        assert set(rewards.values()) == {reward}
        assert set(terminations.values()) == {terminated}
        assert set(truncations.values()) == {truncated}
        ours = infos[acting]
        assert (info["applied"], info["entries"], info["item"]) == (ours["applied"], ours["entries"], ours["item"])
        assert rejected(info) == rejected(ours)
        if was_reading and observation["phase"] == 1:
            same({name: observation[name] for name in HANDED_OVER}, observations["answerer_0"])
            same({name: observation[name] for name in STAYS_BEHIND[:2]}, alike(observations["reader_0"]))
            read_last = info["applied"]["read"] > 0
        else:
            without = {name: value for name, value in observation.items() if name != "feedback"}
            same(without, alike(observations[acting]))
        assert told(observation) == told(observations[acting])
        over = terminated or truncated
    metrics, of_pair = info["episode_metrics"], dict(infos["reader_0"]["episode_metrics"])
    assert of_pair.pop("agents").keys() == {"reader_0", "answerer_0"}
    if read_last:
        # The single agent sees this read when answering begins; of the pair it is the reader who does.
        metrics = {name: value for name, value in metrics.items() if "recall" not in name}
        of_pair = {name: value for name, value in of_pair.items() if "recall" not in name}
    assert metrics == of_pair


def alike(observation: Mapping[str, Any]) -> dict[str, Any]:
    """A team's observation without authors."""
    shown = [{name: m[name] for name in ("id", "text", "score")} for m in observation["memories"]]
    return {**observation, "memories": tuple(shown)}


def same(expected: Mapping[str, Any], found: Mapping[str, Any]) -> None:
    for name, value in expected.items():
        assert np.array_equal(value, found[name]) if name == "progress" else repr(value) == repr(found[name]), name


def rejected(info: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """Records of rejection; that a reader may not answer at all is reported as such."""
    names = {"not_yet": "no answer", "disabled": "disabled"}
    return [
        (
            r["operation"],
            r["position"],
            "no answer" if r["operation"] == "answer" else names.get(r["reason"], r["reason"]),
        )
        for r in info["rejected"]
    ]


def told(observation: Mapping[str, Any]) -> list[str]:
    """The lines of feedback but those about answers that came too early."""
    return [line for line in observation["feedback"].split("\n") if "answer" not in line]
