"""Questions without an answer: which answers abstain, and how abstentions are scored by every scorer (SPEC R5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atommem_gym.errors import counted
from atommem_gym.scoring.answers import exact_match, normalize
from atommem_gym.scoring.protocol import Scorer, ScoreRequest

UNKNOWN = "unknown"
"""The answer of scripted agents and the oracle reader when they do not know."""
ABSTENTIONS = frozenset(
    {
        "unknown",
        "not mentioned",
        "no answer",
        "no information",
        "no information available",
        "not answerable",
        "unanswerable",
        "i dont know",
        "dont know",
        "none",
        "na",
        "",
    }
)
"""Normalised answers that abstain; the empty one stands for answers without words, or with articles alone."""


def is_abstention(prediction: str) -> bool:
    """Whether the answer ``prediction`` abstains: it is empty, "unknown", "I don't know" or the like.

    >>> is_abstention("I don't know."), is_abstention("N/A"), is_abstention(""), is_abstention("unknown soldier")
    (True, True, True, False)
    """
    return normalize(prediction) in ABSTENTIONS


def decided(request: ScoreRequest) -> float | None:
    """The score of a request if abstention decides it (SPEC R5); ``None`` if a scorer must.

    For a question without an answer, only an abstention is right. For a question with an answer, an abstention is
    wrong, unless it equals an accepted answer ("None" may be a title). In tasks whose questions all have answers the
    scorer decides everything.
    """
    if request.answerable is None:
        return None
    if not request.answerable:
        return float(is_abstention(request.prediction))
    if is_abstention(request.prediction) and request.answers and not exact_match(request.prediction, request.answers):
        return 0.0
    return None


def score_all(scorer: Scorer, requests: Sequence[ScoreRequest]) -> list[float]:
    """One score in [0, 1] for each request.

    Args:
        scorer: Called once, with the requests whose score abstention does not decide (SPEC R5).
        requests: Answers to score, with their questions.

    Raises:
        JudgeError: the judge failed.
        ValueError: the scorer did not return one number in [0, 1] for each request.
    """
    scores = [decided(request) for request in requests]
    asked = [request for request, score in zip(requests, scores, strict=True) if score is None]
    found = [float(score) for score in scorer.score(asked)] if asked else []
    if len(found) != len(asked) or not all(0.0 <= score <= 1.0 for score in found):
        raise ValueError(
            f"the scorer {scorer.name!r} returned {found} for {counted(len(asked), 'answer')}; "
            "it must return one number in [0, 1] for each"
        )
    rest = iter(found)
    return [next(rest) if score is None else score for score in scores]


def measured(metric: Callable[[str, Sequence[str]], float], request: ScoreRequest) -> float:
    """A metric of one answer, unless abstention decides its score (SPEC R5).

    Args:
        metric: A function of the prediction and the accepted answers, such as ``exact_match`` or ``f1``.
        request: The answer with its question.
    """
    score = decided(request)
    return metric(request.prediction, request.answers) if score is None else score


def abstention_metrics(answers: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """EM over the answerable questions, and precision and recall of abstention; ``None`` for a mean over no questions.

    Args:
        answers: The ``answers`` of ``episode_metrics``, of any number of episodes.

    >>> said = {"closed": "answered", "answer": "unknown", "em": 0.0}
    >>> abstention_metrics([said, {**said, "answerable": False, "em": 1.0}])
    {'em_answerable': 0.0, 'abstention_precision': 0.5, 'abstention_recall': 1.0}
    """
    answerable = [answer for answer in answers if answer.get("answerable", True)]
    abstained = [answer for answer in answers if answer["closed"] == "answered" and is_abstention(answer["answer"])]
    right = sum(not answer.get("answerable", True) for answer in abstained)
    return {
        "em_answerable": _share(sum(answer["em"] for answer in answerable), len(answerable)),
        "abstention_precision": _share(right, len(abstained)),
        "abstention_recall": _share(right, len(answers) - len(answerable)),
    }


def _share(part: float, whole: int) -> float | None:
    return part / whole if whole else None
