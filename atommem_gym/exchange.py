"""Sends one HTTP request and reads its complete reply within a deadline and a size limit, with or without asyncio.

``httpx`` limits the wait for the next byte, not for the whole reply: a server that sends slowly, or whose few kilobytes
inflate to gigabytes, would block a call for ever or take all memory. Here the reply is read piece by piece, inflated up
to a limit, and dropped with its connection as soon as it is too late or too large.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import threading
import weakref
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import httpx

MEBIBYTE = 2**20
LARGEST_REPLY = 16 * MEBIBYTE
"""Most bytes of a reply, also after inflation; a million tokens of text take a third of that."""
_PIECE = 64 * 1024
_ACCEPTED = "gzip, deflate"
_WINDOW_BITS = {"gzip": 16 + zlib.MAX_WBITS, "x-gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}


class UnreadableReplyError(Exception):
    """A reply came, but it is too large or cannot be decoded."""


class TooSlowError(Exception):
    """The reply was not complete in time."""


def open_client(headers: Mapping[str, str], limits: httpx.Limits) -> httpx.AsyncClient:
    """Open a client for :func:`exchange`, which sets the deadlines. All clients of a process share the certificates,

    since reading them takes longer than connecting.
    """
    return httpx.AsyncClient(timeout=None, headers=headers, limits=limits, verify=_certificates())


@cache
def _certificates() -> ssl.SSLContext:
    return httpx.create_ssl_context()


async def exchange(
    client: httpx.AsyncClient,
    method: str,
    url: str,
    body: Mapping[str, Any] | None,
    *,
    seconds: float,
    largest: int = LARGEST_REPLY,
) -> httpx.Response:
    """Send a request and return its reply, read to the end and inflated.

    Args:
        client: The client, from :func:`open_client`.
        method: For example ``POST``.
        url: The URL.
        body: The body, sent as JSON; ``None`` for none.
        seconds: Time for the whole exchange, from connecting to the last byte.
        largest: Most bytes of the reply's body, before and after inflation.

    Raises:
        TooSlowError: the reply was not complete in time.
        UnreadableReplyError: the reply is larger, or its ``Content-Encoding`` was not asked for or is wrong.
        httpx.RequestError: there was no reply.
    """
    try:
        return await asyncio.wait_for(_exchange(client, method, url, body, largest), seconds)
    except (asyncio.TimeoutError, httpx.TimeoutException) as error:
        raise TooSlowError(f"no whole reply within {seconds:g} seconds") from error


async def _exchange(
    client: httpx.AsyncClient, method: str, url: str, body: Mapping[str, Any] | None, largest: int
) -> httpx.Response:
    headers = {"Accept-Encoding": _ACCEPTED}
    async with client.stream(method, url, json=body, headers=headers) as response:
        inflated = _Inflated(response.headers.get("content-encoding", ""), largest)
        async for piece in response.aiter_raw(_PIECE):
            inflated.add(piece)
        content = inflated.end()
    kept = [(name, value) for name, value in response.headers.multi_items() if name.lower() != "content-encoding"]
    return httpx.Response(response.status_code, headers=kept, content=content, request=response.request)


class _Inflated:
    """A body that is inflated piece by piece, up to a size."""

    def __init__(self, encoding: str, largest: int) -> None:
        self._encoding = encoding.strip().lower()
        self._largest = largest
        self._raw = 0
        self._content = bytearray()
        self._decoder: Any = None
        if self._encoding not in ("", "identity"):
            if self._encoding not in _WINDOW_BITS:
                raise UnreadableReplyError(
                    f"its Content-Encoding is {encoding[:100]!r}; only {_ACCEPTED} were asked for"
                )
            self._decoder = zlib.decompressobj(_WINDOW_BITS[self._encoding])

    def add(self, piece: bytes) -> None:
        self._raw += len(piece)
        if self._decoder is not None:
            piece = self._inflate(piece)
        self._content += piece
        if max(self._raw, len(self._content)) > self._largest:
            raise UnreadableReplyError(f"it is larger than {self._largest / MEBIBYTE:g} MiB")

    def end(self) -> bytes:
        """The whole body."""
        if self._decoder is not None and self._raw and not self._decoder.eof:
            raise UnreadableReplyError(f"its {self._encoding} ends too early")
        return bytes(self._content)

    def _inflate(self, piece: bytes) -> bytes:
        room = self._largest - len(self._content) + 1
        try:
            return bytes(self._decoder.decompress(piece, room))
        except zlib.error as error:
            if self._encoding == "deflate" and self._raw == len(piece):
                # Some servers send raw deflate.
                self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
                try:
                    return bytes(self._decoder.decompress(piece, room))
                except zlib.error:
                    pass
            raise UnreadableReplyError(f"its {self._encoding} cannot be inflated ({error})") from error


class BlockingClient:
    """An ``httpx.AsyncClient`` for threads; all exchanges run on one event loop in a separate thread.

    A deadline can cancel a coroutine wherever it waits, which no socket timeout can do for a thread.
    """

    def __init__(self, *, headers: Mapping[str, str], connections: int) -> None:
        """Prepare a client; nothing is opened yet.

        Args:
            headers: Headers of every request.
            connections: Most open connections.
        """
        self._headers = dict(headers)
        self._limits = httpx.Limits(max_connections=connections)
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._finalizer: Any = None
        self._lock = threading.Lock()
        _clients.add(self)

    def request(
        self, method: str, url: str, body: Mapping[str, Any] | None, *, seconds: float, largest: int
    ) -> httpx.Response:
        """:func:`exchange` for threads, of which any number may call it at a time.

        Raises:
            TooSlowError, UnreadableReplyError, httpx.RequestError: as in :func:`exchange`.
        """
        client, loop = self._opened()
        asked = asyncio.run_coroutine_threadsafe(
            exchange(client, method, url, body, seconds=seconds, largest=largest), loop
        )
        try:
            return asked.result()
        except BaseException:
            # Ctrl-C: the request must not continue in the background.
            asked.cancel()
            raise

    def close(self) -> None:
        """Close all connections; a later request opens new ones."""
        with self._lock:
            finalizer, self._client, self._finalizer = self._finalizer, None, None
        if finalizer is not None:
            finalizer()

    def renew_lock(self) -> None:
        """Replace the lock in a forked child, where a thread of the parent may have held it."""
        self._lock = threading.Lock()

    def _opened(self) -> tuple[httpx.AsyncClient, asyncio.AbstractEventLoop]:
        loop = _shared_loop()
        with self._lock:
            if self._client is None or self._loop is not loop:
                # A forked child has another loop, and does not use its parent's connections.
                self._client = open_client(self._headers, self._limits)
                self._loop = loop
                self._finalizer = weakref.finalize(self, _close, self._client, loop, os.getpid())
                # At exit the sockets are closed anyway, and the thread of the loop no longer runs.
                self._finalizer.atexit = False
            return self._client, loop


_loops: dict[int, asyncio.AbstractEventLoop] = {}
_starting = threading.Lock()
_clients: weakref.WeakSet[BlockingClient] = weakref.WeakSet()


def _shared_loop() -> asyncio.AbstractEventLoop:
    """The event loop for all blocking clients of this process, which runs in a daemon thread."""
    with _starting:
        loop = _loops.get(os.getpid())
        if loop is None:
            loop = _loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=loop.run_forever, name="exchange", daemon=True).start()
        return loop


def _renew_locks() -> None:
    global _starting
    _starting = threading.Lock()
    for client in list(_clients):
        client.renew_lock()


if hasattr(os, "register_at_fork"):
    # Another thread may have held one at the moment of the fork.
    os.register_at_fork(after_in_child=_renew_locks)


def _close(client: httpx.AsyncClient, loop: asyncio.AbstractEventLoop, process: int) -> None:
    if process == os.getpid() and loop.is_running():
        asyncio.run_coroutine_threadsafe(client.aclose(), loop)
