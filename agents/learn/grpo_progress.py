"""Prints the progress of a run every few seconds, from its own thread, so also while the model computes for minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType


class Progress:
    """Prints the latest status at regular times while its ``with`` block runs.

    Args:
        show: Called with each line.
        every: Seconds between two lines.
    """

    def __init__(self, show: Callable[[str], None], every: float = 5.0) -> None:
        self._show = show
        self._every = every
        self._status = "starting"
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)
        self._began = time.monotonic()

    def say(self, status: str) -> None:
        """Set the status; the next line shows it."""
        self._status = status

    def __enter__(self) -> Progress:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._every):
            self._show(f"[{time.monotonic() - self._began:.0f} s] {self._status}")
