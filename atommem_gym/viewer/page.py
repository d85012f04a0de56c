"""Writes traces as one self-contained HTML page: compressed data, a small index, and a script without dependencies."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import IO

from atommem_gym.errors import AtomMemError
from atommem_gym.traces.causes import evidence_fates
from atommem_gym.traces.codec import to_json
from atommem_gym.traces.record import EpisodeTrace
from atommem_gym.viewer.shared_texts import SharedTexts
from atommem_gym.viewer.summary import detail, row

SCRIPTS = ("dom.js", "data.js", "marks.js", "journey.js", "list.js", "episode.js", "step.js", "app.js")
"""The parts of the page's script in the order in which they are joined."""
_LEVEL = 6
"""Of zlib: higher ones take several times as long for a few percent."""
# Only these could end a script element or begin something else; json.dumps has escaped all that is not ASCII.
_ESCAPES = {ord("<"): "\\u003c", ord(">"): "\\u003e", ord("&"): "\\u0026"}


@dataclass(frozen=True, slots=True)
class PageSize:
    """What went into a page."""

    episodes: int
    steps: int
    trace_bytes: int
    """Of the compact JSON of all traces."""
    page_bytes: int


def write_page(traces: Iterable[EpisodeTrace], path: str | Path, *, title: str = "atommem traces") -> PageSize:
    """Write the page; traces are read one at a time, so that memory stays bounded by the largest.

    Args:
        traces: As ``read_traces`` gives them.
        path: The page. It appears whole or not at all.
        title: Shown in the page's title.

    Raises:
        AtomMemError: there is no trace, or the page cannot be written.
    """
    path = Path(path)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        try:
            with draft.open("w", encoding="utf-8", newline="\n") as out:
                episodes, steps, trace_bytes = _write(out, traces, title)
            if not episodes:
                raise AtomMemError("there is no episode to show; write traces first, e.g. with atommem eval")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as error:
        raise AtomMemError(
            f"the page {path} cannot be written ({error.strerror}); name another file with -o"
        ) from error
    return PageSize(episodes, steps, trace_bytes, path.stat().st_size)


def _write(out: IO[str], traces: Iterable[EpisodeTrace], title: str) -> tuple[int, int, int]:
    style, script, skeleton = _part("viewer.css"), _script(), _part("skeleton.html")
    policy = (
        f"default-src 'none'; script-src '{_digest(script)}'; style-src '{_digest(style)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    out.write(
        "<!doctype html>\n"
        '<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f"<title>{_text(title)}</title>\n<style>{style}</style>\n</head>\n<body>\n{skeleton}"
    )
    blocks = 0

    def write_block(pieces: list[str]) -> None:
        nonlocal blocks
        _write_packed(out, f"texts-{blocks}", pieces)
        blocks += 1

    texts, rows, steps, trace_bytes = SharedTexts(write_block), [], 0, 0
    for number, record in enumerate(traces):
        trace = to_json(record)
        rows.append(row(trace))
        fates = [list(one) for one in evidence_fates(record)]
        _write_packed(out, f"episode-{number}", detail(trace, texts.split) | {"fates": fates})
        steps += len(trace["steps"])
        trace_bytes += len(_ascii_json(trace))
    texts.close()
    index = {"title": title, "episodes": rows, "firsts": texts.firsts}
    out.write(f'<script type="application/json" id="index">{embeddable(index)}</script>\n')
    out.write(f"<script>{script}</script>\n</body>\n</html>\n")
    return len(rows), steps, trace_bytes


def embeddable(value: object) -> str:
    r"""JSON that nothing in it can end the script element around.

    >>> embeddable("</script><!-- & \u2028")
    '"\\u003c/script\\u003e\\u003c!-- \\u0026 \\u2028"'
    """
    return _ascii_json(value).translate(_ESCAPES)


def _ascii_json(value: object) -> str:
    # ASCII: lone surrogates survive as escapes, and a character is a byte.
    return json.dumps(value, ensure_ascii=True, separators=(",", ":"))


def _write_packed(out: IO[str], name: str, value: object) -> None:
    """A data block: JSON, deflated, in base64, which has no character that HTML minds."""
    packed = base64.b64encode(zlib.compress(_ascii_json(value).encode("ascii"), _LEVEL)).decode("ascii")
    out.write(f'<script type="text/plain" id="{name}">{packed}</script>\n')


def _script() -> str:
    body = "\n".join(_part(name) for name in SCRIPTS)
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
