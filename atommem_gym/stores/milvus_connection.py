"""The connection to a Milvus server: made at first use, and made again after a failure."""

from __future__ import annotations

import contextlib
import re
import threading
from collections.abc import Callable, Iterator

import grpc  # type: ignore[import-untyped]
from pymilvus import MilvusClient
from pymilvus.exceptions import MilvusException

from atommem_gym.errors import StoreError
from atommem_gym.trust import secret

CONNECT_TIMEOUT_S = 5.0


class Connection:
    """Lends one client to any number of threads.

    A client that failed is not lent again, since a channel that lost its server would keep failing for a
    while; it is closed when the last thread returns it.

    Args:
        url: the server's URL. A token is taken from the environment variable ``MILVUS_TOKEN``.
        on_again: called with each client after the first one, before it is lent.
    """

    def __init__(self, url: str, on_again: Callable[[MilvusClient], None]) -> None:
        self.name = re.sub(r"//[^/@]*@", "//", url).rstrip("/")
        """The URL without user and password."""
        self._url = url
        self._on_again = on_again
        self._lock = threading.Lock()
        self._connected_before = False
        self._present: _Lent | None = None

    @contextlib.contextmanager
    def client(self) -> Iterator[MilvusClient]:
        """Lend the client for the duration of the block.

        Raises:
            StoreError: the server cannot be reached, or failed within the block.
        """
        lent: _Lent | None = None
        try:
            lent = self._borrow()
            yield lent.client
        except (MilvusException, grpc.RpcError, OSError) as error:
            if lent is not None:
                self._withdraw(lent)
            # Some versions of the client quote the URL, and its password with it.
            user = re.search(r"//([^/@]*@)", self._url)
            said = str(error).replace(user[1], "") if user else str(error)
            raise StoreError(
                f"the Milvus server {self.name} failed: {said}; check that it runs and can be reached, then repeat "
                'the same call, or use store="milvus" (embedded, needs no server)'
            ) from (error if said == str(error) else None)
        finally:
            if lent is not None:
                self._give_back(lent)

    def close(self) -> None:
        """Close the client as soon as no thread uses it; the next use connects again."""
        with self._lock:
            present = self._present
        if present is not None:
            self._withdraw(present)

    def _borrow(self) -> _Lent:
        with self._lock:
            if self._present is None:
                client = MilvusClient(
                    self._url,
                    token=secret("MILVUS_TOKEN", self._url) or "",
                    timeout=CONNECT_TIMEOUT_S,
                    dedicated=True,
                    # gRPC shares connections between the channels of a process: the new client would get the broken
                    # connection of the client before it.
                    grpc_options={"grpc.use_local_subchannel_pool": 1},
                )
                if self._connected_before:
                    try:
                        self._on_again(client)
                    except BaseException:
                        client.close()
                        raise
                self._connected_before = True
                self._present = _Lent(client)
            self._present.users += 1
            return self._present

    def _withdraw(self, lent: _Lent) -> None:
        with self._lock:
            if self._present is lent:
                self._present = None
            unused = lent.users == 0
        if unused:
            lent.client.close()

    def _give_back(self, lent: _Lent) -> None:
        with self._lock:
            lent.users -= 1
            over = lent.users == 0 and self._present is not lent
        if over:
            lent.client.close()


class _Lent:
    """A client and how many threads use it."""

    __slots__ = ("client", "users")

    def __init__(self, client: MilvusClient) -> None:
        self.client = client
        self.users = 0
