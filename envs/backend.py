"""The I/O of steps, for one episode or many at once: read, score, embed, store, search."""

from __future__ import annotations

import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext

import numpy as np

from atommem_gym.config import EnvConfig
from atommem_gym.embedders.loading import CachedEmbedder, embed_in_part, load_embedder
from atommem_gym.envs.jobs import EpisodeWithKey, Job, pending_deletes, pending_writes
from atommem_gym.episode import Episode
from atommem_gym.episode_released import ReleasedEpisode
from atommem_gym.errors import ConfigError, ReaderError, StoreError
from atommem_gym.memory.memory import Memory
from atommem_gym.memory.protocols import Embedded, Search, Store, StoredEpisode, TextKind, Vectors, Write
from atommem_gym.memory.ranking import rank_all
from atommem_gym.readers.loading import load_reader
from atommem_gym.readers.options import is_url
from atommem_gym.readers.server import ServerReader
from atommem_gym.records.documents import PoolDocuments
from atommem_gym.records.record import Item
from atommem_gym.records.stream import Stream
from atommem_gym.scoring import load_scorer, score_all
from atommem_gym.scoring.judge import JudgeScorer
from atommem_gym.step import EpisodeState, Step, StepResult
from atommem_gym.stores.loading import open_store
from atommem_gym.tokenizers import load_tokenizer

__all__ = ["Backend", "EpisodeWithKey", "Job"]

logger = logging.getLogger(__name__)


_in_use: set[tuple[str, str]] = set()
"""(store, key) of every kept memory that an environment of this process uses or has reserved."""
_in_use_lock = threading.RLock()
"""Reentrant: garbage collection may close the backend of a lost environment at any time, also while it is held."""


def new_key() -> str:
    """A new, globally unique key for the entries of an episode: 128 random bits in hexadecimal."""
    return os.urandom(16).hex()


class Backend:
    """Tokenizer, reader, scorer, embedder and store of an environment, a vector environment or a pool.

    The I/O of a step has four stages, each of which takes the steps of many episodes at once: :meth:`read` and
    then :meth:`score`, :meth:`embed`, and after these :meth:`write_and_search`; :meth:`run` does all of them in a
    row. They may run in several threads if each step is in one at a time; :meth:`embed` may run at the same time as
    :meth:`read` and :meth:`score`.

    An episode does not change before all I/O of its step has succeeded, so a failed step may be repeated, with
    the same action or another one: the next write corrects what it may have left in the store.
    """

    def __init__(self, config: EnvConfig) -> None:
        self.config = config
        self.tokenizer = load_tokenizer(config.tokenizer)
        self.scorer = load_scorer(config.reward)
        self.reader = load_reader(config.reader, config.reader_options, abstention=config.abstention)
        self.embedder: CachedEmbedder | None = None
        self.store: Store | None = None
        self._claimed: set[str] = set()
        """Keys of kept memories that the current episodes of this backend use."""
        self._reserved: set[str] = set()
        """Keys of kept memories that a running reset has read but not claimed yet."""
        self._ended: list[str] = []
        # A model is called by one thread at a time, also if a snapshot or fork has to correct what a step left.
        self._embedding = nullcontext() if is_url(config.embedder) else threading.Lock()
        self._users: set[object] = set()
        """The users of this backend, see :meth:`lend`."""
        self._abandoned: deque[EpisodeWithKey] = deque()
        """Episodes of users that were garbage-collected, to be released with the next ones."""
        self._streams: weakref.WeakValueDictionary[tuple[int, int, int, int], Stream] = weakref.WeakValueDictionary()
        """The streams of running episodes, by item, layout and chunk sizes."""
        if config.storage:
            self.embedder = load_embedder(config.embedder, config.embedder_options)
            self.store = open_store(
                config.store,
                self.embedder.dim,
                store_reads=config.store_reads,
                keep=config.keep_memory,
                embedder=self.embedder.name,
            )

    def new_episode(
        self,
        item: Item,
        memory_key: str | None = None,
        replacing: Collection[str] = (),
        state: EpisodeState | None = None,
        vectors: tuple[Sequence[int], Vectors] | None = None,
        config: EnvConfig | None = None,
        stream: Stream | None = None,
    ) -> EpisodeWithKey:
        """Make an episode over an item: with empty memory, with a kept one, or in the state of a snapshot.

        Args:
            item: The questions and documents.
            memory_key: Continue the memory that a kept database holds under this key (SPEC M13).
            replacing: Keys of the episodes that the new one replaces.
            state: Continue in this state (SPEC M14) under a new key.
            vectors: With ``state``, ids and vectors ``[n, dim]`` of its entries.
            config: The configuration of the episode, if its difficulty differs from the environment's.
            stream: The result of :meth:`stream` for this item, if it was called before.

        Raises:
            StoreError: there is no such memory, it belongs to another embedder, or it is in use.
            ConfigError: it exceeds a limit of this environment.
        """
        config = config or self.config
        stream = stream or self.stream(item, config)
        memory = None if memory_key is None else self.kept_memory(memory_key, replacing)
        kind = ReleasedEpisode if config.preset == "released" else Episode
        running = EpisodeWithKey(memory_key or new_key(), kind(config, item, stream, self.tokenizer, memory, state))
        if state is not None:
            self.fill(running, vectors, state.memory)
        return running

    def run(self, batch: Sequence[tuple[EpisodeWithKey, Step]]) -> list[StepResult]:
        """Do the I/O of one begun step per episode, with one call each to reader, scorer, embedder and store.

        Raises:
            EmbedderError, StoreError, JudgeError, ReaderError: nothing has changed.
            ValueError: the scorer returned something that is not a score.
        """
        jobs = [self.job(running, step) for running, step in batch]
        self.read(jobs)
        self.score(jobs)
        self.embed(jobs)
        self.write_and_search(jobs)
        return [self.finish(job) for job in jobs]

    def job(self, running: EpisodeWithKey, step: Step) -> Job:
        """Make the job of a begun step, with the I/O that it needs."""
        if self.store is None:
            return Job(running, step, {}, searches=False, writes=False)
        texts, deletes = pending_writes(running, step), pending_deletes(running, step)
        writes = bool(texts or deletes) or self._states(running, step)
        return Job(running, step, texts, searches=bool(step.query and len(step.draft)), writes=writes)

    def read(self, jobs: Sequence[Job]) -> None:
        """Let the frozen reader answer the questions of a batch that were closed with an empty answer (SPEC E13).

        Raises:
            ReaderError: it failed, or did not return one reading per question in order.
        """
        requests = [request for job in jobs for request in job.step.unread.values()]
        if not requests or self.reader is None:
            return
        readings = self.reader.read(requests)
        if [reading.request for reading in readings] != requests:
            raise ReaderError(
                f"the reader {self.reader.name} returned {len(readings)} readings for {len(requests)} questions, or "
                "not in the order asked; it must return one for each"
            )
        rest = iter(readings)
        for job in jobs:
            job.step.take([next(rest) for _ in job.step.unread])

    def score(self, jobs: Sequence[Job]) -> None:
        """Score all answers of a batch (SPEC R1), after :meth:`read`.

        Raises:
            JudgeError: the judge gave no verdict.
            ValueError: the scorer returned something that is not a score.
        """
        requests = [request for job in jobs for request in job.step.requests]
        if not requests:
            return
        rest = iter(score_all(self.scorer, requests))
        for job in jobs:
            job.scores = [next(rest) for _ in job.step.requests]

    def embed(self, jobs: Sequence[Job]) -> None:
        """Embed the texts and queries of a batch, in one call unless the model embeds queries differently.

        Raises:
            EmbedderError: the model or endpoint failed.
        """
        if self.embedder is None:
            return
        texts = [text for job in jobs for text in job.texts.values()]
        queries = list(dict.fromkeys(job.step.query for job in jobs if job.searches))
        if self.embedder.tells_queries:
            vectors, in_part = self._embedded(texts, "document")
            asked, asked_in_part = self._embedded(queries, "query")
        else:
            both, in_part = self._embedded([*texts, *queries], "document")
            vectors, asked = both[: len(texts)], both[len(texts) :]
            asked_in_part = {place - len(texts): read for place, read in in_part.items()}
        found = dict(zip(queries, asked, strict=True))
        row = 0
        for job in jobs:
            if job.texts:
                job.vectors = vectors[row : row + len(job.texts)]
                row += len(job.texts)
            if job.searches:
                job.query = found[job.step.query]
        if in_part or asked_in_part:
            self._note_parts(jobs, in_part, {queries[i]: read for i, read in asked_in_part.items() if i >= 0})

    def write_and_search(self, jobs: Sequence[Job]) -> None:
        """Write the entries of a batch with one call, then search; to be called after :meth:`embed`.

        Raises:
            StoreError: the database refused; some rows may have been written, see :class:`Backend`.
        """
        store = self.store
        if store is None:
            return
        writes = [write for job in jobs if job.writes for write in self._written(job)]
        if writes:
            store.write(writes)
        searching = [(job, job.query) for job in jobs if job.query is not None]
        if not searching:
            return
        searches = [Search(job.running.key, query, self.config.top_k) for job, query in searching]
        ranked = rank_all(searches, store.candidates(searches))
        for (job, _), (ids, similarities) in zip(searching, ranked, strict=True):
            job.hits = list(zip(ids, similarities, strict=True))
            self._check_live(job)

    def finish(self, job: Job) -> StepResult:
        """Finish a step after its I/O; its episode changes here."""
        for entry_id, detail in job.in_part.items():
            job.step.report_part(entry_id, detail)
        result = job.running.episode.finish(job.step, job.scores, job.hits)
        job.running.unsettled = None
        return result

    def stored(self, running: EpisodeWithKey, memory: Memory | None = None) -> StoredEpisode | None:
        """The rows of an episode in the store, after correcting what a failed step may have left there.

        Args:
            running: The episode.
            memory: The memory that its team shares; by default its own.
        """
        if self.store is None:
            return None
        self._settle(running, running.episode.state.memory if memory is None else memory)
        return self.store.load(running.key)

    def _settle(self, running: EpisodeWithKey, memory: Memory) -> None:
        """Correct what a failed step may have left in the store."""
        if self.store is not None and running.unsettled is not None:
            texts, deletes = pending_writes(running, None), pending_deletes(running, None)
            self.store.write([self._write(running, texts, deletes, self._vectors(list(texts.values())), memory)])
            running.unsettled = None

    def fork(self, running: EpisodeWithKey, n: int) -> list[EpisodeWithKey]:
        """Make ``n`` episodes in the state of a running one, each with its own rows under its own key (SPEC M14).

        What a failed step may have left in the store is corrected first, so no fork has it.

        Raises:
            EmbedderError, StoreError: no fork is left.
        """
        forks = [EpisodeWithKey(new_key(), running.episode.fork()) for _ in range(n)]
        if self.store is None:
            return forks
        # Rows of forks that were dropped must not pile up in a search over memory that never ends an episode.
        self.release([])
        self._settle(running, running.episode.state.memory)
        try:
            self._copy_rows(self.store, running, forks)
        except BaseException:
            self._forget([fork.key for fork in forks])
            raise
        return forks

    def lend(self) -> object:
        """Share this backend with one more user, and return a token for :meth:`give_back`.

        Forks share it: one of them at a time uses embedder and store, like the slots of a vector environment.
        """
        user = object()
        self._users.add(user)
        return user

    def give_back(self, user: object, left: Sequence[EpisodeWithKey] = ()) -> None:
        """End the use by one user; the last one closes the backend. A second call for the same user does nothing.

        Safe to call from a finalizer, which may run in the middle of any other call, also of the store: the episodes
        ``left`` are only noted, and released when another user next releases or forks one.
        """
        if user not in self._users:
            return
        self._abandoned.extend(left)
        self._users.discard(user)
        if not self._users:
            self.close()

    @property
    def shared(self) -> bool:
        """Whether this backend has users, see :meth:`lend`."""
        return bool(self._users)

    def claim(self, running: EpisodeWithKey) -> None:
        """Mark the episode's kept memory as in use until :meth:`release`; no other environment can continue it."""
        if self.store is not None and self.store.kept:
            with _in_use_lock:
                _in_use.add((self.store.name, running.key))
                self._claimed.add(running.key)
                self._reserved.discard(running.key)

    def drop_reservations(self) -> None:
        """Free the memories that :meth:`kept_memory` reserved, after a failed reset."""
        if self.store is not None:
            with _in_use_lock:
                _in_use.difference_update((self.store.name, key) for key in self._reserved)
                self._reserved.clear()

    def release(self, ended: Sequence[EpisodeWithKey]) -> None:
        """Release episodes that have ended or were replaced; a temporary database deletes their rows in one call.

        Episodes of users that were garbage-collected are released with them. An error of the store is logged and does
        not make a finished step fail: the rows are deleted at the next release, or with the database.
        """
        if self.store is None or not (ended or self._abandoned):
            return
        keys = [running.key for running in ended]
        while self._abandoned:
            keys.append(self._abandoned.popleft().key)
        with _in_use_lock:
            # After a failed release another environment may have claimed the memory, and then releases it itself.
            self._ended = [key for key in self._ended if (self.store.name, key) not in _in_use] + keys
            due = list(self._ended)
        try:
            self.store.release(due)
        except StoreError as error:
            logger.warning("the rows of %d finished episodes are deleted later: %s", len(due), error)
        else:
            with _in_use_lock:
                self._ended = [key for key in self._ended if key not in due]
        finally:
            # Only now, or the store could release a kept memory that another environment has begun to use.
            with _in_use_lock:
                self._claimed.difference_update(keys)
                _in_use.difference_update((self.store.name, key) for key in keys)

    def _forget(self, keys: Sequence[str]) -> None:
        """Delete what a failed restore or fork may have written under its new keys, also from a kept database."""
        assert self.store is not None
        try:
            self.store.drop(keys)
        except StoreError as error:
            logger.warning("what a failed restore or fork has written is deleted later: %s", error)
            with _in_use_lock:
                self._ended += keys

    def close(self) -> None:
        """Close the store, and the connections of judge and reader."""
        if isinstance(self.config.reader, str) and isinstance(self.reader, ServerReader):
            self.reader.close()
        if isinstance(self.config.reward, str) and isinstance(self.scorer, JudgeScorer):
            self.scorer.close()
        if self.store is not None:
            self.drop_reservations()
            with _in_use_lock:
                _in_use.difference_update((self.store.name, key) for key in self._claimed)
                self._claimed.clear()
            self.store.close()

    @property
    def _embedder(self) -> CachedEmbedder:
        assert self.embedder is not None
        return self.embedder

    def stream(self, item: Item, config: EnvConfig) -> Stream:
        """The stream of an item, shared by all members of a group (SPEC E8), so that each chunk is cut once."""
        key = (item.index, item.shuffle_seed, config.chunk_tokens, config.chunk_overlap)
        # Documents in other sequences may change after this call.
        shared = isinstance(item.documents, (tuple, PoolDocuments))
        stream = self._streams.get(key) if shared else None
        if stream is None or stream.documents != item.documents:
            stream = Stream(item.documents, self.tokenizer, config.chunk_tokens, config.chunk_overlap)
            if shared:
                self._streams[key] = stream
        return stream

    def _states(self, running: EpisodeWithKey, step: Step) -> bool:
        """Whether ``Write.state`` must be written, from which a kept database resumes an episode."""
        kept = self.store is not None and self.store.kept
        return kept and (step.opening or step.draft.changes_kept_state or running.unsettled is not None)

    def _written(self, job: Job) -> list[Write]:
        """The writes of a job, none or one; computed again at every try, since a failed one may have left rows."""
        running, step = job.running, job.step
        deletes = pending_deletes(running, step)
        memory = step.draft.committed() if self._states(running, step) else None
        if not (job.texts or deletes or memory):
            return []
        vectors = self._vectors([]) if job.vectors is None else job.vectors
        return [self._write(running, job.texts, deletes, vectors, memory)]

    def _write(
        self,
        running: EpisodeWithKey,
        texts: dict[int, str],
        deletes: list[int],
        vectors: Vectors,
        memory: Memory | None,
    ) -> Write:
        """The write of an episode, which is unsettled from now on; ``memory`` is the state to keep."""
        running.unsettled = (running.unsettled or set()) | texts.keys() | set(deletes)
        kept = self.store is not None and self.store.kept and memory is not None
        state = memory.kept_state(self._embedder.name) if kept and memory is not None else None
        return Write(running.key, list(texts), list(texts.values()), vectors, deletes, state)

    def _check_live(self, job: Job) -> None:
        """Raise if a search found a deleted entry: a server may execute a failed write later."""
        ghosts = {entry_id for entry_id, _ in job.hits if job.step.draft.entry(entry_id) is None}
        if ghosts:
            job.running.unsettled = (job.running.unsettled or set()) | ghosts
            job.writes = True
            raise StoreError(
                f"the store found entries {sorted(ghosts)} that are not in memory: a write that had failed came late; "
                "repeat the step, which deletes them first"
            )

    def _vectors(self, texts: list[str]) -> Vectors:
        return self._embedded(texts, "document").vectors

    def _embedded(self, texts: list[str], kind: TextKind) -> Embedded:
        if not texts:
            return Embedded(np.empty((0, self._embedder.dim), np.float32), {})
        with self._embedding:
            return embed_in_part(self._embedder, texts, kind)

    def _note_parts(self, jobs: Sequence[Job], in_part: Mapping[int, int], asked_in_part: Mapping[str, int]) -> None:
        """Note in each job which of its texts were embedded in part; they are reported when its step is finished."""
        row = 0
        for job in jobs:
            job.in_part = {
                entry_id: self._part(text, in_part[place], "a read finds it by these alone")
                for place, (entry_id, text) in enumerate(job.texts.items(), row)
                if place in in_part
            }
            row += len(job.texts)
            if job.searches and job.step.query in asked_in_part:
                query = job.step.query
                job.in_part[None] = self._part(query, asked_in_part[query], "the others are not looked for")

    def _part(self, text: str, read: int, effect: str) -> str:
        limit = self._embedder.max_tokens
        rule = "fewer tokens" if limit is None else f"{limit} tokens"
        return f"the embedder reads {rule} of a text; of its {len(text)} characters it read the first {read}: {effect}"

    def fill(self, running: EpisodeWithKey, vectors: tuple[Sequence[int], Vectors] | None, memory: Memory) -> None:
        """Store the entries of a snapshot; they are embedded again if it has no vectors (its episode was over).

        Args:
            running: The episode that was made of the snapshot.
            vectors: Ids and vectors ``[n, dim]`` of its entries.
            memory: The memory of the episode, or the one that its team shares.

        Raises:
            EmbedderError, StoreError: no entry is left.
        """
        if self.store is None or (vectors is None and not self.store.kept):
            return
        try:
            ids = list(memory.entries) if vectors is None else list(vectors[0])
            texts = {i: memory.entries[i].text for i in ids}
            block = self._vectors(list(texts.values())) if vectors is None else vectors[1]
            self.store.write([self._write(running, texts, [], block, memory)])
        except BaseException:
            self._forget([running.key])
            raise
        running.unsettled = None

    def _copy_rows(self, store: Store, running: EpisodeWithKey, forks: Sequence[EpisodeWithKey]) -> None:
        """Copy the rows of an episode to the keys of its forks."""
        copies: Callable[[str, Sequence[str]], None] | None = getattr(store, "copy_episode", None)
        if copies is not None:
            copies(running.key, [fork.key for fork in forks])
            return
        memory = running.episode.state.memory
        if not memory.entries and not store.kept:
            return
        ids, vectors = self._rows(store, running)
        texts = {i: memory.entries[i].text for i in ids}
        store.write([self._write(fork, texts, [], vectors, memory) for fork in forks])
        for fork in forks:
            fork.unsettled = None

    def _rows(self, store: Store, running: EpisodeWithKey) -> tuple[list[int], Vectors]:
        """Ids and vectors of all entries of a settled episode."""
        entries = running.episode.state.memory.entries
        if entries and self.config.store_reads == "mirror" and not is_url(self.config.store):
            # All entries are among this many candidates, and the mirror has them in memory; a load asks the database.
            (rows,) = store.candidates([Search(running.key, np.zeros(store.dim, np.float32), len(entries))])
            ids: list[int] = rows.ids.tolist()
            if len(ids) == len(entries) and set(ids) == entries.keys():
                return ids, rows.vectors
        stored = store.load(running.key)
        return ([], np.empty((0, store.dim), np.float32)) if stored is None else (stored.ids.tolist(), stored.vectors)

    def kept_memory(self, key: str, replacing: Collection[str] = ()) -> Memory:
        """Read and reserve the memory that a kept database holds under a key (SPEC M13).

        Call :meth:`claim` if the reset succeeds, :meth:`drop_reservations` if it fails.

        Args:
            key: The key of the episode that wrote it.
            replacing: Keys of the episodes that the new one replaces.

        Raises:
            StoreError: there is no such memory, it belongs to another embedder, or it is in use.
            ConfigError: it exceeds a limit of this environment.
        """
        if self.store is None:
            raise StoreError(f"there is no memory {key!r}: this environment has storage=False")
        # Reserved before it is read, so that of two environments that ask at once one is refused.
        with _in_use_lock:
            free = (self.store.name, key) not in _in_use
            if free:
                _in_use.add((self.store.name, key))
                self._reserved.add(key)
        if not (free or key in replacing or key in self._reserved):
            raise StoreError(
                f"the memory {key!r} is in use by another environment of this process; close or reset that one first"
            )
        try:
            return self._loaded_memory(self.store, key)
        except BaseException:
            if free:
                self.drop_reservations()
            raise

    def _loaded_memory(self, store: Store, key: str) -> Memory:
        stored = store.load(key)
        if stored is None:
            hint = (
                "its episodes are kept until they are purged"
                if store.kept
                else ("its episodes are deleted when they end; use store='milvus:///path/to.db' to keep them")
            )
            raise StoreError(f"there is no memory {key!r} in store {store.name!r}; {hint}")
        ids = [int(i) for i in stored.ids]
        memory = Memory.from_kept(key, ids, stored.texts, stored.state, self._embedder.name, self.tokenizer)
        self._check_limits(key, memory)
        return memory

    def _check_limits(self, key: str, memory: Memory) -> None:
        """Refuse a kept memory that exceeds a limit of this environment.

        Raises:
            ConfigError: it exceeds one.
        """
        config = self.config
        longest = max((entry.tokens for entry in memory.entries.values()), default=0)
        scratchpad = self.tokenizer.count(memory.scratchpad)
        for name, limit, found, what in (
            ("max_entries", config.max_entries, len(memory.entries), "entries"),
            ("max_entry_tokens", config.max_entry_tokens, longest, "tokens in an entry"),
            ("max_memory_tokens", config.max_memory_tokens, longest, "tokens in an entry"),
            ("max_scratchpad_tokens", config.max_scratchpad_tokens, scratchpad, "tokens in the scratchpad"),
        ):
            if limit is not None and found > limit:
                raise ConfigError(
                    f"the memory {key!r} has {found} {what}, which exceeds {name}={limit}; go on with it under "
                    f"{name}={found} or more"
                )
