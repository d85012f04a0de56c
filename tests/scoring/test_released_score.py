"""Finding 4.1: the scorer ``released`` against its description on generated pairs; every difference is a wanted one."""

from __future__ import annotations

import random
import re
from collections import Counter

import pytest
from support.released import score as described

from atommem_gym.scoring.boxed_match import WINDOW, boxed, released_match

WORDS = ("Korea", "x=Korea", "New York", "newyork", "The Beatles", "Beatles", "yes", "yes.", "İzmir", "U.S.", "US", "5")
SPELLINGS = (
    r"\frac{1}{2}", r"\dfrac{1}{2}", r"\tfrac{1}{2}", r"\frac12", "1/2", "0.5", ".5", r"\sqrt3", r"\sqrt{3}", "x=5",
    "=", r"\text{ km}", r"\left(1\right)", "(1)", r"90^\circ", r"90^{\circ}", "90", r"\$5", "$5", r"50\%", "50%",
    r"a\!b", "{.5}", " .5", r"\\", "\\", "{", "}", "dfrac", "tdfrac", "\n", " ", "\t", "\u00a0", r"\lef", "t",
    r"\boxed", "^", "!",
)  # fmt: skip
OPENINGS = (r"\boxed{",) * 12 + (r"\BOXED{", r"\Boxed{", r"\boxed {", r"\boxed", "boxed{")
AROUND = ("", "", "It is ", ". Because ", "}", "{", "\n", "x" * 100, "x" * 292, "x" * 300, " .")


def pair(rng: random.Random) -> tuple[str, list[str]]:
    """A text as a model might write it, and accepted answers, often made of the same parts in another spelling."""
    parts = [rng.choice(WORDS if rng.random() < 0.6 else SPELLINGS) for _ in range(rng.randint(0, 3))]
    text = rng.choice(AROUND)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 3, 0))):
        content = "".join(varied(rng, parts))
        text += rng.choice(OPENINGS) + content + rng.choice(("}",) * 12 + ("", "}}")) + rng.choice(AROUND)
    answers = ["".join(varied(rng, parts)) for _ in range(rng.randint(1, 3))]
    return text, answers


def varied(rng: random.Random, parts: list[str]) -> list[str]:
    """The parts, now and then one of them in another case, with spaces, in another spelling, or another one."""
    varied = list(parts)
    for i, part in enumerate(parts):
        draw = rng.random()
        if draw < 0.1:
            varied[i] = part.upper() if draw < 0.05 else part.lower()
        elif draw < 0.2:
            varied[i] = " ".join(part) if draw < 0.12 else f" {part} "
        elif draw < 0.3:
            varied[i] = rng.choice(SPELLINGS)
    return varied


def wanted_difference(text: str) -> str:
    """Which of the differences in the docstring of ``boxed_match`` a text falls under; empty for none."""
    seen = text[-WINDOW:]
    if re.search(r"\\boxed\{", seen, re.IGNORECASE) and seen.lower().count("\\boxed{") > seen.count("\\boxed{"):
        return "upper-case BOXED"
    if seen.count("\\boxed{") > 1 and described.last_box(seen) is None and boxed(seen) is not None:
        return "two boxes in one text"
    return ""


def compare(pairs: int, seed: int) -> Counter[str]:
    """Score so many generated pairs both ways; how often both gave 1, both gave 0, and each wanted difference."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    while found.total() < pairs:
        text, answers = pair(rng)
        if "\\boxed" not in text:
            # What is handed on without a box is the content of one: the next test.
            continue
        ours, theirs = released_match(text, answers), described.score(text, answers)
        if ours == theirs:
            found[f"both {ours:.0f}"] += 1
            continue
        difference = wanted_difference(text)
        assert difference, f"{text!r} with {answers!r} scores {ours}, by the description {theirs}"
        found[difference] += 1
    return found


def contents(pairs: int, seed: int) -> Counter[str]:
    """The same for contents of boxes, which is what the dialect hands on, whatever their place in the answer."""
    rng = random.Random(seed)
    found: Counter[str] = Counter()
    while found.total() < pairs:
        parts = [rng.choice(WORDS if rng.random() < 0.6 else SPELLINGS) for _ in range(rng.randint(1, 3))]
        content, answers = "".join(varied(rng, parts)), ["".join(varied(rng, parts)) for _ in range(rng.randint(1, 3))]
        text = rf"\boxed{{{content}}}"
        if "\\boxed" in content or not content.strip() or described.last_box(text) != content.lower():
            continue
        ours = released_match(content, answers)
        assert ours == described.score(text, answers), (content, answers)
        assert ours == released_match(text, answers)
        found[f"both {ours:.0f}"] += 1
    return found


def check(pairs: int) -> None:
    of_texts, of_contents = compare(pairs, seed=41), contents(pairs, seed=42)
    assert set(of_texts) == {"both 0", "both 1", "upper-case BOXED", "two boxes in one text"}
    # Pairs that could not differ would show nothing: many match, and many do not.
    assert min(of_texts["both 0"], of_texts["both 1"]) > pairs / 5
    assert min(of_contents["both 0"], of_contents["both 1"]) > pairs / 5


def test_finding_4_1_the_scorer_agrees_with_the_description_but_for_wanted_differences() -> None:
    check(4_000)


@pytest.mark.slow
def test_finding_4_1_the_scorer_agrees_with_the_description_over_100_000_pairs() -> None:
    check(100_000)


@pytest.mark.parametrize(
    ("text", "ours", "theirs"),
    [
        (r"\boxed{Korea} or \boxed{Ko", 1.0, 0.0),
        (r"\BOXED{Korea}", 0.0, 1.0),
        (r"\boxed{Japan}\BOXED{Korea}", 0.0, 1.0),
        (r"\boxed{Korea}" + "x" * 287, 1.0, 1.0),
        (r"\boxed{Korea}" + "x" * 288, 0.0, 0.0),
    ],
)
def test_finding_4_1_the_wanted_differences_are_these(text: str, ours: float, theirs: float) -> None:
    assert released_match(text, ["Korea"]) == ours
    assert described.score(text, ["Korea"]) == theirs
