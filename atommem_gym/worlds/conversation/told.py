"""The facts that two people tell each other in one conversation, and the questions about them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from atommem_gym.worlds.conversation import topics
from atommem_gym.worlds.conversation.options import (
    ONE,
    SEVERAL,
    SPARE_FRIENDS,
    TIME,
    UNANSWERABLE,
    UPDATE,
    ConversationOptions,
)
from atommem_gym.worlds.conversation.topics import EVENTS, FRIENDS, PLANS, Event, Plan
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.drift.phrases import day_text
from atommem_gym.worlds.synthetic.names import FEMALE, MALE, Names

_WEEKDAYS: Final = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_AGO: Final = ("This morning", "Yesterday", "Two days ago", "Three days ago")


@dataclass(slots=True, eq=False)
class Line:
    """A sentence that a person says in a session."""

    session: int
    """The session, from 0."""
    speaker: str
    """The name of the speaker."""
    sentence: str
    """The sentence."""

    @property
    def text(self) -> str:
        """The line in the document."""
        return f"{self.speaker}: {self.sentence}"


@dataclass(frozen=True, slots=True)
class Asked:
    """A question before it becomes a record."""

    kind: str
    """One of ``QUESTION_KINDS``."""
    question: str
    """The text of the question."""
    answers: tuple[str, ...]
    """The accepted answers; empty if there is no answer."""
    evidence: tuple[tuple[Line, str], ...]
    """The lines that decide the answer, and what each contributes to it."""
    trap: str = ""
    """The wrong answer that a question without an answer invites."""


class Told:
    """All lines with facts and all questions of one conversation; they depend only on the dice."""

    def __init__(self, dice: Dice, split: str, options: ConversationOptions) -> None:
        self._dice = dice
        self._options = options
        self._names = Names(dice, split)
        self.people: Final = tuple(dice.shuffled((*FEMALE, *MALE))[:2])
        self.days: Final = self._session_days()
        self.lines: list[Line] = []
        self.asked: list[Asked] = []
        self._pools: dict[tuple[str, ...], list[str]] = {}
        counts = options.kinds
        self._tell_events(counts)
        self._tell_plans(counts[UPDATE])
        self._tell_of_friends(counts[SEVERAL])

    def _session_days(self) -> list[date]:
        dice, days = self._dice, []
        day = date(2021, 1, 1) + timedelta(dice.below(9000))
        for _ in range(self._options.sessions):
            days.append(day)
            day += timedelta(dice.between(4, 16))
        return days

    def _tell_events(self, counts: dict[str, int]) -> None:
        dice = self._dice
        events = dice.shuffled(EVENTS)
        for event in events[: counts[UNANSWERABLE]]:
            teller, other = dice.shuffled(self.people)
            value, _ = self._event(event, teller)
            question = dice.pick((event.what, event.when)) if counts[TIME] else event.what
            trap = value if question is event.what else ""
            self.asked.append(Asked(UNANSWERABLE, question.format(name=other), (), (), trap))
        places = dice.shuffled((event, name) for event in events[counts[UNANSWERABLE] :] for name in self.people)
        kinds = [ONE] * counts[ONE] + [TIME] * counts[TIME]
        told = dict(zip(places, kinds, strict=False))
        for event, name in places:
            kind = told.get((event, name))
            other = self.people[self.people[0] == name]
            if kind is None and not ((event, other) in told and dice.chance(self._options.lookalikes)):
                continue
            value, day = self._event(event, name)
            line = self.lines[-1]
            if kind == ONE:
                self.asked.append(Asked(ONE, event.what.format(name=name), (value,), ((line, value),)))
            elif kind == TIME:
                answers = dates(day)
                self.asked.append(Asked(TIME, event.when.format(name=name), answers, ((line, answers[0]),)))

    def _event(self, event: Event, name: str) -> tuple[str, date]:
        """Let a person tell of an event; return its value and its day."""
        value, session = self._value(event.values), self._dice.below(len(self.days))
        when, day = self._when(self.days[session])
        self._say(session, name, event.said.format(when=when, a=with_article(value), value=value))
        return value, day

    def _when(self, today: date) -> tuple[str, date]:
        """A day of the last week as a speaker names it, and its date."""
        back = self._dice.below(7)
        day = today - timedelta(back)
        if back < len(_AGO) and (back < 2 or self._dice.chance(0.5)):
            return _AGO[back], day
        return f"On {_WEEKDAYS[day.weekday()]}", day

    def _tell_plans(self, count: int) -> None:
        dice = self._dice
        places = dice.shuffled((plan, name) for plan in PLANS for name in self.people)
        asked = set(places[:count])
        for plan, name in places:
            if (plan, name) in asked:
                self._plan(plan, name, dice.between(1, self._options.changes))
            elif (plan, self.people[self.people[0] == name]) in asked and dice.chance(self._options.lookalikes):
                self._plan(plan, name, 0)

    def _plan(self, plan: Plan, name: str, changes: int) -> None:
        """Let a person tell of a plan and its changes; if it changes, ask for its latest value."""
        dice = self._dice
        title = self._names.title(plan.about) if plan.about else ""
        sessions = sorted(dice.shuffled(range(len(self.days)))[: changes + 1])
        for number, session in enumerate(sessions):
            value = self._value(plan.values)
            said = dice.pick(plan.changed if number else plan.said)
            self._say(session, name, said.format(title=title, a=with_article(value), value=value))
        if changes:
            question = plan.asked.format(name=name, title=title)
            self.asked.append(Asked(UPDATE, question, (value,), ((self.lines[-1], value),)))

    def _tell_of_friends(self, count: int) -> None:
        dice = self._dice
        for number, place in enumerate(dice.shuffled(topics.PLACES)[: count + SPARE_FRIENDS]):
            name = dice.pick(self.people)
            friend = " ".join(self._names.person(dice.chance(0.5)))
            first, second, third = self._different_sessions()
            self._say(first, name, dice.pick(topics.MET).format(friend=friend, place=place))
            met = self.lines[-1]
            (said, question, values), more, _ = dice.shuffled(FRIENDS)
            value = self._value(values)
            self._say(second, name, said.format(friend=friend, a=with_article(value), value=value))
            if number < count:
                evidence = ((met, friend), (self.lines[-1], value))
                self.asked.append(Asked(SEVERAL, question.format(name=name, place=place), (value,), evidence))
            if dice.chance(self._options.lookalikes):
                value = self._value(more[2])
                self._say(third, name, more[0].format(friend=friend, a=with_article(value), value=value))

    def _different_sessions(self) -> tuple[int, int, int]:
        """Three random sessions; the first two differ."""
        number = len(self.days)
        first = self._dice.below(number)
        return first, (first + 1 + self._dice.below(number - 1)) % number, self._dice.below(number)

    def _say(self, session: int, speaker: str, sentence: str) -> None:
        self.lines.append(Line(session, speaker, sentence))

    def _value(self, values: tuple[str, ...] | str) -> str:
        """A value that is not used elsewhere in this conversation, as long as any is left."""
        if isinstance(values, str):
            return self._names.title(values)
        pool = self._pools.get(values)
        if not pool:
            pool = self._pools[values] = self._dice.shuffled(values)
        return pool.pop()


def dates(day: date) -> tuple[str, ...]:
    """The spellings of a date: the answer, then its aliases.

    >>> dates(date(2031, 5, 12))
    ('12 May 2031', 'May 12 2031', '2031-05-12', '12 May', 'May 12')
    """
    number, month, year = day_text(day).split()
    return (f"{number} {month} {year}", f"{month} {number} {year}", str(day), f"{number} {month}", f"{month} {number}")


def with_article(value: str) -> str:
    """A value with its indefinite article.

    >>> with_article("oboe"), with_article("cello")
    ('an oboe', 'a cello')
    """
    return f"{'an' if value[0] in 'aeiou' else 'a'} {value}"
