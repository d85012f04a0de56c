"""Serves a page to the browser of this machine, and to nobody else: episodes are sent when they are looked at."""

from __future__ import annotations

import gzip
import hmac
import secrets
import sys
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from atommem_gym.errors import AtomMemError
from atommem_gym.viewer.library import Library

HOST = "127.0.0.1"
_SAFE_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a browser that has hung up."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class PageServer:
    """A page at an address of this machine with a secret in it.

    Only the loopback interface is listened to, only the two names of this machine are answered (so that no page of
    another site can have its own name point here), and every path begins with a secret that other users do not know.

    Args:
        library: What is shown.
        port: 0: any free one.

    Raises:
        AtomMemError: the port cannot be had.
    """

    def __init__(self, library: Library, port: int = 0) -> None:
        self._secret = secrets.token_urlsafe(18)
        self.sent: dict[str, int] = {}
        """Bytes of bodies that were sent, by what was asked for; the page itself is ``""``."""
        try:
            self._server = _Server((HOST, port), _handler(self, library))
        except (OSError, OverflowError) as error:
            raise AtomMemError(
                f"port {port} cannot be had ({error}); name another one with --port, or leave it out"
            ) from error

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        """The page's address."""
        return f"http://{HOST}:{self.port}/{self._secret}/"

    def serve(self) -> None:
        """Answer until :meth:`stop` is called from another thread, or the process is interrupted."""
        self._server.serve_forever(poll_interval=0.1)

    def stop(self) -> None:
        """Let :meth:`serve` return; to be called from another thread while it runs."""
        self._server.shutdown()

    def __enter__(self) -> PageServer:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.server_close()

    def name_in(self, path: str) -> str | None:
        """What a path asks for, ``None`` if it has not the secret."""
        first, slash, name = path.partition("?")[0].lstrip("/").partition("/")
        known = hmac.compare_digest(first.encode("utf-8", "replace"), self._secret.encode("ascii"))
        return name if slash and known else None


def _handler(server: PageServer, library: Library) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version, sys_version = "atommem", ""

        def do_GET(self) -> None:
            """Answer one request."""
            names = {f"{HOST}:{server.port}", f"localhost:{server.port}"}
            name = server.name_in(self.path)
            if name is None or self.headers.get("Host") not in names:
                self.send_error(HTTPStatus.NOT_FOUND)
                return
            status = HTTPStatus.OK
            try:
                found = self._found(name)
            except Exception as error:  # whatever a stranger's file leads to, the browser shows it
                said = str(error) if isinstance(error, AtomMemError) else f"{type(error).__name__}: {error}"
                found = said.encode("utf-8", "replace"), {"Content-Type": "text/plain; charset=utf-8"}
                status = HTTPStatus.INTERNAL_SERVER_ERROR
            if found is None:
                self.send_error(HTTPStatus.NOT_FOUND)
            else:
                self._send(name, *found, status)

        def _found(self, name: str) -> tuple[bytes, dict[str, str]] | None:
            if name == "":
                library.refresh()
                page = gzip.compress(library.page().encode("utf-8"), 6)
                return page, {"Content-Type": "text/html; charset=utf-8", "Content-Encoding": "gzip"}
            data = library.block(name)
            return None if data is None else (data, {"Content-Type": "application/octet-stream"})

        def _send(self, name: str, body: bytes, headers: dict[str, str], status: HTTPStatus) -> None:
            server.sent[name] = server.sent.get(name, 0) + len(body)
            self.send_response(status)
            for header, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(header, value)
            self.end_headers()
            self.wfile.write(body)

        def end_headers(self) -> None:
            """Every reply has the safe headers, those of errors, too."""
            for header, value in _SAFE_HEADERS.items():
                self.send_header(header, value)
            super().end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing: the terminal is the user's."""

    return Handler
