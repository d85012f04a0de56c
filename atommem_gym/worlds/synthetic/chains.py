"""Questions that follow one fact after another: bridge, compositional, inference and MuSiQue's chains."""

from __future__ import annotations

from typing import Final

from atommem_gym.worlds.synthetic.entities import CREATOR_OF, ROLES, Entity, Value, shown
from atommem_gym.worlds.synthetic.phrases import INFERENCE, OBJECT_KIND, anchor, ask, noun_phrase
from atommem_gym.worlds.synthetic.plans import Follow, Named, QuestionPlan
from atommem_gym.worlds.synthetic.world import SyntheticWorld

STEPS: Final[dict[str, tuple[str, ...]]] = {
    "film": ("directed_by", "directed_by", "directed_by", "based_on", "based_on", "shot_in"),
    "novel": ("written_by", "written_by", "set_in"),
    "company": ("founded_by", "founded_by", "head_office"),
    "museum": ("designed_by", "designed_by", "stands_in"),
    "institute": ("seated_in",),
    "band": ("formed_in",),
    "person": ("born_in", "born_in", "studied_at", "studied_at", "spouse", "father", "mother"),
    "town": ("located_in", "located_in", "on_river"),
    "river": ("rises_in",),
    "region": ("capital",),
}
"""Relations that a chain may follow from each kind; common ones are repeated."""

_STARTS: Final = ("film", "film", "novel", "company", "museum", "person", "band", "institute")
_LAST: Final[dict[str, tuple[str, ...]]] = {
    "person": ("born",),
    "town": ("population", "chartered"),
    "institute": ("opened",),
    "novel": ("published",),
    "river": ("length",),
}
_FAMILY: Final = ("spouse", "father", "mother")


def chain(world: SyntheticWorld, hops: int, label: str) -> QuestionPlan:
    """Plan a question of ``hops`` hops, each stated by a different document.

    Raises:
        ValueError: ``hops`` is not 2, 3 or 4.
    """
    if hops not in (2, 3, 4):
        raise ValueError(f"hops={hops} is out of range: a chain has 2, 3 or 4")
    dice = world.dice
    path: list[str] = []
    while len(path) < hops:
        kind, path = dice.pick(_STARTS), []
        start = kind
        while len(path) < hops:
            options = [r for r in STEPS[kind] if _may_follow(r, path)]
            if len(path) == hops - 1:
                options += [r for r in _LAST.get(kind, ()) if dice.chance(0.5)]
            if not options:
                break
            path.append(dice.pick(options))
            kind = OBJECT_KIND.get(path[-1], "")
    first = _subject(world, start, path[0])
    return _plan(world, first, path, label, None)


def inference(world: SyntheticWorld) -> QuestionPlan:
    """Plan a question with a word for a relative that no document uses ("maternal grandfather"; 2WikiMultiHopQA)."""
    one, two, question = world.dice.pick(INFERENCE)
    return _plan(world, world.make("person"), [one, two], "inference", question)


def _plan(world: SyntheticWorld, first: Entity, path: list[str], label: str, question: str | None) -> QuestionPlan:
    """Make the entities along ``path`` and ask about its end."""
    dice = world.dice
    hops: list[tuple[Entity, str]] = []
    entity = first
    x = anchor(first, dice)
    value: Value = first
    for number, relation in enumerate(path):
        last = number == len(path) - 1
        value = step(world, entity, relation, None if last else path[number + 1])
        hops.append((entity, relation))
        if not last:
            x = noun_phrase(relation, x, dice)
        if isinstance(value, Entity):
            entity = value
    text = question.format(x=first.ref) if question is not None else ask(path[-1], x, dice)
    goal = value if isinstance(value, Entity) else None
    for gold, _ in hops:
        world.add(gold)
    return QuestionPlan(label, text, shown(value, path[-1]), Follow(Named(first.title), tuple(path)), hops, goal=goal)


def step(world: SyntheticWorld, entity: Entity, relation: str, following: str | None) -> Value:
    """Let ``entity`` state ``relation`` and return the value.

    Within a chain the value is a new entity; at its end mostly one that other documents mention, too.

    Args:
        world: The world of the item.
        entity: The subject.
        relation: The relation.
        following: The relation that the chain follows next; ``None`` at its end.
    """
    if relation in entity.facts:
        return entity.facts[relation]
    kind = OBJECT_KIND.get(relation, "")
    value: Value
    if relation == "based_on":
        year = entity.year - world.dice.between(2, 15)
        value = _subject(world, "novel", following, year)
    elif following is None or relation in _FAMILY or relation == "capital":
        value = world.value(entity, relation, kind)
    else:
        value = _subject(world, kind, following)
    entity.facts[relation] = value
    return value


def _subject(world: SyntheticWorld, kind: str, relation: str | None, year: int | None = None) -> Entity:
    """A new entity of ``kind``, with a new maker if ``relation`` leads to its maker."""
    maker = CREATOR_OF.get(kind)
    if maker is None or maker != relation:
        return world.make(kind, year=year)
    birth = None if year is None else year - world.dice.between(27, 55)
    return world.make(kind, year=year, creator=world.make("person", role=ROLES[maker], year=birth))


def _may_follow(relation: str, path: list[str]) -> bool:
    if relation in path or (relation in _FAMILY and any(r in _FAMILY for r in path)):
        return False
    # A capital lies in its region, so the chain would return to where it was.
    return not (relation == "located_in" and "capital" in path)
