"""Questions without an answer (SPEC R5), contained answers (R6), and the empty answer (A1)."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.actions import Answer, Create, Invalid, format_action, parse
from atommem_gym.agents import AGENTS, make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.cli import main
from atommem_gym.commands.contest import results_table
from atommem_gym.config import EnvConfig
from atommem_gym.custom import CustomTask
from atommem_gym.envs import AtomMemEnv, AtomMemPool
from atommem_gym.errors import ConfigError, RecordError
from atommem_gym.evaluation.plan import Cell
from atommem_gym.evaluation.results import EpisodeResult, QuestionResult
from atommem_gym.evaluation.summary import summarize
from atommem_gym.prompts import PromptTemplate
from atommem_gym.records.corpus import from_records
from atommem_gym.records.formats.own_records import parse as own
from atommem_gym.records.items import RecordItems
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.registration import TASKS
from atommem_gym.scoring import ScoreRequest, is_abstention, load_scorer, score_all, sub_exact_match
from atommem_gym.testing import budget, check_memory_env
from atommem_gym.traces import TraceWriter, read_traces
from atommem_gym.traces.rescore import rescore

LISTED = (
    *("unknown", "not mentioned", "no answer", "no information", "no information available", "not answerable"),
    *("unanswerable", "i dont know", "dont know", "none", "na", ""),
)
"""As SPEC R5 has them."""
SMALL = {"num_docs": 3, "chunk_tokens": 200, "store": "numpy"}
BUILT_IN = ("em", "f1", "subem", "released")


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers is unknown to the next."""
    known, ids = dict(TASKS), dict(gym.registry)
    yield
    for registry, before in ((TASKS, known), (gym.registry, ids)):
        registry.clear()
        registry.update(before)


def record(number: int, answerable: bool = True) -> dict[str, Any]:
    where = {"title": f"Place {number}", "text": f"The inn of place {number} is called Inn {number}."}
    other = {"title": f"Field {number}", "text": f"Nothing grows in field {number}."}
    if answerable:
        question = {"question": f"What is the inn of place {number} called?", "answer": f"Inn {number}"}
        return {**question, "documents": [{**where, "gold": True}, other]}
    question = {"question": f"Who owns field {number}?", "answerable": False, "trap": "Bob"}
    return {**question, "documents": [where, other]}


def task(**changes: Any) -> str:
    records = [record(number, answerable=number % 2 == 0) for number in range(6)]
    settings = {"name": "Inns", "records": records, "defaults": SMALL, "abstention": True, **changes}
    return CustomTask(**settings).register()


def unanswerable() -> Record:
    documents = (Document("Place", "An inn."), Document("Field", "Grass."), Document("Town", "Houses."))
    return Record("u", "Who owns the field?", "", documents, (), (), answerable=False)


def played(env: gym.Env[Any, Any], *answers: str) -> dict[str, Any]:
    """The metrics of an episode in which these answers are given, one a step."""
    observation, _ = env.reset(options={"index": 0})
    for _ in range(int(observation["progress"][1])):
        observation, *_ = env.step("")
    for answer in answers:
        _, reward, terminated, _, info = env.step(answer)
    assert terminated
    return {**info["episode_metrics"], "reward": reward}


# -- R5: the list


@pytest.mark.parametrize("text", LISTED)
def test_R5_each_listed_text_abstains_whatever_its_case_and_marks(text: str) -> None:
    for spelled in (text, text.upper(), f"  {text.title()}. ", f"“{text}”".strip("“”") + "!", f"the {text}"):
        assert is_abstention(spelled), spelled


@pytest.mark.parametrize(
    "text", ["I don't know.", "N/A", "n.a.", "Don't know", "None.", "Not mentioned!", "\n", "The", "?"]
)
def test_R5_common_spellings_abstain(text: str) -> None:
    assert is_abstention(text)


@pytest.mark.parametrize(
    "text",
    [
        *("no", "unknown soldier", "it is unknown", "none of them", "not", "idk", "no information about that", "nan"),
        *("I do not know", "not mentioned in the text", "0", "unanswered"),
    ],
)
def test_R5_nothing_else_abstains(text: str) -> None:
    assert not is_abstention(text)


# -- R5, R6: scorers


@pytest.mark.parametrize("name", BUILT_IN)
def test_R5_every_scorer_takes_an_abstention_alone_for_a_question_without_answer(name: str) -> None:
    scorer = load_scorer(name)
    asked = [ScoreRequest("q", text, (), answerable=False) for text in LISTED]
    assert score_all(scorer, asked) == [1.0] * len(LISTED)
    wrong = [ScoreRequest("q", text, (), answerable=False) for text in ("Bob", "it is unknown", "no", "unknown Bob")]
    assert score_all(scorer, wrong) == [0.0] * 4


@pytest.mark.parametrize("name", BUILT_IN)
def test_R5_abstaining_on_an_answerable_question_is_wrong(name: str) -> None:
    asked = [ScoreRequest("q", text, ("no", "unknown soldier", "information"), True) for text in LISTED]
    assert score_all(load_scorer(name), asked) == [0.0] * len(LISTED)


@pytest.mark.parametrize("given", [[], [0.0, 1.0], [1.5], [-0.1], [float("nan")]])
def test_R2_what_a_scorer_returns_is_one_number_in_0_to_1_for_each_answer(given: list[float]) -> None:
    class Scorer:
        name = "odd"

        def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
            return given

    with pytest.raises(ValueError, match=r"the scorer 'odd' returned .* for 1 answer; it must return one number"):
        score_all(Scorer(), [ScoreRequest("q", "Bob", ("Bob",))])


def test_R5_a_gold_answer_that_reads_like_an_abstention_is_still_the_answer() -> None:
    assert score_all(
        load_scorer("em"), [ScoreRequest("q", "None", ("none",), True), ScoreRequest("q", "+", ("+",), True)]
    ) == [
        1,
        1,
    ]


def test_R5_own_scorers_are_not_asked_about_questions_without_answer() -> None:
    asked: list[str] = []

    def judge(prediction: str, answers: tuple[str, ...], question: str) -> float:
        asked.append(prediction)
        return 0.25

    requests = [
        ScoreRequest("q", "Bob", (), False),
        ScoreRequest("q", "Ada", ("Bob",), True),
        ScoreRequest("q", "", ("Bob",), True),
    ]
    assert score_all(load_scorer(judge), requests) == [0.0, 0.25, 0.0]
    assert asked == ["Ada"]


words = st.lists(st.sampled_from(["a", "The", "Bob", "bob", "Ann", "an", "2022", "no", "x.y", "東京"]), max_size=5).map(
    " ".join
)


@given(words, st.lists(words, min_size=1, max_size=3))
@budget(200)
def test_R6_subem_is_containment_as_whole_normalised_words(prediction: str, answers: list[str]) -> None:
    from atommem_gym.scoring import exact_match, normalize

    said = normalize(prediction).split()
    expected = 0.0
    for answer in answers:
        wanted = normalize(answer).split()
        places = range(len(said) - len(wanted) + 1)
        if wanted and any(said[i : i + len(wanted)] == wanted for i in places):
            expected = 1.0
        if not wanted and exact_match(prediction, [answer]):
            expected = 1.0
    assert sub_exact_match(prediction, answers) == expected
    assert sub_exact_match(prediction, answers) >= exact_match(prediction, answers)


def test_R6_words_are_whole() -> None:
    assert sub_exact_match("It was in Belgium, I think", ["the Belgium"]) == 1.0
    assert sub_exact_match("Belgiums", ["Belgium"]) == 0.0
    assert sub_exact_match("in 2022", ["2022"]) == 1.0
    assert sub_exact_match("in 20221", ["2022"]) == 0.0


def test_R6_gold_answers_that_are_numbers_are_compared_as_their_text() -> None:
    assert own({**record(0), "answer": 2022}).answers == ("2022",)
    assert own({**record(0), "answer": 2.5}).answer == "2.5"
    with pytest.raises(RecordError, match="'answer' must be a string"):
        own({**record(0), "answer": True})


# -- A1: the empty answer


@pytest.mark.parametrize("text", ["<answer/>", "<answer></answer>", "<answer> \n</answer>", "<ANSWER />"])
def test_finding_0_4_an_answer_without_text_is_an_empty_answer(text: str) -> None:
    assert parse(text) == [Answer("")]


@pytest.mark.parametrize("arguments", ["{}", '{"text": ""}', '{"text": "  "}', '{"text": null}'])
def test_A1_so_it_is_in_tools(arguments: str) -> None:
    call = f'<tool_call>{{"name": "answer", "arguments": {arguments}}}</tool_call>'
    assert parse(call, "tools") == [Answer("")]
    assert parse('<tool_call>{"name": "answer"}</tool_call>', "tools") == [Answer("")]


def test_A1_other_operations_still_need_a_text() -> None:
    found = parse("<create/><read></read><scratchpad> </scratchpad>")
    assert [(op.kind, op.reason) for op in found if isinstance(op, Invalid)] == [
        ("create", "empty"),
        ("read", "empty"),
        ("scratchpad", "empty"),
    ]
    with pytest.raises(ValueError, match="non-empty"):
        format_action([Create("")])


@pytest.mark.parametrize("dialect", ["crud", "tools"])
def test_A1_an_empty_answer_can_be_written(dialect: str) -> None:
    assert parse(format_action([Answer("")], dialect), dialect) == [Answer("")]


def test_A1_not_so_in_released() -> None:
    with pytest.raises(ValueError, match="no empty answer"):
        format_action([Answer("")], "released")
    split = from_records("mine", "train", [unanswerable()])
    items = RecordItems(split, num_docs=3, questions_per_episode=1, order="given")
    env = AtomMemEnv(items=items, dialect="released", store="numpy")
    for said in ("<final_answer></final_answer>", "<final_answer>I think Bob</final_answer>"):
        assert played(env, said)["reward"] == 0.0
    assert played(env, r"<final_answer>\boxed{unknown}</final_answer>")["reward"] == 1.0
    env.close()


def test_A1_an_empty_answer_closes_the_question_and_abstains() -> None:
    env_id = task(defaults={**SMALL, "questions_per_episode": 2})
    env = gym.make(env_id)
    for index in range(env.unwrapped.num_items):  # type: ignore[attr-defined]
        env.reset(options={"index": index})
        questions = env.unwrapped.item.questions  # type: ignore[attr-defined]
        env.step("")
        env.step("<answer/>")
        _, reward, terminated, _, info = env.step("<answer></answer>")
        assert terminated
        assert reward == sum(not question.answerable for question in questions) / 2
        answers = info["episode_metrics"]["answers"]
        assert [(one["closed"], one["answer"]) for one in answers] == [("answered", "")] * 2
        assert [one.get("answerable", True) for one in answers] == [question.answerable for question in questions]
    env.close()


# -- what is reported


def test_R5_metrics_are_apart() -> None:
    split = from_records(
        "mine", "train", [own(record(0)), own(record(1, False)), own(record(2)), own(record(3, False))]
    )
    items = RecordItems(split, num_docs=8, questions_per_episode=4, order="given")
    env = AtomMemEnv(items=items, store="numpy")
    env.reset(options={"index": 0})
    said = []
    abstain_on = {True: iter([True, False]), False: iter([True, False])}
    for question in env.item.questions:
        right = question.answer if question.answerable else "unknown"
        abstains = next(abstain_on[question.answerable])
        said.append(f"<answer>{'unknown' if abstains else right if question.answerable else 'Bob'}</answer>")
    metrics = played(env, *said)
    assert metrics["em_answerable"] == 0.5
    assert metrics["abstention_precision"] == 0.5
    assert metrics["abstention_recall"] == 0.5
    assert metrics["em"] == metrics["f1"] == metrics["reward"] == 0.5
    env.close()


def test_R5_what_is_not_counted_is_absent() -> None:
    items = RecordItems(
        from_records("mine", "train", [unanswerable()]), num_docs=3, questions_per_episode=1, order="given"
    )
    env = AtomMemEnv(items=items, store="numpy")
    metrics = played(env, "<answer>Bob</answer>")
    expected = {"em_answerable": None, "abstention_precision": None, "abstention_recall": 0.0}
    assert {name: metrics[name] for name in expected} == expected
    assert metrics["evidence_recall"] is metrics["evidence_recall_exact"] is None
    env.close()


def test_R5_tasks_whose_questions_all_have_answers_report_what_they_did() -> None:
    with gym.make("AtomMem-Synthetic-v0", num_docs=8, store="numpy") as env:
        metrics = played(env, "<answer>x</answer>")
    assert not [name for name in metrics if "abst" in name or "answerable" in name]
    assert "answerable" not in metrics["answers"][0]


@pytest.mark.parametrize("dialect", ["crud", "tools", "released"])
def test_R5_prompts_say_so_where_questions_may_have_no_answer(dialect: str) -> None:
    plain = PromptTemplate(EnvConfig.from_keywords({"dialect": dialect})).system
    told = PromptTemplate(replace(EnvConfig.from_keywords({"dialect": dialect}), abstention=True)).system
    assert '"unknown"' in told
    assert ("empty answer" in told) == (dialect != "released")
    added = [line for line in told.split("\n") if line not in plain.split("\n")]
    assert len(added) == 1
    assert told.replace(added[0], "").replace("\n", "") == plain.replace("\n", "")
    env = gym.make(task(), dialect=dialect)
    assert env.unwrapped.config.abstention  # type: ignore[attr-defined]
    env.close()


def test_R5_abstention_is_no_keyword_argument() -> None:
    with pytest.raises(ConfigError, match="unknown keyword argument 'abstention'"):
        gym.make("AtomMem-Synthetic-v0", abstention=True)


def test_R5_checks_vector_and_pool_know_questions_without_answer() -> None:
    env_id = task()
    env = gym.make(env_id)
    check_memory_env(env)
    env.close()
    envs = gym.make_vec(env_id, num_envs=2)
    envs.reset(options={"index": [0, 1]})
    envs.step(["", ""])
    _, rewards, *_ = envs.step(["<answer/>", "<answer/>"])
    assert [float(reward) for reward in rewards] == [
        float(not episode.item.questions[0].answerable) for episode in envs.unwrapped.episodes
    ]
    envs.close()

    async def play() -> list[float]:
        found = []
        async with AtomMemPool(env_id, capacity=2) as pool, pool.env() as env:
            for index in range(6):
                await env.areset(options={"index": index})
                await env.astep("")
                found.append((await env.astep("<answer/>"))[1])
        return found

    assert sum(asyncio.run(play())) == 3


def test_R5_traces_are_rescored_and_checked_as_they_were_scored(tmp_path: Path) -> None:
    env_id = task()
    path = tmp_path / "traces.jsonl"
    from atommem_gym.envs.wrappers import RecordTraces

    env = RecordTraces(gym.make(env_id, reward="f1"), path, agent="nobody")
    for index in range(6):
        env.reset(options={"index": index})
        env.step("")
        env.step("<answer>no information</answer>")
    env.close()
    traces = list(read_traces(path))
    assert [trace.reward for trace in traces].count(1.0) == 3
    again = list(rescore(traces, load_scorer("subem")))
    assert [trace.rescores[0].reward for trace in again] == [trace.reward for trace in traces]
    assert all(trace.metrics["abstention_recall"] in (1.0, None) for trace in traces)
    with TraceWriter(tmp_path / "again.jsonl") as writer:
        for trace in again:
            writer.write(trace)
    assert list(read_traces(tmp_path / "again.jsonl")) == again
    assert main(["view", str(path), "-o", str(tmp_path / "page.html")]) == 0


def test_R5_scripted_agents_play_and_the_table_of_run_has_its_columns() -> None:
    env = gym.make(task())
    records = [play_episode(env, make_agent(name), index) for name in AGENTS for index in range(6)]
    env.close()
    table = results_table(records)
    headers = [str(column.header) for column in table.columns]
    assert headers[3:6] == ["answerable EM", "abstention precision", "abstention recall"]
    of = {agent: [record for record in records if record.agent == agent] for agent in AGENTS}
    assert [record.em for record in of["oracle"]] == [1.0] * 6
    with gym.make("AtomMem-Synthetic-v0", num_docs=8, store="numpy") as plain:
        others = results_table([play_episode(plain, make_agent("keep_all"), 0)])
    assert not [column for column in others.columns if "abstention" in str(column.header)]


def test_R5_rows_and_summaries_of_eval_have_them_apart() -> None:
    def row(index: int, *questions: QuestionResult) -> EpisodeResult:
        none = ("final_entries", "calls", "cut_short", "only_reasoning", "cut_prompts", "retries", "peak_entries")
        numbers: dict[str, Any] = dict.fromkeys((*none, "seed", "shuffle_seed", "reward", "em", "f1", "seconds"), 0)
        absent: dict[str, Any] = dict.fromkeys(
            ("evidence_recall", "evidence_recall_exact", "prompt_tokens", "completion_tokens")
        )
        numbers |= {"agent_ms": (1.0,), "env_ms": (1.0,), "operations": {}, "rejected": {}, "steps": 2}
        return EpisodeResult(
            env="E", docs=3, agent="a", index=index, item="i", questions=questions, truncated=False, **numbers, **absent
        )

    def asked(em: float, answerable: bool, abstained: bool) -> QuestionResult:
        return QuestionResult("q", "", em, em, "answered", None, answerable, abstained)

    rows = [
        row(0, asked(1.0, True, False), asked(0.0, True, True)),
        row(1, asked(1.0, False, True), asked(0.0, False, False)),
        row(2, asked(1.0, False, True)),
    ]
    cell = summarize(Cell("E", 3, "a"), rows, planned=3)
    means = {name: interval.mean for name, interval in cell.abstention.items()}
    assert means == pytest.approx({"em_answerable": 0.5, "abstention_precision": 2 / 3, "abstention_recall": 2 / 3})
    assert cell.to_values()["abstention_recall"] == pytest.approx(2 / 3)
    assert cell.to_values()["evidence_recall"] is None
    assert [EpisodeResult.from_values(json.loads(json.dumps(one.to_values()))) for one in rows] == rows
    plain = row(3, asked(1.0, True, False))
    assert "answerable" not in plain.to_values()["questions"][0]
    assert summarize(Cell("E", 3, "a"), [plain], planned=1).abstention == {}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"answerable": False}, "there is an answer"),
        ({"answerable": "no"}, "'answerable' must be true or false"),
        ({"trap": "Bob"}, "'trap' belongs to a question"),
    ],
)
def test_R5_own_records_that_contradict_themselves(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        own({**record(0), **changes})


def test_D8_a_trap_that_is_itself_an_abstention_is_none() -> None:
    assert own({**record(1, False), "trap": "Not mentioned"}).trap == ""
    assert own(record(1, False)).trap == "Bob"


def test_R5_records_without_answer_survive_the_tables() -> None:
    found = from_records("mine", "train", [own(record(1, False))]).record(0)
    assert (found.answerable, found.answers, found.trap, found.evidence) == (False, (), "Bob", ())
    assert Evidence("a", "b", "") not in found.evidence


def test_A1_in_the_preset_released_an_empty_answer_is_rejected_as_it_was() -> None:
    env = gym.make("AtomMem-Synthetic-v0", preset="released", dialect="crud", num_docs=40, store="numpy")
    env.reset(options={"index": 0})
    *_, terminated, _, info = env.step("<create>a</create><answer/>")
    assert not terminated
    assert [(one["operation"], one["reason"]) for one in info["rejected"]] == [("answer", "empty")]
    env.close()


def test_R5_tasks_whose_questions_all_have_answers_are_scored_as_before() -> None:
    asked = [ScoreRequest("q", "unknown", ("unknown soldier",)), ScoreRequest("q", "no information", ("no",))]
    assert score_all(load_scorer("f1"), asked[:1]) == [pytest.approx(2 / 3)]
    assert score_all(load_scorer("subem"), asked[1:]) == [1.0]
