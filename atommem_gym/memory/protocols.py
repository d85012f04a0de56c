"""The two small protocols that memory stands on: an embedder turns texts into vectors, a store keeps and finds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

import numpy as np
import numpy.typing as npt

Vectors: TypeAlias = npt.NDArray[np.float32]
Ids: TypeAlias = npt.NDArray[np.int64]
TextKind = Literal["document", "query"]

MAX_TEXT_BYTES = 65_535
"""The longest text of an entry in UTF-8 bytes: the limit of a Milvus VARCHAR field, kept by every store alike."""


@runtime_checkable
class Embedder(Protocol):
    """Turns texts into float32 vectors of ``dim`` numbers; the same text always gives the same vector.

    It reads the whole of every text. One that does not is an :class:`EmbedderInPart`.
    """

    name: str
    """Identifies model and settings; two embedders of one name give the same vectors. Kept databases record it."""
    dim: int

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as an array ``[len(texts), dim]``; models that tell queries from documents use ``kind``.

        Raises:
            EmbedderError: the model or endpoint failed after its retries.
        """
        ...


class Embedded(NamedTuple):
    """Vectors of texts, and how far they were read."""

    vectors: Vectors
    """``[n, dim]``"""
    in_part: Mapping[int, int]
    """By a text's place: the characters that were read of it. Holds only the texts that were not read whole."""


@runtime_checkable
class EmbedderInPart(Embedder, Protocol):
    """An embedder that reads only so much of a text, and says of which texts it did not read all (SPEC M18)."""

    max_tokens: int | None
    """How much of a text it reads, in its own tokens, without special ones; ``None``: all, or it is not known."""

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        """As ``embed``; a text that is too long is cut to the longest beginning that fits, and never an error."""
        ...


# Tuples, where a vector step makes several an environment: they are made three times as fast as a dataclass is.
class Write(NamedTuple):
    """The net effect of one step on one episode's entries; applying it twice leaves the same rows as once."""

    episode: str
    """Episode key (1 to 128 characters of ``[A-Za-z0-9_-]``)."""
    ids: Sequence[int] = ()
    """Entries to insert or to replace, with their ``texts`` and ``vectors`` (``[len(ids), dim]``)."""
    texts: Sequence[str] = ()
    vectors: Vectors = np.empty((0, 0), np.float32)
    deletes: Sequence[int] = ()
    """Ids to remove; disjoint from ``ids``. An id that is not there is no error."""
    state: str | None = None
    """JSON of what a kept episode needs to go on (next id, scratchpad, embedder); ``None`` leaves it as it is."""


class Search(NamedTuple):
    """One query over one episode's entries."""

    episode: str
    vector: Vectors
    """``[dim]``"""
    k: int


class Rows(NamedTuple):
    """Entries of one episode with their vectors, in no particular order."""

    ids: Ids
    """``[n]``"""
    vectors: Vectors
    """``[n, dim]``"""
    squares: npt.NDArray[np.float64] | None = None
    """``[n]``, what ``ranking.squared_lengths`` says of the vectors, if the store remembers it; saves time."""


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """All that a store keeps of one episode, by ascending id."""

    ids: Ids
    texts: tuple[str, ...]
    vectors: Vectors
    state: str | None


class CopyingStore(Protocol):
    """What a store may offer besides: to copy an episode by itself, where that is faster than reading and writing it.

    Forks are made with it (SPEC M14). It has all methods of :class:`Store`, too.
    """

    def copy_episode(self, episode: str, copies: Sequence[str]) -> None:
        """Keep under each of these new keys what is kept under ``episode``; nothing, if nothing is.

        Raises:
            StoreError: the database refused.
        """
        ...


@runtime_checkable
class Store(Protocol):
    """Keeps the entries of many episodes and proposes candidates for a search (SPEC M6, M13).

    A store never ranks: it returns candidates that are sure to contain every entry whose cosine similarity could be
    among the best ``k`` after rounding, ties at the cut included. ``ranking.rank_all`` decides.
    """

    name: str
    dim: int
    kept: bool
    """Whether episodes outlive the process (and so need ``Write.state``)."""

    def write(self, writes: Sequence[Write]) -> None:
        """Apply the writes of one step or vector step; on return they are in the database.

        Raises:
            StoreError: the database refused (disk full, connection lost); the same call may be repeated.
        """
        ...

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """Candidates of every search, in the order asked; all rows of an episode are a valid answer.

        They need only hold until the episode's next write.
        """
        ...

    def load(self, episode: str) -> StoredEpisode | None:
        """All that is kept under an episode key, or ``None`` if nothing is."""
        ...

    def episodes(self) -> list[str]:
        """Keys of all episodes in the database, sorted."""
        ...

    def drop(self, episodes: Sequence[str]) -> None:
        """Delete all rows of these episodes; unknown keys are no error."""
        ...

    def release(self, episodes: Sequence[str]) -> None:
        """These episodes are over: a kept store frees what it holds of them in memory, another one drops them.

        A kept episode that is asked for again is read from the database.
        """
        ...

    def close(self) -> None:
        """Give the store back; the last user of a temporary database deletes it. Closing twice is no error."""
        ...
