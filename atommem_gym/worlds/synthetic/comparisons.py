"""Questions that compare two things; the question names the options for the answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atommem_gym.worlds.synthetic.entities import CREATOR_OF, ROLES, YEAR_OF, Entity
from atommem_gym.worlds.synthetic.phrases import COMPARE, MAKER_COMPARE, MAKER_SAME, OBJECT_KIND, SAME
from atommem_gym.worlds.synthetic.plans import Extreme, Path, Query, QuestionPlan, Same
from atommem_gym.worlds.synthetic.world import NUMBERS, YEARS, SyntheticWorld

YES_NO: Final = ("yes", "no")
YES_NO_SHARE: Final = 0.4


def comparison(world: SyntheticWorld) -> QuestionPlan:
    """A question that compares facts of two things (two gold documents)."""
    return _same(world) if world.dice.chance(YES_NO_SHARE) else _extreme(world)


def bridge_comparison(world: SyntheticWorld) -> QuestionPlan:
    """A question that compares the makers of two things: their ages, birthplaces or schools (four gold documents)."""
    dice = world.dice
    kind, made_by, which, makers = dice.pick(MAKER_COMPARE)
    role, largest = ROLES[made_by], None
    if dice.chance(YES_NO_SHARE):
        trait, question = dice.pick(MAKER_SAME)
        people = [world.make("person", role=role) for _ in range(2)]
        _share(world, people, trait)
        text = question.format(makers=makers)
    else:
        trait, largest = "born", dice.chance(0.5)
        people = dice.shuffled(world.make("person", role=role, year=year) for year in _two_years(world, "person"))
        text = which.replace("{w}", "younger" if largest else "older")
    things = [world.make(kind, creator=person) for person in people]
    return _plan(world, "bridge_comparison", text, (things, people), (made_by, trait), largest)


def _extreme(world: SyntheticWorld) -> QuestionPlan:
    dice = world.dice
    kind = dice.pick(tuple(COMPARE))
    relation, smaller, larger = COMPARE[kind]
    if relation == YEAR_OF.get(kind):
        pair = [world.make(kind, year=year) for year in _two_years(world, kind)]
    else:
        pair = [world.make(kind), world.make(kind)]
        low, high = NUMBERS[relation]
        middle = dice.between(low * 2, high // 2)
        pair[0].facts[relation], pair[1].facts[relation] = middle, middle + 1 + dice.below(middle)
    largest = dice.chance(0.5)
    things = dice.shuffled(pair)
    text = dice.pick(larger if largest else smaller)
    return _plan(world, "comparison", text, (things,), (relation,), largest)


def _same(world: SyntheticWorld) -> QuestionPlan:
    kind, relation, text = world.dice.pick(SAME)
    if CREATOR_OF.get(kind) == relation:
        maker = world.mention(relation, "person")
        other = maker if world.dice.chance(0.5) else world.mention(relation, "person", maker)
        things = [world.make(kind, creator=person) for person in (maker, other)]
    else:
        things = [world.make(kind), world.make(kind)]
        _share(world, things, relation)
    return _plan(world, "comparison", text, (things,), (relation,), None)


def _plan(
    world: SyntheticWorld,
    label: str,
    text: str,
    pairs: Sequence[list[Entity]],
    path: Path,
    largest: bool | None,
) -> QuestionPlan:
    """Plan the question ``text`` about two things, once all facts are decided.

    Args:
        world: The world, whose other documents may then mention the things.
        label: The question type.
        text: The question, with ``{a}`` and ``{b}`` for the first pair.
        pairs: The two things, then the two entities to which the first relation of ``path`` leads, and so on.
        path: Relations to follow; the values of the last one at the last pair are compared.
        largest: Which of two numbers decides; ``None`` asks whether both values are the same.
    """
    a, b = pairs[0]
    first, second = (entity.facts[path[-1]] for entity in pairs[-1])
    titles = (a.title, b.title)
    if largest is None:
        query: Query = Same(titles, path)
        answer, options = YES_NO[first is not second], YES_NO
    else:
        assert isinstance(first, int)
        assert isinstance(second, int)
        query = Extreme(titles, path, largest)
        answer, options = titles[(first < second) == largest], titles
    for entity in (entity for pair in pairs for entity in pair):
        # Not novels: documents could mention them as the basis of films, the older one more often.
        if entity.kind != "novel":
            world.add(entity)
    hops = [(entity, relation) for pair, relation in zip(pairs, path, strict=True) for entity in pair]
    return QuestionPlan(label, text.format(a=a.ref, b=b.ref), answer, query, hops, options=options)


def _share(world: SyntheticWorld, pair: list[Entity], relation: str) -> None:
    """Let two entities state ``relation``, with the same value or with different ones, equally often."""
    same = world.dice.chance(0.5)
    kind = OBJECT_KIND[relation]
    value = world.mention(relation, kind)
    pair[0].facts[relation] = value
    pair[1].facts[relation] = value if same else world.mention(relation, kind, value)


def _two_years(world: SyntheticWorld, kind: str) -> tuple[int, int]:
    low, high = YEARS[kind]
    gap = world.dice.between(1, 24)
    first = world.dice.between(low, high - gap)
    return first, first + gap
