"""What the recorder notes is what happened: checked against the environment's own state, in every driver."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from msgspec.structs import replace
from support.fixed_items import fixed_env
from support.made_traces import DOCUMENTS, QUESTION, SMALL, SYNTHETIC, played, written

from atommem_gym.envs import ChatObservation, MemoryCost, PromptObservation, RecordTraces
from atommem_gym.envs.wrappers import vector
from atommem_gym.errors import ConfigError
from atommem_gym.testing.hostile import hostile_texts
from atommem_gym.traces import AgentTrace, EpisodeTrace, StepSeconds, TraceError, TraceRecorder, read_traces
from atommem_gym.traces.codec import dumps, loads
from atommem_gym.traces.recorder import json_keywords

CLOCKS: dict[str, Any] = {"started": "", "seconds": 0.0}


def timeless(trace: EpisodeTrace) -> EpisodeTrace:
    """The record without what a clock said."""
    steps = tuple(replace(step, seconds=StepSeconds()) for step in trace.steps)
    return replace(trace, steps=steps, **CLOCKS)


def outcomes(trace: EpisodeTrace, step: int) -> list[tuple[str, str, str | None, int | None]]:
    return [(op.kind, op.outcome, op.reason, op.entry_id) for op in trace.steps[step].operations]


def test_M11_every_operation_has_its_outcome_and_its_entry() -> None:
    trace = written(
        [
            "<create>one</create><create></create><create>two</create><update id='9'>x</update><answer>now</answer>",
            "<update id='1'>uno</update><delete id='2'/><create>three</create><delete id='3'/><read>uno</read>",
            "<read>a</read><answer>Thames</answer><answer>again</answer>",
        ]
    )
    assert outcomes(trace, 0) == [
        ("create", "applied", None, 1),
        ("create", "rejected", "empty", None),
        ("create", "applied", None, 2),
        ("update", "rejected", "unknown_id", None),
        ("answer", "rejected", "not_yet", None),
    ]
    assert outcomes(trace, 1) == [
        ("update", "applied", None, 1),
        ("delete", "applied", None, 2),
        ("create", "applied", None, 3),
        ("delete", "applied", None, 3),
        ("read", "applied", None, None),
    ]
    assert [op.outcome for op in trace.steps[2].operations] == ["applied", "applied", "rejected"]
    change = trace.steps[1].memory
    assert [(one.id, one.before, one.after) for one in change.updated] == [(1, "one", "uno")]
    assert [(one.id, one.text) for one in change.deleted] == [(2, "two")]
    assert change.created == ()
    assert [(one.id, one.text) for one in trace.steps[1].retrieved] == [(1, "uno")]
    assert [one["id"] for one in trace.steps[2].observation["memories"]] == [1]
    assert trace.causes == (None,)


def test_A4_a_place_among_those_shown_is_told_from_an_id() -> None:
    actions = [
        "<add_memory>apples</add_memory><add_memory>bees</add_memory><update_query>bees</update_query>",
        "<delete_memory>Memory 1</delete_memory>",
    ]
    [delete] = written(actions, dialect="released").steps[1].operations
    assert (delete.id, delete.entry_id) == (1, 2)


def test_an_update_to_the_same_text_changes_nothing() -> None:
    trace = written(["<create>same</create>", "<update id='1'>same</update>"])
    assert outcomes(trace, 1) == [("update", "applied", None, 1)]
    assert trace.steps[1].memory.updated == ()


def test_operations_hold_the_text_that_memory_got() -> None:
    step = written(["<create>half \ud800 pair \ud83d\ude00</create>"]).steps[0]
    assert step.operations[0].text == step.memory.created[0].text == "half \ufffd pair \U0001f600"


def test_A7_what_was_not_read_is_no_operation() -> None:
    action = "<create>abc</create>" + " " * 20 + "<create>def</create>"
    step = written([action], max_action_chars=30, max_steps=1).steps[0]
    assert [(op.kind, op.outcome) for op in step.operations] == [("action", "cut"), ("create", "applied")]


def test_M10_what_was_cut_is_told_from_what_was_rejected() -> None:
    long = "<create>" + "word " * 30 + "</create>"
    trace = written([long + long, "<answer>Thames</answer>"], max_entry_tokens=5, max_entries=1)
    assert outcomes(trace, 0) == [("create", "cut", "cut", 1), ("create", "rejected", "memory_full", None)]
    assert trace.steps[0].memory.created[0].text == "word word word word word"
    [whole, create] = (
        written(["<create>abc</create> " + "x" * 50], max_action_chars=30, max_steps=1).steps[0].operations
    )
    assert (whole.kind, whole.position, whole.outcome, whole.reason) == ("action", 0, "cut", "too_long")
    assert create.outcome == "applied"


def test_RELEASED_D6_update_and_delete_name_the_entries_that_they_hit() -> None:
    trace = written(
        [
            "<add_memory>twin</add_memory><add_memory>twin</add_memory><update_query>twin</update_query>",
            "<modify_memory>Memory 2: new</modify_memory><delete_memory>Memory 1</delete_memory>",
            "<final_answer>\\boxed{Thames}</final_answer>",
        ],
        preset="released",
        questions_per_episode=1,
    )
    # Entries are found by their text, the first of the twins goes, and the new text gets a new id.
    assert outcomes(trace, 1) == [("update", "applied", None, 3), ("delete", "applied", None, 2)]
    assert [one.id for one in trace.steps[1].memory.deleted] == [1, 2]
    assert [(one.id, one.text) for one in trace.steps[1].memory.created] == [(3, "new")]


def test_finding_4_6_a_trace_names_the_entry_that_the_episode_deleted() -> None:
    trace = written(
        [
            "<add_memory>one two</add_memory><update_query>one two</update_query>",
            "<delete_memory>Memory 1</delete_memory><add_memory>one two three</add_memory>"
            "<delete_memory>Memory 1</delete_memory>",
            "<final_answer>\\boxed{Thames}</final_answer>",
        ],
        preset="released",
        questions_per_episode=1,
        max_entry_tokens=2,
        max_memory_tokens=64,
    )
    assert outcomes(trace, 1) == [
        ("delete", "applied", None, 1),
        ("create", "cut", "cut", 2),
        ("delete", "applied", None, 2),
    ]


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
def test_memory_changes_lead_from_the_beginning_to_the_end(preset: str, dialect: str) -> None:
    keywords = {**SMALL, "num_docs": 40, "preset": preset, "dialect": dialect, "addressing": "visible"}
    for agent in ("random", "tidy", "overwrite"):
        [trace] = played(agent, [1], **keywords)
        live: dict[int, str] = {}
        notes = ""
        for step in trace.steps:
            assert {one.id: one.text for one in step.memory.deleted}.items() <= live.items()
            live = {i: text for i, text in live.items() if i not in {one.id for one in step.memory.deleted}}
            live |= {one.id: one.text for one in step.memory.created}
            for update in step.memory.updated:
                assert live[update.id] == update.before
                live[update.id] = update.after
            if step.memory.scratchpad:
                assert step.memory.scratchpad.before == notes
                notes = step.memory.scratchpad.after
            assert len(live) == step.info["entries"]
            for one in step.retrieved:
                assert live[one.id].startswith(one.text)
            counted = [op.kind for op in step.operations if op.outcome != "rejected"]
            assert {kind: counted.count(kind) for kind in step.info["applied"]} == step.info["applied"]
        assert trace.final_observation["scratchpad"] == notes


@given(hostile_texts())
@settings(max_examples=60)
def test_A3_no_action_breaks_the_record(action: str) -> None:
    for dialect in ("crud", "tools", "released"):
        trace = written([action], dialect=dialect, max_steps=2, early_answer=True)
        assert loads(dumps(trace)) == trace
        for step in trace.steps:
            rejected = [op for op in step.operations if op.reason is not None]
            assert [op.reason for op in rejected] == [one["reason"] for one in step.info["rejected"]]
            created = [op.entry_id for op in step.operations if op.kind == "create" and op.outcome != "rejected"]
            assert {one.id for one in step.memory.created} <= set(created)


def test_M15_plain_vector_and_pool_leave_the_same_records(tmp_path: Path) -> None:
    from atommem_gym.envs.pool.pool import AtomMemPool

    agent = AgentTrace("somebody", {"temperature": 0.5})
    plain = RecordTraces(gym.make(SYNTHETIC, **SMALL), tmp_path / "plain.jsonl", agent)
    for index in range(3):
        plain.reset(options={"index": index})
        while not plain.step("<create>fact</create><answer>no</answer>")[2]:
            pass
    plain.close()
    envs = vector.RecordTraces(gym.make_vec(SYNTHETIC, num_envs=3, **SMALL), tmp_path / "vector.jsonl", agent)
    envs.reset(options={"index": [0, 1, 2]})
    for _ in range(30):
        envs.step(["<create>fact</create><answer>no</answer>"] * 3)
    envs.close()

    async def pooled() -> list[EpisodeTrace]:
        async with AtomMemPool(SYNTHETIC, 3, **SMALL) as pool:

            async def episode(index: int) -> EpisodeTrace:
                recorder = TraceRecorder(SYNTHETIC, SMALL, agent)
                async with pool.env() as env:
                    observation, info = await env.areset(options={"index": index})
                    recorder.reset(env.episode, observation, info)
                    while not recorder.over:
                        action = "<create>fact</create><answer>no</answer>"
                        recorder.step(action, *await env.astep(action))
                return recorder.finish()

            return list(await asyncio.gather(*map(episode, range(3))))

    first = {trace.index: timeless(trace) for trace in read_traces(tmp_path / "plain.jsonl")}
    second: dict[int, EpisodeTrace] = {}
    for trace in read_traces(tmp_path / "vector.jsonl"):
        second.setdefault(trace.index, timeless(trace))
    assert len(first) == 3
    assert {index: second[index] for index in first} == first
    assert {trace.index: timeless(trace) for trace in asyncio.run(pooled())} == first


@pytest.mark.parametrize("mode", ["next_step", "same_step", "disabled"])
def test_vector_records_are_whole_in_every_autoreset_mode(tmp_path: Path, mode: str) -> None:
    envs = gym.make_vec(SYNTHETIC, num_envs=2, autoreset_mode=AutoresetMode[mode.upper()], **SMALL)
    envs = vector.RecordTraces(envs, tmp_path / "traces.jsonl", "nobody")
    envs.reset(seed=3)
    over = 0
    while over < 4:
        _, _, terminated, truncated, _ = envs.step(["<create>x</create><answer>no</answer>"] * 2)
        done = terminated | truncated
        over += int(done.sum())
        if mode == "disabled" and done.any():
            envs.reset(options={"reset_mask": done})
    envs.close()
    traces = list(read_traces(tmp_path / "traces.jsonl"))
    assert len(traces) == over
    from atommem_gym.traces.replay import Replayer

    with Replayer() as replayer:
        assert [replayer.check(trace) for trace in traces] == [None] * len(traces)


def test_prompts_and_shaping_of_the_wrappers_inside_are_kept(tmp_path: Path) -> None:
    chat = ChatObservation(MemoryCost(gym.make(SYNTHETIC, **SMALL), per_operation=0.25))
    env = RecordTraces(chat, tmp_path / "chat.jsonl", "nobody")
    seen = [env.reset(options={"index": 0})[0]]
    while True:
        observation, _, terminated, truncated, _ = env.step("<create>x</create><answer>no</answer>")
        if terminated or truncated:
            break
        seen.append(observation)
    env.close()
    [trace] = read_traces(tmp_path / "chat.jsonl")
    assert [step.messages for step in trace.steps] == [[dict(m) for m in prompt] for prompt in seen]
    assert trace.env.shaping == {"MemoryCost": {"per_entry": 0.0, "per_operation": 0.25}}
    assert trace.reward == -0.25 * len(trace.steps)
    assert set(trace.steps[0].observation) >= {"chunk", "memories"}
    plain = RecordTraces(PromptObservation(gym.make(SYNTHETIC, **SMALL)), tmp_path / "text.jsonl", "nobody")
    prompt, _ = plain.reset(options={"index": 0})
    while not plain.step("<answer>no</answer>")[2]:
        pass
    plain.close()
    [trace] = read_traces(tmp_path / "text.jsonl")
    assert trace.steps[0].messages == [{"role": "user", "content": prompt}]


def test_an_episode_that_was_left_is_not_written(tmp_path: Path) -> None:
    env = RecordTraces(gym.make(SYNTHETIC, **SMALL), tmp_path / "traces.jsonl")
    env.reset(seed=1)
    env.step("<create>x</create>")
    env.reset(seed=1)
    while not env.step("<answer>no</answer>")[2]:
        pass
    env.reset(seed=2)
    env.close()
    [trace] = read_traces(tmp_path / "traces.jsonl")
    assert all(op.kind == "answer" for step in trace.steps for op in step.operations)
    with pytest.raises(ConfigError, match="not an AtomMem environment"):
        RecordTraces(gym.make("CartPole-v1"), tmp_path / "traces.jsonl")


def test_the_recorder_refuses_what_is_no_episode() -> None:
    recorder = TraceRecorder("x", {}, "y")
    with pytest.raises(TraceError, match=r"reset\(\)"):
        recorder.step("", {}, 0.0, False, False, {"rejected": []})
    with pytest.raises(TraceError, match="has not ended"):
        recorder.finish()
    with pytest.raises(TraceError, match="no step"):
        _ = recorder.last
    with pytest.raises(TraceError, match="no JSON form"):
        TraceRecorder("x", {"items": object()}, "y")


def test_keywords_become_json_values() -> None:
    def mine(prediction: str, answers: tuple[str, ...], question: str) -> float:
        return 0.0

    named = json_keywords({"reward": mine, "operations": ("read", "create"), "source": Path("a") / "b"})
    assert named["reward"].startswith("test_traces_recorder:test_keywords")
    assert named["operations"] == ["read", "create"]
    assert named["source"] == str(Path("a") / "b")


def test_a_kept_memory_is_there_from_the_beginning(tmp_path: Path) -> None:
    from atommem_gym.traces.replay import Replayer

    keywords = {**SMALL, "store": f"milvus://{tmp_path / 'memory.db'}"}
    env = RecordTraces(gym.make(SYNTHETIC, **keywords), tmp_path / "traces.jsonl", "nobody")
    env.reset(options={"index": 0})
    env.step("<create>from yesterday</create><create>gone</create><delete id='2'/><scratchpad>notes</scratchpad>")
    key = env.unwrapped.memory_key  # type: ignore[attr-defined]
    env.reset(options={"index": 1, "memory": key})
    while not env.step("<create>today</create><read>yesterday</read><answer>no</answer>")[2]:
        pass
    env.close()
    [trace] = read_traces(tmp_path / "traces.jsonl")
    assert [(one.id, one.text) for one in trace.initial_memory.entries] == [(1, "from yesterday")]
    assert (trace.initial_memory.next_id, trace.initial_memory.scratchpad) == (3, "notes")
    assert trace.steps[0].memory.created[0].id == 3
    with Replayer() as replayer:
        assert replayer.check(trace) is None


def test_an_environment_over_items_of_ones_own_is_recorded_with_its_settings(tmp_path: Path) -> None:
    from atommem_gym.config import EnvConfig

    given = {"preset": "released", "advance": "always", "top_k": 2, "dialect": "tools"}
    env = RecordTraces(fixed_env([QUESTION], DOCUMENTS, **given), tmp_path / "traces.jsonl")
    env.reset()
    while not any(env.step("x")[2:4]):
        pass
    config = env.unwrapped.config  # type: ignore[attr-defined]
    env.close()
    [trace] = read_traces(tmp_path / "traces.jsonl")
    assert trace.env.id == "AtomMem-Custom"
    assert EnvConfig.from_keywords(trace.env.keywords) == config


def test_documents_and_questions_are_those_of_the_item() -> None:
    trace = written(["<answer>Thames</answer>"])
    assert trace.documents == tuple(document.title for document in DOCUMENTS)
    assert trace.questions[0].answers == QUESTION.answers
    assert trace.questions[0].evidence == QUESTION.evidence
    assert trace.versions.keys() >= {"python", "atommem_gym", "gymnasium", "numpy"}
