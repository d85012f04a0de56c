"""Writes traces as one self-contained HTML page: compressed data, a small index, and a script without dependencies."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import IO

from atommem_gym.errors import AtomMemError, reason_of
from atommem_gym.traces.causes import evidence_fates
from atommem_gym.traces.codec import to_json
from atommem_gym.traces.files import read_traces
from atommem_gym.traces.record import EpisodeTrace, TraceError
from atommem_gym.viewer.shared_texts import SharedTexts
from atommem_gym.viewer.summary import Json, detail, row

EMBEDDED, SERVED = "embedded.js", "served.js"
"""How the script comes by its data: they stand in the page, or a server of this machine has them."""
SCRIPTS = (
    *("dom.js", "data.js", "marks.js", "journey.js", "list.js", "counterfactual.js", "episode.js", "step.js"),
    *("markdown.js", "front.js", "training.js", "sides.js", "app.js"),
)
"""The other parts of the page's script in the order in which they are joined."""
MEBIBYTE = 1 << 20
_CONNECT = "connect-src 'self'; "
_LEVEL = 6
"""Of zlib: higher ones take several times as long for a few percent."""
# Only these could end a script element or begin something else; json.dumps has escaped all that is not ASCII.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


@dataclass(frozen=True, slots=True)
class PageSize:
    """What went into a page."""

    episodes: int
    """The number of episodes."""
    steps: int
    """Their steps."""
    trace_bytes: int
    """Of the compact JSON of all traces."""
    page_bytes: int
    """Bytes of the page."""


@dataclass(frozen=True, slots=True)
class PageRun:
    """Episodes that belong together: of an evaluation, a training or a file."""

    name: str
    """Tells it from the other runs of the page."""
    traces: Path | None = None
    """Its file of traces, if it has one."""
    about: Mapping[str, Json] = field(default_factory=dict)
    """What stands in front: the texts ``plan`` (YAML) and ``report`` (Markdown), and ``notices``, a list of texts."""
    plots: Mapping[str, bytes] = field(default_factory=dict)
    """PNG files by name."""
    envs: Sequence[tuple[str, Mapping[str, Json], str]] = ()
    """What the run calls its environments: id, keyword arguments, label."""
    counterfactuals: Mapping[int, Sequence[Json]] = field(default_factory=dict)
    """By an episode's place in the file: what its operations were worth, see ``atommem_gym.viewer.counterfactual``."""

    def row(self, trace: Mapping[str, Json], number: int, place: int) -> dict[str, Json]:
        """The row of one of its episodes.

        Args:
            trace: The record, or those of its fields that a row needs.
            number: The run's place in the page.
            place: The episode's in the file of the run.
        """
        with _damage_told(trace):
            shown = row(trace)
        label = self._label(trace["env"]["id"], trace["env"]["keywords"])
        return {**shown, "run": number, "label": label, "valued": place in self.counterfactuals}

    def detail(
        self, record: EpisodeTrace, trace: Mapping[str, Json], place: int, share: Callable[[str], Json]
    ) -> dict[str, Json]:
        """What is shown of one of its episodes once it is chosen.

        Args:
            record: The record.
            trace: The record as JSON values.
            place: The episode's in the file of the run.
            share: Replaces a text by what stands for it in the page.

        Raises:
            TraceError: it is a record by its form, and lacks what every played episode has.
        """
        with _damage_told(trace):
            shown = {**detail(trace, share), "fates": [list(one) for one in evidence_fates(record)]}
        return {**shown, "counterfactuals": self.counterfactuals.get(place, ())}

    def _label(self, env_id: str, keywords: Mapping[str, Json]) -> str:
        """That of the environment with the most keyword arguments of which the episode has all."""
        fitting = [
            (len(known), label)
            for one, known, label in self.envs
            if one == env_id and all(name in keywords and keywords[name] == known[name] for name in known)
        ]
        return max(fitting)[1] if fitting else env_id

    def front(self) -> dict[str, Json]:
        """What is shown of it as a whole."""
        return {"name": self.name, **self.about, "plots": list(self.plots)}


def write_page(traces: Iterable[EpisodeTrace], path: str | Path, *, title: str = "atommem traces") -> PageSize:
    """Write the page; traces are read one at a time, so that memory stays bounded by the largest.

    Args:
        traces: As ``read_traces`` gives them.
        path: The page. It appears whole or not at all.
        title: Shown in the page's title.

    Raises:
        AtomMemError: there is no trace, or the page cannot be written.
    """
    run = PageRun("")
    return _write_file(Path(path), ((run, 0, trace) for trace in traces), _Shell(title, (run,)))


def write_runs(
    runs: Sequence[PageRun],
    path: str | Path,
    *,
    title: str,
    fronts: Mapping[str, Json] | None = None,
    most_bytes: int | None = None,
    remedy: str = "look at it with --serve, which loads what is looked at, or allow more with --limit-mib",
) -> PageSize:
    """Write a page over several runs, with what is known of each in front.

    Args:
        runs: Their files of traces are read one after the other.
        path: The page. It appears whole or not at all.
        title: Shown in the page's title.
        fronts: What else stands in front, by name: ``comparison`` or ``training``; with a ``-`` in its name what these
            ask for.
        most_bytes: A page that would be larger is not written.
        remedy: What the user may do about that.

    Raises:
        AtomMemError: there is nothing to show, the page would be too large, or it cannot be written.
    """
    episodes = (
        (run, number, trace)
        for number, run in enumerate(runs)
        if run.traces is not None
        for trace in read_traces(run.traces)
    )
    return _write_file(Path(path), episodes, _Shell(title, tuple(runs), fronts or {}, most_bytes, remedy))


@dataclass(frozen=True, slots=True)
class _Shell:
    """What a page has besides its episodes."""

    title: str
    runs: tuple[PageRun, ...]
    fronts: Mapping[str, Json] = field(default_factory=dict)
    most_bytes: int | None = None
    remedy: str = ""

    def check_size(self, size: int, episodes: int) -> None:
        """Refuse a page that has become too large with so many episodes."""
        if self.most_bytes is not None and size > self.most_bytes:
            raise AtomMemError(
                f"the page would have more than {self.most_bytes / MEBIBYTE:.3g} MiB (so much after {episodes:,} "
                f"episodes); {self.remedy}"
            )

    @property
    def has_front(self) -> bool:
        return bool(self.fronts) or any(run.about or run.plots for run in self.runs)


def _write_file(
    path: Path,
    episodes: Iterable[tuple[PageRun, int, EpisodeTrace]],
    shell: _Shell,
) -> PageSize:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with draft.open("w", encoding="utf-8", newline="\n") as out:
                count, steps, trace_bytes = _write(out, episodes, shell)
            if not count and not shell.has_front:
                raise AtomMemError("there is no episode to show; write traces first, e.g. with atommem eval")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise AtomMemError(f"the page {path} cannot be written ({reason_of(error)}); name another file") from error
    return PageSize(count, steps, trace_bytes, path.stat().st_size)


def _write(
    out: IO[str],
    episodes: Iterable[tuple[PageRun, int, EpisodeTrace]],
    shell: _Shell,
) -> tuple[int, int, int]:
    script = script_text(EMBEDDED)
    out.write(page_head(shell.title, script, connect=False))
    blocks = 0

    def write_block(pieces: list[str]) -> None:
        nonlocal blocks
        _write_packed(out, f"texts-{blocks}", pieces)
        blocks += 1

    rows: list[dict[str, Json]] = []
    texts, steps, trace_bytes = SharedTexts(write_block), 0, 0
    places: Counter[int] = Counter()
    for run, number, record in episodes:
        trace, place = to_json(record), places[number]
        places[number] += 1
        _write_packed(out, f"episode-{len(rows)}", run.detail(record, trace, place, texts.split))
        rows.append(run.row(trace, number, place))
        steps += len(trace["steps"])
        trace_bytes += len(ascii_json(trace))
        shell.check_size(out.tell(), len(rows))
    texts.close()
    for name, value in shell.fronts.items():
        _write_packed(out, f"front-{name}", value)
    for number, run in enumerate(shell.runs):
        if run.about or run.plots:
            _write_packed(out, f"run-{number}", run.front())
        for place, image in enumerate(run.plots.values()):
            _write_data(out, f"plot-{number}-{place}", image)
    index = {**page_index(shell.title, shell.runs, shell.fronts, rows), "firsts": texts.firsts}
    out.write(f'<script type="application/json" id="index">{embeddable(index)}</script>\n')
    out.write(f"<script>{script}</script>\n</body>\n</html>\n")
    shell.check_size(out.tell(), len(rows))
    return len(rows), steps, trace_bytes


def page_index(
    title: str, runs: Sequence[PageRun], fronts: Mapping[str, Json], rows: Sequence[Mapping[str, Json]]
) -> dict[str, Json]:
    """What the script reads at once: a row an episode, and what else there is to ask for."""
    return {
        "title": title,
        "runs": [{"name": run.name, "front": bool(run.about or run.plots)} for run in runs],
        "fronts": [name for name in fronts if "-" not in name],
        "episodes": rows,
    }


@contextlib.contextmanager
def _damage_told(trace: Mapping[str, Json]) -> Iterator[None]:
    try:
        yield
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise TraceError(
            f"the record of item {trace.get('item')!r} lacks what every played episode has ({type(error).__name__}: "
            f"{error}); leave it out, or play the episode again"
        ) from error


def page_head(title: str, script: str, *, connect: bool) -> str:
    """The page up to its data: the policy that lets this one script and this one style work, and the skeleton.

    Args:
        title: Shown in the browser's tab.
        script: What alone may run.
        connect: Whether it may ask the server that the page comes from.
    """
    style = _part("viewer.css")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; img-src blob:; "
        f"{_CONNECT if connect else ''}base-uri 'none'; form-action 'none'"
    )
    return (
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{_part('skeleton.html')}"
    )


def embeddable(value: object) -> str:
    r"""JSON that nothing in it can end the script element around.

    >>> embeddable("</script><!-- & \u2028")
    '"\\u003c/script\\u003e\\u003c!-- \\u0026 \\u2028"'
    """
    return ascii_json(value).translate(_ESCAPES)


def ascii_json(value: object) -> str:
    """Compact JSON in ASCII."""
    # ASCII: lone surrogates survive as escapes, and a character is a byte.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def packed(value: object) -> bytes:
    """JSON, deflated: what the script unpacks."""
    return zlib.compress(ascii_json(value).encode("ascii"), _LEVEL)


def _write_packed(out: IO[str], name: str, value: object) -> None:
    _write_data(out, name, packed(value))


def _write_data(out: IO[str], name: str, data: bytes) -> None:
    """A data block in base64, which has no character that HTML minds."""
    out.write(f'<script type="text/plain" id="{name}">{base64.b64encode(data).decode("ascii")}</script>\n')


def script_text(source: str) -> str:
    """The page's script, with its data from ``EMBEDDED`` or ``SERVED``."""
    body = "\n".join(_part(name) for name in (source, *SCRIPTS))
    return f'(() => {{\n"use strict";\n{body}\n}})();\n'


def _part(name: str) -> str:
    """A file of the page; one place where they are read, so that the hashes are those of what is written."""
    return files("atommem_gym.viewer").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"sha256-{base64.b64encode(hashlib.sha256(text.encode('utf-8')).digest()).decode('ascii')}"


def _text(text: str) -> str:
    """A text as HTML in ASCII."""
    safe = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}
    return "".join(safe.get(c) or (c if " " <= c <= "~" else f"&#{ord(c)};") for c in text)
