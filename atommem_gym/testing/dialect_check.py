"""Checks a custom dialect: it parses what it formats, no text makes it raise, and its prompt names all operations."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from atommem_gym.actions import (
    KINDS,
    Answer,
    Create,
    Delete,
    Invalid,
    Operation,
    Read,
    Scratchpad,
    Update,
    format_action,
    load_dialect,
    parse,
    tag_names,
)
from atommem_gym.actions.operations import check_formattable
from atommem_gym.config import EnvConfig
from atommem_gym.prompts import PromptTemplate
from atommem_gym.testing.hostile import hostile_texts
from atommem_gym.testing.linear import check_linear
from atommem_gym.testing.profiles import budget
from atommem_gym.testing.strategies import operations

_LINE = "Ada Lovelace kept 12 bees in Bern until 1815"
_ONE_OF_EACH: tuple[Operation, ...] = (
    Create(_LINE),
    Read(_LINE),
    Update(3, _LINE),
    Delete(4),
    Scratchpad(_LINE),
    Answer(_LINE),
)
_ENVIRONMENTS: tuple[dict[str, Any], ...] = (
    {},
    {"storage": False},
    {"scratchpad": False, "operations": ["create", "read"]},
    {"questions_per_episode": 3, "max_entries": 5, "early_answer": True},
)
_READING = {
    "phase": 0,
    "progress": [0, 2],
    "question": "Who kept bees?",
    "chunk": "A chunk of text.",
    "scratchpad": "a note",
    "query": "bees",
    "memories": [{"id": 1, "text": "Ada kept bees.", "score": 0.5}],
    "feedback": "created 1",
    "reads_left": 2,
    "steps_left": 9,
}


def check_dialect(dialect: str, *, examples: int = 100) -> None:
    """Check a dialect.

    The rules: every operation whose text is one line of words can be formatted, and parsing returns what was formatted
    (A6), also from actions joined with a newline; no text makes ``parse`` raise, it returns operations or ``Invalid``,
    the same each time, in linear time (A3); the prompt names every enabled operation, in several environments.

    Args:
        dialect: A value of ``dialect=``, ``"package.module:name"`` for a custom one.
        examples: Number of random lists of operations; texts are twice as many.

    Raises:
        AssertionError: a rule is broken.
        ConfigError: the dialect does not exist, or does not have the form of a dialect.

    >>> check_dialect("tools", examples=5)
    """
    load_dialect(dialect)
    written = [_check_written(dialect, [op]) for op in _ONE_OF_EACH]
    joined = "\n".join(written)
    assert parse(joined, dialect) == list(_ONE_OF_EACH), (
        f"A6: actions joined with a newline must be read as one, but {joined!r} is read as {parse(joined, dialect)}"
    )
    assert parse("", dialect) == [], f"A3: the empty action is read as {parse('', dialect)}, not as nothing"
    _check_prompts(dialect)

    @given(st.lists(operations(dialect), max_size=4))
    @budget(examples)
    def what_is_written_is_read(ops: list[Operation]) -> None:
        _check_written(dialect, ops)

    @given(st.one_of(_damaged(written), hostile_texts()))
    @budget(2 * examples)
    def no_text_raises(text: str) -> None:
        _check_read(dialect, text)

    what_is_written_is_read()
    no_text_raises()
    pieces = {f"a written {op.kind}": action for op, action in zip(_ONE_OF_EACH, written, strict=True)}
    pieces |= {f"the first half of a {name}": piece[: len(piece) // 2] or piece for name, piece in pieces.items()}
    pieces |= {f"the sign {sign!r}": sign for sign in sorted(set(joined) | set('<>{}[]"\\ \n'))}
    check_linear(lambda text: parse(text, dialect), pieces, "parse")


def _check_written(dialect: str, ops: list[Operation]) -> str:
    try:
        action = format_action(ops, dialect)
    except Exception as error:  # whatever the dialect's code raises
        raise AssertionError(f"A6: {ops} cannot be written ({type(error).__name__}: {error})") from error
    read = parse(action, dialect)
    assert read == ops, f"A6: {ops} is written {action!r}, which is read as {read}"
    return action


def _check_read(dialect: str, text: str) -> None:
    try:
        read = parse(text, dialect)
    except Exception as error:  # whatever the dialect's code raises
        raise AssertionError(f"A3: parse raises {type(error).__name__} for {text!r}: {error}") from error
    for op in read:
        if isinstance(op, Invalid):
            fault = "" if op.kind in KINDS and op.detail else "its kind is none of the six, or it has no detail"
        else:
            fault = _fault(_with_text(op))
        assert not fault, f"A3: {text!r} is read as {read}: {fault}"
    again = parse(text, dialect)
    assert again == read, f"A3: {text!r} is read as {read}, and the second time as {again}"


def _with_text(op: Operation) -> Operation:
    """Fill an empty text, which only the episode judges; an empty create stays, because it is always ``Invalid``."""
    if isinstance(op, Read):
        return Read(op.query or _LINE)
    return replace(op, text=op.text or _LINE) if isinstance(op, (Update, Scratchpad, Answer)) else op


def _fault(op: object) -> str:
    try:
        check_formattable(op)  # type: ignore[arg-type]  # whether it is one is the question
    except (TypeError, ValueError) as error:
        return str(error)
    return ""


def _damaged(written: list[str]) -> st.SearchStrategy[str]:
    """Actions of the dialect, cut and recombined, so that its markup stands in unexpected places."""
    piece = st.builds(
        lambda action, begin, end: action[min(begin, end) : max(begin, end)],
        st.sampled_from(written),
        st.integers(0, 60),
        st.integers(0, 60),
    )
    return st.lists(st.one_of(piece, st.sampled_from(written), hostile_texts()), max_size=5).map("".join)


def _check_prompts(dialect: str) -> None:
    names = tag_names(dialect)
    for keywords in _ENVIRONMENTS:
        config = EnvConfig.from_keywords({"dialect": dialect, **keywords})
        prompt = PromptTemplate(config)
        for kind in config.kinds:
            assert names.get(kind, kind) in prompt.system, (
                f"the prompt for {keywords} does not say how to {kind}: it never mentions {names.get(kind, kind)!r}"
            )
        for observation in (_READING, {**_READING, "phase": 1, "chunk": ""}):
            assert "Who kept bees?" in prompt.user(observation), f"the prompt for {keywords} leaves the question out"
