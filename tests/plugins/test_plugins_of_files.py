"""A name that only a file says imports nothing, whatever file and part; what the user says too is used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from msgspec.structs import replace
from support.audited import Ran, audited
from support.made_traces import SMALL, played

from atommem_gym.errors import ConfigError
from atommem_gym.memory.memory import Memory
from atommem_gym.memory.protocols import Write
from atommem_gym.stores.kept import embedder_keyword
from atommem_gym.stores.loading import open_store
from atommem_gym.traces import EpisodeTrace, TraceError, write_traces
from atommem_gym.traces.replay import Replayer
from atommem_gym.traces.training.sft import Selection, Tally, examples
from atommem_gym.trust import command_line

MARKER = "parts_of_a_stranger"
TESTS = Path(__file__).resolve().parents[1]
PARTS = {
    "store": "Store",
    "embedder": "Embedder",
    "tokenizer": "Tokenizer",
    "dialect": "lines",
    "reward": "half",
    "agent": "Agent",
}
IN_KEYWORDS = [name for name in PARTS if name != "agent"]
IMPORTED_FOR_A_CHECK = ("embedder", "tokenizer", "dialect")
"""Of a trace; its store and its agent play no part in a replay, and its reward's scores are recorded."""
PLAN: dict[str, Any] = {
    "envs": ["Synthetic"],
    "agents": ["keep_all"],
    "docs": [8],
    "episodes": 1,
    "settings": {"store": "numpy"},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / f"{MARKER}.py").write_text(f"from support.plugins.parts import {', '.join(PARTS.values())}\n")
    return tmp_path


def ran(folder: Path, commands: Sequence[Sequence[object]]) -> list[Ran]:
    return audited(commands, folder, PYTHONPATH=str(TESTS))


def traces(folder: Path) -> dict[str, EpisodeTrace]:
    """A record for each part, as it would be with that part."""
    found = {}
    for part, name in PARTS.items():
        keywords = {**SMALL, **({} if part == "agent" else {part: f"support.plugins.parts:{name}"})}
        trace = next(played("tidy", [0], **keywords))
        if part == "agent":
            trace = replace(trace, agent=replace(trace.agent, name=f"{MARKER}:{name}"))
        else:
            named = {**trace.env.keywords, part: f"{MARKER}:{name}"}
            trace = replace(trace, env=replace(trace.env, keywords=named))
        write_traces(folder / f"{part}.jsonl", [trace])
        found[part] = trace
    return found


def test_a_trace_s_names_import_nothing_until_they_are_said(folder: Path) -> None:
    traces(folder)
    commands: list[Sequence[object]] = []
    for part in PARTS:
        commands += [
            ["replay", f"{part}.jsonl", "--check"],
            ["replay", f"{part}.jsonl", "--no-check"],
            ["rescore", f"{part}.jsonl", "--reward", "f1", "-o", f"{part}.f1.jsonl"],
            ["view", f"{part}.jsonl", "--no-open"],
            ["export", f"{part}.jsonl", "-o", f"sft-{part}", "--threshold", "0", "--render", "--format", "messages"],
        ]
    for command, one in zip(commands, ran(folder, commands), strict=True):
        assert not one.touched(MARKER + "'"), (command, one)
        part = str(command[1]).removesuffix(".jsonl")
        refused = (command[0] == "replay" and command[2] == "--check" and part in IMPORTED_FOR_A_CHECK) or (
            command[0] == "export" and part == "dialect"
        )
        assert one.status == (2 if refused else 0), (command, one)
        if refused:
            assert f"{part}='{MARKER}:{PARTS[part]}'" in one.said
            assert f"add --import {MARKER}" in one.said


def test_a_trace_s_names_that_are_said_are_imported_and_replayed_to_the_bit(folder: Path) -> None:
    traces(folder)
    commands: list[Sequence[object]] = []
    for part in IMPORTED_FOR_A_CHECK:
        commands += [
            ["replay", f"{part}.jsonl", "--check", "--import", MARKER],
            ["replay", f"{part}.jsonl", "--check", "--set", f"{part}={MARKER}:{PARTS[part]}"],
        ]
    commands.append(["replay", "store.jsonl", "--check", "--set", f"store={MARKER}:Store"])
    for command, one in zip(commands, ran(folder, commands), strict=True):
        assert (one.status, "all as recorded" in one.said) == (0, True), (command, one)
    export = ["export", "dialect.jsonl", "-o", "sft", "--threshold", "0", "--render", "--format", "messages"]
    [exported] = ran(folder, [[*export, "--import", MARKER]])
    assert exported.status == 0, exported
    text = (folder / "sft" / "train.jsonl").read_text()
    assert "STORE: a fact" in text
    assert "Write one operation a line" in text


def test_in_python_a_record_s_names_need_the_program_s_word(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(folder)
    found = traces(folder)
    for part in IMPORTED_FOR_A_CHECK:
        with Replayer() as replayer, pytest.raises(TraceError, match=rf"overrides=\{{'{part}'"):
            replayer.check(found[part])
    with pytest.raises(TraceError, match="import it first"):
        list(examples(found["dialect"], Selection(threshold=0, render=True), Tally()))
    for part in IMPORTED_FOR_A_CHECK:
        with Replayer({part: f"support.plugins.parts:{PARTS[part]}"}) as replayer:
            assert replayer.check(found[part]) is None
    __import__(MARKER)
    assert list(examples(found["dialect"], Selection(threshold=0, render=True), Tally()))


def plan_with(part: str) -> dict[str, Any]:
    named = f"{MARKER}:{PARTS[part]}"
    if part == "agent":
        return {**PLAN, "agents": [named]}
    return {**PLAN, "settings": {"store": "numpy", part: named}}


def test_a_plan_s_names_import_nothing_until_they_are_said(folder: Path) -> None:
    commands: list[Sequence[object]] = []
    for part in PARTS:
        text = yaml.safe_dump(plan_with(part))
        (folder / f"{part}.yaml").write_text(text)
        sent = folder / f"sent-{part}"
        sent.mkdir()
        (sent / "plan.yaml").write_text(text)
        (sent / "results.jsonl").write_text("")
        commands += [
            ["eval", "--config", f"{part}.yaml", "-o", f"runs-{part}"],
            ["eval", "--resume", "-o", sent.name],
            ["eval", "--report-only", "-o", sent.name],
        ]
    for command, one in zip(commands, ran(folder, commands), strict=True):
        assert not one.touched(MARKER + "'"), (command, one)
        if "--report-only" not in command:
            assert one.status == 2, (command, one)
            assert f"add --import {MARKER}" in one.said, (command, one)
            assert not list(folder.glob("runs-*")), "a refused plan leaves a folder"
    assert not list(folder.rglob("traces.jsonl"))


def test_a_plan_of_one_environment_s_settings_is_refused_alike(folder: Path) -> None:
    (folder / "env.yaml").write_text(
        yaml.safe_dump({**PLAN, "envs": [{"id": "Synthetic", "settings": {"dialect": f"{MARKER}:lines"}}]})
    )
    [one] = ran(folder, [["eval", "--config", "env.yaml"]])
    assert (one.status, f"the plan for Synthetic: dialect='{MARKER}:lines' would import" in one.said) == (2, True), one


def test_a_plan_s_names_that_are_said_are_played_recorded_and_replayed(folder: Path) -> None:
    settings = {part: f"{MARKER}:{PARTS[part]}" for part in IN_KEYWORDS}
    plan = {**PLAN, "agents": [f"{MARKER}:Agent", "oracle"], "settings": settings}
    (folder / "plan.yaml").write_text(yaml.safe_dump(plan))
    commands = [
        ["eval", "--config", "plan.yaml", "-o", "run", "--import", MARKER],
        ["eval", "--report-only", "-o", "run"],
        ["replay", "run/traces.jsonl", "--check", "--import", MARKER],
        ["view", "run/traces.jsonl", "--no-open"],
        ["rescore", "run/traces.jsonl", "--reward", "em", "-o", "em.jsonl"],
        ["compare", "run", "run", "--agents", f"{MARKER}:Agent", "oracle"],
    ]
    evaluated, report, replayed, *others = ran(folder, commands)
    assert evaluated.status == 0, evaluated
    assert f"{MARKER}:Agent" in evaluated.said
    rows = [json.loads(line) for line in (folder / "run" / "results.jsonl").read_text().splitlines()]
    assert [row["reward"] for row in rows] == [0.5, 0.5]
    assert not report.touched(MARKER + "'")
    assert (report.status, f"{MARKER}:Agent" in report.said) == (0, True), report
    assert (replayed.status, "2 episodes" in replayed.said) == (0, True), replayed
    for one in others:
        assert one.status == 0, one
        assert not one.touched(MARKER + "'"), one


def kept(path: Path, embedder: str) -> None:
    store = open_store(f"milvus://{path}", 27, embedder=embedder)
    vector = np.zeros((1, 27), np.float32)
    vector[0, :2] = 1, 3
    state = Memory({}, 2, "").kept_state(embedder)
    store.write([Write("k", [1], ["the bridge is red"], vector, state=state)])
    store.close()


def test_a_database_s_embedder_is_imported_only_if_it_is_said(folder: Path) -> None:
    kept(folder / "own.db", f"{MARKER}:Embedder#letters-v1")
    unsaid = [
        ["memory", "ls", "own.db"],
        ["memory", "show", "own.db"],
        ["memory", "search", "own.db", "bridge"],
        ["ask", "-q", "Which bridge?", "--memory", "own.db"],
    ]
    for command, one in zip(unsaid, ran(folder, unsaid), strict=True):
        assert not one.touched(MARKER + "'"), (command, one)
        refused = command[1] == "search" or command[0] == "ask"
        assert one.status == (2 if refused else 0), (command, one)
        if refused:
            option = "--set embedder=" if command[0] == "ask" else "--embedder "
            assert f"say it again with {option}{MARKER}:Embedder, or add --import {MARKER}" in one.said, one
    said = [
        ["memory", "search", "own.db", "bridge", "--import", MARKER],
        ["memory", "search", "own.db", "bridge", "--embedder", f"{MARKER}:Embedder"],
        ["ask", "-q", "Which bridge?", "--memory", "own.db", "--import", MARKER],
        ["ask", "-q", "Which bridge?", "--memory", "own.db", "--set", f"embedder={MARKER}:Embedder"],
    ]
    for command, one in zip(said, ran(folder, said), strict=True):
        assert (one.status, "the bridge is red" in one.said) == (0, True), (command, one)


def test_a_database_of_another_version_of_the_embedder_is_refused(folder: Path) -> None:
    kept(folder / "old.db", f"{MARKER}:Embedder#letters-v0")
    [one] = ran(folder, [["memory", "search", "old.db", "bridge", "--import", MARKER]])
    assert (one.status, "letters-v0" in one.said, "letters-v1" in one.said) == (2, True, True), one


def test_the_recorded_name_leads_to_the_embedder_only_where_its_module_is_said() -> None:
    with command_line([], imports=["mine"]):
        assert embedder_keyword("mine:Model#v2") == "mine:Model"
        assert embedder_keyword("yours:Model#v2") is None
    with command_line(["--set", "embedder=yours:Model"]):
        assert embedder_keyword("yours:Model#v2") == "yours:Model"


def test_what_was_loaded_before_is_refused_to_a_file_all_the_same() -> None:
    from support.plugins import parts  # noqa: F401  (imported, as a program may have)

    from atommem_gym.actions import load_dialect
    from atommem_gym.agents import make_agent
    from atommem_gym.embedders.loading import load_embedder
    from atommem_gym.tokenizers import load_tokenizer

    loads = {"embedder": load_embedder, "tokenizer": load_tokenizer, "dialect": load_dialect, "agent": make_agent}
    for part, load in loads.items():
        load(f"support.plugins.parts:{PARTS[part]}")  # type: ignore[operator]
        with command_line([]), pytest.raises(ConfigError, match=r"add --import support\.plugins\.parts"):
            load(f"support.plugins.parts:{PARTS[part]}")  # type: ignore[operator]
    with command_line([]), pytest.raises(ConfigError, match=r"add --import support\.plugins\.parts"):
        open_store("support.plugins.parts:Store", 4)


def test_a_module_in_the_working_directory_hides_none_that_is_installed(folder: Path) -> None:
    (folder / "wave.py").write_text("raise SystemExit('the wrong module')\n")
    (folder / "yaml.py").write_text("raise SystemExit('the wrong module')\n")
    commands = [
        ["run", "Synthetic", "--episodes", "1", "--agent", f"{MARKER}:Agent", "--set", "num_docs=8", "store=numpy"],
        ["run", "Synthetic", "--episodes", "1", "--agent", "wave:Agent", "--set", "num_docs=8", "store=numpy"],
        ["eval", "Synthetic", "--episodes", "1", "--docs", "8", "--agent", f"{MARKER}:Agent", "-o", "run"],
    ]
    own, standard, evaluated = ran(folder, commands)
    assert (own.status, "hoarder" in own.said) == (0, True), own
    assert (standard.status, "'wave' has no 'Agent'" in standard.said) == (2, True), standard
    assert evaluated.status == 0, evaluated
