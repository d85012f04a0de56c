"""An audit of the synthetic world: neither positions nor questions nor counts give an answer away."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from functools import lru_cache
from math import sqrt

import numpy as np
import pytest

from atommem_gym.records.layout import stable_rng
from atommem_gym.records.record import Record
from atommem_gym.scoring.answers import exact_match
from atommem_gym.worlds.synthetic import SHAPES, SyntheticItems
from atommem_gym.worlds.synthetic.plans import Extreme, Follow

ALL_SHAPES = tuple(SHAPES)
Z = 4.0
"""Standard errors that a share may be off: one check in 16,000 then fails by chance, and seeds are fixed."""


@lru_cache
def records(shape: str, split: str = "train", size: int = 120) -> tuple[Record, ...]:
    items = SyntheticItems(shape=shape, split=split, num_docs=40, questions_per_episode=10)
    return tuple(record for index in range(size) for record in items.item(index).questions)


def assert_share(hits: int, total: int, share: float, what: str) -> None:
    assert total >= 60, f"{what}: only {total} cases"
    error = sqrt(share * (1 - share) / total)
    assert abs(hits / total - share) <= Z * error, f"{what}: {hits} of {total}, expected {share:.2f}"


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_D20_gold_documents_are_spread_uniformly_over_positions(shape: str) -> None:
    items = SyntheticItems(shape=shape, num_docs=20)
    counts = np.zeros(20)
    for index in range(600):
        item = items.item(index)
        gold = set(item.questions[0].gold_documents)
        counts += [document in gold for document in item.documents]
    expected = counts.sum() / 20
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    # 19 degrees of freedom: 45.3 is exceeded once in about 1,600 times (p = 0.0006).
    assert chi_square < 45.3


def test_D20_positions_differ_between_items_and_between_shuffle_seeds() -> None:
    items = SyntheticItems(shape="hotpotqa", num_docs=200)

    def places(index: int, seed: int) -> tuple[int, ...]:
        item = items.item(index, seed)
        gold = set(item.questions[0].gold_documents)
        return tuple(i for i, document in enumerate(item.documents) if document in gold)

    assert len({places(index, 0) for index in range(30)}) > 25
    assert len({places(3, seed) for seed in range(30)}) > 25


Strategy = Callable[[Record], str]


def words_of_question(record: Record) -> list[str]:
    return [word for word in record.question.rstrip("?").split() if word[0].isupper()][1:] or ["no"]


def make_strategies(shape: str) -> dict[str, Strategy]:
    """Question-only strategies; the last two know the answers of another split."""
    prior: dict[str, Counter[str]] = defaultdict(Counter)
    for other in records(shape, "validation", 40):
        prior[other.type][other.answer] += 1
    rng = stable_rng("audit", shape)
    return {
        "first option": lambda r: r.options[0] if r.options else "yes",
        "last option": lambda r: r.options[-1] if r.options else "no",
        "random option": lambda r: r.options[int(rng.integers(len(r.options)))] if r.options else "1950",
        "alphabetically first": lambda r: min(r.options) if r.options else words_of_question(r)[0],
        "longest option": lambda r: max(r.options, key=len) if r.options else words_of_question(r)[-1],
        "words of the question": lambda r: r.options[0] if r.options else " ".join(words_of_question(r)),
        "commonest answer of the type": lambda r: prior[r.type].most_common(1)[0][0] if not r.options else r.options[0],
    }


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_an_agent_that_sees_only_the_question_scores_at_the_guess_rate(shape: str) -> None:
    """Reported per type: ``pytest -s -k guess_rate`` prints the table."""
    strategies = make_strategies(shape)
    by_type: dict[str, list[Record]] = defaultdict(list)
    for record in records(shape):
        by_type[record.type].append(record)
    for kind, group in sorted(by_type.items()):
        guess = sum(1 / len(r.options) if r.options else 0.0 for r in group) / len(group)
        for name, strategy in strategies.items():
            hits = sum(exact_match(strategy(record), record.answers) for record in group)
            print(f"{shape:16} {kind:18} n={len(group):4} guess={guess:.2f} EM={hits / len(group):.3f}  {name}")
            if guess:
                assert_share(int(hits), len(group), guess, f"{shape}/{kind}: {name}")
            else:
                # Invented names cannot be guessed; a year sometimes can (1 in 60 is far above what happens).
                assert hits <= len(group) / 60, f"{shape}/{kind}: {name} scored {hits} of {len(group)}"


def comparisons(kinds: Iterable[str] = ("hotpotqa", "2wikimultihopqa", "mixed")) -> list[Record]:
    return [record for shape in kinds for record in records(shape) if record.options]


def test_yes_and_no_are_balanced_in_every_type_and_wording() -> None:
    by_type: dict[str, list[Record]] = defaultdict(list)
    for record in comparisons():
        if record.options == ("yes", "no"):
            by_type[record.type].append(record)
            by_type[" ".join(record.question.split()[:2])].append(record)
    assert {"comparison", "bridge_comparison"} <= set(by_type)
    for name, group in by_type.items():
        if len(group) >= 60:
            assert_share(sum(record.answer == "yes" for record in group), len(group), 0.5, name)


def named() -> list[Record]:
    return [record for record in comparisons() if record.options != ("yes", "no")]


@pytest.mark.parametrize("kind", ["comparison", "bridge_comparison"])
def test_the_answer_is_as_often_the_second_name_as_the_first(kind: str) -> None:
    group = [record for record in named() if record.type == kind]
    assert_share(sum(record.answer == record.options[0] for record in group), len(group), 0.5, kind)
    for record in group:
        assert record.question.index(record.options[0]) < record.question.rindex(record.options[1])


def test_the_wording_of_a_comparison_does_not_tell_the_position() -> None:
    """Neither does the kind of thing compared, nor whether the question asks for the larger or the smaller."""
    first: dict[str, list[bool]] = defaultdict(list)
    for shape in ("hotpotqa", "2wikimultihopqa", "mixed"):
        items = SyntheticItems(shape=shape, num_docs=40, questions_per_episode=10)
        for index in range(120):
            for record, query in zip(items.item(index).questions, items.ground_truth(index).queries, strict=True):
                if isinstance(query, Extreme):
                    for wording in (str(query.largest), query.path[-1], query.path[-1] + str(query.largest)):
                        first[wording].append(record.answer == record.options[0])
    assert {"True", "False", "born", "released"} <= set(first)
    for wording, answers in first.items():
        if len(answers) >= 60:
            assert_share(sum(answers), len(answers), 0.5, wording)


def test_neither_alphabet_nor_length_tells_which_of_two_names_is_the_answer() -> None:
    group = named()
    assert_share(sum(record.answer == min(record.options) for record in group), len(group), 0.5, "alphabet")
    uneven = [record for record in group if len(record.options[0]) != len(record.options[1])]
    assert_share(sum(record.answer == max(record.options, key=len) for record in uneven), len(uneven), 0.5, "length")


def test_neither_mentions_nor_document_length_tell_which_of_two_names_is_the_answer() -> None:
    mentions: Counter[bool] = Counter()
    lengths: Counter[bool] = Counter()
    for shape in ("hotpotqa", "2wikimultihopqa", "mixed"):
        items = SyntheticItems(shape=shape, num_docs=120, questions_per_episode=10, split="test")
        for index in range(60):
            item = items.item(index)
            everything = "\n".join(f"{document.title}\n{document.text}" for document in item.documents)
            text_of = {document.title: document.text for document in item.documents}
            for record in item.questions:
                if record.options and record.options != ("yes", "no"):
                    often = {option: everything.count(option) for option in record.options}
                    if len(set(often.values())) == 2:
                        mentions[record.answer == max(often, key=lambda o: often[o])] += 1
                    sizes = {option: len(text_of[option]) for option in record.options}
                    if len(set(sizes.values())) == 2:
                        lengths[record.answer == max(sizes, key=lambda o: sizes[o])] += 1
    assert_share(mentions[True], mentions.total(), 0.5, "more mentions")
    assert_share(lengths[True], lengths.total(), 0.5, "longer document")


@pytest.mark.parametrize("shape", ALL_SHAPES)
def test_the_answer_is_not_the_object_that_a_question_s_documents_state_most_often(shape: str) -> None:
    items = SyntheticItems(shape=shape, num_docs=40, questions_per_episode=5)
    hits, chances = 0.0, []
    for index in range(60):
        truth = items.ground_truth(index)
        for record, query in zip(items.item(index).questions, truth.queries, strict=True):
            if isinstance(query, Follow):
                facts = (truth.facts[document.title] for document in record.documents)
                counts = Counter(value for known in facts for value in known.get(query.path[-1], ()))
                commonest = [value for value in counts if counts[value] == max(counts.values())]
                hits += (record.answer in commonest) / len(commonest)
                chances.append(1 / len(counts))
    share = float(np.mean(chances))
    assert len(chances) > 80
    assert hits / len(chances) <= share + Z * sqrt(share * (1 - share) / len(chances))
