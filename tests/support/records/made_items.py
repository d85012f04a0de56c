"""Items of which a test knows what making them does, importable by the process that makes items ahead."""

from __future__ import annotations

from atommem_gym.records.record import Item
from atommem_gym.worlds.synthetic import SyntheticItems


class ItemsWithout(SyntheticItems):
    """Synthetic items of which ``missing`` cannot be made; what they print goes nowhere near the others."""

    missing = 3

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        print(f"making {index}")
        if index == self.missing:
            raise RuntimeError(f"item {index} cannot be made")
        return super().item(index, shuffle_seed)
