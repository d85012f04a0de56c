"""What a frozen reader saw and said is in the trace, and is replayed from there without a reader (SPEC E13)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from support.made_traces import SMALL
from support.plugins.readers import Echo
from support.pools import make_plain

from atommem_gym.cli import main
from atommem_gym.envs import RecordTraces
from atommem_gym.readers.protocol import ReaderCall, Reading
from atommem_gym.scoring import load_scorer
from atommem_gym.traces import EpisodeTrace, read_traces, write_traces
from atommem_gym.traces.replay import Replayer
from atommem_gym.traces.rescore import rescore

ACTIONS = ("<create>Ada kept bees.</create><scratchpad>notes</scratchpad><read>bees</read>", "<answer/>", "<answer/>")


class Costly(Echo):
    """A reader whose calls cost something."""

    name = "http://gone:1/v1#tiny"

    def read(self, requests: Any) -> list[Reading]:
        call = ReaderCall(40, 3, 0.25, "length", "hm", 2)
        return [Reading(one.request, one.answer, (call,)) for one in super().read(requests)]


def recorded(folder: Path, reader: Any, **keywords: Any) -> EpisodeTrace:
    env = RecordTraces(
        make_plain(**{**SMALL, "chunk_tokens": 9999, "questions_per_episode": 2, "reader": reader, **keywords}),
        folder / "traces.jsonl",
    )
    env.reset(options={"index": 2})
    for action in ACTIONS:
        env.step(action)
    env.close()
    [trace] = read_traces(folder / "traces.jsonl")
    return trace


def with_reading(trace: EpisodeTrace, **changes: Any) -> EpisodeTrace:
    """The record with something else in what the reader saw or said last."""
    step = trace.steps[-1]
    return replace(trace, steps=(*trace.steps[:-1], replace(step, reader=(replace(step.reader[0], **changes),))))


def test_E13_the_record_holds_what_the_reader_saw_said_and_cost(tmp_path: Path) -> None:
    trace = recorded(tmp_path, Costly())
    assert [len(step.reader) for step in trace.steps] == [0, 1, 1]
    first, second = trace.steps[1].reader[0], trace.steps[2].reader[0]
    seen = trace.steps[1].observation
    assert (first.question, first.scratchpad) == (trace.questions[0].question, "notes")
    assert [[one.id, one.text, one.score] for one in first.memories] == [list(m.values()) for m in seen["memories"]]
    assert json.loads(first.answer)[0] == first.question
    assert trace.metrics["answers"][1]["answer"] == second.answer
    [cost] = second.completions
    assert (cost.prompt_tokens, cost.completion_tokens, cost.seconds, cost.tries) == (40, 3, 0.25, 2)
    assert trace.env.keywords["reader"] == "http://gone:1/v1#tiny"


@pytest.mark.parametrize("reader", [Costly, lambda: "oracle", lambda: "support.plugins.readers:echo"])
def test_E13_a_record_is_replayed_and_checked_without_a_reader(tmp_path: Path, reader: Any) -> None:
    trace = recorded(tmp_path, reader())
    with Replayer() as replayer:
        assert replayer.check(trace) is None
        assert replayer.check(trace) is None, "the second time from the beginning again"


def test_E13_the_command_line_imports_and_calls_nobody_for_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = recorded(tmp_path, "support.plugins.readers:echo")
    for name in ("http://127.0.0.1:9/v1", "no_such_module:reader", trace.env.keywords["reader"]):
        named = replace(trace, env=replace(trace.env, keywords={**trace.env.keywords, "reader": name}))
        write_traces(tmp_path / "named.jsonl", [named])
        assert main(["replay", str(tmp_path / "named.jsonl"), "--check"]) == 0, capsys.readouterr().err
        (tmp_path / "named.jsonl").unlink()


@pytest.mark.parametrize(
    ("changes", "path"),
    [
        ({"scratchpad": "other notes"}, "reader[0].scratchpad"),
        ({"question": "Who?"}, "reader[0].question"),
        ({"memories": ()}, "reader[0].memories"),
        ({"answer": "forged"}, "info.episode_metrics"),
    ],
)
def test_E13_what_the_reader_did_not_see_or_say_is_found(tmp_path: Path, changes: dict[str, Any], path: str) -> None:
    trace = recorded(tmp_path, Costly())
    changed = with_reading(trace, **changes)
    if "memories" in changes:
        first = trace.steps[1]
        forged = replace(first, reader=(replace(first.reader[0], memories=()),))
        changed = replace(trace, steps=(trace.steps[0], forged, trace.steps[2]))
    with Replayer() as replayer:
        difference = replayer.check(changed)
    assert difference is not None
    assert difference.path.startswith(path)


def test_E13_an_oracle_is_asked_again_so_that_no_answer_of_its_can_be_forged(tmp_path: Path) -> None:
    trace = recorded(tmp_path, "oracle")
    with Replayer() as replayer:
        difference = replayer.check(with_reading(trace, answer=trace.questions[1].answer))
    assert difference is not None
    assert difference.path == "reader[0].answer"


def test_E13_a_record_without_its_readings_differs_where_they_are_missing(tmp_path: Path) -> None:
    trace = recorded(tmp_path, Costly())
    bare = replace(trace, steps=tuple(replace(step, reader=()) for step in trace.steps))
    with Replayer() as replayer:
        difference = replayer.check(bare)
    assert difference is not None
    assert difference.step == 2


def test_R3_other_scorers_score_what_the_reader_said(tmp_path: Path) -> None:
    trace = recorded(tmp_path, lambda question, memories, scratchpad: "the answer")
    [again] = rescore([trace], load_scorer(lambda prediction, answers, question: float(prediction == "the answer")))
    assert again.rescores[0].scores == (1.0, 1.0)
