"""The items of ``AtomMem-Synthetic-v0``, and of ``source="synthetic"`` elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain as flatten
from itertools import zip_longest
from typing import Any, Final

import numpy as np

from atommem_gym.config import EnvConfig
from atommem_gym.errors import ConfigError, check_choice
from atommem_gym.records.layout import (
    QuestionsPerEpisode,
    arrange,
    check_order,
    check_questions,
    draw_questions,
    in_given_order,
    stable_rng,
)
from atommem_gym.records.record import Document, Evidence, Item, Record
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic.distractors import distractors
from atommem_gym.worlds.synthetic.entities import Entity, Value, aliases, shown
from atommem_gym.worlds.synthetic.names import SPLITS
from atommem_gym.worlds.synthetic.plans import Query, QuestionPlan
from atommem_gym.worlds.synthetic.prose import Page, write
from atommem_gym.worlds.synthetic.shapes import SHAPES, Shape
from atommem_gym.worlds.synthetic.world import SyntheticWorld

ITEMS_VERSION: Final = 0
"""Part of every seed; raised, together with the environments' versions, when the content of items changes."""


@dataclass(frozen=True, slots=True)
class GroundTruth:
    """The facts in an item's documents and the logical forms of its questions; for audits, never for a policy."""

    facts: dict[str, dict[str, tuple[str, ...]]]
    """Title to relation to values, for every document of the item and of the records of its questions."""
    queries: tuple[Query, ...]
    """Logical forms of the questions, in the order of ``Item.questions``."""


@dataclass(frozen=True, slots=True)
class _Content:
    """An item before its order is decided."""

    index: int
    records: tuple[Record, ...]
    gold: tuple[Document, ...]
    others: tuple[Document, ...]
    facts: dict[str, dict[str, Value]]
    queries: tuple[Query, ...]


class SyntheticItems:
    """Items over an invented encyclopaedia, in the shape of a real data set (SPEC D1 ``"synthetic"``, D6).

    ``shape`` is ``"hotpotqa"``, ``"2wikimultihopqa"``, ``"musique"`` or ``"mixed"`` (bridge, comparison, composition
    and intersection in equal shares). Splits share no title. The content of an item
    depends on ``(shape, split, index)`` and on its size; its order also depends on ``shuffle_seed``. Questions and
    their own documents are the same for every ``num_docs``.
    """

    def __init__(
        self,
        *,
        shape: str = "mixed",
        split: str = "train",
        num_docs: int = 200,
        questions_per_episode: QuestionsPerEpisode = 1,
        order: str = "shuffled",
        num_items: int = 10_000,
    ) -> None:
        """Check the arguments; nothing is generated yet.

        Args:
            shape: One of ``SHAPES``, see above.
            split: ``"train"``, ``"validation"`` or ``"test"``; no two share a name.
            num_docs: Documents of an item.
            questions_per_episode: A number, ``(least, most)``, or ``"released"``.
            order: The document order, one of ``layout.ORDERS``.
            num_items: Items of the split.

        Raises:
            ConfigError: an argument is unknown or out of range, or ``num_docs`` cannot hold the gold documents of the
                largest possible item.
        """
        check_choice("shape", shape, tuple(SHAPES))
        check_choice("split", split, SPLITS)
        check_order(order)
        most = check_questions(questions_per_episode)
        if num_items < 1:
            raise ConfigError(f"num_items={num_items} is invalid: it must be at least 1")
        max_gold = SHAPES[shape].max_gold
        worst = most[1] * max_gold
        if num_docs < worst:
            raise ConfigError(
                f"num_docs={num_docs} is too small: {most[1]} question(s) of shape {shape!r} can have "
                f"{most[1]} x {max_gold} = {worst} gold documents; set num_docs to {worst} or more, "
                "or lower questions_per_episode"
            )
        self.name = f"synthetic-{shape}-{split}"
        self.num_items = num_items
        self.shape = shape
        self.split = split
        self.num_docs = num_docs
        self.order = order
        self._questions_per_episode = questions_per_episode
        self._latest: _Content | None = None

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        """Item ``index`` in the layout of ``shuffle_seed`` (SPEC E8).

        Raises:
            IndexError: ``index`` is outside ``[0, num_items)``.
        """
        content = self._content(index)
        rng = stable_rng("synthetic layout", ITEMS_VERSION, self.name, index, shuffle_seed)
        questions = tuple(content.records[i] for i in rng.permutation(len(content.records)).tolist())
        return Item(
            id=f"{self.name}/{index}",
            index=index,
            shuffle_seed=shuffle_seed,
            questions=questions,
            documents=self._arranged(content, questions, rng),
        )

    def _arranged(
        self, content: _Content, questions: Sequence[Record], rng: np.random.Generator
    ) -> tuple[Document, ...]:
        if self.order != "given":
            return arrange(content.gold, content.others, self.order, rng)
        chosen = {*content.gold, *content.others}
        theirs = {document for question in questions for document in question.documents}
        rest = [document for document in content.others if document not in theirs]
        return in_given_order([question.documents for question in questions], chosen, rest)

    def ground_truth(self, index: int) -> GroundTruth:
        """The facts and the logical forms behind item ``index``; queries are in the order of ``shuffle_seed=0``.

        Raises:
            IndexError: ``index`` is outside ``[0, num_items)``.
        """
        content = self._content(index)
        query_of = {record.id: query for record, query in zip(content.records, content.queries, strict=True)}
        return GroundTruth(
            facts={
                title: {relation: _values(relation, value) for relation, value in facts.items()}
                for title, facts in content.facts.items()
            },
            queries=tuple(query_of[record.id] for record in self.item(index).questions),
        )

    def _content(self, index: int) -> _Content:
        if not 0 <= index < self.num_items:
            raise IndexError(f"item {index} does not exist: valid are 0 to {self.num_items - 1}")
        latest = self._latest
        # A group of rollouts asks for the same item repeatedly, under one shuffle seed or several.
        if latest is None or latest.index != index:
            latest = self._latest = self._generate(index)
        return latest

    def _generate(self, index: int) -> _Content:
        dice = Dice("synthetic", ITEMS_VERSION, self.name, index)
        world = SyntheticWorld(dice, self.split)
        world.settle()
        shape = SHAPES[self.shape]
        plans = [shape.plan(world) for _ in range(draw_questions(self._questions_per_episode, dice))]
        near = [distractors(world, plan, shape.documents - len(plan.gold)) for plan in plans]
        taken = _taken(plans)
        pages: dict[Entity, Page] = {}

        def page(entity: Entity) -> Page:
            if entity not in pages:
                world.complete(entity)
                entity.documented = True
                pages[entity] = write(entity, dice, taken)
            return pages[entity]

        records = tuple(
            _record(plan, others, page, dice, shape, f"{self.name}-{index}-{number}")
            for number, (plan, others) in enumerate(zip(plans, near, strict=True))
        )
        gold_entities = dict.fromkeys(entity for plan in plans for entity in plan.gold)
        gold = tuple(page(entity).document for entity in gold_entities)
        room = self.num_docs - len(gold)
        # In turn from each question, in case not all fit; the answer of one question may be gold of another.
        in_turn = dict.fromkeys(flatten.from_iterable(zip_longest(*near)))
        own = [page(e).document for e in in_turn if e is not None and e not in gold_entities][:room]
        filler = [page(world.next_filler()).document for _ in range(room - len(own))]
        facts = {entity.title: entity.facts for entity in pages}
        return _Content(index, records, gold, (*own, *filler), facts, tuple(plan.query for plan in plans))


def from_config(config: EnvConfig) -> SyntheticItems:
    """The items of ``AtomMem-Synthetic-v0`` in a configuration.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    if config.source != "synthetic":
        raise ConfigError(
            f"source={config.source!r} contradicts AtomMem-Synthetic-v0, which generates its records; leave it out"
        )
    return of_shape("mixed", config)


def of_shape(shape: str, config: EnvConfig) -> SyntheticItems:
    """Generated items of a shape, in the configuration of any task.

    Args:
        shape: One of ``SHAPES``.
        config: The configuration.

    Raises:
        ConfigError: the settings do not fit each other.
    """
    return SyntheticItems(
        shape=shape,
        split=config.split,
        num_docs=config.num_docs,
        questions_per_episode=config.questions_per_episode,
        order=config.order,
    )


def at_difficulty(difficulty: float, config: EnvConfig) -> Mapping[str, Any]:
    """What ``difficulty=`` sets: the documents, from four per question (the most gold) to ``num_docs``."""
    least = min(config.num_docs, 4 * check_questions(config.questions_per_episode)[1] + 1)
    return {"num_docs": least + round(difficulty * (config.num_docs - least))}


def _record(
    plan: QuestionPlan, near: list[Entity], page: Callable[[Entity], Page], dice: Dice, shape: Shape, identity: str
) -> Record:
    """The record of ``plan``; its documents are written in random order, so gold is not written first."""
    gold = plan.gold
    own = dice.shuffled([*gold, *near])
    documents = tuple(page(entity).document for entity in own)
    return Record(
        id=identity,
        question=plan.question,
        answer=plan.answer,
        documents=documents,
        gold=tuple(i for i, entity in enumerate(own) if entity in gold),
        evidence=_evidence(plan, page, shape.evidence),
        aliases=aliases(plan.goal) if shape.aliases and plan.goal is not None else (),
        type=plan.type,
        options=plan.options,
    )


def _evidence(plan: QuestionPlan, page: Callable[[Entity], Page], unit: str) -> tuple[Evidence, ...]:
    """One piece per sentence (or document) that states gold facts; its last fact gives the hop answer."""
    pieces: dict[tuple[str, str], Evidence] = {}
    for entity, relation in plan.hops:
        written = page(entity)
        text = written.sentence_of[relation] if unit == "sentences" else written.document.text
        value = entity.facts[relation]
        if isinstance(value, tuple):
            value = next(member for member in value if member in plan.gold)
        pieces[entity.title, text] = Evidence(entity.title, text, shown(value, relation))
    return tuple(pieces.values())


def _taken(plans: list[QuestionPlan]) -> dict[str, dict[Value, Entity | None]]:
    """Relation to value of each gold fact to its only subject, or to ``None`` if there are several."""
    taken: dict[str, dict[Value, Entity | None]] = {}
    for plan in plans:
        for entity, relation in plan.hops:
            subjects, value = taken.setdefault(relation, {}), entity.facts[relation]
            subjects[value] = entity if subjects.get(value, entity) is entity else None
    return taken


def _values(relation: str, value: Value) -> tuple[str, ...]:
    return tuple(one.title for one in value) if isinstance(value, tuple) else (shown(value, relation),)
