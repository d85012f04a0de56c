"""SPEC D3, E1, E4, E8 and E9 as properties of items made from generated records."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given, reject
from hypothesis import strategies as st

from atommem_gym.errors import ConfigError
from atommem_gym.records.corpus import from_records, normalised
from atommem_gym.records.items import RecordItems
from atommem_gym.records.layout import ORDERS
from atommem_gym.records.record import Document, Item, Record
from atommem_gym.testing import budget, records
from atommem_gym.worlds.synthetic import SyntheticItems

counts = st.sampled_from([1, 2, (1, 3), "released"])


@st.composite
def splits(draw: st.DrawFn, collide: bool = True) -> tuple[list[Record], Any]:
    """Records whose titles and texts may collide across records, and the split made of them."""
    made = [draw(records(f"r{i}", 2, 5)) for i in range(draw(st.integers(1, 6)))]
    for i in range(len(made) if collide else 0):
        if draw(st.booleans()):
            own = made[i]
            other = draw(st.sampled_from((*own.gold_documents, *made[0].documents)))
            twin = draw(
                st.sampled_from([Document(other.title.upper(), "Something else."), Document("Copy", other.text)])
            )
            made[i] = Record(
                own.id, own.question, own.answer, (*own.documents, twin), own.gold, own.evidence, own.aliases, own.type
            )
    return made, from_records("drawn", "train", iter(made))


def items(split: Any, num_docs: int, questions: Any = 1, order: str = "shuffled") -> RecordItems:
    return RecordItems(split, num_docs=num_docs, questions_per_episode=questions, order=order)


def gold_of(item: Item) -> set[Document]:
    return {document for record in item.questions for document in record.gold_documents}


@given(splits(collide=False), counts)
@budget(20)
def test_E4_E8_every_record_is_a_question_of_exactly_one_item(split: tuple[list[Record], Any], questions: Any) -> None:
    most = {"released": 10}.get(questions) if isinstance(questions, str) else questions
    most = most[1] if isinstance(most, tuple) else most
    made = items(split[1], sum(len(record.documents) for record in split[0]), questions)
    asked = [record for i in range(made.num_items) for record in made.item(i).questions]
    assert Counter(record.id for record in asked) == Counter(record.id for record in split[0])
    assert {record.id: record for record in asked} == {record.id: record for record in split[0]}
    assert all(1 <= len(made.item(i).questions) <= most for i in range(made.num_items))
    for index in (-1, made.num_items):
        with pytest.raises(IndexError, match=str(made.num_items - 1)):
            made.item(index)


@given(splits(), st.integers(1, 8), st.integers(1, 3), st.integers(0, 3))
@budget(30)
def test_D3_an_item_holds_its_gold_and_distractors_that_are_not_gold_in_disguise(
    split: tuple[list[Record], Any], num_docs: int, questions: int, seed: int
) -> None:
    try:
        made = items(split[1], num_docs, questions)
        drawn = [made.item(index, seed) for index in range(made.num_items)]
    except ConfigError:
        reject()
    for item in drawn:
        gold = gold_of(item)
        others = [document for document in item.documents if document not in gold]
        assert len(item.documents) == len(set(item.documents)) == num_docs
        assert gold <= set(item.documents)
        assert not {normalised(d.title) for d in others} & {normalised(d.title) for d in gold}
        assert not {normalised(d.text) for d in others} & {normalised(d.text) for d in gold}
        assert len({normalised(d.text) for d in others}) == len(others)
        own = {d for record in item.questions for d in record.documents} - gold
        strangers = set(others) - own
        if strangers:
            barred = {normalised(d.text) for d in [*gold, *others]}
            titles = {normalised(d.title) for d in gold}
            assert all(normalised(d.text) in barred or normalised(d.title) in titles for d in own)


@given(splits(), st.sampled_from(ORDERS), st.integers(0, 5))
@budget(20)
def test_E8_an_item_depends_on_its_index_and_shuffle_seed_alone(
    split: tuple[list[Record], Any], order: str, seed: int
) -> None:
    try:
        one, two = items(split[1], 4, 1, order), items(from_records("drawn", "train", iter(split[0])), 4, 1, order)
        there = [two.item(i, seed) for i in reversed(range(two.num_items))]
    except ConfigError:
        reject()
    assert [one.item(i, seed) for i in range(one.num_items)] == there[::-1]
    other = one.item(0, seed + 1)
    assert {r.id for r in other.questions} == {r.id for r in one.item(0, seed).questions}
    assert gold_of(other) <= set(other.documents)


@pytest.mark.parametrize("source", ["records", "synthetic"])
@given(data=st.data(), order=st.sampled_from(ORDERS), seed=st.integers(0, 5))
@budget(25)
def test_E9_gold_stands_where_the_order_says(source: str, data: st.DataObject, order: str, seed: int) -> None:
    if source == "records":
        drawn = data.draw(splits())
        try:
            item = items(drawn[1], 6, 1, order).item(0, seed)
        except ConfigError:
            reject()
    else:
        synthetic = SyntheticItems(num_docs=data.draw(st.integers(8, 20)), questions_per_episode=2, order=order)
        item = synthetic.item(data.draw(st.integers(0, 50)), seed)
    gold = gold_of(item)
    places = [i for i, document in enumerate(item.documents) if document in gold]
    size, total = len(places), len(item.documents)
    assert size == len(gold)
    if order == "gold_first":
        assert places == list(range(size))
    elif order == "gold_last":
        assert places == list(range(total - size, total))
    elif order == "gold_together":
        assert places == list(range(places[0], places[0] + size))
    elif order == "gold_spread":
        edges = [i * total // size for i in range(size + 1)]
        assert all(low <= place < high for place, low, high in zip(places, edges, edges[1:], strict=False))
