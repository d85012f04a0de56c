"""A record is checked by playing it again: the same everywhere, and every edit is caught where it was made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from msgspec.structs import replace
from support.fixed_items import OneItem
from support.made_traces import DOCUMENTS, QUESTION, SMALL, SYNTHETIC, played, written

from atommem_gym.envs import AtomMemEnv, RecordTraces
from atommem_gym.records.record import Item
from atommem_gym.traces import EpisodeTrace, TraceError, TraceRecorder, read_traces, write_traces
from atommem_gym.traces.difference import first_difference
from atommem_gym.traces.examples import example_trace
from atommem_gym.traces.record import RetrievedTrace
from atommem_gym.traces.replay import Replayer


@pytest.fixture(scope="module")
def trace() -> EpisodeTrace:
    return example_trace()


@pytest.fixture(scope="module")
def replayer() -> Any:
    with Replayer() as one:
        yield one


def with_step(trace: EpisodeTrace, number: int, **changes: Any) -> EpisodeTrace:
    steps = list(trace.steps)
    steps[number] = replace(steps[number], **changes)
    return replace(trace, steps=tuple(steps))


@pytest.mark.parametrize("preset", ["paper", "released"])
@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
def test_M15_every_dialect_and_preset_replays_on_another_store(shared_data: Path, preset: str, dialect: str) -> None:
    keywords: dict[str, Any] = {"source": str(shared_data / "hotpotqa.jsonl"), "num_docs": 200, "store": "milvus"}
    keywords |= {"preset": preset, "dialect": dialect, "addressing": "visible"}
    with Replayer() as replayer:
        for agent in ("random", "tidy", "overwrite", "oracle"):
            for one in played(agent, [3], "AtomMem-HotpotQA-v0", **keywords):
                assert replayer.check(one) is None


@pytest.mark.parametrize(
    ("change", "step", "path"),
    [
        (lambda t: with_step(t, 0, action="<create>edited</create>"), 1, "operations[0].text"),
        (lambda t: with_step(t, 1, action="<creat>x</creat>"), 2, "operations[0]"),
        (lambda t: with_step(t, 0, reward=0.5), 1, "reward"),
        (lambda t: with_step(t, 2, truncated=True), 3, "truncated"),
        (lambda t: with_step(t, 0, info={**t.steps[0].info, "entries": 7}), 1, "info.entries"),
        (lambda t: with_step(t, 1, observation={**t.steps[1].observation, "chunk": "?"}), 1, "next_observation.chunk"),
        (
            lambda t: with_step(t, 0, observation={**t.steps[0].observation, "steps_left": 1}),
            0,
            "observation.steps_left",
        ),
        (lambda t: replace(t, documents=t.documents[1:]), 0, "documents[0]"),
        (lambda t: replace(t, shuffle_seed=5), 0, "documents"),
        (lambda t: replace(t, questions=(replace(t.questions[0], answer="x"),)), 0, "questions[0].answer"),
        (
            lambda t: replace(t, final_observation={**t.final_observation, "feedback": "!"}),
            -1,
            "next_observation.feedback",
        ),
        (lambda t: replace(t, metrics={**t.metrics, "em": 1.0}), -1, "metrics.em"),
        (lambda t: replace(t, causes=("stored then lost",)), -1, "causes[0]"),
        (lambda t: replace(t, reward=2.0), -1, "reward"),
        (lambda t: replace(t, steps=t.steps[:-1]), -2, "next_observation"),
    ],
)
def test_every_edit_is_caught_where_it_was_made(
    trace: EpisodeTrace, replayer: Replayer, change: Any, step: int, path: str
) -> None:
    difference = replayer.check(change(trace))
    assert difference is not None
    assert difference.step == (step if step >= 0 else len(trace.steps) + 1 + step)
    assert difference.path.startswith(path)
    assert replayer.check(trace) is None


def test_an_edited_score_of_a_read_is_caught_unless_it_is_tolerated(trace: EpisodeTrace) -> None:
    number = next(i for i, step in enumerate(trace.steps) if step.retrieved)
    found = trace.steps[number].retrieved
    edited = with_step(
        trace, number, retrieved=(RetrievedTrace(found[0].id, found[0].text, found[0].score + 1e-9), *found[1:])
    )
    with Replayer() as strict, Replayer(tolerance=1e-6) as lenient:
        difference = strict.check(edited)
        assert difference is not None
        assert difference.path == "retrieved[0].score"
        assert lenient.check(edited) is None


def test_on_step_sees_every_step_up_to_the_difference(trace: EpisodeTrace, replayer: Replayer) -> None:
    seen: list[tuple[int, bool]] = []
    replayer.check(
        with_step(trace, 1, reward=9.0), lambda number, difference: seen.append((number, difference is None))
    )
    assert seen == [(0, True), (1, True), (2, False)]


def test_shaping_is_replayed(tmp_path: Path) -> None:
    from atommem_gym.envs import EvidenceReward, FormatPenalty

    env: Any = EvidenceReward(FormatPenalty(gym.make(SYNTHETIC, **SMALL), penalty=0.125), weight=0.75)
    env = RecordTraces(env, tmp_path / "traces.jsonl")
    env.reset(options={"index": 0})
    evidence = " ".join(piece.text for piece in env.unwrapped.item.questions[0].evidence)
    while not env.step(f"<scratchpad>{evidence}</scratchpad><create>never closed <answer>no</answer>")[2]:
        pass
    env.close()
    [trace] = read_traces(tmp_path / "traces.jsonl")
    assert trace.reward != 0
    with Replayer() as replayer:
        assert replayer.check(trace) is None
        assert replayer.check(replace(trace, env=replace(trace.env, shaping={}))) is not None


def test_a_reward_that_a_file_names_is_never_run(tmp_path: Path) -> None:
    """A record may come from anywhere: ``os:system`` as its reward would run the answer as a command."""
    [trace] = played("silent", [0], **SMALL)
    marker = tmp_path / "marker"
    steps = [replace(step, action=f"<answer>touch {marker}</answer>") for step in trace.steps]
    evil = replace(trace, steps=tuple(steps), env=replace(trace.env, keywords={**SMALL, "reward": "os:system"}))
    with Replayer() as replayer:
        assert replayer.check(evil) is not None
        good = replace(trace, env=replace(trace.env, keywords={**SMALL, "reward": "judge"}))
        assert replayer.check(good) is None
    assert not marker.exists()


def test_overrides_win_and_an_unknown_environment_says_what_helps(trace: EpisodeTrace) -> None:
    moved = replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, "num_docs": 9}))
    with Replayer() as replayer:
        assert replayer.check(moved) is not None
    with Replayer({"num_docs": 8, "store": "milvus"}) as replayer:
        assert replayer.check(moved) is None
    with Replayer() as replayer, pytest.raises(TraceError, match=r"Replayer\(env"):
        replayer.check(replace(trace, env=replace(trace.env, id="AtomMem-Custom")))
    with Replayer() as replayer, pytest.raises(TraceError, match="same source"):
        replayer.check(replace(trace, index=10**9))


def test_items_of_ones_own_are_checked_in_ones_own_environment() -> None:
    trace = written(["<create>x</create>", "<answer>Thames</answer>"])
    items = OneItem(Item("fixed/0", 0, 0, (QUESTION,), DOCUMENTS))
    env = AtomMemEnv(items=items, store="numpy", source="synthetic")
    with Replayer(env=env) as replayer:
        assert replayer.check(trace) is None
        assert replayer.check(with_step(trace, 0, action="<create>y</create>")) is not None
    env.reset()
    env.close()
    with pytest.raises(TraceError, match="contradict"):
        Replayer({"num_docs": 3}, env=env)


def test_differences_are_shown_where_they_begin() -> None:
    one, other = "a" * 500 + "left" + "b" * 500, "a" * 500 + "right" + "b" * 500
    difference = first_difference({"x": [1, {"y": one}]}, {"x": [1, {"y": other}]}, step=4)
    assert difference is not None
    assert difference.path == "x[1].y"
    assert "left" in difference.recorded
    assert "(from character 500)" in difference.replayed
    assert len(difference.line) < 400
    missing = first_difference({"x": [1]}, {"x": [1, 2]})
    assert missing is not None
    assert (missing.recorded, missing.replayed) == ("nothing", "2")
    assert first_difference({"x": 1}, {"x": True}) is not None
    assert first_difference({"x": 1.0}, {"x": 1}) is not None
    assert first_difference(float("nan"), float("nan"), tolerance=1.0) is not None


def test_A8_a_record_with_delimiters_of_its_own_is_replayed(tmp_path: Path) -> None:
    pairs = [["Thoughts:", "Reply:"]]
    env = gym.make("AtomMem-Synthetic-v0", disable_env_checker=True, thinking=pairs, **SMALL)
    recorder = TraceRecorder("AtomMem-Synthetic-v0", {**SMALL, "thinking": pairs}, "hand")
    observation, info = env.reset(options={"index": 0})
    recorder.reset(env.unwrapped.episode, observation, info)  # type: ignore[attr-defined]
    while not recorder.over:
        action = "Thoughts: <create>no</create> Reply: <create>yes</create><answer>x</answer>"
        recorder.step(action, *env.step(action))
    write_traces(tmp_path / "t.jsonl", [recorder.finish()])
    env.close()
    [trace] = read_traces(tmp_path / "t.jsonl")
    with Replayer() as replayer:
        assert replayer.check(trace) is None
    with Replayer({"thinking": None}) as replayer:
        assert replayer.check(trace) is not None
