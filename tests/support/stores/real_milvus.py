"""Runs a command beside a Milvus server of its own.

    .milvus/bin/python tests/support/stores/real_milvus.py COMMAND …

The server is the standalone one that the distribution ``milvus`` carries (``make milvus-environment`` installs it). It
listens on all interfaces, and on ports that cannot all be chosen, so it and the command run in a network namespace of
their own, which nothing outside can reach. Where none can be had the ports must be free. The command finds the server's
URL in the environment variable ``ATOMMEM_MILVUS``. However it ends (well, with a failure, by Ctrl-C or SIGTERM), the
server is ended by its id and its folder removed; its exit status is the command's.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

VARIABLE = "ATOMMEM_MILVUS"
INSIDE = "ATOMMEM_MILVUS_NAMESPACE"
"""Set for the program that was started again inside its namespace."""
PORTS = {2379: "etcd's clients", 2380: "etcd's peers", 9091: "health and metrics"}
"""Ports that the server insists on, or moves away from without telling its own parts."""
HEALTH_URL = "http://127.0.0.1:9091/healthz"
READY_WITHIN_S = 240.0
STOP_WITHIN_S = 10.0
_ENDING = (signal.SIGINT, signal.SIGTERM)
RUN_FOLDERS = (Path("/run/milvus"), Path("/tmp/milvus"))
"""Where the server leaves files whatever it is told; the second alone if it may not write to the first."""
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


class Refusal(Exception):
    """The server cannot be started here; says why and what helps."""


def main(command: Sequence[str]) -> int:
    """Start the server, run the command, end the server; the command's exit status, or 2 if it could not be run."""
    if not command:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, _terminated)
    # A shell that starts this in the background has Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if os.environ.pop(INSIDE, None) is None:
            enter_namespace()
        with (
            tempfile.TemporaryDirectory(prefix="atommem-milvus-", ignore_cleanup_errors=True) as folder,
            server(Path(folder)) as url,
        ):
            return run(command, url)
    except Refusal as refusal:
        print(f"real_milvus: {refusal}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def enter_namespace() -> None:
    """Start this program again in a network namespace, if one can be had; else make sure that the ports are free.

    Raises:
        Refusal: there is no namespace, and a port is taken.
    """
    prefix = namespace()
    if prefix:
        os.environ[INSIDE] = "1"
        os.execvp(prefix[0], [*prefix, sys.executable, *sys.argv])
    taken = [port for port in PORTS if _taken(port)]
    if taken:
        named = ", ".join(f"{port} ({PORTS[port]})" for port in taken)
        raise Refusal(
            f"no network namespace can be had here (unshare --net, with and without --map-root-user), and the ports "
            f"{named} that the server insists on are taken: end what listens there (`ss -ltnp`), or run this as root"
        )
    say("no network namespace can be had here: the server listens on all interfaces until the command has ended")


def namespace() -> list[str]:
    """The command prefix that gives a process a network of its own, with loopback up; empty if there is none."""
    for flags in (["--net"], ["--net", "--map-root-user"]):
        prefix = ["unshare", *flags, "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            done = subprocess.run([*prefix, "true"], capture_output=True, timeout=10.0, check=False)
            if done.returncode == 0:
                return prefix
    return []


@contextlib.contextmanager
def server(folder: Path) -> Iterator[str]:
    """A server with its data in ``folder``, until the block is left: its URL.

    Raises:
        Refusal: the distribution is not installed, or the server died or did not answer in time.
    """
    try:
        from milvus import MilvusServerConfig  # type: ignore[import-not-found]
    except ImportError as error:
        raise Refusal(
            f"{sys.executable} has no Milvus server ({error}); run `make milvus-environment`, then "
            ".milvus/bin/python with this program"
        ) from error
    config = MilvusServerConfig(data_dir=str(folder))
    config.resolve()
    binary = binaries() / "milvus"
    log = folder / "logs" / "milvus.log"
    environment = os.environ | {
        "DEPLOY_MODE": "STANDALONE",
        "METRICS_PORT": "9091",
        "MILVUS_RUN_DIR": str(folder / "run"),
        "LD_LIBRARY_PATH": f"{binary.parent}:{os.environ.get('LD_LIBRARY_PATH', '')}",
    }
    with log.open("wb") as out:
        process = subprocess.Popen(
            [str(binary), "run", "standalone"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            # Ctrl-C is for the command; the server is ended after it.
            start_new_session=True,
            preexec_fn=_die_with_parent,
        )
    try:
        _wait(process, log)
        yield f"http://127.0.0.1:{config.get('proxy_port')}"
    finally:
        process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        _tidy(process.pid)


def binaries() -> Path:
    """The folder of the server's programs, unpacked beside the interpreter that has the distribution, once."""
    from milvus import _initialize_data_files

    folder = Path(sys.prefix) / "server"
    unpacked = folder / "complete"
    if not unpacked.exists():
        say("unpacking the server, once")
        shutil.rmtree(folder, ignore_errors=True)
        _initialize_data_files(str(folder))
        unpacked.touch()
    return folder / "bin"


def run(command: Sequence[str], url: str) -> int:
    """Run the command with the server's URL in its environment; its exit status, 128 and its number for a signal."""
    # A signal between the start and the name for it would leave the command to itself.
    signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)
    process = subprocess.Popen(list(command), env=os.environ | {VARIABLE: url}, preexec_fn=_unblock)
    try:
        _unblock()
        status = process.wait()
    except BaseException:
        # Ctrl-C reached the command too; what it cleans up it may need the server for.
        if not isinstance(sys.exc_info()[1], KeyboardInterrupt):
            process.terminate()
        try:
            process.wait(STOP_WITHIN_S)
        except BaseException:
            process.kill()
            process.wait()
        raise
    return 128 - status if status < 0 else status


def say(message: str) -> None:
    """One line of progress."""
    print(f"real_milvus: {message}", file=sys.stderr, flush=True)


def _wait(process: subprocess.Popen[bytes], log: Path) -> None:
    began = time.monotonic()
    reported = 0.0
    while (waited := time.monotonic() - began) < READY_WITHIN_S:
        if process.poll() is not None:
            raise Refusal(f"the server died with status {process.returncode} while it started:\n{_end_of(log)}")
        with contextlib.suppress(OSError, urllib.error.URLError), urllib.request.urlopen(HEALTH_URL, timeout=5) as said:
            if b"OK" in said.read():
                say(f"the server answers after {waited:.0f} s")
                return
        if waited - reported >= 10.0:
            reported = waited
            say(f"waiting for the server, {waited:.0f} of at most {READY_WITHIN_S:.0f} s")
        time.sleep(0.2)
    raise Refusal(f"the server did not answer within {READY_WITHIN_S:.0f} s:\n{_end_of(log)}")


def _tidy(pid: int) -> None:
    """Remove what a server that has ended left outside its folder."""
    for folder in RUN_FOLDERS:
        with contextlib.suppress(OSError):
            (folder / f"server_id_{pid}").unlink()
        with contextlib.suppress(OSError):
            if (folder / "standalone.pid").read_text().strip() == str(pid):
                (folder / "standalone.pid").unlink()
        with contextlib.suppress(OSError):
            # Only if it is empty: there may be other servers.
            folder.rmdir()


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-3000:]


def _taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("", port))
        except OSError:
            return True
    return False


def _die_with_parent() -> None:
    """In the server's process: the kernel kills it if this program is killed without being asked."""
    ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)


def _terminated(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
