"""Frozen readers for tests: one that says all that it was shown, and one that is slow, fails, or counts its batches."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from atommem_gym.errors import ReaderError
from atommem_gym.readers.function import FunctionReader
from atommem_gym.readers.protocol import Reading, ReadRequest


def echo(question: str, memories: list[dict[str, Any]], scratchpad: str) -> str:
    """All that it was shown, so that a trajectory tells what the reader saw."""
    return json.dumps([question, [[m["id"], m["text"], m["score"]] for m in memories], scratchpad])


def batched(question: str, memories: list[dict[str, Any]], scratchpad: str) -> str:
    raise AssertionError("asked one question at a time, though it takes a batch")


def _batch(questions: list[str], memories: list[list[dict[str, Any]]], scratchpads: list[str]) -> list[str]:
    return [echo(*one) for one in zip(questions, memories, scratchpads, strict=True)]


batched.batch = _batch  # type: ignore[attr-defined]


class Echo:
    """Answers as :func:`echo`; a test says what happens before a call answers, such as a wait or an error."""

    name = "support.plugins.readers:echo"

    def __init__(self, before: Callable[[int], None] = lambda call: None) -> None:
        self.batches: list[int] = []
        """How many questions each call was asked."""
        self._before = before
        self._lock = threading.Lock()

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        with self._lock:
            self.batches.append(len(requests))
            call = len(self.batches)
        self._before(call)
        answered = FunctionReader(echo, self.name).read(requests)
        return [Reading(one.request, one.answer) for one in answered]


def failing(*calls: int) -> Echo:
    """Fails at these calls, counted from 1."""

    def before(call: int) -> None:
        if call in calls:
            raise ReaderError("the reader is down")

    return Echo(before)


def late(seconds: Sequence[float]) -> Echo:
    """Answers after these waits, one after the other and again."""
    return Echo(lambda call: time.sleep(seconds[call % len(seconds)]))
