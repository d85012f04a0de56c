"""Workload W, which every store of ``benchmarks/stores.py`` plays: what each step does, and what its read must find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from atommem_gym.records.layout import stable_rng

TEXT_CHARS = 200
"""Characters of an entry."""
UPDATES, DELETES = 0.3, 0.1
"""How often a step also updates an entry, and deletes one."""
TOP_K = 6
ENTRIES_A_STEP = 20

Vectors: TypeAlias = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Move:
    """One step of one episode: entries put, an entry perhaps deleted, then a read."""

    episode: int
    """Number of the episode among those that are played together."""
    ids: list[int]
    """Entries to create or, where ``updates`` says so, to replace."""
    texts: list[str]
    vectors: Vectors
    """``[len(ids), dim]``, of length 1."""
    updates: list[int]
    """Those of ``ids`` that exist already."""
    deletes: list[int]
    query: Vectors
    """``[dim]``, of length 1."""


def workload(num_envs: int, steps: int, dim: int, seed: object, *, entries: int = 0) -> list[list[Move]]:
    """``steps`` vector steps of ``num_envs`` episodes each: a create, 0.3 updates, 0.1 deletes and a read per step.

    Args:
        num_envs: Episodes played together.
        steps: Steps an episode.
        dim: Numbers in a vector.
        seed: Another seed is another workload of the same kind.
        entries: Let more steps come first, of ``ENTRIES_A_STEP`` creates each, that create so many in each episode.
    """
    rng = stable_rng("stores", num_envs, steps, dim, seed, entries)
    live: list[list[int]] = [[] for _ in range(num_envs)]
    played = []
    before = -(-entries // ENTRIES_A_STEP)
    for number in range(1 - before, steps + 1):
        moves = []
        for episode, ids in enumerate(live):
            first = max(ids, default=0) + 1
            create = 1 if number > 0 else min(ENTRIES_A_STEP, entries + 1 - first)
            created = list(range(first, first + create))
            updates, deletes = [], []
            if number > 0 and ids and rng.random() < DELETES:
                deletes.append(ids.pop(int(rng.integers(len(ids)))))
            if number > 0 and ids and rng.random() < UPDATES:
                updates.append(ids[int(rng.integers(len(ids)))])
            ids += created
            written = created + updates
            texts = [_text(episode, entry, number) for entry in written]
            block = _unit(rng, len(written) + 1, dim)
            moves.append(Move(episode, written, texts, block[1:], updates, deletes, block[0]))
        played.append(moves)
    return played


class Truth:
    """What each read must find: brute force in float64, over a dict of entries."""

    def __init__(self) -> None:
        self._episodes: dict[int, dict[int, Vectors]] = {}

    def apply(self, move: Move) -> list[int]:
        """Carry out a move and return the ids that its read must show, best first."""
        entries = self._episodes.setdefault(move.episode, {})
        entries.update(zip(move.ids, move.vectors, strict=True))
        for entry in move.deletes:
            del entries[entry]
        ids = np.array(list(entries))
        block = np.array(list(entries.values()), np.float64)
        scores = block @ move.query / np.sqrt((block * block).sum(axis=1))
        return [int(i) for i in ids[np.argsort(-scores, kind="stable")[:TOP_K]]]


def _unit(rng: np.random.Generator, count: int, dim: int) -> Vectors:
    block = rng.standard_normal((count, dim), dtype=np.float32)
    unit: Vectors = block / np.sqrt((block * block).sum(axis=1, keepdims=True))
    return unit


def _text(episode: int, entry: int, version: int) -> str:
    return (f"entry {entry} of episode {episode}, version {version}: " + "memory " * TEXT_CHARS)[:TEXT_CHARS]
