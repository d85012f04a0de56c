"""The items of ``AtomMem-Forget-v0``."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Final

from atommem_gym.config import EnvConfig
from atommem_gym.records.layout import QuestionsPerEpisode
from atommem_gym.records.record import Document, Evidence, Record
from atommem_gym.worlds.checks import check_generated
from atommem_gym.worlds.contexts import Context, GeneratedContexts
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.forget import phrases
from atommem_gym.worlds.forget.options import ForgetOptions
from atommem_gym.worlds.synthetic.names import FEMALE, MALE, Names

ITEMS_VERSION: Final = 0
"""Part of every seed; raised, together with the environment's version, when the content of contexts changes."""
ASSISTANT: Final = "Assistant"
_KINDS: Final = ("museum", "institute", "company")


@dataclass(slots=True, eq=False)
class Code:
    """A code of a place, and whether it is changed or erased."""

    place: str
    """The name of the place."""
    fact: str
    """What the code is called in every sentence and question."""
    values: list[str]
    """The first value and, if it is changed, the second."""
    erased: bool
    """Whether a document asks to erase it."""
    lines: list[tuple[int, str]] = field(default_factory=list)
    """The session, from 0, and the line of each value, in the order of time."""


class ForgetItems(GeneratedContexts):
    """Items over sessions in which codes are told, changed and erased on request (SPEC D9, E14).

    >>> item = ForgetItems(split="test").item(0)
    >>> len(item.documents), item.documents[0].title, len(item.erased) >= 7
    (60, 'About these sessions', True)
    """

    def __init__(
        self,
        *,
        options: ForgetOptions | None = None,
        split: str = "train",
        questions_per_episode: QuestionsPerEpisode = 1,
    ) -> None:
        """Check the arguments; nothing is generated yet.

        Args:
            options: The options of the world; by default those of the environment.
            split: ``"train"``, ``"validation"`` or ``"test"``; no two share a name.
            questions_per_episode: A number, ``(least, most)``, or ``"released"``.

        Raises:
            ConfigError: the split is unknown, or a context has fewer questions than an item may need.
        """
        self.options = options or ForgetOptions()
        super().__init__("forget", split, questions=self.options.questions, questions_per_episode=questions_per_episode)

    def _make(self, number: int) -> Context:
        options = self.options
        dice = Dice("forget", ITEMS_VERSION, self.name, number)
        names = Names(dice, self.split)
        places = [names.title(dice.pick(_KINDS)) for _ in range(options.places)]
        codes = _codes(dice, places, options)
        said = _said(dice, codes, options)
        documents = _documents(dice, places, said, options)
        asked = [
            *[code for code in codes if code.erased][: options.abstentions],
            *[code for code in codes if not code.erased][: options.questions - options.abstentions],
        ]
        name = f"{self.name}-{number}"
        return Context(
            documents,
            tuple(_record(name, i, code, documents) for i, code in enumerate(dice.shuffled(asked))),
            tuple(value for code in codes if code.erased for value in code.values),
        )


def from_config(config: EnvConfig) -> ForgetItems:
    """The items of ``AtomMem-Forget-v0`` in a configuration.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    check_generated(config, "AtomMem-Forget-v0", "its sessions come in the order of time")
    assert isinstance(config.options, ForgetOptions)
    return ForgetItems(options=config.options, split=config.split, questions_per_episode=config.questions_per_episode)


def _codes(dice: Dice, places: list[str], options: ForgetOptions) -> list[Code]:
    """All codes in a random order; whether one is changed or erased does not depend on its place or name."""
    facts = [(lock, place) for place in places for lock in dice.shuffled(phrases.LOCKS)[: options.codes]]
    fates = range(len(facts))
    erased = set(dice.shuffled(fates)[: options.requests])
    changed = set(dice.shuffled(fates)[: options.changes])
    values: dict[str, None] = {}
    while len(values) < len(facts) + len(changed):
        values.setdefault(phrases.code(dice))
    drawn = iter(values)
    found = [
        Code(place, phrases.fact(lock, place), [next(drawn) for _ in range(1 + (i in changed))], i in erased)
        for i, (lock, place) in enumerate(facts)
    ]
    return dice.shuffled(found)


@dataclass(frozen=True, slots=True)
class _Said:
    """A line about a code, before it has a session."""

    code: Code
    value: str | None
    """The value; ``None`` for a request to erase."""
    sentence: str


def _said(dice: Dice, codes: list[Code], options: ForgetOptions) -> list[_Said | None]:
    """The line about a code in each session after the first, in the order of time; ``None`` if there is none."""
    room = options.sessions - 1
    # Each code is told as early as if it were changed and erased, so its time does not reveal whether it is.
    gap = options.distance / room
    timed: list[tuple[float, _Said | None]] = []
    for code in codes:
        moments = _moments(dice, gap)
        sentence = phrases.told(dice, code.fact, code.values[0])
        timed.append((moments[0], _Said(code, code.values[0], sentence)))
        if len(code.values) > 1:
            timed.append((moments[1], _Said(code, code.values[1], phrases.changed(dice, code.fact, code.values[1]))))
        if code.erased:
            timed.append((moments[2], _Said(code, None, phrases.asked_to_erase(dice, code.fact))))
    timed += [(dice.random(), None) for _ in range(room - len(timed))]
    timed.sort(key=lambda pair: pair[0])
    return [one for _, one in timed]


def _moments(dice: Dice, gap: float) -> tuple[float, float, float]:
    """The times in [0, 1) at which a code is told, changed and erased, at least ``gap`` apart."""
    first, second, third = sorted(dice.random() * (1 - 2 * gap) for _ in range(3))
    return first, second + gap, third + 2 * gap


def _documents(dice: Dice, places: list[str], said: list[_Said | None], options: ForgetOptions) -> tuple[Document, ...]:
    people = dice.shuffled((*FEMALE, *MALE))[:3]
    day = date(2021, 1, 1) + timedelta(dice.below(9000))
    documents = [Document(phrases.RULES_TITLE, phrases.RULES, phrases.moment(day, 8 * 60), (people[0], ASSISTANT))]
    for number, one in enumerate(said, 1):
        day += timedelta(dice.between(1, 4))
        speaker = dice.pick(people)
        place = dice.pick(places) if one is None else one.code.place
        lines = [f"{speaker}: {phrases.chatter(dice, place)}" for _ in range(dice.between(0, options.chatter))]
        if one is not None:
            line = f"{speaker}: {one.sentence}"
            if one.value is not None:
                one.code.lines.append((number, line))
            at = dice.between(0, len(lines))
            lines[at:at] = [line, f"{ASSISTANT}: {phrases.reply(dice)}"]
        elif not lines:
            lines = [f"{speaker}: {phrases.chatter(dice, place)}"]
        moment = phrases.moment(day, dice.between(8 * 60, 19 * 60))
        documents.append(Document(place, "\n".join(lines), moment, (speaker, ASSISTANT)))
    return tuple(documents)


def _record(name: str, number: int, code: Code, documents: tuple[Document, ...]) -> Record:
    session, line = code.lines[-1]
    latest = code.values[-1]
    return Record(
        id=f"{name}-{number}",
        question=phrases.question(code.fact),
        answer="" if code.erased else latest,
        documents=documents,
        gold=() if code.erased else (session,),
        evidence=() if code.erased else (Evidence(code.place, line, latest),),
        aliases=() if code.erased else phrases.spellings(latest),
        type="erased" if code.erased else "kept",
        answerable=not code.erased,
        trap=latest if code.erased else "",
        context=name,
    )
