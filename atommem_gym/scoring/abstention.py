"""Questions without an answer: what counts as an abstention, and what every scorer must make of one (SPEC R5)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from atommem_gym.errors import counted
from atommem_gym.scoring.answers import exact_match, normalize
from atommem_gym.scoring.protocol import Scorer, ScoreRequest

UNKNOWN = "unknown"
"""What scripted agents and the oracle reader say that do not know."""
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
"""Normalised answers that abstain; the empty one is an answer without text, or of marks and articles alone."""


def is_abstention(prediction: str) -> bool:
    """Whether the answer ``prediction`` says that there is none: empty, "unknown", "I don't know" and the like.

    >>> is_abstention("I don't know."), is_abstention("N/A"), is_abstention(""), is_abstention("unknown soldier")
    (True, True, True, False)
    """
    return normalize(prediction) in ABSTENTIONS


def decided(request: ScoreRequest) -> float | None:
    """The score that no scorer is asked for, ``None`` where one is.

    A question without an answer is right if and only if the answer abstains. Where there is an answer, abstaining is
    wrong, unless an accepted answer says just the same ("None" may be a title). Of tasks whose questions all have
    answers nothing is decided here.
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
        scorer: Is asked, in one call, for the requests whose score abstention does not decide (SPEC R5).
        requests: Any number.

    Raises:
        JudgeError: the judge failed.
        ValueError: the scorer returned something that is not a score.
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
    """A metric of one answer, where abstention does not decide the score (SPEC R5).

    Args:
        metric: Takes a prediction and the accepted answers, such as ``exact_match`` or ``f1``.
        request: The question with its answer.
    """
    score = decided(request)
    return metric(request.prediction, request.answers) if score is None else score


def abstention_metrics(answers: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """EM over the answerable questions, and precision and recall of abstention; ``None`` where nothing is counted.

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
