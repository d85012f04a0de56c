"""A fixed protocol: the same items for everybody, known by their hashes, and refused if they are others (issue 18)."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from support.evaluations import small_plan

from atommem_gym.cli import main
from atommem_gym.errors import ConfigError
from atommem_gym.evaluation.folder import PROTOCOL, read_run
from atommem_gym.evaluation.plan import Plan
from atommem_gym.evaluation.protocols.protocol import (
    FREE,
    FixedProtocol,
    drawn_items,
    item_hash,
    known_protocols,
    load_protocol,
    lock,
    parse_protocol,
)
from atommem_gym.evaluation.runner import evaluate

TINY = {"envs": ["Synthetic"], "docs": [10, 20], "seeds": [0], "episodes": 2, "agents": ["silent"], "settings": {}}
Capture = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def tiny() -> FixedProtocol:
    return lock("tiny", Plan.from_values(TINY))


def following(protocol: FixedProtocol, **values: Any) -> Plan:
    return Plan.from_values(protocol.apply({"agents": ["keep_all"], "settings": {"store": "numpy"}, **values}))


def changed(protocol: FixedProtocol, change: Callable[[dict[str, Any]], None]) -> str:
    values = json.loads(protocol.to_text())
    change(values)
    return json.dumps(values)


def test_a_protocol_that_is_written_is_read_again(tiny: FixedProtocol) -> None:
    assert parse_protocol(tiny.to_text(), "tiny") == tiny
    assert lock("other name", Plan.from_values(TINY)).hash == tiny.hash
    assert [len(items) for items in tiny.items.values()] == [2, 2]


@pytest.mark.parametrize("name", known_protocols())
def test_the_first_items_of_every_protocol_of_the_package_are_those_of_its_hashes(name: str) -> None:
    protocol = load_protocol(name)
    plan = following(protocol)
    protocol.check_plan(plan)
    for env in plan.envs:
        for docs in plan.docs_of(env):
            first = [(item.id, item_hash(item)) for item in islice(drawn_items(plan, env, docs), 2)]
            assert first == list(protocol.items[f"{env.label}/{docs}"][:2])


@pytest.mark.slow
@pytest.mark.parametrize("name", known_protocols())
def test_the_records_of_every_protocol_of_the_package_are_those_of_its_hashes(name: str) -> None:
    protocol = load_protocol(name)
    plan = following(protocol)
    protocol.check_plan(plan)
    assert lock(name, plan) == protocol


def test_there_is_a_protocol_over_streams() -> None:
    assert "streams-v1" in known_protocols()
    assert sum(map(len, load_protocol("streams-v1").items.values())) == 300


def test_items_that_are_others_are_refused_before_the_first_episode(tiny: FixedProtocol, tmp_path: Path) -> None:
    other = lock("tiny", Plan.from_values({**TINY, "items_seed": 1}))
    forged = FixedProtocol("tiny", tiny.plan, tiny.rules, other.items)
    with pytest.raises(ConfigError, match=r"item 1 of Synthetic/10 is .* the records differ"):
        evaluate(following(forged), tmp_path / "run", protocol=forged)
    assert not (tmp_path / "run").exists()


def test_one_changed_document_is_enough(tiny: FixedProtocol, tmp_path: Path) -> None:
    cell, items = next(iter(tiny.items.items()))
    edited = [items[0], (items[1][0], "0" * 16)]
    forged = FixedProtocol("tiny", tiny.plan, tiny.rules, {**tiny.items, cell: edited})
    with pytest.raises(ConfigError, match=f"item 2 of {cell}"):
        evaluate(following(forged), tmp_path / "run", protocol=forged)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"docs": [10]}, "fixes docs"),
        ({"envs": ["Drift"]}, "fixes envs"),
        ({"episodes": 3}, "fixes episodes"),
        ({"settings": {"chunk_tokens": 100}}, "fixes the settings, chunk_tokens"),
        ({"settings": {"reward": "f1"}}, "fixes the settings, reward"),
    ],
)
def test_what_a_protocol_fixes_cannot_be_given(tiny: FixedProtocol, values: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        following(tiny, **values)


def test_a_plan_that_only_names_a_protocol_does_not_follow_it(tiny: FixedProtocol, tmp_path: Path) -> None:
    plan = small_plan(docs=[10], protocol=tiny.title)
    with pytest.raises(ConfigError, match="the plan has docs="):
        evaluate(plan, tmp_path / "run", protocol=tiny)


def test_another_default_of_a_later_version_is_noticed(tiny: FixedProtocol) -> None:
    rules = {"Synthetic": {**tiny.rules["Synthetic"], "top_k": 7}}
    other = FixedProtocol("tiny", tiny.plan, rules, tiny.items)
    with pytest.raises(ConfigError, match="Synthetic has top_k=6, and in the protocol 'tiny' 7"):
        other.check_plan(following(other))
    assert not FREE & tiny.rules["Synthetic"].keys()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda v: v.update(version=2), "of version 2"),
        (lambda v: v["plan"].update(episodes=1), "it was changed"),
        (lambda v: v["items"]["Synthetic/10"].pop(), "it was changed"),
        (lambda v: v.pop("items"), "is no protocol"),
        (lambda v: v.update(items=[1]), "is no protocol"),
        (lambda v: v.update(version=True), "of version True"),
        (lambda v: v.update(name=7), "its name is no text"),
        (lambda v: v.update(plan=[]), "is no protocol"),
        (lambda v: v["plan"].update(settings=7), "its settings or the rules of an environment are no object"),
        (lambda v: v["plan"].update(agents=["tidy"]), "its plan fixes 'agents'"),
        (lambda v: v["rules"].update(Synthetic=[]), "the rules of an environment are no object"),
    ],
)
def test_a_protocol_that_was_changed_or_damaged_is_refused(
    tiny: FixedProtocol, change: Callable[[dict[str, Any]], None], says: str
) -> None:
    with pytest.raises(ConfigError, match=says):
        parse_protocol(changed(tiny, change), "tiny.json")
    with pytest.raises(ConfigError, match="is no protocol"):
        parse_protocol("[" * 99999, "deep.json")
    with pytest.raises(ConfigError, match=r"is no protocol .*'version' twice"):
        parse_protocol('{"version": 1, "version": 1}', "twice.json")


def test_the_command_locks_plays_reports_and_resumes(tmp_path: Path, capsys: Capture) -> None:
    file, folder = tmp_path / "mine.json", tmp_path / "run"
    assert main(["eval", "Synthetic", "--docs", "10", "--episodes", "2", "--lock", str(file)]) == 0
    title = load_protocol(str(file)).title
    assert title in capsys.readouterr().out
    play = ["eval", "--protocol", str(file), "--agent", "keep_all", "--set", "store=numpy", "-o", str(folder)]
    assert main([*play, "--set", "reader=oracle"]) == 0, capsys.readouterr().err
    name, _, digest = title.partition("#")
    page = (folder / "report.md").read_text("utf-8")
    assert f"Protocol `{name}`, hash `{digest}`" in page
    assert (folder / PROTOCOL).read_text("utf-8") == file.read_text("utf-8")
    assert read_run(folder).plan.protocol == title
    file.unlink()
    assert main(["eval", "--resume", "-o", str(folder)]) == 0, capsys.readouterr().err
    assert main([*play, "--docs", "10"]) != 0
    assert main(["eval", "--protocol", "streams-v2", "--agent", "silent", "-o", str(folder)]) != 0
    assert "did you mean 'streams-v1'" in capsys.readouterr().err


def test_a_folder_whose_protocol_was_changed_is_not_gone_on_with(tiny: FixedProtocol, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    evaluate(following(tiny), folder, protocol=tiny)
    other = lock("tiny", Plan.from_values({**TINY, "episodes": 1}))
    (folder / PROTOCOL).write_text(other.to_text(), "utf-8")
    with pytest.raises(ConfigError, match="the plan follows the protocol"):
        evaluate(following(tiny), folder, resume=True)
