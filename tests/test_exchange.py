"""No server can hold a call for longer, or send more, than is allowed (finding 2.7)."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
import socket
import threading
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.agents.players.language_model import Sampling
from atommem_gym.agents.players.openai_model import OpenAIModel
from atommem_gym.embedders.openai_embedder import EndpointEmbedder
from atommem_gym.endpoints import Endpoint
from atommem_gym.errors import EmbedderError, LanguageModelError, ModelUnavailableError
from atommem_gym.exchange import UnreadableReplyError, _Inflated
from atommem_gym.testing import budget

GOOD = json.dumps({"choices": [{"message": {"content": "x"}, "finish_reason": "stop"}]}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
Send = Callable[[bytes], None]


class RawServer:
    """Sends whatever bytes a test makes it send, at the pace that the test wants."""

    def __init__(self, answer: Callable[[Send], None]) -> None:
        self.answer = answer
        self.requests = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/v1"

    def close(self) -> None:
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                link, _ = self._socket.accept()
                threading.Thread(target=self._reply, args=(link,), daemon=True).start()

    def _reply(self, link: socket.socket) -> None:
        with suppress(OSError), link:
            text = b""
            while b"\r\n\r\n" not in text:
                text += link.recv(65536)
            self.requests += 1
            self.answer(link.sendall)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[Send], None]], RawServer]]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._FIRST_WAIT", 0.001)
    monkeypatch.setattr("atommem_gym.agents.players.openai_model._LONGEST_WAIT", 0.002)
    servers: list[RawServer] = []

    def start(answer: Callable[[Send], None]) -> RawServer:
        servers.append(RawServer(answer))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def drip(text: bytes) -> Callable[[Send], None]:
    def answer(send: Send) -> None:
        for byte in text:
            send(bytes([byte]))
            time.sleep(0.05)

    return answer


def after_head(send: Send, piece: bytes, pause: float) -> None:
    send(HEAD + b"\r\n")
    while True:
        send(piece)
        time.sleep(pause)


SLOW: dict[str, Callable[[Send], None]] = {
    "dripping headers": drip(HEAD + b"X-Long: " + b"x" * 2000),
    "a dripping body": lambda send: (send(HEAD + b"Content-Length: 999\r\n\r\n"), drip(b" " * 999)(send))[0],
    "a body without end": lambda send: after_head(send, b" ", 0.02),
    "no word": lambda send: time.sleep(5),
    "half a reply": lambda send: (send(HEAD + b"Content-Length: 999\r\n\r\n{"), time.sleep(5))[0],
}


def complete(server: RawServer, **options: Any) -> str:
    async def asked() -> str:
        model = OpenAIModel(server.url, "m", **options)
        try:
            return (await model.complete([{"role": "user", "content": "x"}], Sampling())).text
        finally:
            await model.aclose()

    return asyncio.run(asked())


@pytest.mark.parametrize("name", SLOW)
def test_finding_2_7_a_slow_reply_ends_at_the_deadline_of_the_whole_call(serve: Any, name: str) -> None:
    server = serve(SLOW[name])
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError, match=r"no whole reply within 0\.3 seconds"):
        complete(server, timeout=0.3, patience=0.2)
    assert time.monotonic() - started < 0.2 + 2 * 0.3 + 1.5
    started = time.monotonic()
    with pytest.raises(EmbedderError, match=r"no whole reply within 0\.3 seconds"):
        EndpointEmbedder(server.url, "m", timeout=0.3, tries=2, backoff=0.0)
    assert time.monotonic() - started < 2 * 0.3 + 1.5


def sent(head: bytes, body: bytes) -> Callable[[Send], None]:
    return lambda send: send(HEAD + head + b"Content-Length: %d\r\n\r\n" % len(body) + body)


def bomb(size: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join([*(packer.compress(bytes(2**20)) for _ in range(size // 2**20)), packer.flush()])


def flood(send: Send) -> None:
    send(HEAD + b"\r\n")
    while True:
        send(b" " * 2**20)


@pytest.mark.parametrize("kind", ["plain", "gzip", "gzip of gzip"])
def test_finding_2_7_a_reply_without_end_is_dropped_at_its_largest_size(serve: Any, kind: str) -> None:
    packed = bomb(32 * 2**20)
    server = serve(
        {
            "plain": flood,
            "gzip": sent(b"Content-Encoding: gzip\r\n", packed),
            "gzip of gzip": sent(b"Content-Encoding: gzip, gzip\r\n", gzip.compress(packed)),
        }[kind]
    )
    with pytest.raises(LanguageModelError, match=r"larger than 16 MiB|only gzip, deflate were asked for"):
        complete(server, patience=0.0)
    endpoint = Endpoint(server.url, EmbedderError, tries=2, backoff=0.0, largest=2**20)
    with closing(endpoint), pytest.raises(EmbedderError, match=r"larger than 1 MiB|only gzip, deflate were asked for"):
        endpoint.get("/models", lambda reply: reply)
    assert server.requests == 3


def test_finding_2_7_a_small_reply_that_inflates_takes_no_more_memory_than_is_allowed() -> None:
    packed = bomb(256 * 2**20)
    tracemalloc.start()
    try:
        with pytest.raises(UnreadableReplyError, match="larger than 1 MiB"):
            _Inflated("gzip", 2**20).add(packed)
        assert tracemalloc.get_traced_memory()[1] < 6 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("asked", ["99999999999", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_finding_2_7_no_retry_after_is_waited_for_beyond_the_patience(serve: Any, asked: str) -> None:
    server = serve(
        lambda send: send(f"HTTP/1.1 429 Busy\r\nRetry-After: {asked}\r\nContent-Length: 0\r\n\r\n".encode())
    )
    started = time.monotonic()
    with pytest.raises(ModelUnavailableError, match="429"):
        complete(server, patience=0.4)
    assert 0.3 < time.monotonic() - started < 3
    assert server.requests == 2


def test_finding_2_7_a_long_retry_after_is_cut_to_a_minute(serve: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    replies = [b"HTTP/1.1 429 Busy\r\nRetry-After: 86400\r\nContent-Length: 0\r\n\r\n"]
    server = serve(lambda send: send(replies.pop()) if replies else sent(b"", GOOD)(send))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    assert complete(server, patience=900.0) == "x"
    assert waits == [60.0]


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate without a header", "identity", "GZIP"])
def test_encodings_that_were_asked_for_are_read(serve: Any, encoding: str) -> None:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = {
        "gzip": gzip.compress(GOOD),
        "deflate": zlib.compress(GOOD),
        "deflate without a header": packer.compress(GOOD) + packer.flush(),
        "identity": GOOD,
    }[encoding.lower()]
    name = encoding.split()[0].encode()
    assert complete(serve(sent(b"Content-Encoding: " + name + b"\r\n", body))) == "x"
    with pytest.raises(LanguageModelError, match=r"ends too early|cannot be inflated|no JSON"):
        complete(serve(sent(b"Content-Encoding: " + name + b"\r\n", body[:-9])), patience=0.0)


@given(st.binary(max_size=3000), st.sampled_from(["gzip", "deflate", ""]), st.integers(1, 700), st.integers(0, 4000))
@budget(200)
def test_a_body_is_whole_or_an_error_however_it_is_cut(body: bytes, encoding: str, piece: int, largest: int) -> None:
    packed = {"gzip": gzip.compress, "deflate": zlib.compress, "": bytes}[encoding](body)
    inflated = _Inflated(encoding, largest)
    try:
        for start in range(0, len(packed), piece):
            inflated.add(packed[start : start + piece])
        assert inflated.end() == body
        assert len(body) <= largest
    except UnreadableReplyError:
        assert max(len(body), len(packed)) > largest


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks: run it on Linux or macOS")
def test_a_forked_child_calls_over_connections_of_its_own(serve: Any) -> None:
    server = serve(sent(b"", GOOD))
    with closing(Endpoint(server.url, EmbedderError, tries=1)) as endpoint:
        assert "choices" in endpoint.get("/models", lambda reply: reply)
        child = os.fork()
        if not child:
            with suppress(BaseException):
                os._exit(0 if "choices" in endpoint.get("/models", lambda reply: reply) else 1)
            os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert "choices" in endpoint.get("/models", lambda reply: reply)
