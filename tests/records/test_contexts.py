"""Contexts with many questions (SPEC E14), and the sets that come as contexts (SPEC D8)."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.cli import main
from atommem_gym.custom import CustomTask
from atommem_gym.envs import AtomMemPool
from atommem_gym.errors import ConfigError, DatasetUnavailableError, RecordError
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evidence import holds
from atommem_gym.records.audit import audit
from atommem_gym.records.contexts import ContextItems
from atommem_gym.records.corpus import from_records
from atommem_gym.records.formats import factconsolidation, locomo, longmemeval
from atommem_gym.records.record import Document, Record
from atommem_gym.records.sources import load_split
from atommem_gym.registration import TASKS
from atommem_gym.testing import budget, check_memory_env
from atommem_gym.traces import read_traces

CONTEXTS = ("LoCoMo", "FactConsolidation", "LongMemEval")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers is unknown to the next."""
    known, ids = dict(TASKS), dict(gym.registry)
    yield
    for registry, before in ((TASKS, known), (gym.registry, ids)):
        registry.clear()
        registry.update(before)


# -- generated files of each shape


def conversation(name: str = "conv-1", sessions: int = 3) -> dict[str, Any]:
    spoken: dict[str, Any] = {"speaker_a": "Ada", "speaker_b": "Ben"}
    for number in range(1, sessions + 1):
        spoken[f"session_{number}_date_time"] = f"{number}:05 pm on {number + 7} May, 2023"
        spoken[f"session_{number}"] = [
            {"speaker": "Ada", "dia_id": f"D{number}:1", "text": f"I bought {number} goats in {name}.\n"},
            {
                "speaker": "Ben",
                "dia_id": f"D{number}:2",
                "text": "Look at this!",
                "blip_caption": f"a photo of bridge {number}",
                "img_url": ["x"],
            },
        ]
    spoken["session_9_date_time"] = "1:00 pm on 9 June, 2023"  # a date without its session, as in the release
    asked = [
        {"question": "How many goats did Ada buy first?", "answer": 1, "evidence": ["D1:1"], "category": 4},
        {"question": "Which bridges did Ben see?", "answer": "1 and 2", "evidence": ["D1:2; D2:2"], "category": 1},
        {
            "question": "When did she buy 3 goats?",
            "answer": "10 May 2023",
            "evidence": ["D:3:1", "D9:1"],
            "category": 2,
        },
        {"question": "Would Ada like cheese?", "answer": "Likely yes", "evidence": [], "category": 3},
        {"question": "How many cows did Ben buy?", "adversarial_answer": "two", "evidence": ["D1:1"], "category": 5},
        {"question": "Whose are the hens?", "adversarial_answer": "Not mentioned", "evidence": ["D1:1"], "category": 5},
        {
            "question": "Did Ben buy goats?",
            "adversarial_answer": "Yes",
            "answer": "No",
            "evidence": ["D1:1"],
            "category": 5,
        },
    ]
    return {"sample_id": name, "conversation": spoken, "qa": asked, "event_summary": {}}


def facts(name: str = "factconsolidation_sh_1k", count: int = 23) -> dict[str, Any]:
    lines = [f"{number}. The capital of land {number % 17} is Town {number}." for number in range(count)]
    asked = [(f"What is the capital of land {land}?", max(range(land, count, 17))) for land in range(6)]
    return {
        "context": "Here is a list of facts:\n" + "\n".join(lines) + "\n",
        "questions": [question for question, _ in asked],
        "answers": [[f"Town {number}", f"the town {number}"] for _, number in asked],
        "metadata": {"source": name, "qa_pair_ids": [f"{name}_no{i}" for i in range(6)], "question_dates": None},
    }


def history(number: int = 1, abstains: bool = False) -> dict[str, Any]:
    days = [20, 5, 12]
    sessions = [
        [
            {"role": "user", "content": f"On day {day} I met friend {number}-{day}.", "has_answer": day == 12},
            {"role": "assistant", "content": "Good to hear.\n\nAnything else?"},
        ]
        for day in days
    ]
    return {
        "question_id": f"q{number}_abs" if abstains else f"q{number}",
        "question_type": "single-session-user",
        "question": "Whom did I meet on day 12?",
        "answer": "You did not say." if abstains else number,
        "question_date": "2023/05/30 (Tue) 23:40",
        "haystack_session_ids": ["noise_1", "noise_2", f"answer_{number}"],
        "haystack_dates": [f"2023/05/{day:02} (Sat) 02:21" for day in days],
        "haystack_sessions": sessions,
        "answer_session_ids": [f"answer_{number}"],
    }


MADE: dict[str, Callable[[], list[dict[str, Any]]]] = {
    "LoCoMo": lambda: [conversation(f"conv-{n}", 2 + n) for n in range(1, 4)],
    "FactConsolidation": lambda: [facts(f"factconsolidation_{kind}_1k", n) for kind, n in (("sh", 23), ("mh", 31))],
    "LongMemEval": lambda: [history(1), history(2), history(3, abstains=True)],
}


def write(path: Path, values: Any) -> Path:
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.fixture(params=CONTEXTS)
def made(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """The id of each set and a generated file of its shape."""
    return f"AtomMem-{request.param}-v0", write(tmp_path / f"{request.param}.json", MADE[request.param]())


# -- E14: items


def streams(questions: list[int]) -> list[Record]:
    documents = [tuple(Document(f"Part {i}", f"{c} says {i}") for i in range(c + 1)) for c in range(len(questions))]
    return [
        Record(f"{c}-{q}", f"What of {c}, {q}?", f"{q}", documents[c], (), (), context=f"context {c}")
        for c, count in enumerate(questions)
        for q in range(count)
    ]


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 5) | st.just((2, 3)), st.integers(0, 3))
@budget(60)
def test_E14_every_question_is_in_one_item_with_its_context_whole(
    questions: list[int], size: int | tuple[int, int], seed: int
) -> None:
    records = streams(questions)
    items = ContextItems(from_records("mine", "train", records), questions_per_episode=size)
    again = ContextItems(from_records("mine", "train", records), questions_per_episode=size)
    asked = []
    most = size if isinstance(size, int) else size[1]
    short = dict.fromkeys({record.context for record in records}, 0)
    for index in range(items.num_items):
        item = items.item(index, seed)
        assert item == again.item(index, seed)
        assert len({question.context for question in item.questions}) == 1
        assert tuple(item.documents) == tuple(item.questions[0].documents)
        assert 1 <= len(item.questions) <= most
        if isinstance(size, int):
            short[item.questions[0].context] += len(item.questions) < size
        asked += [question.id for question in item.questions]
        assert {question.id for question in items.item(index, seed + 1).questions} == {q.id for q in item.questions}
    assert sorted(asked) == sorted(record.id for record in records)
    assert max(short.values()) <= 1, "only the last group of a context may be smaller"
    with pytest.raises(IndexError, match=f"items 0 to {items.num_items - 1}"):
        items.item(items.num_items)


def test_E14_a_context_has_the_same_groups_whatever_others_there_are() -> None:
    def groups(records: list[Record]) -> set[frozenset[str]]:
        items = ContextItems(from_records("mine", "train", records), questions_per_episode=2)
        found = (items.item(i).questions for i in range(items.num_items))
        return {frozenset(q.id for q in one) for one in found if one[0].context == "context 0"}

    assert groups(streams([7])) == groups(streams([7, 5, 3]))


def test_E14_the_first_items_are_of_many_contexts() -> None:
    items = ContextItems(from_records("mine", "train", streams([30] * 5)), questions_per_episode=1)
    assert len({items.item(i).questions[0].context for i in range(20)}) >= 4


@pytest.mark.parametrize("keywords", [{"num_docs": 20}, {"order": "shuffled"}, {"order": "gold_last"}])
def test_E14_document_counts_and_other_orders_are_refused(made: tuple[str, Path], keywords: dict[str, Any]) -> None:
    [name] = keywords
    with pytest.raises(ConfigError, match=f"{name}=.* contradicts {made[0]}"):
        gym.make(made[0], source=str(made[1]), **keywords)


def test_E14_what_a_context_says_of_itself_makes_it_again(made: tuple[str, Path]) -> None:
    env: Any = gym.make(made[0], source=str(made[1]), store="numpy", order="given", num_docs=None)
    keywords = env.unwrapped.config.as_keywords()
    assert keywords["num_docs"] == 0
    gym.make(made[0], **keywords).close()
    env.close()


def test_E14_own_records_with_contexts(tmp_path: Path) -> None:
    def diary(name: str, day: int) -> dict[str, Any]:
        days = [
            {
                "title": name,
                "text": f"{name} {i}: rain {i}.",
                "date": f"2023-05-0{i}",
                **({"gold": True} if i == day else {}),
            }
            for i in (1, 2, 3)
        ]
        return {"question": f"{name}, day {day}?", "answer": f"rain {day}", "documents": days, "context": name}

    path = tmp_path / "diaries.jsonl"
    path.write_text("".join(json.dumps(diary(name, day)) + "\n" for name in "AB" for day in (1, 2, 3)))
    env_id = CustomTask(name="Diaries", records=path, contexts=True).register()
    env: Any = gym.make(env_id, store="numpy", questions_per_episode=2)
    assert env.unwrapped.num_items == 4
    observation, _ = env.reset(options={"index": 0})
    assert observation["chunk"].count("Document") == 3
    env.close()
    with pytest.raises(ConfigError, match="num_docs=2 contradicts"):
        gym.make(env_id, num_docs=2)
    with pytest.raises(ConfigError, match="contexts=True"):
        gym.make(CustomTask(name="Flat", records=path, defaults={"num_docs": 3, "order": "given"}).register())
    records = [{**diary("A", 1), "context": None}]
    with pytest.raises(ConfigError, match="belongs to no context"):
        gym.make(CustomTask(name="Loose", records=records, contexts=True).register())


# -- D8: every face


def test_D8_check_env_is_silent_and_memory_rules_hold(made: tuple[str, Path], recwarn: Any) -> None:
    env = gym.make(made[0], source=str(made[1]), store="numpy", questions_per_episode=2, chunk_tokens=60)
    check_env(env.unwrapped, skip_render_check=True)
    assert not [str(one.message) for one in recwarn if "check_env" in str(one.message) or "Env" in str(one.message)]
    check_memory_env(env)
    env.close()


def test_D8_vector_pool_traces_and_viewer(made: tuple[str, Path], tmp_path: Path) -> None:
    keywords = {"source": str(made[1]), "store": "numpy", "questions_per_episode": 2, "chunk_tokens": 60}
    envs = gym.make_vec(made[0], num_envs=2, **keywords)
    observations, _ = envs.reset(seed=1)
    single = gym.make(made[0], **keywords)
    for i, episode in enumerate(envs.unwrapped.episodes):  # type: ignore[attr-defined]
        alone, _ = single.reset(options={"index": episode.item.index})
        assert alone["chunk"] == observations["chunk"][i]
    envs.close()
    single.close()

    async def play() -> str:
        async with AtomMemPool(made[0], capacity=2, **keywords) as pool, pool.env() as env:
            observation, _ = await env.areset(options={"index": 0})
            return str(observation["chunk"])

    assert asyncio.run(play()).startswith("Document 1")
    out = tmp_path / "run"
    name = made[0].removeprefix("AtomMem-").removesuffix("-v0")
    asked = ["--set", "store=numpy", "chunk_tokens=60", "--agent", "keep_all", "oracle", "--episodes", "2"]
    assert main(["eval", name, "--source", f"{name}={made[1]}", *asked, "--docs", "20", "40", "-o", str(out)]) == 0
    report = (out / "report.md").read_text(encoding="utf-8")
    assert " sessions |" in report
    assert f"| {name} | 20 |" not in report
    traces = list(read_traces(out / "traces.jsonl"))
    assert len(traces) == 4
    assert main(["replay", str(out / "traces.jsonl"), "--check"]) == 0
    assert main(["view", str(out / "traces.jsonl"), "-o", str(tmp_path / "page.html")]) == 0


def test_D8_verl_rows(made: tuple[str, Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other.json", _others(made[0]))
    task = made[0].removeprefix("AtomMem-").removesuffix("-v0")
    sources = ["--set", f"source={made[1]}", "--validation-set", f"source={other}"]
    assert main(["data", "verl", task, "-o", str(tmp_path / "rows"), *sources, "--validation", "1"]) == 0


def _others(env_id: str) -> list[dict[str, Any]]:
    if "LoCoMo" in env_id:
        found = conversation("conv-8")
        for asked in found["qa"]:
            asked["question"] += " (8)"
        return [found]
    if "Fact" in env_id:
        found = facts("factconsolidation_sh_2k", 40)
        found["questions"] = [f"{question} (2k)" for question in found["questions"]]
        return [found]
    return [{**history(8), "question": "Who?"}]


def test_D8_scripted_agents_play(made: tuple[str, Path]) -> None:
    env: Any = gym.make(made[0], source=str(made[1]), store="numpy", questions_per_episode=3)
    for name in ("keep_all", "tidy", "oracle", "overwrite", "silent", "random"):
        for index in range(env.unwrapped.num_items):
            record = play_episode(env, make_agent(name), index)
            if name == "oracle":
                asked = env.unwrapped.item.questions
                sure = [q for q in asked if q.evidence or not q.answerable or "Likely" not in q.answer]
                assert record.em >= len(sure) / len(asked), asked
    env.close()


def test_D8_nothing_is_generated_and_the_hub_is_named_honestly(made: tuple[str, Path]) -> None:
    with pytest.raises(ConfigError, match="no generated records"):
        gym.make(made[0], source="synthetic")
    from atommem_gym.records.hub import HUB

    task = next(task for task in TASKS.values() if task.env_id == made[0])
    assert task.dataset is not None
    assert not HUB[task.dataset].tried
    assert HUB[task.dataset].revision is None
    if not HUB[task.dataset].splits:
        with pytest.raises(DatasetUnavailableError, match="not read from the hub"):
            gym.make(made[0])


# -- D8: LoCoMo


def test_D8_locomo_sessions_are_dated_documents() -> None:
    found = locomo.parse(conversation())
    documents = found.records[0].documents
    assert documents[0] == Document(
        "Session 1",
        "Ada: I bought 1 goats in conv-1.\nBen: Look at this! [shares a photo of bridge 1]",
        "2023-05-08T13:05",
        ("Ada", "Ben"),
    )
    assert len(documents) == 3
    assert {record.context for record in found.records} == {"conv-1"}


def test_D8_locomo_sessions_may_have_leading_zeros() -> None:
    value = conversation()
    value["conversation"] = {name.replace("_1", "_01"): given for name, given in value["conversation"].items()}
    assert locomo.parse(value).records[0].documents == locomo.parse(conversation()).records[0].documents


def test_D8_locomo_questions_of_every_kind() -> None:
    first, several, when, opinion, cows, hens, both = locomo.parse(conversation()).records
    assert (first.answers, first.type) == (("1",), "single-hop")
    assert [piece.text for piece in first.evidence] == ["Ada: I bought 1 goats in conv-1."]
    assert [piece.title for piece in several.evidence] == ["Session 1", "Session 2"]
    assert [piece.title for piece in when.evidence] == ["Session 3"]
    assert (opinion.evidence, opinion.gold) == ((), ())
    assert (cows.answerable, cows.answers, cows.trap, cows.evidence) == (False, (), "two", ())
    assert (hens.answerable, hens.trap) == (False, "")
    assert (both.answerable, both.answers, both.options) == (True, ("No",), ("yes", "no"))


def test_D8_locomo_what_does_not_resolve_and_contradicts_is_kept_and_told(tmp_path: Path, capsys: Any) -> None:
    value = conversation()
    value["qa"].append({**value["qa"][0], "answer": "two"})
    found = locomo.parse(value)
    assert found.unresolved == ("conv-1-q2: D9:1",)
    assert [one.split(":")[0] for one in found.contradictory] == ["conv-1-q6", "conv-1-q0, conv-1-q7"]
    assert main(["data", "check", str(write(tmp_path / "locomo.json", [value]))]) == 0
    said = capsys.readouterr().out
    for line in ("conv-1-q2: D9:1", "conv-1-q6: has an answer", "conv-1-q0, conv-1-q7: the same", "locomo"):
        assert line in said


def test_D8_locomo_evidence_that_is_absent_makes_recall_absent(tmp_path: Path) -> None:
    value = conversation()
    value["qa"] = [value["qa"][3], {**value["qa"][0], "evidence": None}]
    env: Any = gym.make("AtomMem-LoCoMo-v0", source=str(write(tmp_path / "l.json", [value])), store="numpy")
    for index in range(2):
        record = play_episode(env, make_agent("keep_all"), index)
        assert record.evidence_recall is None
        # The oracle reader goes by the answer's words: "1" is said, "Likely yes" is not.
        assert record.em == float(env.unwrapped.item.questions[0].answer == "1")
    env.close()


def _no_date(value: dict[str, Any]) -> None:
    del value["conversation"]["session_2_date_time"]


def _odd_date(value: dict[str, Any]) -> None:
    value["conversation"]["session_2_date_time"] = "yesterday"


def _backwards(value: dict[str, Any]) -> None:
    value["conversation"]["session_3_date_time"] = "1:00 pm on 1 May, 2023"


def _no_answer(value: dict[str, Any]) -> None:
    del value["qa"][0]["answer"]


def _category(value: dict[str, Any]) -> None:
    value["qa"][0]["category"] = 6


def _odd_category(value: dict[str, Any]) -> None:
    value["qa"][0]["category"] = []


def _true_category(value: dict[str, Any]) -> None:
    value["qa"][0]["category"] = True


def _no_text(value: dict[str, Any]) -> None:
    value["conversation"]["session_1"][0]["text"] = [7]


def _long_number(value: dict[str, Any]) -> None:
    value["conversation"]["session_1"][0]["dia_id"] = f"D{'9' * 5_000}:1"


def _no_sessions(value: dict[str, Any]) -> None:
    value["conversation"] = {"speaker_a": "Ada", "speaker_b": "Ben"}


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_no_date, "session_2 has no date"),
        (_odd_date, "session_2_date_time must be such as"),
        (_backwards, "document 3 is dated 2023-05-01T13:00, before document 2"),
        (_no_answer, "field 'qa', question 0: field 'answer' is missing"),
        (_category, "'category' must be a number from 1 to 5"),
        (_odd_category, r"'category' must be a number from 1 to 5, it is \[\]"),
        (_true_category, "'category' must be a number from 1 to 5, it is True"),
        (_no_text, "'text' must be a string"),
        (_long_number, "'dia_id' must be such as D1:3"),
        (_no_sessions, "no session with turns"),
    ],
)
def test_D8_locomo_bad_input_fails_data_check_and_make(
    spoil: Callable[[dict[str, Any]], None], message: str, tmp_path: Path, capsys: Any
) -> None:
    value = conversation()
    spoil(value)
    path = write(tmp_path / "locomo.json", [conversation("conv-2"), value])
    with pytest.raises(RecordError, match=message):
        gym.make("AtomMem-LoCoMo-v0", source=str(path))
    assert main(["data", "check", str(path)]) == 1
    assert "record 2" in capsys.readouterr().out


def correction(**changes: Any) -> dict[str, Any]:
    right = {"question": "How many goats did Ada buy first?", "correct_answer": "one", "correct_evidence": ["D2:1"]}
    return {"question_id": "locomo_1_qa0", **right, **changes}


def test_D8_locomo_corrections_change_answers_and_evidence(tmp_path: Path) -> None:
    source = str(write(tmp_path / "locomo.json", [conversation("conv-26"), conversation("conv-30")]))
    corrections = str(write(tmp_path / "corrections.json", [correction()]))
    plain, right = load_split("locomo", source, "train"), load_split("locomo", source, "train", corrections)
    changed = [i for i in range(len(plain)) if plain.record(i) != right.record(i)]
    assert [right.record(i).id for i in changed] == ["conv-30-q0"]
    record = right.record(changed[0])
    assert (record.answers, [piece.title for piece in record.evidence]) == (("one",), ["Session 2"])
    env: Any = gym.make("AtomMem-LoCoMo-v0", source=source, corrections=corrections, store="numpy")
    assert env.unwrapped.config.as_keywords()["corrections"] == corrections
    env.close()


@pytest.mark.parametrize(
    ("entry", "error", "message"),
    [
        (correction(question="Another?"), RecordError, "the correction locomo_1_qa0 is of another question"),
        (correction(question_id="q7"), ConfigError, "entry 0 must have question_id"),
        (correction(correct_evidence="D1:1"), ConfigError, "entry 0 must have question_id"),
        ({}, ConfigError, "entry 0 must have question_id"),
    ],
)
def test_D8_locomo_corrections_that_do_not_fit(
    entry: dict[str, Any], error: type[Exception], message: str, tmp_path: Path
) -> None:
    source = str(write(tmp_path / "locomo.json", [conversation("conv-30")]))
    corrections = str(write(tmp_path / "corrections.json", [entry]))
    with pytest.raises(error, match=message):
        gym.make("AtomMem-LoCoMo-v0", source=source, corrections=corrections)
    (nested := tmp_path / "nested.json").write_text("[" * 100_000, "utf-8")
    for bad in (str(tmp_path / "none.json"), str(nested), 5):
        with pytest.raises(ConfigError, match="corrections="):
            gym.make("AtomMem-LoCoMo-v0", source=source, corrections=bad)


# -- D8: FactConsolidation


def test_D8_a_document_is_a_run_of_ten_numbered_facts() -> None:
    found = factconsolidation.parse(facts())
    documents = found.records[0].documents
    assert [len(document.text.split("\n")) for document in documents] == [10, 10, 3]
    assert documents[1].text.startswith("10. The capital of land 10 is Town 10.\n11. ")
    assert documents[2].title.startswith("Facts 20 to 22")
    assert "Here is a list" not in "".join(document.text for document in documents)
    assert [record.id for record in found.records][:2] == ["factconsolidation_sh_1k_no0", "factconsolidation_sh_1k_no1"]
    assert found.records[0].answers == ("Town 17", "the town 17")
    assert {record.type for record in found.records} == {"single-hop"}
    assert not any(record.evidence or record.gold for record in found.records)


def test_D8_factconsolidation_is_scored_by_subem_on_its_list(tmp_path: Path) -> None:
    env: Any = gym.make(
        "AtomMem-FactConsolidation-v0", source=str(write(tmp_path / "f.json", [facts()])), store="numpy"
    )
    assert env.unwrapped.config.reward == "subem"
    for said, score in (("It is {} I think", 1.0), ("nowhere", 0.0)):
        observation, _ = env.reset(options={"index": 0})
        while not observation["phase"]:
            observation, *_ = env.step("")
        answer = env.unwrapped.item.questions[0].aliases[0]
        _, reward, *_ = env.step(f"<answer>{said.format(answer)}</answer>")
        assert reward == score
    env.close()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"context": "no facts"}, "not a numbered list of facts"),
        ({"answers": [["x"]]}, "6 questions and 1 answers"),
        ({"questions": [], "answers": []}, "must not be empty"),
        ({"answers": [[]] * 6}, "question 0"),
        ({"metadata": {"source": [7]}}, "'source' must be a string"),
        ({"metadata": {"source": "\ud800"}}, "'source' holds half a character"),
        ({"metadata": {"qa_pair_ids": [{}] * 6}}, "question 0: field 'qa_pair_ids' must be a string"),
    ],
)
def test_D8_factconsolidation_malformed(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=message):
        factconsolidation.parse({**facts(), **changes})
    assert main(["data", "check", str(write(tmp_path / "f.json", [{**facts(), **changes}]))]) == 1


# -- D8: LongMemEval


def test_D8_longmemeval_sessions_are_sorted_and_the_question_has_its_date() -> None:
    [record] = longmemeval.parse(history()).records
    assert [document.date for document in record.documents] == [
        "2023-05-05T02:21",
        "2023-05-12T02:21",
        "2023-05-20T02:21",
    ]
    assert record.question == "Whom did I meet on day 12? (asked on 2023-05-30T23:40)"
    assert record.documents[0].speakers == ("user", "assistant")
    assert record.answers == ("1",)
    assert [(piece.title, piece.text) for piece in record.evidence] == [
        ("Session 2", "user: On day 12 I met friend 1-12.")
    ]
    assert not [document for document in record.documents if "answer_" in document.title + document.text]


def test_D8_longmemeval_abstains_where_the_id_says_so() -> None:
    [record] = longmemeval.parse(history(3, abstains=True)).records
    assert (record.answerable, record.answers, record.evidence) == (False, (), ())


def test_D8_longmemeval_evidence_is_the_named_session_where_no_turn_is_marked() -> None:
    value = history()
    for session in value["haystack_sessions"]:
        for turn in session:
            turn.pop("has_answer", None)
    value["answer_session_ids"].append("lost")
    found = longmemeval.parse(value)
    # The third session has the id and is of 12 May, the second by date.
    assert [piece.title for piece in found.records[0].evidence] == ["Session 2"]
    assert found.unresolved == ("q1: lost",)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("haystack_dates", ["2023/05/20 (Sat) 02:21"], "3 haystack_sessions, 1 haystack_dates"),
        ("haystack_dates", [None] * 3, "session 0 has no date"),
        ("haystack_dates", ["2023/02/30 (Sat) 02:21"] * 3, "which does not exist"),
        ("haystack_sessions", [[], [], []], "no session with turns"),
        ("answer", None, "'answer' is missing"),
        ("question_type", 7, "'question_type' must be a string"),
        ("question_type", "\ud800", "'question_type' holds half a character"),
        ("answer_session_ids", [[]], "'answer_session_ids' must be a string"),
        ("haystack_session_ids", [{}] * 3, "'haystack_session_ids' must be a string"),
        ("haystack_sessions", [[{"role": "user", "content": [7]}]] * 3, "session 0: field 'content' must be a string"),
    ],
)
def test_D8_longmemeval_malformed(name: str, value: Any, message: str, tmp_path: Path) -> None:
    spoiled = {**history(), name: value}
    path = write(tmp_path / "l.json", [spoiled])
    with pytest.raises(RecordError, match=message):
        gym.make("AtomMem-LongMemEval-v0", source=str(path))
    assert main(["data", "check", str(path)]) == 1


# -- splits


def test_D3_a_context_in_two_splits_fails_data_check_and_make_warns(made: tuple[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "splits"
    folder.mkdir()
    values = json.loads(made[1].read_text())
    write(folder / "train.json", values)
    write(folder / "test.json", _others(made[0]))
    assert main(["data", "check", str(folder)]) == 0
    gym.make(made[0], source=str(folder), store="numpy").close()
    write(folder / "test.json", [*_others(made[0]), values[0]])
    assert main(["data", "check", str(folder)]) == 1
    with pytest.warns(UserWarning, match="share 1 contexts"):
        gym.make(made[0], source=str(folder), store="numpy").close()


def test_D3_own_records_over_the_same_documents_in_two_splits(tmp_path: Path) -> None:
    def question(name: str, day: int) -> dict[str, Any]:
        days = [{"title": f"{name} {i}", "text": f"{name} {i}: rain."} for i in range(3)]
        days[day]["gold"] = True  # type: ignore[assignment]
        return {"question": f"{name} {day}?", "answer": "rain", "documents": days}

    def lines(path: Path, *asked: tuple[str, int]) -> None:
        path.write_text("".join(json.dumps(question(*one)) + "\n" for one in asked))

    lines(tmp_path / "train.jsonl", ("A", 0), ("A", 1), ("B", 0))
    lines(tmp_path / "test.jsonl", ("B", 1), ("C", 0))
    env_id = CustomTask(name="Own", records=tmp_path, defaults={"num_docs": 4}).register()
    assert not audit(tmp_path).ok
    with pytest.warns(UserWarning, match="share 1 contexts"):
        gym.make(env_id, store="numpy").close()
    lines(tmp_path / "test.jsonl", ("C", 1), ("C", 0))
    assert audit(tmp_path).ok


def test_D3_the_file_of_shared_contexts_cut_in_two(tmp_path: Path, shared_data: Path) -> None:
    case = shared_data.parent / "cases" / "shared_context.jsonl"
    if not case.is_file():
        pytest.skip(f"{case} is not there")
    lines = case.read_text().splitlines(keepends=True)
    (tmp_path / "train.jsonl").write_text("".join(lines[::2]))
    (tmp_path / "dev.jsonl").write_text("".join(lines[1::2]))
    assert main(["data", "check", str(tmp_path)]) == 1
    with pytest.warns(UserWarning, match="share 2 contexts"):
        gym.make(CustomTask(name="Cut", records=tmp_path, defaults={"num_docs": 5}).register(), store="numpy").close()


# -- the real files


@pytest.fixture
def real(shared_data: Path) -> Callable[[str], Path]:
    """A file of the folder of real records; skips where it is not there."""

    def find(name: str) -> Path:
        if not (shared_data / name).is_file():
            pytest.skip(f"{shared_data / name} is not there")
        return shared_data / name

    return find


def test_D8_the_released_conversations_are_read_whole(real: Callable[[str], Path]) -> None:
    path = real("locomo7.json")
    report = audit(path)
    [part] = report.parts
    assert report.ok
    assert (part.dataset, part.records, len(part.contexts), part.unanswerable) == ("locomo", 1347, 7, 310)
    assert len(part.unresolved) == 3
    assert len(part.contradictory) == 3
    split = load_split("locomo", str(path), "train")
    for i in random.Random(0).sample(range(len(split)), 60):
        record = split.record(i)
        for piece in record.evidence:
            [session] = [d for d in record.gold_documents if d.title == piece.title]
            assert holds(piece, session.text)
    corrected = load_split("locomo", str(path), "train", str(real("locomo_corrections.json")))
    changed = [i for i in range(len(split)) if split.record(i) != corrected.record(i)]
    assert len(changed) > 90


def test_D8_the_real_facts_are_read_whole(real: Callable[[str], Path]) -> None:
    path = real("factconsolidation4.json")
    [part] = audit(path).parts
    assert (part.dataset, part.records, sorted(part.contexts.values())) == (
        "factconsolidation",
        400,
        [46, 231, 231, 458],
    )
    env: Any = gym.make("AtomMem-FactConsolidation-v0", source=str(path), store="numpy", questions_per_episode=25)
    assert env.unwrapped.num_items == 16
    assert play_episode(env, make_agent("oracle"), 0).em > 0.5
    env.close()


def test_E14_a_plan_leaves_document_counts_out_for_contexts() -> None:
    plan = Plan.from_values({"envs": ["LoCoMo", "Synthetic"], "agents": ["keep_all"], "docs": [20, 40]})
    assert [(cell.env, cell.docs) for cell in plan.cells] == [("LoCoMo", 0), ("Synthetic", 20), ("Synthetic", 40)]


def test_D8_contexts_are_copied_and_moved_as_any_file(made: tuple[str, Path], tmp_path: Path) -> None:
    values = json.loads(made[1].read_text())
    lines = tmp_path / "lines.jsonl"
    lines.write_text("".join(json.dumps(value) + "\n" for value in copy.deepcopy(values)))
    shutil.copy(made[1], tmp_path / "again.json")
    chunks = []
    for path in (made[1], tmp_path / "again.json", lines):
        env = gym.make(made[0], source=str(path), store="numpy")
        chunks.append(env.reset(options={"index": 0})[0]["chunk"])
        env.close()
    assert len(set(chunks)) == 1


def test_E14_a_dev_part_shares_no_context_with_train(tmp_path: Path) -> None:
    from atommem_gym.traces.training.splits import components, ties

    source = write(tmp_path / "f.json", [facts("one", 23), {**facts("two", 31), "context": facts("x", 31)["context"]}])
    out = tmp_path / "run"
    asked = ["--set", "store=numpy", "chunk_tokens=60", "--agent", "keep_all", "--episodes", "12", "-o", str(out)]
    assert main(["eval", "FactConsolidation", "--source", f"FactConsolidation={source}", *asked]) == 0
    traces = list(read_traces(out / "traces.jsonl"))
    numbers = components([ties(trace) for trace in traces])
    by_context: dict[str, set[int]] = {}
    for trace, number in zip(traces, numbers, strict=True):
        by_context.setdefault(trace.questions[0].id.split("_no")[0], set()).add(number)
    assert len(traces) == 12
    assert all(len(found) == 1 for found in by_context.values()), by_context
