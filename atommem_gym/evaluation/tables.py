"""Reports as tables for a terminal, in Markdown and in CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from atommem_gym import terminal
from atommem_gym.actions import Kind
from atommem_gym.agents.players.roles import ROLES
from atommem_gym.evaluation import work
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evaluation.report import Report, counts
from atommem_gym.evaluation.statistics import RESAMPLES
from atommem_gym.evaluation.summary import CellSummary
from atommem_gym.terminal import Table
from atommem_gym.traces.record import CAUSES, SELDOM

NARROW = 120
"""In terminals with fewer columns than this, causes have counts without shares."""
ORACLE_READERS = ("keep_all", "overwrite", "tidy", "oracle")
"""Scripted agents whose answers come from the oracle reader."""
ABSENT = "–"
"""Stands for zeros and missing numbers, so that the other numbers stand out."""


ABSTENTION_HEADERS = (
    ("answerable EM", "em_answerable", 0),
    ("abstention precision", "abstention_precision", 0),
    ("abstention recall", "abstention_recall", 0),
)
"""Header, metric, and rank at which a narrow terminal leaves the column out."""


GAIN_HEADERS = (
    ("memory gain", "gain", 0),
    ("closed-book EM", "closed_book", 3),
    ("EM if unknown", "em_unknown", 7),
)
"""The same for runs with a frozen reader."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table: a number of each cell."""

    header: str
    """Header of the column."""
    cell: Callable[[CellSummary], str]
    """The number of a cell as text."""
    leave_out: int = 0
    """When a narrow terminal leaves it out, see ``atommem_gym.terminal.Column``; Markdown has all columns."""


def results_columns(report: Report) -> list[Column]:
    """The columns of the results; tokens of language models only if one played."""
    columns = [
        Column("episodes", _episodes),
        Column("EM", lambda cell: cell.metrics["em"].text()),
        *_gain_columns(report),
        *_abstention_columns(report),
        Column("F1", lambda cell: cell.metrics["f1"].text(), leave_out=9),
        Column("evidence recall", _recall(report), leave_out=2),
        *(Column(kind, _operation(kind), leave_out=5) for kind in _kinds(report)),
        Column("rejected", lambda cell: _amount(cell.rejected), leave_out=10),
        Column("entries", lambda cell: _amount(cell.peak_entries), leave_out=4),
        Column("steps", lambda cell: _amount(cell.steps), leave_out=8),
    ]
    if any(cell.reader_tokens is not None for cell in report.cells):
        columns.append(Column("reader's tokens", lambda cell: _tokens(cell.reader_tokens), leave_out=6))
    if report.uses_models:
        columns += [
            Column("prompt tokens", lambda cell: _tokens(cell.prompt_tokens), leave_out=1),
            Column("completion tokens", lambda cell: _tokens(cell.completion_tokens), leave_out=1),
        ]
    return columns


def _gain_columns(report: Report) -> list[Column]:
    """Columns for runs with a frozen reader; none for others."""
    if not any(cell.gain for cell in report.cells):
        return []
    return [Column(header, _gain(name), leave_out=rank) for header, name, rank in GAIN_HEADERS]


def _gain(name: str) -> Callable[[CellSummary], str]:
    def text(cell: CellSummary) -> str:
        interval = cell.gain.get(name)
        return ABSENT if interval is None or math.isnan(interval.mean) else interval.text()

    return text


def _abstention_columns(report: Report) -> list[Column]:
    """Columns for tasks with questions that have no answer; none for others."""
    if not any(cell.abstention for cell in report.cells):
        return []
    return [Column(header, _abstention(name), leave_out=rank) for header, name, rank in ABSTENTION_HEADERS]


def _abstention(name: str) -> Callable[[CellSummary], str]:
    def text(cell: CellSummary) -> str:
        interval = cell.abstention.get(name)
        return ABSENT if interval is None or math.isnan(interval.mean) else interval.text()

    return text


def time_columns() -> list[Column]:
    """The columns of times per step."""
    return [
        Column("agent: median ms", lambda cell: _ms(cell.agent_ms[0])),
        Column("agent: p95 ms", lambda cell: _ms(cell.agent_ms[1]), leave_out=2),
        Column("waits for env: median ms", lambda cell: _ms(cell.env_ms[0])),
        Column("waits for env: p95 ms", lambda cell: _ms(cell.env_ms[1]), leave_out=1),
        Column("waits' share", lambda cell: ABSENT if math.isnan(cell.env_share) else f"{cell.env_share:.0%}"),
    ]


def cause_columns(report: Report, *, shares: bool = True) -> list[Column]:
    """The columns of causes of failure: counts, and with ``shares`` their shares of the failed questions."""
    found = counts(report.cells)
    known: list[str] = [cause for cause in CAUSES if cause in found or cause not in SELDOM]
    known += [cause for cause in found if cause not in CAUSES]
    return [
        Column("questions", lambda cell: f"{cell.questions}", leave_out=1),
        Column("failed", lambda cell: _count(cell.wrong, cell.questions, shares)),
        *(Column(cause, _cause(cause, shares)) for cause in known),
    ]


def terminal_tables(report: Report, width: int) -> Iterator[Table]:
    """The tables of results, times and causes for a terminal of ``width`` columns."""
    shares = width >= NARROW
    for title, columns in _tables(report, shares=shares):
        counted = columns and columns[0].header == "questions" and not shares
        shown = [terminal.Column(one.header, "right", leave_out=one.leave_out) for one in columns]
        table = Table(
            [
                terminal.Column("environment", kind="words"),
                terminal.Column("docs", "right"),
                terminal.Column("agent", kind="words"),
                *shown,
            ],
            title=f"{title} (shares: from {NARROW} columns on)" if counted else title,
        )
        before: CellSummary | None = None
        for cell in report.cells:
            new_env = before is None or before.cell.env != cell.cell.env
            new_docs = new_env or (before is not None and before.cell.docs != cell.cell.docs)
            if new_env and before is not None:
                table.add_section()
            # Repeated names are left out, so that changes from row to row stand out.
            names = (cell.cell.env if new_env else "", cell.size if new_docs else "", cell.cell.agent)
            table.add_row(*names, *(column.cell(cell) for column in columns))
            before = cell
        yield table


def markdown(report: Report, plots: Sequence[tuple[str, str]] = ()) -> str:
    """The report as a page in Markdown.

    Args:
        report: The report.
        plots: Titles and file names of the plots.
    """
    plan = report.plan
    parts = ["# Evaluation", "", *(f"**{line}**" for line in report.warnings())]
    if report.warnings():
        parts.append("")
    parts += [
        f"{report.episodes} episodes: {plan.episodes} items a cell, the same for all agents, document counts and "
        f"seeds ({', '.join(map(str, plan.seeds))}).",
        "",
        *made(report),
        "",
        *protocol_lines(plan),
        "The plan is in `plan.yaml`, all numbers in `cells.csv`, one row an episode in `results.jsonl`.",
    ]
    for title, file in plots:
        parts += ["", f"![{title}]({file})"]
    for title, columns in _tables(report):
        parts += ["", f"## {title}", "", *_markdown_table(report.cells, columns)]
    parts += ["", "## Where the wall time went", "", *_markdown_rows(work.HEADERS, work.work_rows(report.sessions))]
    parts += ["", "## How to read it", "", *(f"- {note}" for note in notes(report))]
    return "\n".join(parts) + "\n"


def protocol_lines(plan: Plan) -> list[str]:
    """The lines of a report about the protocol; none if the plan follows none."""
    if not plan.protocol:
        return []
    name, _, digest = plan.protocol.partition("#")
    return [f"Protocol `{name}`, hash `{digest}`; its items and their hashes are in `protocol.json`.", ""]


def made(report: Report) -> list[str]:
    """Date, processor and versions of each start, equal lines once."""
    lines = [
        f"{str(session.get('at', ''))[:10]} · {session.get('cpu', '')} · Python {session.get('python', '')} · "
        f"{session.get('versions', '')}"
        for session in report.sessions
    ]
    return list(dict.fromkeys(lines))


def notes(report: Report) -> list[str]:
    """Notes on how to read the numbers, one sentence or more each."""
    unit = "items" if report.repeated else "episodes"
    why = " (whole items are drawn, since an item was played with several seeds)" if report.repeated else ""
    return [
        f"EM and F1 are means over episodes; in brackets 95 % percentile bootstrap intervals over {unit}{why}, "
        f"{RESAMPLES:,} resamples, seeded. An interval of values that are all equal has no width.",
        *_reader(report),
        *_gain_notes(report),
        "Operations, entries (at their peak), steps and tokens are means per episode.",
        "Evidence recall and causes use the lenient heuristic (title and hop answer in one entry): policies "
        "paraphrase.",
        "Milliseconds are those of a step as its episode waits for it: with many episodes in flight waits for the "
        "environment are mostly waits for a turn. What the environment itself took is in *Where the wall time went*.",
        work.NOTE,
    ]


def _reader(report: Report) -> list[str]:
    """The note on agents whose answers come from the oracle reader; none if there are none."""
    settings = [{**report.plan.settings, **env.settings} for env in report.plan.envs]
    others = any(own.get("reader", "policy") not in ("policy", "oracle") for own in settings)
    oracles = [agent.label for agent in report.plan.agents if agent.name in ORACLE_READERS and not others]
    if not oracles:
        return []
    return [
        f"Answers of {', '.join(oracles)} are an oracle reader's: the gold answer if and only if the evidence is "
        "visible. These rows measure memory and retrieval, not language."
    ]


def _gain_notes(report: Report) -> list[str]:
    if not any(cell.gain for cell in report.cells):
        return []
    return [
        "Memory gain is EM minus the EM of the same frozen reader with nothing shown (closed-book EM), on the same "
        "items; EM if unknown is over the questions that the reader did not answer so. What it said is in "
        "`closed_book.jsonl`, with `known` for those that it did. An answer of the agent's own counts as it stands."
    ]


def to_csv(report: Report) -> str:
    """The cells as CSV, one row per cell, in full precision; a missing number is an empty field.

    A label that a spreadsheet would take for a formula is written with an apostrophe before it.
    """
    rows = [{name: _no_formula(value) for name, value in cell.to_values().items()} for cell in report.cells]
    text = io.StringIO()
    if rows:
        # Environments with questions that have no answer have further columns.
        names = dict.fromkeys(name for row in rows for name in row)
        writer = csv.DictWriter(text, list(names), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return text.getvalue()


def _no_formula(value: Any) -> Any:
    """A value that a spreadsheet does not take for a formula.

    >>> _no_formula("=1+1"), _no_formula("keep_all"), _no_formula(-0.5)
    ("'=1+1", 'keep_all', -0.5)
    """
    starts = isinstance(value, str) and value.lstrip(" ").startswith(("=", "+", "-", "@", "\t", "\r", "\n"))
    return f"'{value}" if starts else value


def _tables(report: Report, *, shares: bool = True) -> list[tuple[str, list[Column]]]:
    tables = [("Results", results_columns(report)), ("Where the time of a step goes", time_columns())]
    if any(cell.wrong for cell in report.cells):
        tables.append(("Why questions failed", cause_columns(report, shares=shares)))
    return tables


def _markdown_table(cells: Sequence[CellSummary], columns: Sequence[Column]) -> Iterator[str]:
    yield f"| environment | documents | agent | {' | '.join(column.header for column in columns)} |"
    yield f"|---|--:|---|{'--:|' * len(columns)}"
    for cell in cells:
        names = f"{_escaped(cell.cell.env)} | {cell.size} | `{_escaped(cell.cell.agent)}`"
        yield f"| {names} | {' | '.join(column.cell(cell) for column in columns)} |"


def _markdown_rows(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(headers)} |"
    yield f"|---|{'--:|' * (len(headers) - 1)}"
    for row in rows:
        yield f"| {' | '.join(row)} |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _kinds(report: Report) -> list[Kind]:
    """The kinds of operations that were executed in any cell."""
    return [kind for kind in ("create", "read", "update", "delete", "scratchpad") if _has(report, kind)]


def _has(report: Report, kind: Kind) -> bool:
    return any(cell.operations.get(kind) for cell in report.cells)


def _operation(kind: Kind) -> Callable[[CellSummary], str]:
    return lambda cell: _amount(cell.operations.get(kind, 0.0))


def _recall(report: Report) -> Callable[[CellSummary], str]:
    """The column of evidence recall; an agent with neither storage nor scratchpad has none."""
    # Registered and custom agents are not in ROLES and demand no keyword arguments.
    role = {agent.label: ROLES[agent.name].env_keywords for agent in report.plan.agents if agent.name in ROLES}
    keywords = {agent.label: {**report.plan.settings, **role.get(agent.label, {})} for agent in report.plan.agents}
    blank = {label for label, own in keywords.items() if own.get("storage") is False and own.get("scratchpad") is False}

    def text(cell: CellSummary) -> str:
        mean = cell.metrics["evidence_recall"].mean
        return ABSENT if cell.cell.agent in blank or math.isnan(mean) else f"{mean:.2f}"

    return text


def _cause(cause: str, shares: bool) -> Callable[[CellSummary], str]:
    def text(cell: CellSummary) -> str:
        count = cell.causes.get(cause, 0)
        return _count(count, cell.wrong, shares) if count else ABSENT

    return text


def _count(count: int, of: int, shares: bool) -> str:
    return f"{count} ({count / of:.0%})" if shares else f"{count}"


def _episodes(cell: CellSummary) -> str:
    failed = f" +{cell.failed} failed" if cell.failed else ""
    return f"{cell.episodes}{failed}" if cell.episodes == cell.planned else f"{cell.episodes}/{cell.planned}{failed}"


def _amount(value: float) -> str:
    return f"{value:.1f}" if value else ABSENT


def _tokens(value: float | None) -> str:
    return ABSENT if value is None else f"{value:,.0f}"


def _ms(value: float) -> str:
    return ABSENT if math.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:,.0f}"
