"""Finds names and answers in texts, from which hop answers and the options of a question are derived."""

from __future__ import annotations

import re
import string
from collections.abc import Iterable, Sequence

YES_NO = ("yes", "no")

COMPARISONS = frozenset({"comparison", "bridge_comparison"})
"""The question types of HotpotQA and 2WikiMultiHopQA that name the things they compare."""

_WORD_END = r"(?!\w)"
_WORD_START = r"(?<!\w)"
_QUALIFIER = re.compile(r"\s*\([^()]*\)\s*$")
_LAST_CHOICE = re.compile(r"[,:]\s*(?P<one>[^,:]+?)\s*,?\s+or\s+(?P<other>[^,:?]+?)\s*\?*\s*$", re.IGNORECASE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def find(name: str, text: str) -> int:
    """Where ``name`` occurs in ``text`` as whole words, ignoring case; -1 if it does not."""
    folded = name.casefold().strip()
    if not folded or folded not in text.casefold():
        return -1
    match = re.search(_WORD_START + re.escape(folded) + _WORD_END, text.casefold())
    return match.start() if match else -1


def occurs(name: str, text: str) -> bool:
    """Whether ``name`` occurs in ``text`` as whole words, ignoring case."""
    return find(name, text) >= 0


def plain(name: str) -> str:
    """``name`` in lower case, without punctuation and with single spaces, to compare spellings."""
    return " ".join(name.casefold().translate(_PUNCTUATION).split())


def without_qualifier(title: str) -> str:
    """A Wikipedia title without the disambiguation in brackets."""
    return _QUALIFIER.sub("", title) or title


def hop_answer(paragraph: str, answer: str, other_titles: Iterable[str]) -> str:
    """What a gold paragraph contributes: the answer if it contains it, else another gold title, else nothing.

    Args:
        paragraph: The text of the paragraph.
        answer: The answer to the question.
        other_titles: The titles of the other gold paragraphs.
    """
    if plain(answer) not in YES_NO and occurs(answer, paragraph):
        return answer
    for title in other_titles:
        for name in (title, without_qualifier(title)):
            if occurs(name, paragraph):
                return name
    return ""


def options(question: str, answer: str, type_: str, gold_titles: Sequence[str]) -> tuple[str, ...]:
    """The answers that the question itself offers: yes and no, the two things compared, or none.

    The things compared are two gold titles in the question, or the two sides of its last "..., A or B?". One of them
    must be the answer, or else the question asks for something else; it has the spelling of the answer.

    Args:
        question: The question.
        answer: Its answer.
        type_: The data set's question type.
        gold_titles: The titles of the gold paragraphs.
    """
    if plain(answer) in YES_NO:
        return YES_NO
    if type_ not in COMPARISONS:
        return ()
    named: dict[int, str] = {}
    for title in gold_titles:
        for name in (title, without_qualifier(title)):
            place = find(name, question)
            if place >= 0:
                named.setdefault(place, name)
                break
    pair = _with_answer([named[place] for place in sorted(named)], answer)
    if pair:
        return pair
    choice = _LAST_CHOICE.search(question)
    return _with_answer([choice["one"], choice["other"]], answer) if choice else ()


def _with_answer(names: Sequence[str], answer: str) -> tuple[str, ...]:
    wanted = {plain(answer), plain(without_qualifier(answer))}
    matches = [plain(name) in wanted for name in names]
    if len(names) != 2 or sum(matches) != 1:
        return ()
    return tuple(answer if match else name for name, match in zip(names, matches, strict=True))
