"""A Milvus server behind a bad network: what is lost is said, what is said is kept (SPEC M13)."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from pymilvus import MilvusClient
from support.servers import MilvusServer, milvus_server  # noqa: F401
from support.stores.players import Plan, endless, facts, states

from atommem_gym.errors import StoreError
from atommem_gym.stores import milvus_connection
from atommem_gym.stores import milvus_server as module
from atommem_gym.stores.loading import open_store

_CHUNK = 1 << 16


class Proxy:
    """A TCP proxy that spoils connections on purpose, between a client and a real server.

    Forwards a loopback port to another one; what it does to bytes that come from now on is set at any time.

    ``mode`` is one of

    - ``pass``: nothing is spoilt;
    - ``drop``: a connection over which the client says something is closed, and the server hears nothing of it;
    - ``lose answers``: the server hears the client, its answers are lost, and soon the connection is closed;
    - ``hold``: what the client says reaches the server only when ``pass`` is set again, even if the client is gone.

    ``times`` limits ``drop`` and ``lose answers`` to so many connections. ``delay_s`` is the time that every answer
    takes longer.
    """

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self._changed = threading.Condition()
        self._mode = "pass"
        self._times = 0
        self.delay_s = 0.0
        self.spoilt = 0
        """How many connections were spoilt."""
        self.held_bytes = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._links: list[_Link] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set(self, mode: str, times: int = 1_000_000) -> None:
        with self._changed:
            self._mode, self._times = mode, times
            self._changed.notify_all()

    def close(self) -> None:
        self.set("pass")
        self._listener.close()
        for link in list(self._links):
            link.cut()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                try:
                    server = socket.create_connection(("127.0.0.1", self._upstream))
                except OSError:
                    client.close()
                    continue
                link = _Link(client, server)
                self._links.append(link)
                threading.Thread(target=self._to_server, args=(link,), daemon=True).start()
                threading.Thread(target=self._to_client, args=(link,), daemon=True).start()

    def _to_server(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while data := link.client.recv(_CHUNK):
                with self._changed:
                    mode = self._mode if self._mode == "hold" or self._times > 0 else "pass"
                    if mode in ("drop", "lose answers") and not link.losing:
                        self._times -= 1
                        self.spoilt += 1
                    if mode == "hold":
                        self.held_bytes += len(data)
                        self._changed.wait_for(lambda: self._mode != "hold")
                if mode == "drop":
                    break
                if mode == "lose answers" and not link.losing:
                    link.losing = True
                    # Time enough for the server to do what it was asked.
                    threading.Timer(0.4, link.cut).start()
                link.server.sendall(data)
                if mode == "hold":
                    # What the client said afterwards, that it is not interested any more, comes too late.
                    time.sleep(0.6)
        link.cut()

    def _to_client(self, link: _Link) -> None:
        with contextlib.suppress(OSError):
            while data := link.server.recv(_CHUNK):
                if self.delay_s:
                    time.sleep(self.delay_s)
                if not link.losing:
                    link.client.sendall(data)
        link.cut()


class _Link:
    """One connection and what it leads to."""

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.client = client
        self.server = server
        self.losing = False

    def cut(self) -> None:
        for end in (self.client, self.server):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


@pytest.fixture
def proxy(milvus_server: MilvusServer) -> Iterator[Proxy]:  # noqa: F811
    between = Proxy(milvus_server.port)
    yield between
    between.close()


@pytest.fixture
def database(milvus_server: MilvusServer) -> str:  # noqa: F811
    """The name of a database of its own, so that a test begins with empty memory."""
    client = MilvusClient(milvus_server.url)
    name = f"faults_{time.monotonic_ns()}"
    client.create_database(name)
    client.close()
    return name


# With time-outs of a second these depend on a quiet machine: `make slow`.
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CALL_TIMEOUT_S", 1.0)
    monkeypatch.setattr(milvus_connection, "CONNECT_TIMEOUT_S", 2.0)


def kept_state(url: str, key: str) -> tuple[dict[int, str], int, str]:
    """What the server has under a key, seen without the proxy."""
    store = open_store(url, 1024, keep=True)
    stored = store.load(key)
    store.close()
    assert stored is not None
    state = json.loads(stored.state or "{}")
    ids = stored.ids.tolist()
    assert len(set(ids)) == len(ids)
    return dict(zip(ids, stored.texts, strict=True)), state["next_id"], state["scratchpad"]


def play(env: Any, seed: str, spoil: Any, steps: int = 12) -> int:
    """Play a plan beside an environment that nothing disturbs; a step that fails is repeated. How many failed."""
    twin = endless(store="numpy")
    env.reset(seed=0)
    twin.reset(seed=0)
    memories = states(seed, steps)
    failed = 0
    said: list[str] = []
    for number, action in zip(range(1, steps + 1), Plan(seed).actions(), strict=False):
        repair = spoil(number)
        try:
            result = env.step(action)
        except StoreError as error:
            failed += 1
            said.append(str(error))
            assert facts(env) == memories[number - 1], "a step that failed has changed the environment"
            repair()
            result = env.step(action)
        repair()
        assert repr(result) == repr(twin.step(action)), f"step {number}"
        assert facts(env) == memories[number]
    assert all("repeat" in message for message in said)
    return failed


@pytest.mark.parametrize("mode", ["drop", "lose answers"])
@pytest.mark.parametrize("times", [1, 1_000_000], ids=["once", "until repaired"])
def test_M13_a_connection_that_breaks_loses_and_doubles_nothing(
    milvus_server: MilvusServer,  # noqa: F811
    proxy: Proxy,
    database: str,
    mode: str,
    times: int,
) -> None:
    env = endless(store=f"{proxy.url}/{database}", keep_memory=True)
    seed = f"{mode}-{times}"

    def spoil(number: int) -> Any:
        if number in (3, 6, 9):
            proxy.set(mode, times)
        return lambda: proxy.set("pass")

    failed = play(env, seed, spoil)
    assert proxy.spoilt >= 3
    # A request that was lost once is sent again by the client itself, and doing it twice is doing it once.
    assert failed == 3 if times > 1 else failed <= 3
    key, expected = env.memory_key, facts(env)
    env.close()
    assert kept_state(f"{milvus_server.url}/{database}", key) == expected == states(seed, 12)[-1]


def test_M13_late_answers_are_waited_for_or_the_step_fails_and_can_be_repeated(
    milvus_server: MilvusServer,  # noqa: F811
    proxy: Proxy,
    database: str,
) -> None:
    env = endless(store=f"{proxy.url}/{database}", keep_memory=True)

    def spoil(number: int) -> Any:
        proxy.delay_s = {4: 0.15, 7: 3.0}.get(number, 0.0)

        def repair() -> None:
            proxy.delay_s = 0.0

        return repair

    assert play(env, "late", spoil, 9) == 1
    key = env.memory_key
    env.close()
    assert kept_state(f"{milvus_server.url}/{database}", key) == states("late", 9)[-1]


def test_M13_a_request_that_arrives_when_its_step_is_long_past_changes_nothing_or_is_an_error(
    milvus_server: MilvusServer,  # noqa: F811
    proxy: Proxy,
    database: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    env = endless(store=f"{proxy.url}/{database}", keep_memory=True)
    env.reset(seed=0)
    env.step("<create>bees</create>")
    proxy.set("hold")
    with pytest.raises(StoreError, match="repeat"):
        env.step("<create>boats</create>")
    # The way is free for a new connection, while the old request is still under way.
    other = Proxy(milvus_server.port)
    monkeypatch.setattr(env._backend.store._connection, "_url", f"{other.url}/{database}")
    env.step("<create>boats</create>")
    env.step('<delete id="2"/>')
    proxy.set("pass")
    time.sleep(0.5)
    try:
        memories = env.step("<read>boats</read>")[0]["memories"]
    except StoreError:
        # The row that came back was noticed; repeating the step deletes it.
        memories = env.step("<read>boats</read>")[0]["memories"]
    finally:
        other.close()
    assert [m["id"] for m in memories] == [1]
    assert kept_state(f"{milvus_server.url}/{database}", env.memory_key)[0] == {1: "bees"}
