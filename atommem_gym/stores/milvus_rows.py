"""The layout of rows in Milvus: entries, and what is kept of an episode besides them."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from atommem_gym.errors import ConfigError, StoreError, is_integer
from atommem_gym.memory.protocols import MAX_TEXT_BYTES, StoredEpisode, Write

KEY, EPISODE, ENTRY, TEXT, VECTOR = "pk", "episode", "entry", "text", "vector"
"""Fields of a row: primary key ``episode:entry``, episode key, entry id, text, embedding."""

MAX_KEY_CHARS, MAX_EPISODE_CHARS = 160, 128
META_EPISODE = "."
"""Key of the row that describes a kept database; no episode can have it."""
FORMAT = 2
"""Version of the layout of kept databases, recorded in that row. Databases from before November 2026 have none."""

_EPISODE_KEY = re.compile(rf"[A-Za-z0-9_-]{{1,{MAX_EPISODE_CHARS}}}")
_HEAD_CHUNK = MAX_TEXT_BYTES - 24


def check_episode(episode: str) -> str:
    """Check an episode key and return it. It is the only text that ever reaches a filter expression.

    Raises:
        ConfigError: the key is not 1 to 128 characters of ``[A-Za-z0-9_-]``.
    """
    if not isinstance(episode, str) or _EPISODE_KEY.fullmatch(episode) is None:
        raise ConfigError(
            f"episode key {episode!r} is not 1 to {MAX_EPISODE_CHARS} characters of A-Z, a-z, 0-9, '_' and '-': "
            "use a key that `reset` returned"
        )
    return episode


_ESCAPE = "\U0010ffff"
_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED = re.compile("\U0010ffff(.)", re.DOTALL)
_ESCAPE_OFFSET = 0x100000 - 0xD800


def to_varchar(text: str) -> str:
    """Make any ``str`` valid UTF-8, reversibly: lone surrogates, which UTF-8 has no bytes for, are escaped."""
    if text.isascii():
        return text
    if _ESCAPE in text:
        text = text.replace(_ESCAPE, _ESCAPE + _ESCAPE)
    return _SURROGATE.sub(lambda found: _ESCAPE + chr(ord(found[0]) + _ESCAPE_OFFSET), text)


def from_varchar(text: str) -> str:
    """The inverse of ``to_varchar``."""
    if _ESCAPE not in text:
        return text
    return _ESCAPED.sub(lambda found: found[1] if found[1] == _ESCAPE else chr(ord(found[1]) - _ESCAPE_OFFSET), text)


def key_of(episode: str, entry: int) -> str:
    """The primary key of a row."""
    return f"{episode}:{entry:d}"


def entry_of(key: str) -> int:
    """The entry id in a primary key.

    >>> entry_of(key_of("an-episode", 3))
    3
    """
    return int(key.rpartition(":")[2])


def entries_of(episode: str) -> str:
    """The filter expression for the entries of an episode, without the rows of its head."""
    return f'{EPISODE} == "{check_episode(episode)}" and {ENTRY} > 0'


def all_rows_of(episodes: Sequence[str]) -> str:
    """The filter expression for all rows of these episodes."""
    keys = ", ".join(f'"{check_episode(episode)}"' for episode in episodes)
    return f"{EPISODE} in [{keys}]"


@dataclass(frozen=True, slots=True)
class Head:
    """What is kept of an episode besides its entries, stored as text in the rows with entry ids 0, -1, -2, ….

    A step is one insert and one delete. The head is part of the insert and names the deletes that follow, so a process
    that dies between the two loses nothing: the next process that loads the episode finishes the deletes.
    """

    state: str | None = None
    """The episode's ``Write.state``; ``None`` if none was written."""
    deletes: tuple[int, ...] = ()
    """Entry ids that the last step deletes."""

    def chunks(self) -> list[str]:
        """The head as texts that each fit into one row; the first one begins with their number."""
        # Pure ASCII, so that characters are bytes and no chunk splits a character.
        body = json.dumps([self.state, self.deletes])
        parts = [body[at : at + _HEAD_CHUNK] for at in range(0, len(body), _HEAD_CHUNK)]
        parts[0] = f"{len(parts)}\n{parts[0]}"
        return parts

    @classmethod
    def of(cls, found: Iterable[Mapping[str, Any]]) -> Head | None:
        """Read the head from the rows of an episode, which may include entries; ``None`` if it has none.

        Raises:
            StoreError: it cannot be read.
        """
        chunks = {row[ENTRY]: row[TEXT] for row in found if row[ENTRY] <= 0}
        if 0 not in chunks:
            return None
        try:
            number, first = chunks[0].split("\n", 1)
            # Chunks beyond this number are left over from a longer head.
            state, deletes = json.loads(first + "".join(chunks[-i] for i in range(1, int(number))))
            if not (state is None or isinstance(state, str)) or not all(map(is_integer, deletes)):
                raise TypeError("a text and a list of ids are wanted")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise StoreError(
                f"the rows of a memory hold no readable head ({error!r:.200}); nothing was written, and "
                "`atommem memory export` saves its entries"
            ) from error
        return cls(state, tuple(deletes))


@dataclass(slots=True)
class Batch:
    """The one insert and the one delete that carry out the writes of one call."""

    rows: list[dict[str, Any]] = field(default_factory=list)
    """Rows to insert or replace."""
    deletes: list[str] = field(default_factory=list)
    """Primary keys to delete afterwards."""
    heads: dict[str, Head] = field(default_factory=dict)
    """The new heads of the episodes whose heads change, by episode key."""


def compose(writes: Sequence[Write], head_of: Callable[[str], Head | None], kept: bool, dim: int) -> Batch:
    """Turn checked writes into rows.

    A kept episode always has a head, so that one key finds it again; a temporary one only if it was given a
    state.
    """
    batch = Batch()
    for write in writes:
        episode = write.episode
        if write.ids:
            for entry, text, vector in zip(write.ids, write.texts, write.vectors.tolist(), strict=True):
                batch.rows.append(row(episode, entry, to_varchar(text), vector))
        batch.deletes.extend(key_of(episode, entry) for entry in write.deletes)
        old = head_of(episode)
        if not kept and old is None and write.state is None:
            continue
        state = write.state if write.state is not None or old is None else old.state
        new = Head(state, tuple(int(entry) for entry in write.deletes))
        if new != old:
            texts = new.chunks()
            batch.rows.extend(row(episode, -i, text, marker(dim)) for i, text in enumerate(texts))
            stale = len(old.chunks()) if old is not None else 0
            batch.deletes.extend(key_of(episode, -i) for i in range(len(texts), stale))
            batch.heads[episode] = new
    return batch


def meta_text(dim: int, embedder: str) -> str:
    """The text of the row that describes a kept database."""
    return json.dumps({"dim": dim, "embedder": embedder, "format": FORMAT})


def read_meta(text: str, where: str) -> tuple[str, int]:
    """Read embedder and format from the row that describes the database ``where``; without a version the format is 1.

    Raises:
        StoreError: the row cannot be read, or has a newer format.
    """
    try:
        found = json.loads(text)
        embedder, version = found["embedder"], found.get("format", 1)
        if not isinstance(embedder, str) or type(version) is not int:
            raise TypeError(f"embedder {embedder!r:.40} and format {version!r:.40} must be a text and an integer")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StoreError(
            f"the row that describes the database {where!r} (format, embedder) cannot be read ({error!r:.200}); "
            "nothing was written: save what is intact with `atommem memory export`, or put it back from a copy"
        ) from error
    if version > FORMAT:
        raise StoreError(
            f"the database {where!r} has format {version}, and this version of atommem-gym knows formats up to "
            f"{FORMAT}; nothing was written: use a newer version"
        )
    return embedder, version


def row(episode: str, entry: int, text: str, vector: list[float]) -> dict[str, Any]:
    """A row in the form that Milvus takes."""
    return {KEY: key_of(episode, entry), EPISODE: episode, ENTRY: int(entry), TEXT: text, VECTOR: vector}


def marker(dim: int) -> list[float]:
    """The vector of a row that is not an entry: never searched, and not zero, since servers may refuse zeros."""
    return [1.0] + [0.0] * (dim - 1)


def stored(found: Sequence[Mapping[str, Any]], dim: int) -> StoredEpisode | None:
    """What is kept of an episode, read from its rows; ``None`` if there is neither an entry nor a state."""
    head = Head.of(found) or Head()
    deleted = set(head.deletes)
    entries = sorted(
        (row for row in found if row[ENTRY] > 0 and row[ENTRY] not in deleted), key=lambda row: int(row[ENTRY])
    )
    if not entries and head.state is None:
        return None
    vectors = np.asarray([row[VECTOR] for row in entries], np.float32).reshape(len(entries), dim)
    return StoredEpisode(
        np.asarray([row[ENTRY] for row in entries], np.int64),
        tuple(from_varchar(row[TEXT]) for row in entries),
        vectors,
        head.state,
    )


def listed(entries: Iterable[Mapping[str, Any]], heads: Iterable[Mapping[str, Any]]) -> list[str]:
    """Keys of all episodes with an entry or a state, sorted.

    Args:
        entries: All rows of the database with entry ids above 0.
        heads: All other rows, with their texts.
    """
    by_episode: dict[str, list[Mapping[str, Any]]] = {}
    for row in heads:
        if row[EPISODE] != META_EPISODE:
            by_episode.setdefault(row[EPISODE], []).append(row)
    found = {episode: Head.of(rows) or Head() for episode, rows in by_episode.items()}
    keys = {episode for episode, head in found.items() if head.state is not None}
    for row in entries:
        if row[EPISODE] not in found or row[ENTRY] not in found[row[EPISODE]].deletes:
            keys.add(row[EPISODE])
    return sorted(keys)
