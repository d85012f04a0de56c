"""Agents of one's own, by a registered or a full name, in every command that takes one (finding 6.8)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.plugins.parts import Agent, Answering, Lines

from atommem_gym.agents import AGENTS, make_agent, register_agent
from atommem_gym.agents.players.player import make_player, player_keywords, player_names
from atommem_gym.cli import main
from atommem_gym.errors import ConfigError

SMALL = ["--set", "num_docs=8", "store=numpy"]
PLAYED = ["eval", "Synthetic", "--docs", "8", "--episodes", "1", "--set", "store=numpy", "--traces", "none"]
MODULE = """
from atommem_gym.agents import register_agent
from support.plugins.parts import Agent, Answering

register_agent("hoarder", Agent)
register_agent("answering", lambda: Answering())
"""


@pytest.fixture(autouse=True)
def _forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory with a module that registers two agents, which are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    (tmp_path / "own_agents.py").write_text(MODULE)
    before = dict(AGENTS)
    yield
    AGENTS.clear()
    AGENTS.update(before)
    import sys

    sys.modules.pop("own_agents", None)
    sys.path[:] = [entry for entry in sys.path if entry != str(tmp_path)]


def said(capsys: pytest.CaptureFixture[str]) -> str:
    told = capsys.readouterr()
    return " ".join((told.out + told.err).split())


def test_finding_6_8_a_registered_agent_is_known_to_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--import", "own_agents", "run", "Synthetic", "--episodes", "1", "--agent", "hoarder", *SMALL]) == 0
    assert "hoarder" in said(capsys)
    assert main(["--import", "own_agents", *PLAYED, "--agent", "hoarder", "tidy", "-o", "run"]) == 0
    assert "hoarder" in said(capsys)
    rows = [json.loads(line) for line in Path("run/results.jsonl").read_text().splitlines()]
    assert {row["agent"] for row in rows} == {"hoarder", "tidy"}
    assert main(["compare", "run", "run", "--agents", "hoarder", "tidy"]) == 0
    assert "hoarder → tidy" in said(capsys)
    Path("notes.txt").write_text("The bridge is red.")
    assert main(["--import", "own_agents", "ask", "notes.txt", "-q", "What is red?", "--agent", "answering"]) == 0
    assert "the bridge!" in said(capsys)


def test_finding_6_8_what_is_put_into_the_table_is_known_to_evaluations(capsys: pytest.CaptureFixture[str]) -> None:
    AGENTS["mine"] = Agent
    assert "mine" in player_names()
    assert player_keywords("mine") == {}
    assert make_player("mine")().name == "hoarder"
    assert main([*PLAYED, "--agent", "mine", "-o", "run"]) == 0
    assert "mine" in said(capsys)


def test_registered_agents_play_where_no_agent_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--import", "own_agents", "run", "Synthetic", "--episodes", "1", *SMALL]) == 0
    printed = said(capsys)
    assert all(name in printed for name in ("random", "oracle", "hoarder", "answering"))
    assert main(["--import", "own_agents", "demo", "--episodes", "1", "--num-docs", "8"]) == 0
    assert "hoarder" in said(capsys)


def test_a_run_s_report_needs_none_of_its_agents(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--import", "own_agents", *PLAYED, "--agent", "hoarder", "-o", "run"]) == 0
    del AGENTS["hoarder"]
    capsys.readouterr()
    assert main(["eval", "--report-only", "-o", "run"]) == 0
    assert "hoarder" in said(capsys)
    Path("run/results.jsonl").write_text("")
    assert main(["eval", "--resume", "-o", "run"]) == 2
    assert "unknown agent 'hoarder'" in said(capsys)


def test_a_plan_may_name_a_registered_agent(capsys: pytest.CaptureFixture[str]) -> None:
    plan = {"envs": ["Synthetic"], "agents": ["hoarder"], "docs": 8, "episodes": 1, "settings": {"store": "numpy"}}
    Path("plan.yaml").write_text(yaml.safe_dump(plan))
    assert main(["--import", "own_agents", "eval", "--config", "plan.yaml", "-o", "run"]) == 0
    assert "hoarder" in said(capsys)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["run", "Synthetic", "--agent", "tidi"], "unknown agent 'tidi'; did you mean 'tidy'?"),
        ([*PLAYED, "--agent", "tidi", "-o", "run"], "unknown agent 'tidi'; did you mean 'tidy'?"),
        ([*PLAYED, "--agent", "hoardr", "-o", "run", "--import", "own_agents"], "did you mean 'hoarder'?"),
        (["run", "Synthetic", "--agent", "hoardr", "--import", "own_agents"], "did you mean 'hoarder'?"),
        (["ask", "notes.txt", "-q", "Who?", "--agent", "tidi"], "did you mean 'tidy'?"),
        (["run", "Synthetic", "--agent", "own_agents:"], "agent='own_agents:' is not written 'package.module:name'"),
        ([*PLAYED, "--agent", "own-agents:X", "-o", "run"], "agent='own-agents:X' is not written"),
        ([*PLAYED, "--agent", "nowhere:X", "-o", "run"], "No module named 'nowhere'"),
        (["run", "Synthetic", "--agent", "__main__:Nobody"], "'__main__' has no 'Nobody'"),
        (
            ["run", "Synthetic", "--agent", "support.plugins.parts:Agent", "support.plugins.parts:Again", *SMALL],
            "calls itself 'hoarder'",
        ),
    ],
)
def test_an_unknown_agent_is_named_with_the_one_that_was_meant(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.txt").write_text("The bridge is red.")
    assert main(arguments) == 2
    assert told in said(capsys)


@pytest.mark.parametrize(
    ("name", "make", "told"),
    [
        ("tidy", Agent, "is an agent's of this package"),
        ("crud", Agent, "is an agent's of this package"),
        ("my agent", Agent, "must be letters"),
        ("mine:Agent", Agent, "must be letters"),
        ("", Agent, "must be letters"),
        ("mine", Agent(), "give what makes one, such as its class"),
    ],
)
def test_a_name_that_is_taken_or_none_is_refused(name: str, make: Any, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        register_agent(name, make)


def test_what_is_registered_must_have_an_agent_s_form() -> None:
    register_agent("lines", Lines)  # type: ignore[arg-type]
    for load in (make_agent, make_player):
        with pytest.raises(ConfigError, match=r"agent='lines': it has no method 'reset'.*check_agent"):
            load("lines")
    register_agent("lines", Answering)
    assert make_agent("lines").name == "answering"
