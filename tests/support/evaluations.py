"""Small evaluations for tests: plans that take a moment, and what two runs must have in common."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from msgspec import structs

from atommem_gym.evaluation.folder import Run
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evaluation.results import EpisodeResult, FailedEpisode, QuestionResult
from atommem_gym.evaluation.runner import evaluate
from atommem_gym.traces import EpisodeTrace, read_traces

SMALL: dict[str, Any] = {
    "envs": ["Synthetic"],
    "agents": ["keep_all", "silent"],
    "docs": [10, 20],
    "seeds": [0, 1],
    "episodes": 3,
    "settings": {"store": "numpy"},
}


class Quiet:
    """A listener that counts."""

    def __init__(self) -> None:
        self.results: list[EpisodeResult] = []
        self.failures: list[FailedEpisode] = []
        self.earlier = 0

    def begin(self, plan: Plan, earlier: Run) -> None:
        self.earlier = len(earlier.results)

    def finished(self, result: EpisodeResult) -> None:
        self.results.append(result)

    def failed(self, failure: FailedEpisode) -> None:
        self.failures.append(failure)


def small_plan(**changes: Any) -> Plan:
    return Plan.from_values({**SMALL, **changes})


def play(folder: Path, plan: Plan | None = None, *, resume: bool = False) -> tuple[Run, Quiet]:
    """Play what is missing of a plan."""
    quiet = Quiet()
    return evaluate(plan or small_plan(), folder, quiet, resume=resume), quiet


def timeless(run: Run) -> list[EpisodeResult]:
    """The rows of a run without times, in an order that does not depend on them."""
    rows = [
        replace(
            result, agent_ms=tuple(0.0 for _ in result.agent_ms), env_ms=tuple(0.0 for _ in result.env_ms), seconds=0.0
        )
        for result in run.results
    ]
    return sorted(rows, key=lambda row: row.key)


def timeless_traces(folder: Path) -> list[EpisodeTrace]:
    """The traces of a folder without times, in an order that does not depend on them."""
    traces = [
        structs.replace(
            trace,
            started="",
            seconds=0.0,
            steps=tuple(structs.replace(step, seconds=type(step.seconds)()) for step in trace.steps),
        )
        for trace in read_traces(folder / "traces.jsonl")
    ]
    return sorted(traces, key=lambda t: (t.env.keywords["num_docs"], t.agent.name, t.seed, t.index, t.shuffle_seed))


def row(**changes: Any) -> EpisodeResult:
    """A made-up row."""
    index = changes.get("index", 0)
    em = changes.get("em", 1.0)
    values: dict[str, Any] = {
        "env": "HotpotQA",
        "docs": 200,
        "agent": "tidy",
        "seed": 0,
        "index": index,
        "shuffle_seed": 0,
        "item": f"hotpotqa/validation/{index}",
        "reward": em,
        "em": em,
        "f1": em,
        "questions": (QuestionResult(f"q{index}", "bridge", em, em, "answered", None if em == 1 else "never stored"),),
        "operations": {"create": 10, "read": 3, "answer": 1},
        "rejected": {},
        "peak_entries": 10,
        "final_entries": 9,
        "evidence_recall": 0.5,
        "evidence_recall_exact": 0.25,
        "steps": 2,
        "truncated": False,
        "calls": 0,
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "cut_short": 0,
        "only_reasoning": 0,
        "cut_prompts": 0,
        "retries": 0,
        "agent_ms": (1.0, 3.0),
        "env_ms": (2.0, 2.0),
        "seconds": 0.01,
    }
    return EpisodeResult(**{**values, **changes})
