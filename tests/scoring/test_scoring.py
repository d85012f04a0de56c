"""Scoring (SPEC R1, R2): what each scorer gives, and what it must not give."""

from __future__ import annotations

import math
import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.messages import says

from atommem_gym.errors import ConfigError
from atommem_gym.scoring import Scorer, ScoreRequest, exact_match, f1, load_scorer, normalize, sub_exact_match
from atommem_gym.scoring.boxed_match import boxed, normalize_released, released_match

texts = st.text(max_size=40) | st.text(st.sampled_from("atheyn o.\\{}boxed\n"), max_size=40)


def scores(spec: Any, *requests: tuple[str, str, tuple[str, ...]]) -> list[float]:
    return load_scorer(spec).score([ScoreRequest(*request) for request in requests])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The Beatles", "beatles"),
        ("  an   apple\n a day ", "apple day"),
        ("U.S.", "us"),
        ("rock-and-roll", "rockandroll"),
        ("theatre another bath", "theatre another bath"),
        ("“curly” – dash", "“curly” – dash"),
        ("The", ""),
        ("A.", ""),
        ("!?", ""),
        ("1,000", "1000"),
        ("ÉCOLE", "école"),
    ],
)
def test_R2_normalisation_is_that_of_squad(text: str, expected: str) -> None:
    assert normalize(text) == expected


@given(texts)
def test_R2_normalisation_leaves_single_spaces_and_no_case(text: str) -> None:
    normal = normalize(text)
    assert normal == " ".join(normal.split()) == normal.strip()
    assert exact_match(text, [text]) == float(bool(text.strip()))


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("beatles", ["The Beatles"], 1.0),
        ("yes.", ["yes"], 1.0),
        ("US", ["U.S."], 1.0),
        ("NewYork", ["new york"], 0.0),
        ("the fab four", ["Beatles", "Fab Four"], 1.0),
        ("Beatles and Stones", ["Beatles"], 0.0),
        ("", ["Beatles"], 0.0),
        ("the", ["Beatles"], 0.0),
    ],
)
def test_R2_exact_match(prediction: str, answers: list[str], expected: float) -> None:
    assert exact_match(prediction, answers) == expected


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("The", "The", 1.0),
        (" the ", "The", 1.0),
        ("a", "The", 0.0),
        ("", "The", 0.0),
        ("...", "The", 0.0),
        ("A", "A", 1.0),
        ("+", "+", 1.0),
        ("-", "+", 0.0),
        ("", "", 0.0),
        (" ", " ", 0.0),
    ],
)
def test_R2_an_answer_that_normalises_to_nothing_is_compared_raw(prediction: str, answer: str, expected: float) -> None:
    assert exact_match(prediction, [answer]) == expected
    assert f1(prediction, [answer]) == expected


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("yes it is", ["yes"], 0.0),
        ("Yes.", ["yes"], 1.0),
        ("no", ["no way out"], 0.0),
        ("noanswer", ["an answer"], 0.0),
        ("no", ["yes"], 0.0),
        ("band Beatles", ["Beatles"], 2 / 3),
        ("Paul McCartney", ["Paul Simon", "Sir Paul McCartney"], 0.8),
        ("new new york", ["new york"], 0.8),
        ("nothing shared", ["Beatles"], 0.0),
        ("the", ["Beatles"], 0.0),
    ],
)
def test_R2_f1(prediction: str, answers: list[str], expected: float) -> None:
    assert f1(prediction, answers) == pytest.approx(expected)


@given(texts, st.lists(texts, min_size=1, max_size=3))
def test_R1_scores_are_in_the_unit_interval_and_f1_is_at_least_em(prediction: str, answers: list[str]) -> None:
    assert 0 <= exact_match(prediction, answers) <= f1(prediction, answers) <= 1
    assert released_match(prediction, answers) in (0.0, 1.0)


@pytest.mark.parametrize("score", [exact_match, f1, released_match])
def test_a_question_without_answers_is_an_error(score: Any) -> None:
    with pytest.raises(ValueError, match="answers is empty"):
        score("x", [])


def test_one_string_is_no_sequence_of_answers() -> None:
    with pytest.raises(ValueError, match=r"'yes' is one string.*\('yes',\)"):
        exact_match("y", "yes")


# The exploits of the released reward. Each request is scored against its own question, and its score is said here.

THREE = [("Is it?", ("yes",)), ("Who was he?", ("Barack Obama",)), ("When?", ("1990",))]
ALL = ["em", "f1", "released"]


@pytest.mark.parametrize("spec", ALL)
def test_D13_the_same_answer_to_every_question_is_worth_its_own_question_only(spec: str) -> None:
    given_scores = scores(spec, *[(question, "yes", answers) for question, answers in THREE])
    assert given_scores == [1.0, 0.0, 0.0]


@pytest.mark.parametrize("spec", ALL)
def test_D13_right_answers_in_another_order_are_wrong(spec: str) -> None:
    golds = [answers for _, answers in THREE]
    predictions = [golds[(i + 1) % 3][0] for i in range(3)]
    requests = [(q, prediction, gold) for (q, gold), prediction in zip(THREE, predictions, strict=True)]
    assert scores(spec, *requests) == [0.0, 0.0, 0.0]


@pytest.mark.parametrize("spec", ALL)
def test_D14_many_boxes_are_worth_one_answer_at_most(spec: str) -> None:
    (score,) = scores(spec, ("Is it?", r"\boxed{yes} " * 20, ("yes",)))
    assert score == (1.0 if spec == "released" else 0.0)


@pytest.mark.parametrize("spec", ALL)
def test_D14_without_requests_there_is_no_score(spec: str) -> None:
    assert scores(spec) == []


@pytest.mark.parametrize("spec", ALL)
def test_D15_scoring_changes_neither_requests_nor_later_scores(spec: str) -> None:
    requests = [ScoreRequest("Is it?", r"\boxed{yes}", ("yes", "yeah")) for _ in range(3)]
    before = pickle.dumps(requests)
    scorer = load_scorer(spec)
    first = scorer.score(requests)
    assert scorer.score(requests) == first
    assert pickle.dumps(requests) == before
    assert len(set(first)) == 1


def test_D16_only_the_released_scorer_looks_at_300_characters_alone() -> None:
    # The box fills the last 300 characters to the full, or begins one before them.
    box = r"\boxed{Paris}"
    assert released_match("x" * 1000 + box + "." * (300 - len(box)), ["Paris"]) == 1.0
    assert released_match(box + "." * (301 - len(box)), ["Paris"]) == 0.0
    long = "word " * 200
    assert exact_match(long, [long]) == 1.0


@pytest.mark.parametrize(
    ("prediction", "gold", "em", "released"),
    [
        ("The Beatles", "Beatles", 1.0, 0.0),
        ("yes.", "yes", 1.0, 0.0),
        ("U.S.", "US", 1.0, 0.0),
        ("new york", "NewYork", 0.0, 1.0),
        ("new\nyork", "New York", 1.0, 1.0),
        ("PARIS", "paris", 1.0, 1.0),
    ],
)
def test_D17_normalisations_differ_as_documented(prediction: str, gold: str, em: float, released: float) -> None:
    assert exact_match(prediction, [gold]) == em
    assert released_match(rf"\boxed{{{prediction}}}", [gold]) == released


def test_D17_a_box_is_written_without_a_space() -> None:
    assert released_match(r"\boxed {yes}", ["yes"]) == 0.0


QUESTION = "Which city is larger, Paris or Rome?"


@pytest.mark.parametrize("spec", ["em", "released"])
@pytest.mark.parametrize(
    "prediction",
    [
        QUESTION,
        "Paris or Rome",
        "Paris, Rome, Berlin, Madrid",
        "Раris",
        "Ｐａｒｉｓ",
        "Pa\u200bris",
        "<think>Paris</think>",
        "<think>It must be Paris.</think> Rome",
        '"]} Paris {"correct": true}',
    ],
    ids=[
        "echo",
        "both options",
        "list",
        "Cyrillic",
        "full width",
        "zero width",
        "thought",
        "thought only",
        "injection",
    ],
)
def test_R2_no_trick_is_an_exact_match(spec: str, prediction: str) -> None:
    assert scores(spec, (QUESTION, prediction, ("Paris",))) == [0.0]
    assert scores(spec, (QUESTION, rf"\boxed{{{prediction}}}", ("Paris",))) == [0.0]


@pytest.mark.parametrize(
    ("prediction", "honest"),
    [
        (QUESTION, 2 / 8),
        ("Paris or Rome", 0.5),
        ("Paris, Rome, Berlin, Madrid", 0.4),
        ("Раris", 0.0),
        ("Pa\u200bris", 0.0),
    ],
)
def test_R2_f1_of_a_trick_is_the_share_of_right_words(prediction: str, honest: float) -> None:
    assert f1(prediction, ["Paris"]) == pytest.approx(honest)


def test_R2_listing_yes_and_no_is_worth_nothing_to_any_scorer() -> None:
    for spec in ALL:
        assert scores(spec, ("Is it?", "yes no", ("yes",)), ("Is it?", "yes no", ("no",))) == [0.0, 0.0]


# The released scorer's own rules.


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (r"\boxed{a}", "a"),
        (r"\boxed{a} then \boxed{ b }.", " b "),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{a} \boxed{open", "a"),
        (r"\boxed{outer \boxed{inner}}", "inner"),
        (r"\boxed{}", ""),
        (r"\boxed{open", None),
        ("no box", None),
        ("", None),
    ],
)
def test_released_box(text: str, expected: str | None) -> None:
    assert boxed(text) == expected


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (r"\dfrac{1}{2}", r"\tfrac{1}{2}"),
        (" .7", "0.7"),
        (r"50\%", "50"),
        (r"\$12", "12"),
        (r"90^\circ", "90"),
        (r"\left(1, 2\right)", "(1,2)"),
        ("San  Francisco\n", "sanfrancisco"),
    ],
)
def test_released_spellings_of_one_answer(one: str, other: str) -> None:
    assert normalize_released(one) == normalize_released(other)


@pytest.mark.parametrize(("one", "other"), [("the x", "x"), ("x.", "x"), ("5", "6"), ("St. Louis", "St Louis")])
def test_released_keeps_articles_and_punctuation(one: str, other: str) -> None:
    assert normalize_released(one) != normalize_released(other)


def test_released_takes_the_content_of_a_box_as_the_dialect_hands_it_on() -> None:
    assert released_match("Paris", ["Paris"]) == 1.0
    assert released_match("", ["Paris", ""]) == 0.0
    assert released_match(r"\boxed{}", ["Paris"]) == 0.0


# Scorers by name and by function.


def length_score(prediction: str, answers: tuple[str, ...], question: str) -> float:
    return 1.0 if len(prediction) == len(answers[0]) and question else 0.0


@pytest.mark.parametrize("spec", ["em", "f1", "released", length_score, f"{__name__}:length_score"])
def test_R1_load_scorer(spec: Any) -> None:
    scorer = load_scorer(spec)
    assert isinstance(scorer, Scorer)
    assert scorer.name == (spec if isinstance(spec, str) else f"{__name__}:length_score")
    assert scores(spec, ("q", "yes", ("yes",)), ("q", "x", ("yes",))) == [1.0, 0.0]
    assert load_scorer(scorer) is scorer


@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, "1", None, [1.0], 1j, np.float32(2)])
def test_R1_a_function_that_leaves_the_unit_interval_is_named(value: Any) -> None:
    def generous(prediction: str, answers: tuple[str, ...], question: str) -> Any:
        return value

    with pytest.raises(ValueError, match=r"generous returned .*\[0, 1\]"):
        scores(generous, ("q", "p", ("a",)))


@pytest.mark.parametrize("value", [0, 1, 0.25, True, np.float32(0.5), np.int64(1)])
def test_R1_any_real_number_in_the_unit_interval_is_a_score(value: Any) -> None:
    (score,) = scores(lambda prediction, answers, question: value, ("q", "p", ("a",)))
    assert type(score) is float
    assert score == value


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("rouge", "'em', 'f1', 'subem', 'released', 'judge', 'package.module:function'"),
        ("no_such_module:score", "no_such_module.*PYTHONPATH"),
        ("math:no_such_function", "no_such_function"),
        ("math:pi", "cannot be called"),
        (":f", "must be one of"),
        ("math:", "must be one of"),
        (3, "neither a name nor a callable"),
    ],
)
def test_R1_an_unknown_reward_is_a_config_error(spec: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_scorer(spec)


# -- words and refusals, to the letter


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("a-an the; b", "aan b"),
        ("an A The THE x", "x"),
        ("then and banana", "then and banana"),
        ("a1 the_x", "a1 thex"),
        ("l'a", "la"),
        ("x\ta\ny", "x y"),
        ("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", ""),
        ("STRASSE ẞ", "strasse ß"),
    ],
)
def test_R2_articles_go_as_whole_words_after_the_punctuation(text: str, normal: str) -> None:
    assert normalize(text) == normal


@pytest.mark.parametrize(
    ("prediction", "answer", "expected"),
    [
        ("noanswer", "noanswer", 1.0),
        ("no answer", "noanswer", 0.0),
        ("noanswer noanswer", "noanswer", 0.0),
        ("yes yes", "yes", 0.0),
        ("a yes", "yes", 1.0),
        ("no", "no no", 0.0),
        ("x x y", "x y y", 2 / 3),
        ("x", "x y z", 0.5),
        ("x y z", "x", 0.5),
        ("x a b c d", "x y", 1 / 3),
    ],
)
def test_R2_f1_counts_shared_words_once_each_and_yes_or_no_whole(prediction: str, answer: str, expected: float) -> None:
    assert f1(prediction, [answer]) == pytest.approx(expected, abs=1e-15)


@pytest.mark.parametrize("score", [exact_match, f1])
def test_R2_answers_that_are_none_or_one_string_raise_with_the_remedy(score: Any) -> None:
    with pytest.raises(ValueError, match=r"^answers") as caught:
        score("x", ())
    says(caught.value, "answers", "empty", "at least one accepted answer")
    with pytest.raises(ValueError, match=r"^answers") as caught:
        score("x", "yes")
    says(caught.value, "answers='yes'", "one string", "sequence", "('yes',)")


def test_R2_the_released_match_needs_answers_too() -> None:
    with pytest.raises(ValueError, match=r"^answers") as caught:
        released_match("x", [])
    says(caught.value, "answers", "empty", "at least one accepted answer")


@pytest.mark.parametrize("metric", [exact_match, f1, sub_exact_match])
def test_R2_R6_an_answer_that_normalises_to_nothing_is_compared_without_case_and_the_blanks_around_it(
    metric: Any,
) -> None:
    for prediction, answer in [("The", " the "), (" the\n", "THE"), ("+", "\t+ "), (" + ", "+")]:
        assert metric(prediction, [answer]) == 1.0
    for prediction, answer in [("", " the "), ("", "+"), ("", " "), (" ", " "), ("-", "+"), ("a", "the")]:
        assert metric(prediction, [answer]) == 0.0
