"""The sentences and questions of the forget family."""

from __future__ import annotations

from datetime import date
from typing import Final

from atommem_gym.worlds.dice import Dice

RULES_TITLE: Final = "About these sessions"
LOCKS: Final = (
    *("gate code", "safe code", "alarm code", "archive code"),
    *("garage code", "locker code", "server code", "cellar code"),
)
LETTERS: Final = "BCDFGHJKLMNPQRSTVWXZ23456789"
"""Characters of codes: no vowels, so that no code is a word or an article; no digits that look like letters."""
_PAIRS: Final = tuple(a + b for a in LETTERS for b in LETTERS)
_TOLD: Final = (
    "The {fact} is {code}.",
    "{code} is the {fact}.",
    "Please note that the {fact} is {code}.",
    "They gave me the {fact}: it is {code}.",
)
_CHANGED: Final = (
    "The {fact} has changed: it is {code} now.",
    "From today on, the {fact} is {code}.",
    "There is a new one: the {fact} is {code} from now on.",
)
_ASKED: Final = (
    "Please erase the {fact} from your notes.",
    "Please forget the {fact}; keep nothing of it.",
    "I want you to delete the {fact}.",
    "Please remove the {fact}, also from older notes.",
)
_REPLIES: Final = ("Noted.", "Very well.", "I will see to it.", "Understood.", "Of course.")
_CHATTER: Final = (
    "The heating at {place} was out for {number} hours this morning.",
    "I waited {number} minutes for the bus to {place}.",
    "The porter of {place} has a new bicycle, his {ordinal} this year.",
    "There were {number} visitors at {place}, and all of them wanted tea.",
    "Somebody left {number} umbrellas in the hall of {place}.",
    "The roof of {place} leaks again; it cost {number} crowns last time.",
    "We counted {number} pigeons above the door of {place}.",
    "The lift of {place} stood still {number} times this week.",
)
_ORDINALS: Final = ("second", "third", "fourth", "fifth", "sixth", "seventh")

RULES: Final = (
    "These are sessions with an assistant, in the order of time. A code holds until another one takes its place. What "
    "somebody asks to be erased must not be kept any more, neither the latest code nor an earlier one: as long as a "
    "note keeps one, or ever held one and was only rewritten, no answer counts. Delete such notes. When an erased code "
    'is asked for, the answer is "unknown".'
)


def fact(lock: str, place: str) -> str:
    """The name of a code in every sentence and question.

    >>> fact("gate code", "Harrow Depot")
    'gate code of Harrow Depot'
    """
    return f"{lock} of {place}"


def code(dice: Dice) -> str:
    """A random code, for example ``7QK2-M4XP``."""
    a, b, c, d = (dice.pick(_PAIRS) for _ in range(4))
    return f"{a}{b}-{c}{d}"


def spellings(code: str) -> tuple[str, ...]:
    """Other accepted spellings of a code; exact match ignores case and punctuation by itself.

    >>> spellings("7QK2-M4XP")
    ('7QK2 M4XP',)
    """
    return (code.replace("-", " "),)


def told(dice: Dice, fact: str, code: str) -> str:
    """The sentence that tells a code for the first time."""
    return dice.pick(_TOLD).format(fact=fact, code=code)


def changed(dice: Dice, fact: str, code: str) -> str:
    """The sentence that replaces a code."""
    return dice.pick(_CHANGED).format(fact=fact, code=code)


def asked_to_erase(dice: Dice, fact: str) -> str:
    """A request to erase a code; it names the fact and never the value."""
    return dice.pick(_ASKED).format(fact=fact)


def reply(dice: Dice) -> str:
    """The assistant's reply to a code or a request."""
    return dice.pick(_REPLIES)


def chatter(dice: Dice, place: str) -> str:
    """A sentence about which nothing is asked."""
    return dice.pick(_CHATTER).format(place=place, number=dice.between(2, 60), ordinal=dice.pick(_ORDINALS))


def question(fact: str) -> str:
    """The question about a code; the same whether it was erased or not."""
    return f'What is the {fact} at present? If it must not be known any more, say "unknown".'


def moment(day: date, minutes: int) -> str:
    """A date and time of day in ISO 8601.

    >>> moment(date(2031, 5, 12), 9 * 60 + 5)
    '2031-05-12T09:05'
    """
    return f"{day}T{minutes // 60:02}:{minutes % 60:02}"
