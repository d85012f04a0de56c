"""How many documents of each data set an embedder reads in part only, as the environment limits them and otherwise.

    python benchmarks/embedded_in_part.py                    # MiniLM; some minutes, tokenizers alone are at work
    python benchmarks/embedded_in_part.py --embedder BAAI/bge-small-en-v1.5

A limit of the environment counts its own tokens (``tokenizer="words"``), an embedder its pieces, and neither knows the
other's. Counted are title and text of every document once, as one entry, which is cut to a limit as ``create`` cuts it.
Data sets are found as by ``benchmarks/leaderboard.py``. Needs the extra ``embed``.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from leaderboard import ROOT, SPLIT, find_sources
from reports.machine import provenance
from rich.console import Console

from atommem_gym.config import EnvConfig
from atommem_gym.embedders.loading import load_embedder
from atommem_gym.embedders.sentence_embedder import SentenceEmbedder
from atommem_gym.errors import AtomMemError, ConfigError
from atommem_gym.records.sources import load_split
from atommem_gym.registration import TASKS
from atommem_gym.tokenizers import Tokenizer, load_tokenizer


@dataclass
class Options:
    """Count what is embedded in part, and write a table."""

    source: Annotated[tuple[str, ...], tyro.conf.arg(metavar="DATASET=PATH…")] = ()
    """Record files to use instead of the data folder's."""
    embedder: str = "minilm"
    """A sentence-transformers model."""
    limits: tuple[int, ...] = (EnvConfig().max_entry_tokens, 254)
    """Values of max_entry_tokens."""
    out: Path = ROOT / "benchmarks" / "results"
    """Folder of embedded_in_part.md."""


@dataclass(frozen=True, slots=True)
class Count:
    """Documents of one data set under one limit."""

    documents: int
    cut: int
    """Longer than the limit."""
    in_part: int
    """What the limit leaves is more than the embedder reads."""
    at_limit: int
    """Of ``in_part``, those that the limit had cut."""


def main(options: Options) -> int:
    """Count, write the table, and return the exit status."""
    console = Console(stderr=True, highlight=False)
    embedder = load_embedder(options.embedder).embedder
    if not isinstance(embedder, SentenceEmbedder):
        raise ConfigError(f"--embedder {options.embedder} has no tokenizer in this process; name a model")
    tokenizer = load_tokenizer(EnvConfig().tokenizer)
    lines = []
    with tempfile.TemporaryDirectory() as folder:
        for dataset, source in find_sources(options.source, Path(folder), console).items():
            texts = list(entries_of(dataset, source))
            name = next(task.name for task in TASKS.values() if task.dataset == dataset)
            for limit in options.limits:
                found = counted(texts, limit, tokenizer, embedder)
                lines.append(row(name, limit, found))
                console.print(lines[-1], markup=False)
    if lines:
        (options.out / "embedded_in_part.md").write_text(page(lines, options, embedder), encoding="utf-8")
    return 0


def entries_of(dataset: str, source: Path) -> Iterable[str]:
    """Title and text of every document of a file, each once."""
    split = load_split(dataset, str(source), SPLIT)
    documents = (document for i in range(len(split)) for document in split.record(i).documents)
    return dict.fromkeys(f"{document.title}\n{document.text}".strip() for document in documents)


def counted(texts: Sequence[str], limit: int, tokenizer: Tokenizer, embedder: SentenceEmbedder) -> Count:
    """How many texts an embedder reads in part, after each was cut to ``limit`` tokens."""
    cut = in_part = at_limit = 0
    for text in texts:
        kept = tokenizer.cut(text, limit)
        more = embedder.cut(kept, "document") != kept
        cut += kept != text
        in_part += more
        at_limit += more and kept != text
    return Count(len(texts), cut, in_part, at_limit)


def row(name: str, limit: int, found: Count) -> str:
    """A line of the table."""
    share, cut = found.in_part / found.documents, found.cut / found.documents
    of_cut = f"{found.at_limit / found.cut:.0%}" if found.cut else "–"
    return f"| {name} | {found.documents:,} | {limit} | {cut:.1%} | {share:.1%} | {of_cut} |"


def page(lines: Sequence[str], options: Options, embedder: SentenceEmbedder) -> str:
    """The table with what it means."""
    command = "python benchmarks/embedded_in_part.py"
    if options.embedder != "minilm":
        command += f" --embedder {options.embedder}"
    made = provenance(command, ("atommem-gym", "sentence-transformers", "transformers"))
    return "\n".join(
        [
            "# What an embedder does not read",
            "",
            f"`{options.embedder}` reads {embedder.max_tokens} of its own tokens of a text. A document, title and text "
            "in one entry, is cut to `max_entry_tokens` (tokens of the tokenizer `words`) and kept whole; "
            "the embedder may read less of it. Then a read finds the entry by its beginning alone, and the create is "
            "reported with the reason `embedded_in_part`.",
            "",
            f"{made['date']} · {made['cpu']} · Python {made['python']} · {made['versions']} · `{made['command']}`",
            "",
            "| data set | documents | `max_entry_tokens` | cut to it | embedded in part | of those cut to it |",
            "|---|--:|--:|--:|--:|--:|",
            *lines,
            "",
        ]
    )


if __name__ == "__main__":
    try:
        sys.exit(main(tyro.cli(Options)))
    except AtomMemError as error:
        sys.exit(f"error: {error}")
