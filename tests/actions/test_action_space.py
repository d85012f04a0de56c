"""The spaces of text: what is in them, what they draw, and how Gymnasium treats them (SPEC A7)."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector.utils import batch_space, concatenate, create_empty_array, create_shared_memory, iterate

from atommem_gym.actions import DIALECTS, KINDS, ActionText, Invalid, UnicodeText, parse
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
