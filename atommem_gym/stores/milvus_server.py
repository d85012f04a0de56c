"""The store on a Milvus server or cluster, which many machines can share and which answers its reads itself."""

from __future__ import annotations

import contextlib
import os
import re
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import grpc  # type: ignore[import-untyped]
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, Rows, Search, StoredEpisode, Write
from atommem_gym.stores.milvus_rows import (
    ENTRY,
    EPISODE,
    KEY,
    MAX_EPISODE_CHARS,
    MAX_KEY_CHARS,
    META_EPISODE,
    TEXT,
    VECTOR,
    Head,
    all_rows_of,
    check_episode,
    compose,
    entries_of,
    key_of,
    listed,
    marker,
    meta_text,
    read_meta,
    row,
    stored,
)
from atommem_gym.stores.milvus_search import Hit, rows_of, unit, widen
from atommem_gym.stores.write_checks import check_writes
from atommem_gym.trust import secret

CONNECT_TIMEOUT_S = 5.0
CALL_TIMEOUT_S = 60.0
_MAX_CALL_BYTES = 16 * 2**20
"""Half of the least that servers are configured to accept in one message, and more than any usual step has."""
_KEYS_PER_CALL = 200

_Row = dict[str, Any]
_write_locks: dict[str, threading.Lock] = {}
"""One writer per server in this process: the server of milvus-lite loses rows when two write at once."""
if hasattr(os, "register_at_fork"):
    # A child must not inherit a lock that a thread of its parent held.
    os.register_at_fork(after_in_child=_write_locks.clear)


class MilvusServerStore:
    """A ``Store`` on a Milvus server; episodes may be used from several threads, each from one at a time.

    Rows are kept in one collection, found by a filter on the episode, with strong consistency (a read sees the writes
    before it) and a FLAT index (an exact search). Temporary rows are deleted at ``drop`` and ``close``; those of a
    client that was killed stay in the collections ``atommem_temporary_*`` until someone drops these.
    ``milvus-lite server`` must not be written by several processes at once; Milvus itself may.

    Args:
        url: ``http://host:port`` or ``https://…``, with a database name as path if not the default one
            (``http://host:port/name``). A token is taken from the environment variable ``MILVUS_TOKEN``.
        dim: numbers in a vector.
        keep: whether the rows outlive ``close``.
        embedder: recorded with kept rows.

    Raises:
        StoreError: no server answers, or it keeps vectors of another dimension.
    """

    def __init__(self, url: str, dim: int, *, keep: bool = False, embedder: str = "") -> None:
        self.name = re.sub(r"//[^/@]*@", "//", url).rstrip("/")
        self.dim = dim
        self.kept = keep
        self._url = url
        self._collection = "atommem" if keep else f"atommem_temporary_{dim}"
        self._process = os.getpid()
        self._closed = False
        self._prepared = False
        self._client: MilvusClient | None = None
        self._client_lock = threading.Lock()
        self._write_lock = _write_locks.setdefault(url, threading.Lock())
        self._heads: dict[str, Head | None] = {}
        self._own: set[str] = set()
        try:
            self._prepare(embedder)
            self._prepared = True
        except BaseException:
            self._disconnect()
            raise

    def write(self, writes: Sequence[Write]) -> None:
        """Apply the writes of one step or vector step: one upsert (several beyond 16 MiB) and one delete.

        Raises:
            ConfigError, EmbedderError: a write is malformed (``write_checks.check_writes``); nothing has changed.
            StoreError: the server refused or is gone; some rows may have arrived, and the same call may be repeated.
        """
        self._check_usable()
        check_writes(writes, self.dim)
        self._load_missing([write.episode for write in writes])
        batch = compose(writes, self._heads.get, self.kept, self.dim)
        self._own.update(write.episode for write in writes)
        with self._write_lock, self._connected() as client:
            for rows in _by_bytes(batch.rows, self.dim):
                client.upsert(self._collection, rows, timeout=CALL_TIMEOUT_S)
            for keys in _in_parts(batch.deletes):
                client.delete(self._collection, ids=keys, timeout=CALL_TIMEOUT_S)
        self._heads.update(batch.heads)

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates of every search, in the order asked; one call of the server each, more where many tie."""
        self._check_usable()
        self._load_missing([search.episode for search in searches])
        return [self._search(search) for search in searches]

    def load(self, episode: str) -> StoredEpisode | None:
        """All that the server has under an episode key, or ``None``."""
        self._check_usable()
        self._load_missing([episode])
        return stored(self._fetch(all_rows_of([episode]), [EPISODE, ENTRY, TEXT, VECTOR]), self.dim)

    def episodes(self) -> list[str]:
        """Keys of all episodes in the collection that hold an entry or a state, sorted; other clients' too."""
        self._check_usable()
        entries = self._query(f"{ENTRY} > 0", [EPISODE, ENTRY])
        return listed(entries, self._fetch(f"{ENTRY} <= 0", [EPISODE, ENTRY, TEXT]))

    def drop(self, episodes: Sequence[str]) -> None:
        """Delete all rows of these episodes; unknown keys are no error."""
        self._check_usable()
        self._drop(episodes)

    def release(self, episodes: Sequence[str]) -> None:
        """Delete these episodes if they are temporary; forget what is remembered of kept ones."""
        self._check_usable()
        if not self.kept:
            self._drop(episodes)
        for episode in episodes:
            self._heads.pop(episode, None)

    def close(self) -> None:
        """Delete temporary rows and hang up. Closing twice is no error; in a forked child it does nothing.

        Raises:
            StoreError: the server is gone, so that temporary rows may be left there.
        """
        if self._closed:
            return
        self._closed = True
        if os.getpid() != self._process:
            return
        try:
            if not self.kept:
                self._drop(sorted(self._own))
        finally:
            self._disconnect()

    def _prepare(self, embedder: str) -> None:
        with self._write_lock, self._connected() as client:
            if not client.has_collection(self._collection, timeout=CALL_TIMEOUT_S):
                self._create(client)
            if not client.list_indexes(self._collection, timeout=CALL_TIMEOUT_S):
                index = client.prepare_index_params()
                index.add_index(VECTOR, index_type="FLAT", metric_type="COSINE")
                client.create_index(self._collection, index, timeout=CALL_TIMEOUT_S)
            client.load_collection(self._collection, timeout=CALL_TIMEOUT_S)
            described = client.describe_collection(self._collection, timeout=CALL_TIMEOUT_S)
        fields = {field["name"]: field for field in described["fields"]}
        if set(fields) != {KEY, EPISODE, ENTRY, TEXT, VECTOR}:
            raise StoreError(
                f"the collection {self._collection!r} at {self.name} has fields {sorted(fields)}, so it was not "
                f"written by atommem-gym; use another database of the server ({self.name}/name)"
            )
        if not self.kept:
            return
        meta = self._query(f'{KEY} == "{key_of(META_EPISODE, 0)}"', [TEXT])
        recorded = read_meta(meta[0][TEXT], self.name)[0] if meta else ""
        found = int(fields[VECTOR]["params"]["dim"])
        if found != self.dim:
            raise StoreError(
                f"the server {self.name} keeps vectors of {found} numbers (embedder {recorded or 'unknown'!r}), but "
                f"{self.dim} were asked for (embedder {embedder or 'unknown'!r}); use the embedder it was written "
                f"with, or another database of the server ({self.name}/name)"
            )
        if not recorded:
            text = meta_text(self.dim, embedder)
            with self._write_lock, self._connected() as client:
                client.upsert(self._collection, [row(META_EPISODE, 0, text, marker(self.dim))], timeout=CALL_TIMEOUT_S)

    def _create(self, client: MilvusClient) -> None:
        schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
        schema.add_field(KEY, DataType.VARCHAR, is_primary=True, max_length=MAX_KEY_CHARS)
        schema.add_field(EPISODE, DataType.VARCHAR, max_length=MAX_EPISODE_CHARS)
        schema.add_field(ENTRY, DataType.INT64)
        schema.add_field(TEXT, DataType.VARCHAR, max_length=MAX_TEXT_BYTES)
        schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=self.dim)
        try:
            client.create_collection(
                self._collection, schema=schema, consistency_level="Strong", timeout=CALL_TIMEOUT_S
            )
        except MilvusException:
            # Another client may have made it between the question and the answer.
            if not client.has_collection(self._collection, timeout=CALL_TIMEOUT_S):
                raise

    def _load_missing(self, episodes: Sequence[str]) -> None:
        """Fetch the heads of kept episodes that this store sees for the first time, and finish their deletes."""
        new = [check_episode(episode) for episode in episodes if episode not in self._heads] if self.kept else []
        for keys in _in_parts(new):
            found = self._fetch(f"{all_rows_of(keys)} and {ENTRY} <= 0", [EPISODE, ENTRY, TEXT])
            heads = {key: Head.of([row_ for row_ in found if row_[EPISODE] == key]) for key in keys}
            late = [key_of(key, entry) for key, head in heads.items() if head for entry in head.deletes]
            with self._write_lock, self._connected() as client:
                for part in _in_parts(late):
                    client.delete(self._collection, ids=part, timeout=CALL_TIMEOUT_S)
            self._heads.update(heads)

    def _search(self, search: Search) -> Rows:
        expression, vector = entries_of(search.episode), unit(search.vector)

        def nearest(limit: int) -> list[Hit]:
            with self._connected() as client:
                found = client.search(
                    self._collection,
                    data=[vector],
                    anns_field=VECTOR,
                    limit=limit,
                    filter=expression,
                    output_fields=[ENTRY, VECTOR],
                    search_params={"metric_type": "COSINE"},
                    consistency_level="Strong",
                    timeout=CALL_TIMEOUT_S,
                )
            return [(hit["entity"][ENTRY], hit["distance"], hit["entity"][VECTOR]) for hit in found[0]]

        def everything() -> Rows:
            found = self._fetch(expression, [ENTRY, VECTOR])
            return rows_of([hit[ENTRY] for hit in found], [hit[VECTOR] for hit in found], self.dim)

        return widen(nearest, everything, search.k, self.dim)

    def _query(self, expression: str, fields: list[str]) -> list[_Row]:
        with self._connected() as client:
            return list(
                client.query(
                    self._collection,
                    filter=expression,
                    output_fields=fields,
                    consistency_level="Strong",
                    timeout=CALL_TIMEOUT_S,
                )
            )

    def _fetch(self, expression: str, fields: list[str]) -> list[_Row]:
        """Like ``_query``, but in two goes, keys first, so that no answer exceeds what a message may hold."""
        rows: list[_Row] = []
        for keys in _in_parts([found[KEY] for found in self._query(expression, [KEY])]):
            with self._connected() as client:
                rows.extend(
                    client.query(
                        self._collection,
                        ids=keys,
                        output_fields=fields,
                        consistency_level="Strong",
                        timeout=CALL_TIMEOUT_S,
                    )
                )
        return rows

    def _drop(self, episodes: Sequence[str]) -> None:
        for keys in _in_parts(list(episodes)):
            expression = all_rows_of(keys)
            with self._write_lock, self._connected() as client:
                client.delete(self._collection, filter=expression, timeout=CALL_TIMEOUT_S)
            for key in keys:
                self._heads.pop(key, None)
                self._own.discard(key)

    @contextlib.contextmanager
    def _connected(self) -> Iterator[MilvusClient]:
        """The client, made anew after a failure: a channel that lost its server would keep failing for a while."""
        try:
            with self._client_lock:
                if self._client is None:
                    self._client = MilvusClient(
                        self._url,
                        token=secret("MILVUS_TOKEN", self._url) or "",
                        timeout=CONNECT_TIMEOUT_S,
                        dedicated=True,
                        # gRPC shares connections between the channels of a process: the new client would meet the
                        # broken one of the client before it.
                        grpc_options={"grpc.use_local_subchannel_pool": 1},
                    )
                    if self._prepared:
                        # A server that was started again may not have the collection in memory.
                        self._client.load_collection(self._collection, timeout=CALL_TIMEOUT_S)
                client = self._client
            yield client
        except (MilvusException, grpc.RpcError, OSError) as error:
            self._disconnect()
            # Some versions of the client quote the URL, and its password with it.
            user = re.search(r"//([^/@]*@)", self._url)
            said = str(error).replace(user[1], "") if user else str(error)
            raise StoreError(
                f"the Milvus server {self.name} failed: {said}; check that it runs and can be reached, then repeat "
                'the same call, or use store="milvus" (embedded, needs no server)'
            ) from (error if said == str(error) else None)

    def _disconnect(self) -> None:
        with self._client_lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(f"this store ({self.name}) is closed; open a new one with open_store")
        if os.getpid() != self._process:
            raise StoreError(
                f"this store ({self.name}) was opened by process {self._process}, and a forked child cannot use its "
                "connection; open a store in the child"
            )


def _in_parts(items: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(items), _KEYS_PER_CALL):
        yield items[at : at + _KEYS_PER_CALL]


def _by_bytes(rows: list[_Row], dim: int) -> Iterator[list[_Row]]:
    """Split rows so that each part stays under ``_MAX_CALL_BYTES``."""
    part: list[_Row] = []
    size = 0
    for row_ in rows:
        weight = 4 * dim + len(row_[TEXT].encode()) + 2 * MAX_KEY_CHARS
        if part and size + weight > _MAX_CALL_BYTES:
            yield part
            part, size = [], 0
        part.append(row_)
        size += weight
    if part:
        yield part
