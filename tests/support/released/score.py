r"""The match of the paper's released code once more, from its description alone, slow and obvious.

Made to be compared with ``atommem_gym.scoring.boxed_match``, so it shares nothing with it: one text, its last 300
characters, in lower case, the box that is opened last, its content by counting braces, then the rewriting step by step.
"""

from __future__ import annotations

from collections.abc import Sequence


def score(text: str, answers: Sequence[str]) -> float:
    """1.0 if the last box of the text equals one of the answers, else 0.0."""
    content = last_box(text[len(text) - 300 if len(text) > 300 else 0 :].lower())
    if content is None:
        return 0.0
    for answer in answers:
        if rewritten(content) == rewritten(answer.lower()):
            return 1.0
    return 0.0


def last_box(text: str) -> str | None:
    """What stands between the braces of the box that is opened last; ``None`` if it is not closed or there is none."""
    _, opening, after = text.rpartition("\\boxed{")
    if not opening:
        return None
    open_braces = 1
    for i, character in enumerate(after):
        if character == "{":
            open_braces += 1
        elif character == "}":
            open_braces -= 1
        if open_braces == 0:
            return after[:i]
    return None


def rewritten(text: str) -> str:
    """The text with the released code's rewriting, one step after the other."""
    text = "".join(text.split("\n"))
    text = "".join(text.split("\\!"))
    text = "\\".join(text.split("\\\\"))
    text = "frac".join(text.split("tfrac"))
    text = "frac".join(text.split("dfrac"))
    for gone in ("\\left", "\\right", "^{\\circ}", "^\\circ", "\\$", "\\%"):
        text = "".join(text.split(gone))
    text = " 0.".join(text.split(" ."))
    text = "{0.".join(text.split("{."))
    return "".join(text.split(" "))
