"""Checks a custom frozen reader: it answers any request, the same each time, alone or in a batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.plugins.loading import load_plugin
from atommem_gym.readers.function import FunctionReader
from atommem_gym.readers.options import reader_name
from atommem_gym.readers.protocol import ReadRequest
from atommem_gym.records.record import Record
from atommem_gym.testing.hostile import hostile_texts
from atommem_gym.testing.profiles import budget
from atommem_gym.testing.strategies import texts


def check_reader(reader: str | Callable[..., Any], *, examples: int = 50) -> None:
    """Check a reader.

    The rules: it answers every question with a string, also without memories and for hostile texts; it gives the same
    answer again, after other questions (it is frozen); and a reader with a ``batch`` answers in a batch as it does
    alone (SPEC E13).

    Args:
        reader: ``"package.module:name"``, or the function itself.
        examples: Number of random lists of questions.

    Raises:
        AssertionError: a rule is broken.
        ReaderError: the reader raised, or returned something other than a string.
        ConfigError: the reader does not exist, or does not have the form of a reader.

    >>> check_reader(lambda question, memories, scratchpad: scratchpad, examples=5)
    """
    function = load_plugin("reader", reader) if isinstance(reader, str) else reader
    name = reader_name(reader)
    alone, together = FunctionReader(_without_batch(function), name), FunctionReader(function, name)
    text = st.one_of(texts(), hostile_texts())
    scores = st.floats(-1, 1)
    memories = st.lists(st.tuples(text, scores), max_size=4).map(
        lambda found: tuple((number, *one) for number, one in enumerate(found, 1))
    )
    requests = st.lists(st.builds(ReadRequest, text.map(_question), memories, text), min_size=1, max_size=4)

    @given(requests)
    @budget(examples)
    def it_answers_the_same(asked: list[ReadRequest]) -> None:
        asked = [*asked, ReadRequest(asked[0].question)]
        first = [reading.answer for reading in alone.read(asked)]
        again = [reading.answer for reading in reversed(alone.read(asked[::-1]))]
        assert again == first, f"E13: asked again, in another order, it answers {again}, and before {first}"
        batch = [reading.answer for reading in together.read(asked)]
        assert batch == first, f"E13: in a batch it answers {batch}, alone {first}"

    it_answers_the_same()


def _without_batch(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda question, memories, scratchpad: function(question, memories, scratchpad)


def _question(text: str) -> Record:
    return Record("q", text, "", (), (), ())
