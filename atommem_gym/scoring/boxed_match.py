r"""The match of the released AtomMem code, so that its checkpoint is scored as in its training (RELEASED item 18).

An answer is compared with the answers of *its* question only and scores at most 1. (The released reward counts a match
with any question's answer, and counts it more than once.) The comparison of one text with its accepted answers differs
from the released code on purpose in four ways:

- **Several boxes in one text**: the last *complete* box counts. In the released code the last opened box counts, and a
  text that ends in an unclosed box scores 0.
- **The window of 300 characters** applies to the text that is scored. The dialect ``released`` looks for the box in the
  whole answer beforehand and passes on its content, so in an environment a long explanation after the box does no harm.
- **An upper-case** ``\BOXED{}`` is not a box. The released code lower-cases the text before it looks for the box.
- **A ``\boxed`` without its brace** is ignored. In the released code it hides the complete boxes of the text, and
  ``\boxed x`` is a box with all that follows, up to the next dollar sign. ``\boxed {x}`` alone scores 0 in both.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

WINDOW = 300
"""Characters at the end of a text in which its box is looked for."""
BOX = r"\boxed{"
"""The beginning of a box."""
_BRACE = re.compile(r"\\boxed\{|[{}]")

# Part of MATH's answer normalisation (Hendrycks et al., "Measuring Mathematical Problem Solving With the MATH Dataset",
# 2021): the released code has only these. They apply one after the other, so a later one sees the earlier ones' result.
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
    r"""The content of the last ``\boxed{…}`` with balanced braces; ``None`` if there is none. Takes linear time.

    >>> boxed(r"It is \boxed{a}, or \boxed{\frac{1}{2}}, not \boxed{c")
    '\\frac{1}{2}'
    """
    open_braces: list[int] = []
    last = (-1, -1)
    for match in _BRACE.finditer(text):
        if match.group() != "}":
            # A plain brace is noted as -1, which every box beats.
            open_braces.append(match.end() if match.group() == BOX else -1)
        elif open_braces:
            last = max(last, (open_braces.pop(), match.start()))
    return text[slice(*last)] if last[0] >= 0 else None


def normalize_released(text: str) -> str:
    r"""The ``text`` in lower case, without spaces and newlines, with a few LaTeX spellings unified.

    Punctuation and articles stay, and so do ``x=``, fractions, roots, units in ``\text{}`` and a leading point, because
    the released code lacks the rest of MATH's normalisation.

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
        prediction: The text of a ``<final_answer>``, or the content of its box, which the dialect ``released`` passes
            on. A text with ``\boxed`` but without a complete box in its last 300 characters scores 0, as does an empty
            text.
        answers: Accepted answers of the question, at least one.

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
