"""How much of their prompts sessions share, which a server that caches prefixes computes once.

Prompts are sequences of tokens, of whatever kind: token ids, words.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Prompt: TypeAlias = Sequence[Hashable]
Group: TypeAlias = Sequence[Sequence[Prompt]]
"""The prompts of each session of a group, in the order of its steps."""
BLOCK = 16
"""Tokens of a block, vLLM's default: only whole blocks are found again."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Shares of prompt tokens, over all prompts that there are of their kind."""

    with_member: float
    """What a prompt shares, from its beginning, with that of the group's member before it at the same step."""
    with_last_step: float
    """What it shares with the last prompt of its own session."""


def common(one: Prompt, other: Prompt) -> int:
    """Tokens that two prompts have in common at their beginning.

    >>> common("abcd", "abxd")
    2
    """
    least = min(len(one), len(other))
    return next((i for i in range(least) if one[i] != other[i]), least)


def sharing(groups: Sequence[Group]) -> Sharing:
    """What prompts share within a group, and within a session; 0 where there is nothing to compare.

    >>> sharing([[["abc", "abd"], ["abx", "zzz"]]])
    Sharing(with_member=0.3333333333333333, with_last_step=0.3333333333333333)
    """
    members = [
        pair
        for group in groups
        for one, other in zip(group[1:], group, strict=False)
        for pair in zip(one, other, strict=False)
    ]
    steps = [pair for group in groups for session in group for pair in zip(session[1:], session, strict=False)]
    return Sharing(_share(members), _share(steps))


def cache_hits(groups: Sequence[Group], replicas: int = 1, seed: int = 0) -> float:
    """The share of prompt tokens that are in a cache when a group is played step by step, member after member.

    The best that can be: nothing is evicted, and a prompt is in the cache before the next one comes.

    Args:
        groups: Which prompts.
        replicas: Servers, each with a cache of its own, over which prompts are spread at random. Where a group stays
            with one replica that is 1, however many there are.
        seed: Of the spreading.

    >>> cache_hits([[["a" * 32], ["a" * 32], ["a" * 20 + "b" * 12]]])
    0.5
    """
    dice, found, total = Random(seed), 0, 0
    for group in groups:
        caches: list[set[Hashable]] = [set() for _ in range(replicas)]
        for step in range(max(map(len, group), default=0)):
            for session in group:
                if step < len(session):
                    total += len(session[step])
                    found += _found(session[step], dice.choice(caches))
    return found / total if total else 0.0


def _found(prompt: Prompt, cache: set[Hashable]) -> int:
    """Tokens of a prompt that a cache holds; afterwards it holds all whole blocks."""
    key: Hashable = None
    found, open_yet = 0, True
    for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
        # As vLLM does: a block is known by its tokens and all before it.
        key = hash((key, tuple(prompt[start : start + BLOCK])))
        open_yet = open_yet and key in cache
        found += BLOCK * open_yet
        cache.add(key)
    return found


def _share(pairs: Sequence[tuple[Prompt, Prompt]]) -> float:
    total = sum(len(one) for one, _ in pairs)
    return sum(common(one, other) for one, other in pairs) / total if total else 0.0
