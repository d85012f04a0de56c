"""Writes training examples in the formats of trainers: Parquet for veRL, JSONL for TRL, plain chat JSONL."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, TextIO

import pyarrow as pa
import pyarrow.parquet as pq

import atommem_gym
from atommem_gym.errors import ConfigError, check_choice, counted, reason_of
from atommem_gym.traces.files import read_traces
from atommem_gym.traces.record import EpisodeTrace, TraceError
from atommem_gym.traces.training.sft import Example, Selection, Tally, examples
from atommem_gym.traces.training.splits import components, dev_part, ties

Format = Literal["verl", "trl", "messages"]
FORMATS: tuple[Format, ...] = ("verl", "trl", "messages")
_MESSAGES = pa.list_(pa.struct({"role": pa.string(), "content": pa.string()}))
_ABOUT = ("item", "agent", "step", "phase", "question", "score")
VERL_SCHEMA = pa.schema(
    {
        "messages": _MESSAGES,
        "item": pa.string(),
        "agent": pa.string(),
        "step": pa.int64(),
        "phase": pa.string(),
        "question": pa.int64(),
        "score": pa.float64(),
    }
)
"""The columns for ``verl.utils.dataset.multiturn_sft_dataset.MultiTurnSFTDataset`` (0.9), which reads a list of
``{role, content}`` in ``messages`` and ignores the others."""
_GROUP_ROWS = 256


@dataclass(frozen=True, slots=True)
class Exported:
    """The result of :func:`export`."""

    train: int
    """Number of training examples."""
    dev: int
    """Number of dev examples."""
    components: int
    """Groups of episodes that share a question, a gold document or a context; none is split."""
    dev_documents_in_train: int
    """Gold documents of dev that are distractors in train: seen there, but never needed."""
    tally: Tally
    """How many steps became examples."""
    files: tuple[Path, ...]
    """The files that were written."""


def export(
    sources: Sequence[Path],
    folder: Path,
    form: Format = "verl",
    selection: Selection = Selection(),  # noqa: B008  (frozen)
    *,
    dev_share: float = 0.1,
    seed: int = 0,
) -> Exported:
    """Write the files ``train`` and ``dev``, and ``export.json``, which says how they were made.

    The traces are read twice, once to split the episodes and once to write, so memory stays bounded.

    Args:
        sources: Trace files.
        folder: The folder to write to; it is made if needed. Files of an earlier export are replaced.
        form: ``verl`` (Parquet with ``messages``), ``trl`` (JSONL with conversational ``prompt`` and ``completion``,
            of which TRL trains the completion only) or ``messages`` (JSONL with ``messages``).
        selection: Which steps become examples.
        dev_share: Approximate share of the examples in dev; 0 for none.
        seed: The seed of the split.

    Raises:
        TraceError: a file cannot be read or written, or the selection leaves no step.
        ConfigError: an argument is out of its range.
    """
    check_choice("format", form, FORMATS)
    if not 0 <= dev_share < 1:
        raise ConfigError(f"dev_share={dev_share} must be at least 0 and below 1")
    for name in ("threshold", "reading_share"):
        if not 0 <= getattr(selection, name) <= 1:
            raise ConfigError(f"{name}={getattr(selection, name)} must be in [0, 1]")
    tally = Tally()
    tied, sizes = [], []
    for trace in _read(sources):
        tied.append(ties(trace))
        sizes.append(sum(1 for _ in examples(trace, selection, tally)))
    if not sum(sizes):
        reasons = ", ".join(f"{reason}: {count}" for reason, count in tally.dropped.most_common()) or "no steps at all"
        raise TraceError(
            f"no step of {counted(tally.episodes, 'episode')} is left to train on ({reasons}); lower the threshold?"
        )
    in_dev = dev_part(tied, sizes, dev_share, seed)
    exported = _write(sources, folder, form, selection, tied, in_dev, tally)
    about = {
        "format": form,
        "atommem_gym": atommem_gym.__version__,
        "sources": [path.name for path in sources],
        "selection": {**asdict(selection), "template": None if selection.template is None else str(selection.template)},
        "dev_share": dev_share,
        "seed": seed,
        "train": exported.train,
        "dev": exported.dev,
        "components": exported.components,
        "dev_documents_in_train": exported.dev_documents_in_train,
        "tally": {
            "episodes": tally.episodes,
            "steps": tally.steps,
            "kept": dict(tally.kept),
            "silent": tally.silent,
            "dropped": dict(tally.dropped),
            "unstripped": tally.unstripped,
        },
    }
    (folder / "export.json").write_text(json.dumps(about, indent=1) + "\n", encoding="ascii")
    return exported


def row(example: Example, form: Format) -> dict[str, Any]:
    """An example as a row of a file in the format ``form``.

    >>> example = Example([{"role": "user", "content": "Who?"}], "Ada", "i", "a", 1, "answering", 0, 1.0)
    >>> row(example, "trl")
    {'prompt': [{'role': 'user', 'content': 'Who?'}], 'completion': [{'role': 'assistant', 'content': 'Ada'}]}
    """
    if form == "trl":
        # No other columns: TRL would pass them to the chat template.
        return {"prompt": example.prompt, "completion": [{"role": "assistant", "content": example.response}]}
    return {"messages": example.messages, **{name: getattr(example, name) for name in _ABOUT}}


class RowWriter:
    """Writes rows to a temporary file, which is moved into place when all are written."""

    def __init__(self, path: Path, form: Format) -> None:
        self._path = path
        self._partial = path.with_name(f".partial-{path.name}")
        self._form = form
        self._rows: list[dict[str, Any]] = []
        self.rows = 0
        self._table: pq.ParquetWriter | None = None
        self._text: TextIO | None = None
        if form == "verl":
            self._table = pq.ParquetWriter(self._partial, VERL_SCHEMA, compression="zstd")
        else:
            self._text = open(self._partial, "w", encoding="ascii", newline="\n")  # noqa: SIM115

    def write(self, example: Example) -> None:
        """Add an example."""
        self.rows += 1
        if self._text is not None:
            self._text.write(json.dumps(row(example, self._form)) + "\n")
            return
        self._rows.append(row(example, self._form))
        if len(self._rows) >= _GROUP_ROWS:
            self._flush()

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._table is not None:
            self._flush()
            self._table.close()
        if self._text is not None:
            self._text.close()
        if kind is None:
            os.replace(self._partial, self._path)
        else:
            self._partial.unlink(missing_ok=True)

    def _flush(self) -> None:
        if self._rows and self._table is not None:
            self._table.write_table(pa.Table.from_pylist(self._rows, VERL_SCHEMA))
        self._rows = []


def _write(
    sources: Sequence[Path],
    folder: Path,
    form: Format,
    selection: Selection,
    tied: Sequence[tuple[tuple[str, str], ...]],
    in_dev: Sequence[bool],
    tally: Tally,
) -> Exported:
    suffix = "parquet" if form == "verl" else "jsonl"
    paths = (folder / f"train.{suffix}", folder / f"dev.{suffix}")
    gold = {name for own, dev in zip(tied, in_dev, strict=True) if dev for kind, name in own if kind == "document"}
    seen: set[str] = set()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(RowWriter(path, form)) for path in paths]
            for trace, dev in zip(_read(sources), in_dev, strict=True):
                before = writers[dev].rows
                for example in examples(trace, selection, Tally()):
                    writers[dev].write(example)
                if not dev and writers[dev].rows > before:
                    seen.update(gold.intersection(title.strip() for title in trace.documents))
    except OSError as error:
        raise TraceError(f"{folder} cannot be written ({reason_of(error)}); name another folder") from error
    return Exported(
        writers[0].rows, writers[1].rows, len(set(components(tied))), len(seen), tally, (*paths, folder / "export.json")
    )


def _read(sources: Iterable[Path]) -> Iterator[EpisodeTrace]:
    return chain.from_iterable(map(read_traces, sources))
