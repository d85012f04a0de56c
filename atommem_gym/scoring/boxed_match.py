r"""The match of the released AtomMem code, so that its checkpoint is scored as it was trained (RELEASED item 18).

An answer is compared with the answers of *its* question only and scores at most 1 (the released reward counts a match
with any question's answer, and more than once). Three things are deliberately different in how one text is compared
with its accepted answers:

- **Two boxes in one text**: the last *whole* box counts. There the last one that is opened counts, and a text that ends
  in an unclosed one scores 0.
- **The window of 300 characters** is laid on the text that is scored. The dialect ``released`` finds the box before, in
  the whole of an answer, so that in an environment a long explanation after the box costs nothing; what it hands on is
  compared whole.
- **An upper-case** ``\BOXED{}`` is no box. There the text is put in lower case before the box is looked for.

A ``\boxed`` without its brace is nothing here. There it hides the whole boxes of a text, and ``\boxed x`` means the box
of all that follows, up to the next dollar sign; ``\boxed {x}`` alone scores 0 in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WINDOW = 300
"""How many characters at the end of a text are looked at for its box."""

BOX = r"\boxed{"
_BRACE = re.compile(r"\\boxed\{|[{}]")

# Part of MATH's answer normalisation (Hendrycks et al., "Measuring Mathematical Problem Solving With the MATH Dataset",
# 2021): the released code goes no further. Each is done before the next, so that one may complete another.
_REWRITES: tuple[tuple[str, str], ...] = (
    ("\n", ""),
    (r"\!", ""),
    (r"\\", "\\"),
    ("tfrac", "frac"),
    ("dfrac", "frac"),
    (r"\left", ""),
    (r"\right", ""),
    (r"^{\circ}", ""),
    (r"^\circ", ""),
    (r"\$", ""),
    (r"\%", ""),
    (" .", " 0."),
    ("{.", "{0."),
    (" ", ""),
)


def boxed(text: str) -> str | None:
    r"""The content of the last ``\boxed{…}`` with balanced braces, if there is one; linear in the length.

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
    return text[slice(*last)] if last[0] >= 0 else None


def normalize_released(text: str) -> str:
    r"""``text`` in lower case, without spaces and newlines, a few LaTeX spellings unified; the rest stays.

    Punctuation and articles stay, and so do ``x=``, fractions, roots, units in ``\text{}`` and a point at the
    beginning: the rest of MATH's rewriting is no part of the released code.

    >>> normalize_released("New York") == normalize_released("newyork")
    True
    >>> normalize_released("The Beatles") == normalize_released("Beatles")
    False
    >>> normalize_released("x=Korea")
    'x=korea'
    """
    text = text.lower()
    for spelling, replacement in _REWRITES:
        text = text.replace(spelling, replacement)
    return text


def released_match(prediction: str, answers: Sequence[str]) -> float:
    r"""1.0 if the boxed answer equals one of ``answers`` as the released code compares them, else 0.0.

    Args:
        prediction: The text of a ``<final_answer>``, or the content of its box, which is what the dialect ``released``
            hands on. A text that mentions ``\boxed`` but has no whole box in its last 300 characters scores 0, and so
            does an empty one.
        answers: Accepted answers of the question that was asked.

    >>> released_match(r"It lies in \boxed{South Korea}.", ["south korea"])
    1.0

    Raises:
        ValueError: there are no ``answers``.
    """
    if not answers:
        raise ValueError("answers is empty, so nothing could match; give at least one accepted answer")
    content = boxed(prediction[-WINDOW:]) if r"\boxed" in prediction else prediction if prediction.strip() else None
    if content is None:
        return 0.0
    found = normalize_released(content)
    return float(any(found == normalize_released(answer) for answer in answers))
