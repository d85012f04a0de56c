r"""The match of the released AtomMem code, so that its checkpoint is scored as it was trained (RELEASED item 18).

One thing is deliberately different: an answer is compared with the answers of *its* question only and scores at most 1
(the released reward counts a match with any question's answer, and more than once).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WINDOW = 300
"""How many characters at the end of a final answer are looked at."""

BOX = r"\boxed{"
_BRACE = re.compile(r"\\boxed\{|[{}]")

# What follows MATH's answer normalisation (Hendrycks et al., "Measuring Mathematical Problem Solving With the MATH
# Dataset", 2021): spellings of one formula become one. Order matters; white space goes last, as units need it.
_REWRITES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (r"\n|\\!", ""),
        (r"\\\\", r"\\"),
        (r"\\[td]frac", r"\\frac"),
        (r"\\left|\\right", ""),
        (r"\^\{\\circ\}|\^\\circ", ""),
        (r"\\\$", ""),
        (r"\\text\{ .*$", ""),
        (r"\\%", ""),
        (r"(^|[ {])\.", r"\g<1>0."),
        (r"^.{0,2}=(?=[^=]*$)", ""),
        (r"\\sqrt([^{])", r"\\sqrt{\1}"),
        (r" ", ""),
        (r"\\frac([^{])([^{])", r"\\frac{\1}{\2}"),
        (r"^0\.5$", r"\\frac{1}{2}"),
        (r"^(-?\d+)/(-?\d+)$", r"\\frac{\1}{\2}"),
    )
)


def boxed(text: str) -> str | None:
    r"""The stripped content of the last ``\boxed{…}`` with balanced braces, if there is one; linear in the length.

    >>> boxed(r"It is \boxed{a}, or \boxed{\frac{1}{2}}, not \boxed{c")
    '\\frac{1}{2}'
    """
    open_braces: list[int] = []
    last = (-1, -1)
    for match in _BRACE.finditer(text):
        if match.group() != "}":
            # A plain brace is noted as a position that no box beats.
            open_braces.append(match.end() if match.group() == BOX else -1)
        elif open_braces:
            last = max(last, (open_braces.pop(), match.start()))
    return text[slice(*last)].strip() if last[0] >= 0 else None


def normalize_released(text: str) -> str:
    """``text`` in lower case, without spaces and newlines, LaTeX spellings unified; punctuation and articles stay.

    >>> normalize_released("New York") == normalize_released("newyork")
    True
    >>> normalize_released("The Beatles") == normalize_released("Beatles")
    False
    """
    text = text.lower()
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text


def released_match(prediction: str, answers: Sequence[str]) -> float:
    r"""1.0 if the boxed answer equals one of ``answers`` as the released code compares them, else 0.0.

    Args:
        prediction: The text of a ``<final_answer>``, or the content of its box, which is what the dialect ``released``
            hands on. A text that mentions ``\boxed`` but has no whole box in its last 300 characters scores 0.
        answers: Accepted answers of the question that was asked.

    Raises:
        ValueError: there are no ``answers``.
    """
    if not answers:
        raise ValueError("answers is empty, so nothing could match; give at least one accepted answer")
    content = boxed(prediction[-WINDOW:]) if r"\boxed" in prediction else prediction[-WINDOW:].strip()
    if not content:
        return 0.0
    found = normalize_released(content)
    return float(any(found == normalize_released(answer.strip()) for answer in answers))
