"""Writes an entity's encyclopaedia entry: a lead sentence, a sentence for every other fact, and some details."""

from __future__ import annotations

from atommem_gym.records.record import Document
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.entities import Entity, Value, shown
from atommem_gym.worlds.synthetic.templates import COMMON_NOUN, DETAILS, FACTS, FLAVOURS, LEADS, PRODUCTS

_HISTORY = 1935
"""People born before this year are written about in the past tense."""


class Page:
    """A document together with the sentence that states each fact."""

    __slots__ = ("document", "sentence_of")

    def __init__(self, document: Document, sentence_of: dict[str, str]) -> None:
        self.document = document
        self.sentence_of = sentence_of


def write(entity: Entity, dice: Dice, taken: dict[tuple[str, object], Entity | None]) -> Page:
    """The page of ``entity``, whose facts are complete.

    ``taken`` maps the ``(relation, value)`` pairs of gold facts to their only subject, or to ``None`` if there are
    several. A page that states such a pair of another subject names its own in full, so that no sentence of it can
    contain the gold evidence ("She was born in Karsholm.").
    """
    fields = _fields(entity, dice)
    facts = entity.facts
    covered, template = dice.pick(LEADS[entity.kind])
    lead = template.format_map(fields)
    sentence_of = dict.fromkeys(covered, lead)
    rest = [relation for relation in facts if relation not in covered]
    body: list[str] = []
    names = _subjects(entity, fields["Name"])
    last = ""
    for relation in dice.shuffled(rest):
        gold = taken.get((relation, facts[relation]), entity)
        if gold is not entity:
            fields["s"] = _distinct_subject(entity, gold, fields["Name"])
        else:
            last = fields["s"] = _next_subject(names, last, dice)
        sentence_of[relation] = sentence = dice.pick(FACTS[relation]).format_map(fields)
        body.append(sentence)
    details = dice.between(max(1, 2 - len(body)), 2) if len(body) < 3 else dice.below(3) if len(body) < 5 else 0
    options = DETAILS[entity.kind]
    first = dice.below(len(options))
    for i in range(details):
        last = fields["s"] = _next_subject(names, last, dice)
        fields["n"] = _NUMBERS[dice.below(len(_NUMBERS))]
        body.insert(dice.below(len(body) + 1), options[(first + i) % len(options)].format_map(fields))
    return Page(Document(entity.title, " ".join((lead, *body))), sentence_of)


_NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "eleven")


def _distinct_subject(entity: Entity, gold: Entity | None, name: str) -> str:
    """A subject whose sentence does not even contain the one about ``gold``, which may begin with a surname."""
    return entity.given if gold is not None and gold.surname and gold.surname == entity.surname else name


def _next_subject(names: tuple[str, ...], last: str, dice: Dice) -> str:
    """How the next sentence begins: a pronoun in every second sentence or so, rarely the name twice in a row."""
    if last != names[-1] and dice.random() < 0.75:
        return names[-1]
    number = dice.below(len(names))
    return names[number] if names[number] != last else names[number - 1]


def _subjects(entity: Entity, name: str) -> tuple[str, ...]:
    """How a sentence may begin; the pronoun stands last."""
    if entity.kind == "person":
        return entity.surname, entity.given, "She" if entity.female else "He"
    return name, COMMON_NOUN[entity.kind], "It"


def _fields(entity: Entity, dice: Dice) -> dict[str, str]:
    """What the templates may mention of ``entity``."""
    kind = entity.kind
    ref = entity.ref
    fields = {
        relation: value.ref if isinstance(value, Entity) else _number_or_names(relation, value)
        for relation, value in entity.facts.items()
    }
    fields["name"] = ref
    fields["Name"] = ref[0].upper() + ref[1:]
    flavour = PRODUCTS[entity.title.rsplit(" ", 1)[1]] if kind == "company" else dice.pick(FLAVOURS[kind])
    fields["flavour"] = flavour
    if kind == "person":
        fields["p"], fields["child"] = ("her", "daughter") if entity.female else ("his", "son")
        fields["was"] = "was" if entity.year < _HISTORY else "is"
        fields["a_role"] = _with_article(entity.role)
    else:
        fields["p"] = "its"
        fields["a_flavour"] = _with_article(flavour)
    return fields


def _number_or_names(relation: str, value: Value) -> str:
    if isinstance(value, tuple):
        *others, last = (member.ref for member in value)
        return f"{', '.join(others)} and {last}"
    return shown(value, relation)


def _with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun
