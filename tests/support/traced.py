"""What command lines of ``atommem`` do to the system, seen from outside: by strace, without a network.

An audit hook of Python sees nothing of what compiled libraries do (pyarrow, tokenizers, grpc); the kernel sees all.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.audited import Ran, audited

_CALL = re.compile(r"^(?:\d+ +)?(?P<name>\w+)\((?P<arguments>.*)\) += (?P<result>-?\d+|\?)")
_PATH = re.compile(r'(?:<(?P<folder>[^<>]*)>, )?"(?P<name>(?:[^"\\]|\\.)*)"')
"""A name, and the folder that it is looked for in, where the call names one by its number."""
_ESCAPE = re.compile(r"\\(?:x([0-9a-f]{2})|([0-7]{1,3})|(.))")
_WRITES = ("O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC")
_FILES = "openat,open,creat,rename,renameat,renameat2,unlink,unlinkat,symlink,symlinkat,link,linkat,mkdir,mkdirat"


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
