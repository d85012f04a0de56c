"""Splits episodes into train and dev so that they share no question, gold document or context."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Sequence

from atommem_gym.records.layout import stable_rng
from atommem_gym.scoring import normalize
from atommem_gym.traces.record import EpisodeTrace


def ties(trace: EpisodeTrace) -> tuple[tuple[str, str], ...]:
    """What an episode may share with others: its questions, the titles of their gold documents, and a hash of the
    first chunk, which all episodes over one context share (SPEC E14).
    """
    found = {("question", normalize(question.question)) for question in trace.questions}
    found |= {("document", piece.title.strip()) for question in trace.questions for piece in question.evidence}
    beginning = trace.steps[0].observation["chunk"] if trace.steps else ""
    if beginning:
        digest = hashlib.blake2b(beginning.encode("utf-8", "surrogatepass"), digest_size=12).hexdigest()
        found.add(("document", f"beginning {digest}"))
    return tuple(sorted(found))


def components(tied: Sequence[Sequence[Hashable]]) -> list[int]:
    """The number of each element's component: elements that share a tie, directly or through others, are together.

    >>> components([["a"], ["a", "b"], ["c"], ["b"]])
    [0, 0, 1, 0]
    """
    parents = list(range(len(tied)))

    def root(i: int) -> int:
        while parents[i] != i:
            parents[i] = parents[parents[i]]
            i = parents[i]
        return i

    first: dict[Hashable, int] = {}
    for i, own in enumerate(tied):
        for tie in own:
            parents[root(i)] = root(first.setdefault(tie, i))
    numbers: dict[int, int] = {}
    return [numbers.setdefault(root(i), len(numbers)) for i in range(len(tied))]


def dev_part(tied: Sequence[Sequence[Hashable]], sizes: Sequence[int], share: float, seed: int) -> list[bool]:
    """Choose the elements of dev: whole components, drawn by ``seed``, up to ``share`` of the sum of sizes.

    If none is small enough, the smallest is chosen if something is left for train; otherwise dev is empty.

    Args:
        tied: The ties of each element.
        sizes: The number of examples of each element.
        share: The wanted share of examples, in [0, 1).
        seed: The seed of the draw.

    Returns:
        For each element, whether it belongs to dev.
    """
    numbers = components(tied)
    weights: defaultdict[int, int] = defaultdict(int)
    for number, size in zip(numbers, sizes, strict=True):
        weights[number] += size
    filled = sorted(number for number, weight in weights.items() if weight)
    room = share * sum(sizes)
    chosen: set[int] = set()
    for place in stable_rng("train and dev", seed).permutation(len(filled)).tolist():
        number = filled[place]
        if weights[number] <= room:
            chosen.add(number)
            room -= weights[number]
    if not chosen and share > 0 and len(filled) > 1:
        chosen = {min(filled, key=lambda number: weights[number])}
    return [number in chosen for number in numbers]
