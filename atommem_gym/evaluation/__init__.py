"""Evaluates agents by a plan that can be resumed, and makes tables, plots and comparisons of the results."""

from atommem_gym.evaluation.folder import EvaluationError, Run, read_run
from atommem_gym.evaluation.paired import Comparison, compare
from atommem_gym.evaluation.plan import Plan, read_plan
from atommem_gym.evaluation.report import Report, make_report
from atommem_gym.evaluation.results import EpisodeResult, FailedEpisode
from atommem_gym.evaluation.runner import Listener, evaluate

__all__ = [
    "Comparison",
    "EpisodeResult",
    "EvaluationError",
    "FailedEpisode",
    "Listener",
    "Plan",
    "Report",
    "Run",
    "compare",
    "evaluate",
    "make_report",
    "read_plan",
    "read_run",
]
