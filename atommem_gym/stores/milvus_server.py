"""The store on a Milvus server or cluster, which several machines can share and which answers reads itself."""

from __future__ import annotations

import importlib
import importlib.util
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from typing import Any

import numpy as np
from pymilvus import DataType, MilvusClient
from pymilvus.exceptions import MilvusException

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, Rows, Search, StoredEpisode, Write
from atommem_gym.stores.known_vectors import KnownVectors
from atommem_gym.stores.milvus_connection import Connection
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
    entry_of,
    key_of,
    listed,
    marker,
    meta_text,
    read_meta,
    row,
    stored,
)
from atommem_gym.stores.milvus_search import Hit, rows_of, sufficient, unit
from atommem_gym.stores.write_checks import check_writes

CALL_TIMEOUT_S = 60.0
_MAX_CALL_BYTES = 16 * 2**20
"""Half of the smallest message size that servers are configured to accept; a usual step stays far below."""
_KEYS_PER_CALL = 200
_SEARCHES_AT_ONCE = 64
"""A search with strong consistency waits for the server's next time tick (200 ms), so many wait together."""

_Row = dict[str, Any]
_write_locks: dict[str, threading.Lock] = {}
"""One writer per server in this process: the server of milvus-lite loses rows when two write at once."""
if hasattr(os, "register_at_fork"):
    # A child must not inherit a lock that a thread of its parent held.
    os.register_at_fork(after_in_child=_write_locks.clear)


class MilvusServerStore:
    """A ``Store`` on a Milvus server. Several threads may use it, but each episode only one at a time.

    Rows are kept in one collection, found by a filter on the episode, with strong consistency (a read sees the writes
    before it) and a FLAT index (an exact search). A search returns ids and cosines; vectors are asked for only where
    this client has neither written nor loaded them, or where they contradict the cosine. Temporary rows are deleted at
    ``drop`` and ``close``; those of a client that was killed stay in the collections ``atommem_temporary_*`` until
    someone drops the collections.
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
        self._connection = Connection(url, self._again)
        self.name = self._connection.name
        self.dim = dim
        self.kept = keep
        self._collection = "atommem" if keep else f"atommem_temporary_{dim}"
        self._process = os.getpid()
        self._closed = False
        self._write_lock = _write_locks.setdefault(url, threading.Lock())
        self._heads: dict[str, Head | None] = {}
        self._known = KnownVectors(dim)
        self._own: dict[str, bool] = {}
        """Episodes that this store has written, each with whether it knows all their rows."""
        # Threads start at the first vector step.
        self._searchers = ThreadPoolExecutor(_SEARCHES_AT_ONCE, thread_name_prefix="atommem-search")
        _import_scipy()
        try:
            self._prepare(embedder)
        except BaseException:
            self._hang_up()
            raise

    def write(self, writes: Sequence[Write]) -> None:
        """Apply the writes of one step or vector step: one upsert (several beyond 16 MiB) and one delete.

        Raises:
            ConfigError, EmbedderError: a write is malformed (``write_checks.check_writes``); nothing has changed.
            StoreError: the server refused or is gone; some rows may have arrived, and the same call may be repeated.
        """
        self._check_usable()
        squares = check_writes(writes, self.dim)
        self._load_missing([write.episode for write in writes])
        batch = compose(writes, self._heads.get, self.kept, self.dim)
        for write in writes:
            self._own.setdefault(write.episode, not self.kept)
        try:
            with self._write_lock, self._connection.client() as client:
                for rows in _by_bytes(batch.rows, self.dim):
                    client.upsert(self._collection, rows, timeout=CALL_TIMEOUT_S)
                for keys in _in_parts(batch.deletes):
                    client.delete(self._collection, ids=keys, timeout=CALL_TIMEOUT_S)
        except BaseException:
            # Which of the rows have arrived is not known.
            for write in writes:
                self._known.forget(write.episode)
                self._own[write.episode] = False
            raise
        self._known.apply(writes, squares)
        self._heads.update(batch.heads)

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates of every search, in the order asked.

        The searches run at the same time, one server call each, more where many entries tie; one more call gets all
        vectors that are not known.
        """
        self._check_usable()
        self._load_missing([search.episode for search in searches])
        found = self._hits(searches)
        self._ask_for_doubtful(searches, found)
        return [
            self._everything(search.episode)
            if hits is None
            else self._known.pick(search.episode, [hit[0] for hit in hits])
            for search, hits in zip(searches, found, strict=True)
        ]

    def load(self, episode: str) -> StoredEpisode | None:
        """Everything that the server keeps under an episode key; ``None`` if nothing is."""
        self._check_usable()
        self._load_missing([episode])
        found = stored(self._fetch(all_rows_of([episode]), [EPISODE, ENTRY, TEXT, VECTOR]), self.dim)
        if found is not None:
            self._known.learn(episode, found.ids.tolist(), found.vectors)
        return found

    def episodes(self) -> list[str]:
        """Keys of all episodes in the collection that hold an entry or a state, sorted; those of other clients too."""
        self._check_usable()
        entries = self._query(f"{ENTRY} > 0", [EPISODE, ENTRY])
        return listed(entries, self._fetch(f"{ENTRY} <= 0", [EPISODE, ENTRY, TEXT]))

    def drop(self, episodes: Sequence[str]) -> None:
        """Delete all rows of these episodes; unknown keys are ignored."""
        self._check_usable()
        self._drop(episodes)

    def release(self, episodes: Sequence[str]) -> None:
        """Delete these episodes if they are temporary; of kept ones, free what this client remembers."""
        self._check_usable()
        if not self.kept:
            self._drop(episodes)
        for episode in episodes:
            self._heads.pop(episode, None)
            self._known.forget(episode)

    def close(self) -> None:
        """Delete temporary rows and disconnect. Closing twice, or in a forked child, does nothing.

        Raises:
            StoreError: the server cannot be reached; temporary rows may stay there.
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
            self._hang_up()

    def _prepare(self, embedder: str) -> None:
        with self._write_lock, self._connection.client() as client:
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
            with self._write_lock, self._connection.client() as client:
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
            with self._write_lock, self._connection.client() as client:
                for part in _in_parts(late):
                    client.delete(self._collection, ids=part, timeout=CALL_TIMEOUT_S)
            self._heads.update(heads)

    def _hits(self, searches: Sequence[Search]) -> list[Sequence[Hit] | None]:
        """Run all searches at the same time; ``None`` for a search in which too many entries tie."""
        with self._connection.client() as client:
            if len(searches) == 1:
                return [self._search(client, searches[0])]
            running = [self._searchers.submit(self._search, client, search) for search in searches]
            # Also after one has failed: no search may run on with a client that has been given back.
            wait(running)
            return [search.result() for search in running]

    def _search(self, client: MilvusClient, search: Search) -> Sequence[Hit] | None:
        expression, vector = entries_of(search.episode), unit(search.vector)

        def nearest(limit: int) -> list[Hit]:
            found = client.search(
                self._collection,
                data=[vector],
                anns_field=VECTOR,
                limit=limit,
                filter=expression,
                # The key says which entry it is. With vectors among them the server would wait for a second tick.
                output_fields=[],
                search_params={"metric_type": "COSINE"},
                consistency_level="Strong",
                timeout=CALL_TIMEOUT_S,
            )
            return [(entry_of(hit.pk), hit.distance, ()) for hit in found[0]]

        return sufficient(nearest, search.k, self.dim)

    def _ask_for_doubtful(self, searches: Sequence[Search], found: Sequence[Sequence[Hit] | None]) -> None:
        """Fetch the vectors of hits that are not known or contradict the server's cosines."""
        doubtful: dict[str, set[int]] = {}
        for search, hits in zip(searches, found, strict=True):
            if hits and (unsure := self._known.doubtful(search, hits)):
                doubtful.setdefault(search.episode, set()).update(unsure)
        if not doubtful:
            return
        keys = [key_of(episode, entry) for episode, ids in doubtful.items() for entry in sorted(ids)]
        rows: dict[str, list[_Row]] = {episode: [] for episode in doubtful}
        for hit in self._rows(keys, [EPISODE, ENTRY, VECTOR]):
            rows[hit[EPISODE]].append(hit)
        for episode, ids in doubtful.items():
            # An entry that was deleted meanwhile is not a candidate any more.
            self._known.unlearn(episode, sorted(ids))
            vectors = np.array([hit[VECTOR] for hit in rows[episode]], np.float32).reshape(-1, self.dim)
            self._known.learn(episode, [hit[ENTRY] for hit in rows[episode]], vectors)

    def _everything(self, episode: str) -> Rows:
        found = self._fetch(entries_of(episode), [ENTRY, VECTOR])
        return rows_of([hit[ENTRY] for hit in found], [hit[VECTOR] for hit in found], self.dim)

    def _query(self, expression: str, fields: list[str]) -> list[_Row]:
        with self._connection.client() as client:
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
        """Like ``_query``, but first the keys and then the rows in parts, so that no reply exceeds the message size."""
        return self._rows([found[KEY] for found in self._query(expression, [KEY])], fields)

    def _rows(self, keys: list[str], fields: list[str]) -> list[_Row]:
        """The rows with these primary keys; unknown keys are skipped."""
        rows: list[_Row] = []
        for part in _in_parts(keys):
            with self._connection.client() as client:
                rows.extend(
                    client.query(
                        self._collection,
                        ids=part,
                        output_fields=fields,
                        consistency_level="Strong",
                        timeout=CALL_TIMEOUT_S,
                    )
                )
        return rows

    def _drop(self, episodes: Sequence[str]) -> None:
        known = [episode for episode in episodes if self._own.get(episode)]
        # By key: for a filter the server searches first, and waits for a time tick.
        for part in _in_parts([key for episode in known for key in self._keys(episode)]):
            with self._write_lock, self._connection.client() as client:
                client.delete(self._collection, ids=part, timeout=CALL_TIMEOUT_S)
        for part in _in_parts([episode for episode in episodes if not self._own.get(episode)]):
            expression = all_rows_of(part)
            with self._write_lock, self._connection.client() as client:
                client.delete(self._collection, filter=expression, timeout=CALL_TIMEOUT_S)
        for episode in episodes:
            self._heads.pop(episode, None)
            self._known.forget(episode)
            self._own.pop(episode, None)

    def _keys(self, episode: str) -> list[str]:
        """The primary keys of all rows of an episode, if they are known."""
        head = self._heads.get(episode)
        chunks = 0 if head is None else len(head.chunks())
        return [key_of(episode, entry) for entry in [*self._known.ids(episode), *range(0, -chunks, -1)]]

    def _again(self, client: MilvusClient) -> None:
        # A restarted server may not have the collection in memory.
        client.load_collection(self._collection, timeout=CALL_TIMEOUT_S)

    def _hang_up(self) -> None:
        self._searchers.shutdown()
        self._connection.close()

    def _check_usable(self) -> None:
        if self._closed:
            raise StoreError(f"this store ({self.name}) is closed; open a new one with open_store")
        if os.getpid() != self._process:
            raise StoreError(
                f"this store ({self.name}) was opened by process {self._process}, and a forked child cannot use its "
                "connection; open a store in the child"
            )


def _import_scipy() -> None:
    """Import ``scipy.sparse`` if it is installed, since pymilvus imports it lazily, perhaps in several threads at once.

    Threads that import it at the same time see half-imported modules.
    """
    if importlib.util.find_spec("scipy") is not None:
        importlib.import_module("scipy.sparse")


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
