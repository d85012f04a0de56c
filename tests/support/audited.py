"""Runs ``atommem`` in a process of its own that notes every file, connection, import and command: see ``audited``.

An audit hook of Python sees nothing of what compiled libraries do (pyarrow, tokenizers, grpc). The kernel sees all: see
``traced``, which has strace tell, and takes the network away.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATCHED = ("open", "import", "socket.connect", "socket.getaddrinfo", "os.system", "subprocess.Popen", "os.exec")

_CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)")
_PATH = re.compile(r'(?:<(?P<folder>[^<>]*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"')
"""A name, and the folder that it is looked for in, where the call names one by its number."""
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([0-7]{1,3})|(.))")
_WRITES = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
_FILES = "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat,link,linkat,mkdir,mkdirat"


@dataclass(frozen=True)
class Ran:
    """What came of one command line."""

    status: int
    said: str
    """Standard output and error, with all blanks as one."""
    events: tuple[str, ...]
    """What was opened, imported, connected to and started."""

    def touched(self, name: object) -> list[str]:
        """The events that speak of a file, module or port."""
        return [event for event in self.events if str(name) in event]


def audited(
    commands: Sequence[Sequence[object]], folder: Path, *, under: Sequence[str] = (), **variables: str
) -> list[Ran]:
    """Run these command lines of ``atommem`` one after the other, in a folder, under another command if one is given.

    Before each, the file ``/command/N`` is asked for, which is not there: a mark for whoever traces the process.
    """
    done = subprocess.run(
        [*under, sys.executable, __file__],
        input=json.dumps([[str(argument) for argument in command] for command in commands]),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        timeout=600,
        env={**os.environ, "NO_PROXY": "127.0.0.1", "HF_HUB_OFFLINE": "1", "COLUMNS": "1000", **variables},
    )
    assert done.returncode == 0, done.stderr
    ran: list[dict[str, Any]] = json.loads(done.stdout.splitlines()[-1])
    return [Ran(one["status"], " ".join(one["said"].split()), tuple(one["events"])) for one in ran]


@dataclass(frozen=True)
class Seen:
    """What one command line did."""

    ran: Ran
    read: frozenset[str]
    """Paths that were opened, and are there."""
    written: frozenset[str]
    """Paths that were opened for writing, made, renamed or deleted."""
    connections: tuple[str, ...]
    """Calls that send something to another machine, or want to."""
    started: tuple[str, ...]
    """Programs."""


def strace() -> list[str]:
    """The command that runs another one without a network and under ``strace``; skips where there is none."""
    import pytest

    namespace = ["unshare", "-n"]
    if not (shutil.which("strace") and shutil.which("unshare")):
        pytest.skip("needs strace and unshare, to see what compiled libraries do")
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        namespace = ["unshare", "-rn"]
    if subprocess.run([*namespace, "strace", "-qq", "true"], capture_output=True, check=False).returncode:
        pytest.skip("may not make a network namespace, or not trace a process")
    return [
        *namespace,
        "strace",
        "-f",
        "-y",
        "--seccomp-bpf",
        "-qq",
        "-s",
        "4096",
        "-e",
        f"trace=network,execve,{_FILES}",
    ]


def traced(commands: Sequence[Sequence[object]], folder: Path, log: Path, **variables: str) -> list[Seen]:
    """Run these command lines one after the other, in a folder, and say what each did."""
    ran = audited(commands, folder, under=[*strace(), "-o", str(log)], **variables)
    parts: list[list[str]] = [[]]
    for line in log.read_text(errors="replace").splitlines():
        if re.search(r'"/command/\d+"', line):
            parts.append([])
        parts[-1].append(line)
    assert len(parts) == len(commands) + 1, "strace saw every command"
    return [_seen(one, lines, folder) for one, lines in zip(ran, parts[1:], strict=True)]


def _seen(ran: Ran, lines: Sequence[str], folder: Path) -> Seen:
    read, written, connections, started = set(), set(), [], []
    for line in lines:
        found = _CALL.match(line)
        if found is None:
            # Calls that others interrupt are in two lines; the first names the arguments.
            found = re.match(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*?)(?P<result>)<unfinished", line)
        if found is None:
            continue
        name, arguments, there = found["name"], found["arguments"], not found["result"].startswith("-")
        paths = [str(folder / _unescaped(inside) / _unescaped(path)) for inside, path in _PATH.findall(arguments)]
        if name == "execve":
            started += paths[:1]
        elif name in ("openat", "open"):
            if any(flag in arguments for flag in _WRITES) and there:
                written |= set(paths[:1])
            elif there:
                read |= set(paths[:1])
        elif name in ("connect", "sendto", "sendmsg", "sendmmsg", "bind", "listen"):
            if "AF_INET" in arguments or ("AF_UNIX" in arguments and name == "connect"):
                connections.append(line)
        elif there and name in _FILES.split(","):
            written |= set(paths)
    return Seen(ran, frozenset(read), frozenset(written), tuple(connections), tuple(started))


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: chr(int(m[1], 16)) if m[1] else chr(int(m[2], 8)) if m[2] else m[3], text)


def _main() -> None:
    import contextlib
    import io

    from atommem_gym.cli import main

    events: list[str] = []
    sys.addaudithook(lambda event, values: events.append(f"{event} {values!r}") if event in WATCHED else None)
    ran = []
    for number, command in enumerate(json.loads(sys.stdin.read())):
        with contextlib.suppress(OSError), open(f"/command/{number}"):
            pass
        events.clear()
        said = io.StringIO()
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
            try:
                status: Any = main(command)
            except SystemExit as error:
                status = error.code
        ran.append({"status": status, "said": said.getvalue(), "events": list(events)})
    print(json.dumps(ran))


if __name__ == "__main__":
    _main()
