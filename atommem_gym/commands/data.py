"""``atommem data``: ``check`` tells what is wrong with record files; ``verl`` and ``skyrl`` write training data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import tyro
from rich.console import Console
from rich.text import Text
from tyro.conf import subcommand

from atommem_gym.commands.consoles import output
from atommem_gym.commands.data_verl import DataSkyRL, DataVerl
from atommem_gym.errors import ConfigError, counted
from atommem_gym.records.audit import Audit, Part, audit
from atommem_gym.terminal import Column, Table, printable

MAX_PROBLEMS = 20
"""Malformed records that are listed for each file."""


_Dataset: TypeAlias = Literal[
    "hotpotqa", "2wikimultihopqa", "musique", "own", "locomo", "factconsolidation", "longmemeval"
]


@dataclass
class DataCheck:
    """Check files of records before you play them.

    Reads JSON, JSON Lines, Parquet and Arrow files to their end: records in the shape of HotpotQA, 2WikiMultiHopQA,
    MuSiQue, LoCoMo, FactConsolidation or LongMemEval, and records of your own (question, answer, documents). The exit
    status is 1 if a record is malformed, or if two splits share a context.

    Example: atommem data check train.jsonl validation.jsonl
    """

    paths: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH…")]
    """Files or folders. Several splits of one data set are compared with each other."""
    dataset: Annotated[_Dataset | None, tyro.conf.arg(metavar="NAME")] = None
    """The data set, if the first records of the files do not show it."""

    def run(self) -> int:
        """Print the report; the exit status."""
        if not self.paths:
            raise ConfigError("no PATH given; name files or folders of records, as in: atommem data check dev.json")
        report = audit(self.paths, self.dataset)
        console = output()
        console.print(_table(report))
        for part in report.parts:
            if not part.records and not part.malformed:
                console.print(Text(printable(f"{part.name}: there are no records; is the file complete?"), "bold red"))
            _print_list(console, f"{part.name}: malformed records", part.malformed, "red")
            _print_list(console, f"{part.name}: ids that occur twice", part.duplicate_ids, "yellow")
            title = f"{part.name}: gold titles over several texts as likely; the earliest is taken as gold"
            _print_list(console, title, part.undecided_namesakes, "yellow")
            _print_list(console, f"{part.name}: evidence that names nothing", part.unresolved, "yellow")
            _print_list(console, f"{part.name}: labels that contradict each other", part.contradictory, "yellow")
        for (one, other), names in report.shared_contexts.items():
            _print_list(console, f"{one} and {other} share contexts", names, "red")
        for (one, other), shared in report.shared_documents.items():
            style = "yellow" if shared else ""
            console.print(
                Text(printable(f"{one} and {other} share {counted(shared, 'document')}"), style), soft_wrap=True
            )
        verdict = ("all records are well-formed", "green") if report.ok else ("not all records can be used", "red")
        console.print(Text(*verdict))
        return 0 if report.ok else 1


@dataclass
class Data:
    """Check record files, or write training data for veRL or SkyRL."""

    command: Annotated[
        Annotated[DataCheck, subcommand("check")]
        | Annotated[DataVerl, subcommand("verl")]
        | Annotated[DataSkyRL, subcommand("skyrl")],
        tyro.conf.arg(name=""),
    ]
    """The subcommand."""

    def run(self) -> int:
        """Run the subcommand; the exit status."""
        return self.command.run()


def _table(report: Audit) -> Table:
    """One column a file, since there are few files and many facts."""
    table = Table([Column("", kind="words"), *(Column(printable(p.name), "right") for p in report.parts)], "Records")
    columns = [_facts(part) for part in report.parts]
    for name in dict.fromkeys(name for column in columns for name in column):
        table.add_row(name, *(column.get(name, "") for column in columns))
    return table


def _facts(part: Part) -> dict[str, str]:
    return {
        "data set": part.dataset or "unknown",
        "records": f"{part.records:,}",
        "malformed": f"{len(part.malformed):,}",
        "ids that occur twice": f"{len(part.duplicate_ids):,}",
        "question types": "\n".join(f"{name}: {count:,}" for name, count in part.types.most_common()),
        "gold documents": "\n".join(f"{gold}: {count:,}" for gold, count in sorted(part.gold.items())),
        "documents": f"{part.documents:,}",
        "distinct documents": f"{part.distinct_documents:,}",
        "evidence: sentences": f"{part.evidence_sentences:,}",
        "evidence: paragraphs": f"{part.evidence_paragraphs:,}",
        "evidence without hop answer": f"{part.no_hop_answer:,}",
        "distractor like gold (left out)": f"{len(part.gold_title_shared):,}",
        "gold title over several texts": f"{len(part.gold_namesakes):,}",
        "  not decided by the record": f"{len(part.undecided_namesakes):,}",
        "answer not in gold documents": f"{len(part.answer_not_in_gold):,}",
        **({} if not part.contexts else _context_facts(part)),
    }


def _context_facts(part: Part) -> dict[str, str]:
    return {
        "contexts": f"{len(part.contexts):,}",
        "sessions a context": f"{min(part.contexts.values())} to {max(part.contexts.values())}",
        "questions without answer": f"{part.unanswerable:,}",
        "questions without evidence": f"{part.no_evidence:,}",
        "evidence that names nothing": f"{len(part.unresolved):,}",
        "contradictory labels": f"{len(part.contradictory):,}",
    }


def _print_list(console: Console, title: str, lines: Sequence[str], style: str) -> None:
    if not lines:
        return
    console.print(Text(printable(title), style=f"bold {style}"))
    for line in lines[:MAX_PROBLEMS]:
        console.print(Text(printable(line, 400), style), soft_wrap=True)
    if len(lines) > MAX_PROBLEMS:
        console.print(Text(f"… and {len(lines) - MAX_PROBLEMS:,} more", style))
