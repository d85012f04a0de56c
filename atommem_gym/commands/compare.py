"""``atommem compare``: two evaluations item by item, with intervals and tests."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from rich.text import Text

from atommem_gym.commands.consoles import messages, output, print_json
from atommem_gym.commands.traces.comparison import comparison_front
from atommem_gym.commands.traces.runs import page_runs
from atommem_gym.commands.traces.view import MOST_MIB, check_page, title_of
from atommem_gym.errors import counted
from atommem_gym.evaluation.folder import read_run
from atommem_gym.evaluation.paired import Comparison, Pair, compare, item_pairs
from atommem_gym.evaluation.statistics import LEVEL, RESAMPLES, p_text
from atommem_gym.terminal import Column, Table, printable
from atommem_gym.viewer.page import MEBIBYTE, write_runs


@dataclass
class Compare:
    """Compare two evaluations item by item: B minus A, with intervals and tests.

    To compare two agents of one evaluation, name its folder twice.

    Example: atommem compare runs/base runs/trained --metric f1

    Example: atommem compare runs/first runs/first --agents keep_all tidy
    """

    a: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="A")]
    """The folder of an evaluation."""
    b: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="B")]
    """The folder of another evaluation, or the same."""
    metric: Annotated[
        Literal[
            "em",
            "gain",
            "em_unknown",
            "em_answerable",
            "abstention_recall",
            "f1",
            "reward",
            "evidence_recall",
            "evidence_recall_exact",
            "steps",
            "tokens",
            "operations",
        ],
        tyro.conf.arg(metavar="NAME"),
    ] = "em"
    """The metric to compare."""
    agents: Annotated[tuple[str, str] | None, tyro.conf.arg(metavar="A B")] = None
    """The agent of A and the agent of B to compare; by default those of equal name, or the only ones."""
    html: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Write the comparison as a page of the viewer, too. It leads from each better or worse item to both episodes."""
    as_json: Annotated[bool, tyro.conf.FlagCreatePairsOff, tyro.conf.arg(name="json")] = False
    """Print JSON instead of a table."""

    def run(self) -> int:
        """Print the comparison; the exit status."""
        runs = read_run(self.a), read_run(self.b)
        comparison = compare(*runs, self.metric, self.agents)
        console = output()
        if self.html is not None:
            self._write_page(comparison, item_pairs(*runs, self.metric, self.agents), self.html)
        if self.as_json:
            print_json(_known(asdict(comparison)))
            return 0
        for warning in comparison.warnings:
            console.print(Text(printable(warning, 400), style="bold yellow"), soft_wrap=True)
        console.print(_table(comparison, self.a, self.b))
        for line in _notes(comparison):
            console.print(Text(line, style="dim"))
        return 0

    def _write_page(self, comparison: Comparison, pairs: list[tuple[tuple[str, str], Pair]], page: Path) -> None:
        same = self.a.resolve() == self.b.resolve()
        folders = [self.a] if same else [self.a, self.b]
        check_page(page, folders, "--html")
        shown = page_runs(folders)
        front = comparison_front(comparison, pairs, (shown[0].name, shown[-1].name), (0, 0 if same else 1))
        write_runs(
            shown,
            page,
            title=printable(title_of(shown)),
            fronts={"comparison": front},
            most_bytes=MOST_MIB * MEBIBYTE,
            remedy=f"look at it with atommem view {' '.join(map(str, folders))} --serve",
        )
        messages().print(Text(f"page: {printable(str(page))}"), soft_wrap=True)


def _table(comparison: Comparison, a: Path, b: Path) -> Table:
    table = Table(
        [
            Column("environment", kind="words"),
            Column("docs", "right"),
            Column("agents", kind="words"),
            Column("pairs", "right", leave_out=4),
            # The difference is read beside what it starts from, so A stays longest; its interval says what p does.
            Column("A", "right", leave_out=1),
            Column("B", "right", leave_out=2),
            Column("difference", "right"),
            Column("B better", "right", leave_out=7),
            Column("worse", "right", leave_out=6),
            Column("equal", "right", leave_out=8),
            Column("p (sign)", "right", leave_out=5),
            Column("p (permutation)", "right", leave_out=3),
        ],
        title=f"{comparison.metric}: B ({b}) minus A ({a})",
    )
    for row in comparison.rows:
        if row.env == "all":
            table.add_section()
        same = row.agents[0] == row.agents[1]
        agents = row.agents[0] if same else f"{row.agents[0]} → {row.agents[1]}"
        counts = [f"{row.wins}", f"{row.losses}", f"{row.ties}"]
        ends = [p_text(row.sign_p), p_text(row.permutation_p)]
        difference = row.difference.text(3)
        table.add_row(
            row.env, row.size, agents, f"{row.pairs}", f"{row.a:.3f}", f"{row.b:.3f}", difference, *counts, *ends
        )
    return table


def _known(value: Any) -> Any:
    """JSON values; the interval of a single item is not known, which JSON calls null."""
    if isinstance(value, dict):
        return {name: _known(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_known(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def _notes(comparison: Comparison) -> Sequence[str]:
    lost_a, lost_b = comparison.unpaired
    alone = f"; without a partner: {counted(lost_a, 'episode')} of A, {lost_b} of B" if lost_a or lost_b else ""
    return (
        f"{counted(comparison.pairs, 'pair')}, matched by environment, documents, item, layout and questions; an "
        f"agent's seeds are averaged first{alone}.",
        f"In brackets {LEVEL:.0%} percentile bootstrap intervals over items ({RESAMPLES:,} resamples, seeded). Better, "
        "worse, equal and the two-sided tests count items; the permutation test flips the signs of their differences. "
        "No correction is made for looking at several rows.",
    )
