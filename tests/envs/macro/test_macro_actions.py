"""MacroActions: what the choices do is a legal episode of the environment, under its budget (issue 4; SPEC E6, M10)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded

from atommem_gym.actions import parse
from atommem_gym.envs import EvidenceReward
from atommem_gym.envs.macro.macro_actions import KEEP, MERGE, NO_READ, READ_QUESTION, READ_RESULT, SKIP, MacroActions
from atommem_gym.envs.macro.macro_state import Measures, Stored
from atommem_gym.errors import ConfigError
from atommem_gym.policies.documents import harmless
from atommem_gym.step import Phase

TASK: dict[str, Any] = {
    "num_docs": 20,
    "chunk_tokens": 300,
    "max_entries": 4,
    "max_entry_tokens": 160,
    "store": "numpy",
}


def make(slots: int = 4, **changes: Any) -> MacroActions:
    return MacroActions(gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **{**TASK, **changes}), slots=slots)


@pytest.fixture
def env() -> Iterator[MacroActions]:
    with closing(make()) as made:
        yield made


def entries(env: MacroActions) -> dict[int, str]:
    """What the environment itself holds."""
    return {i: entry.text for i, entry in env.unwrapped.episode.state.memory.entries.items()}  # type: ignore[attr-defined]


def mirrored(env: MacroActions) -> dict[int, str]:
    """What the wrapper believes that it holds."""
    return {i: entry.text for i, entry in env.macro_state.stored.items()}


def choices(*documents: int, drop: int = 0, read: int = NO_READ) -> list[int]:
    return [*documents, *[SKIP] * (4 - len(documents)), drop, read]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dialect": "tools"},
        {"max_entries": None},
        {"questions_per_episode": 2},
        {"question_visible": "end"},
        {"max_entry_tokens": 24},
        {"chunk_overlap": 40},
        {"operations": ["create", "read"]},
        {"operations": ["create"], "scratchpad": False},
        {"max_steps": 5},
    ],
)
def test_random_choices_are_legal_episodes_and_the_mirror_is_the_memory(changes: dict[str, Any]) -> None:
    with closing(make(**changes)) as env:
        env.action_space.seed(1)
        for index in range(4):
            env.reset(options={"index": index})
            over = False
            while not over:
                _, _, over, truncated, info = env.step(env.action_space.sample())
                assert not truncated
                assert {record["reason"] for record in info["rejected"]} <= {"memory_full"}
                assert mirrored(env) == entries(env)
                done = {"create": "keep", "delete": "drop", "read": "read", "answer": "answer"}
                assert all(info["applied"].get(kind, 0) == info["macro"][name] for kind, name in done.items())
            assert len(entries(env)) <= (env.config.max_entries or 99)
            assert all(a["closed"] in ("answered", "unanswered") for a in info["episode_metrics"]["answers"])


@pytest.mark.parametrize("task", ["HotpotQA", "2WikiMultiHopQA", "MuSiQue"])
def test_real_records_are_played_whole(shared_data: Path, task: str) -> None:
    source = shared_data / f"{task.lower()}.jsonl"
    changes: dict[str, Any] = {"num_docs": 40, "chunk_tokens": 400, "max_entries": 8, "store": "numpy"}
    below = gym.make(f"AtomMem-{task}-v0", disable_env_checker=True, source=str(source), split="validation", **changes)
    with closing(MacroActions(below, slots=6)) as env:
        env.action_space.seed(3)
        for index in range(3):
            env.reset(options={"index": index})
            over = False
            while not over:
                _, _, over, _, info = env.step(env.action_space.sample())
                assert {record["reason"] for record in info["rejected"]} <= {"memory_full"}
                assert mirrored(env) == entries(env)
            assert info["macro"]["waiting"] == 0


def test_every_document_is_offered_once_in_stream_order(env: MacroActions) -> None:
    env.reset(options={"index": 3})
    offered: list[str] = []
    over = False
    while not over:
        offered += [piece.title for piece in env.macro_state.offered]
        _, _, over, _, _ = env.step(choices(read=READ_QUESTION))
    documents = env.unwrapped.item.documents  # type: ignore[attr-defined]
    assert offered == [harmless(document.title) for document in documents]


def test_what_has_no_slot_waits_also_while_answering() -> None:
    with closing(make(slots=1, chunk_tokens=700)) as env:
        env.reset(options={"index": 0})
        kept = 0
        while env.macro_state.waiting > 1 and kept < 3:
            assert len(env.macro_state.offered) == 1
            observation, _, _, _, info = env.step([KEEP, 0, READ_QUESTION])
            assert info["macro"]["waiting"] == env.macro_state.waiting
            kept += 1
        assert observation["phase"] == Phase.ANSWERING or env.macro_state.waiting
        assert len(entries(env)) == kept


def test_long_documents_are_offered_in_pieces_that_fit_an_entry() -> None:
    with closing(make(max_entry_tokens=24, chunk_tokens=120)) as env:
        env.reset(options={"index": 0})
        assert len({piece.title for piece in env.macro_state.offered}) < len(env.macro_state.offered)
        _, _, _, _, info = env.step(choices(KEEP, KEEP, KEEP, KEEP))
        assert info["rejected"] == []
        assert info["macro"]["keep"] == 4


def test_a_merge_goes_to_the_most_similar_entry_that_has_room(env: MacroActions) -> None:
    env.reset(options={"index": 1})
    env.step(choices(KEEP, KEEP, SKIP, SKIP))
    state = env.macro_state
    similar = state.measures().to_stored[0]
    target = env.merge_target(0)
    assert target is not None
    assert state.measures().owners[int(similar.argmax())] is target
    before, new = target.text, state.offered[0].text
    _, _, _, _, info = env.step(choices(MERGE))
    assert entries(env)[target.id] == f"{before}\n{new}"
    assert (info["macro"]["merge"], info["applied"]["update"]) == (1, 1)


def test_a_merge_without_room_does_nothing_and_says_so() -> None:
    with closing(make(max_entry_tokens=70)) as env:
        env.reset(options={"index": 1})
        env.step(choices(KEEP, KEEP))
        before = entries(env)
        _, _, _, _, info = env.step(choices(MERGE, MERGE))
        assert info["macro"]["idle"] == 2
        assert entries(env) == before


def test_two_merges_into_one_entry_respect_its_limit_together() -> None:
    with closing(make(chunk_tokens=600, slots=4, max_entry_tokens=180)) as env:
        env.reset(options={"index": 1})
        env.step(choices(KEEP))
        _, _, _, _, info = env.step(choices(MERGE, MERGE, MERGE, MERGE))
        assert info["macro"]["merge"] >= 1
        assert info["macro"]["idle"] >= 1
        assert info["rejected"] == []
        assert mirrored(env) == entries(env)


def test_M10_a_keep_over_the_budget_is_rejected_and_a_drop_makes_room(env: MacroActions) -> None:
    env.reset(options={"index": 2})
    env.step(choices(KEEP, KEEP, KEEP, KEEP))
    _, _, _, _, info = env.step(choices(KEEP))
    assert [record["reason"] for record in info["rejected"]] == ["memory_full"]
    assert (info["macro"]["keep"], info["macro"]["idle"]) == (0, 1)
    (least,) = env.macro_state.measures().least_relevant()
    _, _, _, _, info = env.step(choices(KEEP, drop=1))
    assert (info["macro"]["keep"], info["macro"]["drop"], info["rejected"]) == (1, 1, [])
    assert least.id not in entries(env)
    assert len(entries(env)) == 4


def test_a_drop_makes_as_much_room_as_the_keeps_need_and_no_more(env: MacroActions) -> None:
    env.reset(options={"index": 2})
    _, _, _, _, info = env.step(choices(KEEP, KEEP, KEEP, drop=1))
    assert (info["macro"]["keep"], info["macro"]["drop"]) == (3, 0)
    _, _, _, _, info = env.step(choices(SKIP, drop=1))
    assert info["macro"]["drop"] == 0
    assert len(entries(env)) == 3
    gone = {entry.id for entry in env.macro_state.measures().least_relevant(2)}
    _, _, _, _, info = env.step(choices(KEEP, KEEP, KEEP, drop=1))
    assert (info["macro"]["keep"], info["macro"]["drop"], info["rejected"]) == (3, 2, [])
    assert len(gone) == 2
    assert not gone & entries(env).keys()


def test_without_a_budget_a_drop_takes_one_entry() -> None:
    with closing(make(max_entries=None)) as env:
        env.reset(options={"index": 2})
        env.step(choices(KEEP, KEEP))
        _, _, _, _, info = env.step(choices(SKIP, drop=1))
        assert info["macro"]["drop"] == 1
        assert len(entries(env)) == 1


def test_a_read_is_shown_one_step_later_and_reading_the_result_asks_with_its_names(env: MacroActions) -> None:
    env.reset(options={"index": 2})
    observation, *_ = env.step(choices(KEEP, KEEP, read=READ_QUESTION))
    question = observation["question"]
    assert observation["query"] == question
    assert len(observation["memories"]) == 2
    observation, _, _, _, info = env.step(choices(read=READ_RESULT))
    assert observation["query"].startswith(question)
    assert len(observation["query"]) > len(question)
    assert [op.kind for op in parse(info["action"], "crud")] == ["read"]


def play(env: MacroActions, index: int, keep_gold: bool) -> dict[str, Any]:
    """Keeps just the gold documents (or none), reads the question once and answers."""
    env.reset(options={"index": index})
    gold = {harmless(d.title) for q in env.unwrapped.item.questions for d in q.gold_documents}  # type: ignore[attr-defined]
    over, read = False, False
    while not over:
        documents = [KEEP if keep_gold and piece.title in gold else SKIP for piece in env.macro_state.offered]
        answering = env.unwrapped.episode.phase is Phase.ANSWERING  # type: ignore[attr-defined]
        look = READ_QUESTION if answering and not read else NO_READ
        read = read or answering
        _, reward, over, _, info = env.step(choices(*documents, read=look))
    return {**info, "reward": reward}


def test_kept_gold_is_answered_and_nothing_kept_is_not(env: MacroActions) -> None:
    for index in range(4):
        assert play(env, index, keep_gold=True)["reward"] == 1.0
        assert play(env, index, keep_gold=False)["reward"] == 0.0


def test_while_answering_reading_nothing_answers_and_reads_end_with_their_limit(env: MacroActions) -> None:
    env.reset(options={"index": 0})
    reads, over = 0, False
    while not over:
        observation, _, over, _, info = env.step(choices(KEEP, read=READ_QUESTION))
        reads += (
            info["macro"]["read"] if observation["phase"] == Phase.ANSWERING and observation["reads_left"] < 3 else 0
        )
    assert info["macro"]["answer"] == 1
    assert reads == 3
    assert info["episode_metrics"]["answers"][0]["closed"] == "answered"


def test_while_answering_what_was_found_is_carried_in_the_scratchpad_and_forgotten_with_the_question() -> None:
    with closing(make(top_k=1, questions_per_episode=2)) as env:
        observation, _ = env.reset(options={"index": 0})
        while observation["phase"] == Phase.READING:
            observation, *_ = env.step(choices(KEEP))
        assert env.macro_state.questions_left == 2
        observation, *_ = env.step(choices(read=READ_QUESTION))
        (first,) = (memory["text"] for memory in observation["memories"])
        observation, *_ = env.step(choices(read=READ_RESULT))
        assert first in observation["scratchpad"]
        assert env.macro_state.found.texts[0] == first
        env.step(choices(read=NO_READ))
        assert env.macro_state.found.texts == []
        assert env.macro_state.questions_left == 1


def test_the_latest_result_serves_as_the_query_first() -> None:
    state = make().macro_state
    observation = {"phase": Phase.ANSWERING, "question": "", "chunk": "", "progress": np.array([1, 1])}
    for shown in (["a", "b"], ["c", "b"]):
        state.observe({**observation, "memories": [{"text": text} for text in shown]})
    assert state.found.texts == ["a", "b", "c"]
    assert state.found.unasked == ["c", "a", "b"]


def test_an_entry_matters_as_much_as_its_most_relevant_document() -> None:
    packed, single = (Stored(i, "", 0, []) for i in (1, 2))
    none = np.zeros((0, 3))
    measures = Measures(
        owners=(packed, packed, single),
        relevance=np.array([0.1, 0.9, 0.5]),
        to_question=np.zeros(3),
        in_question=np.zeros(3),
        to_stored=none,
        named_by_stored=none,
        names_stored=none,
        to_result=np.zeros(0),
        named_by_result=np.zeros(0),
    )
    assert measures.by_entry() == [(packed, 0.9), (single, 0.5)]
    assert measures.least_relevant() == [single]
    assert measures.least_relevant(5) == [single, packed]


def test_E6_truncation_is_reported_as_termination() -> None:
    with closing(make(max_steps=3)) as env:
        env.reset(options={"index": 0})
        ends = [env.step(choices())[2:4] for _ in range(3)]
        assert ends == [(False, False), (False, False), (True, False)]


def test_R4_shaping_wrappers_stand_below() -> None:
    task = gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, **TASK)
    with closing(MacroActions(EvidenceReward(task, weight=0.5))) as env:
        env.reset(options={"index": 0})
        total = 0.0
        gold = {harmless(d.title) for q in env.unwrapped.item.questions for d in q.gold_documents}
        over = False
        while not over:
            kept = [KEEP if piece.title in gold else SKIP for piece in env.macro_state.offered]
            _, reward, over, _, info = env.step(choices(*kept, read=READ_QUESTION))
            total += reward
        assert total == pytest.approx(1.5)
        assert info["episode_metrics"]["em"] == 1.0


def test_the_same_seed_and_choices_give_the_same_episode() -> None:
    trajectories = []
    for _ in range(2):
        with closing(make()) as env:
            env.action_space.seed(5)
            env.reset(seed=3)
            actions, over = [], False
            while not over:
                _, reward, over, _, info = env.step(env.action_space.sample())
                actions.append((info["action"], reward))
            trajectories.append(actions)
    assert trajectories[0] == trajectories[1]


@pytest.mark.parametrize(
    ("changes", "slots", "message"),
    [
        ({}, 0, "slots=0 must be at least 1"),
        ({"operations": ["read"]}, 4, "needs the operation 'create'"),
        ({"addressing": "visible"}, 4, "addressing='id'"),
        ({"advance": "on_write"}, 4, "advance='always'"),
        ({"max_action_chars": 5000}, 4, "max_action_chars=5000"),
    ],
)
def test_settings_that_do_not_fit_are_named(changes: dict[str, Any], slots: int, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(slots, **changes)


def test_other_environments_and_wrong_choices_are_refused(env: MacroActions) -> None:
    with pytest.raises(ConfigError, match="not an AtomMem environment"):
        MacroActions(gym.make("CartPole-v1"))
    env.reset(seed=0)
    for wrong in ([0, 0], [3, 0, 0, 0, 0, 0], [-1, 0, 0, 0, 0, 0]):
        with pytest.raises(ValueError, match="are not in MultiDiscrete"):
            env.step(wrong)


def test_choices_that_an_ablation_takes_away_are_not_in_the_action_space() -> None:
    with closing(make(operations=["create", "read"])) as env:
        assert env.action_space == gym.spaces.MultiDiscrete(np.array([2, 2, 2, 2, 1, 3]))
    with closing(make(operations=["create", "update", "delete"])) as env:
        assert env.action_space == gym.spaces.MultiDiscrete(np.array([3, 3, 3, 3, 2, 1]))


def test_a_step_without_an_episode_needs_a_reset(env: MacroActions) -> None:
    with pytest.raises(ResetNeeded, match="there is no episode yet"):
        env.step(choices())
    env.reset(seed=0)
    while not env.step(choices())[2]:
        pass
    with pytest.raises(ResetNeeded, match="the episode is over"):
        env.step(choices())
