"""Says every few seconds how far a run is, from a thread of its own: also while one call of the model takes minutes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType


class Progress:
    """Shows the latest status again and again, as a context manager.

    Args:
        show: Takes a line.
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
        """Note what is being done; it is shown when the time has come."""
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
