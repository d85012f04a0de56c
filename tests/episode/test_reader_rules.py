"""Who answers an empty answer, from what, and what then counts: the frozen reader's rules (SPEC E13, A1, R5)."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from support.game import DOCUMENTS, QUESTIONS, Game
from support.plugins.readers import Echo, echo, failing

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, ReaderError
from atommem_gym.readers.loading import load_reader
from atommem_gym.readers.protocol import ReadRequest
from atommem_gym.records.record import Item
from atommem_gym.step import StepResult

TO_BERN = "<create>Ada was born in Bern.</create><create>Bern lies on the Aare.</create>"


def asking(reader: Any, **keywords: Any) -> Game:
    """A game in its answering phase, with two entries and a scratchpad."""
    game = Game(reader=reader, **keywords)
    game.read_through(f"{TO_BERN}<scratchpad>notes</scratchpad>")
    return game


def with_questions(game: Game, *questions: Any) -> None:
    """Begin anew over these questions, none of which may have an answer."""
    game.running = game.backend.new_episode(Item("game/1", 1, 0, questions, DOCUMENTS))
    game.episode = game.running.episode
    game.result = game.backend.run([(game.running, game.episode.open())])[0]


def answers(result: StepResult) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = result.info["episode_metrics"]["answers"]
    return found


def test_E13_the_policy_answers_by_default_and_an_empty_answer_is_its_own() -> None:
    game = asking("policy")
    result = game.step("<answer/>")
    assert answers(result)[0]["answer"] == ""
    assert "reader" not in result.info["episode_metrics"]
    assert "reader" not in answers(result)[0]


def test_E13_an_empty_answer_is_the_readers_and_any_other_one_the_policys() -> None:
    for action, by_reader in (("<answer/>", True), ("<answer> </answer>", True), ("<answer>Aare</answer>", False)):
        game = asking(echo)
        [answer] = answers(game.step(action))
        assert answer.get("reader", False) == by_reader
        assert (answer["answer"] == "Aare") != by_reader


def test_E13_the_reader_sees_the_observation_that_was_answered_to_and_not_what_the_action_changes() -> None:
    game = asking(echo)
    seen = game.step("<read>Where was Ada born?</read>").observation
    action = '<delete id="1"/><update id="2">changed</update><create>new</create><scratchpad>later</scratchpad>'
    [answer] = answers(game.step(f"{action}<read>new</read><answer/>"))
    shown = [[m["id"], m["text"], float(m["score"])] for m in seen["memories"]]
    assert len(shown) == 2
    assert json.loads(answer["answer"]) == [QUESTIONS[0].question, shown, "notes"]
    assert game.entries == {2: "changed", 3: "new"}


def test_E13_a_reader_sees_no_scratchpad_where_there_is_none() -> None:
    game = Game(reader=echo, scratchpad=False)
    game.read_through(TO_BERN)
    [answer] = answers(game.step("<scratchpad>notes</scratchpad><answer/>"))
    assert json.loads(answer["answer"]) == [QUESTIONS[0].question, [], ""]


def test_E13_each_question_is_read_by_itself_also_early() -> None:
    game = Game(questions=2, chunks=3, reader=echo, early_answer=True)
    game.step("<answer/>")
    assert game.episode.state.reader.answered == [0]
    assert [json.loads(one.answer)[0] for one in game.episode.readings] == [QUESTIONS[0].question]
    game.step("")
    assert game.episode.readings == ()
    assert answers(game.step("<answer/><answer/>"))[1]["answer"] == echo(QUESTIONS[1].question, [], "")


def test_E13_what_closes_unanswered_is_not_read() -> None:
    reader = Echo()
    game = Game(reader=reader, max_reads_per_question=0, max_steps=3)
    game.read_through()
    [answer] = answers(game.step("<read>x</read><answer/>"))
    assert (answer["closed"], reader.batches) == ("read_limit", [])
    cut_off = Game(reader=reader, max_steps=1)
    [answer] = answers(cut_off.step("<answer/>"))
    assert (answer["closed"], reader.batches) == ("unanswered", []), "too early an answer is rejected"


def test_E13_a_failed_reader_changes_nothing_and_the_step_may_be_repeated() -> None:
    game, calm = asking(failing(1, 2)), asking(Echo())
    action = '<create>new</create><delete id="1"/><answer/>'
    before = repr((game.seen, game.episode.state))
    for _ in range(2):
        with pytest.raises(ReaderError, match="down"):
            game.step(action)
        assert repr((game.seen, game.episode.state)) == before
    assert repr(game.step(action)) == repr(calm.step(action))


def test_E13_after_a_failed_reader_any_other_action_may_follow() -> None:
    game, calm = asking(failing(1)), asking(Echo())
    with pytest.raises(ReaderError):
        game.step("<create>ghost</create><answer/>")
    for action in ("<read>ghost</read>", "<create>new</create>", "<answer/>"):
        assert repr(game.step(action)) == repr(calm.step(action))


@pytest.mark.parametrize("said", [None, 3, ["Aare"]])
def test_E13_what_is_no_text_is_no_answer(said: Any) -> None:
    game = asking(lambda question, memories, scratchpad: said)
    with pytest.raises(ReaderError, match="an answer is a text"):
        game.step("<answer/>")


def test_E13_an_error_of_a_function_says_whose_it_is() -> None:
    def broken(question: str, memories: list[Any], scratchpad: str) -> str:
        return scratchpad[99]

    game = asking(broken)
    with pytest.raises(ReaderError, match="broken raised IndexError"):
        game.step("<answer/>")


def test_E13_a_function_may_change_what_it_is_given() -> None:
    def greedy(question: str, memories: list[dict[str, Any]], scratchpad: str) -> str:
        memories[0]["text"] = "gone"
        memories.clear()
        return "Aare"

    game = asking(greedy)
    game.step("<read>Bern</read>")
    assert game.step("<answer/>").reward == 1.0
    assert game.entries[2] == "Bern lies on the Aare."


def test_E13_costs_are_counted_apart_and_wall_time_is_none_of_them() -> None:
    metrics = asking(echo).step("<answer/>").info["episode_metrics"]
    assert metrics["reader"] == {
        "questions": 1,
        "calls": 1,
        "prompt_tokens": None,
        "completion_tokens": None,
        "cut_short": 0,
    }
    assert asking("oracle").step("<answer/>").info["episode_metrics"]["reader"]["calls"] == 0


# -- the oracle


@pytest.mark.parametrize(
    ("query", "answer"), [("On which river lies Bern, in which Ada was born?", "Aare"), ("", "unknown")]
)
def test_E13_the_oracle_answers_if_the_evidence_is_in_sight(query: str, answer: str) -> None:
    game = asking("oracle")
    if query:
        game.step(f"<read>{query}</read>")
    assert answers(game.step("<answer/>"))[0]["answer"] == answer


def test_R5_a_yes_or_no_needs_its_evidence_from_the_oracle() -> None:
    game = Game(questions=3, reader="oracle")
    with_questions(game, QUESTIONS[2])
    game.read_through("<scratchpad>no. Ada was born in Bern.</scratchpad>")
    assert game.step("<answer/>").reward == 0.0
    with_questions(game, QUESTIONS[2])
    game.read_through("<scratchpad>Ada was born in Bern. Zoe was born in Graz.</scratchpad>")
    assert game.step("<answer/>").reward == 1.0
    with_questions(game, replace(QUESTIONS[2], evidence=()))
    game.read_through("<scratchpad>no, no, no</scratchpad>")
    assert game.step("<answer/>").reward == 0.0, "without evidence a yes or no is never known"


UNANSWERABLE = replace(QUESTIONS[0], id="q0", answer="", aliases=(), evidence=(), gold=(), answerable=False)


def test_R5_the_oracle_leaves_questions_without_an_answer_out_of_em_f1_and_reward() -> None:
    for reader, em in (("oracle", 0.0), (lambda question, memories, scratchpad: "unknown", 0.5)):
        game = Game(reader=reader)
        with_questions(game, UNANSWERABLE, QUESTIONS[1])
        game.read_through()
        game.step("<answer/>")
        result = game.step("<answer/>")
        metrics = result.info["episode_metrics"]
        assert (metrics["em"], metrics["f1"], result.reward) == (em, em, em)
        assert [one["em"] for one in metrics["answers"]] == [1.0, 0.0]


def test_R5_where_no_question_has_an_answer_the_oracle_measures_nothing() -> None:
    game = Game(reader="oracle")
    with_questions(game, UNANSWERABLE)
    game.read_through()
    result = game.step("<answer/>")
    assert (result.info["episode_metrics"]["em"], result.reward) == (None, 0.0)


# -- what may be named


@pytest.mark.parametrize("released", [{"preset": "released"}, {"dialect": "released"}])
def test_A1_released_has_no_empty_answer_for_a_reader_to_answer(released: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=r"contradicts (preset|dialect)='released'"):
        EnvConfig.from_keywords({**released, "reader": "oracle"})


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"reader": "orcale"}, "did you mean 'oracle'"),
        ({"reader": 3}, "reader=3 must be"),
        ({"reader": "mine:"}, "package.module:name"),
        ({"reader": None}, "reader=None must be"),
        ({"reader_options": {"model": "m"}}, "contradicts reader='policy'"),
        ({"reader": "oracle", "reader_options": {"model": "m"}}, "contradicts reader='oracle'"),
        ({"reader": "http://h/v1", "reader_options": {"modle": "m"}}, "did you mean 'model'"),
        ({"reader": "http://h/v1", "reader_options": ["m"]}, "must be a dictionary"),
        ({"reader": "http://h/v1", "reader_options": {"model": ""}}, "model=''"),
        ({"reader": "http://h/v1", "reader_options": {"max_tokens": True}}, "max_tokens=True"),
        ({"reader": "http://h/v1", "reader_options": {"timeout": 0}}, "above 0"),
        ({"reader": "http://h/v1", "reader_options": {"temperature": float("nan")}}, "temperature=nan"),
        ({"reader": "http://h/v1", "reader_options": {"extra_body": 3}}, "extra_body=3"),
    ],
)
def test_E13_a_reader_that_makes_no_sense_is_refused_when_the_environment_is_made(
    keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        EnvConfig.from_keywords(keywords)


def test_E13_a_key_in_place_of_its_variable_is_not_shown() -> None:
    with pytest.raises(ConfigError, match="never the key itself") as raised:
        EnvConfig.from_keywords({"reader": "http://h/v1", "reader_options": {"api_key_env": "sk-geheim-1"}})
    assert "geheim" not in str(raised.value)


def test_E13_a_function_by_name_is_the_same_as_the_function() -> None:
    request = ReadRequest(QUESTIONS[0], ((1, "a", 0.5),), "notes")
    found = [load_reader(spec) for spec in ("support.plugins.readers:echo", echo, "support.plugins.readers:batched")]
    said = [reader.read([request, request]) for reader in found if reader is not None]
    assert len({one.answer for pair in said for one in pair}) == 1


def test_E13_a_batch_that_does_not_answer_each_question_is_refused() -> None:
    def lazy(question: str, memories: list[Any], scratchpad: str) -> str:
        return ""

    lazy.batch = lambda questions, memories, scratchpads: ["one"]  # type: ignore[attr-defined]
    reader = load_reader(lazy)
    assert reader is not None
    with pytest.raises(ReaderError, match="one text for each"):
        reader.read([ReadRequest(QUESTIONS[0]), ReadRequest(QUESTIONS[1])])
