"""Machines on this machine, for tests of several nodes: each has its own network, mounts, host name and processes.

A machine is a set of Linux namespaces. Two of them are joined by a cable (a veth pair), and nothing else is reachable
from either. `/tmp` and `/dev/shm` are their own; all other folders are those of this machine, like a shared disk. A
machine ends with whoever made it, and with it all of its processes, mounts and network interfaces.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("--net", "--mount", "--uts", "--pid")
ADDRESSES = ("10.77.0.1", "10.77.0.2")
_REMEDY = (
    "run it as root on Linux with util-linux and iproute2, in a container with --privileged, "
    "or in `unshare --user --map-root-user bash`"
)

# $1 host name, $2 what /etc/hosts is, $3 what /tmp is, the rest: folders that must stay visible if they lie in /tmp.
_START = """
set -euo pipefail
hostname "$1"
mount --bind "$2" /etc/hosts
own=$3
shift 3
for folder in "$@"; do
  case $folder in /tmp/*) mkdir -p "$own/${folder#/tmp/}"; mount --rbind "$folder" "$own/${folder#/tmp/}" ;; esac
done
mount --rbind "$own" /tmp
mount -t tmpfs -o mode=1777 tmpfs /dev/shm
ip link set lo up
echo ready
# The first process of a machine: it ends, and the machine with it, once nobody holds the other end of its input.
while read -r _; do :; done
"""
# $1 and $2: the first processes of two machines, $3 and $4 their addresses.
_CABLE = """
set -euo pipefail
nsenter --target "$1" --net ip link add eth0 type veth peer name eth0 netns "$2"
for end in "$1 $3" "$2 $4"; do
  set -- $end
  nsenter --target "$1" --net ip address add "$2/24" dev eth0
  nsenter --target "$1" --net ip link set eth0 up
  # Programs find out their own address by the route that leads out.
  nsenter --target "$1" --net ip route add default dev eth0
done
"""


class NoNamespacesError(RuntimeError):
    """Machines cannot be made here; the message says why, and what helps."""


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine that runs."""

    name: str
    """Its host name."""
    address: str
    """Its address on the cable."""
    pid: int
    """Its first process, as seen from outside."""
    namespace: str
    """Which processes are its own, as in ``/proc/PID/ns/pid``."""

    def command(self, *argv: str) -> list[str]:
        """What runs ``argv`` in the machine, in the folder of the caller."""
        # Mounts are changed first, and the working directory's meaning with them.
        return ["nsenter", "--target", str(self.pid), *NAMESPACES, f"--wdns={os.getcwd()}", "--", *argv]

    def processes(self) -> list[int]:
        """What runs in it, or is left of it, as seen from outside."""
        found = []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if folder.name.isdigit() and os.readlink(folder / "ns" / "pid") == self.namespace:
                    found.append(int(folder.name))
        return found


@contextlib.contextmanager
def machines(names: tuple[str, str], folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach each other, by name and address, and nothing else.

    Args:
        names: Their host names.
        folder: For what is theirs alone, such as ``NAME/tmp``; it stays when they have ended.

    Raises:
        NoNamespacesError: they cannot be made here.
    """
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["127.0.0.1 localhost", *(f"{address} {name}" for address, name in zip(ADDRESSES, names, strict=True))]
    (folder / "hosts").write_text("\n".join(lines) + "\n", encoding="ascii")
    with contextlib.ExitStack() as stack:
        first, second = (
            stack.enter_context(_machine(name, address, folder)) for name, address in zip(names, ADDRESSES, strict=True)
        )
        _run("bash", "-c", _CABLE, "cable", str(first.pid), str(second.pid), *ADDRESSES)
        yield first, second


@contextlib.contextmanager
def _machine(name: str, address: str, folder: Path) -> Iterator[Machine]:
    own = folder / name / "tmp"
    own.mkdir(parents=True, exist_ok=True)
    own.chmod(0o1777)
    visible = dict.fromkeys(map(str, (folder, Path.cwd(), Path(__file__).resolve().parents[3], *_python())))
    start = ["unshare", *NAMESPACES, "--fork", "--mount-proc", "--kill-child", "bash", "-c", _START, "machine"]
    try:
        process = subprocess.Popen(
            [*start, name, str(folder / "hosts"), str(own), *visible],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    except FileNotFoundError as error:
        raise NoNamespacesError(f"no machine can be made here ({error}): {_REMEDY}") from error
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise NoNamespacesError(f"no machine can be made here ({process.communicate()[1].strip()}): {_REMEDY}")
        pid = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text(encoding="ascii"))
        yield Machine(name, address, pid, os.readlink(f"/proc/{pid}/ns/pid"))
    finally:
        process.stdin.close()
        try:
            process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            # Its first process is killed with it, and all others with that one.
            process.kill()
            process.wait()
        process.stdout.close()
        process.stderr.close()


def _python() -> Sequence[Path]:
    return [Path(sys.prefix), Path(sys.base_prefix)]


def _run(*argv: str) -> None:
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoNamespacesError(f"two machines cannot be joined here ({done.stderr.strip()}): {_REMEDY}")
