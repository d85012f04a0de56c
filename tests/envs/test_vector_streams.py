"""What makes vector environments quick changes nothing: pooled documents, streams, counts, infos, ordinary actions."""

from __future__ import annotations

import pickle
from typing import Any
from unittest import mock

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import VectorEnv
from hypothesis import example, given
from hypothesis import strategies as st

from atommem_gym.actions import DIALECTS, parse, tags
from atommem_gym.envs.atommem_env import AtomMemEnv
from atommem_gym.envs.batching import batch_infos
from atommem_gym.envs.vector_env import AtomMemVectorEnv
from atommem_gym.records.corpus import from_records
from atommem_gym.records.documents import Pool, PoolDocuments
from atommem_gym.records.record import Document, Item, Items, Record
from atommem_gym.records.stream import Stream
from atommem_gym.testing import actions, budget, hostile_texts
from atommem_gym.tokenizers import WordTokenizer, load_tokenizer

WORDS = load_tokenizer("words")
text = st.text(st.sampled_from("ab東 🎉<\n\0é_9"), max_size=20) | st.text("a ", min_size=7, max_size=40)


def pooled(documents: list[Document]) -> PoolDocuments:
    """The documents as an item of a split has them; equal ones have one number."""
    pool = from_records("drawn", "train", [Record("r", "q", "a", tuple(documents), (), ())]).pool
    number = {pool.document(i): i for i in range(len(pool))}
    return pool.documents(np.array([number[document] for document in documents], np.int64))


documents = st.lists(st.builds(Document, text, text), max_size=8)


@budget(40)
@given(documents, st.integers(1, 30), st.integers(0, 12))
@example([Document("", " " * 9), Document(" " * 20, ""), Document("a", "b" + " " * 7)], 3, 0)
@example([Document("a", "b\n\n"), Document("\n\n", "\n\n"), Document("", "c\n\n")], 2, 1)
def test_E1_a_stream_of_pooled_documents_is_that_of_the_documents(
    documents: list[Document], size: int, overlap: int
) -> None:
    plain, lazy = Stream(documents, WORDS, size, overlap), Stream(pooled(documents), WORDS, size, overlap)
    assert (lazy.num_tokens, lazy.num_chunks, lazy.text) == (plain.num_tokens, plain.num_chunks, plain.text)
    # Backwards, so that no place is known from the chunk before.
    for index in reversed(range(plain.num_chunks)):
        assert lazy.chunk(index) == plain.chunk(index)
        assert lazy.core(index) == plain.core(index)
    assert "".join(lazy.core(i) for i in range(lazy.num_chunks)) == lazy.text


@given(st.lists(text | st.integers(1, 400).map(lambda n: "word, " * n), max_size=6))
def test_M10_words_count_the_same_together_and_one_by_one(texts: list[str]) -> None:
    assert WORDS.counts(texts) == [WORDS.count(one) for one in texts] == [len(WORDS.starts(one)) for one in texts]


@given(text | st.text(max_size=300))
@example("東" * 300 + "a" * 20 + " " * 17 + "b")
def test_E1_one_token_is_found_where_all_of_them_are(text: str) -> None:
    starts = WORDS.starts(text).tolist()
    assert isinstance(WORDS, WordTokenizer)
    assert [WORDS.start(text, token) for token in range(len(starts))] == starts


def test_E8_a_group_reads_one_stream_and_other_episodes_their_own() -> None:
    envs: Any = gym.make_vec("AtomMem-Synthetic-v0", num_envs=5, num_docs=20, store="numpy", chunk_tokens=100)
    envs.reset(options={"index": [3, 3, 4, 3, 3], "shuffle_seed": [0, 0, 0, 1, 0]})
    first, second, other, relaid, last = (episode.stream for episode in envs.unwrapped.episodes)
    assert first is second is last
    assert len({id(stream) for stream in (first, other, relaid)}) == 3
    # The members need not be in step.
    envs.step([""] * 5)
    envs.reset(options={"index": 3, "reset_mask": np.array([True, False, False, False, False])})
    observations, *_ = envs.step([""] * 5)
    assert envs.unwrapped.episodes[0].stream is first
    chunks = [first.core(1), first.core(2), other.core(2), relaid.core(2), first.core(2)]
    assert list(observations["chunk"]) == chunks
    assert len(set(chunks)) == 4
    envs.close()


class Fickle(Items):
    """Items whose documents are others at every look, in a sequence of this kind."""

    num_items = 1

    def __init__(self, kind: type[tuple[Document, ...]] | type[list[Document]]) -> None:
        self._kind = kind
        self._documents: list[Document] = [Document("Look", "0")]

    def item(self, index: int, shuffle_seed: int = 0) -> Item:
        self._documents[0] = Document("Look", str(int(self._documents[0].text) + 1))
        documents = tuple(self._documents) if self._kind is tuple else self._documents
        return Item("fickle/0", index, shuffle_seed, (Record("r", "q", "a", (), (), ()),), documents)


@pytest.mark.parametrize("kind", [tuple, list])
def test_E8_items_that_only_claim_to_be_the_same_share_nothing(kind: Any) -> None:
    env: Any = AtomMemEnv(items=Fickle(kind), store="numpy")
    assert [env.reset(options={"index": 0})[0]["chunk"][-1] for _ in range(3)] == ["1", "2", "3"]
    env.close()
    envs: Any = AtomMemVectorEnv(2, items=Fickle(tuple), store="numpy")
    observations, _ = envs.reset(options={"index": 0})
    assert observations["chunk"] == ("Document 1:\nLook\n1", "Document 1:\nLook\n2")
    envs.close()


def test_pooled_documents_behave_as_a_tuple() -> None:
    plain = (Document("Ada", "Bees."), Document("Bob", "Boats."), Document("Cy", "Cats é."))
    lazy = pooled(list(plain))
    assert lazy == plain
    assert plain == lazy
    assert lazy == pooled(list(plain))
    assert lazy != plain[:2]
    assert lazy != list(plain)
    assert (len(lazy), lazy[1], lazy[-1], lazy[1:], tuple(lazy)) == (3, plain[1], plain[2], plain[1:], plain)
    assert hash(lazy) == hash(plain)
    assert repr(lazy) == repr(plain)
    assert pickle.loads(pickle.dumps(lazy)) == plain
    assert plain[2] in lazy
    assert (lazy.index(plain[2]), lazy.count(plain[0])) == (2, 1)
    with pytest.raises(IndexError):
        lazy[3]


def test_every_document_of_a_pool_is_counted_once_and_a_reset_reads_none(hotpot_raw: Any) -> None:
    from atommem_gym.records.formats import hotpotqa
    from atommem_gym.records.items import RecordItems

    split = from_records("hotpotqa", "train", (hotpotqa.parse(hotpot_raw(number)) for number in range(30)))
    items = RecordItems(split, num_docs=60, questions_per_episode=1, order="shuffled")
    for index in range(30):
        Stream(items.item(index).documents, WORDS, 400)
    read: list[int] = []
    document = Pool.document

    def counting(pool: Pool, number: int) -> Document:
        read.append(number)
        return document(pool, number)

    with mock.patch.object(Pool, "document", counting):
        item = items.item(3)
        own = len(read)
        stream = Stream(item.documents, WORDS, 400)
        # The last document of a stream has no separator after it and is counted by itself.
        assert len(read) == own + 1 <= 12
        stream.chunk(0)
        # The one that is cut; it is looked up in whole documents' bytes otherwise.
        assert len(read) == own + 2
        stream.chunk(1)
        assert len(read) == own + 3


@pytest.mark.parametrize("dialect", DIALECTS)
@budget(20)
@given(data=st.data())
def test_A3_ordinary_actions_are_parsed_the_same_without_the_short_way(dialect: str, data: st.DataObject) -> None:
    written = actions(dialect) | hostile_texts()
    action = data.draw(st.lists(written, max_size=3).map("".join))
    quick = parse(action, dialect)
    with mock.patch.object(tags, "_plain", return_value=None):
        assert parse(action, dialect) == quick


NAMES = ("<create>", "</create>", "<Read>", "</read>", "<delete id='3'/>", '<update id="3">', "</update>", "<creat>")
MARKUP = (*NAMES, "<b>", "</b>", "<i/>", "x ", "<think>", "</think>", "<", "> ", "<create/>", "<answer>", "</answer>")


few = st.lists(st.sampled_from(MARKUP), min_size=2, max_size=4)
mixtures = few.flatmap(lambda some: st.lists(st.sampled_from(some), max_size=9)).map("".join)


@given(mixtures, st.booleans())
@example("<create>a</create><think><create>b</create>", False)
@example("<create>a</think>b</create></think><read>c</read>", True)
def test_A3_any_mixture_of_tags_is_scanned_the_same_without_the_short_way(action: str, others_enclose: bool) -> None:
    names = {"create", "read", "update", "delete", "answer"}
    for suspect in (None, lambda name: name == "creat"):
        quick = tags.scan(action, names, suspect=suspect, others_enclose=others_enclose)
        with mock.patch.object(tags, "_plain", return_value=None):
            assert tags.scan(action, names, suspect=suspect, others_enclose=others_enclose) == quick


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.tolist()
    return value


VALUES: dict[type, st.SearchStrategy[Any]] = {
    int: st.integers(-9, 9),
    float: st.floats(0, 1),
    str: st.text(max_size=3),
    list: st.lists(st.integers(), max_size=2),
    bool: st.booleans(),
}


@st.composite
def many_infos(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Infos in which a key has values of one kind, or is missing."""
    count = draw(st.integers(1, 4))
    kinds = {key: draw(st.sampled_from(list(VALUES))) for key in "abc"}
    infos: list[dict[str, Any]] = []
    for _ in range(count):
        info: dict[str, Any] = {key: draw(VALUES[kind]) for key, kind in kinds.items() if draw(st.booleans())}
        if draw(st.booleans()):
            info["applied"] = {"create": draw(st.integers(0, 3)), "read": 1}
        if draw(st.booleans()):
            info |= {"final_obs": {"phase": 1}, "final_info": {"episode_metrics": {"em": draw(st.floats(0, 1))}}}
        infos.append(info)
    return infos


@budget(40)
@given(many_infos(), st.integers(0, 3))
def test_batched_infos_are_those_of_gymnasium(infos: list[dict[str, Any]], first: int) -> None:
    envs: VectorEnv[Any, Any, Any] = VectorEnv()
    envs.num_envs = len(infos) + first
    expected: dict[str, Any] = {}
    for number, info in enumerate(infos, first):
        expected = envs._add_info(expected, info, number)
    numbers = range(first, envs.num_envs)
    assert plain(batch_infos(infos, numbers, envs.num_envs)) == plain(expected)


def test_spaces_are_batched_only_when_asked_for_and_have_generators_of_their_own() -> None:
    envs = gym.make_vec("AtomMem-Synthetic-v0", num_envs=500, num_docs=20, store="numpy")
    assert "action_space" not in vars(envs)
    envs.action_space.seed(3)
    sampled = envs.action_space.sample()
    assert len(set(sampled)) > 400
    envs.action_space.seed(3)
    assert envs.action_space.sample() == sampled
    envs.close()
