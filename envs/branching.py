"""Snapshots and forks of all forms: plain, a slot of a vector environment, an environment of a pool (SPEC M14)."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from atommem_gym.config import EnvConfig
from atommem_gym.envs import snapshots
from atommem_gym.envs.backend import Backend, EpisodeWithKey
from atommem_gym.envs.current_episode import CurrentEpisode
from atommem_gym.errors import ConfigError, SnapshotError
from atommem_gym.readers.options import reader_name
from atommem_gym.records.identity import identity
from atommem_gym.records.record import Item, Items
from atommem_gym.task import ItemsByDifficulty

T = TypeVar("T")


@dataclass(frozen=True)
class Branching:
    """Takes snapshots of episodes and makes episodes of snapshots, for all forms of the environment.

    ``generators`` are the environment's generators by the field of the snapshot that holds their state: ``np_random``,
    which draws the item of a reset, and ``action_space``, which samples actions.
    """

    task: str
    """The name of the task."""
    items: Items
    """The items."""
    by_difficulty: ItemsByDifficulty
    """The items at other difficulties."""
    backend: Backend
    """Embedder, store and the rest of the I/O."""

    def snapshot(self, current: CurrentEpisode, generators: Mapping[str, np.random.Generator]) -> dict[str, Any]:
        """The picklable state of an environment with this current episode.

        Args:
            current: The current episode.
            generators: See above.

        Raises:
            EmbedderError, StoreError: what a failed step left in the store could not be corrected.
        """
        snapshot: dict[str, Any] = {
            "version": snapshots.VERSION,
            "config": self.fingerprint(),
            **{name: generator.bit_generator.state for name, generator in generators.items()},
            "episode": None,
        }
        if current.exists:
            running = current.running
            episode = running.episode
            stored = self.backend.stored(running)
            snapshot["episode"] = {
                "index": episode.item.index,
                "shuffle_seed": episode.item.shuffle_seed,
                "difficulty": episode.config.difficulty,
                "item": dict(episode.identity),
                "state": episode.state.copy(),
                "past": None if episode.past is None else episode.past.branch(),
                "ledger": None if episode.ledger is None else episode.ledger.branch(),
                "vectors": None if stored is None else (stored.ids.tolist(), stored.vectors.copy()),
            }
        return snapshot

    def restored(
        self,
        snapshot: dict[str, Any],
        generators: Mapping[str, np.random.Generator],
        current: CurrentEpisode,
        *,
        over: bool = True,
    ) -> EpisodeWithKey | None:
        """Make the episode of a snapshot, with its own memory; ``None`` if it was taken before the first reset.

        The generators do not change: their states are only checked.

        Args:
            snapshot: The argument of ``restore``.
            generators: See above.
            current: The episode that it replaces; an item that both share is not made again.
            over: Whether the episode may be over.

        Raises:
            SnapshotError: see ``AtomMemEnv.restore``; or the episode is over and may not be.
            EmbedderError, StoreError: its entries could not be stored; none is left.
        """
        saved = snapshots.checked(snapshot, generators)
        snapshots.check_config(snapshot["config"], self.fingerprint(), self.backend.config)
        if saved is not None and saved.state.over and not over:
            raise SnapshotError(
                "the snapshot's episode is over, and with autoreset_mode='SameStep' the step that ends an episode "
                "resets it: restore it into a plain environment, or under another autoreset_mode"
            )
        return None if saved is None else self._episode(saved, current)

    def _episode(self, saved: snapshots.SavedEpisode, current: CurrentEpisode) -> EpisodeWithKey:
        there = current.running.episode if current.exists else None
        if there is not None and saved.is_of(there):
            config, item, stream, found = there.config, there.item, there.stream, there.identity
        else:
            config, item = self.item(saved.index, saved.shuffle_seed, saved.difficulty)
            # Kept for the episode, so that a long stream is counted and hashed only once.
            stream = self.backend.stream(item, config)
            found = identity(item, stream.documents_hash)
        snapshots.check_item(saved, found)
        snapshots.check_width(saved.vectors, self.backend.store)
        snapshots.check_place(saved.state, item.id, stream.num_chunks, len(item.questions))
        if saved.item is None:
            warnings.warn(
                "the snapshot is of version 1, which holds no hash of its item: that item "
                f"{item.id!r} has the questions and documents with which it was taken could not be checked; "
                "take it anew with snapshot()",
                UserWarning,
                stacklevel=4,
            )
        running = self.backend.new_episode(item, state=saved.state, vectors=saved.vectors, config=config, stream=stream)
        running.episode.past, running.episode.ledger = saved.past, saved.ledger
        return running

    def item(self, index: int, shuffle_seed: int, difficulty: float | None) -> tuple[EnvConfig, Item]:
        """The item that a snapshot names, and the configuration of its difficulty.

        Args:
            index: The index of the item.
            shuffle_seed: Its layout.
            difficulty: The difficulty; ``None`` for none.

        Raises:
            SnapshotError: there is no such item here.
        """
        config, items = self.backend.config, self.items
        try:
            if difficulty != config.difficulty:
                config, items = self.by_difficulty.at(difficulty)
            return config, items.item(index, shuffle_seed)
        except (ConfigError, IndexError) as error:
            raise SnapshotError(
                f"the snapshot's item, number {index}, cannot be had here: {error}; restore it into an "
                "environment over the records (source, split or items=) with which it was taken"
            ) from error

    def fingerprint(self) -> dict[str, Any]:
        """What must be equal to restore a snapshot: task and configuration, without store and template."""
        config = self.backend.config
        ours = config.as_keywords()
        for name in ("store", "store_reads", "keep_memory", "template"):
            del ours[name]
        return {
            **ours,
            "task": self.task,
            "reward": self.backend.scorer.name,
            "reader": reader_name(config.reader),
        }


def shallow(thing: T) -> T:
    """A copy that shares all attributes; unlike ``copy.copy`` it does not use the pickle protocol."""
    twin = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__)
    return twin
