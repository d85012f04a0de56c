"""The spaces of text: what is in them, what they draw, and how Gymnasium treats them (SPEC A7)."""

from __future__ import annotations

import copy
import pickle
from collections import Counter
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, create_shared_memory, iterate
from support.messages import says

from atommem_gym.actions import (
    DIALECTS,
    KINDS,
    ActionText,
    Create,
    Delete,
    Invalid,
    Read,
    UnicodeText,
    Update,
    format_action,
    parse,
)
from atommem_gym.actions.operations import operation
from atommem_gym.errors import ConfigError

DIALECT_NAMES = sorted(DIALECTS)


@pytest.mark.parametrize("make", [UnicodeText, ActionText])
def test_A7_any_string_up_to_the_limit_is_in_the_space_and_nothing_else(make: type[UnicodeText]) -> None:
    space = make(10)
    assert isinstance(space, spaces.Text)
    for text in ("", "a", "né ☃\n\x00", "\ud800", "😀" * 10, "x" * 10, np.str_("abc")):
        assert text in space
    for other in ("x" * 11, b"abc", 3, None, ["a"], ("a",), np.array("abc"), np.array(["a"])):
        assert other not in space


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_A7_samples_are_well_formed_and_reach_every_operation(dialect: str) -> None:
    space = ActionText(1000, dialect=dialect, seed=0)
    seen: set[str] = set()
    for _ in range(100):
        action = space.sample()
        ops = parse(action, dialect)
        assert action in space
        assert 1 <= len(ops) <= 3
        assert not any(isinstance(op, Invalid) for op in ops)
        seen |= {op.kind for op in ops}
    assert seen == set(KINDS)


@pytest.mark.parametrize("dialect", DIALECT_NAMES)
def test_A7_samples_fit_every_limit_and_hold_an_operation_where_one_fits(dialect: str) -> None:
    shortest = {"crud": 17, "released": 38, "tools": 80}[dialect]
    for limit in [*range(0, 100, 7), 100, 150]:
        space = ActionText(limit, dialect=dialect, seed=limit)
        for _ in range(10):
            action = space.sample()
            assert action in space
            ops = parse(action, dialect)
            assert not any(isinstance(op, Invalid) for op in ops)
            if limit >= shortest:
                assert ops


def test_A7_samples_keep_to_the_operations_asked_for() -> None:
    space = ActionText(1000, kinds=("read", "answer"), seed=1)
    assert {op.kind for _ in range(50) for op in parse(space.sample())} == {"read", "answer"}


def test_A7_equal_seeds_draw_equal_samples_and_the_global_generators_are_left_alone() -> None:
    np.random.seed(0)
    before = np.random.get_state()[1].copy()  # type: ignore[index]
    first, second = ActionText(500, seed=7), ActionText(500)
    second.seed(7)
    drawn = [first.sample() for _ in range(20)]
    assert drawn == [second.sample() for _ in range(20)]
    assert len(set(drawn)) > 10
    first.seed(7)
    assert drawn == [first.sample() for _ in range(20)]
    assert drawn != [ActionText(500, seed=8).sample() for _ in range(20)]
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]


@pytest.mark.parametrize("space", [ActionText(300, dialect="tools", kinds=("read",), seed=3), UnicodeText(30, seed=3)])
def test_A7_copies_are_equal_and_draw_on_by_themselves(space: UnicodeText) -> None:
    space.sample()
    for twin in (pickle.loads(pickle.dumps(space)), copy.deepcopy(space)):
        assert twin == space
        assert (twin.max_length, repr(twin)) == (space.max_length, repr(space))
        state = copy.deepcopy(space)
        assert [twin.sample() for _ in range(5)] == [state.sample() for _ in range(5)]


def test_A7_equality_looks_at_length_dialect_and_operations() -> None:
    space = ActionText(10, seed=1)
    assert space == ActionText(10, seed=2)
    assert ActionText(10, kinds=["read"]) == ActionText(10, kinds=("read",))
    others: list[object] = [ActionText(11), ActionText(10, dialect="tools"), ActionText(10, kinds=("read",))]
    others += [UnicodeText(10), spaces.Text(10), spaces.Text(10, min_length=0, charset=" "), "x", None]
    for other in others:
        assert space != other
        assert other != space
    assert len({repr(s) for s in (space, *others[:4])}) == 5


@pytest.mark.parametrize("space", [ActionText(300, seed=5), UnicodeText(30, seed=5)])
def test_A7_spaces_are_batched_as_tuples(space: UnicodeText) -> None:
    batch = batch_space(space, 3)
    assert isinstance(batch, spaces.Tuple)
    assert batch == spaces.Tuple([space] * 3)
    texts = ("né ☃", "", "x")
    assert texts in batch
    assert (*texts[:2], "x" * 301) not in batch
    drawn = batch.sample()
    assert drawn in batch
    assert len(set(drawn)) == 3
    assert list(iterate(batch, drawn)) == list(drawn)
    assert batch_space(space, 3).sample() == drawn
    empty = create_empty_array(space, 3)
    assert empty == ("", "", "")
    assert empty in batch
    assert concatenate(space, texts, empty) == texts


def test_A7_a_dict_with_text_is_batched_and_sampled() -> None:
    space = spaces.Dict({"text": UnicodeText(30), "memories": spaces.Sequence(spaces.Dict({"text": UnicodeText(9)}))})
    space.seed(4)
    batch = batch_space(space, 3)
    assert batch.sample() in batch
    assert create_empty_array(space, 3)["text"] == ("", "", "")  # type: ignore[call-overload,index]


def test_A7_masks_raise_and_flattening_is_declined() -> None:
    for space in (UnicodeText(10), ActionText(10)):
        with pytest.raises(ValueError, match="neither mask nor probability"):
            space.sample(mask=(3, None))
        with pytest.raises(ValueError, match="neither mask nor probability"):
            space.sample(probability=(3, None))
        assert not space.is_np_flattenable


def test_A7_a_bad_space_raises_when_it_is_made() -> None:
    with pytest.raises(ConfigError, match=r"'xml'.*crud"):
        ActionText(10, dialect="xml")
    with pytest.raises(ConfigError, match="kinds="):
        ActionText(10, kinds=())
    with pytest.raises(ConfigError, match=r"kinds=.*create"):
        ActionText(10, kinds=("search",))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="max_length=-1 must be at least 0"):
        UnicodeText(-1)


@pytest.mark.parametrize("space", [UnicodeText(2**31 - 1), UnicodeText(3), ActionText(200_000)], ids=str)
def test_finding_4_7_texts_are_never_made_an_array(space: UnicodeText) -> None:
    """Gymnasium's own form of a text field has a number for each character: 8 GiB."""
    nested = spaces.Dict({"a": spaces.Tuple([space])})
    for ask in (spaces.flatdim, spaces.flatten_space):
        with pytest.raises(ConfigError, match=r"cannot be flattened; .* MacroActions with EmbeddingObservation"):
            ask(space)
    with pytest.raises(ConfigError, match="cannot be flattened"):
        spaces.flatten_space(nested)
    for convert in (spaces.flatten, spaces.unflatten):
        with pytest.raises(ConfigError, match="cannot be flattened"):
            convert(space, "abc")
    for one in (space, nested):
        with pytest.raises(ConfigError, match=r"vector_kwargs=\{'shared_memory': False\}"):
            create_shared_memory(one, n=2)


def test_finding_4_7_other_text_spaces_are_as_gymnasium_has_them() -> None:
    assert spaces.flatdim(spaces.Text(5)) == 5
    assert spaces.flatten_space(spaces.Text(5)).shape == (5,)
    assert len(create_shared_memory(spaces.Text(5), n=2)) == 10


# -- samples, and what a space says of itself


def test_A7_a_sample_has_one_to_three_operations_with_one_to_five_words_and_ids_from_one_to_eight() -> None:
    space = ActionText(10_000, seed=0)
    ops = [parse(space.sample()) for _ in range(600)]
    numbers = Counter(map(len, ops))
    assert set(numbers) == {1, 2, 3}
    assert max(numbers.values()) < 250
    every = [op for found in ops for op in found]
    assert {op.id for op in every if isinstance(op, Update | Delete)} == set(range(1, 9))
    words = {len(op.query.split()) for op in every if isinstance(op, Read)}
    assert words == {1, 2, 3, 4, 5}
    vocabulary = {word for op in every if isinstance(op, Create) for word in op.text.split()}
    assert {"amber", "prairie", "river", "zephyr"} < vocabulary
    assert len(vocabulary) == 25
    assert all(word.isalpha() for word in vocabulary)


def test_A7_a_sample_fills_its_length_to_the_last_character() -> None:
    operations = {
        kind: len(format_action([made], "crud"))
        for kind in KINDS
        if not isinstance(made := operation(kind, "kiln", 1), Invalid)
    }
    assert operations["read"] == 17
    for kind, length in operations.items():
        space = ActionText(length, kinds=[kind], seed=0)
        samples = {space.sample() for _ in range(50)}
        assert "" not in samples
        assert max(map(len, samples)) == length
        assert ActionText(length - 1, kinds=[kind], seed=0).sample() == ""
    pair = ActionText(2 * operations["delete"] + 1, kinds=["delete"], seed=0)
    assert {len(pair.sample()) for _ in range(60)} == {operations["delete"], pair.max_length}


def test_A7_where_only_one_word_fits_every_operation_that_fits_is_drawn() -> None:
    space = ActionText(23, seed=1)
    kinds = {op.kind for _ in range(300) for op in parse(space.sample())}
    assert kinds == {"read", "delete", "create", "answer"}


def test_A7_unicode_text_samples_one_to_five_words_up_to_its_length() -> None:
    space = UnicodeText(200, seed=0)
    assert {len(space.sample().split(" ")) for _ in range(100)} == {1, 2, 3, 4, 5}
    short = UnicodeText(3, seed=0)
    assert {len(short.sample()) for _ in range(20)} == {3}
    assert UnicodeText(0, seed=0).sample() == ""


@pytest.mark.parametrize("make", [UnicodeText, ActionText])
@pytest.mark.parametrize("asked", [{"mask": ()}, {"probability": ()}])
def test_A7_a_mask_is_refused_by_name(make: type[UnicodeText], asked: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="neither mask nor probability") as caught:
        make(10).sample(**asked)
    says(caught.value, f"{make.__name__}.sample", "mask", "probability", "no charset")


@pytest.mark.parametrize("kinds", [(), ("search",), ("read", "search")])
def test_A7_bad_kinds_are_named_with_those_there_are(kinds: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ActionText(10, kinds=kinds)
    says(caught.value, f"kinds={kinds!r}", "at least one", *KINDS, "nothing else")


def test_A7_a_space_shows_what_it_is() -> None:
    assert repr(UnicodeText(7)) == "UnicodeText(7)"
    assert repr(ActionText(7, dialect="tools", kinds=["read"])) == "ActionText(7, dialect='tools', kinds=('read',))"
    assert UnicodeText(7) == UnicodeText(7)
    assert UnicodeText(7) != UnicodeText(8)
    assert UnicodeText(7).is_np_flattenable is False
