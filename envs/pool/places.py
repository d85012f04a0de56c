"""A bounded number of places, first come, first served: what holds callers of a pool back."""

from __future__ import annotations

import asyncio
from collections import deque


class Places:
    """Like ``asyncio.Semaphore``, but a place can also be taken without waiting, and those who wait can be sent away.

    >>> places = Places(1)
    >>> places.take_now(), places.take_now()
    (True, False)
    """

    def __init__(self, number: int) -> None:
        self._free = number
        """Not 0 only while nobody waits."""
        self._waiting: deque[asyncio.Future[None]] = deque()

    def take_now(self) -> bool:
        """Take a place if one is free."""
        if not self._free:
            return False
        self._free -= 1
        return True

    async def take(self) -> None:
        """Take a place, after all those who came before.

        Raises:
            Exception: the one that :meth:`close` was given.
        """
        if self.take_now():
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled() and turn.exception() is None:
                # It was given the place and cancelled in the same moment.
                self.give()
            raise

    def give(self) -> None:
        """Give a place back: to the first who waits, if anyone does."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def close(self, error: Exception) -> None:
        """Send away all who wait."""
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_exception(error)
