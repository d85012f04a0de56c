"""The words of questions: each relation as a noun phrase, so that hops nest, and as a question about its object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.entities import Entity

OBJECT_KIND: Final[dict[str, str]] = {
    "directed_by": "person",
    "written_by": "person",
    "founded_by": "person",
    "designed_by": "person",
    "spouse": "person",
    "father": "person",
    "mother": "person",
    "born_in": "town",
    "studied_at": "institute",
    "located_in": "region",
    "on_river": "river",
    "rises_in": "region",
    "capital": "town",
    "head_office": "town",
    "seated_in": "town",
    "shot_in": "town",
    "set_in": "town",
    "formed_in": "town",
    "stands_in": "town",
    "based_on": "novel",
}
"""The kind of the object of each relation that a hop can follow; the other relations lead to a number."""

NOUN: Final[dict[str, tuple[str, ...]]] = {
    "directed_by": ("the director of {x}",),
    "written_by": ("the author of {x}",),
    "founded_by": ("the founder of {x}",),
    "designed_by": ("the architect of {x}",),
    "spouse": ("the spouse of {x}",),
    "father": ("the father of {x}",),
    "mother": ("the mother of {x}",),
    "born_in": ("the birthplace of {x}", "the native town of {x}"),
    "studied_at": ("the alma mater of {x}", "the school attended by {x}"),
    "located_in": ("the region that contains {x}", "the region that includes {x}"),
    "on_river": ("the river that flows through {x}", "the river that runs through {x}"),
    "rises_in": ("the region that contains the source of {x}",),
    "capital": ("the capital of {x}",),
    "head_office": ("the town where {x} has its head office", "the town where {x} is based"),
    "seated_in": ("the town that is home to {x}",),
    "shot_in": ("the town where {x} was shot",),
    "set_in": ("the town that is the setting of {x}",),
    "formed_in": ("the town where {x} was formed",),
    "stands_in": ("the town that is home to {x}", "the town where {x} stands"),
    "based_on": ("the novel on which {x} is based", "the novel adapted as {x}"),
}

ASK: Final[dict[str, tuple[str, ...]]] = {
    "directed_by": ("Who directed {x}?", "Who is the director of {x}?"),
    "written_by": ("Who wrote {x}?", "Who is the author of {x}?"),
    "founded_by": ("Who founded {x}?", "Who was the founder of {x}?"),
    "designed_by": ("Who designed {x}?", "Who was the architect of {x}?"),
    "spouse": ("Who is the spouse of {x}?", "Whom did {x} marry?"),
    "father": ("Who was the father of {x}?",),
    "mother": ("Who was the mother of {x}?",),
    "born_in": ("In which town was {x} born?", "What is the birthplace of {x}?"),
    "studied_at": ("Where did {x} study?", "At which institution was {x} a student?", "What is the alma mater of {x}?"),
    "located_in": ("In which region does {x} lie?", "Which region does {x} belong to?", "Which region contains {x}?"),
    "on_river": ("On which river does {x} stand?", "Which river flows through {x}?"),
    "rises_in": ("In which region does {x} rise?", "In which region is the source of {x}?"),
    "capital": ("What is the capital of {x}?", "Which town is the capital of {x}?"),
    "head_office": ("In which town does {x} have its head office?", "Where is {x} headquartered?"),
    "seated_in": ("In which town is {x} located?", "Which town is home to {x}?"),
    "shot_in": ("In which town was {x} shot?", "Which town was the location for {x}?"),
    "set_in": ("In which town is {x} set?", "Which town is the setting of {x}?"),
    "formed_in": ("In which town was {x} formed?",),
    "stands_in": ("In which town does {x} stand?",),
    "based_on": ("On which novel is {x} based?",),
    "born": ("In which year was {x} born?", "What is the year of birth of {x}?"),
    "chartered": (
        "In which year did {x} receive its town charter?",
        "When was {x} chartered?",
        "In which year was a town charter granted to {x}?",
    ),
    "population": ("How many inhabitants does {x} have?", "What is the population of {x}?"),
    "opened": ("In which year did {x} open?", "Which year saw the opening of {x}?"),
    "published": ("In which year was {x} published?", "What is the year of publication of {x}?"),
    "length": ("How many kilometres long is {x}?", "What is the length of {x} in kilometres?"),
}

_PREFIX: Final = {
    "film": ("the film ", ""),
    "novel": ("the novel ",),
    "company": ("the company ", ""),
    "band": ("the band ",),
}

_LONG: Final = 48
"""Characters of a description after which a question must end with it: a verb left for the end would come too late."""

COMPARE: Final[dict[str, tuple[str, tuple[str, ...], tuple[str, ...]]]] = {
    "person": (
        "born",
        ("Who was born earlier, {a} or {b}?", "Who is older, {a} or {b}?"),
        ("Who was born later, {a} or {b}?", "Who is younger, {a} or {b}?"),
    ),
    "film": (
        "released",
        ("Which film was released first, {a} or {b}?", "Which film is older, {a} or {b}?"),
        ("Which film was released later, {a} or {b}?", "Which film is more recent, {a} or {b}?"),
    ),
    "novel": (
        "published",
        ("Which novel was published first, {a} or {b}?",),
        ("Which novel was published later, {a} or {b}?",),
    ),
    "company": (
        "founded",
        ("Which company was founded earlier, {a} or {b}?", "Which company is older, {a} or {b}?"),
        ("Which company was founded later, {a} or {b}?",),
    ),
    "institute": (
        "opened",
        ("Which institution opened first, {a} or {b}?",),
        ("Which institution opened later, {a} or {b}?",),
    ),
    "band": (
        "formed",
        ("Which band was formed first, {a} or {b}?",),
        ("Which band was formed more recently, {a} or {b}?",),
    ),
    "town": (
        "population",
        ("Which town has fewer inhabitants, {a} or {b}?",),
        ("Which town has more inhabitants, {a} or {b}?", "Which town has the larger population, {a} or {b}?"),
    ),
    "river": ("length", ("Which river is shorter, {a} or {b}?",), ("Which river is longer, {a} or {b}?",)),
}
"""Kind to relation, questions for the smaller value, questions for the larger one."""

SAME: Final[tuple[tuple[str, str, str], ...]] = (
    ("person", "born_in", "Were {a} and {b} born in the same town?"),
    ("person", "studied_at", "Did {a} and {b} study at the same institution?"),
    ("film", "directed_by", "Were the films {a} and {b} directed by the same person?"),
    ("novel", "written_by", "Are the novels {a} and {b} by the same author?"),
    ("company", "head_office", "Do {a} and {b} have their head offices in the same town?"),
    ("town", "located_in", "Are {a} and {b} in the same region?"),
    ("town", "on_river", "Do {a} and {b} stand on the same river?"),
    ("institute", "seated_in", "Are {a} and {b} located in the same town?"),
    ("band", "formed_in", "Were the bands {a} and {b} formed in the same town?"),
    ("museum", "designed_by", "Are {a} and {b} the work of the same architect?"),
)

MAKER_COMPARE: Final[tuple[tuple[str, str, str, str], ...]] = (
    ("film", "directed_by", "Which film has the {w} director, {a} or {b}?", "the directors of {a} and {b}"),
    ("novel", "written_by", "Which novel has the {w} author, {a} or {b}?", "the authors of {a} and {b}"),
    ("company", "founded_by", "Which company has the {w} founder, {a} or {b}?", "the founders of {a} and {b}"),
    ("museum", "designed_by", "Which museum has the {w} architect, {a} or {b}?", "the architects of {a} and {b}"),
)

MAKER_SAME: Final[tuple[tuple[str, str], ...]] = (
    ("born_in", "Were {makers} born in the same town?"),
    ("studied_at", "Did {makers} study at the same institution?"),
)

INFERENCE: Final[tuple[tuple[str, str, str], ...]] = (
    ("father", "father", "Who is the paternal grandfather of {x}?"),
    ("father", "mother", "Who is the paternal grandmother of {x}?"),
    ("mother", "father", "Who is the maternal grandfather of {x}?"),
    ("mother", "mother", "Who is the maternal grandmother of {x}?"),
    ("spouse", "father", "Who is the father-in-law of {x}?"),
    ("spouse", "mother", "Who is the mother-in-law of {x}?"),
)


def anchor(entity: Entity, dice: Dice) -> str:
    """The words for the entity from which a question starts."""
    return dice.pick(_PREFIX[entity.kind]) + entity.title if entity.kind in _PREFIX else entity.ref


def noun_phrase(relation: str, x: str, dice: Dice) -> str:
    """A noun phrase for the object of ``relation`` of the entity that ``x`` describes."""
    return dice.pick(NOUN[relation]).format(x=x)


def ask(relation: str, x: str, dice: Dice) -> str:
    """A question about the object of ``relation`` of the entity that ``x`` describes."""
    options: Sequence[str] = ASK[relation]
    if len(x) > _LONG:
        options = [template for template in options if template.endswith("{x}?")] or options
    return dice.pick(options).format(x=x)
