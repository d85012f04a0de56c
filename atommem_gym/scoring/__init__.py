"""Scores answers (SPEC R1–R3): exact match, F1, the released code's match, a judge, or a custom function."""

from __future__ import annotations

from atommem_gym.scoring.abstention import UNKNOWN, abstention_metrics, is_abstention, measured, score_all
from atommem_gym.scoring.answers import exact_match, f1, normalize, sub_exact_match
from atommem_gym.scoring.protocol import Scorer, ScoreRequest
from atommem_gym.scoring.scorers import FunctionScorer, load_scorer

__all__ = [
    "UNKNOWN",
    "FunctionScorer",
    "ScoreRequest",
    "Scorer",
    "abstention_metrics",
    "exact_match",
    "f1",
    "is_abstention",
    "load_scorer",
    "measured",
    "normalize",
    "score_all",
    "sub_exact_match",
]
