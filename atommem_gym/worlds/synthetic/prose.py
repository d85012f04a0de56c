"""Writes an entity's encyclopaedia entry: a lead sentence, a sentence for every other fact, and some details.

Every draw of an item depends on those before it, so no page can be left out or written later: this is the inmost loop
of a generated item. What is the same for all pages is done once, when this module is imported: templates are parsed
and the words for a gender filled in (``format_map`` takes most of its time to parse).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import floor
from operator import itemgetter
from string import Formatter
from typing import Any, Final, NamedTuple

from msgspec import Struct

from atommem_gym.records.record import Document
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.entities import OTHER_ROLES, ROLES, Entity, Value, shown
from atommem_gym.worlds.synthetic.templates import COMMON_NOUN, DETAILS, FACTS, FLAVOURS, LEADS, PRODUCTS

_HISTORY = 1935
"""People born before this year are written about in the past tense."""
_NUMBERS = ("three", "four", "five", "six", "seven", "eight", "nine", "eleven")


class Page(Struct):
    """A document together with the sentence that states each fact."""

    document: Document
    sentence_of: dict[str, str]


def write(entity: Entity, dice: Dice, taken: Mapping[str, Mapping[Value, Entity | None]]) -> Page:
    """The page of ``entity``, whose facts are complete.

    ``taken`` maps the relations and values of gold facts to their only subject, or to ``None`` if there are
    several. A page that states such a pair of another subject names its own in full, so that no sentence of it can
    contain the gold evidence ("She was born in Karsholm.").
    """
    kind, facts, random = entity.kind, entity.facts, dice.random
    name = entity.ref if entity.ref is entity.title else f"The {entity.title}"
    covered, lead = _lead(entity, name, random)
    sentence_of = dict.fromkeys(covered, lead)
    body: list[str] = []
    voice, noun, short_name = _voice(entity, name)
    pronoun = voice.pronoun
    last = ""
    for relation in dice.shuffled([relation for relation in facts if relation not in covered]):
        value = facts[relation]
        gold = taken[relation].get(value, entity) if relation in taken else entity
        if gold is not entity:
            subject = _distinct_subject(entity, gold, name)
        elif last != pronoun and random() < _PRONOUNS:
            subject = last = pronoun
        else:
            subject = last = _other_subject((short_name, noun, pronoun), last, random)
        patterns = voice.facts[relation]
        pattern = patterns[floor(random() * len(patterns))]
        sentence = pattern % (subject, value.ref if isinstance(value, Entity) else _number_or_names(relation, value))
        sentence_of[relation] = sentence
        body.append(sentence)
    stated = len(body)
    details = dice.between(max(1, 2 - stated), 2) if stated < 3 else dice.below(3) if stated < 5 else 0
    patterns = voice.details[kind]
    first = floor(random() * len(patterns))
    for i in range(first, first + details):
        if last != pronoun and random() < _PRONOUNS:
            last = pronoun
        else:
            last = _other_subject((short_name, noun, pronoun), last, random)
        number = _NUMBERS[floor(random() * len(_NUMBERS))]
        body.insert(floor(random() * (len(body) + 1)), patterns[i % len(patterns)] % (last, number))
    return Page(Document(entity.title, " ".join([lead, *body])), sentence_of)


_PRONOUNS: Final = 0.75
"""Share of sentences after one without a pronoun that begin with one: every second sentence or so does."""


def _other_subject(names: tuple[str, str, str], last: str, random: Callable[[], float]) -> str:
    """How a sentence begins, rarely with the name twice in a row."""
    number = floor(random() * 3)
    return names[number] if names[number] != last else names[number - 1]


def _distinct_subject(entity: Entity, gold: Entity | None, name: str) -> str:
    """A subject whose sentence does not even contain the one about ``gold``, which may begin with a surname."""
    return entity.given if gold is not None and gold.surname and gold.surname == entity.surname else name


def _lead(entity: Entity, name: str, random: Callable[[], float]) -> tuple[tuple[str, ...], str]:
    """Which facts the first sentence states, and the sentence."""
    kind = entity.kind
    if kind == "company":
        flavour = PRODUCTS[entity.title.rsplit(" ", 1)[1]]
    else:
        flavours = FLAVOURS[kind]
        flavour = flavours[floor(random() * len(flavours))]
    leads = _LEADS[kind]
    covered, pattern, values = leads[floor(random() * len(leads))]
    fields: dict[str, object] = {"name": entity.ref, "Name": name, "flavour": flavour}
    if kind == "person":
        fields["was"] = "was" if entity.year < _HISTORY else "is"
        fields["a_role"] = _WITH_ARTICLE[entity.role]
    else:
        fields["a_flavour"] = _WITH_ARTICLE[flavour]
    for relation in covered:
        value = entity.facts[relation]
        fields[relation] = value.ref if isinstance(value, Entity) else _number_or_names(relation, value)
    return covered, pattern % values(fields)


def _number_or_names(relation: str, value: int | tuple[Entity, ...]) -> str:
    if isinstance(value, tuple):
        *others, last = (member.ref for member in value)
        return f"{', '.join(others)} and {last}"
    return shown(value, relation)


class _Voice(NamedTuple):
    """The sentences about things of one gender."""

    pronoun: str
    facts: dict[str, tuple[str, ...]]
    """Relation -> patterns with places for the subject and for what is stated."""
    details: dict[str, tuple[str, ...]]
    """Kind -> patterns with places for the subject and for a number."""


def _voice(entity: Entity, name: str) -> tuple[_Voice, str, str]:
    """How sentences about ``entity`` speak, and what they may begin with besides the pronoun."""
    if entity.kind == "person":
        return _SHE if entity.female else _HE, entity.given, entity.surname
    return _IT, COMMON_NOUN[entity.kind], name


def _speaking(pronoun: str, possessive: str, child: str) -> _Voice:
    words = {"p": possessive, "child": child}
    return _Voice(
        pronoun,
        {relation: tuple(_pattern(one, ("s", relation), words) for one in found) for relation, found in FACTS.items()},
        {kind: tuple(_pattern(one, ("s", "n"), words) for one in found) for kind, found in DETAILS.items()},
    )


def _pattern(template: str, places: tuple[str, str], words: Mapping[str, str]) -> str:
    """``template`` as a pattern to be filled in by ``pattern % (first, second)``; ``words`` are filled in at once.

    A place that the template does not mention takes its text and shows nothing of it.

    >>> _pattern("{s} took after {p} father, {father}.", ("s", "father"), {"p": "her"})
    '%s took after her father, %s.'
    >>> _pattern("Only {n} prints are known to survive.", ("s", "n"), {})
    'Only %.0s%s prints are known to survive.'
    """
    pattern, left = "", list(places)
    for literal, name, _, _ in Formatter().parse(template):
        pattern += literal.replace("%", "%%")
        if name is None:
            continue
        if name in words:
            pattern += words[name]
        else:
            skipped = left.index(name)
            pattern += "%.0s" * skipped + "%s"
            del left[: skipped + 1]
    return pattern + "%.0s" * len(left)


def _lead_pattern(template: str) -> tuple[str, Callable[[Mapping[str, object]], Any]]:
    """``pattern, values`` such that ``pattern % values(fields)`` is ``template.format_map(fields)``."""
    parts = [(literal.replace("%", "%%"), name) for literal, name, _, _ in Formatter().parse(template)]
    names = [name for _, name in parts if name is not None]
    return "".join(literal if name is None else f"{literal}%s" for literal, name in parts), itemgetter(*names)


def _with_article(noun: str) -> str:
    return ("an " if noun[0] in "aeiou" else "a ") + noun


_SHE: Final = _speaking("She", "her", "daughter")
_HE: Final = _speaking("He", "his", "son")
_IT: Final = _speaking("It", "its", "")
_LEADS: Final = {
    kind: tuple((covered, *_lead_pattern(template)) for covered, template in leads) for kind, leads in LEADS.items()
}
_WITH_ARTICLE: Final = {
    noun: _with_article(noun)
    for nouns in (ROLES.values(), OTHER_ROLES, PRODUCTS.values(), *FLAVOURS.values())
    for noun in nouns
}
