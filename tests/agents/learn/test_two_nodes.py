"""The test of two Ray nodes, without veRL: the machines it makes, and what it finds wrong with a run."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

CONFIGS = Path(__file__).resolve().parents[3] / "verl_configs"
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux namespaces")


@pytest.fixture
def parts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    monkeypatch.syspath_prepend(str(CONFIGS / "cpu"))
    import atommem_verl_cpu.machines
    import atommem_verl_cpu.two_nodes

    return atommem_verl_cpu.machines, atommem_verl_cpu.two_nodes


def said(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()


def test_machines_have_networks_names_and_processes_of_their_own_and_leave_nothing(
    parts: tuple[ModuleType, ModuleType], tmp_path: Path
) -> None:
    machines, _ = parts
    interfaces = set(socket.if_nameindex())
    with _made(machines, tmp_path) as (first, second):
        assert [said(one.command("hostname")) for one in (first, second)] == ["first", "second"]
        # What programs find out as their own address, and what the other's name stands for.
        own = (CONFIGS / "launch" / "embedding_server.sh").read_text(encoding="utf-8").split("own_address() { ")[1]
        script = own.split("\n\nanswers")[0].removesuffix("; }") + "\ngetent hosts first | cut -d' ' -f1"
        path = f"PATH={Path(sys.executable).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        assert said(second.command("env", path, "bash", "-c", script)).split() == [second.address, first.address]
        said(first.command("touch", "/tmp/of_the_first", str(tmp_path / "of_all")))
        assert "of_the_first" not in said(second.command("ls", "/tmp"))
        assert "of_all" in said(second.command("ls", str(tmp_path)))
        subprocess.run(second.command("bash", "-c", "setsid sleep 600 & setsid sleep 600 &"), check=True, timeout=30)
        assert len(second.processes()) == 3
    assert not first.processes()
    assert not second.processes()
    assert set(socket.if_nameindex()) == interfaces
    assert not Path("/tmp/of_the_first").exists()


def test_a_machine_ends_with_whoever_made_it(parts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    machines, _ = parts
    with _made(machines, tmp_path / "can"):
        pass
    program = f"""
import sys, time
sys.path.insert(0, {str(CONFIGS / "cpu")!r})
from pathlib import Path
from atommem_verl_cpu.machines import machines
with machines(("first", "second"), Path({str(tmp_path)!r})) as (first, second):
    print(first.namespace, second.namespace, flush=True)
    time.sleep(600)
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as maker:
        assert maker.stdout is not None
        namespaces = maker.stdout.readline().split()
        assert len(namespaces) == 2
        maker.kill()
    gone = [machines.Machine("", "", 0, namespace) for namespace in namespaces]
    deadline = time.monotonic() + 60
    while any(one.processes() for one in gone) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert [one.processes() for one in gone] == [[], []]


def _made(machines: ModuleType, folder: Path) -> Any:
    """Machines, or a skip that says why there are none."""
    try:
        with machines.machines(("first", "second"), folder / "probe"):
            pass
    except machines.NoNamespacesError as error:
        pytest.skip(str(error))
    return machines.machines(("first", "second"), folder)


def test_where_no_machine_can_be_made_it_is_said_and_no_failure_if_so_wished(
    parts: tuple[ModuleType, ModuleType], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    _, two_nodes = parts
    command = tmp_path / "bin" / "unshare"
    command.parent.mkdir()
    command.write_text("#!/bin/sh\necho 'unshare failed: Operation not permitted' >&2\nexit 1\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}:/usr/bin:/bin")
    monkeypatch.chdir(tmp_path)  # and back at the end
    for options, status in (([], 1), (["--skip"], 0)):
        monkeypatch.setattr(sys, "argv", ["two_nodes", str(tmp_path / "run"), *options])
        assert two_nodes.main() == status
        told = capsys.readouterr().err
        assert told.startswith("SKIPPED" if options else "FAILED")
        assert "Operation not permitted" in told
        assert "run it as root" in told
    command.unlink()
    monkeypatch.setenv("PATH", str(command.parent))
    monkeypatch.setattr(sys, "argv", ["two_nodes", str(tmp_path / "run")])
    assert two_nodes.main() == 1
    assert "'unshare'" in capsys.readouterr().err


@pytest.fixture
def run(parts: tuple[ModuleType, ModuleType], tmp_path: Path) -> Callable[..., list[str]]:
    """What is found wrong with a run after some of its lines were changed."""
    machines, two_nodes = parts
    nodes = [
        machines.Machine(name, address, 0, "")
        for name, address in zip(two_nodes.NAMES, machines.ADDRESSES, strict=True)
    ]
    given = two_nodes.settings(tmp_path, tmp_path / "ledger.j2")
    log = tmp_path / "run" / "sessions.jsonl"
    embedder = f"http://{nodes[0].address}:{two_nodes.PORT}/v1"

    def found(change: Callable[[list[dict[str, Any]]], None] = lambda _: None, clients: int = 2) -> list[str]:
        environment = {**given, "ATOMMEM_EMBEDDER": embedder, "ATOMMEM_SESSIONS": str(log)}
        settings = {
            "env_keywords": {"store": "numpy", "embedder": embedder},
            "template": str(tmp_path / "ledger.j2"),
            "log": str(log),
            "run": given["ATOMMEM_RUN"],
        }
        witnesses: list[dict[str, Any]] = [
            {"uid": "u", "session": i, "host": name, "settings": dict(settings), "environment": dict(environment)}
            for i, name in enumerate(two_nodes.NAMES)
        ]
        sessions = [{"uid": "u", "session": i, "run": given["ATOMMEM_RUN"]} for i in range(2)]
        change(witnesses)
        log.parent.mkdir(exist_ok=True)
        for path, lines in ((log, sessions), (log.with_name(two_nodes.FILE), witnesses)):
            path.write_text("".join(json.dumps(line) + "\n" for line in lines))
        (tmp_path / "clients").write_text("\n".join(machines.ADDRESSES[:clients]))
        said = [f"({role} pid=7, ip={nodes[1].address}) ready" for role in ("WorkerDict", "vLLMHttpServer")]
        (tmp_path / "grpo.log").write_text("\n".join(said))
        return list(two_nodes.witnessed(tmp_path, given, nodes))

    return found


def test_finding_5_1_a_run_whose_workers_know_everything_passes(run: Callable[..., list[str]]) -> None:
    assert run() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda lines: lines[1].update(host="head"), "played on ['head']"),
        (lambda lines: lines[1]["settings"].update(log=None), "a worker on worker was told"),
        (lambda lines: lines[1]["settings"].update(env_keywords={"embedder": "hashing"}), "'embedder': 'hashing'"),
        (lambda lines: lines[1]["environment"].pop("HF_HUB_OFFLINE"), "has HF_HUB_OFFLINE=None"),
        (lambda lines: lines.pop(), "not tell of the same sessions"),
    ],
)
def test_finding_5_1_what_a_worker_was_not_told_is_found(
    run: Callable[..., list[str]], change: Callable[[list[dict[str, Any]]], None], said: str
) -> None:
    assert any(said in one for one in run(change))


def test_an_embedding_server_that_only_one_machine_asked_is_found(run: Callable[..., list[str]]) -> None:
    assert any("not by both machines" in one for one in run(clients=1))
