"""The items of ``AtomMem-Drift-v0``."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import Final

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, check_choice
from atommem_gym.records.layout import GeneratorDraws, QuestionsPerEpisode, check_questions, draw_questions, stable_rng
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.worlds.checks import check_generated
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.drift import phrases
from atommem_gym.worlds.drift.history import CHANGED, Fact, Period
from atommem_gym.worlds.drift.options import DriftOptions
from atommem_gym.worlds.drift.world import DriftPlan, DriftWorld, Notice, largest_plan, plan
from atommem_gym.worlds.synthetic.names import SPLITS

ITEMS_VERSION: Final = 0
"""Part of every seed; raised, together with the environment's version, when the content of items changes."""


@dataclass(frozen=True, slots=True)
class _Content:
    """An item before its small talk and the order of notices of one day are decided."""

    index: int
    world: DriftWorld
    records: tuple[Record, ...]


class DriftItems:
    """Items over dated notices whose facts change (SPEC D5).

    Facts, dates and questions depend only on the split, the index, the options and ``num_docs``. Small talk, the order
    of notices of one day and the order of the questions also depend on ``shuffle_seed``.

    >>> item = DriftItems(num_docs=60).item(0)
    >>> len(item.documents), item.documents[0].title
    (60, 'About these notices')
    """

    def __init__(
        self,
        *,
        options: DriftOptions | None = None,
        split: str = "train",
        num_docs: int = 200,
        questions_per_episode: QuestionsPerEpisode = 1,
        num_items: int = 10_000,
    ) -> None:
        """Check the arguments; nothing is generated yet.

        Args:
            options: The options of the world; by default those of the environment.
            split: ``"train"``, ``"validation"`` or ``"test"``; no two share a name.
            num_docs: Documents of an item.
            questions_per_episode: A number, ``(least, most)``, or ``"released"``.
            num_items: Items of the split.

        Raises:
            ConfigError: an argument is out of range, or ``num_docs`` notices are too few.
        """
        check_choice("split", split, SPLITS)
        if num_items < 1:
            raise ConfigError(f"num_items={num_items} is invalid: it must be at least 1")
        self.options = options or DriftOptions()
        self.split = split
        self.num_docs = num_docs
        self.num_items = num_items
        self.name = f"drift-{split}"
        self._questions_per_episode = questions_per_episode
        self._questions = check_questions(questions_per_episode)
        self.plan: Final = self._check_fits()
        self._latest: _Content | None = None

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout of ``shuffle_seed`` (SPEC E8).

        Raises:
            IndexError: ``index`` is outside ``[0, num_items)``.
        """
        content = self._content(operator.index(index))
        dice = Dice("drift layout", ITEMS_VERSION, self.name, index, operator.index(shuffle_seed))
        world = content.world
        room = self.num_docs - 1 - len(world.notices)
        notices = dice.shuffled([*world.notices, *(world.small_talk(dice) for _ in range(room))])
        notices.sort(key=lambda notice: notice.day)
        return Item(
            id=f"{self.name}/{index}",
            index=index,
            shuffle_seed=shuffle_seed,
            questions=tuple(dice.shuffled(content.records)),
            documents=(world.rules, *(notice.document for notice in notices)),
        )

    def world(self, index: int) -> DriftWorld:
        """Everything that happens in an item; for audits, never for a policy.

        Raises:
            IndexError: ``index`` is outside ``[0, num_items)``.
        """
        return self._content(index).world

    def _check_fits(self) -> DriftPlan:
        options, num_docs = self.options, self.num_docs
        found = largest_plan(options, num_docs) if options.entities is None else plan(options, options.entities)
        if found is None or found.most_notices > num_docs:
            needed = (found or plan(options, 1)).most_notices
            raise ConfigError(
                f"num_docs={num_docs} is too small: {found.entities if found else 1} entities at a time can need "
                f"{needed} notices; raise num_docs, or lower entities, attributes, changes_per_fact or distractors"
            )
        if len(_WAYS) * found.entities * options.attributes < self._questions[1]:
            raise ConfigError(
                f"questions_per_episode={self._questions_per_episode!r} is too much for {found.entities} entities with "
                f"{options.attributes} facts each, as a fact is asked for in {len(_WAYS)} ways; raise num_docs, "
                "entities or attributes, or ask less"
            )
        if options.distance is not None and options.distance * options.changes_per_fact > num_docs:
            raise ConfigError(
                f"distance={options.distance} contradicts num_docs={num_docs}: {options.changes_per_fact} changes so "
                "far apart do not fit; lower distance or changes_per_fact, or raise num_docs"
            )
        return found

    def _content(self, index: int) -> _Content:
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} does not exist: valid are 0 to {self.num_items - 1}")
        latest = self._latest
        # A group of rollouts asks for the same item repeatedly, under one shuffle seed or several.
        if latest is None or latest.index != index:
            latest = self._latest = self._generate(index)
        return latest

    def _generate(self, index: int) -> _Content:
        dice = Dice("drift", ITEMS_VERSION, self.name, index)
        world = DriftWorld(dice, self.split, self.options, self.plan, self.num_docs)
        facts = dice.shuffled(fact for entity in world.alive() for fact in entity.facts)
        # A fact gets a second kind of question only if there are more questions than facts.
        ways = zip(*(_ways(fact, dice) for fact in facts), strict=True)
        asked = [pair for of_all in ways for pair in zip(facts, of_all, strict=True)]
        rng = stable_rng("drift questions", ITEMS_VERSION, self.name, index)
        number = draw_questions(self._questions_per_episode, GeneratorDraws(rng))
        records = (_record(world, *one, dice, f"{self.name}-{index}-{i}") for i, one in enumerate(asked[:number]))
        return _Content(index, world, tuple(records))


def from_config(config: EnvConfig) -> DriftItems:
    """The items of ``AtomMem-Drift-v0`` in a configuration.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    check_generated(config, "AtomMem-Drift-v0", "its notices come in the order of time")
    assert isinstance(config.options, DriftOptions)
    return DriftItems(
        options=config.options,
        split=config.split,
        num_docs=config.num_docs,
        questions_per_episode=config.questions_per_episode,
    )


_WAYS: Final = ("latest", "as_of", "count")


def _ways(fact: Fact, dice: Dice) -> tuple[str, ...]:
    """The kinds of questions about a fact, its own first; ``known`` asks for the latest value of a withdrawn one."""
    own = "latest" if fact.asked == "known" else fact.asked
    others = dice.shuffled(way for way in _WAYS if way != own)
    return (fact.asked, *("known" if way == "latest" and fact.periods[-1].value is None else way for way in others))


def _record(world: DriftWorld, fact: Fact, way: str, dice: Dice, identity: str) -> Record:
    """The question about a fact, with all notices about its entity."""
    attribute, name, periods = fact.attribute, fact.entity, fact.periods
    answers: tuple[str, ...]
    if way == "count":
        question, answers = phrases.ask_count(attribute, name), phrases.count_answers(fact.changes)
        deciding = [one for one in fact.said if one.kind == CHANGED] or fact.said[:1]
    elif way == "as_of":
        period, day = _moment(periods, world.days, dice)
        question, answers = phrases.ask_as_of(attribute, name, world.date(day)), _answers(period.value)
        deciding = [period.decided_by]
    else:
        question, answers = phrases.ask_latest(attribute, name), _answers(periods[-1].value)
        deciding = [periods[-1].decided_by]
    about = sorted((one for one in world.notices if one.document.title == name), key=lambda notice: notice.day)
    gold = tuple(i for i, one in enumerate(about) if one.said in deciding)
    return Record(
        id=identity,
        question=question,
        answer=answers[0],
        documents=tuple(one.document for one in about),
        gold=gold,
        evidence=tuple(_evidence(about[i], answers[0]) for i in gold),
        aliases=answers[1:],
        type=way,
    )


def _moment(periods: list[Period], end: int, dice: Dice) -> tuple[Period, int]:
    """A random period in which the value is known, and a day of it."""
    number = dice.below(sum(period.value is not None for period in periods))
    following = [period.begin for period in periods[1:]] + [end]
    return periods[number], dice.between(periods[number].begin, following[number] - 1)


def _answers(value: str | None) -> tuple[str, ...]:
    if value is None:
        return (phrases.UNKNOWN, *phrases.UNKNOWN_ALIASES)
    number, _, unit = value.partition(" ")
    return (value, number) if unit == "crowns" else (value,)


def _evidence(notice: Notice, answer: str) -> Evidence:
    """The whole notice, since a sentence without its paper and its date decides nothing."""
    document: Document = notice.document
    value = notice.said.value if notice.said is not None else None
    return Evidence(document.title, document.text, value or answer)
