"""Commands print on systems whose encoding is not UTF-8: nothing raises, and nothing is lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from atommem_gym.terminal import console, make_streams_encodable

RULE = "──── ümlaut"


def atommem(*arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, "PYTHONIOENCODING": encoding}
    return subprocess.run(
        [sys.executable, "-m", "atommem_gym", *arguments], capture_output=True, env=environment, check=False
    )


@pytest.mark.parametrize("encoding", ["cp1252", "ascii"])
def test_a_table_goes_into_a_pipe_of_a_code_page(encoding: str) -> None:
    done = atommem("envs", encoding=encoding)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.decode(encoding)
    assert "AtomMem-Drift-v0" in shown
    assert r"\u2500" in shown


def test_an_error_with_a_character_that_the_encoding_lacks_is_shown() -> None:
    done = atommem("tidý→", encoding="ascii")
    assert done.returncode == 2
    assert rb"\u2192" in done.stderr
    assert b"Traceback" not in done.stderr


class Stream(io.TextIOWrapper):
    """A pipe, or a terminal, with an encoding."""

    def __init__(self, encoding: str, *, terminal: bool = False, errors: str = "strict") -> None:
        self.written = io.BytesIO()
        self._terminal = terminal
        super().__init__(self.written, encoding=encoding, errors=errors)

    def isatty(self) -> bool:
        return self._terminal


def printed(stream: Stream, monkeypatch: pytest.MonkeyPatch, *, windows: bool) -> bytes:
    monkeypatch.setattr(console, "_CODE_PAGES", windows)
    monkeypatch.setattr(sys, "stdout", stream)
    make_streams_encodable()
    stream.write(RULE)
    stream.flush()
    return stream.written.getvalue()


def test_pipes_of_windows_get_utf_8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    assert printed(Stream("cp1252"), monkeypatch, windows=True).decode("utf-8") == RULE


def test_what_the_user_named_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONIOENCODING", "cp1252")
    assert printed(Stream("cp1252"), monkeypatch, windows=True) == rb"\u2500" * 4 + b" \xfcmlaut"


def test_a_terminal_keeps_its_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONIOENCODING", raising=False)
    terminal = Stream("cp1252", terminal=True)
    assert printed(terminal, monkeypatch, windows=True) == rb"\u2500" * 4 + b" \xfcmlaut"


def test_utf_8_and_rules_of_the_user_s_own_are_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = Stream("UTF8")
    assert printed(stream, monkeypatch, windows=False).decode("utf-8") == RULE
    assert stream.errors == "strict"
    replacing = Stream("ascii", errors="replace")
    assert printed(replacing, monkeypatch, windows=False) == b"???? ?mlaut"


def test_a_stream_that_is_gone_is_no_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    closed = (tmp_path / "out").open("w", encoding="ascii")
    closed.close()
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", closed)
    make_streams_encodable()
