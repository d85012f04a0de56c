"""Reports of an evaluation: the summaries of all cells, missing episodes, and how they were played."""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from atommem_gym.errors import counted
from atommem_gym.evaluation.folder import Run
from atommem_gym.evaluation.plan import Cell, Plan
from atommem_gym.evaluation.results import EpisodeResult
from atommem_gym.evaluation.statistics import RESAMPLES
from atommem_gym.evaluation.summary import CellSummary, summarize

PACKAGES = ("atommem-gym", "gymnasium", "numpy", "milvus-lite", "torch", "transformers")
"""Packages whose versions stand in the folder of an evaluation."""


@dataclass(frozen=True, slots=True)
class Report:
    """All that a report says of an evaluation."""

    plan: Plan
    """What was to be played."""
    cells: tuple[CellSummary, ...]
    """Summaries of the cells with finished episodes, in the plan's order."""
    empty: tuple[Cell, ...]
    """Cells without a finished episode."""
    failures: Mapping[str, int]
    """Number of failed episodes by the class of their error."""
    last_failure: str
    """First line of the last failure's message; empty if none failed."""
    bugs: int
    """Failed episodes whose error is not an ``AtomMemError``."""
    sessions: tuple[Mapping[str, Any], ...]
    """Facts of each start of the evaluation, see ``Run.sessions``."""

    @property
    def episodes(self) -> int:
        """Number of finished episodes."""
        return sum(cell.episodes for cell in self.cells)

    @property
    def failed(self) -> int:
        """Number of episodes that could not be played to their end."""
        return sum(self.failures.values())

    @property
    def missing(self) -> int:
        """Number of planned episodes that neither finished nor failed."""
        return self.plan.episodes_in_all - self.episodes - self.failed

    @property
    def repeated(self) -> bool:
        """Whether a cell played an item more than once, so that intervals resample items and not episodes."""
        return any(cell.items < cell.episodes for cell in self.cells)

    @property
    def uses_models(self) -> bool:
        """Whether a language model played."""
        return any(cell.calls for cell in self.cells)

    def warnings(self) -> list[str]:
        """What a reader of the report must know before trusting the numbers, one sentence each."""
        lines = []
        if self.failed:
            errors = ", ".join(f"{count} × {error}" for error, count in self.failures.items())
            lines.append(
                f"{counted(self.failed, 'episode')} failed and {'counts' if self.failed == 1 else 'count'} in no mean "
                f"({errors}; the last: {self.last_failure}); all are in failures.jsonl, and --resume plays them again"
            )
        if self.bugs:
            lines.append(
                f"{self.bugs} of them failed with errors that this package does not raise on purpose: please report "
                "them, with their traceback in failures.jsonl"
            )
        if self.missing:
            lines.append(f"{self.missing} of {self.plan.episodes_in_all} episodes have not been played; --resume does")
        cut = sum(cell.cut_short for cell in self.cells)
        if cut:
            lines.append(f"{cut} completions ended at their token limit (max_tokens)")
        cut = sum(cell.reader_cut_short for cell in self.cells)
        if cut:
            lines.append(f"{cut} answers of the frozen reader ended at their token limit (reader_options: max_tokens)")
        empty = sum(cell.only_reasoning for cell in self.cells)
        if empty:
            lines.append(
                f"in {counted(empty, 'step')} the model wrote no text: its server put everything into the reasoning "
                "(check its reasoning parser and chat template, or raise max_tokens)"
            )
        cut = sum(cell.cut_prompts for cell in self.cells)
        if cut:
            lines.append(
                f"in {counted(cut, 'step')} the model was not shown everything, since its context is too small"
            )
        retries = sum(cell.retries for cell in self.cells)
        if retries:
            lines.append(f"{retries} calls of the model failed and were repeated, with success")
        played_with = sorted({str(session["versions"]) for session in self.sessions if "versions" in session})
        if len(played_with) > 1:
            lines.append(f"played with different versions: {' / '.join(played_with)}")
        return lines


def make_report(run: Run, resamples: int = RESAMPLES) -> Report:
    """Summarise the episodes of a run by cell: environment, document count and agent.

    Args:
        run: An evaluation, as :func:`read_run` returns it.
        resamples: Resamples of each bootstrap interval.
    """
    results: dict[Cell, list[EpisodeResult]] = {}
    for result in run.results:
        results.setdefault(result.key.cell, []).append(result)
    failed = Counter(failure.key.cell for failure in run.failures)
    plan = run.plan
    return Report(
        plan=plan,
        cells=tuple(
            summarize(
                cell,
                results[cell],
                planned=plan.episodes_a_cell,
                failed=failed[cell],
                resamples=resamples,
                closed_book=run.closed_book,
            )
            for cell in plan.cells
            if cell in results
        ),
        empty=tuple(cell for cell in plan.cells if cell not in results),
        failures=dict(Counter(failure.error for failure in run.failures).most_common()),
        bugs=sum(failure.bug for failure in run.failures),
        last_failure=run.failures[-1].message.partition("\n")[0] if run.failures else "",
        sessions=run.sessions,
    )


def surroundings() -> dict[str, Any]:
    """Versions and processor, on which results depend besides the plan; JSON values."""
    packages = {package: installed for package in PACKAGES if (installed := _version(package))}
    versions = ", ".join(f"{package} {installed}" for package, installed in packages.items())
    cpu = f"{_cpu()}, {os.cpu_count()} cores"
    return {"python": platform.python_version(), "versions": versions, "cpu": cpu}


def counts(cells: Sequence[CellSummary]) -> dict[str, int]:
    """Number of failed questions by cause, over several cells."""
    total: Counter[str] = Counter()
    for cell in cells:
        total.update(cell.causes)
    return dict(total)


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _cpu() -> str:
    """The processor's name, as far as the system says it."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
