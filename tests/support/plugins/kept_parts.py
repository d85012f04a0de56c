"""Stores of a user's own that keep their rows, and dialects that can write little."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from support.plugins.parts import Lines, Store

from atommem_gym.actions import Operation


class Kept(Store):
    """One store for all that are opened in this process; ``close`` leaves the rows."""

    rows: dict[str, Any] = {}  # noqa: RUF012  (what stands for a database)

    def __init__(self, dim: int, *, keep: bool | None, embedder: str) -> None:
        super().__init__(dim, keep=keep, embedder=embedder)
        self.kept = keep is not False
        self.__dict__.update(self.rows.setdefault("all", dict(self.__dict__)))

    def release(self, episodes: Sequence[str]) -> None:
        """Nothing is freed."""

    def close(self) -> None:
        """The rows stay."""


class Always(Store):
    """Keeps whatever it is told."""

    def __init__(self, dim: int, *, keep: bool | None, embedder: str) -> None:
        super().__init__(dim, keep=keep, embedder=embedder)
        self.kept = True


class Words(Lines):
    """Writes letters, digits and single spaces alone."""

    def format_operations(self, operations: Sequence[Operation]) -> str:
        written = super().format_operations(operations)
        if not re.fullmatch(r"[A-Z0-9 ]+(: [\w ]+)?", written):
            raise ValueError(f"{written!r} holds more than words")
        return written


class Mute(Lines):
    def format_operations(self, operations: Sequence[Operation]) -> str:
        raise ValueError("nothing can be written")


words, mute = Words(), Mute()
