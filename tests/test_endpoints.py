"""When a call of a server is tried again and when given up: one rule for embeddings, judges and language models."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

import pytest
import tenacity

from atommem_gym.endpoints import LONGEST_WAIT, ODD_TRIES, OddReplyError, Retries, TryAgainError


class Clock:
    """Time that passes only while a call waits or takes its time."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.waits: list[float] = []
        monkeypatch.setattr("atommem_gym.endpoints.time.monotonic", lambda: self.now)

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    async def asleep(self, seconds: float) -> None:
        self.sleep(seconds)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def call(clock: Clock, failures: list[Exception], seconds: float = 0.0, **settings: Any) -> Retries:
    """A call whose tries fail so and then succeed, each after some seconds; once blocking and once awaited, alike."""

    def tried() -> Callable[[], str]:
        left = list(failures)

        def one() -> str:
            clock.now += seconds
            if left:
                raise left.pop(0)
            return "reply"

        return one

    first = Retries(random.Random(0), **settings)
    try:
        tenacity.Retrying(sleep=clock.sleep, **first.settings)(tried())
    except TryAgainError as error:
        expected: type[Exception] | None = type(error)
    else:
        expected = None
    waits, clock.waits = clock.waits, []
    again, blocking = Retries(random.Random(0), **settings), tried()

    async def awaited() -> str:
        return blocking()

    retrying = tenacity.AsyncRetrying(sleep=clock.asleep, **again.settings)
    if expected is None:
        assert asyncio.run(_result(retrying, awaited)) == "reply"
    else:
        with pytest.raises(expected):
            asyncio.run(_result(retrying, awaited))
    assert clock.waits == pytest.approx(waits)
    assert (again.tries, again.odd) == (first.tries, first.odd)
    return again


async def _result(retrying: tenacity.AsyncRetrying, awaited: Any) -> Any:
    return await retrying(awaited)


def test_waits_grow_up_to_the_longest_with_jitter(clock: Clock) -> None:
    retries = call(clock, [TryAgainError("busy")] * 9, first_wait=1.0, longest_wait=15.0, tries=10)
    assert retries.tries == 9
    for number, wait in enumerate(clock.waits):
        most = min(2.0**number, 15.0)
        assert most / 2 <= wait <= most
    assert len(set(clock.waits)) == 9


def test_tries_are_counted(clock: Clock) -> None:
    retries = call(clock, [TryAgainError("busy")] * 3, first_wait=1.0, tries=3)
    assert (retries.tries, retries.odd, len(clock.waits)) == (3, 0, 2)


def test_patience_is_counted_from_the_first_failure_and_bounds_every_wait(clock: Clock) -> None:
    call(clock, [TryAgainError("busy", wait=40.0)] * 9, seconds=5.0, first_wait=1.0, patience=60.0)
    assert clock.waits == [40.0, 15.0], "the first try's five seconds do not count, those of the second do"


def test_no_patience_means_one_try(clock: Clock) -> None:
    assert call(clock, [TryAgainError("busy")], first_wait=1.0, patience=0.0).tries == 1
    assert clock.waits == []


def test_a_server_cannot_ask_for_more_than_the_longest_wait(clock: Clock) -> None:
    call(clock, [TryAgainError("busy", wait=7200.0)], first_wait=1.0, tries=2)
    assert clock.waits == [LONGEST_WAIT]


@pytest.mark.parametrize("settings", [{"tries": 50}, {"patience": 1e6}])
def test_odd_replies_are_counted_apart(clock: Clock, settings: dict[str, Any]) -> None:
    failures = [OddReplyError("odd"), TryAgainError("busy")] * 20
    retries = call(clock, failures, first_wait=0.0, **settings)
    assert (retries.odd, retries.tries) == (ODD_TRIES, 2 * ODD_TRIES - 1)


def test_every_failure_is_told(clock: Clock) -> None:
    told: list[str] = []
    call(
        clock,
        [OddReplyError("odd"), TryAgainError("busy")],
        first_wait=0.0,
        tries=9,
        note=lambda e: told.append(str(e)),
    )
    assert told == ["odd", "busy"] * 2
