"""Scorers by name: what may be named, and what is said of what may not (SPEC R1, R3)."""

from __future__ import annotations

import sys
import types
from typing import Any

import pytest
from support.messages import says

from atommem_gym.errors import ConfigError
from atommem_gym.scoring import ScoreRequest, load_scorer
from atommem_gym.scoring.judge import JudgeScorer

CHOICES = ("'em'", "'f1'", "'released'", "'judge'", "'package.module:function'", "callable")


@pytest.fixture
def rewards(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    """A module ``my.rewards`` with a function in a class, a number and nothing else."""

    class Strict:
        @staticmethod
        def score(prediction: str, answers: tuple[str, ...], question: str) -> float:
            return float((prediction, answers, question) == ("p", ("a", "b"), "q"))

    module: Any = types.ModuleType("my_rewards")
    module.Strict = Strict
    module.number = 3
    monkeypatch.setitem(sys.modules, "my_rewards", module)
    return module  # type: ignore[no-any-return]


def test_R1_a_function_is_called_with_prediction_answers_and_question(rewards: types.ModuleType) -> None:
    scorer = load_scorer("my_rewards:Strict.score")
    assert scorer.name == "my_rewards:Strict.score"
    right, wrong = ScoreRequest("q", "p", ("a", "b")), ScoreRequest("p", "q", ("a", "b"))
    assert scorer.score([right, wrong, right]) == [1.0, 0.0, 1.0]
    assert scorer.score([]) == []


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("rouge", ("reward='rouge'", "must be one of", *CHOICES)),
        ("my_rewards:", ("reward='my_rewards:'", "must be one of", *CHOICES)),
        (":f", ("reward=':f'", "must be one of", *CHOICES)),
        (3, ("reward=3", "callable", *CHOICES)),
        ("my_rewards:number", ("reward='my_rewards:number'", "3", "cannot be called", "function")),
        (
            "my_rewards:Strict.other",
            (
                "reward='my_rewards:Strict.other'",
                "'my_rewards'",
                "no 'Strict.other'",
                "'Strict' has no attribute 'other'",
            ),
        ),
        ("my_rewards:Strict:score", ("reward='my_rewards:Strict:score'", "'my_rewards'", "no 'Strict:score'", "(")),
        (
            "no_such_rewards:f",
            ("reward='no_such_rewards:f'", "'no_such_rewards'", "No module named 'no_such_rewards'", "PYTHONPATH"),
        ),
    ],
)
def test_R1_an_unusable_reward_is_named_with_what_helps(
    rewards: types.ModuleType, spec: Any, parts: tuple[str, ...]
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_scorer(spec)
    says(caught.value, *parts)


class Lenient:
    def __call__(self, prediction: str, answers: tuple[str, ...], question: str) -> float:
        return 2.0


def test_R1_a_callable_goes_by_its_module_and_its_name_or_its_class() -> None:
    assert load_scorer(Lenient()).name == f"{__name__}:Lenient"
    assert load_scorer(Lenient().__call__).name == f"{__name__}:Lenient.__call__"
    with pytest.raises(ValueError, match=r"^reward") as caught:
        load_scorer(Lenient()).score([ScoreRequest("q", "p", ("a",))])
    says(caught.value, f"{__name__}:Lenient", "2.0", "number in [0, 1]")


def test_R3_the_name_judge_is_the_judge_of_the_environment_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ATOMMEM_JUDGE_URL", "http://localhost:1/v1")
    monkeypatch.setenv("ATOMMEM_JUDGE_MODEL", "m")
    scorer = load_scorer("judge")
    assert isinstance(scorer, JudgeScorer)
    scorer.close()
