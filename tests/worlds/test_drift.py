"""The drift family (SPEC D5): a world in time whose questions are answered by exactly the notices that decide them."""

from __future__ import annotations

import re
from datetime import date, datetime
from functools import lru_cache
from itertools import pairwise

import gymnasium as gym
import pytest

import atommem_gym  # noqa: F401  (registers the ids)
from atommem_gym.agents import make_agent
from atommem_gym.agents.play import play
from atommem_gym.errors import ConfigError
from atommem_gym.records.record import Document, Item, Record
from atommem_gym.worlds.drift import QUESTION_KINDS, TASK, DriftItems, DriftOptions
from atommem_gym.worlds.drift.history import CHANGED, CORRECTED, HEARSAY, STATED, WITHDRAWN
from atommem_gym.worlds.drift.options import at_difficulty

_NOTICE = re.compile(r"(?P<paper>[^,]+), (?P<day>\d+ \w+ \d{4}): (?P<says>.+)")


@lru_cache
def items(**options: object) -> DriftItems:
    return DriftItems(options=DriftOptions(**options), num_docs=200, questions_per_episode=4)  # type: ignore[arg-type]


def day_of(document: Document) -> date:
    found = _NOTICE.fullmatch(document.text)
    assert found, document
    return datetime.strptime(found["day"], "%d %B %Y").date()


def answer_by_reading(record: Record, item: Item) -> str:
    """The answer of somebody who has nothing but the documents and their rules."""
    trusted = re.search(r"order of time\. (.+?) can be trusted", item.documents[0].text)
    asked = re.search(
        r"(?:is|was|did) the (?P<what>.+?) of (?P<name>.+?) (?:at present|on (?P<day>[^,]+),|change)",
        record.question,
    )
    assert trusted
    assert asked
    periods: list[tuple[date, str]] = []
    changes = 0
    for document in item.documents[1:]:
        notice = _NOTICE.fullmatch(document.text)
        assert notice
        says, fact = notice["says"], f"{asked['what']} of {asked['name']}"
        if document.title != asked["name"] or notice["paper"] != trusted[1] or fact not in says:
            continue
        day = day_of(document)
        if "no longer known" in says:
            periods.append((day, "unknown"))
        elif says.startswith("Correction to our notice of "):
            wrong = datetime.strptime(says.split(" notice of ")[1].split(":")[0], "%d %B %Y").date()
            value = says.split("it was ")[1].rstrip(".")
            periods = [(begin, value if begin == wrong else old) for begin, old in periods]
        else:
            changes += "changed" in says or "As of" in says or "From" in says
            before, after = re.split(
                rf"(?:the |The )?{re.escape(fact)}(?: has changed: as of [^,]+? it)? ?", says, maxsplit=1
            )
            value = after.removeprefix("is ").rstrip(".") if after not in ("", ".") else before.removesuffix(" is the ")
            periods.append((day, value.removesuffix(" is ").removesuffix(" is")))
    if record.type == "count":
        return str(changes)
    if asked["day"] is None:
        return periods[-1][1]
    on = datetime.strptime(asked["day"], "%d %B %Y").date()
    return [value for begin, value in periods if begin <= on][-1]


def test_D5_a_careful_reader_of_the_notices_finds_every_answer() -> None:
    kinds: set[str] = set()
    for index in range(60):
        item = items().item(index, index % 3)
        for record in item.questions:
            assert answer_by_reading(record, item) == record.answer, record
            kinds.add(record.type)
    assert kinds == set(QUESTION_KINDS)


def test_D5_the_stream_is_in_the_order_of_time_and_begins_with_the_rules() -> None:
    for index in range(20):
        documents = items().item(index).documents
        assert len(documents) == 200
        assert documents[0].title == "About these notices"
        days = [day_of(document) for document in documents[1:]]
        assert days == sorted(days)


def test_D5_evidence_is_the_deciding_notices_and_nothing_stale() -> None:
    for index in range(40):
        item = items().item(index)
        world = items().world(index)
        facts = {(fact.entity, fact.attribute.name): fact for entity in world.entities for fact in entity.facts}
        kind_of = {notice.document.text: notice.said.kind for notice in world.notices if notice.said}
        for record in item.questions:
            assert all(piece.text in {document.text for document in item.documents} for piece in record.evidence)
            asked = re.search(r"the (.+?) of (.+?) (?:at present|on \d|change)", record.question)
            assert asked
            fact = facts[asked[2], asked[1]]
            kinds = [kind_of[piece.text] for piece in record.evidence]
            if record.type == "count":
                assert kinds == ([CHANGED] * fact.changes or [STATED])
            else:
                assert len(kinds) == 1
                assert kinds[0] in ((WITHDRAWN,) if record.type == "known" else (STATED, CHANGED, CORRECTED))
            assert HEARSAY not in kinds
            gold = {document.text for document in record.gold_documents}
            assert gold == {piece.text for piece in record.evidence}


def test_D5_nothing_is_asked_about_a_closed_house_and_no_more_live_at_once_than_said() -> None:
    for index in range(30):
        world = items().world(index)
        closed = {entity.name for entity in world.entities if entity.closes}
        assert closed
        assert not any(name in record.question for record in items().item(index).questions for name in closed)
        for day in range(0, world.days, 7):
            assert sum(entity.begin <= day < entity.end for entity in world.entities) == items().plan.entities


def test_E8_items_depend_on_index_and_shuffle_seed_alone() -> None:
    one, two = items(), DriftItems(num_docs=200, questions_per_episode=4)
    assert one.item(7, 1) == two.item(7, 1)
    first, second = one.item(7, 0), one.item(7, 1)
    assert {record.id for record in first.questions} == {record.id for record in second.questions}
    assert first.documents != second.documents
    assert one.item(8) != one.item(7)
    assert one.item(0).documents != DriftItems(split="test", num_docs=200).item(0).documents


@pytest.mark.parametrize("distance", [2, 10, 30])
def test_D5_distance_is_about_kept(distance: int) -> None:
    gaps = []
    for index in range(20):
        item = items(distance=distance, changes_per_fact=2, turnover=0.0).item(index)
        place = {document: i for i, document in enumerate(item.documents)}
        world = items(distance=distance, changes_per_fact=2, turnover=0.0).world(index)
        for entity in world.entities:
            for fact in entity.facts:
                said = [n.document for n in world.notices if n.said is not None and n.said in fact.said]
                places = [place[document] for document in said]
                gaps += [later - earlier for earlier, later in pairwise(places)]
    assert 0.6 * distance <= sum(gaps) / len(gaps) <= 1.6 * distance + 1


def test_options_change_the_world() -> None:
    one_source = items(sources=1)
    assert all("gossip" not in one_source.item(i).documents[0].text for i in range(5))
    only = DriftItems(options=DriftOptions(question_kinds={"count": 1.0}), num_docs=200)
    assert {record.type for i in range(10) for record in only.item(i).questions} == {"count"}
    assert items(attributes=1, entities=4).plan.facts == 6


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"order": "gold_first"}, "order='gold_first' contradicts AtomMem-Drift-v0"),
        ({"source": "hub"}, "source='hub' contradicts AtomMem-Drift-v0"),
        ({"changes_per_fact": 0}, "changes_per_fact=0 must be an integer from 1"),
        ({"change_per_fact": 3}, "did you mean 'changes_per_fact'"),
        ({"xyzzy": 3}, "known are .*num_docs.*; and of this task .*turnover"),
        ({"question_kinds": {"lastest": 1}}, "question_kinds holds 'lastest'"),
        ({"question_kinds": {"latest": float("inf"), "count": 1}}, "adds up to inf"),
        ({"question_kinds": {"count": 0}}, "adds up to 0"),
        ({"entities": 50}, "num_docs=200 is too small"),
        ({"distance": 100}, "distance=100 contradicts num_docs=200"),
        ({"split": "dev"}, "split='dev' must be one of"),
        ({"num_docs": 30, "questions_per_episode": 40}, "is too much for"),
        ({"difficulty": 1.5}, "difficulty=1.5 must be a number from 0 to 1"),
    ],
)
def test_wrong_keywords_say_what_helps(keywords: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gym.make("AtomMem-Drift-v0", store="numpy", **keywords)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_docs", [48, 200, 800])
@pytest.mark.parametrize("questions", [1, 3])
def test_every_difficulty_can_be_played_and_1_is_the_default(num_docs: int, questions: int) -> None:
    config = TASK.config({"num_docs": num_docs, "questions_per_episode": questions})
    for tenth in range(11):
        knobs = at_difficulty(tenth / 10, config)
        length = knobs.pop("num_docs")
        made = DriftItems(options=DriftOptions(**knobs), num_docs=length, questions_per_episode=questions)
        assert len(made.item(0).documents) == length
    top = at_difficulty(1.0, config)
    assert top.pop("num_docs") == num_docs
    assert DriftOptions(**top) == DriftOptions()


def em(agent: str, **keywords: object) -> float:
    env = gym.make("AtomMem-Drift-v0", store="numpy", questions_per_episode=4, **keywords)  # type: ignore[arg-type]
    records = play(env, make_agent(agent), 8)
    env.close()
    return sum(record.em for record in records) / len(records)


def test_D5_add_only_fails_where_update_succeeds() -> None:
    assert em("oracle") == 1.0
    assert em("tidy") > 0.8
    assert em("keep_all") < 0.5
    assert em("tidy", operations=["create", "read"]) < 0.5
