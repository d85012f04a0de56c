"""Recognises files of traces by the beginning of their first line."""

from __future__ import annotations

import re
from pathlib import Path

from atommem_gym.traces.record import READ_VERSIONS, TRACE_VERSION, TraceError

_HEAD = re.compile(rb'\s*\{\s*"version"\s*:\s*(\d+)')
_START = b'{"version":'


def check_head(path: Path, head: bytes) -> None:
    """Refuse a file that does not hold traces, before anything is appended to it or cut.

    Args:
        path: The file, for messages.
        head: Its first bytes.

    Raises:
        TraceError: it holds something else, or traces of another version.
    """
    found = _HEAD.match(head)
    if found is not None and int(found[1]) not in READ_VERSIONS:
        raise TraceError(
            f"{path} holds records of version {int(found[1])}, this package writes version "
            f"{TRACE_VERSION}; name another file"
        )
    if found is None and head.strip() and not _START.startswith(head[: len(_START)]):
        raise TraceError(f"{path} holds something else than records of episodes; name another file")
