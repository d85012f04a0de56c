"""Loads the scorer that ``reward=`` names, and makes scorers of functions."""

from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from typing import Any

from atommem_gym.errors import ConfigError, check_choice
from atommem_gym.plugins.loading import load_plugin
from atommem_gym.scoring.answers import exact_match, f1, sub_exact_match
from atommem_gym.scoring.boxed_match import released_match
from atommem_gym.scoring.protocol import Scorer, ScoreRequest

RewardFunction = Callable[[str, tuple[str, ...], str], float]
"""``(prediction, answers, question) -> score in [0, 1]``."""


class FunctionScorer:
    """Scores with a function ``(prediction, answers, question) -> float``."""

    def __init__(self, function: RewardFunction, name: str) -> None:
        """Make a scorer.

        Args:
            function: Returns the score, in [0, 1], of a prediction, its accepted answers and its question.
            name: For messages and traces.
        """
        self.name = name
        self._function = function

    def score(self, requests: Sequence[ScoreRequest]) -> list[float]:
        """See ``Scorer.score``.

        Raises:
            ValueError: the function returned something else than a number in [0, 1].
        """
        return [
            self._checked(self._function(request.prediction, request.answers, request.question)) for request in requests
        ]

    def _checked(self, value: Any) -> float:
        score = float(value) if isinstance(value, numbers.Real) else math.nan
        if not 0 <= score <= 1:
            raise ValueError(f"reward function {self.name} returned {value!r}; a score is a number in [0, 1]")
        return score


_OR_ELSE = ", 'package.module:function', or a callable"
_BUILT_IN: dict[str, RewardFunction] = {
    "em": lambda prediction, answers, question: exact_match(prediction, answers),
    "f1": lambda prediction, answers, question: f1(prediction, answers),
    "subem": lambda prediction, answers, question: sub_exact_match(prediction, answers),
    "released": lambda prediction, answers, question: released_match(prediction, answers),
}


def load_scorer(spec: str | RewardFunction | Scorer) -> Scorer:
    """The scorer that ``reward=spec`` names.

    Args:
        spec: ``"em"``, ``"f1"``, ``"subem"`` (an answer contained as whole words), ``"released"``, ``"judge"`` (an
            OpenAI-compatible server, see ``scoring.judge``), ``"package.module:function"``, a callable
            ``(prediction, answers, question) -> float`` in [0, 1], or a scorer, which is returned unchanged.

    >>> load_scorer("em").score([ScoreRequest("Who sang it?", "The Beatles", ("Beatles",))])
    [1.0]

    Raises:
        ConfigError: there is no scorer of this name, the judge's settings are missing, or a module may not be imported
            (:mod:`atommem_gym.trust`).
    """
    if isinstance(spec, str):
        if spec in _BUILT_IN:
            return FunctionScorer(_BUILT_IN[spec], spec)
        if spec == "judge":
            # Imported here, because the judge loads an HTTP client and `import atommem_gym` must be quick.
            from atommem_gym.scoring.judge import JudgeScorer

            return JudgeScorer()
        return FunctionScorer(_import_function(spec), spec)
    if isinstance(spec, Scorer):
        return spec
    if callable(spec):
        return FunctionScorer(spec, f"{spec.__module__}:{getattr(spec, '__qualname__', type(spec).__qualname__)}")
    raise ConfigError(f"reward={spec!r} is neither a name nor a callable; use {_choices()}")


def _import_function(spec: str) -> RewardFunction:
    module, _, name = spec.partition(":")
    if not (module and name):
        check_choice("reward", spec, (*_BUILT_IN, "judge"), or_else=_OR_ELSE)
    function: RewardFunction = load_plugin("reward", spec)
    return function


def _choices() -> str:
    return ", ".join(repr(name) for name in (*_BUILT_IN, "judge")) + _OR_ELSE
