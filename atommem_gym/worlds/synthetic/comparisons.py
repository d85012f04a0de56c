"""Questions that weigh two things against each other, with the answer among the options that they name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from atommem_gym.worlds.synthetic.entities import CREATOR_OF, ROLES, Entity
from atommem_gym.worlds.synthetic.phrases import COMPARE, MAKER_COMPARE, OBJECT_KIND, SAME
from atommem_gym.worlds.synthetic.plans import Extreme, Query, QuestionPlan, Same
from atommem_gym.worlds.synthetic.world import NUMBERS, SyntheticWorld

YES_NO: Final = ("yes", "no")
YES_NO_SHARE: Final = 0.4
_SHARED_BY_MAKERS: Final = (
    ("born_in", "Were {makers} born in the same town?"),
    ("studied_at", "Did {makers} study at the same institution?"),
)
_SPANS: Final = {
    "person": (1890, 1965),
    "film": (1925, 2010),
    "novel": (1925, 2010),
    "company": (1920, 2005),
    "institute": (1690, 1805),
    "band": (1962, 2012),
}


def comparison(world: SyntheticWorld) -> QuestionPlan:
    """A comparison of two things' own facts (two gold documents)."""
    return _same(world) if world.dice.chance(YES_NO_SHARE) else _extreme(world)


def bridge_comparison(world: SyntheticWorld) -> QuestionPlan:
    """A comparison of what two things lead to: their makers' ages, birthplaces or schools (four gold documents)."""
    dice = world.dice
    kind, made_by, which, makers = dice.pick(MAKER_COMPARE)
    if dice.chance(YES_NO_SHARE):
        trait, question = dice.pick(_SHARED_BY_MAKERS)
        people = [world.make("person", role=ROLES[made_by]) for _ in range(2)]
        same = _share(world, people, trait)
        a, b = (world.make(kind, creator=person) for person in people)
        titles = (a.title, b.title)
        text = question.format(makers=makers.format(a=a.ref, b=b.ref))
        answer, options = YES_NO[not same], YES_NO
        query: Query = Same(titles, (made_by, trait))
    else:
        trait, largest = "born", dice.chance(0.5)
        pair = [world.make("person", role=ROLES[made_by], year=year) for year in _two_years(world, "person")]
        people = dice.shuffled(pair)
        a, b = (world.make(kind, creator=person) for person in people)
        titles = (a.title, b.title)
        text = which.format(w="younger" if largest else "older", a=a.ref, b=b.ref)
        answer = titles[people.index(pair[largest])]
        options, query = titles, Extreme(titles, (made_by, trait), largest)
    _publish(world, (a, b, *people))
    hops = [(a, made_by), (b, made_by), (people[0], trait), (people[1], trait)]
    return QuestionPlan("bridge_comparison", text, answer, query, hops, options=options)


def _extreme(world: SyntheticWorld) -> QuestionPlan:
    dice = world.dice
    kind = dice.pick(tuple(COMPARE))
    relation, smaller, larger = COMPARE[kind]
    if kind in _SPANS:
        pair = [world.make(kind, year=year) for year in _two_years(world, kind)]
    else:
        pair = [world.make(kind), world.make(kind)]
        low, high = NUMBERS[relation]
        middle = dice.between(low * 2, high // 2)
        pair[0].facts[relation], pair[1].facts[relation] = middle, middle + 1 + dice.below(middle)
    largest = dice.chance(0.5)
    winner = pair[1] if largest else pair[0]
    a, b = dice.shuffled(pair)
    text = dice.pick(larger if largest else smaller).format(a=a.ref, b=b.ref)
    _publish(world, (a, b))
    titles = (a.title, b.title)
    return QuestionPlan(
        "comparison",
        text,
        winner.title,
        Extreme(titles, (relation,), largest),
        [(a, relation), (b, relation)],
        options=titles,
    )


def _same(world: SyntheticWorld) -> QuestionPlan:
    dice = world.dice
    kind, relation, text = dice.pick(SAME)
    if CREATOR_OF.get(kind) == relation:
        people = [world.mention(relation, "person")]
        same = dice.chance(0.5)
        people.append(people[0] if same else world.mention(relation, "person", people[0]))
        a, b = (world.make(kind, creator=person) for person in people)
    else:
        a, b = world.make(kind), world.make(kind)
        same = _share(world, [a, b], relation)
    _publish(world, (a, b))
    titles = (a.title, b.title)
    hops = [(a, relation), (b, relation)]
    return QuestionPlan(
        "comparison", text.format(a=a.ref, b=b.ref), YES_NO[not same], Same(titles, (relation,)), hops, options=YES_NO
    )


def _share(world: SyntheticWorld, pair: list[Entity], relation: str) -> bool:
    """Let two entities state ``relation`` with the same value or, as often, with two; returns whether with the same."""
    same = world.dice.chance(0.5)
    kind = OBJECT_KIND[relation]
    value = world.mention(relation, kind)
    pair[0].facts[relation] = value
    pair[1].facts[relation] = value if same else world.mention(relation, kind, value)
    return same


def _two_years(world: SyntheticWorld, kind: str) -> tuple[int, int]:
    low, high = _SPANS[kind]
    gap = world.dice.between(1, 24)
    first = world.dice.between(low, high - gap)
    return first, first + gap


def _publish(world: SyntheticWorld, entities: Iterable[Entity]) -> None:
    """Let other documents mention what was compared, but for novels: the older one would be filmed more often."""
    for entity in entities:
        if entity.kind != "novel":
            world.add(entity)
