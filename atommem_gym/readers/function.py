"""A reader made of a custom function, which answers one question at a time or a batch in one call."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from atommem_gym.errors import AtomMemError, ReaderError
from atommem_gym.readers.protocol import ReaderCall, Reading, ReadRequest

Memory: TypeAlias = dict[str, Any]
"""An entry as a read shows it: ``{"id": int, "text": str, "score": float}``."""
ReaderFunction: TypeAlias = Callable[[str, list[Memory], str], str]
"""``(question, memories, scratchpad) -> answer``."""


class FunctionReader:
    """Answers with a function ``(question, memories, scratchpad) -> str``.

    The function may have an attribute ``batch``: a function ``(questions, memories, scratchpads) -> answers`` of lists
    of equal length. It is then called in place of the function, once for all questions that a step of many episodes
    closes. Its answer to a question must not depend on the other questions.
    """

    def __init__(self, function: ReaderFunction, name: str) -> None:
        """Make a reader.

        Args:
            function: Returns the answer to a question from memories, best first, and scratchpad.
            name: For messages and traces.
        """
        self.name = name
        self._function = function
        batch = getattr(function, "batch", None)
        self._batch: Callable[..., Any] | None = batch if callable(batch) else None

    def read(self, requests: Sequence[ReadRequest]) -> list[Reading]:
        """See ``FrozenReader.read``.

        Raises:
            ReaderError: the function raised an exception, or returned something else than a text.
        """
        if self._batch is None:
            return [self._one(request) for request in requests]
        questions, memories, scratchpads = (list(column) for column in zip(*map(_arguments, requests), strict=True))
        began = time.perf_counter()
        answers = self._called(self._batch, questions, memories, scratchpads)
        seconds = (time.perf_counter() - began) / len(requests)
        if not isinstance(answers, list | tuple) or len(answers) != len(requests):
            raise ReaderError(
                f"the reader {self.name} answered {len(requests)} questions in a batch with {answers!r:.200}; it must "
                "return a list with one text for each"
            )
        return [self._reading(*pair, seconds) for pair in zip(requests, answers, strict=True)]

    def _one(self, request: ReadRequest) -> Reading:
        began = time.perf_counter()
        answer = self._called(self._function, *_arguments(request))
        return self._reading(request, answer, time.perf_counter() - began)

    def _called(self, function: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except AtomMemError:
            raise
        except Exception as error:  # a custom function may raise anything
            raise ReaderError(
                f"the reader {self.name} raised {type(error).__name__}: {error}; nothing has changed, the same step "
                "may be repeated"
            ) from error

    def _reading(self, request: ReadRequest, answer: object, seconds: float) -> Reading:
        if not isinstance(answer, str):
            raise ReaderError(f"the reader {self.name} returned {answer!r:.200}; an answer is a text")
        return Reading(request, answer.strip(), (ReaderCall(None, None, seconds, None),))


def _arguments(request: ReadRequest) -> tuple[str, list[Memory], str]:
    """The arguments of the function: copies, which it may change."""
    memories = [{"id": entry_id, "text": text, "score": float(score)} for entry_id, text, score in request.memories]
    return request.question.question, memories, request.scratchpad
