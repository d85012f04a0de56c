"""Hypothesis strategies for operations and actions in every dialect, well-formed or made to break something."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

from atommem_gym.actions import (
    DIALECTS,
    KINDS,
    Answer,
    Create,
    Delete,
    Kind,
    Operation,
    Read,
    Scratchpad,
    Update,
    format_action,
)
from atommem_gym.testing.hostile import hostile_texts

_WORDS = ("bees", "boats", "honey", "Ada", "Bern", "river", "1815", "the", "née", "東京")
_AROUND = ("", " ", "\n", "I note it. ", "<think>which one?</think>", "a < b > c ", "<b>so</b>")


def texts(max_words: int = 4) -> st.SearchStrategy[str]:
    """Texts from a small vocabulary, so that equal texts, and ties between unequal ones, are frequent.

    Args:
        max_words: Maximum number of words of a text; some texts are up to 12 arbitrary characters instead.
    """
    words = st.lists(st.sampled_from(_WORDS), min_size=1, max_size=max_words).map(" ".join)
    return st.one_of(words, words, st.text(min_size=1, max_size=12).map(str.strip).filter(bool))


def operations(
    dialect: str = "crud", valid: bool = True, *, kinds: Sequence[Kind] = KINDS, max_id: int = 9
) -> st.SearchStrategy[Operation]:
    """One operation.

    Args:
        dialect: ``"crud"``, ``"tools"``, ``"released"`` or ``"package.module:name"``.
        valid: Whether ``format_action`` accepts it in the dialect. Otherwise texts may be empty, padded or full of
            tags, and ids have any size.
        kinds: Operations to draw from.
        max_id: Largest id of a valid update or delete; small, so that live, deleted and absent ids all occur.
    """
    text = texts() if valid else st.one_of(texts(), st.just(""), st.just(" padded "), hostile_texts())
    number = st.integers(1, max_id) if valid else st.integers(-(10**20), 10**20) | st.integers(-1, max_id)
    by_kind: dict[Kind, st.SearchStrategy[Operation]] = {
        "create": st.builds(Create, text),
        "read": st.builds(Read, text),
        "update": st.builds(Update, number, text),
        "delete": st.builds(Delete, number),
        "scratchpad": st.builds(Scratchpad, text),
        "answer": st.builds(Answer, text | st.just("")),
    }
    drawn: st.SearchStrategy[Operation] = st.one_of([by_kind[kind] for kind in kinds])
    return drawn.filter(lambda op: _writable(op, dialect)) if valid else drawn


def actions(
    dialect: str = "crud", hostile: bool = False, *, kinds: Sequence[Kind] = KINDS, max_size: int = 4
) -> st.SearchStrategy[str]:
    """One action: valid operations of a dialect with free text between them.

    A custom dialect may give free text a meaning, so its operations are separated by newlines only.

    Args:
        dialect: ``"crud"``, ``"tools"``, ``"released"`` or ``"package.module:name"``.
        hostile: Whether half of the actions are hostile texts instead.
        kinds: Operations to draw from.
        max_size: Maximum number of operations in an action.
    """
    around = _AROUND if dialect in DIALECTS else ("\n",)
    part = st.tuples(operations(dialect, kinds=kinds), st.sampled_from(around))
    written = st.lists(part, max_size=max_size).map(
        lambda parts: "".join(format_action([op], dialect) + free for op, free in parts)
    )
    return st.one_of(written, hostile_texts()) if hostile else written


def _writable(op: Operation, dialect: str) -> bool:
    try:
        format_action([op], dialect)
    except ValueError:
        return False
    return True
