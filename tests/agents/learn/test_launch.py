"""The scripts that start a training run: what workers are told, the embedding server, the checks before."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
LAUNCH = ROOT / "verl_configs" / "launch"

FAKE_SERVER = """#!{python}
import http.server, os, sys, time
from pathlib import Path
Path(os.environ["SEEN"]).write_text(" ".join(sys.argv[1:]))
if os.environ["MODE"] == "dies":
    sys.exit("torch.OutOfMemoryError: no room for the KV cache")
class Models(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *args):
        pass
server = http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Models)
server.timeout = 0.1
end = time.monotonic() + (3 if os.environ["MODE"] == "ends" else 60)
while time.monotonic() < end:
    server.handle_request()
sys.exit("CUDA error: the device is gone")
"""


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def module(name: str) -> ModuleType:
    """A script as a module."""
    spec = importlib.util.spec_from_file_location(name, LAUNCH / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def with_server(tmp_path: Path, mode: str, command: str, port: int) -> tuple[subprocess.CompletedProcess[str], str]:
    """Run a command beside an embedding server, and what the server was started with."""
    fake = tmp_path / "bin" / "vllm"
    fake.parent.mkdir()
    fake.write_text(FAKE_SERVER.format(python=sys.executable))
    fake.chmod(0o755)
    path = f"{fake.parent}:{Path(sys.executable).parent}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "MODE": mode,
        "SEEN": str(tmp_path / "seen"),
        "ATOMMEM_OUT": str(tmp_path),
        "EMBEDDING_MODEL": "some/model",
        "EMBEDDING_PORT": str(port),
        "EMBEDDING_HOST": "127.0.0.1",
    }
    script = f'set -euo pipefail; . "{LAUNCH}/embedding_server.sh"; start_embedding_server; {command}'
    ran = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, timeout=100, check=False
    )
    return ran, (tmp_path / "seen").read_text()


def test_finding_5_3_the_embedding_server_has_an_absolute_size_and_is_stopped(tmp_path: Path, port: int) -> None:
    ran, seen = with_server(tmp_path, "serves", 'with_embedding_server echo "at $ATOMMEM_EMBEDDER"', port)
    assert ran.returncode == 0, ran.stderr
    assert f"at http://127.0.0.1:{port}/v1" in ran.stdout
    assert "--max-model-len 2048 --kv-cache-memory-bytes 1G" in seen
    assert "--enforce-eager" in seen
    with pytest.raises(ConnectionError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_finding_5_3_a_server_that_dies_at_its_start_is_told_at_once_with_its_log(tmp_path: Path, port: int) -> None:
    ran, _ = with_server(tmp_path, "dies", "echo never", port)
    assert ran.returncode == 1
    assert "never" not in ran.stdout
    assert "no room for the KV cache" in ran.stderr


def test_finding_5_3_a_server_that_ends_later_ends_the_training(tmp_path: Path, port: int) -> None:
    ran, _ = with_server(tmp_path, "ends", "with_embedding_server sleep 90", port)
    assert ran.returncode == 1
    assert "the embedding server has ended, and so does the training" in ran.stderr
    assert "the device is gone" in ran.stderr


def test_the_exit_status_is_that_of_the_training(tmp_path: Path, port: int) -> None:
    ran, _ = with_server(tmp_path, "serves", "with_embedding_server bash -c 'exit 7'", port)
    assert ran.returncode == 7


def test_finding_5_1_workers_are_told_settings_and_no_keys() -> None:
    overrides = module("worker_environment").overrides
    environment = {
        "ATOMMEM_OUT": "/runs/it's ${here}",
        "WANDB_API_KEY": "secret",
        "HF_TOKEN": "secret",
        "WANDB_MODE": "offline",
        "TOKENIZERS_PARALLELISM": "true",
        "CUDA_VISIBLE_DEVICES": "0",
        "HOME": "/home/ada",
    }
    told = overrides(environment)
    assert [one.split("env_vars.")[1].split("=")[0] for one in told] == [
        "ATOMMEM_OUT",
        "TOKENIZERS_PARALLELISM",
        "WANDB_MODE",
    ]
    assert "secret" not in "".join(told)


def test_worker_settings_survive_hydra() -> None:
    hydra = pytest.importorskip("hydra", reason="needs hydra: make verl-environment")
    from hydra.core.override_parser.overrides_parser import OverridesParser

    assert hydra
    values = {"ATOMMEM_OUT": "/runs/it's here, [a] {b}: c=d $x", "VLLM_X": "", "HF_HOME": "C:\\models\\"}
    parsed = OverridesParser.create().parse_overrides(module("worker_environment").overrides(values))
    found = {one.key_or_group.rsplit(".", 1)[1]: one.value() for one in parsed}
    assert found == values


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"override_config": {"attn_implementation": "sdpa"}}, None),
        ({}, None),
        ({"override_config": {"attn_implementation": "flash_attention_2"}}, "flash-attn"),
    ],
)
def test_finding_5_4_flash_attn_is_checked_only_where_it_is_asked_for(config: dict[str, Any], said: str | None) -> None:
    checks = list(module("preflight").attention({"actor_rollout_ref": {"model": config}}))
    assert [said in text for _, text in checks] == ([True] if said else [])


def test_preflight_names_what_is_missing_with_the_remedy(tmp_path: Path) -> None:
    preflight = module("preflight")
    assert list(preflight.files([tmp_path / "none"])) == [(False, f"{tmp_path}/none does not exist")]
    ((good, said),) = preflight.disk(tmp_path, 1e9)
    assert not good
    assert "max_actor_ckpt_to_keep=1" in said
    ((good, said),) = preflight.servers(["http://127.0.0.1:9/v1/models"], 0)
    assert not good
    assert "ConnectError" in said
