"""The two protocols that memory needs: an embedder turns texts into vectors, a store keeps and searches them."""

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
    """Identifies model and settings: embedders of the same name give the same vectors. Kept databases record it."""
    dim: int
    """Numbers in a vector."""

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        """Embed ``texts`` as a float32 array ``[len(texts), dim]``.

        Args:
            texts: Any number of texts, also none.
            kind: ``"document"`` for entries, ``"query"`` for reads; models that treat both alike ignore it.

        Raises:
            EmbedderError: the model or endpoint failed after its retries.
        """
        ...


class Embedded(NamedTuple):
    """Vectors of texts, and which of the texts were read only in part."""

    vectors: Vectors
    """``[n, dim]``"""
    in_part: Mapping[int, int]
    """Position of a text to the number of its characters that were read; only texts that were not read whole."""


@runtime_checkable
class EmbedderInPart(Embedder, Protocol):
    """An embedder that reads at most ``max_tokens`` of a text and reports the texts that it cut (SPEC M18)."""

    max_tokens: int | None
    """Most tokens of a text that it reads, in its own tokens without special ones; ``None``: all, or not known."""

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        """Like ``embed``, but a text that is too long is cut to the longest prefix that fits instead of failing.

        Raises:
            EmbedderError: the model or endpoint failed after its retries.
        """
        ...


# Tuples, since a vector step makes several per environment, and a tuple is made three times as fast as a dataclass.
class Write(NamedTuple):
    """The net effect of one step on the entries of one episode; applying it twice is the same as applying it once."""

    episode: str
    """Episode key (1 to 128 characters of ``[A-Za-z0-9_-]``)."""
    ids: Sequence[int] = ()
    """Entries to insert or to replace, ``[n]``."""
    texts: Sequence[str] = ()
    """The texts of these entries, ``[n]``."""
    vectors: Vectors = np.empty((0, 0), np.float32)
    """Their vectors, ``[n, dim]`` float32."""
    deletes: Sequence[int] = ()
    """Ids to remove; disjoint from ``ids``. An unknown id is ignored."""
    state: str | None = None
    """JSON of what a kept episode needs to go on (next id, scratchpad, embedder); ``None`` leaves it unchanged."""


class Search(NamedTuple):
    """One query over one episode's entries."""

    episode: str
    """Episode key."""
    vector: Vectors
    """``[dim]``"""
    k: int
    """How many entries the read shows at most."""


class Rows(NamedTuple):
    """Entries of one episode with their vectors, in no particular order."""

    ids: Ids
    """``[n]``"""
    vectors: Vectors
    """``[n, dim]``"""
    squares: npt.NDArray[np.float64] | None = None
    """``[n]``: ``ranking.squared_lengths`` of the vectors, if the store remembers them; saves time."""


@dataclass(frozen=True, slots=True)
class StoredEpisode:
    """Everything that a store keeps of one episode; entries by ascending id."""

    ids: Ids
    """Entry ids, ``[n]``."""
    texts: tuple[str, ...]
    """Their texts, ``[n]``."""
    vectors: Vectors
    """Their vectors, ``[n, dim]`` float32."""
    state: str | None
    """The last ``Write.state``; ``None`` if there was none."""


class CopyingStore(Protocol):
    """An optional method of a store: copying an episode itself, where that is faster than reading and writing it.

    Forks use it (SPEC M14). Such a store has all methods of :class:`Store`, too.
    """

    def copy_episode(self, episode: str, copies: Sequence[str]) -> None:
        """Copy everything kept under ``episode`` to each of these new keys; if nothing is kept, do nothing.

        Raises:
            StoreError: the database refused.
        """
        ...


@runtime_checkable
class Store(Protocol):
    """Keeps the entries of many episodes and proposes candidates for searches (SPEC M6, M13).

    A store never ranks. It returns candidates that are sure to contain every entry whose cosine similarity could be
    among the best ``k`` after rounding, ties at the cut included. ``ranking.rank_all`` decides.
    """

    name: str
    """The store in messages; for a kept database also what tells it from others."""
    dim: int
    """Numbers in a vector."""
    kept: bool
    """Whether episodes outlive the process, so that they need ``Write.state``."""

    def write(self, writes: Sequence[Write]) -> None:
        """Apply the writes of one step or vector step; on return they are in the database.

        Raises:
            StoreError: the database refused (disk full, connection lost); the same call may be repeated.
        """
        ...

    def candidates(self, searches: Sequence[Search]) -> list[Rows]:
        """The candidates of each search, in the same order; all rows of an episode are a valid answer.

        They need to stay valid only until the episode's next write.
        """
        ...

    def load(self, episode: str) -> StoredEpisode | None:
        """Everything kept under an episode key; ``None`` if nothing is."""
        ...

    def episodes(self) -> list[str]:
        """Keys of all episodes in the database, sorted."""
        ...

    def drop(self, episodes: Sequence[str]) -> None:
        """Delete all rows of these episodes; unknown keys are ignored."""
        ...

    def release(self, episodes: Sequence[str]) -> None:
        """End these episodes: a kept store frees what it holds of them in memory, any other store drops them.

        The next use of a kept episode reads it from the database.
        """
        ...

    def close(self) -> None:
        """Close the store; the last user of a temporary database deletes it. Closing twice does nothing."""
        ...
