"""Recognises misspelt names of operations, so that ``<creat>`` is reported and ``<head>`` is not (SPEC A3)."""

from __future__ import annotations

import re
from string import ascii_lowercase

from atommem_gym.actions.operations import KINDS, Kind

_NAMES: dict[str, Kind] = {kind: kind for kind in KINDS}
_NO_LETTERS = re.compile(r"[^a-z]+")
_SHORTEST, _LONGEST = 3, 32
_FEW_LETTERS = 4
"""Names this short are one wrong letter away from too many words (head, lead, road, real)."""


def near_miss(name: str) -> Kind | None:
    """The operation that a misspelt name stands for; ``None`` for a correct name and for one that resembles none.

    A near miss differs by one slip: a missing, added or wrong letter, or two swapped neighbours. Digits and signs are
    ignored (``scratch_pad``, ``create1``).

    >>> near_miss("creat"), near_miss("head")
    ('create', None)
    """
    if name in _NAMES or not _SHORTEST <= len(name) <= _LONGEST:
        return None
    return _SLIPS.get(name) or _SLIPS.get(_NO_LETTERS.sub("", name))


def _slips(name: str) -> set[str]:
    pairs = [(name[:i], name[i:]) for i in range(len(name) + 1)]
    swapped = {a + b[1] + b[0] + b[2:] for a, b in pairs if len(b) > 1}
    missing = {a + b[1:] for a, b in pairs if b}
    added = {a + letter + b for a, b in pairs for letter in ascii_lowercase}
    wrong = {a + letter + b[1:] for a, b in pairs if b for letter in ascii_lowercase}
    if len(name) > _FEW_LETTERS:
        return swapped | missing | added | wrong
    return {slip for slip in swapped | missing | added if slip[0] == name[0]} | {name}


_SLIPS: dict[str, Kind] = {slip: kind for kind in KINDS for slip in _slips(kind)} | {"scratch": "scratchpad"}
"""Some 2,500 spellings: to look one up takes constant time."""
