"""`make milvus` leaves nothing behind, however it ends, and says what is in its way."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.stores.real_milvus import RUN_FOLDERS

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "tests" / "support" / "stores" / "real_milvus.py"
SERVER_PYTHON = ROOT / ".milvus" / "bin" / "python"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="namespaces and /proc: run it on Linux")
installed = pytest.mark.skipif(
    not (ROOT / ".milvus" / "installed").exists(), reason="needs the server of `make milvus`, in .milvus"
)


def started(folder: Path, *command: str, **variables: str) -> subprocess.Popen[str]:
    """The program with its temporary files in ``folder``, in a process group of its own, as a shell would start it."""
    return subprocess.Popen(
        [str(SERVER_PYTHON if "PATH" not in variables else sys.executable), str(PROGRAM), *command],
        env=os.environ | {"TMPDIR": str(folder)} | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def servers(folder: Path) -> list[int]:
    """Processes that work in ``folder``."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if Path(os.readlink(process / "cwd")).is_relative_to(folder):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def said(process: subprocess.Popen[str], word: str) -> None:
    """Wait for a line with this word."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if word in line:
            return
    pytest.fail(f"{word!r} was not said: {''.join(lines)}")


@installed
@pytest.mark.milvus
def test_finding_3_9_the_command_finds_the_server_and_its_status_is_passed_on(tmp_path: Path) -> None:
    process = started(tmp_path, "sh", "-c", 'echo "url $ATOMMEM_MILVUS"; exit 7')
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 7
    assert "url http://127.0.0.1:" in output
    assert servers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []


@installed
@pytest.mark.milvus
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_finding_3_9_ctrl_c_and_sigterm_end_the_server(tmp_path: Path, number: int, status: int) -> None:
    process = started(tmp_path, "sh", "-c", "echo begun; exec sleep 300")
    said(process, "begun")
    (server,) = servers(tmp_path)
    if number == signal.SIGINT:
        # A terminal sends it to the whole group.
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == status
    assert servers(tmp_path) == []
    assert list(tmp_path.iterdir()) == []
    assert [folder for folder in RUN_FOLDERS if (folder / f"server_id_{server}").exists()] == []


@installed
@pytest.mark.milvus
def test_finding_3_9_a_server_does_not_outlive_a_program_that_was_killed(tmp_path: Path) -> None:
    process = started(tmp_path, "sh", "-c", "echo begun; exec sleep 20")
    said(process, "begun")
    assert len(servers(tmp_path)) == 1
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    end = time.monotonic() + 10
    while servers(tmp_path) and time.monotonic() < end:
        time.sleep(0.1)
    assert servers(tmp_path) == []
    os.killpg(process.pid, signal.SIGKILL)


def path_without_unshare(folder: Path) -> str:
    (folder / "bin").mkdir()
    false = shutil.which("false")
    assert false is not None
    (folder / "bin" / "unshare").symlink_to(false)
    return f"{folder / 'bin'}:{os.environ['PATH']}"


def test_finding_3_9_without_a_namespace_a_port_that_is_taken_is_a_refusal(tmp_path: Path) -> None:
    with socket.socket() as other:
        try:
            other.bind(("127.0.0.1", 2379))
            other.listen()
        except OSError:
            pass  # taken by somebody else, which serves as well
        process = started(tmp_path, "true", PATH=path_without_unshare(tmp_path))
        output, _ = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "2379 (etcd's clients)" in output
    assert "no network namespace can be had" in output


def test_finding_3_9_without_the_server_s_distribution_it_says_what_to_run(tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, str(PROGRAM), "true"],
        env=os.environ | {"TMPDIR": str(tmp_path), "ATOMMEM_MILVUS_NAMESPACE": "1"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert process.returncode == 2
    assert "run `make milvus-environment`" in process.stderr
    assert list(tmp_path.iterdir()) == []
