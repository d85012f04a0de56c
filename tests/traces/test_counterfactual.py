"""What an operation was worth: branches share the past with the record, and only the operation is another (M14, R7)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from msgspec.structs import replace
from support.fixed_items import fixed_env
from support.made_traces import BORN, DOCUMENTS, QUESTION, RIVER, SMALL, SYNTHETIC, played, written
from support.openai_server import OpenAIServer, server
from support.plugins.readers import Echo

from atommem_gym.actions import Create, Delete, Read, Update, format_action
from atommem_gym.agents import make_agent
from atommem_gym.cli import main
from atommem_gym.envs import AtomMemEnv, RecordTraces
from atommem_gym.envs.wrappers import ShapedReward
from atommem_gym.errors import ConfigError
from atommem_gym.traces import EpisodeTrace, TraceError, read_traces, write_traces
from atommem_gym.traces.codec import plain
from atommem_gym.traces.counterfactual import Counterfactual, Edit, counterfactuals
from atommem_gym.traces.intervention import PlayedStep, RecordedActions, all_operations, changed
from atommem_gym.traces.record import OperationTrace
from atommem_gym.traces.replay import Replayer, make_env

__all__ = ["server"]

SETTINGS: tuple[dict[str, Any], ...] = (
    {"max_entries": 3},
    {"addressing": "visible", "dialect": "tools", "questions_per_episode": 2},
    {"preset": "released", "questions_per_episode": 1},
    {"preset": "released", "dialect": "crud", "questions_per_episode": 1},
    {"advance": "on_write", "max_action_chars": 200},
)
STORE = f"<create>noise</create><create>{BORN.text} {RIVER.text}</create>"
ASK = ("<read>Ada Lovelace river</read>", "<answer/>")


def all_of(trace: EpisodeTrace, edits: list[Edit] | None = None, **keywords: Any) -> list[Counterfactual]:
    return list(counterfactuals(trace, edits, **keywords))


def on_fixed(trace: EpisodeTrace, edits: list[Edit] | None = None, **keywords: Any) -> list[Counterfactual]:
    """Of a record that ``written`` made with these keywords."""
    env = fixed_env((QUESTION,), DOCUMENTS, **keywords)
    found = all_of(trace, edits, replayer=Replayer(env=env))
    env.close()
    return found


def read_by_oracle(*actions: str, **keywords: Any) -> EpisodeTrace:
    return written(actions, reader="oracle", **keywords)


# -- nothing left out


@pytest.mark.parametrize("keywords", SETTINGS)
def test_M14_leaving_out_nothing_gives_the_recorded_steps_bit_for_bit(keywords: dict[str, Any]) -> None:
    for agent in ("random", "tidy"):
        (trace,) = played(agent, [1], **{**SMALL, **keywords})
        env: Any = make_env(trace).unwrapped
        env.reset(options={"index": trace.index})
        steps: list[PlayedStep] = []
        forks = []
        for step in trace.steps:
            forks.append(env.fork(1)[0])
            state = env.episode.state
            shown, next_id = state.addressable, state.memory.next_id
            env.step(step.action)
            steps.append(PlayedStep(shown, next_id, {one.position: one for one in env.episode.outcomes}))
        for first, fork in enumerate(forks, 1):
            actions = RecordedActions(fork.episode, steps, first)
            fork.episode.intervention = actions
            for number, step in enumerate(trace.steps[first - 1 :], first):
                observation, reward, _, _, info = fork.step(step.action)
                following = trace.steps[number].observation if number < len(trace.steps) else trace.final_observation
                assert (plain(observation), reward, plain(info)) == (following, step.reward, step.info)
                actions.took(fork.episode.outcomes)
            fork.close()
        env.close()


@pytest.mark.parametrize("agent", ["oracle", "tidy", "overwrite", "keep_all", "random"])
@pytest.mark.parametrize("goes_on", [False, True])
def test_M14_an_operation_that_is_changed_to_itself_changes_nothing(agent: str, goes_on: bool) -> None:
    for trace in played(agent, [0], **SMALL):
        edits = [
            Edit(number, one.position, {})
            for number, step in enumerate(trace.steps, 1)
            for one in step.operations
            if one.outcome == "applied" and one.position
        ]
        found = all_of(trace, edits, agent=partial(make_agent, agent) if goes_on else None)
        assert len(found) == len(edits) > 0
        for one in found:
            assert one.other == one.kept
            assert (one.kept.reward, one.kept.steps) == (trace.reward, len(trace.steps))


def test_M14_an_agent_that_goes_on_has_seen_the_episode_from_its_beginning() -> None:
    (trace,) = played("tidy", [0], **SMALL, max_entries=4)
    deletes = [one for one in all_of(trace, agent=partial(make_agent, "tidy")) if one.kind == "delete"]
    assert deletes, "tidy makes room for what it knows it has stored"
    assert {one.kept.reward for one in deletes} == {trace.reward}


# -- what an operation was worth


def test_R7_leaving_out_evidence_that_is_read_later_lowers_an_oracles_reward() -> None:
    (trace,) = played("oracle", [0], **SMALL)
    assert trace.reward == 1.0
    found = all_of(trace, agent=partial(make_agent, "oracle"))
    creates = [one for one in found if one.kind == "create"]
    assert [one.difference for one in creates] == [1.0] * len(creates)
    assert creates[0].other.answers[0][1:] == ("unknown", 0.0)
    assert [one.text for one in creates] == [
        one.text for step in trace.steps for one in step.operations if one.kind == "create"
    ]


def test_R7_recorded_answers_stay_and_a_frozen_reader_answers_anew() -> None:
    by_policy = written((STORE, ASK[0], "<answer>Thames</answer>"))
    assert [one.difference for one in on_fixed(by_policy)] == [0.0, 0.0, 0.0, 1.0]
    by_reader = read_by_oracle(STORE, *ASK)
    assert [one.difference for one in on_fixed(by_reader, reader="oracle")] == [0.0, 1.0, 1.0, 1.0]


def test_R7_a_changed_operation_earns_what_its_change_earns() -> None:
    trace = read_by_oracle(STORE, *ASK)
    edits = [
        Edit(1, 2, {"text": BORN.text}),
        Edit(1, 1, {"text": "other noise"}),
        Edit(1, 1, {"kind": "read", "query": "noise"}),
        Edit(2, 1, {"query": "Thames"}),
        Edit(2, 1, {"kind": "delete", "id": 2}),
        Edit(2, 1, {"kind": "update", "id": 2, "text": "nothing"}),
        Edit(3, 1, {"text": "Thames"}),
    ]
    found = {(one.step, one.operation, tuple(one.change or ())): one for one in on_fixed(trace, edits, reader="oracle")}
    assert [found[e.step, e.operation, tuple(e.change or ())].difference for e in edits] == [1, 0, 0, 0, 1, 1, 0]


def test_the_actions_that_are_left_are_followed_by_empty_ones() -> None:
    trace = read_by_oracle(STORE, *ASK)
    answer = on_fixed(trace, [Edit(3, 1)], reader="oracle")[0]
    assert (answer.other.reward, answer.other.answers[0][1]) == (0.0, "")
    assert answer.other.steps > answer.kept.steps == 3


def test_shaping_is_part_of_the_reward_as_it_was_recorded(tmp_path: Path) -> None:
    env = RecordTraces(
        ShapedReward(gym.make(SYNTHETIC, disable_env_checker=True, **SMALL), {"MemoryCost": {"per_operation": 0.25}}),
        tmp_path / "t.jsonl",
    )
    env.reset(options={"index": 0})
    over, actions = False, iter(["<create>a</create><create>b</create>"])
    while not over:
        over = any(env.step(next(actions, "<answer>no</answer>"))[2:4])
    env.close()
    (trace,) = read_traces(tmp_path / "t.jsonl")
    assert trace.reward == -0.5
    assert [(one.kind, one.difference) for one in all_of(trace)][:2] == [("create", -0.25)] * 2


# -- ids mean what they meant


@pytest.mark.parametrize("addressing", ["id", "visible"])
def test_M8_updates_and_deletes_mean_the_entries_that_they_meant(addressing: str) -> None:
    facts = f"{BORN.text} {RIVER.text}"
    trace = read_by_oracle(
        "<create>noise</create><create>x</create><create>y</create><read>y</read>",
        f'<update id="3">{facts}</update><delete id="2"/><read>Ada Lovelace river</read>',
        "<answer/>",
        addressing=addressing,
    )
    assert trace.reward == 1.0
    found = {
        (one.step, one.operation): one.difference for one in on_fixed(trace, reader="oracle", addressing=addressing)
    }
    assert found[1, 1] == found[1, 2] == 0.0, "entry 3 is entry 2 of the branch, and is still the one that is updated"
    assert found[1, 3] == 1.0, "the entry that is updated is not there"
    assert (found[2, 1], found[2, 2]) == (1.0, 0.0)


def test_M8_an_entry_is_known_again_in_the_action_that_creates_it() -> None:
    trace = read_by_oracle(
        f'<create>noise</create><create>x</create><update id="2">{BORN.text} {RIVER.text}</update>', *ASK
    )
    assert [one.difference for one in on_fixed(trace, reader="oracle")] == [0.0, 1.0, 1.0, 1.0, 1.0]


def test_M8_a_create_that_had_no_room_may_have_some_in_the_branch() -> None:
    facts = f"{BORN.text} {RIVER.text}"
    trace = read_by_oracle(
        f'<create>noise</create><create>{facts}</create><delete id="1"/>'
        f'<create>x</create><update id="2">{facts}</update>',
        *ASK,
        max_entries=1,
    )
    assert [one.outcome for one in trace.steps[0].operations] == [
        *("applied", "rejected", "applied", "applied", "applied")
    ]
    without = on_fixed(trace, [Edit(1, 1)], reader="oracle", max_entries=1)[0]
    # The facts take the only place as entry 1; what was entry 2 is not there, and is not taken for another one.
    assert without.other.reward == 1.0


def test_released_places_mean_the_entries_that_stood_there() -> None:
    said = [
        [Create("one"), Create("alpha beta gamma"), Create("alpha"), Read("alpha")],
        [Update(1, "alpha delta"), Update(2, "omega"), Read("alpha")],
        [Delete(1), Read("alpha")],
    ]
    actions = [format_action(operations, "released") for operations in said]
    env = fixed_env((QUESTION,), DOCUMENTS, preset="released", questions_per_episode=1, top_k=3, max_action_chars=9999)
    env.reset(options={"index": 0})
    (fork,) = env.fork(1)
    steps = []
    for action in actions:
        state = env.episode.state
        shown, next_id = state.addressable, state.memory.next_id
        env.step(action)
        steps.append(PlayedStep(shown, next_id, {one.position: one for one in env.episode.outcomes}))
    assert steps[1].addressable == (3, 2, 1), "the places are those of the ranking"
    assert texts(env) == ["one", "omega"]
    intervention = RecordedActions(fork.episode, steps, 1, position=3)
    fork.episode.intervention = intervention
    seen = []
    for action in actions:
        fork.step(action)
        seen.append(texts(fork))
        intervention.took(fork.episode.outcomes)
    # Place 1 was the entry that is not there: neither it nor its successor is updated or deleted in another's place.
    assert seen == [["one", "alpha beta gamma"], ["one", "omega"], ["one", "omega"]]
    assert fork.episode.outcomes[0].became == "rejected"
    for each in (env, fork):
        each.close()


def texts(env: AtomMemEnv) -> list[str]:
    return [entry.text for entry in env.episode.state.memory.entries.values()]


def test_a_memory_that_was_kept_is_where_the_branches_begin(tmp_path: Path) -> None:
    store = f"milvus://{tmp_path / 'memory.db'}"
    env = RecordTraces(
        gym.make(SYNTHETIC, disable_env_checker=True, **{**SMALL, "store": store}), tmp_path / "traces.jsonl"
    )
    env.reset(options={"index": 0})
    env.step("<create>old</create>")
    base: Any = env.unwrapped
    key = base.memory_key
    env.reset(options={"index": 0, "memory": key})
    over, actions = False, iter(['<create>new</create><update id="1">older</update>'])
    while not over:
        over = any(env.step(next(actions, "<answer>no</answer>"))[2:4])
    env.close()
    (trace,) = read_traces(tmp_path / "traces.jsonl")
    assert [entry.text for entry in trace.initial_memory.entries] == ["old"]
    found = all_of(trace)
    assert [(one.kind, one.difference) for one in found][:2] == [("create", 0.0), ("update", 0.0)]


# -- who is not asked again


class Remembering(Echo):
    """A server by its name, which answers by what is in sight."""

    name = "http://gone:1/v1#tiny"

    def read(self, requests: Any) -> Any:
        return [replace_answer(one) for one in super().read(requests)]


def replace_answer(reading: Any) -> Any:
    shown = any("Thames" in text for _, text, _ in reading.request.memories)
    return type(reading)(reading.request, "Thames" if shown else "unknown", reading.calls)


def recorded_reader(folder: Path, **keywords: Any) -> EpisodeTrace:
    env = RecordTraces(
        gym.make(SYNTHETIC, disable_env_checker=True, **SMALL, **keywords), folder / "traces.jsonl", agent="hand"
    )
    env.reset(options={"index": 0})
    over, number = False, 0
    actions = ["<create>noise</create><create>The Thames.</create><read>river Thames</read>"]
    while not over:
        action = actions[0] if number == 0 else "<answer/>" if number > 2 else "<read>river Thames</read>"
        over = any(env.step(action)[2:4])
        number += 1
    env.close()
    (trace,) = read_traces(folder / "traces.jsonl")
    return trace


def test_E13_a_reader_by_url_is_replayed_only_while_it_is_asked_the_same(tmp_path: Path) -> None:
    trace = recorded_reader(tmp_path, reader=Remembering(), top_k=1)
    found = {(one.step, one.operation): one for one in all_of(trace)}
    assert found[1, 1].difference == 0.0, "the server is shown texts, not ids, so it is asked the same"
    assert (found[1, 2].other.reward, found[1, 2].difference) == (None, None)
    assert "with other memories" in found[1, 2].other.unknown
    assert "--set reader=" in found[1, 2].other.unknown
    (live,) = all_of(trace, [Edit(1, 2)], replayer=Replayer({"reader": Remembering(), "top_k": 1}))
    assert live.other.answers[0][1] == "unknown"


def test_E13_a_function_is_shown_ids_too(tmp_path: Path) -> None:
    trace = recorded_reader(tmp_path, reader=Echo(), top_k=1)
    found = {(one.step, one.operation): one for one in all_of(trace)}
    assert found[1, 1].other.reward is None, "the entry has another id"
    assert found[1, 3].other.reward is not None


def test_R3_a_judge_is_not_asked_again_and_its_verdicts_are_looked_up(server: OpenAIServer) -> None:
    def judged(requests: Any) -> list[float]:
        return [0.5 for _ in requests]

    class Judge:
        name = "support.judges:half"
        score = staticmethod(judged)

    trace = written((STORE, ASK[0], "<answer>Oxford</answer>"), reward=Judge())
    assert trace.reward == 0.5
    found = all_of(
        replace(trace, env=replace(trace.env, id="AtomMem-HotpotQA-v0")),
        [Edit(1, 2), Edit(3, 1, {"text": "Rome"})],
        replayer=Replayer(env=fixed_env((QUESTION,), DOCUMENTS, reward=Judge())),
    )
    assert [one.difference for one in found] == [0.0, 0.0], "an environment that is given asks its own scorer"
    (own,) = played("oracle", [0], **SMALL, reward=Judge())
    answers = [Edit(len(own.steps), own.steps[-1].operations[0].position)]
    kept, changed_one = (
        all_of(own, [replace_change(answers[0], change)])[0].other for change in ({}, {"text": "something else"})
    )
    assert (kept.reward, changed_one.reward) == (0.5, None)
    assert "'something else'" in changed_one.unknown
    assert "--set reward=" in changed_one.unknown
    assert not server.requests


def replace_change(edit: Edit, change: dict[str, Any]) -> Edit:
    return Edit(edit.step, edit.operation, change)


# -- what is refused


@pytest.fixture(scope="module")
def trace() -> EpisodeTrace:
    (one,) = played("oracle", [0], **SMALL)
    return one


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (Edit(0, 1), "has no step 0; its steps are 1 to"),
        (Edit(99, 1), "has no step 99"),
        (Edit(-1, 1), "has no step -1"),
        (Edit(1, 9), "step 1 has no operation 9: its operations are 1 to"),
        (Edit(1, 0), "has no operation 0"),
        (Edit(1, 1, {"kind": "deltee"}), "did you mean 'delete'?"),
        (Edit(1, 1, {"kind": "delete"}), "delete needs 'id'"),
        (Edit(1, 1, {"kind": "delete", "id": True}), "must be an integer"),
        (Edit(1, 1, {"kind": "delete", "id": 10**18}), "must be an integer from -999999999999999999"),
        (Edit(1, 1, {"kind": ["read"]}), "is none of"),
        (Edit(1, 1, {"query": "x"}), "create has no 'query'; its fields are kind, text"),
        (Edit(1, 1, {"text": 3}), "must be a text"),
        (Edit(1, 1, {"text": " \n"}), "create needs a text; leave the operation out instead"),
    ],
)
def test_what_is_no_operation_is_refused_before_anything_is_played(trace: EpisodeTrace, edit: Edit, words: str) -> None:
    with pytest.raises((TraceError, ConfigError)) as caught:
        counterfactuals(trace, [edit])
    assert words in str(caught.value)


def test_a_step_without_operations_says_which_have_some() -> None:
    silent = written(("nothing", STORE, *ASK), chunk_tokens=60)
    with pytest.raises(TraceError, match=r"its action has none; the steps with operations are 2, 3, 4"):
        counterfactuals(silent, [Edit(1, 1)])


def test_what_does_not_play_as_recorded_is_refused(trace: EpisodeTrace) -> None:
    edited = replace(trace.steps[0], action="<create>something else</create>")
    for wrong, words in (
        (replace(trace, steps=(edited, *trace.steps[1:])), "step 1: operations"),
        (replace(trace, steps=trace.steps[:-1]), "does not play as it was recorded"),
        (replace(trace, item="other"), "the beginning: item"),
        (replace(trace, reward=0.5), "reward"),
        (replace(trace, index=10**9), "is not there"),
    ):
        with pytest.raises(TraceError) as caught:
            all_of(wrong)
        assert words in str(caught.value)


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"embedder": "http://gone:1/v1"}, "--set embedder="),
        ({"embedder": "my.module:Embedder"}, "--import my.module"),
        ({"source": "hub"}, "--set source=hub"),
        ({"tokenizer": "/models/mine"}, "--set tokenizer="),
    ],
)
def test_what_only_a_record_names_is_not_opened(trace: EpisodeTrace, keywords: dict[str, Any], words: str) -> None:
    with pytest.raises(TraceError) as caught:
        all_of(replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, **keywords})))
    assert words in str(caught.value)


def test_a_change_keeps_what_it_does_not_name() -> None:
    update = OperationTrace("update", 1, "applied", text="a", id=3)
    assert changed(update, {"id": 4}) == changed(update, {"kind": "update", "id": 4, "text": "a"})
    assert changed(OperationTrace("answer", 1, "applied", text="x"), {"text": ""}).kind == "answer"


class Interrupts:
    """An agent that is interrupted when it has acted this often."""

    def __init__(self, after: int, error: type[BaseException] = KeyboardInterrupt) -> None:
        self._left = after
        self._error = error

    def reset(self, episode: Any, seed: int) -> None:
        pass

    def act(self, observation: Any) -> str:
        self._left -= 1
        if self._left < 0:
            raise self._error
        return ""


@pytest.mark.parametrize("after", [0, 3])
def test_who_is_interrupted_leaves_no_fork_behind(
    trace: EpisodeTrace, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[AtomMemEnv] = []
    forked = AtomMemEnv._forked

    def noted(self: Any, running: Any) -> Any:
        made.append(forked(self, running))
        return made[-1]

    monkeypatch.setattr(AtomMemEnv, "_forked", noted)
    with pytest.raises(KeyboardInterrupt), Replayer() as replayer:
        list(counterfactuals(trace, replayer=replayer, agent=lambda: Interrupts(after)))
    some: Iterator[Counterfactual] = counterfactuals(trace)
    next(some)
    some.close()  # type: ignore[attr-defined]
    assert len(made) >= 3
    assert not any(fork._finalizer.alive for fork in made)


# -- the command


@pytest.fixture
def path(trace: EpisodeTrace, tmp_path: Path) -> Path:
    (tidy,) = played("tidy", [1], **SMALL)
    write_traces(tmp_path / "traces.jsonl", [trace, tidy])
    return tmp_path / "traces.jsonl"


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    status = main(["counterfactual", *map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_table_has_every_operation(path: Path, trace: EpisodeTrace, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, path, "--continuation", "oracle")
    assert (status, "\x1b" in out) == (0, False)
    lines = out.splitlines()
    rows = [line for line in lines if line[:4].strip().isdigit()]
    assert len(rows) == len(all_operations(trace))
    assert rows[0].split()[-3:] == ["1.000", "0.000", "+1.000"]
    assert not any("…" in part for row in rows for part in row.split()[-3:])
    status, out, _ = run(capsys, path, "--step", "1")
    assert "The recorded answers stay what they were" in " ".join(out.split())
    nothing = "None of these operations changes the reward."
    first = (path, "--step", "1", "--continuation", "oracle")
    assert (nothing in out, nothing in run(capsys, *first)[1]) == (True, False)
    assert nothing not in run(capsys, path, "--step", "1", "--json")[1]


def test_one_operation_says_what_became_of_the_answers(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = (path, "--step", "1", "--operation", "1", "--continuation", "oracle")
    for more, words in (((), "without it"), (("--without",), "without it"), (("--change", '{"text": "x"}'), "changed")):
        status, out, _ = run(capsys, *one, *more)
        out = " ".join(out.split())
        assert (status, "reward 1.000 with it, 0.000" in out, words in out, "0.000 unknown" in out) == (0, *[True] * 3)


def test_json_is_what_python_gives(path: Path, trace: EpisodeTrace, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, path, "--episode", trace.item, "--json", "--continuation", "oracle")
    told = json.loads(out)
    found = all_of(trace, agent=partial(make_agent, "oracle"))
    assert (status, told["item"], told["reward"], told["continuation"]) == (0, trace.item, 1.0, "oracle")
    assert [
        (one["step"], one["operation"], one["kind"], one["text"], one["difference"]) for one in told["operations"]
    ] == [(one.step, one.operation, one.kind, one.text, one.difference) for one in found]
    first = told["operations"][0]
    assert (first["kept"]["reward"], first["other"]["reward"], first["other"]["answers"][0]["score"]) == (1, 0, 0)


def test_unknown_rewards_are_shown_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded_reader(tmp_path, reader=Remembering(), top_k=1)
    status, out, _ = run(capsys, tmp_path / "traces.jsonl", "--step", "1")
    assert status == 0
    assert [line.split()[-1] for line in out.splitlines() if line[:4].strip() == "1"] == ["+0.000", "?", "+0.000"]
    assert "unknown: the question" in " ".join(out.split())
    assert "None of these" not in out


def test_wrong_command_lines_say_what_is_right(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = ("--step", "1", "--operation", "1")
    for arguments, words in (
        (("--operation", "1"), "add --step N"),
        (("--change", "{}"), "add --step N --operation N"),
        ((*one, "--change", "{}", "--without"), "contradicts --without"),
        ((*one, "--change", "{"), "is no JSON"),
        ((*one, "--change", "[1]"), "must be an object"),
        (("--step", "99"), "has no step 99"),
        (("--step", "1", "--operation", "99"), "has no operation 99"),
        (("--episode", "7"), "it holds episodes 0 to 1"),
        (("--continuation", "crud"), "is a role of language models"),
        (("--continuation", "nobody"), "unknown agent 'nobody'"),
        (("--tolerance", "nan"), "must be a number"),
        (("--set", "embedder=random"), "does not play as it was recorded"),
    ):
        status, out, err = run(capsys, path, *arguments)
        assert (status, out, words in " ".join(err.split())) == (2, "", True), err


def test_an_interrupted_command_says_so(
    path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("atommem_gym.commands.traces.counterfactual.make_agent", lambda name: Interrupts(4))
    status, out, err = run(capsys, path, "--continuation", "oracle")
    assert (status, out, "interrupted" in err) == (130, "", True)


def test_text_of_a_record_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_traces(
        tmp_path / "t.jsonl",
        list(_recorded(SMALL, ["<create>\x1b[31mred\x1b[0m\nnext line</create>"])),
    )
    status, out, _ = run(capsys, tmp_path / "t.jsonl")
    assert (status, "\x1b" in out, "\ufffd[31mred" in out) == (0, False, True)


def _recorded(keywords: dict[str, Any], actions: list[str]) -> Iterator[EpisodeTrace]:
    from atommem_gym.traces import TraceRecorder

    env = gym.make(SYNTHETIC, disable_env_checker=True, **keywords)
    recorder = TraceRecorder(SYNTHETIC, keywords, "hand")
    observation, info = env.reset(options={"index": 0})
    base: Any = env.unwrapped
    recorder.reset(base.episode, observation, info)
    rest = iter(actions)
    while not recorder.over:
        action = next(rest, "<answer>no</answer>")
        recorder.step(action, *env.step(action))
    yield recorder.finish()
    env.close()
