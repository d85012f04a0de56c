"""Tasks over records of one's own: their shape, their splits, their defaults, and every face of the environment."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env

from atommem_gym.cli import main
from atommem_gym.custom import CustomTask
from atommem_gym.envs import AtomMemPool, ChatObservation
from atommem_gym.errors import ConfigError, DatasetUnavailableError, RecordError, SnapshotError
from atommem_gym.records.audit import audit
from atommem_gym.records.formats.own_records import parse
from atommem_gym.records.record import Evidence
from atommem_gym.records.sources import load_split
from atommem_gym.registration import TASKS
from atommem_gym.testing import check_memory_env
from atommem_gym.traces import read_traces

SMALL = {"num_docs": 8, "chunk_tokens": 40, "store": "numpy"}


def own(number: int, **changes: Any) -> dict[str, Any]:
    """A record that needs two documents, with a distractor of its own."""
    return {
        "question": f"Where does the singer of Song {number} live?",
        "answer": f"Town {number}",
        "documents": [
            {"title": f"Song {number}", "text": f"It is sung by Singer {number}.", "gold": True},
            {
                "title": f"Singer {number}",
                "text": f"Old. Lives in Town {number}.",
                "evidence": f"Lives in Town {number}.",
            },
            {"title": f"Opera {number}", "text": f"Opera {number} is long."},
        ],
    } | changes


@pytest.fixture(autouse=True)
def _forget() -> Iterator[None]:
    """What a test registers is unknown to the next."""
    known, ids = dict(TASKS), dict(gym.registry)
    yield
    for registry, before in ((TASKS, known), (gym.registry, ids)):
        registry.clear()
        registry.update(before)


def test_a_record_says_its_gold_and_its_evidence() -> None:
    record = parse(own(1, aliases=["Townie", "Town 1"], type="song", id="s1"))
    assert (record.id, record.type, record.aliases, record.gold) == ("s1", "song", ("Townie",), (0, 1))
    assert record.evidence == (
        Evidence("Song 1", "It is sung by Singer 1.", "Singer 1"),
        Evidence("Singer 1", "Lives in Town 1.", "Town 1"),
    )
    assert parse(own(1)).id == parse(own(1)).id != parse(own(2)).id
    yes = parse(own(1, answer="Yes"))
    assert yes.options == ("yes", "no")
    assert parse(own(1, options=["Town 1", "Town 2"])).options == ("Town 1", "Town 2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"question": ""}, "'question' must not be empty"),
        ({"answer": None}, "'answer' is missing"),
        ({"anwser": "x"}, "unknown field 'anwser'"),
        ({"documents": "x"}, "'documents' must be a list"),
        ({"documents": []}, "no gold document"),
        ({"documents": [{"title": "a", "text": "b"}]}, "no gold document"),
        ({"documents": [{"title": "a", "text": "b", "Gold": True}]}, "document 0 has the unknown field 'Gold'"),
        ({"documents": [{"title": "a", "text": "b", "gold": "yes"}]}, "'gold' must be true or false"),
        ({"documents": [{"title": "a", "text": "b", "evidence": "c"}]}, "'c' is not part"),
        ({"documents": [{"title": "a", "text": "b", "evidence": " "}]}, "is not part"),
        ({"documents": [{"title": "a", "text": "b", "evidence": "b", "gold": False}]}, "leave one of the two out"),
        ({"documents": [{"title": "", "text": "b", "gold": True}]}, "title must be a non-empty string"),
        ({"documents": [{"title": "a", "text": "", "gold": True}]}, "its text is empty"),
        ({"aliases": "x"}, "'aliases' must be a list"),
        ({"aliases": [""]}, "'aliases' must be a list of non-empty strings"),
        ({"aliases": ["\ud800"]}, "'aliases' holds half a character"),
        ({"options": ["a", "\ud800"]}, "'options' holds half a character"),
        ({"documents": [{"title": "a", "text": "b", "speakers": ["\ud800"]}]}, "'speakers' holds half a character"),
        ({"x" * 10**6: 1}, r"has the unknown field 'x{56}\.\.\.; known are"),
    ],
)
def test_a_malformed_record_says_what_is_wrong(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(RecordError, match=message):
        parse(own(1, **changes))


def test_a_malformed_record_is_named_by_its_number() -> None:
    CustomTask(name="Own", records=[own(1), own(2, answer="")]).register()
    with pytest.raises(RecordError, match="Own, record 1: field 'answer' must not be empty"):
        gym.make("AtomMem-Own-v0", **SMALL)


def test_check_env_and_check_memory_env_pass() -> None:
    CustomTask(name="Own", records=[own(i) for i in range(8)]).register()
    env = gym.make("AtomMem-Own-v0", **SMALL)
    check_env(env.unwrapped, skip_render_check=True)
    check_memory_env(env)
    env.close()


def test_D3_E8_own_records_are_each_used_once_with_all_their_gold() -> None:
    CustomTask(name="Own", records=[own(i) for i in range(9)], defaults=SMALL).register()
    env = gym.make("AtomMem-Own-v0", questions_per_episode=2)
    seen = []
    for index in range(env.unwrapped.num_items):
        _, info = env.reset(options={"index": index, "shuffle_seed": 3})
        item = env.unwrapped.item
        assert info["item"] == item.id == f"Own/train/{index}"
        assert len({document.title for document in item.documents}) == len(item.documents) == 8
        for question in item.questions:
            seen.append(question.question)
            assert set(question.gold_documents) <= set(item.documents)
    assert sorted(seen) == sorted(own(i)["question"] for i in range(9))
    env.close()


def test_M14_a_snapshot_of_a_custom_task_knows_the_records() -> None:
    def made(**changes: Any) -> Any:
        CustomTask(name="Own", records=[own(i, **changes) for i in range(8)], defaults=SMALL).register()
        found = gym.make("AtomMem-Own-v0").unwrapped
        del TASKS["Own"], gym.registry["AtomMem-Own-v0"]
        return found

    env = made()
    observation, _ = env.reset(seed=1)
    snapshot = env.snapshot()
    assert repr(made().restore(snapshot)) == repr(observation)
    with pytest.raises(SnapshotError, match=r"item 'Own/train/\d', whose answers were"):
        made(aliases=["Somewhere"]).restore(snapshot)


def test_splits_are_separate() -> None:
    splits = {"train": range(6), "test": range(6, 12)}
    CustomTask(name="Own", records=lambda split: [own(i) for i in splits[split]], defaults=SMALL).register()
    texts = {}
    for split in splits:
        env = gym.make("AtomMem-Own-v0", split=split)
        texts[split] = {d.text for i in range(6) for d in env.unwrapped.items.item(i).documents}
        env.close()
    assert not texts["train"] & texts["test"]


def test_a_list_is_one_split_and_no_other() -> None:
    CustomTask(name="Own", records=(own(i) for i in range(8)), defaults={**SMALL, "split": "test"}).register()
    assert gym.make("AtomMem-Own-v0").unwrapped.num_items == 8
    assert gym.make("AtomMem-Own-v0").unwrapped.num_items == 8, "a generator is read once, and kept"
    with pytest.raises(ConfigError, match="records of 'test' alone"):
        gym.make("AtomMem-Own-v0", split="train")


@pytest.mark.parametrize(
    ("task", "keywords", "message"),
    [
        ({"records": []}, {}, "no records for split='train'"),
        ({}, {"source": "hub"}, "leave it out, or give the path"),
        ({}, {"source": "synthetic"}, "leave it out, or give the path"),
        ({}, {"num_docs": 1000}, "num_docs=1000 is more than"),
        ({"records": "/no/such/file.json"}, {}, "does not exist"),
        ({"records": "/no/such/file.json"}, {"source": "registered"}, "whose records are in"),
    ],
)
def test_what_cannot_be_made_raises_at_make(task: dict[str, Any], keywords: dict[str, Any], message: str) -> None:
    CustomTask(**{"name": "Own", "records": [own(i) for i in range(8)], **task}).register()
    with pytest.raises((ConfigError, DatasetUnavailableError), match=message):
        gym.make("AtomMem-Own-v0", **{**SMALL, **keywords})


@pytest.mark.parametrize(
    ("task", "message"),
    [
        ({"name": "HotpotQA"}, "taken"),
        ({"name": "a b"}, "must be letters"),
        ({"scorer": 3}, "reward=3"),
        ({"template": "/no/such.j2"}, "template"),
        ({"defaults": {"num_dosc": 3}}, "num_docs"),
    ],
)
def test_what_is_wrong_with_a_task_is_said_when_it_is_registered(task: dict[str, Any], message: str) -> None:
    before = dict(TASKS)
    with pytest.raises(ConfigError, match=message):
        CustomTask(**{"name": "Own", "records": [own(1)], **task}).register()
    assert before == TASKS


def test_finding_5_8_a_task_may_have_the_template_of_shared_prefixes() -> None:
    CustomTask(name="Own", records=[own(1)], template="shared_prefix").register()
    assert TASKS["Own"].config({}).template == "shared_prefix"


def test_registering_again_replaces_the_records() -> None:
    for count in (8, 9):
        CustomTask(name="Own", records=[own(i) for i in range(count)], defaults=SMALL).register()
        assert gym.make("AtomMem-Own-v0").unwrapped.num_items == count
    assert CustomTask(name="Own", records=[own(1)], version=3).register() == "AtomMem-Own-v3"


def test_the_scorer_and_the_template_are_defaults(tmp_path: Path) -> None:
    template = tmp_path / "mine.j2"
    template.write_text('{% extends "crud.j2" %}{% block memory %}Mind the singers.{% endblock %}')
    CustomTask(
        name="Own",
        records=[own(i) for i in range(8)],
        scorer=lambda prediction, answers, question: 0.25 if answers[0] in question + prediction else 0.0,
        template=template,
        defaults=SMALL,
    ).register()
    scores = {}
    for name, keywords in {"own": {}, "em": {"reward": "em"}}.items():
        env = gym.make("AtomMem-Own-v0", **keywords)
        env.reset(options={"index": 0})
        answer = f"<answer>surely {env.unwrapped.item.questions[0].answer}</answer>"
        over = False
        while not over:
            _, scores[name], terminated, truncated, _ = env.step(answer)
            over = terminated or truncated
        env.close()
    assert scores == {"own": 0.25, "em": 0.0}
    chat = ChatObservation(gym.make("AtomMem-Own-v0"))
    assert "Mind the singers." in chat.reset()[0][0]["content"]
    other = tmp_path / "other.j2"
    other.write_text("other")
    assert ChatObservation(chat.unwrapped, template=other).reset()[0][0]["content"] == "other", "explicit wins"


def test_a_default_preset_brings_its_settings_along() -> None:
    CustomTask(
        name="Own", records=[own(i) for i in range(8)], defaults={"num_docs": 8, "preset": "released"}
    ).register()
    config = gym.make("AtomMem-Own-v0", max_steps=7, questions_per_episode=1, store="numpy").unwrapped.config
    assert (config.dialect, config.sticky_query, config.max_steps) == ("released", True, 7)


def test_difficulty_goes_from_the_most_gold_to_all_documents() -> None:
    CustomTask(name="Own", records=[own(i) for i in range(8)], defaults={**SMALL, "num_docs": 20}).register()
    env = gym.make("AtomMem-Own-v0", questions_per_episode=3)
    counts = {}
    for difficulty in (0.0, 0.5, 1.0):
        env.reset(options={"index": 0, "difficulty": difficulty})
        counts[difficulty] = len(env.unwrapped.item.documents)
    assert counts == {0.0: 7, 0.5: 13, 1.0: 20}, "three questions have six gold documents"
    env.close()


def test_every_face_gives_the_same_episode() -> None:
    CustomTask(name="Own", records=[own(i) for i in range(8)], defaults=SMALL).register()
    env = gym.make("AtomMem-Own-v0")
    observation, info = env.reset(options={"index": 2})
    envs = gym.make_vec("AtomMem-Own-v0", num_envs=2)
    observations, infos = envs.reset(options={"index": [2, 5]})
    assert (observations["chunk"][0], infos["item"][0]) == (observation["chunk"], info["item"])

    async def pooled() -> dict[str, Any]:
        async with AtomMemPool("AtomMem-Own-v0", capacity=1) as pool, pool.env() as leased:
            return dict((await leased.areset(options={"index": 2}))[0])

    assert asyncio.run(pooled())["chunk"] == observation["chunk"]
    again = gym.make(gym.envs.registration.EnvSpec.from_json(env.spec.to_json()))
    assert again.reset(options={"index": 2})[0]["chunk"] == observation["chunk"]
    for one in (env, envs, again):
        one.close()


def test_a_file_of_own_records_is_read_audited_and_taken_in_place_of_another(tmp_path: Path) -> None:
    paths = [tmp_path / "first.jsonl", tmp_path / "second.json"]
    paths[0].write_text("\n".join(json.dumps(own(i)) for i in range(8)))
    paths[1].write_text(json.dumps([own(i) for i in range(20, 27)]))
    CustomTask(name="Own", records=paths[0], defaults=SMALL).register()
    assert gym.make("AtomMem-Own-v0").unwrapped.num_items == 8
    other = gym.make("AtomMem-Own-v0", source=str(paths[1])).unwrapped
    assert other.num_items == 7
    assert other.items.item(0).id == "Own/train/0"
    assert load_split("own", str(paths[1]), "train").dataset == "own", "naming the items leaves the cache alone"
    report = audit(paths)
    assert report.ok
    assert [part.dataset for part in report.parts] == ["own", "own"]
    paths[0].write_text(json.dumps(own(1)) + "\n" + json.dumps(own(2, answer=[7])))
    with pytest.raises(RecordError, match=r"first\.jsonl, line 2: field 'answer' must be a string"):
        gym.make("AtomMem-Own-v0")
    paths[0].write_text('{"a": 1}')
    with pytest.raises(RecordError, match="of no known shape"):
        gym.make("AtomMem-Own-v0")
    paths[0].write_text("")
    with pytest.raises(DatasetUnavailableError, match="no records"):
        gym.make("AtomMem-Own-v0")
    with pytest.raises(ConfigError, match="give the path"):
        load_split("own", "hub", "train")


@pytest.mark.parametrize("dataset", ["hotpot", "twowiki", "musique"])
def test_a_file_of_official_shape_is_read_as_it_is(
    dataset: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    make: Callable[[int], dict[str, Any]] = request.getfixturevalue(f"{dataset}_raw")
    path = tmp_path / "dev.json"
    path.write_text(json.dumps([make(i) for i in range(12)]))
    CustomTask(name="Own", records=path, defaults=SMALL).register()
    assert gym.make("AtomMem-Own-v0").unwrapped.num_items == 12


@pytest.mark.parametrize("dataset", ["hotpotqa", "2wikimultihopqa", "musique"])
def test_real_records_make_the_data_set_s_own_episodes(dataset: str, shared_data: Path) -> None:
    """Only names differ: gold, evidence and counts are those of the built-in environment."""
    path = shared_data / f"{dataset}.jsonl"
    CustomTask(name="Own", records=path, defaults={"num_docs": 50, "store": "numpy"}).register()
    ours = gym.make("AtomMem-Own-v0").unwrapped
    [task] = [task for task in TASKS.values() if task.dataset == dataset]
    theirs = gym.make(task.env_id, source=str(path), num_docs=50, store="numpy").unwrapped
    assert ours.num_items == theirs.num_items
    first = {q.id: q for i in range(ours.num_items) for q in ours.items.item(i).questions}
    second = {q.id: q for i in range(theirs.num_items) for q in theirs.items.item(i).questions}
    assert first == second


MODULE = f"""
from atommem_gym.custom import CustomTask
RECORDS = {[own(i) for i in range(8)]!r}
CustomTask(name="Mine", records=RECORDS, defaults={{"num_docs": 8, "chunk_tokens": 40}}).register()
"""


def test_the_command_line_imports_a_module_for_every_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_singers", raising=False)
    (tmp_path / "my_singers.py").write_text(MODULE)
    evaluate = ["eval", "Mine", "--docs", "8", "--agent", "keep_all", "--episodes", "3", "-o", "run"]
    assert main(evaluate) == 2
    error = " ".join(capsys.readouterr().err.split())
    assert "unknown environment 'Mine'" in error
    assert "--import MODULE" in error
    assert main([*evaluate, "--import", "my_singers"]) == 0
    [trace, *_] = read_traces(tmp_path / "run" / "traces.jsonl")
    assert trace.env.id == "AtomMem-Mine-v0", "a trace names no module, so opening it imports none"
    assert main(["--import", "my_singers", "replay", "run/traces.jsonl", "--check"]) == 0
    assert main(["--import", "my_singers", "envs"]) == 0
    assert "AtomMem-Mine-v0" in capsys.readouterr().out
    assert main(["--import", "gone_singers", "envs"]) == 2
    assert "--import gone_singers failed" in " ".join(capsys.readouterr().err.split())
    del sys.modules["my_singers"]
