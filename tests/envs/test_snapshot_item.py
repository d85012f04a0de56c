"""SPEC M14: a snapshot knows its item, and restores only where the records are the same; old and damaged snapshots."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
import tracemalloc
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from msgspec import structs
from support.fixed_items import OneItem
from support.old_episode import DOCUMENTS, FUTURE, PAST, QUESTIONS, old_env, played

import atommem_gym
from atommem_gym.envs import AtomMemEnv, HindsightCredit, snapshots
from atommem_gym.envs.credit import Answered, Ledger
from atommem_gym.errors import SnapshotError
from atommem_gym.records.corpus import from_records
from atommem_gym.records.identity import PARTS, documents_hash, identity
from atommem_gym.records.record import Document, Item
from atommem_gym.records.stream import Stream
from atommem_gym.tokenizers import load_tokenizer
from atommem_gym.worlds.needle import NeedleItems, NeedleOptions

FORMATS = Path(__file__).resolve().parents[1] / "episode" / "golden" / "formats"
RIVER, COLOUR = QUESTIONS


def taken(env: AtomMemEnv, **options: Any) -> dict[str, Any]:
    """A snapshot after two steps, through pickle."""
    env.reset(seed=5, options=options)
    played(env, PAST)
    found: dict[str, Any] = pickle.loads(pickle.dumps(env.snapshot()))
    return found


def with_evidence(text: str) -> tuple[Any, ...]:
    return (replace(RIVER, evidence=(structs.replace(RIVER.evidence[0], text=text), RIVER.evidence[1])), COLOUR)


@pytest.mark.parametrize(
    ("changes", "differs"),
    [
        ({"questions": (replace(RIVER, question="Which water?"), COLOUR)}, "questions"),
        ({"questions": (replace(RIVER, answer="Po"), COLOUR)}, "answers"),
        ({"questions": (replace(RIVER, aliases=()), COLOUR)}, "answers"),
        # The same words, but one answer more.
        ({"questions": (replace(RIVER, aliases=("the Lim", "fjord")), COLOUR)}, "answers"),
        ({"questions": with_evidence("Ada keeps bees")}, "evidence"),
        ({"questions": (COLOUR, RIVER)}, "questions and answers and evidence"),
        ({"questions": (RIVER,)}, "questions and answers and evidence"),
        ({"documents": (*DOCUMENTS[:3], Document("Cy", "Cy cooks tea. The soup is green."))}, "documents"),
        ({"documents": (*DOCUMENTS[:3], Document("Cyd", DOCUMENTS[3].text))}, "documents"),
        ({"documents": (DOCUMENTS[1], DOCUMENTS[0], *DOCUMENTS[2:])}, "documents"),
        ({"documents": DOCUMENTS[:3]}, "documents"),
    ],
)
def test_finding_4_3_restoring_over_other_records_raises_and_changes_nothing(
    changes: dict[str, Any], differs: str
) -> None:
    snapshot = taken(old_env())
    other, twin = old_env(**changes), old_env(**changes)
    for env in (other, twin):
        env.reset(seed=9)
        env.step("<create>mine</create>")
    with pytest.raises(
        SnapshotError, match=rf"item 'fixed/0', whose {differs} were .*records \(source, split or items="
    ):
        other.restore(snapshot)
    actions = ("<read>mine</read>", "<answer>red</answer>")
    assert played(other, actions) == played(twin, actions)
    assert repr(other.reset()) == repr(twin.reset())


def test_finding_4_3_a_title_and_a_text_that_only_join_to_the_same_differ() -> None:
    documents = (Document("Ada\nAda keeps bees.", "Yes."), *DOCUMENTS[1:])
    env = old_env(documents=(Document("Ada", "Ada keeps bees.\nYes."), *DOCUMENTS[1:]))
    with pytest.raises(SnapshotError, match="documents"):
        env.restore(taken(old_env(documents=documents)))


def test_finding_4_3_another_item_of_the_same_index_is_named() -> None:
    env = old_env()
    snapshot = taken(env)
    renamed = AtomMemEnv(items=OneItem(replace(env.item, id="other/0")), task="HotpotQA", **env.config.as_keywords())
    with pytest.raises(
        SnapshotError, match="taken in item 'fixed/0'; in this environment item 0 of layout 0 is 'other/0'"
    ):
        renamed.restore(snapshot)


def test_finding_4_3_a_file_that_changed_between(tmp_path: Path, hotpot_raw: Callable[..., dict[str, Any]]) -> None:
    path = tmp_path / "dev.json"
    records = [hotpot_raw(i) for i in range(6)]

    def made(count: int = 6) -> AtomMemEnv:
        path.write_text(json.dumps(records[:count]))
        env = gym.make("AtomMem-HotpotQA-v0", source=str(path), num_docs=12, store="numpy", chunk_tokens=40).unwrapped
        assert isinstance(env, AtomMemEnv)
        return env

    env = made()
    snapshot = taken(env, index=3)
    assert repr(made().restore(snapshot)) == repr(env.episode.observation())
    with pytest.raises(SnapshotError, match="number 3, cannot be had here: item 3 does not exist"):
        made(3).restore(snapshot)
    for record in records:
        record["context"][-1][1][0] += " A word more."
    with pytest.raises(SnapshotError, match="item 'hotpotqa/train/3', whose documents were"):
        made().restore(snapshot)


@pytest.mark.parametrize(
    ("env_id", "keywords"),
    [
        ("AtomMem-Synthetic-v0", {"num_docs": 20}),
        ("AtomMem-Drift-v0", {"difficulty": 0.3}),
        ("AtomMem-Needle-v0", {"num_docs": 30}),
        ("AtomMem-MuSiQue-v0", {"source": "synthetic", "num_docs": 40, "preset": "released", "chunk_tokens": 300}),
    ],
)
def test_M14_every_kind_of_item_is_known_again_in_another_process(
    env_id: str, keywords: dict[str, Any], tmp_path: Path
) -> None:
    keywords = {"store": "numpy", "chunk_tokens": 100, **keywords}
    env = gym.make(env_id, **keywords).unwrapped
    assert isinstance(env, AtomMemEnv)
    snapshot = taken(env, index=4, shuffle_seed=2)
    (tmp_path / "state.pickle").write_bytes(pickle.dumps(snapshot))
    program = (
        "import pickle, sys, gymnasium as gym, atommem_gym\n"
        f"env = gym.make({env_id!r}, **{keywords!r}).unwrapped\n"
        "print(repr(env.restore(pickle.load(open(sys.argv[1], 'rb')))), env.snapshot()['episode']['item'])\n"
    )
    there = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program, str(tmp_path / "state.pickle")],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )
    assert there.stdout.strip() == f"{env.episode.observation()!r} {snapshot['episode']['item']}"


def test_M14_one_hash_however_the_documents_are_held() -> None:
    split = from_records("hotpotqa", "train", [RIVER, COLOUR])
    pool = split.pool.documents(np.array([2, 0, 3, 1]))
    ugly = (Document("Ein Übel ☃", ""), Document("\udc80", "half \ud800"), Document("0,0:", "1,2:\n\n"))
    assert documents_hash(pool) == documents_hash(tuple(pool)) == documents_hash(list(pool))
    assert len({documents_hash(one) for one in ((), pool, ugly, ugly[:2], ugly[::-1])}) == 5
    needle = NeedleItems(load_tokenizer("words"), num_docs=300).item(1).documents
    assert Stream(needle, load_tokenizer("words"), 500).documents_hash == documents_hash(tuple(needle))


def test_M14_the_hash_is_the_same_in_every_version() -> None:
    found = identity(Item("fixed/0", 0, 0, QUESTIONS, DOCUMENTS), documents_hash(DOCUMENTS))
    assert found == {
        "id": "fixed/0",
        "questions": "c2ffa7015fe1b1a6d687e0f42d6b7ac8",
        "answers": "1b00f24712c1eaa2488fc2181e8f35a2",
        "evidence": "9ba38091eba00de96a0ca2fb429bcc60",
        "documents": "5b263acc1872a34e00cdb4bffc70fa52",
    }
    assert list(found) == ["id", *PARTS]


def test_M14_a_long_stream_is_hashed_block_by_block_while_it_is_counted() -> None:
    made: list[int] = []
    options = NeedleOptions(haystack="noise", length=1_600_000)
    items = NeedleItems(load_tokenizer("words"), options=options)
    documents = items.item(0).documents
    block = items._haystack.block  # type: ignore[attr-defined]

    def counted(*place: int) -> Any:
        made.append(place[-1])
        return block(*place)

    items._haystack.block = counted  # type: ignore[attr-defined,method-assign]
    tracemalloc.start()
    try:
        stream = Stream(documents, load_tokenizer("words"), 4000)
        once = len(made)
        found = stream.documents_hash
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert found
    assert once == len(made) == -(-len(documents) // 50)
    assert 2 * peak < sum(len(document.text) for document in documents)


def test_M14_snapshots_of_one_episode_hash_its_item_once(monkeypatch: pytest.MonkeyPatch) -> None:
    env = old_env()
    snapshot = taken(env)
    env.step("<create>x</create>")
    monkeypatch.setattr("atommem_gym.records.identity._hash", None)
    later = env.snapshot()
    assert later["episode"]["item"] == snapshot["episode"]["item"]
    later["episode"]["item"]["documents"] = "changed by whoever holds it"
    assert env.snapshot()["episode"]["item"] == snapshot["episode"]["item"]


def test_M14_items_with_answers_that_are_numbers_are_known_again() -> None:
    numbers = (replace(RIVER, answer=7), COLOUR)  # type: ignore[arg-type]
    other = (replace(RIVER, answer=8), COLOUR)  # type: ignore[arg-type]
    snapshot = taken(old_env(questions=numbers))
    assert old_env(questions=numbers).restore(snapshot) is not None
    with pytest.raises(SnapshotError, match="answers"):
        old_env(questions=other).restore(snapshot)


def test_M14_a_curriculum_restores_at_the_difficulty_of_the_episode() -> None:
    env = atommem_gym.envs.Curriculum(gym.make("AtomMem-Drift-v0", store="numpy"), start=0.4)
    observation, _ = env.reset(seed=1)
    base = env.unwrapped
    assert isinstance(base, AtomMemEnv)
    snapshot = base.snapshot()
    fresh = gym.make("AtomMem-Drift-v0", store="numpy").unwrapped
    assert isinstance(fresh, AtomMemEnv)
    assert repr(fresh.restore(snapshot)) == repr(observation)
    snapshot["episode"]["difficulty"] = 0.9
    with pytest.raises(SnapshotError, match="records have changed"):
        fresh.restore(snapshot)
    snapshot["episode"]["difficulty"] = 9.0
    with pytest.raises(SnapshotError, match=r"difficulty=9.0 must be a number from 0 to 1"):
        fresh.restore(snapshot)


# Snapshots of version 1, taken at commit 6ddd67b.


def old_snapshot() -> dict[str, Any]:
    found: dict[str, Any] = pickle.loads((FORMATS / "snapshot_1.pickle").read_bytes())
    return found


@pytest.mark.parametrize("store", ["numpy", "milvus"])
def test_finding_4_3_a_snapshot_of_version_1_restores_with_a_warning(store: str) -> None:
    env = old_env(store)
    with pytest.warns(UserWarning, match="version 1, which holds no hash of its item: that item 'fixed/0' has") as seen:
        env.restore(old_snapshot())
    assert seen[0].filename == __file__
    assert played(env, FUTURE) == json.loads((FORMATS / "snapshot_1.json").read_text())
    env.close()


def test_finding_4_3_a_snapshot_taken_after_a_restored_old_one_is_a_new_one() -> None:
    env, other = old_env(), old_env()
    with pytest.warns(UserWarning, match="version 1"):
        env.restore(old_snapshot())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        other.restore(env.snapshot())
    assert played(other, FUTURE) == played(env, FUTURE)


def test_finding_4_3_an_old_snapshot_that_cannot_be_of_these_records_is_refused() -> None:
    with pytest.raises(SnapshotError, match="chunk 2, but item 'fixed/0' has only 1"):
        old_env(documents=DOCUMENTS[:1]).restore(old_snapshot())
    snapshot = old_snapshot()
    snapshot["episode"]["index"] = 4
    with pytest.raises(SnapshotError, match="number 4, cannot be had here: item 4; there is only item 0"):
        old_env().restore(snapshot)


def test_M14_keyword_arguments_that_came_later_were_at_their_defaults() -> None:
    snapshot = taken(old_env())
    del snapshot["config"]["top_k"]
    assert old_env().restore(snapshot) is not None
    with pytest.raises(SnapshotError, match="this environment top_k=3"):
        old_env(top_k=3).restore(snapshot)
    snapshot["config"]["telepathy"] = True
    with pytest.raises(SnapshotError, match="telepathy=True, which this environment does not know"):
        old_env().restore(snapshot)


# Damaged snapshots.

Damage = Callable[[dict[str, Any]], Any]


def without(*path: str) -> Damage:
    def damage(snapshot: dict[str, Any]) -> None:
        *into, last = path
        for name in into:
            snapshot = snapshot[name]
        del snapshot[last]

    return damage


def setting(value: Any, *path: str) -> Damage:
    def damage(snapshot: dict[str, Any]) -> None:
        *into, last = path
        found: Any = snapshot
        for name in into:
            found = found[name] if isinstance(found, dict) else getattr(found, name)
        if isinstance(found, dict):
            found[last] = value
        else:
            setattr(found, last, value)

    return damage


def forgetting(snapshot: dict[str, Any]) -> None:
    del snapshot["episode"]["state"].found


def forgetting_costs(snapshot: dict[str, Any]) -> None:
    del snapshot["episode"]["state"].reader.calls


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (setting(6, "version"), "of version 6, this package reads 1 to 5"),
        (setting(True, "version"), "of version True"),
        (setting("2", "version"), "of version '2'"),
        (without("version"), "this dict is not a snapshot"),
        (without("np_random"), "'np_random' is missing"),
        (without("episode", "past"), "'past' is missing"),
        (setting("no", "episode", "past"), "past must be what a recorder has noted"),
        (setting(1, "more"), "'more' is unknown"),
        (setting([], "config"), r"config must be a dict of keyword arguments, it is \[\]"),
        (setting({}, "np_random"), "np_random must be the state of a PCG64"),
        (setting(None, "action_space"), "action_space must be the state of a PCG64"),
        (setting("PCG", "action_space", "state"), "action_space must be"),
        (setting({"inc": 1}, "np_random", "state"), "np_random must be"),
        (setting("gone", "episode"), "episode must be a dict or None, it is 'gone'"),
        (without("episode", "state"), "'state' is missing"),
        (without("episode", "item"), "'item' is missing"),
        (setting(None, "episode", "item"), "episode.item must be the id and the hashes"),
        (without("episode", "item", "answers"), "episode.item must be"),
        (setting(None, "episode", "index"), "episode.index must be a whole number"),
        (setting("0.5", "episode", "difficulty"), "episode.difficulty must be"),
        (setting(None, "episode", "state"), "episode.state must be an EpisodeState"),
        (forgetting, "episode.state.found is missing"),
        (setting(-1, "episode", "state", "chunk"), "state.chunk must be a whole number from 0, it is -1"),
        (setting(99, "episode", "state", "chunk"), "has chunk 99, but item 'fixed/0' has only 3"),
        (setting([None], "episode", "state", "closings"), "closings must be made of Closing, it is None"),
        (setting("ab", "episode", "state", "feedback"), "feedback must be a tuple"),
        (setting((1,), "episode", "state", "shown"), "shown must be made of Shown"),
        (setting({"1": "a"}, "episode", "state", "memory", "entries"), "entries must be made of an Entry by its id"),
        (setting(3, "episode", "state", "memory", "next_id"), "next_id must be above all ids, it is 3"),
        (setting(b"", "episode", "state", "memory", "scratchpad"), "scratchpad must be a str"),
        (setting(None, "episode", "state", "reader", "answered"), "reader.answered must be a list"),
        (forgetting_costs, "episode.state.reader.calls is missing"),
        (setting(([1], None), "episode", "vectors"), "episode.vectors must be the ids of all entries"),
        (setting(([1, 3], None), "episode", "vectors"), "episode.vectors must be"),
        (setting(([1, 3], np.full((2, 1024), np.nan, np.float32)), "episode", "vectors"), "of finite numbers"),
        (setting("both", "episode", "vectors"), "episode.vectors must be"),
        (setting(([1, 1, 3], np.ones((3, 1024), np.float32)), "episode", "vectors"), "episode.vectors must be the ids"),
        (setting(([True, 3], np.ones((2, 1024), np.float32)), "episode", "vectors"), "episode.vectors must be the ids"),
        (setting(([1, 3], np.ones((2, 5), np.float32)), "episode", "vectors"), "episode.vectors must be 1024 numbers"),
    ],
)
def test_finding_4_3_a_damaged_snapshot_raises_and_names_what_is_wrong(damage: Damage, says: str) -> None:
    env = old_env()
    snapshot = taken(env)
    before = repr(env.snapshot())
    damaged = copy.deepcopy(snapshot)
    damage(damaged)
    with pytest.raises(SnapshotError, match=says):
        env.restore(damaged)
    assert repr(env.snapshot()) == before


class Broken:
    """Noted by nobody."""

    def branch(self) -> int:
        return 5


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("past", Broken),
        ("past", Broken()),
        ("ledger", Ledger),
        ("ledger", Broken()),
        ("ledger", object.__new__(Ledger)),
        ("ledger", "forgetful"),
        ("ledger", "of another form"),
        ("ledger", "of other questions"),
    ],
)
def test_M14_damaged_notes_of_the_past_change_nothing_and_leave_nothing_behind(field: str, value: Any) -> None:
    env = HindsightCredit(old_env())
    base = env.unwrapped
    assert isinstance(base, AtomMemEnv)
    env.reset(seed=5)
    for action in PAST:
        env.step(action)
    damaged = copy.deepcopy(base.snapshot())
    ledger = damaged["episode"]["ledger"]
    if value == "forgetful":
        ledger.versions.clear()
    elif value == "of other questions":
        ledger.answered.append(Answered(0, 1))
    elif value == "of another form":
        ledger.versions = [1]
    else:
        damaged["episode"][field] = value
    store = base._backend.store
    assert store is not None
    before, keys = repr(base.snapshot()), store.episodes()
    with pytest.raises(SnapshotError, match=f"the snapshot is damaged: episode.{field} must be"):
        base.restore(damaged)
    assert repr(base.snapshot()) == before
    assert store.episodes() == keys
    env.step(FUTURE[0])
    env.close()


@pytest.mark.parametrize("value", [None, [], b"", {}, 2])
def test_finding_4_3_whatever_else_is_no_snapshot(value: Any) -> None:
    with pytest.raises(SnapshotError, match=f"this {type(value).__name__} is not a snapshot"):
        old_env().restore(value)


def test_M14_a_snapshot_from_before_the_first_reset_has_no_item() -> None:
    env = old_env()
    snapshot = env.snapshot()
    assert snapshot["version"] == snapshots.VERSION == 5
    assert snapshot["episode"] is None
    assert old_env(documents=DOCUMENTS[:1]).restore(snapshot) is None


# A database kept by the code of commit 6ddd67b.


def test_M13_a_database_kept_by_an_older_version_is_opened_and_goes_on(tmp_path: Path) -> None:
    with zipfile.ZipFile(FORMATS / "kept_1.zip") as packed:
        packed.extractall(tmp_path)
    keys = json.loads((FORMATS / "kept_1.json").read_text())
    store = f"milvus://{tmp_path}/kept.db"
    for visit in range(2):
        env = old_env(store)
        observation, info = env.reset(seed=5, options={"memory": keys["key"]})
        assert observation["scratchpad"] == "Ada: bees"
        assert info["entries"] == 2 + visit
        observation, *_ = env.step(f"<create>Visit {visit}.</create><read>Ada keeps bees in Skive.</read>")
        assert observation["feedback"] == f"created {4 + visit}"
        assert (observation["memories"][0]["id"], observation["memories"][0]["text"]) == (1, "Ada keeps bees in Skive.")
        assert {m["text"] for m in observation["memories"]} == {
            "Ada keeps bees in Skive.",
            "Skive is a town on the Lim.",
            *(f"Visit {one}." for one in range(visit + 1)),
        }
        env.close()
    env = old_env(store)
    _, info = env.reset(seed=5, options={"memory": keys["other"]})
    assert info["entries"] == 1
    env.close()


def test_E13_a_snapshot_from_before_there_were_frozen_readers_has_cost_none() -> None:
    env = old_env()
    snapshot = taken(env)
    assert snapshot["episode"]["state"].reader.counted()["calls"] == 0
    snapshot["version"] = 2
    del snapshot["episode"]["state"].reader, snapshot["episode"]["past"], snapshot["episode"]["ledger"]
    observation = env.restore(snapshot)
    assert repr(observation) == repr(env.episode.observation())
    assert env.episode.state.reader.answered == []


def test_E13_a_snapshot_goes_on_with_what_the_reader_has_cost_under_the_same_reader() -> None:
    def made(reader: Any) -> AtomMemEnv:
        env = gym.make(
            "AtomMem-Synthetic-v0",
            num_docs=8,
            chunk_tokens=9999,
            questions_per_episode=2,
            store="numpy",
            early_answer=True,
            reader=reader,
        ).unwrapped
        assert isinstance(env, AtomMemEnv)
        return env

    env = made("support.plugins.readers:echo")
    env.reset(options={"index": 1})
    env.step("<answer/>")
    snapshot = pickle.loads(pickle.dumps(env.snapshot()))
    other = made("support.plugins.readers:echo")
    other.restore(snapshot)
    metrics = [one.step("<answer/>")[4]["episode_metrics"] for one in (env, other)]
    assert metrics[0] == metrics[1]
    assert metrics[0]["reader"]["calls"] == 2
    with pytest.raises(SnapshotError, match="reader"):
        made("oracle").restore(snapshot)
