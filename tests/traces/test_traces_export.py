"""Training data out of records: what is kept, what is thrown away, and that train and dev have nothing in common."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from msgspec.structs import replace
from support.made_traces import OTHER, QUESTION, SMALL, played, written

from atommem_gym.errors import ConfigError
from atommem_gym.prompts import PromptTemplate
from atommem_gym.scoring import load_scorer
from atommem_gym.traces import EpisodeTrace, TraceError, read_traces, write_traces
from atommem_gym.traces.record import CompletionTrace
from atommem_gym.traces.rescore import rescore
from atommem_gym.traces.training.export import FORMATS, export
from atommem_gym.traces.training.sft import Selection, Tally, examples, stripped
from atommem_gym.traces.training.splits import components, dev_part, ties

RIGHT, WRONG, HALF = "<answer>Thames</answer>", "<answer>Seine</answer>", "<answer>London</answer>"


def kept(trace: EpisodeTrace, **selection: Any) -> list[int]:
    return [example.step for example in examples(trace, Selection(**selection), Tally())]


def test_answering_steps_stand_and_fall_with_their_question() -> None:
    trace = written(["<create>a</create>", "<read>x</read>", RIGHT, "<read>y</read>", WRONG], (QUESTION, OTHER))
    assert [answer["score"] for answer in trace.metrics["answers"]] == [1.0, 0.0]
    assert kept(trace) == [1, 2, 3]
    assert kept(trace, reading_share=0.6) == [2, 3]
    assert kept(trace, threshold=0.0) == [1, 2, 3, 4, 5]
    swapped = written(["<create>a</create>", "<read>x</read>", WRONG, "<read>y</read>", HALF], (QUESTION, OTHER))
    assert kept(swapped) == [1, 4, 5]
    assert kept(written(["<create>a</create>", WRONG])) == []


def test_an_early_answer_is_a_step_of_reading_and_of_its_question() -> None:
    actions = ["<create>a</create>" + RIGHT, "<create>b</create>" + WRONG]
    trace = written(actions, (QUESTION, OTHER), chunk_tokens=15, early_answer=True)
    assert [step.observation["phase"] for step in trace.steps] == [0, 0]
    assert kept(trace) == [1]


def test_a_threshold_goes_by_the_scores_of_a_rescoring() -> None:
    trace = written(["<create>a</create>", "<answer>the river Thames</answer>"])
    assert kept(trace) == []
    [again] = rescore([trace], load_scorer("f1"))
    assert kept(again, scorer="f1", threshold=0.5) == [1, 2]
    with pytest.raises(TraceError, match="rescore"):
        kept(trace, scorer="f1")


def test_what_teaches_to_stop_short_is_left_out() -> None:
    trace = written(["<creat>a</creat>", "", RIGHT])
    tally = Tally()
    assert [example.step for example in examples(trace, Selection(), tally)] == [1, 3]
    assert tally.dropped["empty response"] == 1
    assert kept(trace, drop_rejected=True) == [3]
    cut = replace(trace.steps[2], completions=(CompletionTrace(10, 5, 0.1, "length"),))
    assert kept(replace(trace, steps=(*trace.steps[:2], cut))) == [1]


def test_finding_4_8_the_decision_not_to_store_is_kept_and_counted() -> None:
    trace = written(["Nothing to store.", "<create>a</create>", "", RIGHT], chunk_tokens=8)
    tally = Tally()
    found = list(examples(trace, Selection(), tally))
    assert next((example.step, example.response) for example in found) == (1, "Nothing to store.")
    assert tally.silent == 1
    assert tally.dropped == {"empty response": len(trace.steps) - len(found)}
    assert tally.dropped["empty response"] > 0
    thought = written(["<think><create>a</create></think>", RIGHT])
    tally = Tally()
    assert len(list(examples(thought, Selection(), tally))) == 2
    assert tally.silent == 1
    tally = Tally()
    assert [example.step for example in examples(thought, Selection(thinking="strip"), tally)] == [2]
    assert tally.silent == 0


@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
def test_finding_4_8_demonstrations_of_the_oracle_hold_silent_steps_and_none_is_empty(
    tmp_path: Path, dialect: str
) -> None:
    traces = list(played("oracle", [1, 2], dialect=dialect, **{**SMALL, "chunk_tokens": 60}))
    steps = [step for trace in traces for step in trace.steps]
    silent = [step for step in steps if not step.operations]
    assert silent
    assert {step.action for step in silent} == {"Nothing to store."}
    assert {step.observation["phase"] for step in silent} == {0}
    write_traces(tmp_path / "t.jsonl", traces)
    exported = export(
        [tmp_path / "t.jsonl"], tmp_path / "sft", "messages", Selection(threshold=0, reading_share=0), dev_share=0
    )
    assert (exported.train, exported.tally.silent) == (len(steps), len(silent))
    assert json.loads((tmp_path / "sft" / "export.json").read_text())["tally"]["silent"] == len(silent)
    rows = [json.loads(line) for line in (tmp_path / "sft" / "train.jsonl").read_text().splitlines()]
    assert sum(row["messages"][-1]["content"] == "Nothing to store." for row in rows) == len(silent)


@pytest.mark.parametrize("reason", ["error", "abort", "content_filter", "unknown", "", None])
def test_A9_a_response_that_its_server_did_not_end_as_a_stop_is_no_example(reason: str | None) -> None:
    trace = written(["<creat>a</creat>", "", RIGHT])
    broken = replace(trace.steps[2], completions=(CompletionTrace(10, 5, 0.1, reason),))
    tally = Tally()
    broken_trace = replace(trace, steps=(*trace.steps[:2], broken))
    assert [example.step for example in examples(broken_trace, Selection(), tally)] == [1]
    assert tally.dropped["not ended by a stop"] == 1
    whole = replace(trace.steps[2], completions=(CompletionTrace(10, 5, 0.1, "eos_token"),))
    assert kept(replace(trace, steps=(*trace.steps[:2], whole))) == [1, 3]


def test_scripted_records_are_rendered_through_the_prompt_of_their_environment() -> None:
    [trace] = played("oracle", [1], dialect="tools", scratchpad=False, **SMALL)
    from atommem_gym.config import EnvConfig

    template = PromptTemplate(EnvConfig.from_keywords({**SMALL, "dialect": "tools", "scratchpad": False}))
    for example in examples(trace, Selection(), Tally()):
        step = trace.steps[example.step - 1]
        assert example.prompt == template.messages(step.observation)
        assert [message["role"] for message in example.messages] == ["system", "user", "assistant"]
        assert example.response == step.action


def test_messages_that_a_model_saw_are_kept_unless_they_are_rendered_anew(tmp_path: Path) -> None:
    trace = written([RIGHT])
    seen = [{"role": "system", "content": "S \ud800"}, {"role": "user", "content": "U"}]
    asked = replace(trace, steps=tuple(replace(step, messages=seen) for step in trace.steps))
    [_, example] = examples(asked, Selection(), Tally())
    assert example.prompt == [{"role": "system", "content": "S \ufffd"}, {"role": "user", "content": "U"}]
    mine = tmp_path / "mine.j2"
    mine.write_text("{{ part }} {{ question if part == 'user' }}")
    [_, rendered] = examples(asked, Selection(render=True, template=mine), Tally())
    assert rendered.prompt[1]["content"] == f"user {QUESTION.question}"


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        ("<think>a</think><answer>b</answer>", "<answer>b</answer>"),
        ("begun in the prompt</think>\n<answer>b</answer>", "<answer>b</answer>"),
        ("<answer>b</answer><think>and never ended", "<answer>b</answer>"),
        ("<create>about <think>tags</think></create>", None),
        ("no reasoning <answer>b</answer>", "no reasoning <answer>b</answer>"),
    ],
)
def test_A2_reasoning_is_taken_out_where_that_changes_no_operation(response: str, expected: str | None) -> None:
    assert stripped(response, "crud") == expected


def test_reasoning_is_kept_or_stripped_by_flag() -> None:
    thought = "<think>The Thames.</think> " + RIGHT
    trace = written([thought])
    assert [one.response for one in examples(trace, Selection(), Tally())] == [thought] * 2
    assert [one.response for one in examples(trace, Selection(thinking="strip"), Tally())] == [RIGHT] * 2
    apart = CompletionTrace(10, 5, 0.1, "stop", reasoning="The Thames.")
    steps = tuple(replace(step, response=RIGHT, completions=(apart,)) for step in trace.steps)
    [first, _] = examples(replace(trace, steps=steps), Selection(), Tally())
    assert first.response == f"<think>\nThe Thames.\n</think>\n\n{RIGHT}"
    [first, _] = examples(replace(trace, steps=steps), Selection(thinking="strip"), Tally())
    assert first.response == RIGHT
    tally = Tally()
    tagged = written(["<create>about <think>tags</think></create>", RIGHT])
    assert len(list(examples(tagged, Selection(thinking="strip"), tally))) == 2
    assert tally.unstripped == 1


def test_A8_reasoning_between_named_delimiters_is_kept_or_stripped() -> None:
    thought = "Thoughts: the <create>Thames</create>? Reply: " + RIGHT
    trace = written([thought], thinking=[["Thoughts:", "Reply:"], ["<r>", "</r>"]])
    assert {operation.kind for step in trace.steps for operation in step.operations} == {"answer"}
    assert {one.response for one in examples(trace, Selection(thinking="strip"), Tally())} == {RIGHT}
    apart = CompletionTrace(10, 5, 0.1, "stop", reasoning="The Thames.")
    steps = tuple(replace(step, response=RIGHT, completions=(apart,)) for step in trace.steps)
    [first, *_] = examples(replace(trace, steps=steps), Selection(), Tally())
    assert first.response == f"Thoughts:\nThe Thames.\nReply:\n\n{RIGHT}"


def test_a_component_is_never_divided() -> None:
    tied = [["a", "b"], ["c"], ["b", "d"], ["e"], ["d"], ["f"]]
    assert components(tied) == [0, 1, 0, 2, 0, 3]
    for seed in range(20):
        in_dev = dev_part(tied, [1] * 6, 0.4, seed)
        assert in_dev[0] == in_dev[2] == in_dev[4]
        assert 0 < sum(in_dev) <= 2
    assert dev_part(tied, [1] * 6, 0.0, 0) == [False] * 6
    assert dev_part([["a"], ["a"]], [1, 1], 0.5, 0) == [False, False]
    assert sum(dev_part([["a"], ["b"]], [9, 5], 0.1, 0)) == 1


def test_dev_is_drawn_by_the_seed() -> None:
    tied = [[str(i)] for i in range(40)]
    draws = {tuple(dev_part(tied, [1] * 40, 0.25, seed)) for seed in range(8)}
    assert len(draws) == 8
    assert {sum(draw) for draw in draws} == {10}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    path = tmp_path_factory.mktemp("traces") / "traces.jsonl.gz"
    keywords = {"source": str(shared_data / "hotpotqa.jsonl"), "num_docs": 40, "questions_per_episode": 2}
    both = [
        trace
        for agent in ("oracle", "overwrite")
        for trace in played(agent, range(10), "AtomMem-HotpotQA-v0", store="numpy", **keywords)
    ]
    write_traces(path, both)
    return path


@pytest.mark.parametrize("form", FORMATS)
def test_files_hold_the_examples_and_share_no_question_and_no_gold_document(
    traces: Path, tmp_path: Path, form: Any
) -> None:
    exported = export([traces], tmp_path / "sft", form, dev_share=0.3, seed=1)
    rows = {}
    for part in ("train", "dev"):
        if form == "verl":
            rows[part] = pq.read_table(tmp_path / "sft" / f"{part}.parquet").to_pylist()
        else:
            lines = (tmp_path / "sft" / f"{part}.jsonl").read_bytes().splitlines()
            rows[part] = [json.loads(line) for line in lines]
    assert (len(rows["train"]), len(rows["dev"])) == (exported.train, exported.dev)
    assert exported.train + exported.dev == sum(exported.tally.kept.values()) > 0
    assert exported.dev > 0
    assert exported.tally.steps == sum(exported.tally.kept.values()) + sum(exported.tally.dropped.values())
    about = json.loads((tmp_path / "sft" / "export.json").read_text())
    assert (about["train"], about["dev"]) == (exported.train, exported.dev)
    if form == "trl":
        assert all(list(row) == ["prompt", "completion"] for row in rows["train"])
        assert [message["role"] for message in rows["train"][0]["prompt"]] == ["system", "user"]
        assert [message["role"] for message in rows["train"][0]["completion"]] == ["assistant"]
        return
    assert [message["role"] for message in rows["train"][0]["messages"]] == ["system", "user", "assistant"]
    shared: dict[str, set[Any]] = {}
    for part in ("train", "dev"):
        items = {row["item"] for row in rows[part]}
        shared[part] = {tie for trace in read_traces(traces) if trace.item in items for tie in ties(trace)}
        assert {kind for kind, _ in shared[part]} == {"question", "document"}
    assert not shared["train"] & shared["dev"]


def test_verl_gets_a_list_of_role_and_content(traces: Path, tmp_path: Path) -> None:
    export([traces], tmp_path)
    schema = pq.read_schema(tmp_path / "train.parquet")
    message = pa.struct({"role": pa.string(), "content": pa.string()})
    assert schema.field("messages").type.value_type == message


def test_json_lines_can_be_read_by_anything(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces(path, [written(["<create>a\u2028b \U0001f989 \ud800</create>", RIGHT])])
    export([path], tmp_path / "sft", "trl", dev_share=0)
    data = (tmp_path / "sft" / "train.jsonl").read_bytes()
    assert data.isascii()
    first = json.loads(data.splitlines()[0])["completion"][0]["content"]
    assert first == "<create>a\u2028b \U0001f989 \ufffd</create>"


def test_an_export_of_nothing_says_why(tmp_path: Path) -> None:
    path = tmp_path / "traces.jsonl"
    write_traces(path, [written([WRONG])])
    with pytest.raises(TraceError, match=r"no step of 1 episode is left.*question failed: 2"):
        export([path], tmp_path / "sft")
    assert not (tmp_path / "sft").exists()
    for wrong in ({"dev_share": 1.0}, {"form": "sharegpt"}, {"selection": Selection(threshold=2)}):
        with pytest.raises(ConfigError):
            export([path], tmp_path / "sft", **wrong)  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_datasets_library_reads_the_conversations(traces: Path, tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets", reason="pip install 'atommem-gym[hub]' to read the JSONL as TRL does")
    exported = export([traces], tmp_path / "sft", "trl")
    loaded = datasets.load_dataset(
        "json", data_files=str(tmp_path / "sft" / "train.jsonl"), split="train", cache_dir=str(tmp_path / "cache")
    )
    assert len(loaded) == exported.train
    assert loaded[0]["prompt"][0]["role"] == "system"
