"""Exact match and F1 of short answers, as SQuAD and HotpotQA define them, for scores comparable with the literature."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_CLOSED_ANSWERS = frozenset({"yes", "no", "noanswer"})


def normalize(text: str) -> str:
    """The ``text`` in lower case, without ASCII punctuation and the articles a, an and the, with single spaces.

    The steps and their order are those of the official SQuAD and HotpotQA evaluation scripts. Other punctuation
    (“ ” – ·) stays, as it does there.

    >>> normalize("The  Beatles, (1960)")
    'beatles 1960'
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if ``prediction`` equals one of ``answers`` after normalisation, else 0.0 (SPEC R2).

    An answer that normalises to an empty string (``"The"``, ``"+"``) is compared as lower-cased raw text instead, so
    that an empty prediction never matches.

    >>> exact_match("the beatles.", ["Beatles", "The Fab Four"])
    1.0

    Raises:
        ValueError: there are no ``answers``.
    """
    return max(float(_equal(prediction, answer)) for answer in _required(answers))


def sub_exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if ``prediction`` contains one of ``answers`` as whole words, both normalised, else 0.0 (SPEC R6).

    An answer that normalises to an empty string is compared as in :func:`exact_match`.

    >>> sub_exact_match("He was born in Belgium.", ["Belgium"]), sub_exact_match("Belgiums", ["Belgium"])
    (1.0, 0.0)

    Raises:
        ValueError: there are no ``answers``.
    """
    said = f" {normalize(prediction)} "
    return max(
        float(f" {expected} " in said if (expected := normalize(answer)) else _equal(prediction, answer))
        for answer in _required(answers)
    )


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The best F1 between the words of ``prediction`` and those of one of ``answers``, in [0, 1].

    As in the official HotpotQA script, F1 is exact match if the prediction or the answer is yes, no or noanswer. F1 is
    also exact match for an answer that normalises to an empty string.

    >>> f1("the band Beatles", ["Beatles"])
    0.6666666666666666

    Raises:
        ValueError: there are no ``answers``.
    """
    return max(_f1(prediction, answer) for answer in _required(answers))


def _required(answers: Sequence[str]) -> Sequence[str]:
    if isinstance(answers, str):
        raise ValueError(
            f"answers={answers!r} is one string; give a sequence of accepted answers, such as ({answers!r},)"
        )
    if not answers:
        raise ValueError("answers is empty, so nothing could match; give at least one accepted answer")
    return answers


def _equal(prediction: str, answer: str) -> bool:
    expected = normalize(answer)
    if expected:
        return normalize(prediction) == expected
    raw = answer.strip().lower()
    return bool(raw) and prediction.strip().lower() == raw


def _f1(prediction: str, answer: str) -> float:
    predicted, expected = normalize(prediction), normalize(answer)
    if not expected or predicted in _CLOSED_ANSWERS or expected in _CLOSED_ANSWERS:
        return float(_equal(prediction, answer))
    predicted_words, expected_words = predicted.split(), expected.split()
    common = (Counter(predicted_words) & Counter(expected_words)).total()
    if not common:
        return 0.0
    precision, recall = common / len(predicted_words), common / len(expected_words)
    return 2 * precision * recall / (precision + recall)
