"""A store that fails when a test tells it to."""

from __future__ import annotations

from typing import Any

from atommem_gym.errors import StoreError


class FlakyStore:
    """A store whose calls of one name fail as long as they are told to."""

    def __init__(self, store: Any) -> None:
        self._store = store
        self.failing = ""

    def __getattr__(self, name: str) -> Any:
        if name == self.failing:
            raise StoreError(f"{name} fails on purpose")
        return getattr(self._store, name)
