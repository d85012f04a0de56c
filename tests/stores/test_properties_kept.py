"""SPEC M14 (the item), M16, M17 and M18 as properties, on every store that has what they speak of."""

from __future__ import annotations

import pickle
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.fixed_items import fixed_env
from support.game import DOCUMENTS, QUESTIONS
from support.properties import STORES, Databases, Play, every_database, milvus_server  # noqa: F401
from support.servers import MilvusServer
from support.stores.on_disk import on_disk

from atommem_gym.actions import Create, Delete, Operation, Scratchpad, Update, format_action, parse
from atommem_gym.actions.operations import text_of
from atommem_gym.embedders.hashing_embedder import HashingEmbedder
from atommem_gym.envs import SyntheticEnv
from atommem_gym.errors import SnapshotError
from atommem_gym.memory.memory import Memory
from atommem_gym.memory.protocols import Embedded, TextKind, Vectors
from atommem_gym.stores import export_memory, purge
from atommem_gym.testing import budget, episodes

KEPT = ("mirror", "milvus", "server")
"""The stores that can keep a memory; numpy has none."""
READS = 20
"""Characters that the embedder of these tests reads."""
_secrets = st.integers(0, 9).map(lambda number: f"secret {number} of the ward")
_writes: st.SearchStrategy[Operation] = st.one_of(
    st.builds(Create, _secrets),
    st.builds(Update, st.integers(1, 4), _secrets),
    st.builds(Delete, st.integers(1, 4)),
    st.builds(Scratchpad, _secrets),
)
_sessions = st.lists(st.lists(st.lists(_writes, max_size=3), min_size=1, max_size=2), min_size=1, max_size=3)
"""Sessions of actions of operations."""


def keywords_of(kind: str, folder: Path, server: MilvusServer) -> dict[str, Any]:
    if kind == "server":
        return {"store": server.url, "keep_memory": True}
    return {"store": f"milvus://{folder}/kept.db", "store_reads": kind}


def where(keywords: dict[str, Any]) -> str:
    return str(keywords["store"])


def play_sessions(sessions: Sequence[Sequence[Sequence[Operation]]], **keywords: Any) -> tuple[str, Memory]:
    """Go on with one memory session by session; its key and its memory as the last session left it."""
    options: dict[str, Any] = {}
    for session in sessions:
        env = SyntheticEnv(num_docs=16, chunk_tokens=300, **keywords)
        env.reset(seed=0, options=options)
        for operations in session:
            env.step(format_action(operations, "crud"))
        options = {"memory": env.memory_key}
        key, memory = env.memory_key, env.episode.state.memory
        env.close()
    return key, memory


def texts_of(memory: Memory) -> dict[int, str]:
    return {number: entry.text for number, entry in memory.entries.items()}


def exported(keywords: dict[str, Any], key: str) -> dict[str, Any]:
    [found] = export_memory(where(keywords), key)
    return found


@pytest.mark.parametrize("kind", KEPT)
@given(sessions=_sessions)
@budget(4)
def test_M17_what_was_acknowledged_is_what_is_there(
    milvus_server: MilvusServer,  # noqa: F811
    kind: str,
    sessions: list[list[list[Operation]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keywords = keywords_of(kind, Path(folder), milvus_server)
        key, memory = play_sessions(sessions, **keywords)
        found = exported(keywords, key)
        assert {entry["id"]: entry["text"] for entry in found["entries"]} == texts_of(memory)
        assert (found["next_id"], found["scratchpad"]) == (memory.next_id, memory.scratchpad)
        # Only an embedded database has checksums; a server's rows are its own.
        assert all(entry["intact"] in ((None,) if kind == "server" else (True,)) for entry in found["entries"])
        assert not found["missing"]


@pytest.mark.parametrize("kind", ["mirror", "milvus"])
@given(sessions=_sessions)
@budget(4)
def test_M16_no_file_holds_what_no_memory_holds(
    milvus_server: MilvusServer,  # noqa: F811
    kind: str,
    sessions: list[list[list[Operation]]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keywords = keywords_of(kind, Path(folder), milvus_server)
        key, memory = play_sessions(sessions, **keywords)
        for number in range(10):
            secret = f"secret {number} of the ward"
            held = secret in texts_of(memory).values() or secret in memory.scratchpad
            assert bool(on_disk(Path(folder), secret.encode())) == held, secret
        purge(where(keywords), key)
        assert on_disk(Path(folder), b"of the ward") == []


@pytest.mark.parametrize("kind", KEPT)
@given(sessions=st.lists(_sessions, min_size=2, max_size=3), data=st.data())
@budget(3)
def test_M16_purging_one_memory_leaves_the_others(
    milvus_server: MilvusServer,  # noqa: F811
    kind: str,
    sessions: list[list[list[list[Operation]]]],
    data: st.DataObject,
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        keywords = keywords_of(kind, Path(folder), milvus_server)
        keys = [play_sessions(one, **keywords)[0] for one in sessions]
        before = {key: exported(keywords, key) for key in keys}
        gone = data.draw(st.sampled_from(keys))
        assert purge(where(keywords), gone) == 1
        left = {memory["key"]: memory for memory in export_memory(where(keywords)) if memory["key"] in keys}
        assert left == {key: memory for key, memory in before.items() if key != gone}


class Short:
    """Reads the first characters of a text."""

    name = "short"
    max_tokens = READS
    dim = 64

    def __init__(self) -> None:
        self._hashing = HashingEmbedder(self.dim)

    def embed(self, texts: Sequence[str], kind: TextKind) -> Vectors:
        return self.embed_in_part(texts, kind).vectors

    def embed_in_part(self, texts: Sequence[str], kind: TextKind) -> Embedded:
        vectors = self._hashing.embed([text[:READS] for text in texts], kind)
        return Embedded(vectors, {i: READS for i, text in enumerate(texts) if len(text) > READS})


@given(plan=episodes())
@budget(4)
def test_M18_exactly_the_texts_that_are_read_in_part_are_reported_and_stay_whole(
    every_database: Databases,  # noqa: F811
    plan: Any,
) -> None:
    seen = {}
    for kind in STORES:
        with Play(every_database.backend(kind, embedder=f"{__name__}:Short"), plan.item) as play:
            results = play.all(plan.actions)
            seen[kind] = repr(results)
            stored = play.entries
        told = [
            text_of(parse(action)[report["position"] - 1])
            for action, result in zip(plan.actions, results, strict=False)
            for report in result.info["rejected"]
            if report["reason"] == "embedded_in_part"
        ]
        assert all(len(text) > READS for text in told)
        assert {text for text in stored.values() if len(text) > READS} <= set(told)
    assert set(seen.values()) == {seen["numpy"]}


_changed = st.sampled_from(["question", "answer", "document", "none"])


@pytest.mark.parametrize("kind", STORES)
@given(change=_changed, steps=st.lists(st.lists(_writes, max_size=2), max_size=3), at=st.integers(0, 5))
@budget(4)
def test_M14_a_snapshot_goes_on_with_its_own_item_and_no_other(
    milvus_server: MilvusServer,  # noqa: F811
    kind: str,
    change: str,
    steps: list[list[Operation]],
    at: int,
) -> None:
    stores = {"numpy": "numpy", "mirror": "milvus", "milvus": "milvus", "server": milvus_server.url}
    keywords = {"store": stores[kind], "chunk_tokens": 60}
    if kind == "milvus":
        keywords["store_reads"] = "milvus"
    questions, documents = list(QUESTIONS), list(DOCUMENTS)
    env = fixed_env(questions, documents, **keywords)
    env.reset(seed=0)
    for operations in steps:
        env.step(format_action(operations, "crud"))
    saved = pickle.loads(pickle.dumps(env.snapshot()))
    env.close()
    place = at % len(questions)
    if change == "question":
        questions[place] = replace(questions[place], question=questions[place].question + " now")
    elif change == "answer":
        questions[place] = replace(questions[place], answer=questions[place].answer + " now")
    elif change == "document":
        place = at % len(documents)
        documents[place] = replace(documents[place], text=documents[place].text + " now")
    other = fixed_env(questions, documents, **keywords)
    if change == "none":
        other.restore(saved)
    else:
        with pytest.raises(SnapshotError, match=change):
            other.restore(saved)
    other.close()
