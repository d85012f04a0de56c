"""The four shapes: the question types of a data set, their shares, and the size of its records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from atommem_gym.worlds.synthetic.chains import chain, inference
from atommem_gym.worlds.synthetic.comparisons import bridge_comparison, comparison
from atommem_gym.worlds.synthetic.intersections import membership, selection
from atommem_gym.worlds.synthetic.plans import QuestionPlan
from atommem_gym.worlds.synthetic.world import SyntheticWorld

Planner = Callable[[SyntheticWorld], QuestionPlan]


@dataclass(frozen=True, slots=True)
class Shape:
    """A mixture of question types."""

    planners: tuple[tuple[float, Planner], ...]
    """Shares, which add up to 1, and the functions that make a question."""
    documents: int
    """Documents per record, gold and distractors together: 10 in HotpotQA and 2WikiMultiHopQA, 20 in MuSiQue."""
    max_gold: int
    """Most gold documents of a question."""
    evidence: str
    """``"sentences"`` or ``"paragraphs"`` (SPEC E12)."""
    aliases: bool = False
    """Whether questions have other accepted answers."""

    def plan(self, world: SyntheticWorld) -> QuestionPlan:
        """Plan a question of a type drawn by share."""
        point = world.dice.random()
        for share, planner in self.planners:
            point -= share
            if point < 0:
                return planner(world)
        return self.planners[-1][1](world)


def _intersection(world: SyntheticWorld) -> QuestionPlan:
    """A question with two conditions, each named directly or by one hop."""
    if world.dice.chance(0.4):
        return membership(world, world.dice.below(3), "intersection")
    return selection(world, (world.dice.below(2), world.dice.below(2)), "intersection")


def _branch(world: SyntheticWorld, hops: int, label: str) -> QuestionPlan:
    """A question in which a chain of ``hops`` meets a single hop: one in MuSiQue's 3hop2, two in its 4hop3."""
    if world.dice.chance(0.5):
        return membership(world, hops, label)
    return selection(world, world.dice.pick(((0, hops), (hops, 0))), label)


SHAPES: Final[dict[str, Shape]] = {
    "hotpotqa": Shape(
        ((0.7, lambda w: chain(w, 2, "bridge")), (0.3, comparison)), documents=10, max_gold=2, evidence="sentences"
    ),
    "2wikimultihopqa": Shape(
        (
            (0.3, lambda w: chain(w, 2, "compositional")),
            (0.1, lambda w: chain(w, 3, "compositional")),
            (0.25, comparison),
            (0.2, bridge_comparison),
            (0.15, inference),
        ),
        documents=10,
        max_gold=4,
        evidence="sentences",
    ),
    "musique": Shape(
        (
            (0.4, lambda w: chain(w, 2, "2hop")),
            (0.2, lambda w: chain(w, 3, "3hop1")),
            (0.14, lambda w: _branch(w, 1, "3hop2")),
            (0.1, lambda w: chain(w, 4, "4hop1")),
            (0.08, lambda w: membership(w, 1, "4hop2", onwards=True)),
            (0.08, lambda w: _branch(w, 2, "4hop3")),
        ),
        documents=20,
        max_gold=4,
        evidence="paragraphs",
        aliases=True,
    ),
    "mixed": Shape(
        (
            (0.25, lambda w: chain(w, 2, "bridge")),
            (0.25, comparison),
            (0.125, lambda w: chain(w, 3, "composition")),
            (0.125, lambda w: chain(w, 4, "composition")),
            (0.25, _intersection),
        ),
        documents=20,
        max_gold=4,
        evidence="sentences",
    ),
}
"""The values of ``shape=``."""
