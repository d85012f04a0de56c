"""The sentences of notices and the questions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Final

from atommem_gym.worlds.drift.attributes import Attribute

PAPERS: Final = ("The Civic Gazette", "The Harbour Courier", "The Lantern", "The Market Tattler", "The Weekly Parrot")
RULES_TITLE: Final = "About these notices"
UNKNOWN: Final = "unknown"
UNKNOWN_ALIASES: Final = ("not known", "no longer known", "it is not known", "it is no longer known", "withdrawn")
_MONTHS: Final = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_STATED: Final = ("The {fact} is {value}.", "{value} is the {fact}.", "It is made known that the {fact} is {value}.")
_CHANGED: Final = (
    "As of {day}, the {fact} is {value}.",
    "From {day} on, the {fact} is {value}.",
    "The {fact} has changed: as of {day} it is {value}.",
)
_SMALL_TALK: Final = (
    "{name} held its open day, and the weather was fair.",
    "A school class of {number} children visited {name}.",
    "The windows of {name} were cleaned by a crew of {number}.",
    "A choir of {number} voices sang in the yard of {name}.",
    "{name} has lent {number} chairs to its neighbours.",
    "{number} visitors signed the guest book of {name}.",
    "A lost umbrella was found at {name}; it is kept for {number} days.",
    "The cat of {name} is well again after {number} days.",
)
_COUNTS: Final = (
    ("zero", "never", "none"),
    ("one", "once"),
    ("two", "twice"),
    ("three",),
    ("four",),
    ("five",),
    ("six",),
    ("seven",),
    ("eight",),
    ("nine",),
    ("ten",),
    ("eleven",),
    ("twelve",),
)


def day_text(day: date) -> str:
    """A date in words, the same in every locale.

    >>> day_text(date(2031, 5, 12))
    '12 May 2031'
    """
    return f"{day.day} {_MONTHS[day.month - 1]} {day.year}"


def stated(attribute: Attribute, name: str, value: str, variant: int) -> str:
    """The sentence that states a fact for the first time."""
    return _STATED[variant % len(_STATED)].format(fact=f"{attribute.name} of {name}", value=value)


def changed(attribute: Attribute, name: str, value: str, day: date, variant: int) -> str:
    """The sentence that supersedes a fact; hearsay uses the same words."""
    fact = f"{attribute.name} of {name}"
    return _CHANGED[variant % len(_CHANGED)].format(fact=fact, value=value, day=day_text(day))


def corrected(attribute: Attribute, name: str, value: str, wrong: date) -> str:
    """The sentence that corrects the notice of the day ``wrong``, from that day on."""
    return (
        f"Correction to our notice of {day_text(wrong)}: the {attribute.name} of {name} was given wrongly; "
        f"from that day on it was {value}."
    )


def withdrawn(attribute: Attribute, name: str, day: date) -> str:
    """The sentence that withdraws a value."""
    return f"As of {day_text(day)}, the {attribute.name} of {name} is no longer known: what we said of it is withdrawn."


def closed(name: str) -> str:
    """The sentence that closes an entity."""
    return f"{name} has closed for good."


def small_talk(name: str, variant: int, number: int) -> str:
    """A sentence about which nothing is asked."""
    return _SMALL_TALK[variant % len(_SMALL_TALK)].format(name=name, number=number)


def notice(paper: str, day: date, sentence: str) -> str:
    """The text of a notice.

    >>> notice("The Lantern", date(2031, 5, 12), "Rain fell.")
    'The Lantern, 12 May 2031: Rain fell.'
    """
    return f"{paper}, {day_text(day)}: {sentence}"


def rules(trusted: str, others: Sequence[str]) -> str:
    """The text of the first document: which paper is trusted, and how to read the notices."""
    text = (
        f"Notices are dated and come in the order of time. {trusted} can be trusted: what it says holds until it says "
        "otherwise. A correction holds from the date of the notice that it corrects. What is withdrawn is not known "
        "any more. Nothing is asked about a house that has closed."
    )
    if others:
        text += f" What is written in {' or '.join(others)} is gossip and counts for nothing."
    return text


def ask_latest(attribute: Attribute, name: str) -> str:
    """The question about the latest value, which may be unknown."""
    return f'{attribute.who} is the {attribute.name} of {name} at present? If that is no longer known, say "{UNKNOWN}".'


def ask_as_of(attribute: Attribute, name: str, day: date) -> str:
    """The question about the value on a day, with all corrections."""
    return f"{attribute.who} was the {attribute.name} of {name} on {day_text(day)}, by all that is known today?"


def ask_count(attribute: Attribute, name: str) -> str:
    """The question about the number of changes."""
    return (
        f"How many times did the {attribute.name} of {name} change? "
        "Neither its first announcement nor a correction is a change."
    )


def count_answers(count: int) -> tuple[str, ...]:
    """The accepted spellings of a number of changes: digits first, then words.

    >>> count_answers(2)
    ('2', 'two', 'twice', '2 times', 'two times')
    """
    words = _COUNTS[count]
    return (str(count), *words, f"{count} times", f"{words[0]} times")
