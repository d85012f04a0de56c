"""The released code's match: what becomes of every spelling of a formula, and which box counts."""

from __future__ import annotations

import pytest

from atommem_gym.scoring.boxed_match import WINDOW, boxed, normalize_released, released_match


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("A b\nC  d", "abcd"),
        ("a\tb", "a\tb"),
        (r"1\!2\!", "12"),
        (r"a\\b", r"a\b"),
        (r"a\\\\b", r"a\\b"),
        (r"\dfrac{a}{b}+\tfrac{c}{d}+\frac{e}{f}", r"\frac{a}{b}+\frac{c}{d}+\frac{e}{f}"),
        (r"\xfrac{a}{b}", r"\xfrac{a}{b}"),
        ("tfrac", "frac"),
        (r"\leftarrow", "arrow"),
        (r"\left(1\right)", "(1)"),
        ("left right", "leftright"),
        (r"90^{\circ}-45^\circ", "90-45"),
        (r"90^\circles", "90les"),
        (r"\circ", r"\circ"),
        (r"\$5 $6", "5$6"),
        (r"50\% 60%", "5060%"),
        ("\\\n!5", "5"),
        (r"\\left(1)", "(1)"),
        (r"\tdfrac{a}{b}", r"\tfrac{a}{b}"),
        (r"\dtfrac{a}{b}", r"\frac{a}{b}"),
        (r"a \%.5", "a0.5"),
        ("{ .5", "{0.5"),
        ("a .5", "a0.5"),
        ("{.5}", "{0.5}"),
        ("a.5", "a.5"),
        ("1.5", "1.5"),
        (" 0.5", "0.5"),
    ],
)
def test_released_normalisation_of_every_spelling(text: str, normal: str) -> None:
    assert normalize_released(text) == normal


@pytest.mark.parametrize(
    "text",
    ["x=korea", "=5", r"\sqrt3", r"\frac12", r"\frac1{2}", r"\frac{1}2", "0.5", ".5", "3/4", "-3/-14", r"5\text{km}"],
)
def test_finding_4_1_the_rest_of_maths_rewriting_is_no_part_of_the_released_code(text: str) -> None:
    assert normalize_released(text) == text


@pytest.mark.parametrize(
    ("prediction", "gold"),
    [
        (r"\boxed{x=Korea}", "Korea"),
        (r"\boxed{5\text{ km}}", "5"),
        (r"\boxed{3/4}", r"\frac{3}{4}"),
        (r"\boxed{0.5}", r"\frac{1}{2}"),
        (r"\boxed{.5}", "0.5"),
        (r"\boxed{\sqrt3}", r"\sqrt{3}"),
        (r"\boxed{\frac12}", r"\frac{1}{2}"),
    ],
)
def test_finding_4_1_other_spellings_score_nothing(prediction: str, gold: str) -> None:
    assert released_match(prediction, [gold]) == 0.0
    assert released_match(prediction, [prediction[len(r"\boxed{") : -1]]) == 1.0


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"\boxed{ a }", " a "),
        (r"\boxed{a}{b}", "a"),
        (r"{\boxed{a}", "a"),
        (r"}\boxed{a}}", "a"),
        (r"\boxed{a{b}c}", "a{b}c"),
        (r"\boxed{a}b}", "a"),
        (r"\boxed{a} {b}", "a"),
        (r"\boxed{\boxed{a}b", "a"),
        (r"\boxed{x}\boxed{y", "x"),
        (r"\boxed{a\boxed{b}}", "b"),
        (r"\boxed{a}\boxed{b}", "b"),
        ("{a}", None),
        (r"boxed{a}", None),
        (r"\boxed {a}", None),
        (r"\boxed{", None),
        ("}", None),
    ],
)
def test_released_box_is_the_last_whole_one(text: str, content: str | None) -> None:
    assert boxed(text) == content


def test_released_looks_at_the_last_300_characters() -> None:
    assert WINDOW == 300
    fits, too_long = "x" * 292, "x" * 293
    for tail in ("", " "):
        assert released_match(rf"\boxed{{{fits[len(tail) :]}}}{tail}", [fits[len(tail) :]]) == 1.0
        assert released_match(rf"\boxed{{{too_long[len(tail) :]}}}{tail}", [too_long[len(tail) :]]) == 0.0
    assert released_match("y" * 300, ["y" * 300]) == 1.0
    assert released_match("z" + "y" * 300, ["y" * 300]) == 0.0
    assert released_match("z" + "y" * 300, ["z" + "y" * 300]) == 1.0


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        (r"\boxed{ Paris }", ["Rome", " paris "], 1.0),
        (r"\boxed{x} Paris", ["Paris"], 0.0),
        (r"\boxed Paris", ["Paris", r"\boxed Paris"], 0.0),
        ("boxed", ["Boxed"], 1.0),
        (" Paris ", ["Paris"], 1.0),
        (r"\boxed{a} and \boxed{b", ["a"], 1.0),
        (r"\BOXED{Paris}", ["Paris"], 0.0),
        (r"\boxed{İ}", ["i\u0307"], 1.0),
        (r"\boxed{ .5}", ["0.5"], 1.0),
        (r"\boxed{5}", [" 5"], 1.0),
        ("", [" "], 0.0),
        (" ", [" "], 0.0),
    ],
)
def test_released_match_of_the_box_or_of_what_the_dialect_hands_on(
    prediction: str, answers: list[str], expected: float
) -> None:
    assert released_match(prediction, answers) == expected
