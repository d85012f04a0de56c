"""Servers of the Milvus protocol for the tests: `milvus-lite server` on a free loopback port, or a real Milvus.

`make milvus` starts a real Milvus and names its URL in `ATOMMEM_MILVUS`; the tests on a server then run on that one.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias
from urllib.parse import urlsplit

import pytest

REAL_MILVUS = os.environ.get("ATOMMEM_MILVUS", "")
"""The URL of a real Milvus, or nothing."""
needs_real_milvus = pytest.mark.skipif(
    not REAL_MILVUS, reason="needs a real Milvus, which `make milvus` starts (its URL in ATOMMEM_MILVUS)"
)
_READY_WITHIN_S = 120.0


class MilvusServer:
    """A server process and its URL; `kill` and `start` again keep the port and the data."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        with (self.folder / "server.log").open("ab") as log:
            command = [sys.executable, "-m", "milvus_lite", "server", "--data-dir", str(self.folder / "data")]
            command += ["--host", "127.0.0.1", "--port", str(self.port)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        end = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            with socket.socket() as probe:
                probe.settimeout(1.0)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        self.kill()
        raise RuntimeError(f"no Milvus server on port {self.port}: {(self.folder / 'server.log').read_text()[-2000:]}")

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RealMilvus:
    """What the tests use of a `MilvusServer`, of a server that somebody else started."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        port = urlsplit(url).port
        assert port is not None, f"ATOMMEM_MILVUS={url} names no port"
        self.port = port


AnyServer: TypeAlias = MilvusServer | RealMilvus


@pytest.fixture(scope="session")
def milvus_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AnyServer]:
    """One server for the whole session; import it into a test module to use it."""
    if REAL_MILVUS:
        yield RealMilvus(REAL_MILVUS)
        return
    server = MilvusServer(tmp_path_factory.mktemp("milvus"))
    server.start()
    yield server
    server.kill()


@pytest.fixture(scope="module")
def milvus_url(milvus_server: AnyServer) -> Iterator[str]:
    """A database of the module's own on that server; import both into a test module to use it."""
    with own_database(milvus_server) as url:
        yield url


@contextlib.contextmanager
def own_database(server: AnyServer) -> Iterator[str]:
    """The URL of a database in which is nothing yet, and which is gone afterwards."""
    from pymilvus import MilvusClient

    name = f"tests_{time.monotonic_ns()}"
    client = MilvusClient(server.url)
    client.create_database(name)
    # A client that lies idle for minutes is hung up on by milvus-lite's server, which counts its pings.
    client.close()
    try:
        yield f"{server.url}/{name}"
    finally:
        # `use_database` asks for what servers of before 2.4 do not know.
        inside = MilvusClient(f"{server.url}/{name}")
        for collection in inside.list_collections():
            inside.drop_collection(collection)
        inside.close()
        client = MilvusClient(server.url)
        client.drop_database(name)
        client.close()
