"""Measures how much of their prompts sessions share; a server with a prefix cache computes the shared part once.

A prompt is a sequence of tokens: token ids, words, characters.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

Prompt: TypeAlias = Sequence[Hashable]
"""A prompt as tokens."""
Group: TypeAlias = Sequence[Sequence[Prompt]]
"""The prompts of each session of a group, in the order of its steps."""
BLOCK = 16
"""Tokens per block of the cache, vLLM's default; only whole blocks are found again."""


@dataclass(frozen=True, slots=True)
class Sharing:
    """Shared prompt tokens as shares, from 0 to 1, of all prompt tokens that have something to compare with."""

    with_member: float
    """Share that a prompt has in common with the same step of the group's previous session, from its beginning."""
    with_last_step: float
    """Share that a prompt has in common with the previous prompt of its own session, from its beginning."""


def common(one: Prompt, other: Prompt) -> int:
    """The number of tokens that two prompts have in common at their beginning.

    >>> common("abcd", "abxd")
    2
    """
    least = min(len(one), len(other))
    return next((i for i in range(least) if one[i] != other[i]), least)


def sharing(groups: Sequence[Group]) -> Sharing:
    """How much prompts share within a group and within a session; 0 if there is nothing to compare.

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
    """The share of prompt tokens found in a prefix cache when each group is played step by step, session by session.

    This is an upper bound: nothing is evicted, and every prompt is in the cache before the next one comes.

    Args:
        groups: The prompts.
        replicas: Servers, each with its own cache; every prompt goes to a random one. Use 1 if all prompts of a group
            go to one server, however many there are.
        seed: Seeds the choice of servers.

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
    """The number of a prompt's tokens that the cache holds; adds all whole blocks to the cache."""
    key: Hashable = None
    found, open_yet = 0, True
    for start in range(0, len(prompt) - BLOCK + 1, BLOCK):
        # As in vLLM, the key of a block covers its tokens and all tokens before it.
        key = hash((key, tuple(prompt[start : start + BLOCK])))
        open_yet = open_yet and key in cache
        found += BLOCK * open_yet
        cache.add(key)
    return found


def _share(pairs: Sequence[tuple[Prompt, Prompt]]) -> float:
    total = sum(len(one) for one, _ in pairs)
    return sum(common(one, other) for one, other in pairs) / total if total else 0.0
