"""The episodes of a served page: rows of all, and any one of them when it is asked for."""

from __future__ import annotations

import json
import re
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from atommem_gym.errors import AtomMemError, reason_of
from atommem_gym.traces.codec import dumps, loads, to_json
from atommem_gym.traces.files import existing, read_traces, suffix
from atommem_gym.traces.record import TraceError
from atommem_gym.viewer.heads import head
from atommem_gym.viewer.page import (
    SERVED,
    PageRun,
    embeddable,
    packed,
    page_head,
    page_index,
    script_text,
)
from atommem_gym.viewer.summary import Json

_BLOCK = re.compile(r"(episode|run|plot|front)-([a-z]+|[0-9]{1,9})(?:-([0-9]{1,16}))?")


@dataclass
class _File:
    """Records as lines of a file that can be read from any byte on."""

    path: Path
    """What the user named."""
    lines: IO[bytes]
    """That file, or where its records were unpacked to."""
    end: int = 0
    """How far it has been read."""
    spans: list[tuple[int, int]] = field(default_factory=list)
    """First byte and length of each record."""

    def read(self, number: int) -> bytes:
        start, length = self.spans[number]
        self.lines.seek(start)
        return self.lines.read(length)


class Library:
    """What a served page shows, read from its files as it is asked for.

    The first look reads every record once, but of each only what its row needs. A compressed file or one of Parquet is
    unpacked into a temporary one, since it cannot be read from its middle on. A ``.jsonl`` file may still grow:
    :meth:`refresh` reads on where the last look ended.

    Args:
        runs: What is shown.
        title: Of the page.
        fronts: Makes what else stands in front, anew at every look: a run may still be going on.

    Raises:
        TraceError: a file is missing or holds something else than records.
        AtomMemError: there is nothing to show.
    """

    def __init__(
        self,
        runs: Sequence[PageRun],
        title: str,
        fronts: Callable[[], Mapping[str, Json]] = dict,
    ) -> None:
        self.runs = tuple(runs)
        self.title = title
        self.rows: list[dict[str, Json]] = []
        self._fronts = fronts
        self._shown: Mapping[str, Json] = {}
        self._files = [None if run.traces is None else _opened(run.traces) for run in self.runs]
        self._where: list[tuple[_File, int]] = []
        # Requests come from several threads, and a file has one place at which it is read.
        self._lock = threading.Lock()
        self.refresh()
        if not self.rows and not self._shown and not any(run.about or run.plots for run in self.runs):
            raise AtomMemError("there is no episode to show; write traces first, e.g. with atommem eval")

    def refresh(self) -> None:
        """Look for records that were written since the last look."""
        with self._lock:
            self._shown = self._fronts()
            for number, (run, file) in enumerate(zip(self.runs, self._files, strict=True)):
                if file is None:
                    continue
                for line in _new_lines(file):
                    place = len(file.spans)
                    self.rows.append(run.row(head(line, f"{file.path}, record {place + 1}"), number, place))
                    self._where.append((file, place))

    def page(self) -> str:
        """The page: script, style and the rows of all episodes."""
        with self._lock:
            index = page_index(self.title, self.runs, self._shown, self.rows)
            text = embeddable({**index, "firsts": []})
        script = script_text(SERVED)
        return (
            f"{page_head(self.title, script, connect=True)}"
            f'<script type="application/json" id="index">{text}</script>\n<script>{script}</script>\n</body>\n</html>\n'
        )

    def block(self, name: str) -> bytes | None:
        """A block of data as the script asks for it, ``None`` if there is none of this name.

        Raises:
            TraceError: the record of an episode is damaged.
        """
        found = _BLOCK.fullmatch(name)
        if found is None:
            return None
        kind, one, other = found.groups()
        if kind == "front":
            key = one if other is None else f"{one}-{other}"
            return packed(self._shown[key]) if key in self._shown else None
        if not one.isdigit():
            return None
        if kind == "episode":
            return self._episode(int(one)) if int(one) < len(self.rows) else None
        if int(one) >= len(self.runs):
            return None
        run = self.runs[int(one)]
        if kind == "run":
            return packed(run.front())
        images = list(run.plots.values())
        return images[int(other)] if other is not None and int(other) < len(images) else None

    def close(self) -> None:
        """Close all files; temporary ones are removed."""
        for file in self._files:
            if file is not None:
                file.lines.close()

    def _episode(self, number: int) -> bytes:
        with self._lock:
            file, place = self._where[number]
            line = file.read(place)
        record = loads(line, f"{file.path}, record {place + 1}")
        run = self.runs[self.rows[number]["run"]]
        return packed(run.detail(record, to_json(record), place, lambda text: text))


def _opened(path: Path) -> _File:
    if suffix(existing(path)) != ".jsonl":
        spool = tempfile.TemporaryFile()  # noqa: SIM115  (the library closes it)
        for record in read_traces(path):
            spool.write(f"{dumps(record)}\n".encode("ascii"))
        return _File(path, spool)
    try:
        return _File(path, path.open("rb"))
    except OSError as error:
        raise TraceError(
            f"{path} cannot be read ({reason_of(error)}); `atommem eval` and RecordTraces write traces"
        ) from error


def _new_lines(file: _File) -> Iterator[bytes]:
    """The whole records after those that were read; a last one that is being written waits for the next look.

    So does one that whoever asks for it cannot read: each look ends there and says so.
    """
    file.lines.seek(file.end)
    for line in iter(file.lines.readline, b""):
        if not line.endswith(b"\n") and not _is_json(line):
            return
        if line.strip():
            yield line
            file.spans.append((file.end, len(line)))
        file.end += len(line)


def _is_json(line: bytes) -> bool:
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return False
    return True
