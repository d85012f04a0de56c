"""A TCP proxy that spoils connections on purpose: between a client and a real server, for the fault tests."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

_CHUNK = 1 << 16


class Proxy:
    """Forwards a loopback port to another one; what it does to bytes that come from now on is set at any time.

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
