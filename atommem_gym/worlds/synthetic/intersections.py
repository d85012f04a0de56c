"""Questions about the only entity that satisfies two conditions, each of which others satisfy alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from atommem_gym.worlds.synthetic.chains import step
from atommem_gym.worlds.synthetic.entities import CREATOR_OF, ROLES, Entity, shown
from atommem_gym.worlds.synthetic.phrases import OBJECT_KIND, anchor, ask, noun_phrase
from atommem_gym.worlds.synthetic.plans import Follow, Named, Query, QuestionPlan, Where
from atommem_gym.worlds.synthetic.world import SyntheticWorld


@dataclass(frozen=True, slots=True)
class Form:
    """A question about an entity with ``place`` = a whose maker has ``trait`` = b."""

    kind: str
    """The kind of the entity."""
    place: str
    """The relation from the entity to a."""
    trait: str
    """The relation from its maker to b."""
    question: str
    """The text, with ``{a}`` and ``{b}``."""


FORMS: Final = (
    Form("museum", "stands_in", "born_in", "Which museum in {a} was designed by an architect born in {b}?"),
    Form("novel", "set_in", "studied_at", "Which novel set in {a} was written by a former student of {b}?"),
    Form("novel", "set_in", "born_in", "Which novel set in {a} was written by an author born in {b}?"),
    Form("company", "head_office", "studied_at", "Which company based in {a} was founded by a former student of {b}?"),
    Form("company", "head_office", "born_in", "Which company based in {a} was founded by somebody born in {b}?"),
    Form("film", "shot_in", "born_in", "Which film shot in {a} was directed by somebody born in {b}?"),
    Form("film", "shot_in", "studied_at", "Which film shot in {a} was directed by a former student of {b}?"),
)
_HELPERS: Final = {
    "town": (
        ("band", "formed_in"),
        ("company", "head_office"),
        ("museum", "stands_in"),
        ("person", "born_in"),
        ("institute", "seated_in"),
    ),
    "institute": (("person", "studied_at"),),
}
_MEMBER: Final = {
    "born_in": "Which member of {band} was born in {b}?",
    "studied_at": "Which member of {band} studied at {b}?",
}
_WHO: Final = {
    "born_in": "member of {band} who was born in {b}",
    "studied_at": "member of {band} who studied at {b}",
}
_ONWARDS: Final = (
    ("studied_at", "seated_in"),
    ("studied_at", "opened"),
    ("born_in", "located_in"),
    ("born_in", "on_river"),
    ("spouse", "born_in"),
    ("spouse", "studied_at"),
)


_MAKERS: Final = tuple((kind, relation) for kind, relation in CREATOR_OF.items())


class Thing:
    """The object of a condition: named directly, or described by one or two hops, each stated by its own document."""

    def __init__(self, world: SyntheticWorld, kind: str, hops: int, avoid: str) -> None:
        """Make the object and its helpers.

        Args:
            world: The world that they become part of.
            kind: The kind of the object.
            hops: 0, 1 or 2.
            avoid: The kind that the question asks for; a helper of that kind could itself be an answer.
        """
        dice = world.dice
        self.entity = world.make(kind)
        self.hops: list[tuple[Entity, str]] = []
        self.text = self.entity.ref
        self.query: Query = Named(self.entity.title)
        if hops == 1:
            helper_kind, relation = dice.pick([pair for pair in _HELPERS[kind] if pair[0] != avoid])
            helper = world.make(helper_kind)
            self.hops = [(helper, relation)]
            self.text = noun_phrase(relation, anchor(helper, dice), dice)
            self.query = Follow(Named(helper.title), (relation,))
        elif hops == 2:
            relation = "born_in" if kind == "town" else "studied_at"
            work_kind, made_by = dice.pick([pair for pair in _MAKERS if pair[0] != avoid])
            helper = world.make("person", role=ROLES[made_by])
            work = world.make(work_kind, creator=helper)
            self.hops = [(work, made_by), (helper, relation)]
            self.text = noun_phrase(relation, noun_phrase(made_by, anchor(work, dice), dice), dice)
            self.query = Follow(Named(work.title), (made_by, relation))
        if self.hops:
            helper.facts[relation] = self.entity


def selection(world: SyntheticWorld, hops: tuple[int, int], label: str) -> QuestionPlan:
    """Plan a question about a thing in a certain place whose maker has a certain trait.

    Gold are the thing, its maker and one document per hop of the descriptions.

    Args:
        world: The world that the entities become part of.
        hops: Hops that describe the place and the trait, 0 to 2 each.
        label: The question type.
    """
    dice = world.dice
    form = dice.pick(FORMS)
    made_by = CREATOR_OF[form.kind]
    role = ROLES[made_by]
    place = Thing(world, "town", hops[0], form.kind)
    trait = Thing(world, OBJECT_KIND[form.trait], hops[1], form.kind)
    world.closed.add((form.place, place.entity))

    def candidate(where: Entity | None, whose: Entity | None) -> tuple[Entity, Entity]:
        maker = world.make("person", role=role)
        maker.facts[form.trait] = whose or world.mention(form.trait, trait.entity.kind, trait.entity)
        thing = world.make(form.kind, creator=maker)
        thing.facts[form.place] = where or world.mention(form.place, "town", place.entity)
        return thing, maker

    thing, maker = candidate(place.entity, trait.entity)
    near = [candidate(*half) for half in ((place.entity, None), (None, trait.entity)) for _ in range(2)]
    own = [(thing, form.place), (thing, made_by), (maker, form.trait)]
    plan = QuestionPlan(
        label,
        form.question.format(a=place.text, b=trait.text),
        thing.title,
        Where((((form.place,), place.query), ((made_by, form.trait), trait.query))),
        place.hops + trait.hops + own,
        near=[entity for pair in near for entity in pair],
        goal=thing,
    )
    _publish(world, plan, place.entity, trait.entity)
    return plan


def membership(world: SyntheticWorld, hops: int, label: str, *, onwards: bool = False) -> QuestionPlan:
    """Plan a question about the only member of a band with a certain trait.

    Gold are the band, the member, one document per hop of the description and, with ``onwards``, one more.

    Args:
        world: The world that the entities become part of.
        hops: Hops that describe the trait, 0 to 2.
        label: The question type.
        onwards: Whether to ask about something that the member leads to.
    """
    dice = world.dice
    band = world.make("band")
    relation = dice.pick(tuple(_MEMBER))
    trait = Thing(world, OBJECT_KIND[relation], hops, "band")
    members = [world.member(band) for _ in range(dice.between(3, 4))]
    chosen, *others = members
    chosen.facts[relation] = trait.entity
    outsiders = [world.make("person", role="musician", year=band.year - dice.between(18, 33)) for _ in range(2)]
    for other in others:
        other.facts[relation] = world.mention(relation, trait.entity.kind, trait.entity)
    for outsider in outsiders:
        outsider.facts[relation] = trait.entity
    band.facts["members"] = tuple(dice.shuffled(members))
    query: Query = Where(((("~members",), Named(band.title)), ((relation,), trait.query)))
    facts = [(band, "members"), *trait.hops, (chosen, relation)]
    text = _MEMBER[relation].format(band=anchor(band, dice), b=trait.text)
    plan = QuestionPlan(label, text, chosen.title, query, facts, near=others + outsiders, goal=chosen)
    if onwards:
        _go_on(world, plan, chosen, relation, f"the {_WHO[relation].format(band=anchor(band, dice), b=trait.text)}")
    _publish(world, plan, trait.entity)
    return plan


def _go_on(world: SyntheticWorld, plan: QuestionPlan, chosen: Entity, used: str, described: str) -> None:
    """Change the question: follow two more relations from the chosen member."""
    first, last = world.dice.pick([pair for pair in _ONWARDS if pair[0] != used])
    following = step(world, chosen, first, last)
    assert isinstance(following, Entity)
    value = step(world, following, last, None)
    plan.hops += [(chosen, first), (following, last)]
    plan.question = ask(last, noun_phrase(first, described, world.dice), world.dice)
    plan.query = Follow(plan.query, (first, last))
    plan.answer, plan.goal = shown(value, last), value if isinstance(value, Entity) else None


def _publish(world: SyntheticWorld, plan: QuestionPlan, *others: Entity) -> None:
    for entity in (*plan.gold, *others):
        world.add(entity)
    world.waiting.extend(others)
