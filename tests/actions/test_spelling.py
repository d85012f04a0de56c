"""Which misspelt names of operations are taken for slips (SPEC A3)."""

from __future__ import annotations

from string import ascii_lowercase

import pytest

from atommem_gym.actions import (
    KINDS,
    Kind,
)
from atommem_gym.actions.spelling import near_miss


def slips(name: str) -> set[str]:
    """All that is a letter missing, a letter too many, a wrong letter or two neighbours swapped away."""
    found = set()
    for i in range(len(name) + 1):
        found |= {name[:i] + letter + name[i:] for letter in ascii_lowercase}
        found |= {name[:i] + letter + name[i + 1 :] for letter in ascii_lowercase if i < len(name)}
        found.add(name[:i] + name[i + 1 :])
        found.add(name[:i] + name[i : i + 2][::-1] + name[i + 2 :])
    return found - {name}


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "read"])
def test_A3_every_single_slip_is_a_near_miss(kind: Kind) -> None:
    assert {near_miss(slip) for slip in slips(kind)} == {kind}


def test_A3_of_a_short_name_no_wrong_letter_and_no_other_first_letter_is_a_slip() -> None:
    meant = {slip for slip in slips("read") if near_miss(slip) == "read"}
    assert meant == {
        slip for slip in slips("read") if slip[0] == "r" and (len(slip) != 4 or sorted(slip) == sorted("read"))
    }
    assert {near_miss(slip) for slip in slips("read") - meant} == {None}


@pytest.mark.parametrize("kind", KINDS)
def test_A3_two_slips_are_no_near_miss(kind: Kind) -> None:
    single = {slip for name in KINDS for slip in slips(name)} | set(KINDS)
    for i in range(len(kind) - 1):
        twice = f"{kind[:i]}q{kind[i : i + 1]}q{kind[i + 1 :]}"
        assert twice not in single
        assert near_miss(twice) is None


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("_create", "create"), ("create-1", "create"),
        ("c.r.e.a.t.e", "create"), ("scratch_pads", "scratchpad"), ("re_ad", "read"),
        ("answer" + "_" * 26, "answer"), ("answer" + "_" * 27, None), ("re", None), ("red", "read"), ("ea", None),
        ("scratch", "scratchpad"), ("CREAT", None), ("", None), ("___", None),
    ],
)  # fmt: skip
def test_A3_signs_count_for_nothing_in_names_of_3_to_32_characters(name: str, kind: str | None) -> None:
    assert near_miss(name) == kind
