"""What a kept memory is written as, and what it is when it is opened again (SPEC M13)."""

from __future__ import annotations

import json

import pytest
from support.messages import says

from atommem_gym.errors import StoreError
from atommem_gym.memory.memory import Draft, Entry, Limits, Memory
from atommem_gym.tokenizers import load_tokenizer

WORDS = load_tokenizer("words")


def test_M13_a_kept_memory_goes_on_with_its_ids_its_next_id_and_its_scratchpad() -> None:
    memory = Memory({7: Entry("b", 1), 3: Entry("a b c", 3)}, 9, "note")
    state = memory.kept_state("hashing")
    assert json.loads(state) == {"next_id": 9, "scratchpad": "note", "embedder": "hashing"}
    found = Memory.from_kept("k", [7, 3], ["b", "a b c"], state, "hashing", WORDS)
    assert found == memory
    assert list(found.entries) == [3, 7]
    draft = Draft(found, Limits(512, 512, None), WORDS)
    assert draft.scratchpad == "note"
    assert draft.create("c").id == 9


def test_M13_another_embedder_than_the_one_it_was_written_with_is_an_error() -> None:
    state = Memory().kept_state("hashing")
    with pytest.raises(StoreError) as caught:
        Memory.from_kept("k", [], [], state, "minilm", WORDS)
    says(caught.value, "'k'", "embedder 'hashing'", "'minilm'", "cannot be compared", "with embedder 'hashing'")


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        "{",
        "[]",
        "null",
        '{"scratchpad": "", "embedder": "hashing"}',
        '{"next_id": 1, "embedder": "hashing"}',
        '{"next_id": 1, "scratchpad": ""}',
        '{"next_id": "one", "scratchpad": "", "embedder": "hashing"}',
        '{"next_id": null, "scratchpad": "", "embedder": "hashing"}',
    ],
)
def test_M13_an_unreadable_state_is_an_error_that_names_the_memory(state: str | None) -> None:
    with pytest.raises(StoreError, match=r"^the memory 'k' has no readable state \(.+\); it was not written by a kept"):
        Memory.from_kept("k", [], [], state, "hashing", WORDS)


def test_M13_every_kept_id_needs_its_text() -> None:
    with pytest.raises(ValueError, match="zip"):
        Memory.from_kept("k", [1, 2], ["a"], Memory(next_id=3).kept_state("hashing"), "hashing", WORDS)
