"""What the operations of a step make of a memory before it is committed (SPEC M1, M2, M8, M10, M13)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from support.messages import says

from atommem_gym.memory.memory import Draft, Entry, Limits, Memory, Outcome
from atommem_gym.memory.protocols import MAX_TEXT_BYTES
from atommem_gym.tokenizers import load_tokenizer

WORDS = load_tokenizer("words")


def draft_of(memory: Memory, entries: int | None = None, tokens: int = 512) -> Draft:
    return Draft(memory, Limits(tokens, tokens, entries), WORDS)


def memory_of(*texts: str) -> Memory:
    return Memory({i: Entry(text, WORDS.count(text)) for i, text in enumerate(texts, 1)}, len(texts) + 1)


def test_M1_M2_a_draft_counts_finds_and_lists_what_its_commit_will_leave() -> None:
    memory = memory_of("a", "b", "c")
    draft = draft_of(memory)
    assert len(draft) == 3
    assert draft.create("b") == Outcome(True, 4)
    assert draft.create("d") == Outcome(True, 5)
    assert draft.update(1, "e") == Outcome(True, 1)
    assert draft.delete(2) == Outcome(True, 2)
    assert draft.delete(4) == Outcome(True, 4)
    assert draft.delete(1) == Outcome(True, 1)
    assert len(draft) == 2
    assert draft.writes == {5: Entry("d", 1)}
    assert draft.deletes == [1, 2]
    assert [draft.entry(i) for i in range(1, 7)] == [None, None, Entry("c", 1), None, Entry("d", 1), None]
    assert [draft.find(text) for text in "abcde"] == [None, None, 3, 5, None]
    assert memory == memory_of("a", "b", "c")
    draft.commit()
    assert memory == Memory({3: Entry("c", 1), 5: Entry("d", 1)}, next_id=6)


def test_M8_of_equal_texts_the_lowest_live_id_is_found() -> None:
    draft = draft_of(memory_of("x", "y", "x"))
    draft.create("y")
    assert (draft.find("x"), draft.find("y"), draft.find("z")) == (1, 2, None)
    draft.update(2, "z")
    draft.delete(1)
    assert (draft.find("x"), draft.find("y"), draft.find("z")) == (3, 4, 2)


@pytest.mark.parametrize("operation", ["update", "delete"])
def test_M8_an_unknown_id_is_rejected_with_its_number(operation: str) -> None:
    draft = draft_of(memory_of("a"))
    draft.delete(1)
    for entry_id in (1, 2):
        outcome = draft.update(entry_id, "x") if operation == "update" else draft.delete(entry_id)
        assert (outcome.applied, outcome.id, outcome.reason) == (False, None, "unknown_id")
        says(outcome.detail, "no entry", str(entry_id))
    assert (draft.writes, draft.deletes) == ({}, [1])


def test_M10_a_create_into_full_memory_is_rejected_with_the_limit() -> None:
    draft = draft_of(memory_of("a"), entries=2)
    assert draft.create("b").applied
    full = draft.create("c")
    assert (full.applied, full.id, full.reason) == (False, None, "memory_full")
    says(full.detail, "limit", "2 entries")
    assert draft.update(2, "d").applied
    assert draft.delete(1).applied
    assert draft.create("e") == Outcome(True, 3)


def test_M10_a_cut_names_the_rule_and_what_is_gone() -> None:
    draft = draft_of(memory_of("a"), tokens=2)
    outcomes = [draft.create("one two three"), draft.update(1, "one two three")]
    assert draft.writes == {1: Entry("one two", 2), 2: Entry("one two", 2)}
    outcomes.append(draft.write_scratchpad("one two three"))
    for outcome, entry_id in zip(outcomes, (2, 1, None), strict=True):
        assert (outcome.applied, outcome.id, outcome.reason) == (True, entry_id, "cut")
        says(outcome.detail, "2 tokens", "last 6", "13 characters")
    assert draft.scratchpad == "one two"
    assert draft.create("one two") == Outcome(True, 3)
    assert draft.write_scratchpad("four") == Outcome(True)


def test_M10_only_what_is_over_a_limit_goes_and_only_from_the_end() -> None:
    draft = draft_of(Memory(), tokens=2)
    draft.create("\n one  two three")
    assert draft.writes == {1: Entry("\n one  two", 2)}
    draft = draft_of(Memory(), tokens=8192)
    outcome = draft.create("x" * MAX_TEXT_BYTES + " over")
    assert draft.writes[1].text == "x" * MAX_TEXT_BYTES
    says(outcome.detail, "8192 tokens", "last 5", "65540 characters")


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x" * MAX_TEXT_BYTES, "x" * MAX_TEXT_BYTES),
        ("x" * (MAX_TEXT_BYTES + 1), "x" * MAX_TEXT_BYTES),
        ("é" * 32_767 + "é", "é" * 32_767),
        ("x" * (MAX_TEXT_BYTES - 1) + "  x", "x" * (MAX_TEXT_BYTES - 1)),
    ],
    ids=["at the limit", "one over", "within a character", "at white space"],
)
def test_M10_a_text_may_have_65535_bytes(text: str, kept: str) -> None:
    draft = draft_of(Memory(), tokens=10**6)
    outcome = draft.create(text)
    assert draft.writes[1] == Entry(kept, WORDS.count(kept))
    if text == kept:
        assert outcome == Outcome(True, 1)
    else:
        assert (outcome.applied, outcome.id, outcome.reason) == (True, 1, "cut")
        says(outcome.detail, "65535 bytes", f"last {len(text) - len(kept)}", f"{len(text)} characters")


@pytest.mark.parametrize(
    ("act", "changes"),
    [
        (lambda draft: draft.create("b"), True),
        (lambda draft: draft.write_scratchpad("s"), True),
        (lambda draft: draft.write_scratchpad(""), False),
        (lambda draft: draft.update(1, "b"), False),
        (lambda draft: draft.delete(1), False),
    ],
    ids=["create", "scratchpad", "same scratchpad", "update", "delete"],
)
def test_M13_only_a_next_id_or_a_scratchpad_changes_the_kept_state(
    act: Callable[[Draft], Outcome], changes: bool
) -> None:
    memory = memory_of("a")
    draft = draft_of(memory)
    assert act(draft).applied
    assert draft.changes_kept_state is changes
    assert draft.committed().entries == {}
    before, announced = memory.kept_state("e"), draft.committed().kept_state("e")
    draft.commit()
    assert memory.kept_state("e") == announced
    assert (announced != before) is changes
