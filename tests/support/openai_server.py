"""A real HTTP server on a loopback port that answers as a test tells it to, in place of an OpenAI-compatible one."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


@dataclass
class Reply:
    """What the server answers: JSON unless ``body`` is text or bytes."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Request:
    """What the server was asked."""

    method: str
    path: str
    body: Any
    headers: dict[str, str]


Answer = Callable[[Request, int], Reply]
"""The reply to a request, given also how many requests came before it."""


class OpenAIServer:
    """Answers with ``answer`` and keeps every request in ``requests``."""

    def __init__(self, port: int = 0) -> None:
        self.answer: Answer = lambda request, number: Reply({"error": {"message": "not told what to answer"}}, 418)
        self.requests: list[Request] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                outer._serve(self)

            def do_POST(self) -> None:
                outer._serve(self)

            def log_message(self, *args: object) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A client that hangs up early is part of the tests."""

        self._server = Server(("127.0.0.1", port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/v1"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def asked(self, path: str) -> list[Request]:
        return [request for request in self.requests if request.path == path]

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        raw = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        headers = {name.lower(): value for name, value in handler.headers.items()}
        request = Request(handler.command, handler.path, json.loads(raw) if raw else None, headers)
        with self._lock:
            number = len(self.requests)
            self.requests.append(request)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        reply = self.answer(request, number)
        with self._lock:
            self._at_once -= 1
        body = reply.body if isinstance(reply.body, (str, bytes)) else json.dumps(reply.body)
        body = body.encode() if isinstance(body, str) else body
        handler.send_response(reply.status)
        for name, value in {"Content-Length": str(len(body)), **reply.headers}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenAIServer]:
    """A fresh server; import it into a test module to use it."""
    for name in ("OPENAI_API_KEY", "ATOMMEM_JUDGE_URL", "ATOMMEM_JUDGE_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = OpenAIServer()
    yield running
    running.stop()
