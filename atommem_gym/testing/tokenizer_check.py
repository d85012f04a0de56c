"""Checks a custom tokenizer: its methods agree with each other, and chunks of a stream lose no text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.plugins.loading import check_form, load_plugin
from atommem_gym.records.record import Document
from atommem_gym.records.stream import Stream
from atommem_gym.testing.hostile import hostile_texts
from atommem_gym.testing.linear import check_linear
from atommem_gym.testing.profiles import budget
from atommem_gym.testing.strategies import texts
from atommem_gym.tokenizers import Tokenizer

_PIECES = {
    "letters": "a",
    "words": "honey ",
    "brackets": "<",
    "blanks": " ",
    "ideographs": "東",
    "emoji": "🦉",
    "surrogates": "\ud800",
}


def check_tokenizer(tokenizer: str | Callable[[], Tokenizer], *, examples: int = 100) -> None:
    """Check a tokenizer.

    The rules: ``starts``, ``count`` and ``counts`` agree; offsets do not decrease and lie within the text; ``cut``
    returns the text, or a prefix within the limit without white space at its end (M10); a second instance finds the
    same tokens; the chunks of a stream, joined, are the stream (E1); any text can be tokenized, in linear time (A3).

    Args:
        tokenizer: ``"package.module:name"``, or a callable without arguments that returns a tokenizer.
        examples: Number of random texts; streams are half as many.

    Raises:
        AssertionError: a rule is broken.
        ConfigError: the tokenizer does not exist, or does not have the form of a tokenizer.

    >>> from atommem_gym.tokenizers import WordTokenizer
    >>> check_tokenizer(WordTokenizer, examples=5)
    """
    first, second = _made(tokenizer), _made(tokenizer)
    any_text = st.one_of(texts(), hostile_texts(), st.text(st.characters(exclude_categories=()), max_size=60))

    @given(any_text, st.lists(any_text, max_size=3))
    @budget(examples)
    def what_it_says_fits_together(text: str, others: list[str]) -> None:
        _check_laws(first, text)
        assert first.counts([text, *others]) == [first.count(one) for one in (text, *others)], (
            f"M10: counts of {[text, *others]!r} is {first.counts([text, *others])}, not each text's count"
        )
        assert first.starts(text).tolist() == second.starts(text).tolist(), (
            f"M15: two instances find other tokens in {text!r}"
        )

    parts_of_a_stream = st.lists(st.tuples(texts(), any_text), min_size=1, max_size=3)

    @given(parts_of_a_stream, st.integers(1, 9), st.integers(0, 3))
    @budget(max(1, examples // 2))
    def the_chunks_are_the_stream(parts: list[tuple[str, str]], chunk_tokens: int, overlap: int) -> None:
        documents = tuple(Document(title, text) for title, text in parts)
        stream = Stream(documents, first, chunk_tokens, 0)
        whole = "".join(stream.chunk(i) for i in range(stream.num_chunks))
        assert whole == stream.text, f"E1: the chunks of {parts!r}, joined, are {whole!r}, not {stream.text!r}"
        for title, text in parts:
            assert f"{title}\n{text}" in whole, f"E1: the chunks of {parts!r}, joined, are {whole!r}"
        if overlap < chunk_tokens:
            overlapping = Stream(documents, first, chunk_tokens, overlap)
            assert all(overlapping.chunk(i) in whole for i in range(overlapping.num_chunks)), (
                f"E1: a chunk of {parts!r} with overlap {overlap} is not part of the stream"
            )

    what_it_says_fits_together()
    the_chunks_are_the_stream()
    check_linear(first.starts, _PIECES, "starts")
    check_linear(first.count, _PIECES, "count")
    check_linear(lambda text: first.cut(text, len(text) // 20), _PIECES, "cut")


def _made(tokenizer: str | Callable[[], Tokenizer]) -> Tokenizer:
    if isinstance(tokenizer, str):
        named: Tokenizer = load_plugin("tokenizer", tokenizer)
        return named
    made = tokenizer()
    check_form("tokenizer", getattr(tokenizer, "__qualname__", repr(tokenizer)), made)
    return made


def _check_laws(tokenizer: Tokenizer, text: str) -> None:
    starts, count = tokenizer.starts(text), tokenizer.count(text)
    assert isinstance(starts, np.ndarray), f"M10: starts of {text!r} is {type(starts).__name__}, not a numpy array"
    assert starts.dtype == np.int64, f"M10: starts of {text!r} is an array of {starts.dtype}, not of int64"
    assert starts.shape == (count,), f"M10: {text!r} has {count} tokens, but starts has the shape {starts.shape}"
    assert (np.diff(starts) >= 0).all(), f"M10: starts of {text!r} is {starts.tolist()}, which decreases"
    assert ((starts >= 0) & (starts <= max(len(text) - 1, 0))).all(), (
        f"M10: starts of {text!r} is {starts.tolist()}, which leaves the text"
    )
    for limit in sorted({0, 1, 2, max(count - 1, 0), count, count + 1}):
        cut = tokenizer.cut(text, limit)
        if limit >= count:
            assert cut == text, f"M10: {text!r} has {count} tokens, but cut to {limit} it is {cut!r}"
            continue
        assert text.startswith(cut), f"M10: {text!r} cut to {limit} tokens is {cut!r}, which is not a prefix"
        assert tokenizer.count(cut) <= limit, f"M10: {text!r} cut to {limit} tokens has {tokenizer.count(cut)}"
        assert cut == cut.rstrip(), f"M10: {text!r} cut to {limit} tokens is {cut!r}, with white space at its end"
