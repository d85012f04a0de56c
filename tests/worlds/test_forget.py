"""The forget family (SPEC D9): codes that are told, changed and asked to be erased, as contexts (SPEC E14)."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from statistics import fmean
from typing import Any

import gymnasium as gym
import pytest

from atommem_gym.actions import Delete, Operation
from atommem_gym.agents import Agent, make_agent
from atommem_gym.agents.play import play_episode
from atommem_gym.agents.scripted.keep_all import KeepAllAgent
from atommem_gym.agents.scripted.tidy import TidyAgent
from atommem_gym.errors import ConfigError
from atommem_gym.evidence import holds
from atommem_gym.memory.memory import squeezed
from atommem_gym.records.record import Document, Item, Record
from atommem_gym.step import Observation
from atommem_gym.worlds.contexts import CONTEXTS
from atommem_gym.worlds.forget import ForgetItems, ForgetOptions

ENV_ID = "AtomMem-Forget-v0"
CODE = re.compile(r"\b[B-Z2-9]{4}-[B-Z2-9]{4}\b")
_VERB = re.compile(r"\b(?:erase|forget|delete|remove) the (.+? code of [^.;,]+)")
EPISODES = 6


@lru_cache
def items(questions: int = 4, split: str = "train", **options: Any) -> ForgetItems:
    return ForgetItems(options=ForgetOptions(**options), split=split, questions_per_episode=questions)


def answer_by_reading(question: str, documents: Sequence[Document]) -> str:
    """The answer of somebody who has nothing but the sessions and their rules."""
    asked = re.fullmatch(r'What is the (.+) at present\? If .* say "unknown"\.', question)
    assert asked
    known = "unknown"
    for document in documents[1:]:
        for line in document.text.split("\n"):
            if asked[1] in line:
                found = CODE.search(line)
                known = found[0] if found else "unknown"
    return known


def test_D9_a_careful_reader_of_the_sessions_finds_every_answer() -> None:
    kinds = set()
    for index in range(40):
        item = items().item(index)
        for record in item.questions:
            wanted = record.answer if record.answerable else "unknown"
            assert answer_by_reading(record.question, item.documents) == wanted, record.question
            kinds.add((record.type, record.answerable))
    assert kinds == {("kept", True), ("erased", False)}


def test_D9_a_request_names_the_fact_and_never_its_code() -> None:
    for index in range(20):
        item = items().item(index)
        requests = [line for document in item.documents[1:] for line in document.text.split("\n") if _VERB.search(line)]
        assert len(requests) == ForgetOptions().requests
        assert not any(CODE.search(line) for line in requests)


def test_D9_the_erased_codes_are_all_that_were_told_of_what_is_to_be_erased() -> None:
    for index in range(20):
        item = items(erased=0.4, changed=1.0, sessions=80).item(index)
        text = "\n".join(document.text for document in item.documents[1:])
        facts = [match[1].removesuffix(" from your notes") for match in _VERB.finditer(text)]
        lines = [line for line in text.split("\n") if any(f"{fact} " in f"{line[:-1]} " for fact in facts)]
        told = [match[0] for line in text.split("\n") for match in CODE.finditer(line) if any(f in line for f in facts)]
        assert lines
        assert sorted(told) == sorted(item.erased)
        assert len(told) == 2 * len(facts)


def test_D9_a_code_and_the_request_lie_apart() -> None:
    gaps = []
    for index in range(30):
        item = items(distance=12).item(index)
        for record in item.questions:
            if record.answerable:
                continue
            fact = record.question.removeprefix("What is the ").split(" at present")[0]
            places = [i for i, document in enumerate(item.documents) if fact in document.text]
            gaps.append(places[-1] - places[0])
    assert min(gaps) >= 4
    assert fmean(gaps) > 20


def test_D9_evidence_is_the_line_that_gives_the_code_in_force() -> None:
    for index in range(30):
        item = items().item(index)
        for record in item.questions:
            assert len(record.evidence) == len(record.gold) == int(record.answerable)
            for piece, document in zip(record.evidence, record.gold_documents, strict=True):
                assert piece.title == document.title
                assert holds(piece, document.text)
                assert piece.hop_answer == record.answer in piece.text


def test_D7_sessions_are_dated_in_the_order_of_time() -> None:
    for index in range(10):
        documents = items().item(index).documents
        dates = [datetime.fromisoformat(document.date) for document in documents]
        assert dates == sorted(dates)
        assert all(document.speakers[1] == "Assistant" for document in documents)


def test_E14_an_item_is_one_context_and_some_of_its_questions_each_in_one_item() -> None:
    found = items(5)
    assert found.num_items == 3 * CONTEXTS
    groups = [found.item(7 + i * CONTEXTS) for i in range(3)]
    assert {item.documents for item in groups} == {groups[0].documents}
    assert [len(item.questions) for item in groups] == [5, 5, 2]
    asked = [record.id for item in groups for record in item.questions]
    assert sorted(asked) == sorted(record.id for record in found.context(7).questions)
    assert len(set(asked)) == 12
    assert {record.context for item in groups for record in item.questions} == {"forget-train-7"}
    assert found.item(8).documents != groups[0].documents
    with pytest.raises(IndexError, match="items 0 to 2999"):
        found.item(3000)
    with pytest.raises(IndexError):
        found.item(-1)


def test_E8_items_depend_on_split_index_and_seed_alone() -> None:
    one, again = items(), ForgetItems(questions_per_episode=4)
    for index in (0, 3, 1500, 3):
        assert one.item(index, 2) == again.item(index, 2)
    layouts = {tuple(record.id for record in one.item(3, seed).questions) for seed in range(8)}
    assert len(layouts) > 2
    assert one.item(3, 1).documents == one.item(3).documents
    assert not {d.title for d in one.item(0).documents[1:]} & {d.title for d in items(split="test").item(0).documents}


def test_M15_items_are_the_same_in_another_process() -> None:
    code = (
        "from atommem_gym.worlds.forget import ForgetItems\n"
        "item = ForgetItems(questions_per_episode=4).item(77, 3)\n"
        "print(hashlib.sha256(repr(item).encode()).hexdigest())"
    )
    said = subprocess.run([sys.executable, "-c", f"import hashlib\n{code}"], check=True, capture_output=True)
    here = repr(items().item(77, 3))
    assert said.stdout.decode().strip() == hashlib.sha256(here.encode()).hexdigest()


# -- an audit: what can be had without deleting, and without the stream


def test_R5_the_shares_of_kinds_are_as_said_and_no_answer_is_guessed() -> None:
    records = [record for index in range(150) for record in items().item(index).questions]
    share = sum(not record.answerable for record in records) / len(records)
    assert abs(share - 0.25) < 0.06
    answers = [record.answer for record in records if record.answerable]
    assert len(set(answers)) == len(answers)
    assert not any(squeezed(record.answer) in squeezed(record.question) for record in records if record.answerable)


def test_D9_neither_place_nor_name_of_a_code_tells_whether_it_is_erased() -> None:
    """Guessing by the kind of code, and by where it was told, is no better than guessing by the share."""
    by_lock: dict[str, list[bool]] = {}
    early: dict[bool, list[int]] = {True: [], False: []}
    for index in range(200):
        item = items().item(index)
        for record in item.questions:
            fact = record.question.removeprefix("What is the ").split(" at present")[0]
            by_lock.setdefault(fact.split(" of ")[0], []).append(record.answerable)
            early[record.answerable].append(next(i for i, d in enumerate(item.documents) if fact in d.text))
    for lock, answerable in by_lock.items():
        assert abs(fmean(answerable) - 0.75) < 0.22, (lock, len(answerable))
    assert abs(fmean(early[True]) - fmean(early[False])) < 4


class DeletesAllAtTheEnd(KeepAllAgent):
    """Keeps what it can, and throws it all away before it answers."""

    name = "deletes all at the end"

    def answer(self, observation: Observation) -> Sequence[Operation]:
        everything = [Delete(i) for i in range(1, 200)] if observation["reads_left"] == 3 else []
        return [*everything, *super().answer(observation)]


def played(agent: Agent, **keywords: Any) -> list[Any]:
    env = gym.make(ENV_ID, store="numpy", questions_per_episode=4, **keywords)
    found = [play_episode(env, agent, index) for index in range(EPISODES)]
    env.close()
    return found


def em(found: Sequence[Any]) -> float:
    return fmean(one.em for one in found)


def test_D9_an_add_only_policy_fails() -> None:
    assert em(played(make_agent("keep_all"))) == 0.0
    # Even where everything fits, and nothing is lost.
    assert em(played(make_agent("keep_all"), max_entries=None)) == 0.0


def test_D9_a_policy_without_delete_fails_however_it_rewrites() -> None:
    with_all, without = played(TidyAgent()), played(TidyAgent(), operations=["create", "read", "update"])
    assert em(with_all) >= 0.95
    assert em(without) == 0.0
    closed = {answer["closed"] for one in without for answer in one.answers}
    assert closed == {"not_erased"}


def test_D9_a_policy_that_deletes_all_at_the_end_fails() -> None:
    found = played(DeletesAllAtTheEnd())
    assert em(found) <= em(played(make_agent("silent"))) <= 0.35


def test_D9_the_oracle_obeys_the_requests_and_answers_all() -> None:
    found = played(make_agent("oracle"))
    assert em(found) == 1.0


def test_D9_no_memory_at_all_gets_the_questions_without_an_answer_and_no_other() -> None:
    for one in played(make_agent("silent")):
        assert all(answer["em"] == float(not answer["answerable"]) for answer in one.answers)


# -- knobs and bad input


@pytest.mark.parametrize(
    "keywords",
    [
        {"sessions": 30, "places": 4, "distance": 2, "questions": 8},
        {"sessions": 200, "distance": 40},
        {"erased": 0.0, "unanswerable": 0.0},
        {"changed": 0.0, "chatter": 0},
        {"codes": 8, "places": 2, "unanswerable": 0.4},
    ],
)
def test_D9_knobs(keywords: dict[str, Any]) -> None:
    options = ForgetOptions(**keywords)
    found = ForgetItems(options=options, questions_per_episode=2)
    for index in range(3):
        item: Item = found.item(index)
        assert len(item.documents) == options.sessions
        assert item.erased
        context = found.context(index)
        asked: list[Record] = [record for record in context.questions if not record.answerable]
        assert len(asked) == options.abstentions


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"num_docs": 60}, "num_docs=60 contradicts AtomMem-Forget-v0: contexts come whole"),
        ({"order": "shuffled"}, "order='shuffled' contradicts AtomMem-Forget-v0"),
        ({"order": "gold_last"}, "order='gold_last' contradicts AtomMem-Forget-v0"),
        ({"source": "hub"}, "source='hub' contradicts AtomMem-Forget-v0"),
        ({"split": "tests"}, "split='tests' must be one of"),
        ({"sessions": 30}, "sessions=30 is too small: 24 codes, 6 changes and 7 requests need 38"),
        ({"sessions": 0}, "sessions"),
        ({"sessions": 60.5}, "sessions"),
        ({"distance": 20}, "distance=20 contradicts sessions=60"),
        ({"erased": 1.5}, "erased=1.5 must be a number from 0 to 1"),
        ({"erased": True}, "erased=True must be"),
        ({"unanswerable": 1.0}, "12 are about erased codes, of which a context has 7"),
        ({"questions": 40}, "questions=40 is too much"),
        ({"codes": 9}, "codes"),
        ({"questions_per_episode": 13}, "questions_per_episode=13 is too much for contexts of 12 questions"),
        ({"haystack": 1}, "unknown keyword argument 'haystack'"),
    ],
)
def test_D9_bad_input_is_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        gym.make(ENV_ID, store="numpy", **keywords)


def test_D9_order_given_and_what_a_config_says_of_itself_are_taken(tmp_path: Path) -> None:
    env: Any = gym.make(ENV_ID, store="numpy", order="given", num_docs=None)
    keywords = env.unwrapped.config.as_keywords()
    assert (keywords["scratchpad"], keywords["max_entries"], keywords["order"]) == (False, 20, "given")
    gym.make(ENV_ID, **keywords).close()
    env.close()


def test_D9_difficulty_makes_streams_longer_and_requests_later() -> None:
    env: Any = gym.make(ENV_ID, store="numpy", difficulty=0.0)
    easy = env.unwrapped.config.options
    env.close()
    env = gym.make(ENV_ID, store="numpy", difficulty=1.0)
    assert env.unwrapped.config.options == ForgetOptions()
    assert (easy.sessions, easy.changed, easy.chatter) == (36, 0.0, 0)
    assert easy.distance < ForgetOptions().distance
    env.reset(options={"index": 0, "difficulty": 0.5})
    assert len(env.unwrapped.item.documents) == 48
    env.close()
