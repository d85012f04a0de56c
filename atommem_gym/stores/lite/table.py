"""The rows of one dimension in a Milvus Lite database, and their exact mirror, which always agrees with them."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from milvus_lite import MilvusLite

from atommem_gym.errors import StoreError
from atommem_gym.memory.protocols import Rows, Search, StoredEpisode, Write
from atommem_gym.stores.lite.engine import LiteCollection, Row
from atommem_gym.stores.lite.episodes import EpisodeCollections, without_leftovers
from atommem_gym.stores.lite.ledger import Contents, Ledger
from atommem_gym.stores.milvus_rows import (
    ENTRY,
    EPISODE,
    KEY,
    META_EPISODE,
    TEXT,
    VECTOR,
    Head,
    all_rows_of,
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
from atommem_gym.stores.milvus_search import Hit, unit, widen
from atommem_gym.stores.mirror import Mirror
from atommem_gym.stores.write_checks import check_writes

logger = logging.getLogger(__name__)

Checked: TypeAlias = tuple[Write, list[float]]
"""A checked write with the squared lengths of its vectors."""

_EXTRA = 1
"""Rows that a search asks for beyond those to be shown; each one costs the engine as much as a row that is shown."""


class LiteTable:
    """Writes to Milvus Lite before anything else changes; shared by all stores of one database and dimension.

    Rows are in one shared collection, but those of an episode whose reads the engine answers are in a collection of
    its own while the episode runs (``EpisodeCollections``). When a kept episode is released, its rows move to the
    shared collection, so that a closed database has only this one.

    What is deleted stays in the engine's buffer until that holds 128 MB and is flushed: with 40 entries of 384 numbers
    per episode the process grows by 0.1 MB per episode and falls back after some 1,700 (measured over 2,048 episodes:
    184 MB, 360 at most, 236 at the end; the mirror was empty after each batch).

    Args:
        engine: the open database.
        path: its folder, for messages.
        name: the shared collection.
        dim: numbers in a vector; a collection that exists keeps its own.
        kept: whether the database outlives the process, so that it may already have rows.
        ledger: the ledger of a kept database; ``None`` for an older one, which gets a ledger at its first write.

    Raises:
        StoreError: the database cannot be read, or was not written by this package.
    """

    def __init__(
        self, engine: MilvusLite, path: str, name: str, dim: int, kept: bool, ledger: Ledger | None = None
    ) -> None:
        self.collection = LiteCollection(engine, path, name, dim)
        found = self.collection.found_dim()
        self.dim = dim if found is None else found
        self._kept = kept
        self._path = path
        self.ledger = ledger
        self._mirror = Mirror(self.dim)
        self._heads: dict[str, Head] = {}
        self._apart = EpisodeCollections(engine, path, name, self.dim, self.collection)
        if kept:
            self._gather(self._apart.recover())

    def embedder(self) -> str:
        """The name of the embedder that a kept database records; empty if there is none."""
        found = self.collection.get([key_of(META_EPISODE, 0)], [TEXT])
        return read_meta(found[0][TEXT], self._path)[0] if found else ""

    def record(self, embedder: str) -> None:
        """Record dimension and embedder in a kept database, unless it already records an embedder."""
        with self.collection.lock:
            if not self.embedder():
                self._describe(embedder)

    def write(self, writes: Sequence[Write], *, apart: bool = False) -> None:
        """Apply writes: one insert and one delete for all episodes in the shared collection, and for each other one.

        The mirror follows as soon as the engine has the rows of an episode: if a call for several episodes fails,
        each of them is written completely or not at all.

        Args:
            writes: the net effects of one step.
            apart: give the episodes their own collections, if they have none yet.

        Raises:
            ConfigError, EmbedderError: a write is malformed (``write_checks.check_writes``).
            StoreError: the database refused.
        """
        checked = list(zip(writes, check_writes(writes, self.dim), strict=True))
        with self.collection.lock:
            self._load_missing([write.episode for write in writes])
            if apart:
                for write in writes:
                    self._scatter(write.episode)
            with self._ready_ledger().writing(writes) if self._kept else contextlib.nullcontext():
                together: list[Checked] = []
                for write, squares in checked:
                    own = self._apart.get(write.episode)
                    if own is None:
                        together.append((write, squares))
                    else:
                        self._write(own, [(write, squares)])
                self._write(self.collection, together)

    def mirrored(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates from the mirror."""
        self._load_missing([search.episode for search in searches])
        return self._mirror.candidates(searches)

    def searched(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates from the engine's own search."""
        self._load_missing([search.episode for search in searches])
        return [self._search(search) for search in searches]

    def load(self, episode: str) -> StoredEpisode | None:
        """Everything that the database keeps under a key; ``None`` if nothing is."""
        with self.collection.lock:
            found = self._fetch(episode)
            self._load_one(episode, found)
            return stored(found, self.dim)

    def episodes(self) -> list[str]:
        """Keys of all episodes with an entry or a state, sorted."""
        with self.collection.lock:
            stated = {key for key, head in self._heads.items() if head.state is not None}
            running = stated | {key for key in self._mirror.episodes() if self._mirror.ids(key)}
            if not self._kept:
                return sorted(running)
            shared = listed(
                self.collection.query(f"{ENTRY} > 0", [EPISODE, ENTRY]),
                self.collection.query(f"{ENTRY} <= 0", [EPISODE, ENTRY, TEXT]),
            )
            apart = set(self._apart.episodes())
            return sorted((set(shared) - apart) | (running & apart))

    def drop(self, episodes: Sequence[str]) -> None:
        """Delete all rows of these episodes, those in the shared collection in one call, and free their mirror."""
        with self.collection.lock:
            if self._kept:
                keys = [found[KEY] for found in self.collection.query(all_rows_of(episodes), [KEY])]
            else:
                keys = [key for episode in episodes if episode not in self._apart for key in self._keys(episode)]
            with self._ready_ledger().dropping(episodes) if self._kept else contextlib.nullcontext():
                if keys:
                    self.collection.write([], keys)
                for episode in episodes:
                    if episode in self._apart:
                        self._apart.remove(episode)
                    self._forget(episode)

    def release(self, episodes: Sequence[str]) -> None:
        """Free the memory that these kept episodes take; the next use reads them from the database."""
        with self.collection.lock:
            rows = {}
            for episode in episodes:
                own = self._apart.get(episode)
                if own is not None:
                    rows[episode] = own.everything()
            self._gather(rows)
            for episode in episodes:
                self._forget(episode)

    def settle(self) -> None:
        """Prepare to close: release the collections of single episodes; kept ones move to the shared collection.

        Deleted and replaced rows of a kept database are then gone from all files (SPEC M16). On a disk without room for
        that the episodes stay where they are, and the next opening moves them.
        """
        with self.collection.lock:
            try:
                if self._kept:
                    self.release(self._apart.episodes())
                    self.collection.compact()
            except StoreError as error:
                logger.warning(
                    "some episodes stay in collections of their own, or deleted text on the disk, until the next "
                    "opening is closed: %s",
                    error,
                )
            finally:
                self._apart.close()

    def _ready_ledger(self) -> Ledger:
        """The ledger of a kept database; an older database is upgraded by making a ledger of what it holds.

        Raises:
            StoreError: the disk refused; nothing has changed.
        """
        if self.ledger is None:
            found = {key: stored(self._fetch(key), self.dim) for key in self.episodes()}
            try:
                self.ledger = Ledger.create(self._path, {key: Contents.of(key, one) for key, one in found.items()})
            except OSError as error:
                raise StoreError(
                    f"the database {self._path!r} could not be written: {error}; free space or fix the disk, then "
                    "repeat the same call"
                ) from error
        if self.ledger.meta is None and (embedder := self.embedder()):
            self._describe(embedder)
        return self.ledger

    def _describe(self, embedder: str) -> None:
        """Write the row that describes a kept database."""
        text = meta_text(self.dim, embedder)
        if self.ledger is None:
            self.ledger = self._ready_ledger()
        with self.ledger.describing(text):
            self.collection.write([row(META_EPISODE, 0, text, marker(self.dim))], [])

    def _write(self, collection: LiteCollection, writes: Sequence[Checked]) -> None:
        batch = compose([write for write, _ in writes], self._heads.get, self._kept, self.dim)
        if batch.rows or batch.deletes:
            collection.write(batch.rows, batch.deletes)
        self._heads.update(batch.heads)
        self._mirror.apply([write for write, _ in writes], [squares for _, squares in writes])

    def _keys(self, episode: str) -> list[str]:
        """Primary keys of all rows of a mirrored episode."""
        head = self._heads.get(episode)
        entries = [*self._mirror.ids(episode), *(range(0, -len(head.chunks()), -1) if head else ())]
        return [key_of(episode, entry) for entry in entries]

    def _forget(self, episode: str) -> None:
        self._mirror.forget(episode)
        self._heads.pop(episode, None)

    def _home(self, episode: str) -> LiteCollection:
        return self._apart.get(episode) or self.collection

    def _scatter(self, episode: str) -> None:
        """Move the rows of an episode to a collection of its own."""
        if episode in self._apart:
            return
        rows = self._fetch(episode) if self._mirror.ids(episode) or episode in self._heads else []
        # Written there before it is deleted here: a process that dies in between leaves both, and the new one counts.
        self._apart.make(episode, without_leftovers(rows))
        if rows:
            self.collection.write([], [row_[KEY] for row_ in rows])

    def _gather(self, rows: Mapping[str, list[Row]]) -> None:
        """Move episodes, given with all their rows, from their own collections to the shared one."""
        if not rows:
            return
        kept = [row_ for found in rows.values() for row_ in found]
        # Looked up by key, which is cheap; finding all rows of an episode reads all rows of the database.
        heads = self.collection.get([key_of(episode, 0) for episode in rows], [EPISODE])
        doubled = [head[EPISODE] for head in heads]
        before = self.collection.query(all_rows_of(doubled), [KEY]) if doubled else []
        present = {row_[KEY] for row_ in kept}
        self.collection.write(kept, [row_[KEY] for row_ in before if row_[KEY] not in present])
        for episode in rows:
            self._apart.remove(episode)

    def _load_missing(self, episodes: Sequence[str]) -> None:
        """Load episodes of a kept database that are not mirrored yet."""
        if not self._kept:
            return
        new = [episode for episode in episodes if episode not in self._mirror]
        if not new:
            return
        with self.collection.lock:
            # A kept episode always has a head, so one look-up by key tells new episodes from old ones.
            heads = self.collection.get([key_of(episode, 0) for episode in new], [EPISODE])
            old = {head[EPISODE] for head in heads}
            for episode in new:
                self._load_one(episode, self._fetch(episode) if episode in old else [])

    def _load_one(self, episode: str, found: list[Row]) -> None:
        if episode in self._mirror:
            return
        head = Head.of(found)
        if head is not None:
            # The process that wrote this may have died before its deletes; see Head.
            late = {key_of(episode, entry) for entry in head.deletes} & {row_[KEY] for row_ in found}
            if late:
                self._home(episode).write([], sorted(late))
            self._heads[episode] = head
        present = stored(found, self.dim)
        write = Write(episode)
        if present is not None:
            write = Write(episode, present.ids.tolist(), present.texts, present.vectors)
        self._mirror.apply([write], check_writes([write], self.dim))

    def _fetch(self, episode: str) -> list[Row]:
        own = self._apart.get(episode)
        if own is not None:
            return own.everything()
        return self.collection.query(all_rows_of([episode]), [KEY, EPISODE, ENTRY, TEXT, VECTOR])

    def _search(self, search: Search) -> Rows:
        vector, own = unit(search.vector), self._apart.get(search.episode)
        head = self._heads.get(search.episode)
        # The rows of the head are no entries; in a collection of its own no filter keeps them out.
        others = len(head.chunks()) if own is not None and head is not None else 0

        def nearest(limit: int) -> list[Hit]:
            if own is None:
                found = self.collection.search(vector, limit, entries_of(search.episode), [])
            else:
                found = own.search(vector, limit + others, None, [])
            hits: list[Hit] = [(entry_of(hit["id"]), hit["distance"], ()) for hit in found]
            return [hit for hit in hits if hit[0] > 0][:limit]

        def everything() -> Rows:
            return self._mirror.rows(search.episode)

        # The engine says which entries; their vectors come from the mirror, which is cheaper than as Python numbers.
        try:
            return widen(
                nearest,
                everything,
                search.k,
                self.dim,
                extra=_EXTRA,
                pick=lambda ids: self._mirror.pick(search.episode, ids),
            )
        except KeyError as error:
            raise StoreError(
                f"the database found entry {error} of episode {search.episode!r}, which was never acknowledged; repeat "
                "the write that failed, or drop the episode"
            ) from error
