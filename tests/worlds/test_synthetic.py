"""The synthetic world states what its questions need, once, and every question has exactly one answer."""

from __future__ import annotations

import hashlib
import pickle
import re
from collections.abc import Iterator
from functools import lru_cache

import pytest

from atommem_gym.errors import ConfigError
from atommem_gym.records.record import Item, Record
from atommem_gym.scoring.answers import normalize
from atommem_gym.worlds.dice import Dice
from atommem_gym.worlds.synthetic import SHAPES, SPLITS, GroundTruth, SyntheticItems
from atommem_gym.worlds.synthetic.phrases import OBJECT_KIND
from atommem_gym.worlds.synthetic.plans import Extreme, Follow, Named, Query, Same
from atommem_gym.worlds.synthetic.prose import write
from atommem_gym.worlds.synthetic.templates import FACTS, LEADS
from atommem_gym.worlds.synthetic.world import SyntheticWorld

ALL_SHAPES = tuple(SHAPES)
TYPES = {
    "hotpotqa": {"bridge", "comparison"},
    "2wikimultihopqa": {"compositional", "comparison", "bridge_comparison", "inference"},
    "musique": {"2hop", "3hop1", "3hop2", "4hop1", "4hop2", "4hop3"},
    "mixed": {"bridge", "comparison", "composition", "intersection"},
}
GOLD = {
    "bridge": {2}, "comparison": {2}, "compositional": {2, 3}, "bridge_comparison": {4}, "inference": {2},
    "2hop": {2}, "3hop1": {3}, "3hop2": {3}, "4hop1": {4}, "4hop2": {4}, "4hop3": {4},
    "composition": {3, 4}, "intersection": {2, 3, 4},
}  # fmt: skip

Facts = dict[str, dict[str, tuple[str, ...]]]


@lru_cache
def sample(shape: str) -> tuple[tuple[Item, GroundTruth], ...]:
    """Items of a size at which all the questions' own documents and some filler fit."""
    items = SyntheticItems(shape=shape, num_docs=70, questions_per_episode=3, split="validation")
    return tuple((items.item(index), items.ground_truth(index)) for index in range(60))


def questions(shape: str) -> Iterator[tuple[Item, GroundTruth, Record, Query]]:
    for item, truth in sample(shape):
        for record, query in zip(item.questions, truth.queries, strict=True):
            yield item, truth, record, query


def value_of(text: str) -> int:
    return int(text.replace(",", ""))


def follow(facts: Facts, start: set[str], path: tuple[str, ...]) -> set[str]:
    """Brute force: every fact of the world is looked at for every step."""
    for relation in path:
        if relation.startswith("~"):
            start = {s for s, known in facts.items() for o in known.get(relation[1:], ()) if o in start}
        else:
            start = {o for s, known in facts.items() if s in start for o in known.get(relation, ())}
    return start


def solve(facts: Facts, query: Query) -> set[str]:
    if isinstance(query, Named):
        return {query.title}
    if isinstance(query, Follow):
        return follow(facts, solve(facts, query.start), query.path)
    if isinstance(query, Extreme):
        numbers = {title: value_of(*follow(facts, {title}, query.path)) for title in query.titles}
        best = max(numbers.values()) if query.largest else min(numbers.values())
        return {title for title, number in numbers.items() if number == best}
    if isinstance(query, Same):
        first, second = (follow(facts, {title}, query.path) for title in query.titles)
        assert len(first) == len(second) == 1
        return {"yes" if first == second else "no"}
    wanted = [solve(facts, condition) for _, condition in query.conditions]
    return {
        title
        for title in facts
        if all(follow(facts, {title}, path) & goal for (path, _), goal in zip(query.conditions, wanted, strict=True))
    }


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_every_question_has_exactly_one_answer_in_the_whole_world(shape: str) -> None:
    for _, truth, record, query in questions(shape):
        assert solve(truth.facts, query) == {record.answer}, record.question


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_the_gold_documents_alone_give_the_answer_and_none_of_them_can_be_left_out(shape: str) -> None:
    for _, truth, record, query in questions(shape):
        gold = [document.title for document in record.gold_documents]
        assert solve({title: truth.facts[title] for title in gold}, query) == {record.answer}
        for left_out in gold:
            rest = {title: truth.facts[title] for title in gold if title != left_out}
            if isinstance(query, Extreme | Same):
                assert not all(follow(rest, {title}, query.path) for title in query.titles)
            else:
                assert solve(rest, query) != {record.answer}, (record.question, left_out)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_types_hops_and_sizes_are_those_of_the_shape(shape: str) -> None:
    seen = set()
    for _, _, record, _ in questions(shape):
        seen.add(record.type)
        assert len(record.gold) in GOLD[record.type]
        assert len(record.documents) == SHAPES[shape].documents
        assert list(record.gold) == sorted(set(record.gold))
        assert len(record.evidence) >= len(record.gold)
        assert bool(record.options) == record.type.endswith("comparison")
        assert not record.options or record.answer in record.options
    assert seen == TYPES[shape]


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_E12_evidence_stands_in_its_gold_document_and_in_no_other(shape: str) -> None:
    for item, _, record, _ in questions(shape):
        text_of = {document.title: document.text for document in record.gold_documents}
        assert {piece.title for piece in record.evidence} == set(text_of)
        for piece in record.evidence:
            assert piece.text in text_of[piece.title]
            assert piece.hop_answer
            assert piece.hop_answer in piece.text
            assert (piece.text == text_of[piece.title]) == (shape == "musique")
            wanted = normalize(piece.text)
            holders = {d.title for d in (*item.documents, *record.documents) if wanted in normalize(d.text)}
            assert holders == {piece.title}


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_no_other_document_names_both_ends_of_a_gold_fact_in_one_sentence(shape: str) -> None:
    for item, truth, record, _ in questions(shape):
        for piece in record.evidence:
            for document in item.documents:
                # That a town lies in a region is not yet that it is the capital.
                region = truth.facts[document.title].get("located_in", ())
                if document.title != piece.title and piece.title in document.text and piece.title not in region:
                    for sentence in document.text.split(". "):
                        assert not (piece.title in sentence and piece.hop_answer in sentence), sentence


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_a_document_states_its_facts_and_names_nothing_else_that_has_a_document(shape: str) -> None:
    for item, truth in sample(shape):
        titles = {document.title for document in item.documents}
        for document in item.documents:
            stated = {value for values in truth.facts[document.title].values() for value in values}
            assert all(value in document.text for value in stated), document
            words = set(re.findall(r"[A-Z]\w+", document.text))
            for title in titles - stated - {document.title}:
                if title.split()[-1] in words:
                    assert not re.search(rf"\b{re.escape(title)}\b", document.text), (title, document)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D3_titles_and_texts_of_an_item_are_distinct_and_all_gold_is_there(shape: str) -> None:
    for item, _ in sample(shape):
        assert len(item.documents) == 70
        assert len({normalize(document.title) for document in item.documents}) == 70
        assert len({normalize(document.text) for document in item.documents}) == 70
        for record in item.questions:
            assert set(record.documents) <= set(item.documents)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_no_answer_and_no_alias_can_be_read_off_the_question(shape: str) -> None:
    for _, _, record, _ in questions(shape):
        if not record.options:
            for answer in record.answers:
                assert not re.search(rf"\b{re.escape(normalize(answer))}\b", normalize(record.question)), record
        assert "{" not in record.question
        assert record.question.endswith("?")


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_distractors_are_near_misses(shape: str) -> None:
    """Every gold fact's relation is stated by some distractor about something else, nearly always."""
    missed = total = 0
    for _, truth, record, query in questions(shape):
        distractors = [d.title for i, d in enumerate(record.documents) if i not in record.gold]
        for relation in relations(query):
            total += 1
            missed += not any(relation in truth.facts[title] for title in distractors)
    assert missed <= 0.02 * total


def relations(query: Query) -> set[str]:
    if isinstance(query, Named):
        return set()
    if isinstance(query, Follow):
        return set(query.path) | relations(query.start)
    if isinstance(query, Extreme | Same):
        return set(query.path)
    # Only one band is asked about, and its members are the candidates themselves.
    return {r for path, inner in query.conditions for r in {*path} | relations(inner)} - {"~members"}


def test_D1_intersections_have_candidates_that_fulfil_just_one_condition() -> None:
    checked = 0
    for _, truth, record, query in questions("mixed"):
        if record.type != "intersection":
            continue
        for path, condition in query.conditions:  # type: ignore[union-attr]
            goal = solve(truth.facts, condition)
            half = {t for t in truth.facts if follow(truth.facts, {t}, path) & goal} - {record.answer}
            assert half & {document.title for document in record.documents}, record.question
            checked += 1
    assert checked > 40


def test_D1_splits_share_no_title_and_seeds_are_their_own() -> None:
    titles = {
        split: {d.title for i in range(25) for d in SyntheticItems(split=split).item(i).documents} for split in SPLITS
    }
    assert len(titles["train"]) > 3000
    for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
        assert not titles[one] & titles[other]


def test_E8_the_shuffle_seed_changes_the_order_and_nothing_else() -> None:
    items = SyntheticItems(num_docs=60, questions_per_episode=4)
    one, two = items.item(7), items.item(7, shuffle_seed=1)
    assert one != two
    assert one.id == two.id
    assert set(one.documents) == set(two.documents)
    assert {record.id: record for record in one.questions} == {record.id: record for record in two.questions}
    assert [d.title for d in one.documents] != [d.title for d in two.documents]
    orders = {tuple(record.id for record in items.item(7, s).questions) for s in range(30)}
    assert len(orders) > 10


def test_M15_an_item_depends_on_its_index_alone_and_not_on_what_was_asked_before() -> None:
    items = SyntheticItems(num_docs=40)
    forward = [items.item(index) for index in range(5)]
    assert [SyntheticItems(num_docs=40).item(index) for index in reversed(range(5))] == forward[::-1]
    assert pickle.loads(pickle.dumps(items)).item(3) == forward[3]
    assert len({item.questions[0].question for item in forward}) == 5


def test_D1_questions_and_their_documents_are_the_same_at_every_length() -> None:
    short, long = (SyntheticItems(shape="musique", num_docs=n).item(11) for n in (30, 120))
    assert short.questions == long.questions
    assert set(short.documents) <= set(long.documents)


@pytest.mark.parametrize("order", ["gold_first", "gold_last", "gold_together"])
def test_E9_orders_reach_the_documents(order: str) -> None:
    item = SyntheticItems(num_docs=50, order=order).item(3)
    gold = set(item.questions[0].gold_documents)
    places = [i for i, document in enumerate(item.documents) if document in gold]
    assert places == list(range(places[0], places[0] + len(gold)))
    assert order != "gold_first" or places[0] == 0
    assert order != "gold_last" or places[-1] == 49


def test_E4_released_has_one_question_half_the_time_else_two_to_ten() -> None:
    items = SyntheticItems(shape="hotpotqa", num_docs=20, questions_per_episode="released")
    counts = [len(items.item(index).questions) for index in range(300)]
    assert 115 < counts.count(1) < 185
    assert set(counts) == set(range(1, 11))
    ranged = SyntheticItems(num_docs=40, questions_per_episode=(2, 4))
    assert {len(ranged.item(index).questions) for index in range(40)} == {2, 3, 4}


def test_D3_own_distractors_give_way_to_gold_when_documents_are_few() -> None:
    item = SyntheticItems(shape="musique", num_docs=40, questions_per_episode=10).item(2)
    assert len(item.documents) == len(set(item.documents)) == 40
    for record in item.questions:
        assert set(record.gold_documents) <= set(item.documents)


def test_D3_num_docs_below_the_worst_case_of_gold_is_an_error_with_numbers() -> None:
    with pytest.raises(ConfigError, match=r"num_docs=39 .* 10 x 4 = 40 gold"):
        SyntheticItems(num_docs=39, questions_per_episode="released")
    SyntheticItems(shape="hotpotqa", num_docs=20, questions_per_episode="released")
    with pytest.raises(ConfigError, match="10 x 2 = 20 gold"):
        SyntheticItems(shape="hotpotqa", num_docs=19, questions_per_episode="released")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "dev"}, "split='dev' must be one of 'train', 'validation', 'test'"),
        ({"shape": "squad"}, "shape='squad' must be one of 'hotpotqa'"),
        ({"order": "sorted"}, "order='sorted' must be one of 'shuffled'"),
        ({"questions_per_episode": (3, 2)}, "questions_per_episode"),
        ({"questions_per_episode": 0}, "questions_per_episode"),
        ({"num_items": 0}, "num_items=0"),
    ],
)
def test_D1_wrong_arguments_are_named(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        SyntheticItems(**arguments)  # type: ignore[arg-type]


def test_E8_an_index_outside_names_the_valid_range() -> None:
    items = SyntheticItems(num_items=12)
    for index in (-1, 12):
        with pytest.raises(IndexError, match=rf"item {index} .* 0 to 11"):
            items.item(index)


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D1_a_document_has_three_to_seven_sentences(shape: str) -> None:
    for item, _ in sample(shape):
        for document in item.documents:
            assert 3 <= len(re.findall(r"[.](?= |$)", document.text)) <= 7, document
            assert document.text == document.text.strip()
            assert not re.search(r"[{}]|  |\ba [aeiou]|\.\.", document.text), document


def test_D1_every_template_can_be_filled_and_states_its_facts() -> None:
    for kind, leads in LEADS.items():
        for covered, template in leads:
            assert all("{" + relation + "}" in template for relation in covered), (kind, template)
            assert template.startswith(("{name}", "{Name}"))
    for relation, templates in FACTS.items():
        assert all("{" + relation + "}" in template and template.startswith("{s} ") for template in templates)


def test_E12_no_two_relations_to_things_of_one_kind_share_a_sentence() -> None:
    """Else "It is located in Karsholm." of a museum would be the evidence about a school."""
    seen: dict[tuple[str, str], str] = {}
    for relation, templates in FACTS.items():
        target = relation if relation in ("father", "mother") else OBJECT_KIND.get(relation, "number")
        for template in templates:
            if target != "number":
                key = (target, template.replace("{" + relation + "}", "{}"))
                assert seen.setdefault(key, relation) == relation, key


def test_D1_people_are_of_an_age_to_do_what_they_did() -> None:
    world = SyntheticWorld(Dice("ages"), "train")
    world.settle()
    for _ in range(600):
        entity = world.next_filler()
        world.complete(entity)
        entity.documented = True
        write(entity, world.dice, {})
        for relation in ("directed_by", "written_by", "founded_by", "designed_by"):
            if relation in entity.facts:
                assert 27 <= entity.year - entity.facts[relation].year <= 55  # type: ignore[union-attr]
        for relation in ("father", "mother"):
            if relation in entity.facts:
                assert 21 <= entity.year - entity.facts[relation].year <= 41  # type: ignore[union-attr]
        if "based_on" in entity.facts:
            assert entity.facts["based_on"].year < entity.year  # type: ignore[union-attr]
        if entity.kind == "institute":
            assert entity.year <= 1805


GOLDEN = {
    "hotpotqa": "397966a498c62727",
    "2wikimultihopqa": "d060e6e3f03d6dff",
    "musique": "a37da53e35b78b59",
    "mixed": "952aa8e56ef13821",
}


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D6_content_is_pinned(shape: str) -> None:
    """If it fails, items have changed: raise ``ITEMS_VERSION`` and the environments' versions, and pin new hashes."""
    item = SyntheticItems(shape=shape, num_docs=60, questions_per_episode=2).item(5, shuffle_seed=3)
    assert hashlib.sha256(repr(item).encode()).hexdigest()[:16] == GOLDEN[shape]
