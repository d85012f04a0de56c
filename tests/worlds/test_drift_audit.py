"""An audit of the drift family: what can be had without following the facts through time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache
from math import sqrt

import pytest

from atommem_gym.records.layout import stable_rng
from atommem_gym.records.record import Item, Record
from atommem_gym.scoring import exact_match
from atommem_gym.worlds.drift import DriftItems
from atommem_gym.worlds.drift.history import HEARSAY, Fact, Said

Z = 4.0
"""Standard errors that a share may be off: one check in 16,000 then fails by chance, and seeds are fixed."""
ITEMS = 250
rng = stable_rng("drift audit")


@lru_cache
def asked() -> tuple[tuple[Record, Fact, Item], ...]:
    """Questions with the facts they ask for."""
    items = DriftItems(num_docs=200, questions_per_episode=4)
    found = []
    for index in range(ITEMS):
        item = items.item(index)
        facts = [fact for entity in items.world(index).alive() for fact in entity.facts]
        for record in item.questions:
            fact = next(f for f in facts if f"{f.attribute.name} of {f.entity} " in record.question)
            found.append((record, fact, item))
    return tuple(found)


def of_kind(kind: str) -> list[tuple[Record, Fact, Item]]:
    return [one for one in asked() if one[0].type == kind]


def share(kind: str, strategy: Callable[[Record, Fact, Item], str]) -> tuple[float, float]:
    """How often a strategy is right, and the standard error of that."""
    cases = of_kind(kind)
    assert len(cases) >= 100
    right = sum(exact_match(strategy(*case), case[0].answers) for case in cases) / len(cases)
    return right, sqrt(max(right * (1 - right), 0.01) / len(cases))


def mentions(fact: Fact) -> list[Said]:
    """Everything that is said of a fact and gives a value, gossip among it."""
    return [one for one in fact.said if one.value is not None]


def first(record: Record, fact: Fact, item: Item) -> str:
    return str(mentions(fact)[0].value)


def last(record: Record, fact: Fact, item: Item) -> str:
    return str(mentions(fact)[-1].value)


def random_mention(record: Record, fact: Fact, item: Item) -> str:
    said = mentions(fact)
    return str(said[int(rng.integers(len(said)))].value)


def most_frequent(record: Record, fact: Fact, item: Item) -> str:
    """The value that the documents of the entity hold most often, and the first of several."""
    counts = {str(one.value): sum(str(one.value) in d.text for d in record.documents) for one in mentions(fact)}
    return max(counts, key=lambda value: counts[value])


def most_frequent_anywhere(record: Record, fact: Fact, item: Item) -> str:
    values = Counter(
        str(one.value) for _, other, owner in asked() if owner is item for one in mentions(other) if one.value
    )
    return values.most_common(1)[0][0]


def test_the_kinds_have_their_shares() -> None:
    for kind, expected in {"latest": 14 / 30, "as_of": 6 / 30, "count": 6 / 30, "known": 4 / 30}.items():
        found = len(of_kind(kind)) / len(asked())
        assert abs(found - expected) < Z * sqrt(expected * (1 - expected) / len(asked())), (kind, found)


def test_unknown_is_right_for_withdrawn_facts_and_for_nothing_else() -> None:
    for record, _, _ in asked():
        assert bool(exact_match("unknown", record.answers)) == (record.type == "known")
    assert len(of_kind("known")) / len(asked()) < 0.2


@pytest.mark.parametrize("kind", ["latest", "as_of"])
@pytest.mark.parametrize("strategy", [most_frequent, most_frequent_anywhere])
def test_counting_mentions_is_no_better_than_picking_one(kind: str, strategy: Callable[..., str]) -> None:
    chance, _ = share(kind, random_mention)
    found, error = share(kind, strategy)
    assert found <= chance + Z * error, (found, chance)


def test_the_first_mention_is_never_the_latest_value() -> None:
    assert share("latest", first)[0] == 0.0


def test_the_last_mention_is_the_latest_value_only_as_often_as_gossip_leaves_it() -> None:
    # Gossip follows the last true notice of about one fact in ten; that the newest is right else is the task itself.
    found, _ = share("latest", last)
    assert 0.75 < found < 0.97
    gossip = sum(mentions(fact)[-1].kind == HEARSAY for _, fact, _ in of_kind("latest")) / len(of_kind("latest"))
    assert found == pytest.approx(1 - gossip)


def test_neither_end_of_a_history_gives_the_value_on_a_date_away() -> None:
    chance, _ = share("as_of", random_mention)
    for strategy in (first, last):
        found, error = share("as_of", strategy)
        # Gossip and what was corrected are mentions that are never right, and come seldom at the ends.
        assert found <= chance + 0.12 + Z * error, (strategy, found, chance)


def test_counts_are_balanced() -> None:
    counts = Counter(record.answer for record, _, _ in of_kind("count"))
    total = sum(counts.values())
    assert set(counts) == {"0", "1", "2", "3", "4"}
    assert max(counts.values()) / total <= 0.2 + Z * sqrt(0.2 * 0.8 / total)


def test_a_house_that_is_asked_about_is_not_in_the_documents_more_often() -> None:
    """Nor does how much is written about a house tell that it will be asked about."""
    items = DriftItems(num_docs=200, questions_per_episode=1)
    ranks = []
    for index in range(200):
        item = items.item(index)
        names = [entity.name for entity in items.world(index).alive()]
        written = Counter(document.title for document in item.documents)
        target = next(name for name in names if f"of {name} " in item.questions[0].question)
        ranks.append(sum(written[name] < written[target] for name in names) / (len(names) - 1))
    assert abs(sum(ranks) / len(ranks) - 0.5) < Z * 0.3 / sqrt(len(ranks)) + 0.05  # ties count for nothing
