"""Makes whole Gymnasium environments over one item that a test writes down, so that every number can be worked out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.envs import AtomMemEnv
from atommem_gym.records.record import Document, Item, Record


@dataclass(frozen=True)
class OneItem:
    """A split of one item."""

    only: Item
    name: str = "fixed"
    num_items: int = 1

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        if index != 0:
            raise IndexError(f"item {index}; there is only item 0")
        return self.only


def fixed_gym(
    questions: Sequence[Record], documents: Sequence[Document], num_envs: int | None = None, **keywords: Any
) -> Any:
    """An environment as ``gymnasium.make`` (or ``make_vec``) gives it, whose only item has these texts."""
    items = OneItem(Item("fixed/0", 0, 0, tuple(questions), tuple(documents)))
    keywords = {"source": "synthetic", "store": "numpy", "items": items, **keywords}
    if num_envs is None:
        return gym.make("AtomMem-HotpotQA-v0", **keywords)
    return gym.make_vec("AtomMem-HotpotQA-v0", num_envs=num_envs, **keywords)


def fixed_env(questions: Sequence[Record], documents: Sequence[Document], **keywords: Any) -> AtomMemEnv:
    """The plain environment without Gymnasium's wrappers."""
    env = fixed_gym(questions, documents, **keywords).unwrapped
    assert isinstance(env, AtomMemEnv)
    return env
