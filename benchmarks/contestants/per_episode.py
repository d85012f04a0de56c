"""What other people's stores have in common as contestants of ``benchmarks/stores.py``.

Where a peer can keep episodes apart in several ways, the fastest that is exact was taken: an index, collection, table
or namespace for each episode.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any

from workloads.stores import Move

# Who reports its use would wait for a network.
os.environ.update(
    ANONYMIZED_TELEMETRY="False",
    MEM0_TELEMETRY="False",
    MEM0_DIR=tempfile.gettempdir(),
    OPENAI_API_KEY="unused",
    RUST_LOG="error",
    LANCE_LOG="error",
)


class PerEpisode:
    """A contestant with one object for each episode; says what is done with one."""

    def __init__(self, dim: int) -> None:
        self.dim = dim
        self.episodes: list[Any] = []

    def begin(self, num_envs: int) -> None:
        """See ``contestants.ours.Contestant``."""
        self.episodes = [self.make(i) for i in range(num_envs)]

    def step(self, moves: Sequence[Move]) -> list[list[int]]:
        """See ``contestants.ours.Contestant``."""
        found = []
        for move in moves:
            episode = self.episodes[move.episode]
            if move.deletes:
                self.delete(episode, move.deletes)
            self.put(episode, move)
            found.append(self.search(episode, move))
        return found

    def end(self) -> None:
        """See ``contestants.ours.Contestant``."""
        for episode in self.episodes:
            self.drop(episode)
        self.episodes = []

    def close(self) -> None:
        """See ``contestants.ours.Contestant``."""

    def make(self, number: int) -> Any:
        """Begin an episode."""
        raise NotImplementedError

    def put(self, episode: Any, move: Move) -> None:
        """Write the entries of a move, some of which exist."""
        raise NotImplementedError

    def delete(self, episode: Any, ids: list[int]) -> None:
        """Delete entries."""
        raise NotImplementedError

    def search(self, episode: Any, move: Move) -> list[int]:
        """Ids of what the move's query finds."""
        raise NotImplementedError

    def drop(self, episode: Any) -> None:
        """End an episode."""
