"""Distractors: documents that resemble a question's gold and state the same relations about other entities."""

from __future__ import annotations

from collections import defaultdict
from itertools import cycle
from typing import Final

from atommem_gym.worlds.synthetic.entities import CREATOR_OF, Entity
from atommem_gym.worlds.synthetic.phrases import OBJECT_KIND
from atommem_gym.worlds.synthetic.plans import QuestionPlan
from atommem_gym.worlds.synthetic.world import SyntheticWorld

GOAL_DOCUMENT: Final = 0.5
"""Share of questions whose answer is the subject of a distractor."""
DECOYS: Final = 2
"""Objects that the twins of one gold fact share besides the gold object."""
_PERSONAL: Final = frozenset({"spouse", "father", "mother", "members", "capital", "based_on"})
"""Relations whose object belongs to only one subject."""


def distractors(world: SyntheticWorld, plan: QuestionPlan, size: int) -> list[Entity]:
    """Make the distractors of a question.

    Args:
        world: The world that they become part of.
        plan: The question; the entities in ``plan.near`` come first, then twins of its gold in turn.
        size: How many distractors to return.
    """
    gold = plan.gold
    near = world.dice.shuffled(plan.near)
    if plan.goal is not None and plan.goal not in gold and world.dice.chance(GOAL_DOCUMENT):
        near.append(plan.goal)
    relations: dict[Entity, list[str]] = defaultdict(list)
    for entity, relation in plan.hops:
        relations[entity].append(relation)
    per_gold = max(1, (size - len(near)) // len(gold))
    objects = {fact: _Objects(world, *fact, per_gold) for fact in plan.hops}
    for original in cycle(world.dice.shuffled(gold)):
        if len(near) >= size:
            break
        near.append(_twin(world, original, relations[original], objects))
    return near[:size]


class _Objects:
    """The objects that the twins of a gold fact state: each decoy as often as the gold object, gold document included.

    Otherwise the answer would be the object that is named most often.
    """

    def __init__(self, world: SyntheticWorld, original: Entity, relation: str, twins: int) -> None:
        self._world = world
        self._relation = relation
        self._kind = OBJECT_KIND.get(relation, "")
        value = original.facts[relation]
        self._gold = value if isinstance(value, Entity) else None
        self._shared = self._gold is not None and relation not in _PERSONAL
        # With share p of n twins for gold and q for each of d decoys: 1 + n p = n q and p + d q = 1.
        self._gold_share = max(0.0, (1 - DECOYS / twins) / (1 + DECOYS))
        if (relation, value) in world.closed:
            self._gold_share = 0.0
        self._decoys: list[Entity] = []

    def shared(self) -> Entity | None:
        """An object for one more twin; ``None`` if each twin gets its own object."""
        dice = self._world.dice
        if not self._shared:
            return None
        if self._gold is not None and dice.chance(self._gold_share):
            return self._gold
        if len(self._decoys) < DECOYS:
            self._decoys.append(self._world.mention(self._relation, self._kind, self._gold))
            return self._decoys[-1]
        return dice.pick(self._decoys)


def _twin(
    world: SyntheticWorld, original: Entity, relations: list[str], objects: dict[tuple[Entity, str], _Objects]
) -> Entity:
    """Something of the same kind with a similar name and the same relations."""
    made_by = CREATOR_OF.get(original.kind, "")
    creator = objects[original, made_by].shared() if made_by in relations else None
    twin = world.make(original.kind, like=original, role=original.role, creator=creator)
    for relation in relations:
        if relation not in twin.facts:
            shared = objects[original, relation].shared()
            kind = OBJECT_KIND.get(relation, "")
            twin.facts[relation] = shared if shared is not None else world.value(twin, relation, kind)
    if world.dice.chance(0.3):
        world.add(twin)
    return twin
