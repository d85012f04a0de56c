"""Runs commands in real pseudo-terminals and in pipes, each in a forked child of one interpreter with all imported."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WAITS = b"q quit"
"""What is shown by a command that waits for a key."""
SECONDS = 300
"""After which a command is ended."""
_COLOURS = ("FORCE_COLOR", "CLICOLOR_FORCE", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "PY_COLORS", "COLUMNS")
_CONTROL = re.compile("\x1b\\[[0-9;?]*[A-Za-z]|\x1b[=>]")


@dataclass(frozen=True)
class Shown:
    """What a command wrote."""

    status: int
    raw: str
    """Every byte of standard output; of a terminal also those of standard error."""
    errors: str = ""
    """Standard error, where it is a pipe."""

    @property
    def lines(self) -> list[str]:
        """The lines without colours and movements of the cursor."""
        return re.split("\r\n|\r|\n", _CONTROL.sub("", self.raw))


class Commands:
    """An interpreter that waits for commands; a context manager."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8"
        )

    def __enter__(self) -> Commands:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()

    def run(
        self,
        arguments: Sequence[str],
        folder: Path,
        columns: int | None = None,
        rows: int = 24,
        keys: str = "",
        code: str = "",
        **variables: str,
    ) -> Shown:
        """Run a command.

        Args:
            arguments: After ``atommem``.
            folder: Where it runs.
            columns: Those of the terminal; ``None`` for pipes.
            rows: Those of the terminal.
            keys: What is typed.
            code: Python that runs in place of a command.
            **variables: Of the environment.
        """
        asked = {
            "arguments": list(arguments),
            "folder": str(folder),
            "size": columns and [rows, columns],
            "keys": keys,
            "code": code,
            "variables": variables,
        }
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        told = json.loads(self._process.stdout.readline())
        texts = [base64.b64decode(told[name]).decode("utf-8") for name in ("out", "err")]
        return Shown(told["status"], *texts)


def _serve() -> None:
    # What commands import when they need it takes most of their time.
    import matplotlib.figure
    import milvus_lite
    import pyarrow.parquet

    import atommem_gym.cli
    import atommem_gym.stores.kept

    for line in sys.stdin:
        asked = json.loads(line)
        status, out, err = _in_terminal(asked) if asked["size"] else _in_pipes(asked)
        told = {name: base64.b64encode(text).decode() for name, text in (("out", out), ("err", err))}
        print(json.dumps({"status": status, **told}), flush=True)
    del atommem_gym, matplotlib, milvus_lite, pyarrow


def _in_terminal(asked: Mapping[str, Any]) -> tuple[int, bytes, bytes]:
    import fcntl
    import pty
    import termios

    child, terminal = pty.fork()
    if child == 0:
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", *asked["size"], 0, 0))
        _run(asked)
    written, keys = b"", list(asked["keys"])
    # Linux says EIO when the child has closed the terminal, other systems end the file.
    with contextlib.suppress(OSError):
        while part := os.read(terminal, 65536):
            written += part
            if keys and WAITS in part:
                os.write(terminal, keys.pop(0).encode())
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), written, b""


def _in_pipes(asked: Mapping[str, Any]) -> tuple[int, bytes, bytes]:
    import threading

    pipes = [os.pipe(), os.pipe()]
    child = os.fork()
    if child == 0:
        for number, (_, write) in enumerate(pipes, 1):
            os.dup2(write, number)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _run(asked)
    for _, write in pipes:
        os.close(write)
    parts: list[bytes] = [b"", b""]

    def read(number: int) -> None:
        with open(pipes[number][0], "rb") as file:
            parts[number] = file.read()

    reader = threading.Thread(target=read, args=(1,))
    reader.start()
    read(0)
    reader.join()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), parts[0], parts[1]


def _run(asked: Mapping[str, Any]) -> None:
    """In the child: run what is asked for and end the process."""
    import signal
    import traceback

    status = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.alarm(SECONDS)
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            mode, lines = "w" if number else "r", 1 if os.isatty(number) else -1
            setattr(sys, name, open(number, mode, lines, encoding="utf-8", closefd=False))  # noqa: SIM115
            setattr(sys, f"__{name}__", getattr(sys, name))
        for name in _COLOURS:
            os.environ.pop(name, None)
        os.environ.update({"TERM": "xterm-256color", **asked["variables"]})
        os.chdir(asked["folder"])
        if asked["code"]:
            exec(asked["code"], {})
            status = 0
        else:
            from atommem_gym.cli import main

            status = main(asked["arguments"])
    except SystemExit as stop:
        status = int(stop.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()
